"""Ratios of sums: limits, by hand, and what does not move them."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2utils.stats import ratios

DOCUMENTS = st.lists(st.tuples(st.integers(0, 1000), st.integers(1, 100)), min_size=2, max_size=12)


def resampled(above, below, resamples: int = 200, seed: int = 0) -> tuple[float, np.ndarray]:
    return ratios.resampled(above, below, resamples, np.random.default_rng(seed))


@given(st.lists(st.integers(1, 10**6), min_size=2, max_size=12), st.sampled_from([0.25, 2.0, 3.0]))
def test_documents_of_one_ratio_show_no_spread(below, ratio):
    value, drawn = resampled([ratio * size for size in below], below)
    assert value == ratio and drawn == pytest.approx(np.full(200, ratio))


def test_a_long_document_weighs_as_it_does_in_the_sums():
    value, drawn = resampled([9, 1], [1, 9], 4000)
    assert value == 1, "the mean of 9 and 1/9 is another number"
    found, counts = np.unique(drawn.round(9), return_counts=True)
    assert found == pytest.approx([1 / 9, 1, 9]) and counts / 4000 == pytest.approx([0.25, 0.5, 0.25], abs=0.03)


@given(DOCUMENTS, st.integers(1, 64))
def test_a_scale_multiplies_value_and_spread_and_as_long_a_unit_moves_neither(documents, factor):
    above, below = np.array(documents).T
    value, drawn = resampled(above, below)
    larger, larger_drawn = resampled(factor * above, below)
    assert larger == pytest.approx(factor * value) and larger_drawn == pytest.approx(factor * drawn)
    same, same_drawn = resampled(factor * above, factor * below)
    assert same == pytest.approx(value) and same_drawn == pytest.approx(drawn)


@given(DOCUMENTS)
def test_draws_lie_between_the_smallest_and_the_largest_ratio(documents):
    above, below = np.array(documents).T
    each = above / below
    value, drawn = resampled(above, below)
    for number in (value, drawn.min(), drawn.max()):
        assert each.min() - 1e-9 <= number <= each.max() + 1e-9


def test_one_document_has_a_value_and_no_spread_and_none_has_neither():
    value, drawn = resampled([6], [4], 5)
    assert value == 1.5 and drawn.shape == (5,) and np.isnan(drawn).all()
    for above, below in (([], []), ([math.nan], [3]), ([3], [0])):
        value, drawn = resampled(above, below, 5)
        assert math.isnan(value) and drawn.shape == (5,) and np.isnan(drawn).all()


def test_what_is_not_known_and_what_holds_nothing_is_left_out_of_both_sums():
    value, drawn = resampled([4, math.nan, 8, 2], [1, 100, 0, 1])
    kept, kept_drawn = resampled([4, 2], [1, 1])
    assert value == kept == 3 and np.array_equal(drawn, kept_drawn)


def test_many_documents_are_drawn_a_few_times_at_once():
    n = 10**6  # documents: ten draws at a time
    value, drawn = resampled(np.ones(n), np.ones(n), 11)
    assert value == 1 and drawn.tolist() == [1.0] * 11
