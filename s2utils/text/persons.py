"""Whom a text speaks of: pronouns by gender and person, and descriptors of people along axes.

Lists of words and whether a text holds them as whole words, case ignored. They find words, not meanings: a count is no
measure of bias, but a group that hardly occurs cannot be learnt about. The pronouns are those of Llama 2's table, the
axes HolisticBias's; the descriptors are a short list of ours, with all that Llama 2's table names. Words that mostly
mean something else (straight, black, white, old) stand in phrases only. Trap: the words are English; `i` is an article
in Italian. Sources: Touvron et al. 2023, Llama 2, Table 9; Smith et al. 2022, HolisticBias.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np

_SHE = ("she", "her", "hers", "herself")
_HE = ("he", "him", "his", "himself")
_THEY = ("they", "them", "their", "theirs", "theirself", "themself", "themselves")

GENDERS = {"she": _SHE, "he": _HE, "unspecified": _THEY}
PERSONS = {
    "1st person": ("i", "me", "my", "mine", "myself", "we", "us", "our", "ours", "ourselves"),
    "2nd person": ("you", "your", "yours", "yourself", "yourselves"),
    "3rd person": (*_SHE, *_HE, *_THEY, "it", "its", "itself"),
}
PRONOUNS = GENDERS | PERSONS
DESCRIPTORS = {
    "gender and sex": ("female", "male", "feminine", "masculine", "transgender", "trans woman", "trans man",
                       "nonbinary", "non-binary", "cisgender", "intersex"),
    "sexual orientation": ("gay", "lesbian", "bisexual", "heterosexual", "homosexual", "asexual", "queer", "lgbt",
                           "lgbtq", "straight people", "straight man", "straight woman"),
    "race and ethnicity": ("asian", "african", "african american", "european", "hispanic", "latin", "latino", "latina",
                           "arab", "indigenous", "native american", "caucasian", "black people", "white people",
                           "black man", "white man", "black woman", "white woman", "people of color"),
    "nationality": ("american", "british", "canadian", "chinese", "english", "french", "german", "greek", "indian",
                    "irish", "italian", "japanese", "korean", "mexican", "nigerian", "pakistani", "polish", "russian",
                    "spanish", "turkish"),
    "religion": ("christian", "catholic", "protestant", "jewish", "jew", "muslim", "islamic", "hindu", "buddhist",
                 "sikh", "mormon", "atheist", "religious", "spiritual"),
    "age": ("young", "elderly", "teenage", "teenager", "adult", "middle-aged", "old people", "old man", "old woman",
            "senior citizen"),
    "ability": ("disabled", "blind", "deaf", "autistic", "dyslexic", "paralyzed", "paralysed", "wheelchair"),
}  # fmt: skip

WORD = re.compile(r"\w+")
_NO_PRONOUN = re.compile(r"\bUS\b|\b[Ii]\.[Ee]\b")
_SINGULAR = frozenset(word for words in PRONOUNS.values() for word in words)


def holds(texts: Iterable[str], terms: Iterable[str]) -> np.ndarray:
    """Whether each text holds each term, Boolean, (texts, terms).

    Terms are in lower case, of one word or several with a blank or hyphen between; the plural in -s of one that is no
    pronoun counts too. US is no pronoun, nor is the i of i.e. One pass a text, however many terms.
    """
    columns: dict[str, list[int]] = {}  # a single word → its terms
    phrases: dict[str, list[tuple[int, re.Pattern]]] = {}  # the first word of a phrase → phrases that begin with it
    width = 0
    for column, term in enumerate(terms):
        width = column + 1
        first, *rest = re.split("[ -]", term)
        plural = "" if term in _SINGULAR else "s?"
        if rest:
            spaced = r"[\s-]".join(map(re.escape, (first, *rest)))
            phrases.setdefault(first, []).append((column, re.compile(rf"\b{spaced}{plural}\b")))
        else:
            for word in (term, term + "s") if plural else (term,):
                columns.setdefault(word, []).append(column)
    rows = []
    for text in texts:
        row = np.zeros(width, dtype=bool)
        lowered = (_NO_PRONOUN.sub(" ", text) if "US" in text or ".e" in text or ".E" in text else text).lower()
        words = set(WORD.findall(lowered))
        for word in words & columns.keys():
            row[columns[word]] = True
        for word in words & phrases.keys():
            for column, form in phrases[word]:
                row[column] = form.search(lowered) is not None
        rows.append(row)
    return np.array(rows).reshape(len(rows), width)
