"""Cleaning, and the filter that defines "simple and safe" (S²): small steps on one record, named in params.

`s2.steps` lists them for each kind of source, in order. A text step (text → text) is applied to answer,
question and body; a rule says why a record is dropped, "" where it stays. Steps that compare records are in
`corpus`. Cleaning takes marks away and leaves what people wrote. Trap: a text without words scores as very easy
in some readability libraries; here it is dropped first. Source: the study's section on data.
"""

from __future__ import annotations

import functools
import html
import itertools
import math
import re

import pandas as pd

from s2utils.data.parameters import S2
from s2utils.text import pii
from s2utils.text.language import foreign
from s2utils.text.readability import measure as readability
from s2utils.text.readability import words

COLUMNS = ["dataset", "id", "post", "question", "answer", "score", "group", "n_words", "fre", "fkg", "dropped"]

_CONTROL = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
_QUOTED = re.compile(r"^[ \t]*>(?!!).*$", re.MULTILINE)  # >! opens a spoiler
_SPOILER = re.compile(r">!((?:(?!>!|!<).)*+)!<", re.DOTALL)
_OPENED = re.compile(r"^[ \t]*>!", re.MULTILINE)  # a spoiler that nobody closed
_LINK = re.compile(  # …/Foo_(bar) is common; a title may follow
    r"\[([^\[\]]*)\]\([ \t]*+(?:[^()\s]|\([^()\s]*\))*+(?:[ \t]++(?:\"[^\"\n]*\"|'[^'\n]*'))?+[ \t]*+\)"
)
_ESCAPE = re.compile(r"^[ \t]*\\>|\\([]*_#>~`[()+.!^|-])", re.MULTILINE)  # \> at the start of a line is no quote
_PLACEHOLDER = re.compile(r"_(?:url|URL)_\d+_|\bURL_\d+\b")  # copies of ELI5: _url_0_, _URL_0_, URL_0
_URL = re.compile(r"(?:https?://|www\.)\S+")
_ENDS = frozenset(".,;:!?…\"'”’»")  # of a sentence, not of a URL
_BULLET = re.compile(r"^[ \t]*(?:(?:#{1,6}|[*+-])[ \t]+)+", re.MULTILINE)  # and headings
_LEADS = frozenset(" \t#*+-")  # what a line must begin with to hold a bullet
_MARKS = re.compile(r"\*\*\*|\*\*|~~|__|`+")
_SLANTED = re.compile(  # a single * is a footnote, one within a word a letter or "times"
    r"(?<![^\s(\"'“‘\[_/–—-])\*(?=\S)((?:[^*\n]|\n(?!\s*\n))*+)(?<=\S)\*"
)
_PARAGRAPHS = re.compile(r"\n\s*\n")
_MARKUP = re.compile(r"\{\||\|\}|\[\[|\]\]|\{\{|\}\}|<ref|</?table|\bthumb\||\bpx\|", re.IGNORECASE)
_META = re.compile(
    r"^\s*(?:\[\s*(?:meta|mod post|announcement)\s*\]|(?:meta|mod post|announcement)\s*:"
    r"|(?:open|weekly|monthly|daily|mega)[ -]?(?:thread|question|discussion))",
    re.IGNORECASE,
)
_ASKS = re.compile(
    r"\?|\b(why|how|what|when|where|who|whom|whose|which|eli5|explain|difference between|is it|are there|do|does|can)"
    r"\b",
    re.IGNORECASE,
)

LAYERS = 30  # how deep marks may lie in marks (&amp;amp;gt;) before a text is taken for an attack


# Text steps: text → text


def unescape(text: str) -> str:
    """HTML entities, however deep, as their characters; control characters gone; line ends as one line feed."""
    for _ in range(LAYERS):
        if "&" not in text or (plain := html.unescape(text)) == text:
            break
        text = plain
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text if text.replace("\n", "").isprintable() else _CONTROL.sub("", text)


def strip_markdown(text: str) -> str:
    """Links and spoilers as their text, escaped characters as themselves; bullets, headings, bold, code marks gone."""
    if "\\" in text:
        text = _ESCAPE.sub(r"\1", text)
    if ">!" in text:
        inner = _SPOILER.sub(r"\1", text)
        text = inner if inner != text else _OPENED.sub("", text)
    if "](" in text:
        text = _LINK.sub(r"\1", text)
    if "\n" in text or text[:1] in _LEADS:
        text = _BULLET.sub("", text)
    if "*" in text or "`" in text or "~~" in text or "__" in text:
        text = _SLANTED.sub(r"\1", _MARKS.sub("", text))
    return text


def drop_quotes(text: str) -> str:
    """Quoted lines (`> …`) gone."""
    return _QUOTED.sub("", text) if ">" in text else text


def drop_urls(text: str) -> str:
    """URLs and their placeholders (`_url_0_`) gone; punctuation after them stays."""
    if "_url_" in text or "URL_" in text:
        text = _PLACEHOLDER.sub("", text)
    return _URL.sub(_after_url, text) if "://" in text or "www." in text else text


def _after_url(match: re.Match) -> str:
    """What stands at the end of a URL and is not part of it: punctuation, and brackets that it did not open."""
    url = match[0]
    end, spare = len(url), url.count(")") - url.count("(")
    while end and (url[end - 1] in _ENDS or (url[end - 1] == ")" and spare > 0)):
        end -= 1
        spare -= url[end] == ")"
    return url[end:]


