import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2utils.stats import stratified

groups = st.lists(st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=6), min_size=1, max_size=5)


def series(parts: list[list[float]]) -> pd.Series:
    rows = [(f"s{s}", i, v) for s, values in enumerate(parts) for i, v in enumerate(values)]
    return pd.DataFrame(rows, columns=["subject", "doc_id", "value"]).set_index(["subject", "doc_id"])["value"]


def test_by_size_the_mean_is_that_of_all_documents():
    strata = [np.array([1.0, 1, 1]), np.array([0.0])]
    assert stratified.weights(strata).tolist() == [0.5, 0.5]
    assert stratified.weights(strata, by_size=True).tolist() == [0.75, 0.25]


@given(groups, st.booleans())
def test_scaled_values_have_the_weighted_mean_and_shares_average_to_it(parts, by_size):
    values = series(parts)
    wanted = np.mean(values) if by_size else np.mean([np.mean(p) for p in parts])
    scaled = stratified.scaled(values, by_size)
    assert scaled.groupby(level="subject").mean().mean() == pytest.approx(wanted)
    assert stratified.shares(scaled).mean() == pytest.approx(wanted)
    assert ((scaled == 0) == (values == 0)).all()


def test_a_missing_value_takes_no_weight():
    values = series([[1, math.nan], [0, 1]])
    assert stratified.scaled(values, True).groupby(level="subject").mean().mean() == pytest.approx(2 / 3)
    assert stratified.shares(values).mean() == pytest.approx(3 / 4)


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=9), st.booleans())
def test_one_stratum_has_the_textbook_standard_error(values, by_size):
    expected = np.std(values, ddof=1) / math.sqrt(len(values))
    assert stratified.standard_error([np.array(values)], by_size) == pytest.approx(expected, abs=1e-12)


def test_the_standard_error_is_the_spread_of_resampled_means():
    parts = [np.array(v, float) for v in ([0, 10], [3, 4, 8], [1, 1, 1, 5], [2], [6], [9])]
    _, drawn = stratified.resampled(parts, 40_000, np.random.default_rng(0))
    assert drawn.std() == pytest.approx(stratified.standard_error(parts), rel=0.03)


def test_weights_enter_the_standard_error():
    large, small = np.array([0.0, 1] * 8), np.array([0.0, 1])
    each = [np.var(v, ddof=1) / len(v) for v in (large, small)]
    assert stratified.standard_error([large, small]) == pytest.approx(math.sqrt(sum(each)) / 2)
    wanted = math.sqrt((16 / 18) ** 2 * each[0] + (2 / 18) ** 2 * each[1])
    assert stratified.standard_error([large, small], by_size=True) == pytest.approx(wanted)


def test_nothing_known_is_not_zero():
    assert math.isnan(stratified.standard_error([])) and math.isnan(stratified.standard_error([np.array([1.0])]))
    assert math.isnan(stratified.standard_error([np.array([]), np.array([1.0, 2])]))
