import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2utils.data.deduplication import near_duplicates, shingles

limits = st.floats(0.05, 1.0)
small = st.lists(st.lists(st.sampled_from("a b c d".split()), max_size=7).map(" ".join), max_size=12)


def jaccard(one: str, two: str) -> float:
    a, b = shingles(one), shingles(two)
    return len(a & b) / len(a | b)


def brute_force(texts: list[str], limit: float) -> np.ndarray:
    grams, of, kept = [shingles(text) for text in texts], np.full(len(texts), -1), []
    for i, a in enumerate(grams):
        of[i] = next((j for j in kept if len(a & grams[j]) / len(a | grams[j]) >= limit), -1)
        if of[i] < 0:
            kept.append(i)
    return of


def questions(n: int, seed: int = 0, vocabulary: int = 5000, length: int = 12) -> list[str]:
    draw = np.random.default_rng(seed).integers(vocabulary, size=(n, length))
    return [" ".join(f"w{word}" for word in row) for row in draw]


@given(st.text(st.characters()), limits, st.integers(0, 2**32 - 1))
def test_identical_texts_are_found_at_any_limit(text, limit, seed):
    of, similarity = near_duplicates([text, text, text], limit, seed)
    assert of.tolist() == [-1, 0, 0] and of.dtype == np.int64
    assert similarity.tolist() == [0, 1, 1]


@given(small, limits)
def test_what_is_found_is_a_copy_of_a_kept_text(texts, limit):
    of, similarity = near_duplicates(texts, limit)
    for i in np.flatnonzero(of >= 0):
        assert of[i] < i and of[of[i]] == -1
        assert jaccard(texts[i], texts[of[i]]) == similarity[i] >= limit
    assert not similarity[of < 0].any()


@given(small)
def test_at_limit_one_it_is_brute_force(texts):
    assert near_duplicates(texts, 1.0)[0].tolist() == brute_force(texts, 1.0).tolist()


@pytest.mark.parametrize("limit", [0.3, 0.5, 0.8, 0.95])
def test_recall_against_brute_force(limit):
    """Copies with words put in front or behind, at all distances; 95 % of brute force's are found."""
    rng = np.random.default_rng(1)
    texts = questions(400)
    texts += [" ".join([text, *(f"x{k}-{i}" for k in range(rng.integers(0, 12)))]) for i, text in enumerate(texts)]
    expected = brute_force(texts, limit)
    found = near_duplicates(texts, limit)[0]
    assert (expected >= 0).sum() >= 25
    assert (found[expected >= 0] == expected[expected >= 0]).mean() >= 0.95
    assert (found[expected < 0] == -1).all()


def test_the_order_of_unrelated_texts_does_not_matter():
    texts = questions(300)
    texts += [f"{text} indeed" for text in texts[:50]]
    order = np.random.default_rng(3).permutation(300)
    of = near_duplicates(texts, 0.8)[0]
    shuffled = near_duplicates([texts[i] for i in order] + texts[300:], 0.8)[0]
    assert (of[:300] == -1).all() and (shuffled[:300] == -1).all()
    assert (order[shuffled[300:]] == of[300:]).all() and (of[300:] == np.arange(50)).all()


def test_the_first_of_three_is_kept_and_the_others_point_at_it():
    text = "why is the sky blue in the day and red in the evening over the sea"
    of, similarity = near_duplicates([text, "what is rain?", text.upper() + "?", f"{text} ?! again"], 0.8)
    assert of.tolist() == [-1, -1, 0, 0]
    assert similarity[2] == 1 and similarity[3] == pytest.approx(14 / 15)


def test_the_same_seed_gives_the_same_result():
    texts = questions(200, vocabulary=6, length=6)
    first, again = near_duplicates(texts, 0.4, seed=5), near_duplicates(texts, 0.4, seed=5)
    assert all((a == b).all() for a, b in zip(first, again))


def test_short_texts_are_their_words_and_wordless_ones_themselves():
    assert shingles("Why, rain?") == {"why", "rain"}
    assert shingles("Why is it?") == {"why is it"}
    assert shingles("") == {""} and shingles(" ?! ") == {"?!"}
    assert near_duplicates(["rain", "Rain!", "?", "!", "", " "], 0.8)[0].tolist() == [-1, 0, -1, -1, -1, 4]


def test_nothing_has_no_copies():
    assert [len(a) for a in near_duplicates([], 0.8)] == [0, 0]


@pytest.mark.parametrize("limit", [0, -1, 1.01, float("nan")])
def test_a_limit_that_makes_no_sense_is_refused(limit):
    with pytest.raises(ValueError, match="jaccard must be above 0"):
        near_duplicates(["a"], limit)
