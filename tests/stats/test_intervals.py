import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2utils.stats.intervals import average, bootstrap, compared, effect_size, holm, share, sign_flip

numbers = st.floats(-1e6, 1e6, allow_subnormal=False)


@given(st.lists(numbers, min_size=2, max_size=30), st.integers(0, 99))
def test_the_mean_lies_in_its_interval_and_the_interval_in_the_data(values, seed):
    mean, low, high = bootstrap(values, 300, 0.95, seed)
    slack = 1e-9 * max(1, max(map(abs, values)))
    assert mean == pytest.approx(np.mean(values))
    assert min(values) - slack <= low <= high <= max(values) + slack


@given(st.lists(numbers | st.sampled_from([math.nan, math.inf]), max_size=12))
def test_what_is_not_a_number_is_left_out(values):
    some = [v for v in values if math.isfinite(v)]
    found, wanted = bootstrap(values, 200, 0.95, 1), bootstrap(some, 200, 0.95, 1)
    assert found == pytest.approx(wanted, nan_ok=True)
    assert math.isnan(found[0]) == (not some)


def test_one_value_has_a_mean_and_no_interval():
    mean, low, high = bootstrap([0.3, math.nan], 100, 0.95, 1)
    assert mean == 0.3 and math.isnan(low) and math.isnan(high)


def test_equal_values_have_an_interval_without_width():
    assert bootstrap([2.0] * 9, 500, 0.95, 1) == (2.0, 2.0, 2.0)


def test_the_bootstrap_is_seeded():
    values = np.arange(20.0) ** 2
    assert bootstrap(values, 2500, 0.95, 1) == bootstrap(values, 2500, 0.95, 1) != bootstrap(values, 2500, 0.95, 2)


def test_the_bootstrap_agrees_with_the_normal_interval_of_many_values():
    values = np.random.default_rng(0).normal(10, 2, 400)
    mean, low, high = bootstrap(values, 5000, 0.95, 1)
    half = 1.96 * values.std() / math.sqrt(400)
    assert (low, high) == (pytest.approx(mean - half, abs=0.02), pytest.approx(mean + half, abs=0.02))


def test_the_bootstrap_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    found = [bootstrap(rng.normal(0, 1, 50), 400, 0.9, i) for i in range(300)]
    assert np.mean([low <= 0 <= high for _, low, high in found]) == pytest.approx(0.9, abs=0.05)


def test_more_confidence_is_wider():
    values = np.arange(30.0)
    _, low, high = bootstrap(values, 2000, 0.8, 1)
    _, lower, higher = bootstrap(values, 2000, 0.99, 1)
    assert lower < low < high < higher


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),  # Newcombe 1998, table I, method 3 (Wilson)
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_as_published(hits, n, low, high):
    value, found_low, found_high = share(hits, n, 0.95)
    assert value == hits / n
    assert (found_low, found_high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


def test_all_right_and_all_wrong_keep_a_width():
    assert share(20, 20, 0.95) == (1.0, pytest.approx(1 - 0.1611, abs=5e-5), pytest.approx(1.0))
    assert share(0, 20, 0.95)[1] == pytest.approx(0.0, abs=1e-12)


def test_an_average_of_one_is_that_one():
    assert average([(0.5, 0.3, 0.8)]) == (0.5, pytest.approx(0.3), pytest.approx(0.8))


def test_an_average_of_equal_estimates_shrinks_with_their_root():
    mean, low, high = average([(0.5, 0.4, 0.7)] * 4)
    assert (mean, low, high) == (0.5, pytest.approx(0.45), pytest.approx(0.6))


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 0.5), st.floats(0, 0.5)), min_size=1, max_size=9))
def test_an_average_lies_in_its_interval_which_is_no_wider_than_the_widest(parts):
    mean, low, high = average([(v, v - d, v + u) for v, d, u in parts])
    assert low <= mean <= high
    assert mean - low <= max(d for _, d, _ in parts) + 1e-9
    assert high - mean <= max(u for _, _, u in parts) + 1e-9


