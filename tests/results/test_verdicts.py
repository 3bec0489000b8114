"""What may be said of a comparison, and no more."""

import math

import pytest

from s2utils.results import verdicts

ROW = {"name": "m", "difference": 1.25, "difference_ci_low": 0.5, "difference_ci_high": 2.0, "n": 40, "n_failed": 2}


def row(verdict: str, **changes) -> dict:
    return ROW | {"verdict": verdict} | changes


@pytest.mark.parametrize(
    ("low", "high", "verdict", "side"),
    [
        (0.1, 0.2, "different", "above"), (-0.2, -0.1, "different", "below"),
        (-0.1, 0.1, "no evidence", "not told apart"),
        (0.0, 0.2, "no evidence", "not told apart"), (math.nan, math.nan, "too few", "not told apart"),
    ],
)  # fmt: skip
def test_an_interval_tells_where_it_leaves_out_0(low, high, verdict, side):
    assert verdicts.by_interval(low, high) == verdict and verdicts.side(low, high, "below", "above") == side


def test_a_p_tells_below_the_level_and_nan_does_not():
    found = [verdicts.by_p(p, 0.05) for p in (0.049, 0.05, math.nan)]
    assert found == ["different", "no evidence", "no evidence"]


def test_only_what_a_test_calls_different_is_told():
    rows = [row("different"), row("different", difference=-3.0, name="down"), row("no evidence", name="hidden")]
    text = verdicts.compared(rows, "+.2f", "easier", "harder")
    assert text == (
        "Of three comparisons of a fine-tune with the base, in one it is easier, in one it is harder and for one "
        "there is no evidence of a difference. Different: m +1.25 [+0.50, +2.00] (n = 40, 2 failed); down −3.00 "
        "[+0.50, +2.00] (n = 40, 2 failed)."
    )
    assert "The largest difference: down −3.00" in verdicts.compared(rows, "+.2f", brief=True)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "There is no comparison of a fine-tune with the base."),
        (
            [row("no evidence")],
            "The one comparison of a fine-tune with the base gives no evidence that it is higher or lower.",
        ),
        (
            [row("too few")] * 2,
            "In none of the two comparisons of a fine-tune with the base is there evidence that it is",
        ),
        ([row("different", difference=math.nan)], "The one comparison of a fine-tune with the base gives no evidence"),
    ],
)
def test_where_nothing_is_known_nothing_is_told(rows, said):
    assert verdicts.compared(rows, "+.2f").startswith(said)


def test_a_test_shows_n_p_and_effect():
    assert verdicts.test(row("different", p_holm=0.0001, d_z=-0.5), "+.1f").endswith(
        "(n = 40, 2 failed, p < 0.001, d = −0.50)"
    )
    assert verdicts.chance(math.nan) == "p not known" and verdicts.chance(0.0104) == "p = 0.010"


def test_up_is_up_and_down_is_down():
    assert "in one it is easier." in verdicts.compared([row("different")], "+.2f", "easier", "harder")
    assert "in one it is harder." in verdicts.compared([row("different", difference=-1.0)], "+.2f", "easier", "harder")
