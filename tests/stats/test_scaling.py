import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2utils.stats import scaling

N, D = (a.ravel() for a in np.meshgrid([7e7, 2e8, 1e9, 5e9, 1.6e10], [5e9, 2e10, 1e11, 4e11]))
CHINCHILLA = {"E": 1.69, "A": 406.4, "alpha": 0.34, "B": 410.7, "beta": 0.28}  # Hoffmann and others 2022, equation 10


def test_hoffmanns_law_is_found_again_from_points_that_obey_it():
    found = scaling.hoffmann(N, D, scaling.predict(CHINCHILLA, N, D))
    assert found == pytest.approx(CHINCHILLA, rel=1e-4)


def test_chinchillas_loss_as_its_equation_gives_it():
    assert float(scaling.predict(CHINCHILLA, 70e9, 1.4e12)) == pytest.approx(1.9365, abs=1e-3)


@given(st.floats(0.02, 0.5), st.floats(0.02, 0.5), st.floats(0.5, 100))
def test_a_power_law_is_found_again_in_any_unit(alpha, beta, level):
    loss = level * N**-alpha * D**-beta
    found = scaling.power(N, D * 3, loss)
    assert found["alpha"] == pytest.approx(alpha) and found["beta"] == pytest.approx(beta)
    assert found["A"] == pytest.approx(level * 3**beta, rel=1e-6)
    assert scaling.predict(found, N, D * 3) == pytest.approx(loss)


@given(st.floats(-0.3, 0.5), st.floats(0.5, 9))
def test_a_curve_is_found_again(alpha, level):
    assert scaling.curve(N, level * N**-alpha) == pytest.approx({"A": level, "alpha": alpha}, rel=1e-6, abs=1e-9)


def noisy(loss, size=0.002, seed=0):
    return loss * np.exp(np.random.default_rng(seed).normal(0, size, len(loss)))


def test_a_floor_is_borne_by_points_near_it_and_not_by_a_plain_power_law():
    law, table = scaling.choose(N, D, noisy(scaling.predict(CHINCHILLA, N, D)))
    assert law == "hoffmann" and table.set_index("law").at["hoffmann", "relative_error"] < 0.005
    law, table = scaling.choose(N, D, noisy(5 * N**-0.07 * D**-0.09))
    assert law == "power" and table["n"].tolist() == [20, 20]


def test_points_that_do_not_fall_or_are_few_bear_no_law_with_a_floor():
    law, table = scaling.choose(N, D, 3 * D**-0.05)
    assert law == "power" and set(table["reason"]) == {"the loss does not fall with N"}
    law, table = scaling.choose([1e5, 3e5] * 2, [1e5, 1e5, 3e5, 3e5], [3.0, 2.9, 2.7, 2.6])
    assert law == "power" and "needs 6 points of 3 each" in table["reason"].iloc[0] and np.isinf(table["aicc"].iloc[0])


def test_intervals_hold_the_truth_and_grow_beyond_the_points():
    loss = noisy(scaling.predict(CHINCHILLA, N, D), 0.003, seed=5)
    at = ((1e9, 1e11), (1e13, 1e14))
    table = scaling.intervals("hoffmann", N, D, loss, 60, 0.95, 1, at)
    assert table.equals(scaling.intervals("hoffmann", N, D, loss, 60, 0.95, 1, at))
    assert (table["ci_low"] <= table["value"]).all() and (table["value"] <= table["ci_high"]).all()
    for name, truth in zip(
        table["what"], (*CHINCHILLA.values(), *(float(scaling.predict(CHINCHILLA, *p)) for p in at))
    ):
        row = table.set_index("what").loc[name]
        width = row["ci_high"] - row["ci_low"]
        assert row["ci_low"] - width < truth < row["ci_high"] + width and row["n"] == 20 and row["n_failed"] == 0
    near, far = table["ci_high"].iloc[-2:] / table["ci_low"].iloc[-2:]
    assert far > near > 1


def test_points_without_error_have_an_interval_without_width():
    table = scaling.intervals("power", N, D, 5 * N**-0.07 * D**-0.09, 20, 0.9, 0)
    assert (table["ci_high"] - table["ci_low"] < 1e-9).all()


def test_a_law_that_holds_forecasts_the_largest_size_and_the_size_below_does_not():
    error, baseline = scaling.forecast("hoffmann", N, D, scaling.predict(CHINCHILLA, N, D))
    assert error < 1e-4 < 0.01 < baseline
    error, baseline = scaling.forecast("power", N, D, 5 * N**-0.1 * D**-0.09)
    assert error < 1e-9 and baseline == pytest.approx(0.1 * math.log(1.6e10 / 5e9))
    flat = noisy(np.full(len(N), 3.0), 0.01)
    error, baseline = scaling.forecast("power", N, D, flat)
    assert error < 0.03 and baseline < 0.03


def test_the_statement_says_what_points_bear():
    told = scaling.statement(N, D, scaling.predict(CHINCHILLA, N, D), 20, 0.95, 0)
    assert told.startswith("20 points of 5 sizes span 2.4 decades of N and 1.9 of D and bear Hoffmann's law")
    assert "better than taking the loss of the size below" in told and "no better" not in told
    few = scaling.statement([1e5, 3e5] * 2, [1e5, 1e5, 3e5, 3e5], [3.0, 2.9, 2.7, 2.6], 20, 0.95, 0)
    assert "a plain power law without a floor" in few and few.endswith(
        "Too few sizes to forecast the largest from the others."
    )


@pytest.mark.parametrize(
    ("given_n", "given_d", "loss", "told"),
    [
        ([1e5, 2e5], [1e5, 2e5], [3.0, 2.0], "2 points of 2 N and 2 D: the law needs 4"),
        ([1e5] * 4, [1e5, 2e5, 3e5, 4e5], [3.0, 2.9, 2.8, 2.7], "4 points of 1 N"),
        ([1e5, 2e5, 3e5, 4e5], [1e5, 2e5, 3e5, 4e5], [3.0, math.nan, 2.0, 1.0], "loss must be finite"),
        ([0, 2e5, 3e5, 4e5], [1e5, 2e5, 3e5, 4e5], [3.0, 2.0, 2.0, 1.0], "N must be finite and above 0"),
        ([1e5] * 3, [1e5] * 4, [3.0] * 4, "3 N, 4 D and 4 losses"),
    ],
)
def test_points_that_no_law_can_be_fitted_to_are_refused(given_n, given_d, loss, told):
    with pytest.raises(scaling.ScalingError, match=told):
        scaling.power(given_n, given_d, loss)
    with pytest.raises(scaling.ScalingError, match="2 different x"):
        scaling.curve([5, 5], [1, 2])
