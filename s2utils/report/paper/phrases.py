"""Numbers and names as the write-up's templates put them into sentences; what a verdict says is `results.verdicts`'.

Signs are Unicode minus, units are the metric's.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from s2utils.evaluation import metrics
from s2utils.report.paper.markup import Text, escape
from s2utils.results import formatting, verdicts

MERGES = {"dequantized": "careful merge", "bf16": "simple merge", "adapter": "unmerged adapter"}  # careful ones first


def number(value: float, digits: int = 2, signed: bool = False) -> Text:
    """1,234.50, with a sign where it is a difference; – where there is none."""
    rounded = round(value, digits) + 0.0 if math.isfinite(value) else value  # no minus before a zero
    return Text(formatting.minus(formatting.number(rounded, f"{'+' if signed else ''},.{digits}f")))


def percent(value: float, digits: int = 0) -> Text:
    """A share as 12 %."""
    return Text(f"{number(100 * value, digits)} %")


def estimate(
    row: dict,
    column: str,
    digits: int = 2,
    signed: bool = False,
    share: bool = False,
    bare: bool = False,
    ends: str | None = None,
) -> Text:
    """A value of a table with its interval: 1.20 [0.90, 1.50]; as percent where it is a `share`.

    Where it has none that is said, unless it stands `bare`. The columns of its ends begin with `ends`, else its own.
    """
    times, unit = (100, " %") if share else (1, "")
    prefix = f"{column}_" if ends is None else ends
    value, low, high = (
        number(times * row.get(name, math.nan), digits, signed)
        for name in (column, f"{prefix}ci_low", f"{prefix}ci_high")
    )
    interval = "" if formatting.MISSING in (value, low) else f" [{low}, {high}]"
    return Text(f"{value}{unit}{interval or ('' if bare or value == formatting.MISSING else ' (no interval)')}")


def size(row: dict, n: str = "n", failed: str = "n_failed") -> Text:
    """As in "n = 100, 2 failed"."""
    return Text(verdicts.size(row, n, failed))


def count(n: int, noun: str = "") -> Text:
    """In words: one comparison, 12 comparisons, no comparison; none."""
    return Text(verdicts.count(n, noun))


def capital(text: str) -> Text:
    """With a capital first."""
    return Text(text[:1].upper() + text[1:])


def listed(items: Iterable[object]) -> Text:
    """a, b and c."""
    return Text(verdicts.listed(escape(item) for item in items))


def merge(merge_mode: str) -> Text:
    """A merge mode by the name that readers know."""
    return escape(MERGES.get(merge_mode, merge_mode))


def named(model: str, merge_mode: str = "") -> Text:
    """A model as readers know it, with its merge: name (careful merge)."""
    return escape(model) if merge_mode in ("", "none") else Text(f"{escape(model)} ({merge(merge_mode)})")


def metric(column: str) -> str:
    """A metric's name within a sentence: names keep their capitals, words lose theirs."""
    label = metrics.name(column)
    is_name = len(label) < 2 or label[1].isupper() or label in ("HellaSwag", "TruthfulQA")
    return label if is_name else label[0].lower() + label[1:]
