"""From numbers and verdicts to words: what a sentence may say of a table, and no more.

A difference is told only where a paired test says "different", or, where there is no test, where the interval of the
paired difference leaves out 0; else the words are "no evidence". Signs are Unicode minus, units are the metric's.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from s2utils.report.paper.markup import Text, escape

MERGES = {"bf16": "simple merge", "dequantized": "careful merge", "adapter": "unmerged adapter", "none": ""}
SMALL = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
MISSING = "–"


def number(value: float, digits: int = 2, signed: bool = False) -> Text:
    """1,234.50, with a sign where it is a difference; – where there is none."""
    if value is None or value != value or math.isinf(value):
        return Text(MISSING)
    return Text(f"{round(value, digits) + 0.0:{'+' if signed else ''},.{digits}f}".replace("-", "−"))


def percent(value: float, digits: int = 0) -> Text:
    """A share as 12 %."""
    return Text(f"{number(100 * value, digits)} %")


def estimate(row: dict, metric: str, digits: int = 2, signed: bool = False, share: bool = False) -> Text:
    """A value of a table with its interval: 1.20 [0.90, 1.50]; as percent where it is a `share`."""
    times = 100 if share else 1
    value, low, high = (times * row.get(f"{metric}{end}", math.nan) for end in ("", "_ci_low", "_ci_high"))
    unit = " %" if share else ""
    if low != low or value != value:
        return Text(f"{number(value, digits, signed)}{unit}" + (" (no interval)" if value == value else ""))
    return Text(
        f"{number(value, digits, signed)}{unit} [{number(low, digits, signed)}, {number(high, digits, signed)}]"
    )


def size(row: dict, n: str = "n", failed: str = "n_failed") -> Text:
    """As in "n = 100, 2 failed"."""
    lost = row.get(failed, 0)
    return Text(f"n = {number(row.get(n, math.nan), 0)}" + (f", {number(lost, 0)} failed" if lost and lost > 0 else ""))


def count(n: int, noun: str = "", plural: str = "") -> Text:
    """In words: one comparison, 12 comparisons, no comparison; none."""
    words = "none" if not n and not noun else SMALL[n] if 0 <= n < len(SMALL) else f"{n:,}"
    named = noun if n < 2 else plural or (noun and noun + "s")
    return Text(f"{words} {named}".rstrip())


def capital(text: str) -> Text:
    """With a capital first."""
    return Text(text[:1].upper() + text[1:])


def listed(items: Iterable[object]) -> Text:
    """a, b and c."""
    texts = [escape(item) for item in items]
    return Text(" and ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts))


def chance(p: float) -> Text:
    """As in "p = 0.012"."""
    return Text("p not known" if p != p else "p < 0.001" if p < 0.001 else f"p = {number(p, 3)}")


def named(model: str, merge_mode: str = "") -> Text:
    """A model as readers know it, with its merge: name (careful merge)."""
    merge = MERGES.get(merge_mode, merge_mode)
    return Text(f"{escape(model)} ({escape(merge)})" if merge else escape(model))


def compared(
    rows: list[dict],
    higher: str,
    lower: str,
    digits: int,
    of: str = "comparison of a fine-tune with the base",
    brief: bool = False,
) -> Text:
    """What tests say of one metric: how many are `higher` and `lower`, which (or the largest); and of how many nothing is.

    `rows` have name, difference with its interval, n, n_failed, p_holm, d_z, verdict.
    """
    firm = [r for r in rows if r["verdict"] == "different" and r["difference"] == r["difference"]]
    up, rest = sum(r["difference"] > 0 for r in firm), len(rows) - len(firm)
    plural = of.replace("comparison", "comparisons", 1)
    if not rows:
        return Text(f"There is no {of}.")
    if not firm:
        if len(rows) == 1:
            return Text(f"The one {of} gives no evidence that it is {higher} or {lower}.")
        return Text(f"In none of the {count(len(rows), of, plural)} is there evidence that it is {higher} or {lower}.")
    parts = [f"in {count(up)} it is {higher}"] if up else []
    parts += [f"in {count(len(firm) - up)} it is {lower}"] if len(firm) > up else []
    parts += (
        [f"for {'the other ' if rest > 1 else ''}{count(rest)} there is no evidence of a difference"] if rest else []
    )
    brief = brief and len(firm) > 1
    shown = [max(firm, key=lambda r: abs(r["difference"]))] if brief else firm
    told = "; ".join(f"{r['name']} {test(r, digits)}" for r in shown)
    head = "The largest difference" if brief else "Different"
    return Text(f"Of {count(len(rows), of, plural)}, {listed(map(Text, parts))}. {head}: {told}.")


def test(row: dict, digits: int) -> Text:
    """+1.20 [+0.40, +2.00] (n = 100, p = 0.010, d = 0.30)."""
    effect = f", d = {number(row['d_z'], 2, signed=True)}" if row.get("d_z", math.nan) == row.get("d_z") else ""
    holm = f", {chance(row['p_holm'])}" if "p_holm" in row else ""
    return Text(f"{estimate(row, 'difference', digits, signed=True)} ({size(row)}{holm}{effect})")


def merges(rows: list[dict], digits: int) -> Text:
    """Where the merge of a fine-tune matters by one metric: in how many comparisons, and which; rows as in `compared`."""
    firm = [r for r in rows if r["verdict"] == "different"]
    told = "; ".join(f"{r['name']} {test(r, digits)}" for r in firm)
    return Text(f"it matters in {count(len(firm))} of {count(len(rows), 'comparison')}: {told}.")


def by_interval(low: float, high: float) -> str:
    """The verdict of an interval of differences: "different" where it leaves out 0."""
    return "too few" if low != low else "different" if low > 0 or high < 0 else "no evidence"


def against(value: float, low: float, high: float, limit: float) -> str:
    """Where an interval lies: "below" a limit, "above" it, or on both sides ("")."""
    return "below" if high < limit else "above" if low > limit else ""
