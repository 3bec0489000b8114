"""Describe questions and answers: shares with intervals, what the limits cost, vocabulary, repeats.

Shares are 0–1, with n and a Wilson interval; means with a bootstrap interval. Trap: both take rows for
independent draws, and several answers to one post are not, so for posts the intervals are a little narrow.
Source: Dale & Chall 1948 (easy words).
"""

from __future__ import annotations

import functools
import importlib.resources
import itertools
import math
import re
from collections.abc import Callable

import pandas as pd

from s2utils.stats import intervals

CONFIDENCE = 0.95
RESAMPLES = 1000

KINDS = ("why", "how", "what", "who", "when", "where", "which")
_KIND = re.compile(rf"\b({'|'.join(KINDS)})\b")
_YES_NO = re.compile(
    r"(?:am|is|are|was|were|do|does|did|can|could|will|would|should|has|have|had|may|might|must)(?:n['’]t)?\b"
)
_TAG = re.compile(r"^\W*(?:eli\s?5|explain like i['’]?m (?:5|five))\b\W*")  # r/explainlikeimfive wants it in front

STOPWORDS = (
    "a about after all also although always an and another any are around as at away back basically be because been "
    "before being between both but by called came can come could day did different do does doesn don down each either "
    "else end even every far few first for from get gets getting give given go goes going good got had has have haven "
    "having he her here high him his how however i if in instead into is isn it its just keep kind know known large "
    "last less let like little ll long look lot lots made make makes making many may maybe me mean means might more "
    "most much must my need never new no not now number of off often on once one only or other others our out over own "
    "part people probably put quite rather re really right said same say see she should simply since small so some "
    "someone something sometimes still such sure take tell than that the their them then there these they thing "
    "things think this those though three through time times to too try two under up us use used uses using usually "
    "ve very want was way ways we well were what when where whether which while who whole why will with within without "
    "won work works would years yes yet you your"
).split()

_WORD = re.compile(r"[A-Za-z]+(?:['’-][A-Za-z]+)*")
_ENDINGS = ("'s", "s", "es", "d", "ed", "ing", "ly", "er", "est")


def shares(frame: pd.DataFrame, by: list[str], column: str, name: str = "share") -> pd.DataFrame:
    """Share of rows where the Boolean `column` holds, by group of `by`: n, <name>, <name>_ci_low, <name>_ci_high."""
    return _by_group(frame, by, column, name, lambda hits: intervals.share(int(hits.sum()), len(hits), CONFIDENCE))


def means(frame: pd.DataFrame, by: list[str], column: str, seed: int) -> pd.DataFrame:
    """Mean of `column` by group of `by`: n, <column>, <column>_ci_low, <column>_ci_high; NaNs left out."""
    bootstrap = functools.partial(intervals.bootstrap, resamples=RESAMPLES, confidence=CONFIDENCE, seed=seed)
    return _by_group(frame, by, column, column, bootstrap)


def _by_group(frame: pd.DataFrame, by: list[str], column: str, name: str, estimate: Callable) -> pd.DataFrame:
    """One row per group of `by`: n, the (value, low, high) that `estimate` gives of its values."""
    groups = frame.groupby(by, sort=False, observed=True)[column]
    rows = [(*key, values.notna().sum(), *estimate(values)) for key, values in groups]
    return pd.DataFrame(rows, columns=[*by, "n", name, f"{name}_ci_low", f"{name}_ci_high"])


def spread(frame: pd.DataFrame, by: list[str], column: str) -> pd.DataFrame:
    """Share of every value of `column` within each group of `by`: one row per (group, value), as `shares`.

    Values that a group does not have come with a share of 0.
    """
    values = sorted(frame[column].unique()) or [""]  # the columns, were there no row
    parts = [shares(frame.assign(_is=frame[column] == value), by, "_is").assign(**{column: value}) for value in values]
    return pd.concat(parts, ignore_index=True)[[*by, column, "n", "share", "share_ci_low", "share_ci_high"]]


def limits(frame: pd.DataFrame, ease: list[float], grade: list[float]) -> pd.DataFrame:
    """Share kept under every pair of limits (FRE at least, FKG below): one row per (dataset, fre_min, fkg_max)."""
    parts = []
    for fre_min, fkg_max in itertools.product(ease, grade):
        kept = frame.assign(_kept=(frame["fre"] >= fre_min) & (frame["fkg"] < fkg_max))
        parts.append(shares(kept, ["dataset"], "_kept", "kept").assign(fre_min=fre_min, fkg_max=fkg_max))
    return pd.concat(parts, ignore_index=True)[
        ["dataset", "fre_min", "fkg_max", "n", "kept", "kept_ci_low", "kept_ci_high"]
    ]


def question_kind(question: str) -> str:
    """What the first line of a question asks: its first question word, "yes/no", "explain" or "other"."""
    title = _TAG.sub("", question.strip().partition("\n")[0].casefold())
    if _YES_NO.match(title):
        return "yes/no"
    if word := _KIND.search(title):
        return word.group(1)
    return "explain" if "explain" in title or "difference between" in title else "other"


def repeats(texts: pd.Series) -> pd.Series:
    """Whether a text stood in an earlier row already, case and white space aside (exact: `texts.duplicated()`)."""
    return texts.str.casefold().str.split().str.join(" ").duplicated()


@functools.cache
def easy_words() -> frozenset[str]:
    """The Dale–Chall list: about 2,900 words that four in five American fourth-graders knew, as textstat ships it."""
    file = importlib.resources.files("textstat") / "resources" / "en" / "easy_words.txt"
    return frozenset(file.read_text(encoding="utf-8").split())


@functools.lru_cache(maxsize=200_000)
def is_easy(word: str) -> bool:
    """Whether a word in lower case is on the list, or comes from a listed one by a simple ending.

    As in Dale and Chall's rules plurals, -ed, -ing, -ly, -er, -est and possessives of easy words are easy, and
    a hyphenated word whose parts are. The endings are cut by spelling alone: stop-p-ed, hik(e)-ing, carr(y)-ied.
    """
    if word in easy_words():
        return True
    if "-" in word:
        return all(map(is_easy, word.split("-")))
    for ending in _ENDINGS:
        stem = word.removesuffix(ending)
        if stem == word or len(stem) < 2:
            continue
        guesses = [stem]
        if ending not in ("'s", "s"):
            guesses += [f"{stem}e"] * (ending in ("ing", "er", "est"))
            guesses += [stem[:-1]] * (len(stem) > 3 and stem[-1] == stem[-2])
            guesses += [f"{stem[:-1]}y"] * stem.endswith("i")
        if not easy_words().isdisjoint(guesses):
            return True
    return False


def easy_share(text: str) -> float:
    """Share of easy words, NaN without any. Capitalised words are left out: a name is not a hard word."""
    words = [word.replace("’", "'") for word in _WORD.findall(text) if word[0].islower()]
    return sum(map(is_easy, words)) / len(words) if words else math.nan
