import gzip
import io
import json
import lzma

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from py3langid import langid

from s2utils import language

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
