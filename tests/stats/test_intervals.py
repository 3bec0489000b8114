import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_1samp

from s2utils.stats import intervals
from s2utils.stats.intervals import (
    average,
    bootstrap,
    cluster_share,
    compared,
    effect_size,
    fewest,
    holm,
    percentiles,
    ratio,
    share,
    sign_flip,
)

numbers = st.floats(-1e6, 1e6, allow_subnormal=False)


@given(st.lists(numbers, min_size=2, max_size=30), st.integers(0, 99))
def test_the_mean_lies_in_its_interval_and_the_interval_in_the_data(values, seed):
    mean, low, high = bootstrap(values, 300, 0.95, seed)
    slack = 1e-9 * max(1, max(map(abs, values)))
    assert mean == pytest.approx(np.mean(values))
    assert min(values) - slack <= low <= high <= max(values) + slack


@given(st.lists(numbers | st.sampled_from([math.nan, math.inf]), max_size=12))
def test_what_is_not_a_number_is_left_out(values):
    finite = [v for v in values if math.isfinite(v)]
    estimate = bootstrap(values, 200, 0.95, 1)
    assert estimate == pytest.approx(bootstrap(finite, 200, 0.95, 1), nan_ok=True)
    assert math.isnan(estimate[0]) == (not finite)


def test_one_value_has_no_interval_and_equal_values_one_without_width():
    assert bootstrap([0.3, math.nan], 100, 0.95, 1) == pytest.approx((0.3, math.nan, math.nan), nan_ok=True)
    assert bootstrap([2.0] * 9, 500, 0.95, 1) == (2.0, 2.0, 2.0)


def test_the_bootstrap_is_seeded_and_wider_with_more_confidence():
    values = np.arange(20.0) ** 2
    assert bootstrap(values, 2500, 0.95, 1) == bootstrap(values, 2500, 0.95, 1) != bootstrap(values, 2500, 0.95, 2)
    (_, low, high), (_, lower, higher) = (bootstrap(values, 2000, confidence, 1) for confidence in (0.8, 0.99))
    assert lower < low < high < higher


def test_few_values_have_the_t_interval_of_their_mean():
    values = np.random.default_rng(3).normal(5, 2, 6)
    _, low, high = bootstrap(values, 20_000, 0.95, 1, few=True)
    known = ttest_1samp(values, 0).confidence_interval(0.95)
    assert (low, high) == pytest.approx((known.low, known.high), rel=0.1)
    assert high - low > 1.2 * np.subtract(*bootstrap(values, 20_000, 0.95, 1)[:0:-1])
    assert bootstrap([0.3], 100, 0.95, 1, few=True) == pytest.approx((0.3, math.nan, math.nan), nan_ok=True)


def test_the_bootstrap_agrees_with_the_normal_interval_of_many_values():
    values = np.random.default_rng(0).normal(10, 2, 400)
    mean, low, high = bootstrap(values, 5000, 0.95, 1)
    half = 1.96 * values.std() / math.sqrt(400)
    assert (low, high) == (pytest.approx(mean - half, abs=0.02), pytest.approx(mean + half, abs=0.02))


def test_the_bootstrap_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    estimates = [bootstrap(rng.normal(0, 1, 50), 400, 0.9, i) for i in range(300)]
    assert np.mean([low <= 0 <= high for _, low, high in estimates]) == pytest.approx(0.9, abs=0.05)


@pytest.mark.parametrize("strata", [[4], [5], [5, 5], [3] * 8])
def test_draws_of_few_units_are_widened_until_they_cover_the_truth_about_as_often_as_they_say(strata):
    rng, covered = np.random.default_rng(0), {True: 0, False: 0}
    for _ in range(400):
        units = [rng.normal(0, 1, n) for n in strata]
        draws = np.mean([u[rng.integers(0, len(u), (500, len(u)))].mean(axis=1) for u in units], axis=0)
        for widened in covered:
            low, high = percentiles(draws, 0.9, strata if widened else ())
            covered[widened] += low <= 0 <= high
    assert covered[True] / 400 == pytest.approx(0.9, abs=0.05) and covered[False] < covered[True] - 8


