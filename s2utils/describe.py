"""Describe questions and answers: kinds of question, frequent words, what the S² limits would cost."""

from __future__ import annotations

import re
from collections import Counter

import pandas as pd

KINDS = ("why", "how", "what", "who", "when", "where", "which")
STOPWORDS = set(
    "a about after all also an and any are as at be because been before being between both but by can could did do "
    "does each for from get had has have he her him his how i if in into is it its just like made make many may me "
    "more most much my new no not now of off on one only or other our out over own part same she so some such than "
    "that the their them then there these they this those through time to two under up use used very was way we "
    "well were what when where which while who why will with would you your first called known".split()
)


def question_kind(question: str) -> str:
    """First question word of a question, or "other"."""
    found = re.search(rf"\b({'|'.join(KINDS)})\b", question.casefold())
    return found.group(1) if found else "other"


def top_words(texts: list[str], n: int) -> pd.DataFrame:
    """The `n` words in most texts, function words left out: word, share of texts (0–1)."""
    counts: Counter = Counter()
    for text in texts:
        counts.update(set(re.findall(r"[a-z]{3,}", text.casefold())) - STOPWORDS)
    return pd.DataFrame([(w, c / len(texts)) for w, c in counts.most_common(n)], columns=["word", "share"])


def share_kept(frame: pd.DataFrame, ease: list[float], grade: list[float]) -> pd.DataFrame:
    """Share of answers kept under every pair of limits: rows FRE at least, columns FKG below."""
    return pd.DataFrame(
        [[((frame["fre"] >= e) & (frame["fkg"] < g)).mean() for g in grade] for e in ease],
        index=pd.Index(ease, name="FRE at least"),
        columns=pd.Index(grade, name="FKG below"),
    )
