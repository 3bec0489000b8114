"""CSV that a spreadsheet shows and never runs: a text that would begin a formula gets a ' in front, and loses it here.

Trap: names of models come from others; `=HYPERLINK(…)` as a name is a link in whatever opens the table. Numbers stay.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TextIO

import pandas as pd

_FORMULA = re.compile(r"'*[=+\-@\t\r]")  # with the ' that it may have, so that every text comes back
_MARKED = re.compile(r"'+[=+\-@\t\r]")


def write(frame: pd.DataFrame, file: TextIO) -> None:
    """A frame as CSV, without its index."""
    safe = pd.DataFrame({_safe(name): frame[name].map(_safe) for name in frame})
    safe.to_csv(file, index=False, lineterminator="\n")


def read(file: Path) -> pd.DataFrame:
    """What `write` wrote; an empty cell is missing, and nothing else is."""
    frame = pd.read_csv(file, keep_default_na=False, na_values="")
    return pd.DataFrame({_plain(name): frame[name].map(_plain) for name in frame})


def _safe(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def _plain(value: object) -> object:
    return value[1:] if isinstance(value, str) and _MARKED.match(value) else value
