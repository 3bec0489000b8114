"""Flesch reading ease (higher is easier) and Flesch-Kincaid grade (US school years, lower is easier).

    FRE = 206.835 − 1.015 · words/sentences − 84.6 · syllables/words
    FKG = 0.39 · words/sentences + 11.8 · syllables/words − 15.59

Trap: the syllable counter moves FRE by about 8 points, so every table names it. Two back ends:
`pyphen` counts as textstat 0.7.3 did, which the study used (hyphenation points; both ratios rounded to
one decimal before the formula). That release cannot be installed beside current packages, so its
counting rules are restated here. `cmudict` is textstat 0.7.8 (CMU pronouncing dictionary).
Source: Flesch 1948; Kincaid et al. 1975.
"""

from __future__ import annotations

import functools
import math
import re

import pyphen
import textstat

BACKENDS = ("pyphen", "cmudict")
_PUNCTUATION = re.compile(r"[^\w\s]")
_SENTENCE = re.compile(r"\b[^.!?]+[.!?]*")
_HYPHENS = pyphen.Pyphen(lang="en_US")


def flesch(text: str, backend: str = "pyphen") -> tuple[float, float]:
    """(FRE, FKG) of a text; (nan, nan) for a text without a word, which would otherwise score as easy."""
    if backend not in BACKENDS:
        raise ValueError(f"unknown readability back end {backend!r}; known: {', '.join(BACKENDS)}")
    if not words(text):
        return math.nan, math.nan
    if backend == "cmudict":
        return textstat.flesch_reading_ease(text), textstat.flesch_kincaid_grade(text)
    bare = words(text)
    sentence_words = _round(len(bare) / _sentences(text), 1)
    word_syllables = _round(sum(_syllables(w.lower()) for w in bare) / len(bare), 1)
    ease = 206.835 - 1.015 * sentence_words - 84.6 * word_syllables
    grade = 0.39 * sentence_words + 11.8 * word_syllables - 15.59
    return _round(ease, 2), _round(grade, 1)


def words(text: str) -> list[str]:
    """Words as readability counts them: runs between white space, punctuation removed."""
    return _PUNCTUATION.sub("", text).split()


def _sentences(text: str) -> int:
    """Stretches up to . ! or ?, those of one or two words left out; at least 1."""
    return max(1, sum(len(words(s)) > 2 for s in _SENTENCE.findall(text)))


@functools.lru_cache(maxsize=200_000)
def _syllables(word: str) -> int:
    return len(_HYPHENS.positions(word)) + 1


def _round(number: float, points: int) -> float:
    """Round as textstat 0.7.3 does: half up, but a number below zero goes down (−2.347 becomes −2.4)."""
    scale = 10**points
    return math.floor(number * scale + math.copysign(0.5, number)) / scale
