"""Latin letters or others: by most of the letters, whatever signs, digits and quoted words stand among them."""

import pytest

from s2utils.alphabet import latin, note

LATIN = [
    "",
    "1, 2, 3.",
    "😀 …",
    "The sun is a star.",
    "Größe, çà et là, đường, Łódź",
    "ﬁne ａｂｃ",
    "The sign 水 means water.",
    "① ②",
]
OTHER = {
    "Thai": "ดวงอาทิตย์เป็นดาวฤกษ์ และให้แสงแก่เรา",
    "Chinese": "太阳是一颗恒星。它给我们光和热。",
    "Russian": "Солнце — это звезда. Оно даёт нам свет и тепло.",
    "Korean": "태양은 별입니다. 태양은 우리에게 빛을 줍니다.",
    "Greek": "Ο ήλιος είναι ένα αστέρι.",
    "Arabic": "الشمس نجم يعطينا الضوء.",
    "Hindi": "सूरज एक तारा है। वह हमें दिन में रोशनी देता है।",
}


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
