import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2utils.data.corpus_words import Words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("It isn't (quite) \"so\"; we'll see.", "It is n't ( quite ) \" so \" ; we 'll see .".split()),
        ("The dog’s well-known 10-year-old bone.", "The dog ’s well - known 10 - year - old bone .".split()),
        ("Dr. No cannot pay $5.50 or 30%...", "Dr. No can not pay $ 5.50 or 30 % ...".split()),
        ("See https://example.org/a?b=1, or a@b.org.", "See https://example.org/a?b=1 , or a@b.org .".split()),
        ("J. R. Smith of the U.S. and/or NASA.", "J. R. Smith of the U.S. and/or NASA .".split()),
    ],
)
def test_words_are_those_of_spacy(text, words):
    assert Words().word_tokenize(text) == words  # spaCy 3.8, blank English


@given(st.text(alphabet="ab1 .,'-/!?()\n’", max_size=80))
def test_no_character_but_white_space_is_lost(text):
    assert "".join(Words().word_tokenize(text)) == re.sub(r"\s+", "", text)


@given(st.lists(st.text(alphabet="ab .!?\n", max_size=30), min_size=1, max_size=6))
def test_words_do_not_hang_on_what_was_asked_before(texts):
    shared = Words()
    assert [shared.word_tokenize(text) for text in texts] == [Words().word_tokenize(text) for text in texts]


def test_a_sentence_ends_before_the_word_after_its_mark():
    text = 'He said "No!" Then Mr. Fox left. Why?! It was 3.5 km...'
    assert Words().sent_tokenize(text) == ['He said "No!"', "Then Mr. Fox left.", "Why?!", "It was 3.5 km..."]


@given(st.text(alphabet='ab .!?"\n', max_size=80))
def test_spans_of_sentences_cover_the_text(text):
    spans = Words().span_tokenize(text)
    assert "".join(text[start:end] for start, end in spans) == (text if text.strip() else "")