def test_of_many_units_nothing_is_widened():
    draws = np.random.default_rng(0).normal(0, 1, 4000)
    assert percentiles(draws, 0.95, [5000]) == pytest.approx(percentiles(draws, 0.95), abs=0.01)


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),  # Newcombe 1998, table I, method 3 (Wilson)
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (20, 20, 1 - 0.1611, 1.0),
    ],
)
def test_wilson_as_published(hits, n, low, high):
    assert share(hits, n, 0.95) == pytest.approx((hits / n, low, high), abs=5e-5)


def test_a_ratio_over_clusters_of_one_is_the_mean_and_its_bootstrap():
    values = np.random.default_rng(0).random(50)
    assert ratio(values, np.ones(50), 500, 0.95, 3) == pytest.approx(bootstrap(values, 500, 0.95, 3))


def test_a_ratio_weighs_clusters_by_their_size_and_leaves_empty_ones_out():
    value, low, high = ratio([1, 9, 5], [1, 3, 0], 200, 0.95, 0)
    assert value == 10 / 4 and 1 <= low < value < high <= 3
    assert ratio([4], [2], 200, 0.95, 0)[0] == 2 and all(map(math.isnan, ratio([4], [2], 200, 0.95, 0)[1:]))
    assert all(map(math.isnan, ratio([1, 1], [0, 0], 200, 0.95, 0)))


def test_clusters_that_agree_within_say_less_than_their_units():
    """Of 40 documents half have ten hits in ten sentences and half none: as sure as of 40 sentences, not of 400."""
    hits, sizes = np.repeat([10, 0], 20), np.full(40, 10)
    _, low, high = cluster_share(hits, sizes, 2000, 0.95, 0)
    _, *wilson = share(20, 40, 0.95)
    assert (low, high) == pytest.approx(tuple(wilson), abs=0.02)


@pytest.mark.parametrize(("hits", "value"), [(0, 0.0), (5, 1.0)])
def test_where_none_or_all_are_hits_the_interval_is_wilsons_of_as_many_documents(hits, value):
    found = cluster_share([hits, hits, 0], [5, 5, 0], 200, 0.95, 0)
    assert found == share(int(2 * value), 2, 0.95) and found[2] - found[1] > 0.5
    assert all(map(math.isnan, cluster_share([], [], 200, 0.95, 0)))


def test_an_average_shrinks_with_the_root_of_their_number_and_follows_the_weights():
    assert average([(0.5, 0.3, 0.8)]) == pytest.approx((0.5, 0.3, 0.8))
    assert average([(0.5, 0.4, 0.7)] * 4) == pytest.approx((0.5, 0.45, 0.6))
    assert average([(0.5, 0.4, 0.7), (0.1, 0.0, 0.9)], [1, 0]) == pytest.approx((0.5, 0.4, 0.7))


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 0.5), st.floats(0, 0.5)), min_size=1, max_size=9))
def test_an_average_lies_in_its_interval_which_is_no_wider_than_the_widest(parts):
    mean, low, high = average([(v, v - d, v + u) for v, d, u in parts])
    assert low <= mean <= high
    assert mean - low <= max(d for _, d, _ in parts) + 1e-9
    assert high - mean <= max(u for _, _, u in parts) + 1e-9


# heights of pairs of Zea mays, eighths of an inch
DARWIN = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]


def test_fishers_exact_test_of_darwins_maize():
    """Fisher 1935, section 21: 863 of 32,768 sums are as large in one tail."""
    assert sign_flip(DARWIN, 2**15, 1) == pytest.approx(2 * 863 / 2**15, abs=1e-12)


