"""Pairs: a win needs both orders, a flip is a tie and is counted, nothing is lost."""

import math

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2utils.evaluation.judge import pairwise
from s2utils.workflow.params import load


def rows(*two: tuple[str, str]) -> pd.DataFrame:
    """Verdicts of comparisons a against b: with a first, and with a second."""
    keys = {"turn": 1, "model": "a", "other": "b"}
    places = [(i, place, v) for i, both in enumerate(two) for place, v in zip(("first", "second"), both)]
    return pd.DataFrame(places, columns=["question_id", "place", "verdict"]).assign(**keys)


@pytest.mark.parametrize(
    ("two", "outcome", "flipped"),
    [
        (("A", "B"), "win", False),
        (("B", "A"), "loss", False),
        (("tie", "tie"), "tie", False),
        *((two, "tie", True) for two in (("A", "A"), ("B", "B"), ("A", "tie"), ("tie", "A"))),
        *((two, "failed", False) for two in (("", "B"), ("A", ""), ("", ""))),
    ],
)
def test_outcomes(two, outcome, flipped):
    found = pairwise.outcomes(rows(two)).iloc[0]
    assert (found["outcome"], bool(found["flipped"])) == (outcome, flipped)
    assert found["value"] == pairwise.VALUES[outcome] or (math.isnan(found["value"]) and outcome == "failed")


said = st.lists(st.tuples(*[st.sampled_from(["A", "B", "tie", ""])] * 2), min_size=1, max_size=12)


PARAMS = load("smoke", {"text_metrics": {"resamples": 20}})


@settings(max_examples=20)
@given(said)
def test_counts_add_up_and_turning_the_models_turns_the_result(two):
    params = PARAMS
    row = pairwise.summary(pairwise.outcomes(rows(*two)), params).iloc[0]
    assert row["n"] == len(two) == sum(row[f"n_{k}"] for k in pairwise.VALUES) and row["n_flipped"] <= row["n_tie"]
    turned = pairwise.summary(pairwise.outcomes(rows(*((b, a) for a, b in two))), params).iloc[0]
    assert (turned["n_win"], turned["n_loss"], turned["n_flipped"]) == (row["n_loss"], row["n_win"], row["n_flipped"])
    assert math.isnan(row["net"]) if row["n_failed"] == row["n"] else turned["net"] == -row["net"]


def test_the_order_of_the_questions_stays_and_a_lost_order_is_refused():
    frame = rows(("A", "B"), ("B", "A"), ("A", "B")).iloc[::-1]
    assert pairwise.outcomes(frame)["question_id"].tolist() == [2, 1, 0]
    with pytest.raises(ValueError, match="in one order only"):
        pairwise.outcomes(frame.iloc[1:])


def test_the_interval_is_over_questions(tree):
    params = load("smoke", {"text_metrics": {"resamples": 500}})
    row = pairwise.summary(pairwise.outcomes(rows(*[("A", "B")] * 6, *[("A", "A")] * 3, ("", "A"))), params).iloc[0]
    assert row["net"] == pytest.approx(6 / 9) and row["n_failed"] == 1
    assert row["net_ci_low"] < row["net"] < row["net_ci_high"]
