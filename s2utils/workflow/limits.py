"""What a parameter must be beyond its type: ranges, names and forms, each with the words of its refusal.

A rule gives "" where a value holds, else what it must be. Rules stand beside the fields of `params`, as
Annotated[int, between(1, 10)]; a value of another type never reaches them. NaN lies in no range, and every range ends,
so no number of a run is infinite.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sized
from typing import Annotated, Any

Rule = Callable[[Any], str]
MOST = 10**9  # more rows, tokens or steps than any run has


def between(low: float, high: float) -> Rule:
    """Numbers from `low` to `high`, both allowed."""
    return lambda value: "" if low <= value <= high else f"must lie between {low:,} and {high:,}"


def above(low: float, high: float) -> Rule:
    """Numbers above `low`, up to `high`."""
    return lambda value: "" if low < value <= high else f"must be above {low:,} and at most {high:,}"


def matches(pattern: str, wanted: str) -> Rule:
    """Texts of which `pattern` matches the whole."""
    whole = re.compile(pattern)
    return lambda value: "" if whole.fullmatch(value) else f"must be {wanted}"


def text(value: str) -> str:
    """Texts that a file can hold: no NUL, no half of a surrogate pair."""
    return "must be text without NUL and half characters" if re.search("[\0\ud800-\udfff]", value) else ""


def filled(value: Sized) -> str:
    """Texts, lists and maps that are not empty."""
    return "" if len(value.strip() if isinstance(value, str) else value) else "must hold something"


def unique(values: list) -> str:
    """Lists that name nothing twice."""
    return "" if all(value not in values[:i] for i, value in enumerate(values)) else "must name nothing twice"


def prompt(value: str) -> str:
    """Templates that `str.format(question=…)` fills: {question}, and no other single brace."""
    bare = value.replace("{{", "").replace("}}", "")
    held = "{question}" in bare and not re.search("[{}]", bare.replace("{question}", ""))
    return "" if held else "must hold {question} and no other single brace"


Count = Annotated[int, between(0, MOST)]  # 0: none, or all
Size = Annotated[int, between(1, MOST)]
Jobs = Annotated[int, between(1, 1000)]  # at a time
Seed = Annotated[int, between(0, 2**32 - 1)]  # what NumPy takes
Share = Annotated[float, between(0, 1)]
Cosine = Annotated[float, between(-1, 1)]
Amount = Annotated[float, between(0, MOST)]
Heat = Annotated[float, between(0, 10)]  # temperature of sampling; 0: the likeliest token
Line = Annotated[str, matches(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]*", "one line of text without control characters")]  # fmt: skip
Filled = Annotated[Line, filled]
Text = Annotated[str, text]
Name = Annotated[str, matches(r"\w[\w.+-]{0,79}", "a name of at most 80 letters, digits and . _ + -")]  # of a folder
Key = Annotated[str, matches(r"[\w.+-]+", "a parameter's dotted name")]
Names = Annotated[list[Name], unique]
Address = Annotated[str, matches(r"(https?://[^\s\x00-\x1f\x7f\ud800-\udfff]+)?", "an address such as http://localhost:8000/v1, or empty")]  # fmt: skip
Variable = Annotated[str, matches(r"([A-Za-z_][A-Za-z0-9_]*)?", "the name of an environment variable, or empty")]
Country = Annotated[str, matches(r"([A-Z]{3})?", "three capital letters such as USA, or empty")]
Language = Annotated[str, matches(r"[a-z]{2}", "two small letters such as en")]
