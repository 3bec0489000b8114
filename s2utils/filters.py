"""Cleaning, and the filter that defines "simple and safe" (S²); every dropped record has a reason.

The order is the study's: clean the text, then drop by length, question, ease and grade; then, for
fine-tuning only, posts with several answers left, few votes, toxicity.
Trap: a text without words scores as very easy in some readability libraries; here it is dropped first.
"""

from __future__ import annotations

import html
import re
from collections import Counter

import numpy as np
import pandas as pd

from s2utils.params import S2
from s2utils.readability import flesch, words
from s2utils.toxicity import toxicity

_QUOTED = re.compile(r"^[ \t]*(?:>|&gt;).*$", re.MULTILINE)
_LINK = re.compile(r"\[([^\[\]]*)\]\([^()\s]*\)")
_URL = re.compile(r"_url_\d+_|https?://\S+|www\.\S+")
_BULLET = re.compile(r"^[ \t]*(?:(?:#{1,6}|[*+-])[ \t]+)+", re.MULTILINE)  # and headings
_MARKS = re.compile(r"\*\*\*|\*\*|~~|__|`+|(?<!\w)\*(?=\S)|(?<=\S)\*(?!\w)")
_CONTROL = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
_MARKUP = re.compile(r"\{\||\|\}|\[\[|\]\]|\{\{|\}\}|<ref|</?table|\bthumb\||\bpx\|", re.IGNORECASE)
_META = re.compile(r"^\s*\[?(meta|mod post|announcement|open thread|megathread|weekly|monthly)\b", re.IGNORECASE)
_ASKS = re.compile(
    r"\?|\b(why|how|what|when|where|who|whom|whose|which|eli5|explain|difference between|is it|are there|do|does|can)\b",
    re.IGNORECASE,
)


LAYERS = 30  # how deep marks may lie in marks (&amp;amp;gt;) before a text is taken for an attack


def clean(text: str) -> str:
    """Text without markdown, quoted passages, URLs and control characters, white space squeezed.

    Cleaning a clean text changes nothing. A text that is still not clean after `LAYERS` passes comes back empty.
    """
    for _ in range(LAYERS):
        before, text = text, _clean_once(text)
        if text == before:
            return text
    return ""


def _clean_once(text: str) -> str:
    text = html.unescape(text).replace("\r\n", "\n").replace("\r", "\n")
    text = _CONTROL.sub("", text)
    text = _QUOTED.sub("", text)
    text = _LINK.sub(r"\1", text)
    text = _URL.sub("", text)
    text = _BULLET.sub("", text)
    text = _MARKS.sub("", text)
    return squeeze(text)


def squeeze(text: str) -> str:
    """Runs of white space as one space; paragraph breaks stay."""
    paragraphs = [" ".join(p.split()) for p in re.split(r"\n\s*\n", text)]
    return "\n\n".join(p for p in paragraphs if p)


def leading_paragraphs(text: str, enough: int) -> str:
    """Whole leading paragraphs until they hold `enough` words."""
    kept, count = [], 0
    for paragraph in text.split("\n\n"):
        kept.append(paragraph)
        count += len(words(paragraph))
        if count >= enough:
            break
    return "\n\n".join(kept)


def asks(title: str, body: str = "") -> bool:
    """Whether a post holds a question: meta posts and open threads do not."""
    return not _META.match(title) and bool(_ASKS.search(f"{title} {body}"))


def rejection(record: dict, kind: str, s2: S2) -> str:
    """Why a cleaned record is dropped, "" where it stays. `record` also holds fre, fkg and n_words."""
    if not record["answer"]:
        return "empty answer"
    if record["n_words"] < s2.min_words[kind]:
        return f"under {s2.min_words[kind]} words"
    if kind == "articles" and record["n_words"] > s2.max_words:
        return f"over {s2.max_words} words"
    if kind == "articles" and _MARKUP.search(record["answer"]):
        return "markup left"
    if kind == "qa" and not record["question"]:
        return "empty question"
    if kind == "posts" and not asks(record["question"], record["body"]):
        return "no question"
    if not record["fre"] >= s2.fre_min:
        return f"reading ease under {s2.fre_min:g}"
    if not record["fkg"] < s2.fkg_max:
        return f"grade {s2.fkg_max:g} or above"
    return ""