DARWIN = [
    49,
    -67,
    8,
    16,
    6,
    23,
    28,
    41,
    14,
    29,
    56,
    24,
    75,
    60,
    -48,
]  # heights of pairs of Zea mays, eighths of an inch


def test_fishers_exact_test_of_darwins_maize():
    """Fisher 1935, section 21: 863 of 32,768 sums are as large in one tail."""
    assert sign_flip(DARWIN, 2**15, 1) == pytest.approx(2 * 863 / 2**15, abs=1e-12)


@pytest.mark.parametrize(
    ("differences", "p"),
    [
        ([1, 2, 3, 4, 5], 2 / 32),
        ([1, 1, 1, -1], 10 / 16),
        ([3, -1], 1.0),
        ([2, 0, 0, 3, 0, 1], 2 / 8),
        ([0, 0], 1.0),
        ([4], 1.0),
    ],
)
def test_sign_flips_by_hand(differences, p):
    assert sign_flip(differences, 10_000, 1) == pytest.approx(p, abs=1e-12)


def test_many_differences_are_resampled_and_seeded():
    rng = np.random.default_rng(3)
    values = rng.normal(0.25, 1, 60)
    from scipy.stats import ttest_1samp

    p = sign_flip(values, 10_000, 1)
    assert p == sign_flip(values, 10_000, 1) and p == pytest.approx(ttest_1samp(values, 0).pvalue, abs=0.012)
    assert sign_flip(values + 5, 10_000, 1) == pytest.approx(2 / 10_001)  # never 0: the data are one of the flips


@given(st.lists(st.integers(-9, 9), min_size=2, max_size=9))
def test_an_exact_p_is_the_share_of_flips_as_far_from_0(values):
    signs = np.array(list(itertools.product((-1, 1), repeat=len(values))))
    sums = np.abs(signs @ np.array(values))
    assert sign_flip(values, 10_000, 1) == pytest.approx((sums >= abs(sum(values))).mean(), abs=1e-12)
    assert sign_flip([-v for v in values], 10_000, 1) == pytest.approx(sign_flip(values, 10_000, 1), abs=1e-12)


def test_failed_differences_are_left_out():
    assert sign_flip([1, math.nan, 2, 3, 4, 5], 1000, 1) == pytest.approx(2 / 32)
    assert math.isnan(sign_flip([math.nan], 1000, 1)) and math.isnan(sign_flip([], 1000, 1))
    assert effect_size([1, math.nan, 3]) == effect_size([1, 3])


@pytest.mark.slow
def test_under_no_effect_p_is_rarely_small():
    rng = np.random.default_rng(0)
    found = [sign_flip(rng.normal(0, 1, 12), 5000, 1) for _ in range(300)]
    assert np.mean(np.array(found) <= 0.05) == pytest.approx(0.05, abs=0.03)


def test_effect_size_by_hand():
    assert effect_size([1, 2, 3]) == 2 and effect_size([-1, -2, -3]) == -2 and effect_size([1, -1]) == 0
    assert math.isnan(effect_size([5])) and math.isnan(effect_size([2, 2])) and math.isnan(effect_size([]))
    assert math.isnan(effect_size([0.1 + 0.2] * 7))


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    found = holm([0.02, math.nan, 0.5])
    assert found[0] == pytest.approx(0.04) and math.isnan(found[1]) and found[2] == 0.5
    assert holm([]) == [] and math.isnan(holm([math.nan])[0])


def test_comparisons_in_one_table():
    frame = compared({"a": DARWIN, "b": [1, 2, 3, 4, math.nan], "c": []}, 2**15, 0.95, 1).set_index("comparison")
    assert frame["n"].tolist() == [15, 5, 0] and frame["n_failed"].tolist() == [0, 1, 0]
    assert frame.at["a", "p_holm"] == pytest.approx(2 * frame.at["a", "p"]) and frame.at["b", "p"] == 2 / 16
    assert frame.at["b", "p_holm"] == pytest.approx(0.125) and frame.at["b", "difference"] == 2.5
    assert frame.loc["c", ["difference", "p", "p_holm", "d_z"]].isna().all()
    assert compared({}, 100, 0.95, 1).columns.tolist() == frame.reset_index().columns.tolist()
