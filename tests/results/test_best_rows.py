"""Marks: the best row of a column, and whether the questions tell it from the runner-up."""

import functools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2utils.results import best_rows
from s2utils.workflow.params import load


@pytest.fixture
def params(tree):
    return load("smoke")


def values(metric: str = "rouge_l_f1", **rows) -> pd.DataFrame:
    """One row per value of each named model, questions numbered."""
    return pd.DataFrame(
        [
            {"model": model, "merge_mode": "none", "metric": metric, "question": str(i), "value": float(v)}
            for model, found in rows.items()
            for i, v in enumerate(found)
        ]
    )


def test_the_best_that_wins_every_question_is_told_apart(params):
    found = best_rows.best(values(a=range(12), b=range(1, 13), c=[0] * 12), params).iloc[0]
    assert (found["model"], found["runner_up"], found["mark"]) == ("b", "a · none", "best")
    assert found["n"] == 12 and found["difference"] == 1 and 0 < found["p"] < 0.01


def test_of_a_grade_the_lower_is_better(params):
    grade = {"a": range(12), "b": range(1, 13)}
    assert best_rows.best(values("flesch_kincaid_grade", **grade), params).iloc[0][["model", "mark"]].tolist() == [
        "a",
        "best",
    ]
    assert best_rows.best(values("flesch_reading_ease", **grade), params)["model"].tolist() == ["b"]


def test_of_equal_means_the_smaller_deviation_is_best_but_not_told_apart(params):
    for order in ({"wide": [0, 2] * 6, "even": [1] * 12}, {"even": [1] * 12, "wide": [0, 2] * 6}):
        found = best_rows.best(values(**order), params).iloc[0]
        assert (found["model"], found["mark"]) == ("even", "best, not told apart")


def test_what_varies_more_than_it_differs_is_not_told_apart(params):
    rng = np.random.default_rng(0)
    found = best_rows.best(values(a=rng.normal(size=20), b=rng.normal(size=20)), params).iloc[0]
    assert found["mark"] == "best, not told apart" and 0.05 < found["p"] <= 1


def test_failed_values_are_left_out_and_pairs_with_them(params):
    found = best_rows.best(values(a=[1, math.nan, 3, 4], b=[9, 9, math.nan, 9]), params).iloc[0]
    assert (found["model"], found["n"]) == ("b", 2) and found["difference"] == pytest.approx((8 + 5) / 2)


def test_one_row_alone_is_not_best(params):
    assert best_rows.best(values(a=[1, 2]), params).empty
    assert best_rows.best(values(a=[1, 2], b=[math.nan, math.nan]), params).empty
    assert list(best_rows.marked(pd.DataFrame({"model": ["a"]}), best_rows.best(values(a=[1]), params))) == ["model"]


def test_a_question_that_stands_twice_is_refused(params):
    twice = pd.concat([values(a=[1, 2], b=[1, 2])] * 2)
    with pytest.raises(ValueError, match="duplicate"):
        best_rows.best(twice, params)


def test_weights_make_the_mean_of_the_table(params):
    """MMLU is the mean of its subjects: one document of a subject weighs as much as nine of another."""
    scores = values("mmlu_acc", a=[1] + [0] * 9, b=[0] + [1] * 9)
    weights = [1.0] + [1 / 9] * 9
    assert best_rows.best(scores, params)["model"].tolist() == ["b"]
    found = best_rows.best(scores.assign(weight=weights * 2), params).iloc[0]
    assert found["difference"] == pytest.approx(0) and found["mark"] == "best, not told apart"


def test_marks_go_to_their_row_and_data_set(params):
    scores = pd.concat(
        [values(a=range(12), b=range(1, 13)).assign(dataset="x"), values(a=[1] * 9, b=[1] * 9).assign(dataset="y")]
    )
    found = best_rows.best(scores, params)
    keys = pd.DataFrame([{"model": m, "merge_mode": "none", "dataset": d, "rouge_l_f1": 0} for d in "xy" for m in "ab"])
    assert best_rows.marked(keys, found)["rouge_l_f1_mark"].tolist() == ["", "best", "best, not told apart", ""]
    assert "and data set" in best_rows.legend(found, params) and "p < 0.05" in best_rows.legend(found, params)


few = functools.cache(lambda: load("smoke", "text_metrics.resamples=20"))


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=8))
def test_the_order_of_rows_does_not_matter(pairs):
    params = few()
    one, other = zip(*pairs)
    found, turned = best_rows.best(values(a=one, b=other), params), best_rows.best(values(b=other, a=one), params)
    assert found["mark"].tolist() == turned["mark"].tolist() and found["p"].tolist() == pytest.approx(
        turned["p"].tolist()
    )
    if sum(one) != sum(other):
        assert found["model"].tolist() == turned["model"].tolist() == ["a" if sum(one) > sum(other) else "b"]