def test_many_differences_are_resampled_and_seeded():
    rng = np.random.default_rng(3)
    values = rng.normal(0.25, 1, 60)
    p = sign_flip(values, 10_000, 1)
    assert p == sign_flip(values, 10_000, 1) and p == pytest.approx(ttest_1samp(values, 0).pvalue, abs=0.012)
    assert sign_flip(values + 5, 10_000, 1) == pytest.approx(2 / 10_001)  # never 0: the data are one of the flips


@given(st.lists(st.integers(-9, 9), min_size=2, max_size=9))
def test_an_exact_p_is_the_share_of_flips_as_far_from_0(values):
    signs = np.array(list(itertools.product((-1, 1), repeat=len(values))))
    sums = np.abs(signs @ np.array(values))
    assert sign_flip(values, 10_000, 1) == pytest.approx((sums >= abs(sum(values))).mean(), abs=1e-12)


def test_failed_differences_are_left_out():
    assert sign_flip([1, math.nan, 2, 3, 4, 5], 1000, 1) == pytest.approx(2 / 32)
    assert math.isnan(sign_flip([math.nan], 1000, 1)) and math.isnan(sign_flip([], 1000, 1))
    assert sign_flip([0, 0], 1000, 1) == sign_flip([4, math.nan], 1000, 1) == 1
    assert effect_size([1, math.nan, 3]) == effect_size([1, 3])


@pytest.mark.slow
def test_under_no_effect_p_is_rarely_small():
    rng = np.random.default_rng(0)
    p_values = np.array([sign_flip(rng.normal(0, 1, 12), 5000, 1) for _ in range(300)])
    assert np.mean(p_values <= 0.05) == pytest.approx(0.05, abs=0.03)


@pytest.mark.parametrize("confidence", [0.8, 0.9, 0.95, 0.99])
def test_the_fewest_differences_are_those_whose_exact_p_can_be_small_enough(confidence):
    least = fewest(confidence)
    assert sign_flip([1.0] * least, 10**6, 0) <= 1 - confidence < sign_flip([1.0] * (least - 1), 10**6, 0)


def test_effect_size_by_hand():
    assert effect_size([1, 2, 3]) == 2 and effect_size([-1, -2, -3]) == -2 and effect_size([1, -1]) == 0
    assert math.isnan(effect_size([5])) and math.isnan(effect_size([2, 2])) and math.isnan(effect_size([]))
    assert math.isnan(effect_size([0.1 + 0.2] * 7))


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.02, math.nan, 0.5]) == pytest.approx([0.04, math.nan, 0.5], nan_ok=True)
    assert holm([]) == [] and math.isnan(holm([math.nan])[0])


def test_comparisons_in_one_table():
    frame = compared({"a": DARWIN, "b": [1, 2, 3, 4, math.nan], "c": []}, 2**15, 0.95, 1).set_index("comparison")
    assert frame["n"].tolist() == [15, 5, 0] and frame["n_failed"].tolist() == [0, 1, 0]
    assert frame.at["a", "p_holm"] == pytest.approx(2 * frame.at["a", "p"]) and frame.at["b", "p"] == 2 / 16
    assert frame.at["b", "p_holm"] == pytest.approx(0.125) and frame.at["b", "difference"] == 2.5
    assert frame.loc["c", ["difference", "p", "p_holm", "d_z"]].isna().all()
    assert compared({}, 100, 0.95, 1).columns.tolist() == frame.reset_index().columns.tolist()


@pytest.mark.parametrize("n", [2, 6])
def test_few_clusters_widen_where_asked_and_nowhere_else(n):
    hits, sizes = np.arange(1, n + 1), np.full(n, 10)
    value, low, high = intervals.cluster_share(hits, sizes, 2000, 0.9, 0)
    wide = intervals.cluster_share(hits, sizes, 2000, 0.9, 0, few=True)
    assert wide == intervals.ratio(hits, sizes, 2000, 0.9, 0, few=True) and wide[0] == value
    assert wide[1] <= low + 1e-12 and high <= wide[2] + 1e-12 and (n == 2 or wide[2] - wide[1] > 1.1 * (high - low))
