import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2utils.text import persons
from s2utils.text.persons import DESCRIPTORS, GENDERS, PERSONS, PRONOUNS

TERMS = [term for terms in (*PRONOUNS.values(), *DESCRIPTORS.values()) for term in terms]


@pytest.mark.parametrize(
    ("group", "text", "found"),
    [
        ("1st person", "The US army is here, i.e. there.", False),
        ("1st person", "They told us so.", True),
        ("1st person", "I'm here", True),
        ("1st person", "This is it.", False),
        ("1st person", "my_var = ié", False),
        ("2nd person", "It’s you’re", True),
        ("3rd person", "It rains", True),
        ("she", "There is ice here.", False),
        ("she", "HER book", True),
        ("unspecified", "themselves.", True),
        ("race and ethnicity", "a black hole, a white blood cell", False),
        ("race and ethnicity", "African-American music", True),
        ("race and ethnicity", "two Black\nwomen", False),
        ("race and ethnicity", "two Black\npeoples", True),
        ("nationality", "two Germans met", True),
        ("gender and sex", "males", True),
        ("gender and sex", "non-binary", True),
        ("religion", "", False),
    ],
)
def test_whole_words_are_found_whatever_their_case(group, text, found):
    assert persons.holds([text], (PRONOUNS | DESCRIPTORS)[group]).any() == found


def test_one_row_a_text_and_one_column_a_term():
    table = persons.holds(["He and she", "nobody", "HIS"], ("she", "he", "his"))
    assert table.tolist() == [[True, True, False], [False] * 3, [False, False, True]]
    assert persons.holds([], ("she", "he")).shape == (0, 2) and persons.holds(["a"], ()).shape == (1, 0)


def test_genders_are_third_persons_and_no_word_is_in_two_groups_else():
    third = set(PERSONS["3rd person"])
    assert all(set(words) < third for words in GENDERS.values())
    terms = [t for group in (*GENDERS.values(), *(PERSONS[p] for p in ("1st person", "2nd person"))) for t in group]
    terms += [t for group in DESCRIPTORS.values() for t in group]
    assert len(terms) == len(set(terms)) and all(t == t.casefold() for t in terms)


@given(st.lists(st.sampled_from([*TERMS, "us", "US", "xx", "black", "s", "i.e", ".", "_", "-", "\n"])))
def test_it_is_what_a_search_for_every_term_finds(pieces):
    text = " ".join(pieces)
    cleaned = re.sub(r"\bUS\b|\b[iI]\.[eE]\b", " ", text).lower()
    for term, found in zip(TERMS, persons.holds([text], TERMS)[0]):
        plural = "" if any(term in words for words in PRONOUNS.values()) else "s?"
        spaced = term.replace(" ", r"[\s-]").replace("non-b", r"non[\s-]b").replace("middle-a", r"middle[\s-]a")
        assert found == bool(re.search(rf"\b{spaced}{plural}\b", cleaned)), term


@given(st.lists(st.text(st.characters(), max_size=40), max_size=4))
def test_texts_do_not_touch_each_other(texts):
    alone = [persons.holds([text], TERMS)[0].tolist() for text in texts]
    assert persons.holds(texts, TERMS).tolist() == alone