def measure(records: list[dict], kind: str, s2: S2, progress=iter) -> pd.DataFrame:
    """One row per record, cleaned, with n_words, fre, fkg and `dropped` (the reason, or "")."""
    rows = []
    for record in progress(records):
        answer = clean(record["answer"])
        if kind == "articles":
            answer = leading_paragraphs(answer, s2.paragraph_words)
        row = record | {"question": clean(record["question"]), "body": clean(record["body"]), "answer": answer}
        row["fre"], row["fkg"] = flesch(answer, s2.readability)
        row["n_words"] = len(words(answer))
        row["dropped"] = rejection(row, kind, s2)
        row["question"] = "\n".join(part for part in (row["question"], row.pop("body")) if part)
        rows.append(row)
    return pd.DataFrame(rows)


def drop(frame: pd.DataFrame, mask: pd.Series, reason: str) -> None:
    """Mark the rows of `mask` that are still kept as dropped for `reason`, in place."""
    frame.loc[mask & (frame["dropped"] == ""), "dropped"] = reason


def drop_duplicates(frame: pd.DataFrame) -> None:
    """Drop repeated answers, and repeated question-answer pairs, keeping the first."""
    kept = frame[frame["dropped"] == ""]
    again = kept["answer"].str.casefold().duplicated()
    drop(frame, frame.index.isin(again[again].index), "duplicate answer")


def drop_several_answers(frame: pd.DataFrame) -> None:
    """Posts with several surviving answers belong to reward modelling (as in the study), not to fine-tuning."""
    kept = frame[frame["dropped"] == ""]
    several = kept.groupby(kept["id"].str.rsplit("/", n=1).str[0])["id"].transform("size") > 1
    drop(frame, frame.index.isin(several[several].index), "several answers (kept for reward modelling)")


def drop_unpopular(frame: pd.DataFrame, s2: S2) -> None:
    """Drop answers with too few votes; records without votes stay."""
    drop(frame, frame["score"].notna() & (pd.to_numeric(frame["score"]) < s2.score_min), f"under {s2.score_min} votes")


def drop_toxic(frame: pd.DataFrame, s2: S2) -> None:
    """Drop answers with a toxicity label over the limit; only answers still kept are scored."""
    kept = frame[frame["dropped"] == ""]
    scores = toxicity(kept["answer"].tolist(), s2.toxicity_model)
    drop(frame, frame.index.isin(kept.index[scores > s2.toxicity_max]), f"toxicity over {s2.toxicity_max:g}")


def drop_beyond(frame: pd.DataFrame, keep: int, seed: int, reason: str) -> None:
    """Keep a seeded sample of `keep` of the rows still kept."""
    kept = frame.index[frame["dropped"] == ""].to_numpy(copy=True)
    if len(kept) > keep:
        beyond = np.random.default_rng(seed).permutation(kept)[keep:]
        drop(frame, frame.index.isin(beyond), reason)


def funnel(frame: pd.DataFrame, unreadable: Counter) -> pd.DataFrame:
    """One row per reason: dataset, reason, n. kept + dropped = read is asserted."""
    dataset = frame["dataset"].iat[0]
    counts = Counter(unreadable) + Counter(frame["dropped"].where(frame["dropped"] != "", "kept"))
    read = len(frame) + sum(unreadable.values())
    assert sum(counts.values()) == read, "a record was lost"
    kept = counts.pop("kept", 0)
    rows = [("read", read), *counts.most_common(), ("kept", kept)]
    return pd.DataFrame([{"dataset": dataset, "reason": r, "n": n} for r, n in rows])
