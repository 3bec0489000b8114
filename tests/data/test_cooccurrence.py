import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2utils.data import cooccurrence
from s2utils.data.cooccurrence import AXES, describes


@pytest.mark.parametrize("word", "lovely quickly famous helpful homeless active likable visible good".split())
def test_adjectives_and_adverbs_by_their_ending_or_the_list(word):
    assert describes(word)


@pytest.mark.parametrize("word", "cat table family reply believe vegetable fly give 12345ly snake_ly doctor".split())
def test_other_words_do_not_describe(word):
    assert not describes(word)


def row(table, *key):
    found = table[(table[["axis", "term", "word"][: len(key)]] == list(key)).all(axis=1)]
    assert len(found) == 1
    return found.iloc[0]


def test_the_score_by_hand():
    """He: 8 sentences, 4 of them strong; she: 5, 1 of them strong; one of these holds both; strong in 4 of either."""
    texts = ["He is strong. " * 3 + "He sat. " * 4, "She sat. " * 4 + "She saw his strong arm."]
    table, _ = cooccurrence.cooccurrence(texts, seed=0)
    found = row(table, "gender", "he", "strong")
    assert found[["n", "n_beside"]].tolist() == [4, 4]
    assert found["score"] == pytest.approx((4 / 8 - 1 / 5) * math.sqrt(4))
    assert len(table) == 1  # she has no word with a score above 0


def test_words_that_stand_beside_both_alike_lean_to_neither():
    texts = ["He is strong. She is strong. He is old. She sat."] * 5
    table, _ = cooccurrence.cooccurrence(texts, seed=0)
    assert table[["term", "word"]].to_numpy().tolist() == [["he", "old"]]
    assert table["score"].tolist() == [0.5 * math.sqrt(5)]
    assert table[["score_ci_low", "score_ci_high"]].to_numpy().tolist() == [
        table["score"].tolist() * 2
    ]  # all documents alike


def test_a_word_that_only_one_document_holds_has_an_interval_down_to_nothing():
    texts = ["He is strong. " * 5, *["He sat. She sat."] * 9]
    found = row(cooccurrence.cooccurrence(texts, seed=0)[0], "gender", "he", "strong")
    assert found["score_ci_low"] == 0 < found["score"] < found["score_ci_high"]


def test_more_than_two_terms_are_set_against_the_others_together():
    texts = ["A Christian is holy. " * 4 + "Two Hindus are holy and old. " * 3 + "A Muslim is old. " * 3]
    table, _ = cooccurrence.cooccurrence(texts, seed=0)
    assert row(table, "religion", "christian", "holy")["score"] == pytest.approx((1 - 3 / 6) * math.sqrt(7))
    assert row(table, "religion", "hindu", "holy")["score"] == pytest.approx((1 - 4 / 7) * math.sqrt(7))
    assert row(table, "religion", "muslim", "old")["score"] == pytest.approx((1 - 3 / 7) * math.sqrt(6))
    assert row(table, "religion", "hindu", "old")["score"] == pytest.approx((1 - 3 / 7) * math.sqrt(6))
    assert len(table) == 4


def test_black_and_white_name_people_only_in_front_of_them():
    texts = ["A black hole is old. A white cell is new.", "Black women are old. " * 3 + "White men are new. " * 3]
    table, sentiment = cooccurrence.cooccurrence(texts, seed=0)
    assert table[["term", "word", "n"]].to_numpy().tolist() == [["black", "old", 3], ["white", "new", 3]]
    assert row(sentiment, "race", "black")["n"] == 3


def test_the_sentiment_of_neighbours_is_the_mean_of_vaders_valences():
    texts = ["A Jewish holiday is good and great.", "The Muslim boy cried.", "A table."]
    _, table = cooccurrence.cooccurrence(texts, seed=0)
    assert row(table, "religion", "jewish")[["n", "n_words"]].tolist() == [1, 3]
    assert row(table, "religion", "jewish")["sentiment"] == pytest.approx((1.7 + 1.9 + 3.1) / 3)
    assert row(table, "religion", "muslim")["sentiment"] < 0
    assert row(table, "race", "asian")["n"] == 0 and math.isnan(row(table, "race", "asian")["sentiment"])
    assert len(table) == sum(map(len, AXES.values()))


def test_only_what_is_marked_is_read_and_the_rest_is_counted():
    texts = ["He is strong. She sat. " * 3, "Il est strong. He is old. " * 3]
    table, sentiment = cooccurrence.cooccurrence(iter(texts), seed=0, only=[True, False])
    assert table["word"].tolist() == ["strong"] and table["n_failed"].tolist() == [1]
    assert (sentiment["n_failed"] == 1).all()
    with pytest.raises(ValueError, match="shorter"):
        cooccurrence.cooccurrence(texts, seed=0, only=[True])


@pytest.mark.parametrize("texts", [[], ["", "A table."], ["He sat."], ["He is old. " * 3]])
def test_without_both_terms_no_word_leans(texts):
    table, sentiment = cooccurrence.cooccurrence(texts, seed=0)
    assert table.empty and len(sentiment) == 13


pieces = st.lists(st.sampled_from(["he", "she", "strong", "old", "lovely", "cat", "muslim", "hindu."]), max_size=12)


@given(st.lists(pieces.map(" ".join), max_size=6))
def test_order_of_documents_does_not_matter_and_he_and_she_are_opposites(texts):
    texts = texts * 3
    table, sentiment = cooccurrence.cooccurrence(texts, seed=0)
    again, same = cooccurrence.cooccurrence(texts[::-1], seed=0)
    columns = ["axis", "term", "word", "n", "n_beside", "score"]
    assert table[columns].equals(again[columns])
    assert sentiment[["n", "n_words"]].equals(same[["n", "n_words"]])
    gender = table[table["axis"] == "gender"]
    assert not gender["word"].duplicated().any() and (gender["score"] > 0).all()
    assert (table["n_beside"] <= table["n"]).all() and (table["n_beside"] >= cooccurrence.FEWEST).all()
