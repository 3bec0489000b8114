"""A profile's tables as they were written, for whoever tells of them.

A table that is missing, empty, torn, or not what its schema says is a gap, told with the notebook that makes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from s2utils.report.paper.markup import Text, code
from s2utils.results import tables
from s2utils.workflow import paths, steps
from s2utils.workflow.params import Params


@dataclass(frozen=True)
class Held:
    """The tables of one profile, each read once."""

    profile: str
    params: Params
    seen: dict[str, tuple[pd.DataFrame | None, str]] = field(default_factory=dict, compare=False, repr=False)

    @property
    def folder(self) -> Path:
        """Where its tables and figures lie."""
        return paths.reports(self.profile)

    def table(self, name: str) -> pd.DataFrame | None:
        """The table, or None where there is a `gap`."""
        if name not in self.seen:
            self.seen[name] = _read(self._csv(name))
        return self.seen[name][0]

    def rows(self, name: str) -> list[dict]:
        """Its rows, none where there is a gap."""
        frame = self.table(name)
        return [] if frame is None else frame.to_dict("records")

    def parts(self, name: str, column: str) -> Iterator[tuple[str, pd.DataFrame]]:
        """(value, rows) of each value of a column, in the table's order; none where there is a gap."""
        frame = self.table(name)
        return iter(() if frame is None else frame.groupby(column, sort=False))

    def gap(self, name: str) -> Text:
        """Why a table cannot be read and what makes it, "" where it can."""
        if self.table(name) is not None:
            return Text("")
        notebook = next((step.notebook for step in steps.STEPS.values() if name in step.tables), "")
        maker = code(f"notebooks/{notebook}.ipynb" if notebook else "python -m s2utils report")
        command = code(f"make {notebook or 'report'} PROFILE={self.profile}")
        fault = self.seen[name][1]
        return Text(f"*Not measured: the table {code(f'{name}.csv')} {fault}; {maker} makes it ({command}).*")

    def caption(self, name: str) -> str:
        """What was written beneath a table: its protocol."""
        return tables.schema(self._csv(name)).get("caption", "")

    def _csv(self, name: str) -> Path:
        return self.folder / "tables" / f"{name}.csv"


def _read(csv: Path) -> tuple[pd.DataFrame | None, str]:
    """A table and "", or None and what is wrong with it."""
    try:
        frame = tables.read(csv)
    except (FileNotFoundError, pd.errors.EmptyDataError):
        return None, "is missing"
    except (pd.errors.ParserError, UnicodeDecodeError):
        return None, "cannot be read"
    types = tables.schema(csv).get("columns", {})
    lacking = [code(column) for column in types if column not in frame]
    words = [code(c) for c in frame if types.get(c, "text") != "text" and tables.is_text(frame[c])]
    if not types:
        fault = "has no schema beside it"
    elif lacking:
        fault = f"lacks {', '.join(lacking)}"
    elif not len(frame):
        fault = "holds no row"
    else:
        fault = f"holds words for numbers in {', '.join(words)}" if words else ""
    return (None, fault) if fault else (frame, "")
