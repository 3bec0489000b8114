"""Latin letters or others: by most of the letters, whatever signs, digits and quoted words stand among them."""

import pytest
from conftest import OTHER

from s2utils.text.alphabet import latin, note

SIGNS = ["", "1, 2, 3.", "😀 …", "① ②"]
LATIN = [
    *SIGNS,
    "The sun is a star.",
    "Größe, çà et là, đường, Łódź",
    "ﬁne ａｂｃ",
    "The sign 水 means water.",
    "ab 水火",
]


@pytest.mark.parametrize("text", LATIN)
def test_latin_letters(text):
    assert latin(text)


@pytest.mark.parametrize("text", OTHER.values(), ids=OTHER)
def test_other_letters(text):
    assert not latin(text)
    assert not latin(f"{text} (see 3 and 4, NASA)")
    assert latin(f"The words of this sentence are English, and so is most of what is said here: {text[:9]}")


def test_a_caption_counts_them_and_is_silent_where_there_is_none():
    assert note([*LATIN, *OTHER.values()], "ROUGE").startswith(f" {len(OTHER)} not in Latin letters")
    assert note(LATIN, "ROUGE") == ""