def squeeze(text: str) -> str:
    """Runs of white space as one space; paragraph breaks stay."""
    if "\n" not in text:
        return " ".join(text.split())
    paragraphs = [" ".join(p.split()) for p in _PARAGRAPHS.split(text)]
    return "\n\n".join(p for p in paragraphs if p)


def mask_personal(text: str) -> str:
    """E-mail addresses, phone numbers and user names as [e-mail], [phone], [user]. Beyond the study."""
    return pii.mask(text, ("e-mail", "user", "phone"))


TEXT_STEPS = {f.__name__: f for f in (unescape, strip_markdown, drop_quotes, drop_urls, squeeze, mask_personal)}
CLEANING = ("unescape", "strip_markdown", "drop_quotes", "squeeze", "drop_urls", "squeeze")  # the study's order


def clean(text: str, names: tuple[str, ...] = CLEANING) -> str:
    """`text` after the text steps `names`, in order, again and again until nothing changes.

    So cleaning a clean text changes nothing. A text that never settles comes back empty.
    """
    for _ in range(LAYERS):
        before = text
        for name in names:
            text = TEXT_STEPS[name](text)
        if text == before:
            return text
    return ""


@functools.lru_cache(maxsize=4)  # the answers to one post come one after the other
def _clean_question(question: str, body: str, names: tuple[str, ...]) -> tuple[str, str]:
    return clean(question, names), clean(body, names)


@functools.lru_cache(maxsize=1)  # one rule after the other asks for it
def _measured(text: str, backend: str) -> dict:
    return dict(zip(("n_words", "fre", "fkg"), readability(text, backend)))


# Rules: a record with its measures → why it is dropped


def min_words(record: dict, kind: str, s2: S2) -> str:
    """Long enough to say something."""
    return f"under {s2.min_words[kind]} words" if record["n_words"] < s2.min_words[kind] else ""


def max_words(record: dict, kind: str, s2: S2) -> str:
    """Short enough to be an answer."""
    return f"over {s2.max_words} words" if record["n_words"] > s2.max_words else ""


def asks(record: dict, kind: str, s2: S2) -> str:
    """A post must hold a question: meta posts and open threads do not."""
    if kind == "posts":
        return "" if is_question(record["question"], record["body"]) else "no question"
    return "" if record["question"] else "empty question"


def reading_ease(record: dict, kind: str, s2: S2) -> str:
    """Simple: Flesch reading ease at least the limit."""
    if math.isnan(record["fre"]):
        return "reading ease not defined (not in Latin letters)"
    return "" if record["fre"] >= s2.fre_min else f"reading ease under {s2.fre_min:g}"


def grade(record: dict, kind: str, s2: S2) -> str:
    """Simple: Flesch-Kincaid grade below the limit."""
    if math.isnan(record["fkg"]):
        return "grade not defined (not in Latin letters)"
    return "" if record["fkg"] < s2.fkg_max else f"grade {s2.fkg_max:g} or above"


def markup(record: dict, kind: str, s2: S2) -> str:
    """No table or image markup left."""
    return "markup left" if _MARKUP.search(record["answer"]) else ""


def language(record: dict, kind: str, s2: S2) -> str:
    """In the wanted language; a text in its letters that is too short to tell stays. Beyond the study."""
    return f"not in language {s2.language}" if foreign(record["answer"], s2.language) else ""


RULES = {f.__name__: f for f in (min_words, max_words, asks, reading_ease, grade, markup, language)}
STEPS = (*TEXT_STEPS, "leading_paragraphs", *RULES)


def is_question(title: str, body: str = "") -> bool:
    """Whether a post asks something."""
    return not _META.match(title) and bool(_ASKS.search(f"{title} {body}"))


def leading_paragraphs(text: str, enough: int) -> str:
    """Whole leading paragraphs until they hold `enough` words."""
    kept, count = [], 0
    for paragraph in text.split("\n\n"):
        kept.append(paragraph)
        count += len(words(paragraph))
        if count >= enough:
            break
    return "\n\n".join(kept)


def apply(record: dict, kind: str, s2: S2) -> dict:
    """A copy of `record`, cleaned, with n_words, fre, fkg and `dropped`: the first reason, "" where it stays.

    A dropped record is still cleaned and measured, so that another choice of limits can be looked at.
    """
    row, reason = dict(record), ""
    for is_text, names in itertools.groupby(s2.steps[kind], TEXT_STEPS.__contains__):
        if is_text:
            chain = tuple(names)
            row["answer"] = clean(row["answer"], chain)
            row["question"], row["body"] = _clean_question(row["question"], row["body"], chain)
            continue
        for name in names:
            if name == "leading_paragraphs":
                row["answer"] = leading_paragraphs(row["answer"], s2.paragraph_words)
            else:
                row |= _measured(row["answer"], s2.readability)
                reason = reason or RULES[name](row, kind, s2)
    row |= _measured(row["answer"], s2.readability)
    row["dropped"] = reason if row["n_words"] else "empty answer"
    row["question"] = "\n".join(part for part in (row["question"], row.pop("body")) if part)
    return row


def measure(records: list[dict], kind: str, s2: S2, progress=iter) -> pd.DataFrame:
    """One row per record after `apply`, columns `COLUMNS`."""
    rows = [apply(record, kind, s2) for record in progress(records)]
    return pd.DataFrame(rows, columns=COLUMNS).astype({"score": "Int64", "dropped": "str"})
