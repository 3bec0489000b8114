"""What a check is: a function that returns what it found, and raises a `Finding` where that does not pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from s2utils.workflow.params import ParameterError


class Check(NamedTuple):
    """One line of the table."""

    state: str  # "pass" | "warn" | "fail"
    what: str
    found: str
    remedy: str = ""


class Row(NamedTuple):
    """What is to be checked."""

    what: str
    check: Callable[[], str]  # what it found
    remedy: str = ""  # where the finding names none of its own


class Finding(Exception):
    """Why a check does not pass; `remedy` None is the row's."""

    def __init__(self, found: str, remedy: str | None = None, state: str = "fail"):
        super().__init__(found)
        self.remedy, self.state = remedy, state


def held(holds: object, found: str) -> str:
    """What was found, where that holds; a Finding where it does not."""
    if not holds:
        raise Finding(found)
    return found


def examined(row: Row) -> Check:
    """Make a check; a parameter that cannot be used is a finding too."""
    try:
        return Check("pass", row.what, row.check())
    except Finding as finding:
        remedy = row.remedy if finding.remedy is None else finding.remedy
        return Check(finding.state, row.what, str(finding), remedy)
    except ParameterError as error:
        return Check("fail", row.what, str(error), row.remedy)


def enough(found: str, need: float, there: float, safely: float) -> str:
    """Fails where more is needed than `there` is, warns above `safely`."""
    if need > safely:
        raise Finding(found, state="fail" if need > there else "warn")
    return found
