import math

import pandas as pd
import pytest
from conftest import OTHER
from hypothesis import given
from hypothesis import strategies as st

from s2utils.evaluation import metrics, text_metrics
from s2utils.workflow.params import load

TEXT = "The sun is hot. It gives us light in the day.\nAt night we see the moon."


def rouge(answer: str, reference: str, stemmer: bool = False) -> dict:
    """ROUGE of one pair."""
    return text_metrics.rouge([answer], [reference], stemmer).iloc[0].to_dict()


def test_a_text_has_rouge_1_with_itself():
    assert set(rouge(TEXT, TEXT).values()) == {1.0}


@pytest.mark.parametrize("pair", [("", TEXT), (TEXT, ""), ("", ""), ("...", TEXT), ("cloud", "sun")])
def test_nothing_in_common_is_0(pair):
    assert set(rouge(*pair).values()) == {0.0}


@pytest.mark.parametrize("text", OTHER.values(), ids=OTHER)
def test_rouge_is_not_defined_for_a_reference_in_other_letters(text):
    assert all(map(math.isnan, rouge(text, text).values())) and all(map(math.isnan, rouge(TEXT, text).values()))
    assert set(rouge(text, TEXT).values()) == {0.0}, "an answer in the wrong language shares no word"


def test_what_a_model_thought_aloud_is_no_part_of_its_answer():
    said = ["<think>Rain? Water.</think>\n\nRain is water.", "Rain is water.", "<think>Rain may be"]
    made = text_metrics.answered(pd.DataFrame({"id": [1, 2, 3], "text": said}))
    assert made["text"].tolist() == ["Rain is water.", "Rain is water.", ""]
    assert made["reasoned"].tolist() == [True, False, True] and made["id"].tolist() == [1, 2, 3]


def test_rouge_as_the_package_documents_it():
    found = rouge("The quick brown dog jumps on the log.", "The quick brown fox jumps over the lazy dog")
    # 6 of 8 words, of 9 words; 2 of 7 pairs, of 8; longest common subsequence 5
    assert found["rouge_1_f1"] == pytest.approx(2 * 0.75 * (6 / 9) / (0.75 + 6 / 9))
    assert found["rouge_2_f1"] == pytest.approx(2 * 2 / (7 + 8))
    assert found["rouge_l_f1"] == found["rouge_lsum_f1"] == pytest.approx(2 * 5 / (8 + 9))


def test_rouge_as_lin_2004_explains_it():
    reference = "police killed the gunman"
    same_order, other_order = rouge("police kill the gunman", reference), rouge("the gunman kill police", reference)
    assert same_order["rouge_2_f1"] == other_order["rouge_2_f1"] == pytest.approx(1 / 3)
    assert (same_order["rouge_l_f1"], other_order["rouge_l_f1"]) == (pytest.approx(3 / 4), pytest.approx(2 / 4))


@pytest.mark.parametrize(
    ("reference", "answer", "metric", "f1"),
    [  # as the tests of google-research's rouge_score have them, from which the package was made
        ("testing one two", "testing", "rouge_1_f1", 1 / 2),
        ("testing one two", "testing one", "rouge_2_f1", 2 / 3),
        ("testing one two", "testing", "rouge_2_f1", 0),
        ("testing one two", "testing one", "rouge_l_f1", 0.8),
        ("testing one two", "testing two", "rouge_l_f1", 0.8),
        # union of the longest common subsequences, Lin 2004, 3.2: recall 4/5, precision 4/10
        ("w1 w2 w3 w4 w5", "w1 w2 w6 w7 w8\nw1 w3 w8 w9 w5", "rouge_lsum_f1", 8 / 15),
    ],
)
def test_rouge_of_its_reference_cases(reference, answer, metric, f1):
    assert rouge(answer, reference)[metric] == pytest.approx(f1)


def test_the_stemmer_joins_forms_of_a_word():
    assert rouge("police kill the gunman", "police killed the gunman", stemmer=True)["rouge_1_f1"] == 1.0


def test_lsum_compares_line_by_line():
    found = rouge("the moon at night\nthe sun by day", "the sun by day\nthe moon at night")
    assert found["rouge_lsum_f1"] == 1.0 and found["rouge_l_f1"] < 1.0


words = st.lists(st.sampled_from(["sun", "moon", "star", "sky", "day", "night"]), max_size=12).map(" ".join)


@given(words, words)
def test_rouge_is_symmetric_and_a_longer_unit_is_no_easier(one, other):
    found, turned = rouge(one, other), rouge(other, one)
    assert found == pytest.approx(turned)
    assert all(0 <= v <= 1 for v in found.values())
    assert found["rouge_1_f1"] >= found["rouge_l_f1"] - 1e-12


def test_readability_has_a_row_an_answer_and_none_for_an_empty_one():
    frame = text_metrics.readability([TEXT, "", "...", OTHER["Thai"], OTHER["Korean"]], "pyphen")
    assert list(frame.columns) == text_metrics.FLESCH
    assert frame.notna().all(axis=1).tolist() == [True, False, False, False, False]


def test_the_manner_of_answers(tree):
    simple, rude = "The cat sat on the mat. It was warm.", "You damn stupid idiot, go to hell."
    texts = [simple, "the cat the cat the cat", "", rude, OTHER["Russian"]]
    made = text_metrics.manner(texts, [simple] * 5, load("smoke"))
    assert list(made) == metrics.columns("manner")
    assert made["answer_words"].fillna(-1).tolist() == [9, 6, -1, 7, -1] and made.loc[[2, 4]].isna().all(axis=None)
    assert made["distinct_2"][0] == 1 and made["distinct_2"][1] == pytest.approx(2 / 5)
    assert made["reference_cosine"][0] == pytest.approx(1, abs=1e-5) and made["reference_cosine"][1] < 0.95
    assert made["within_limits"][0] == 1 and made["toxic"].fillna(-1).tolist() == [0, 0, -1, 1, -1]
