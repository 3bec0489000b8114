"""Numbers and names as the write-up's templates put them into sentences; what a verdict says is `results.verdicts`'.

Signs are Unicode minus, units are the metric's.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from s2utils.report.paper.markup import Text, escape
from s2utils.results import formatting, verdicts

MERGES = {"bf16": "simple merge", "dequantized": "careful merge", "adapter": "unmerged adapter", "none": ""}


def number(value: float, digits: int = 2, signed: bool = False) -> Text:
    """1,234.50, with a sign where it is a difference; – where there is none."""
    missing = value is None or math.isnan(value) or math.isinf(value)
    rounded = value if missing else round(value, digits) + 0.0  # no minus before a zero
    return Text(formatting.minus(formatting.number(rounded, f"{'+' if signed else ''},.{digits}f")))


def percent(value: float, digits: int = 0) -> Text:
    """A share as 12 %."""
    return Text(f"{number(100 * value, digits)} %")


def estimate(row: dict, metric: str, digits: int = 2, signed: bool = False, share: bool = False) -> Text:
    """A value of a table with its interval: 1.20 [0.90, 1.50]; as percent where it is a `share`."""
    times, unit = (100, " %") if share else (1, "")
    value, low, high = (times * row.get(f"{metric}{end}", math.nan) for end in ("", "_ci_low", "_ci_high"))
    text = f"{number(value, digits, signed)}{unit}"
    if math.isnan(value):
        return Text(text)
    known = not math.isnan(low)
    return Text(
        text + (f" [{number(low, digits, signed)}, {number(high, digits, signed)}]" if known else " (no interval)")
    )


def size(row: dict, n: str = "n", failed: str = "n_failed") -> Text:
    """As in "n = 100, 2 failed"."""
    return Text(verdicts.size(row, n, failed))


def count(n: int, noun: str = "", plural: str = "") -> Text:
    """In words: one comparison, 12 comparisons, no comparison; none."""
    return Text(verdicts.count(n, noun, plural))


def capital(text: str) -> Text:
    """With a capital first."""
    return Text(text[:1].upper() + text[1:])


def listed(items: Iterable[object]) -> Text:
    """a, b and c."""
    return Text(verdicts.listed(escape(item) for item in items))


def named(model: str, merge_mode: str = "") -> Text:
    """A model as readers know it, with its merge: name (careful merge)."""
    merge = MERGES.get(merge_mode, merge_mode)
    return Text(f"{escape(model)} ({escape(merge)})" if merge else escape(model))


def against(value: float, low: float, high: float, limit: float) -> str:
    """Where an interval lies: "below" a limit, "above" it, or on both sides ("")."""
    return "below" if high < limit else "above" if low > limit else ""
