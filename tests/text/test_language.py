"""Another language than the wanted one: found in plain paragraphs of it, and in doubt not claimed."""

import gzip
import io
import json
import lzma

import numpy as np
import pytest
from conftest import OTHER
from hypothesis import given
from hypothesis import strategies as st
from py3langid import langid

from s2utils.text.language import ENOUGH, LONG, UNKNOWN, codes, detect, foreign

PARAGRAPHS = {
    "de": "Die Sonne ist heiß und groß. Sie gibt uns am Tag Licht, und in der Nacht sehen wir den Mond. So war es.",
    "fr": "Le soleil est chaud et grand. Il nous donne de la lumière le jour, et la nuit nous voyons la lune.",
    "es": "El sol es grande y caliente. Nos da luz durante el día, y por la noche vemos la luna y las estrellas.",
    "nl": "De zon is heet en groot. Hij geeft ons licht op de dag, en in de nacht zien we de maan. Dat is zo.",
    "da": "Solen er varm og stor. Den giver os lys om dagen, og om natten kan vi se månen og stjernerne på himlen.",
    "it": "Il sole è caldo e grande. Ci dà luce di giorno, e di notte vediamo la luna e le stelle nel cielo.",
    "pl": "Słońce jest gorące i duże. Daje nam światło w dzień, a w nocy widzimy księżyc i gwiazdy na niebie.",
    "vi": "Mặt trời nóng và lớn. Nó cho chúng ta ánh sáng vào ban ngày, và ban đêm chúng ta thấy mặt trăng.",
}
ENGLISH = "The sun is hot and big. It gives us light in the day. At night we see the moon and the stars in the sky."


@pytest.mark.parametrize("text", [*PARAGRAPHS.values(), *OTHER.values()], ids=[*PARAGRAPHS, *OTHER])
def test_another_language_is_told_from_english(text):
    assert foreign(text, "en") and foreign("\ud800 " + text, "en")


@pytest.mark.parametrize(
    "text",
    [
        ENGLISH,
        "\ud800 " + ENGLISH,
        "Photosynthesis converts carbon dioxide and water into glucose and oxygen using sunlight in chloroplasts.",
        "The German word Schadenfreude, the French je ne sais quoi and the Russian Солнце are used like this.",
        "",
        "nope lol, no idea tbh",
        "59 9960829697391280369629608288469028484 " * 12,
        "Die Sonne\n\n" + " " * 60,
        ENGLISH + "\n\n" + PARAGRAPHS["de"],  # the beginning has words of English
        "the and " + PARAGRAPHS["de"],  # one word in twenty
        "1 " * (ENOUGH // 2) + PARAGRAPHS["de"] * 9,  # what comes later is not looked at
    ],
)
def test_english_and_what_cannot_be_told_is_not_another_language(text):
    assert not foreign(text, "en")


def test_of_too_few_characters_no_language_is_told():
    assert foreign(PARAGRAPHS["de"][:LONG], "en") and not foreign(PARAGRAPHS["de"][: LONG - 1], "en")


def test_another_language_can_be_the_wanted_one():
    assert not foreign(PARAGRAPHS["de"], "de") and foreign(ENGLISH, "de")
    assert not foreign(OTHER["Russian"], "ru") and foreign(OTHER["Korean"] * 3, "ru")


@given(st.text(st.characters(), max_size=600), st.sampled_from(["en", "de"]))
def test_any_text_is_in_another_language_or_not(text, code):
    assert foreign(text, code) in (True, False)


def test_the_model_is_plain_arrays():
    """No pickle is loaded: were the next release's model one, its hash would have to be pinned."""
    packed = lzma.decompress((langid.MODEL_DIR / langid.MODEL_FILE).read_bytes())
    with np.load(io.BytesIO(packed), allow_pickle=False) as model:
        assert all(name.endswith(".npy") for name in model.zip.namelist())
        assert all(model[name].dtype != object for name in model.files)


def test_real_english_is_english(sample):
    posts = json.loads(gzip.decompress(sample("samples/eli5_category_validation.json.gz").read_bytes()))
    answers = [text for post in posts for text in post["answers"]["text"]]
    assert sum(foreign(text, "en") for text in answers) <= 0.001 * len(answers)


KNOWN = {"Thai": "th", "Chinese": "zh", "Russian": "ru", "Korean": "ko", "Greek": "el", "Arabic": "ar", "Hindi": "hi"}
TOLD = PARAGRAPHS | {KNOWN[name]: text for name, text in OTHER.items()} | {"en": ENGLISH}


@pytest.mark.parametrize("code", sorted(TOLD))
def test_fasttext_tells_the_language_of_a_paragraph(code):
    ((told, probability),) = detect([TOLD[code]], threshold=0.0)
    assert told == code and 0 < probability <= 1
    assert probability >= 0.5 or code == "da"  # which looks like Norwegian


def test_what_is_below_the_threshold_is_unknown_and_keeps_its_probability():
    text = ENGLISH + " " + PARAGRAPHS["de"] + " " + PARAGRAPHS["fr"]
    ((told, probability),) = detect([text], threshold=0.0)
    assert told != UNKNOWN
    assert detect([text], threshold=probability + 1e-9) == [(UNKNOWN, probability)]
    assert detect([text], threshold=probability) == [(told, probability)]
    assert detect(["", " \n\t "]) == [(UNKNOWN, 0.0)] * 2 and detect([]) == []


@given(st.lists(st.text(st.characters(), max_size=80), max_size=5))
def test_line_feeds_are_spaces_and_any_text_is_told_alone_as_in_company(texts):
    told = detect(texts)
    assert told == [detect([text.replace(" ", "\n")])[0] for text in texts]
    assert all(code in codes() | {UNKNOWN} and 0 <= probability <= 1 for code, probability in told)


def test_there_are_176_languages():
    assert len(codes()) == 176 and {"en", "de", "als", "zh", "no"} <= codes()
