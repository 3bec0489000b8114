"""From tests to sentences: what may be said of a comparison, and no more. Notebooks, pages and the write-up say it
here.

A difference is told only where a paired test says "different", or, where there is no test, where the interval of the
paired difference leaves out 0; else the words are "no evidence", which is what so few questions could not show. Signs
are Unicode minus, units are the metric's.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from s2utils.results import formatting

DIFFERENT, NO_EVIDENCE, TOO_FEW = "different", "no evidence", "too few"
SMALL = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
AGAINST_BASE = "comparison of a fine-tune with the base"


def by_p(p: float, level: float) -> str:
    """The verdict of a test at a level; NaN is no evidence."""
    return DIFFERENT if p < level else NO_EVIDENCE


def by_interval(low: float, high: float) -> str:
    """The verdict of an interval of differences: "different" where it leaves out 0."""
    return TOO_FEW if math.isnan(low) else DIFFERENT if low > 0 or high < 0 else NO_EVIDENCE


def count(n: int, noun: str = "", plural: str = "") -> str:
    """In words: one comparison, 12 comparisons, no comparison; none."""
    words = "none" if not n and not noun else SMALL[n] if 0 <= n < len(SMALL) else f"{n:,}"
    named = noun if n < 2 else plural or (noun and noun + "s")
    return f"{words} {named}".rstrip()


def listed(texts: Iterable[str]) -> str:
    """a, b and c."""
    texts = list(texts)
    return " and ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)


def size(row: dict, n: str = "n", failed: str = "n_failed") -> str:
    """As in "n = 100, 2 failed"."""
    lost = row.get(failed, 0)
    return f"n = {formatting.number(row.get(n, math.nan), ',.0f')}" + (
        f", {lost:,.0f} failed" if lost and lost > 0 else ""
    )


def chance(p: float) -> str:
    """As in "p = 0.012"."""
    return "p not known" if math.isnan(p) else "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def test(row: dict, form: str) -> str:
    """+1.20 [+0.40, +2.00] (n = 100, p = 0.010, d = +0.30) of a row of tests."""
    effect = row.get("d_z", math.nan)
    facts = [size(row), *([chance(row["p_holm"])] if "p_holm" in row else [])]
    facts += [] if math.isnan(effect) else [f"d = {effect:+.2f}"]
    return formatting.minus(f"{formatting.of_row(row, 'difference', form)} ({', '.join(facts)})")


def compared(
    rows: list[dict],
    form: str,
    higher: str = "higher",
    lower: str = "lower",
    of: str = AGAINST_BASE,
    brief: bool = False,
) -> str:
    """What tests say: in how many it is `higher` and `lower`, which (or the largest), and of how many nothing is known.

    `rows` have name, difference with its interval, n, n_failed, p_holm, d_z, verdict; `form` formats a difference.
    """
    firm = [row for row in rows if row["verdict"] == DIFFERENT and not math.isnan(row["difference"])]
    up, rest = sum(row["difference"] > 0 for row in firm), len(rows) - len(firm)
    plural = of.replace("comparison", "comparisons", 1)
    if not rows:
        return f"There is no {of}."
    if not firm and len(rows) == 1:
        return f"The one {of} gives no evidence that it is {higher} or {lower}."
    if not firm:
        return f"In none of the {count(len(rows), of, plural)} is there evidence that it is {higher} or {lower}."
    parts = [f"in {count(up)} it is {higher}"] if up else []
    parts += [f"in {count(len(firm) - up)} it is {lower}"] if len(firm) > up else []
    parts += (
        [f"for {'the other ' if rest > 1 else ''}{count(rest)} there is no evidence of a difference"] if rest else []
    )
    brief = brief and len(firm) > 1
    shown = [max(firm, key=lambda row: abs(row["difference"]))] if brief else firm
    told = "; ".join(f"{row['name']} {test(row, form)}" for row in shown)
    head = "The largest difference" if brief else "Different"
    return f"Of {count(len(rows), of, plural)}, {listed(parts)}. {head}: {told}."


def side(low: float, high: float, below: str, above: str, limit: float = 0.0) -> str:
    """`below` or `above` where an interval leaves out a limit, else that it cannot be told."""
    return below if high < limit else above if low > limit else "not told apart"
