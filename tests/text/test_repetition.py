import gzip
import json

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2utils.evaluation import external_answers
from s2utils.text.repetition import longest_row, looping, repeated

PLAIN = (
    "Ice is lighter than water because its molecules stand further apart, so a lake freezes from the top and the fish "
    "below live on. Most other things shrink when they freeze, and sink."
)
LOOP = "The best shoes are the best shoes are the best shoes are the best shoes are the best shoes are the best."


LIST = " ".join(f"{i}. The cat number {i} sat on the big red mat." for i in range(9))


@pytest.mark.parametrize(
    ("text", "row", "share"),  # words of the longest row; of phrases
    [(PLAIN, 0, 0), (LOOP, 22, 15 / 19), (PLAIN + " It is so." * 4, 12, 6 / 42), (LIST, 0, 24 / 96)],
)
def test_loops_of_phrases_and_of_lists_and_a_plain_text(text, row, share):
    assert looping(text) == (text != PLAIN)
    assert longest_row(text) == row and repeated(text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["", "No, no, no!", "yes " * 11, "word", "...", "a b c " * 3])
def test_a_few_words_are_no_loop(text):
    assert not looping(text)


@pytest.mark.parametrize(("times", "words"), [(2, 0), (3, 12), (4, 16)])
def test_three_times_in_a_row_by_hand(times, words):
    assert longest_row("begin " + "one two three four " * times + "end") == words


@given(st.text("ab .", max_size=120))
def test_case_and_punctuation_do_not_matter_and_shares_are_shares(text):
    assert looping(text) == looping(text.upper().replace(" ", ", ")) if "." not in text else True
    assert 0 <= repeated(text) < 1


@given(st.lists(st.sampled_from("one two three four five six".split()), min_size=4, max_size=8).map(" ".join))
def test_any_phrase_said_five_times_is_a_loop(phrase):
    assert looping(f"{phrase} " * 5)


@pytest.mark.slow
def test_people_hardly_loop_and_models_do(sample):
    posts = json.loads(gzip.decompress(sample("samples/eli5_category_validation.json.gz").read_bytes()))
    human = [t for post in posts for t in post["answers"]["text"]]
    assert sum(map(looping, human)) <= 2 < len(human) / 1000
    wiki = pd.read_csv(sample("samples/simple_wiki_qa_validation.csv"))["trunc_text"].astype(str)
    assert not wiki.map(looping).any()
    released = sample("study_predictions/Llama-2-7b-hf_eli5_predictions.csv").parent
    answers, _ = external_answers.read(released)
    base = answers[answers["model"] == "Llama-2-7b-hf"]
    assert base["answer"].map(looping).sum() == 8
