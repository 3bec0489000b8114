import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2utils.text.sentences import sentences


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", []),
        (" \n\n ", []),
        ("One", ["One"]),
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ('He said "No." She (too.) left.', ['He said "No."', "She (too.)", "left."]),
        ("A heading\n\nIts text goes\non here.", ["A heading", "Its text goes\non here."]),
        ("It is 3.14 of them.", ["It is 3.14 of them."]),
    ],
)
def test_a_text_is_cut_after_its_signs_and_at_blank_lines(text, parts):
    assert sentences(text) == parts


@given(st.text(st.sampled_from("ab.!?\"') \n\t"), max_size=60))
def test_nothing_but_white_space_is_lost(text):
    parts = sentences(text)
    assert re.sub(r"\s", "", "".join(parts)) == re.sub(r"\s", "", text)
    assert all(part == part.strip() and part for part in parts)
    assert [piece for part in parts for piece in sentences(part)] == parts
