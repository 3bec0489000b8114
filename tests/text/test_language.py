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

from s2utils.text import language

SENTENCES = {
    "en": "The sky is blue because the air scatters the light of the sun.",
    "de": "Der Himmel ist blau, weil die Luft das Licht der Sonne streut.",
    "fr": "Le ciel est bleu parce que l'air diffuse la lumière du soleil.",
    "es": "El cielo es azul porque el aire dispersa la luz del sol de la mañana.",
}


@pytest.mark.parametrize("code", SENTENCES)
def test_a_plain_sentence_is_recognised(code):
    ((found, probability),) = language.languages([SENTENCES[code]])
    assert found == code and 0.5 < probability <= 1


def test_results_stand_in_the_order_of_the_texts():
    codes = [code for code, _ in language.languages([SENTENCES["fr"], "", SENTENCES["en"], SENTENCES["fr"]])]
    assert codes == ["fr", "", "en", "fr"]
    assert language.languages([]) == []


@pytest.mark.parametrize("text", ["", "Why?", "  short   \n\n\n      text  ", "12345 67890 12345 67890 = 1", "😀" * 40])
def test_a_text_too_short_or_without_letters_is_unknown(text):
    assert language.languages([text]) == [("", 0.0)]


def test_the_limit_counts_characters_without_doubled_white_space():
    text = "the cat sat on a mat"
    assert len(text) == language.SHORTEST
    assert language.languages([text])[0][0] == "en"
    assert language.languages([text[:-1] + "      "]) == [("", 0.0)]


@given(st.lists(st.text(st.characters(), max_size=60), max_size=5))
def test_any_text_has_a_code_and_a_probability(texts):
    for code, probability in language.languages(texts):
        assert isinstance(code, str) and isinstance(probability, float) and 0 <= probability <= 1


def test_half_a_surrogate_pair_does_no_harm():
    assert language.languages(["\ud800 " + SENTENCES["en"]])[0][0] == "en"


PARAGRAPHS = {
    "de": "Die Sonne ist heiß und groß. Sie gibt uns am Tag Licht, und in der Nacht sehen wir den Mond. So war es immer.",
    "fr": "Le soleil est chaud et grand. Il nous donne de la lumière le jour, et la nuit nous voyons la lune.",
    "es": "El sol es grande y caliente. Nos da luz durante el día, y por la noche vemos la luna y las estrellas.",
    "nl": "De zon is heet en groot. Hij geeft ons licht op de dag, en in de nacht zien we de maan. Dat is zo als het is.",
    "da": "Solen er varm og stor. Den giver os lys om dagen, og om natten kan vi se månen og stjernerne på himlen.",
    "it": "Il sole è caldo e grande. Ci dà luce di giorno, e di notte vediamo la luna e le stelle nel cielo.",
    "pl": "Słońce jest gorące i duże. Daje nam światło w dzień, a w nocy widzimy księżyc i gwiazdy na niebie.",
    "vi": "Mặt trời nóng và lớn. Nó cho chúng ta ánh sáng vào ban ngày, và ban đêm chúng ta thấy mặt trăng.",
}
ENGLISH = [
    "The sun is hot and big. It gives us light in the day. At night we see the moon and the stars in the sky.",
    "Yes.",
    "nope lol, no idea tbh",
    "Photosynthesis converts carbon dioxide and water into glucose and oxygen using sunlight in chloroplasts.",
    "",
    "12345 67890 " * 9,
    "The German word Schadenfreude, the French je ne sais quoi and the Russian Солнце are used like this in English.",
]


@pytest.mark.parametrize("text", [*PARAGRAPHS.values(), *OTHER.values()], ids=[*PARAGRAPHS, *OTHER])
def test_another_language_is_told_from_english(text):
    assert language.foreign(text, "en")


@pytest.mark.parametrize("text", ENGLISH)
def test_english_and_what_cannot_be_told_is_not_another_language(text):
    assert not language.foreign(text, "en")


def test_another_language_can_be_the_wanted_one():
    assert not language.foreign(PARAGRAPHS["de"], "de") and language.foreign(ENGLISH[0], "de")
    assert not language.foreign(OTHER["Russian"], "ru") and language.foreign(OTHER["Korean"] * 3, "ru")


def test_the_model_is_plain_arrays():
    """No pickle is loaded: were the next release's model one, its hash would have to be pinned."""
    packed = lzma.decompress((langid.MODEL_DIR / langid.MODEL_FILE).read_bytes())
    with np.load(io.BytesIO(packed), allow_pickle=False) as model:
        assert all(name.endswith(".npy") for name in model.zip.namelist())
        assert all(model[name].dtype != object for name in model.files)


def test_real_english_is_english(sample):
    with gzip.open(sample("samples/eli5_category_validation.json.gz"), "rt", encoding="utf-8") as file:
        posts = json.load(file)
    for texts in ([p["title"] for p in posts], [p["answers"]["text"][0] for p in posts]):
        known = [code for code, _ in language.languages(texts) if code]
        assert len(known) > 0.95 * len(texts)
        assert sum(code == "en" for code in known) > 0.97 * len(known)
    answers = [text for p in posts for text in p["answers"]["text"]]
    assert sum(language.foreign(text, "en") for text in answers) <= 0.001 * len(answers)
