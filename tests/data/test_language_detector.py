import pandas as pd
import pytest

from s2utils.data import language_detector
from s2utils.data.language_detector import NOT_KNOWN
from s2utils.text import language

GERMAN = "Die Sonne ist heiß und groß. Sie gibt uns am Tag Licht, und in der Nacht sehen wir den Mond."
ENGLISH = "The sun is hot and big. It gives us light in the day. At night we see the moon and the stars in the sky."


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("English", "en"), ("german", "de"), ("Bengali", "bn"), ("Portugese", "pt"), ("Nynorsk", "nn"),
        ("Alemannic", "als"), ("Tosk Albanian", "sq"), ("Cajamarca Quechua", "qu"), ("Tetelcingo Nahuatl", "nah"),
        ("Oksapmin", NOT_KNOWN), ("Anglo-Saxon", NOT_KNOWN), ("", NOT_KNOWN),
    ],
)  # fmt: skip
def test_the_code_of_a_language_by_its_name(name, code):
    assert language_detector.code(name) == code


def test_errors_by_language_and_those_not_known_last():
    rows = [(GERMAN, "de"), (ENGLISH, "de"), ("", "de"), (ENGLISH, "en"), (ENGLISH, NOT_KNOWN), ("", NOT_KNOWN)]
    table = language_detector.errors(pd.DataFrame(rows, columns=["text", "code"])).set_index("language")
    assert table.index.tolist() == ["de", "en", NOT_KNOWN] and table["n"].tolist() == [3, 1, 2]
    assert table["error"].tolist() == [2 / 3, 0, 1 / 2]
    assert table["unknown"].tolist() == [1 / 3, 0, 1 / 2]
    assert table["taken_for"].tolist() == ["en", "", "en"]
    assert (table["error_ci_low"] <= table["error"]).all() and (table["error_ci_high"] >= table["error"]).all()


def test_a_threshold_above_one_tells_nothing():
    table = language_detector.errors(pd.DataFrame({"text": [ENGLISH] * 2, "code": ["en", NOT_KNOWN]}), threshold=1.1)
    assert table["error"].tolist() == [1, 0] and table["unknown"].tolist() == [1, 1]


def test_a_thousand_languages_of_which_most_codes_are_known():
    sentences = language_detector.sentences()
    assert len(sentences) == 10_000 and sentences["language"].nunique() == 1000
    known = sentences[sentences["code"] != NOT_KNOWN]
    assert set(known["code"]) <= language.codes() and known["code"].nunique() == 167
    table = language_detector.errors(known.groupby("code").head(2))
    large = table.set_index("language").loc[["en", "de", "fr", "es", "ru", "zh", "ja", "ar"], "error"]
    assert large.mean() < 0.2 < table["error"].mean()  # of what the web is written in few, of small languages many
