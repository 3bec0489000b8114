"""Routing: shares that sum to 1, repeats at their limits, and nulls that are what drawing gives."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2utils.stats import intervals, routing
from s2utils.workflow.params import load

PARAMS = load("smoke")


@st.composite
def routed(draw):
    """(choices (T, k), documents (T,), E)."""
    n_experts = draw(st.integers(2, 7))
    k = draw(st.integers(1, n_experts))
    n_tokens = draw(st.integers(2, 25))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    choices = rng.random((n_tokens, n_experts)).argsort(axis=1)[:, :k]
    return choices, np.sort(rng.integers(0, 4, n_tokens)), n_experts


def drawn(n_tokens: int, n_experts: int = 8, k: int = 2, seed: int = 0, skew: float = 0.0) -> np.ndarray:
    """Choices that do not depend on each other; `skew` makes the first experts more likely."""
    rng = np.random.default_rng(seed)
    liking = -skew * np.arange(n_experts) + rng.gumbel(size=(n_tokens, n_experts))
    return liking.argsort(axis=1)[:, ::-1][:, :k]


def test_uniform_nulls_of_mixtral():
    assert routing.uniform_null(8, 1) == 0.125
    assert round(100 * routing.uniform_null(8, 2), 2) == 46.43
    assert routing.uniform_null(8, 8) == routing.uniform_null(8, 5) == 1, "more than half cannot miss each other"


@settings(deadline=None)
@given(routed())
def test_the_marginal_null_is_the_share_of_all_pairs_of_tokens_that_overlap(made):
    choices, _, n_experts = made
    overlap = np.mean([bool(set(a) & set(b)) for a, b in itertools.product(choices.tolist(), repeat=2)])
    assert routing.marginal_null(choices, n_experts) == pytest.approx(overlap)
    share = np.bincount(choices[:, 0]) / len(choices)
    assert routing.marginal_null(choices[:, :1], n_experts) == pytest.approx((share**2).sum())


@pytest.mark.parametrize("skew", [0.0, 0.4])
def test_repeats_of_independent_draws_are_the_marginal_null(skew):
    rows = routing.repeats(drawn(40_000, skew=skew), np.repeat(np.arange(40), 1000), 8, PARAMS)
    assert rows["repeats"].to_numpy() == pytest.approx(rows["marginal_null"].to_numpy(), abs=0.012)
    assert (rows["marginal_null"] > rows["uniform_null"] - 1e-3).all()
    far = (rows["marginal_null"] - rows["uniform_null"] > 0.02).all()
    assert far == (skew > 0), "unequal shares alone repeat"


def test_repeats_at_their_limits_and_within_documents_only():
    documents = np.array([0, 0, 0, 1, 1, 2])
    never = np.array([[0, 1], [2, 3], [0, 1], [0, 1], [2, 3], [2, 3]])
    rows = routing.repeats(never, documents, 4, PARAMS).set_index("kind")
    assert rows["repeats"].tolist() == [0, 0] and rows["n"].tolist() == [3, 3], "across documents all would repeat"
    assert (rows["repeats_ci_high"] > 0).all(), "three pairs do not show that it never happens"
    swapped = np.array([[0, 1], [1, 0], [0, 1], [1, 0], [0, 1], [0, 1]])
    rows = routing.repeats(swapped, documents, 4, PARAMS).set_index("kind")
    assert rows.loc["first", "repeats"] == 0 and rows.loc["any", "repeats"] == 1
    assert rows.loc["any", "marginal_null"] == 1 and rows.loc["any", "uniform_null"] < 1
    alone = routing.repeats(never[:2], np.array([0, 1]), 4, PARAMS)
    assert alone["repeats"].isna().all() and (alone["n"] == 0).all()


@settings(deadline=None, max_examples=30)
@given(routed())
def test_shares_sum_to_1_and_lie_in_their_intervals(made):
    choices, documents, n_experts = made
    frame = routing.shares(choices, documents, n_experts, PARAMS)
    for _, part in frame.groupby("choice"):
        assert part["share"].sum() == pytest.approx(1) and (part["n"] == len(choices)).all()
    known = frame.dropna(subset=["share_ci_low"])
    assert (known["share_ci_low"] <= known["share"] + 1e-9).all()
    assert (known["share"] <= known["share_ci_high"] + 1e-9).all()
    one_of_all = routing.shares(np.tile(np.arange(n_experts), (4, 1)), np.arange(4), n_experts, PARAMS)
    assert one_of_all[one_of_all["choice"] == "any"]["share"].to_numpy() == pytest.approx(1 / n_experts)


def test_an_interval_over_documents_is_wider_where_documents_differ():
    same, unlike = np.tile([0, 1], 200)[:, None], np.repeat([0, 1], 200)[:, None]
    documents = np.repeat(np.arange(8), 50)
    wide, narrow = (
        (f := routing.shares(c, documents, 2, PARAMS)).loc[0, "share_ci_high"] - f.loc[0, "share_ci_low"]
        for c in (unlike, same)
    )
    assert wide > 0.3 and narrow < 0.01


@settings(deadline=None, max_examples=20)
@given(routed())
def test_pairs_sum_to_those_of_a_token(made):
    choices, documents, n_experts = made
    k = choices.shape[1]
    frame = routing.co_activation(choices, documents, n_experts, PARAMS)
    assert len(frame) == math.comb(n_experts, 2)
    for column in ("share", "uniform_null", "marginal_null"):
        assert frame[column].sum() == pytest.approx(math.comb(k, 2))


@settings(deadline=None, max_examples=20)
@given(routed())
def test_draws_for_all_experts_at_once_are_those_of_each(made):
    choices, documents, n_experts = made
    given = PARAMS.text_metrics
    sizes = np.bincount(np.unique(documents, return_inverse=True)[1])
    pairs = routing.co_activation(choices, documents, n_experts, PARAMS)
    shares = routing.shares(choices, documents, n_experts, PARAMS)
    shares = shares[shares["choice"] == "first"].assign(other=-1)
    for row in [*pairs.itertuples(), *shares.itertuples()]:
        hit = choices[:, 0] == row.expert
        if row.other >= 0:
            hit = (choices == row.expert).any(axis=1) & (choices == row.other).any(axis=1)
        hits = routing.by_document(hit, documents)
        alone = intervals.cluster_share(hits, sizes, given.resamples, given.confidence, PARAMS.seed, few=True)
        assert (row.share, row.share_ci_low, row.share_ci_high) == pytest.approx(alone, nan_ok=True)


@settings(deadline=None)
@given(routed())
def test_the_null_of_documents_is_the_share_of_pairs_of_their_tokens_that_overlap(made):
    choices, documents, n_experts = made
    shared, pairs = 0.0, 0
    for document in np.unique(documents):
        own = choices[documents == document].tolist()
        if len(own) > 1:
            overlap = [bool(set(a) & set(b)) for a, b in itertools.permutations(own, 2)]
            shared, pairs = shared + np.mean(overlap) * (len(own) - 1), pairs + len(own) - 1
    null = routing.document_null(choices, documents, n_experts)
    assert null == pytest.approx(shared / pairs if pairs else math.nan, nan_ok=True, abs=1e-6)


def test_documents_that_differ_repeat_above_all_tokens_frequencies_and_not_above_their_own():
    choices = np.concatenate([(drawn(2000, seed=i, skew=0.5) + i) % 8 for i in range(8)])
    row = routing.repeats(choices, np.repeat(np.arange(8), 2000), 8, PARAMS).iloc[0]
    assert row["repeats"] > row["marginal_null"] + 0.1
    assert row["repeats"] == pytest.approx(row["document_null"], abs=0.02)


def test_entropy_at_its_limits():
    documents = np.repeat([0, 1], 3)
    sure, even = np.eye(8)[:6], np.full((6, 8), 1 / 8)
    assert routing.entropy(sure, documents, PARAMS)["entropy"] == 0
    assert routing.entropy(even, documents, PARAMS)["entropy"] == pytest.approx(3)
    with pytest.raises(ValueError, match="logits"):
        routing.entropy(np.ones((6, 8)), documents, PARAMS)


def test_a_batch_needs_its_documents_experts():
    documents = np.repeat(np.arange(30), 20)
    alike, own = np.tile([3, 5], (600, 1)), documents[:, None]
    assert routing.experts_needed(alike, documents, 16, 5, 0) == 2
    assert routing.experts_needed(own, documents, 16, 5, 0) == 16
    free = routing.experts_needed(drawn(600), documents, 5, 400, 0)
    assert free == pytest.approx(8 * (1 - (1 - 2 / 8) ** 5), abs=0.25)
    with pytest.raises(ValueError, match="needs as many documents"):
        routing.experts_needed(own, documents, 31, 5, 0)
