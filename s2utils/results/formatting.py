"""How a number is written wherever readers meet one: "1.20 [0.90, 1.50]", with its sign where it is a difference.

Everything that shows results formats them here: tables, sentences of notebooks and pages, the write-up.
"""

from __future__ import annotations

import math
import re

MISSING = "–"


def number(value: float, form: str = ".2f") -> str:
    """A number in a format of Python's (".2f", "+.3g"); – where there is none."""
    return MISSING if value is None or math.isnan(value) or math.isinf(value) else f"{value:{form}}"


def with_interval(value: float, low: float, high: float, form: str = ".2f") -> str:
    """As in "1.20 [0.90, 1.50]"; the value alone where it has no interval."""
    text = number(value, form)
    return text if text == MISSING or math.isnan(low) else f"{text} [{number(low, form)}, {number(high, form)}]"


def of_row(row: dict, column: str, form: str = ".2f") -> str:
    """A column of a table's row with its interval."""
    return with_interval(*(row.get(f"{column}{end}", math.nan) for end in ("", "_ci_low", "_ci_high")), form)


def decimals(places: int, signed: bool = False) -> str:
    """The format of a number with so many decimals."""
    return f"{'+' if signed else ''}.{places}f"


def minus(text: str) -> str:
    """Text with the minus sign of print before its numbers."""
    return re.sub(r"-(?=\d)", "−", text)
