"""What a judge's reply says: a rating, a rubric or a verdict, or why it says none.

Reasoning and quotations are left out (`replies`); of what is then said (`ratings`, `verdicts`) what stands before the
last "final …" is a draft, the first of FORMS that is there decides, and all of that form must agree: [[5]] and [[8]] are
no rating, "[[5]] … Final rating: [[8]]" is 8. Ratings are 1–10. Trap: a reply without a clear value is no low rating.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from s2utils.ratings import statements
from s2utils.replies import DIMENSIONS, FORMS, SIDES, Said, Token, plain, tokens
from s2utils.verdicts import verdicts


@dataclass(frozen=True)
class Reading:
    """Values of a reply, nan or "" where one is not clear, and the reasons of these."""

    values: dict
    reasons: dict[str, str]

    @property
    def failure(self) -> str:
        """Why the first value that lacks does; "" where none does."""
        return next(iter(self.reasons.values()), "")


def reading(kind: str, reply: str) -> Reading:
    """What a reply to one kind of question ("single", "rubric", "pair") holds, or why it holds nothing clear."""
    text, why = plain(reply)
    row = tokens(text)
    said = list(verdicts(row)) if kind == "pair" else statements(row)
    if kind == "single":
        asked = {"rating": [s for s in said if s.owner in ("rating", "overall", "")]}
    elif kind == "rubric":
        asked = {name: [s for s in said if s.owner == name] for name in DIMENSIONS}
    else:
        asked = {"verdict": said}
    values, reasons = {}, {}
    for name, told in asked.items():
        found = _decided(told) if told else why or _lacking(kind, row, said)
        clear = found in ("A", "B", "tie") if kind == "pair" else isinstance(found, float)
        values[name] = found if clear else "" if kind == "pair" else math.nan
        if not clear:
            reasons[name] = found
    return Reading(values, reasons)


def rating(reply: str) -> float:
    """The judge's rating, 1–10; nan where the reply holds none, a range, or several that differ."""
    return reading("single", reply).values["rating"]


def rubric(reply: str) -> dict[str, float]:
    """A rating for each of DIMENSIONS, as `rating` reads one."""
    return reading("rubric", reply).values


def verdict(reply: str) -> str:
    """Whether "A" or "B" is said to be better, or "tie"; "" where the reply holds none, or several that differ."""
    return reading("pair", reply).values["verdict"]


def _decided(said: list[Said]) -> float | str:
    """The one value of the statements that count, or why there is none."""
    said = sorted(said, key=lambda s: s.place)
    last = max((i for i, s in enumerate(said) if s.final), default=0)
    best = min(FORMS.index(s.form) for s in said[last:])
    values = {s.value for s in said[last:] if FORMS.index(s.form) == best}
    if len(values) == 1:
        return values.pop()
    faults = [v for v in values if isinstance(v, str) and v not in SIDES.values()]
    return faults[0] if len(values) - len(faults) < 2 and faults else "several differ"


def _lacking(kind: str, row: list[Token], said: list[Said]) -> str:
    """Why nothing was read: what is there instead."""
    none = "only quoted" if any(t.raw == "\ufffc" for t in row) else "no verdict" if kind == "pair" else "no rating"
    if kind != "single":
        return none
    if any(s.owner == "other" for s in said):
        return "of another thing"
    after = list(zip(row, row[1:], row[2:]))
    if any(a.kind == "number" and b.kind == "percent" for a, b, _ in after):
        return "percent"
    if any(
        a.kind == "number" and (b.kind == "star" or (b.kind == "over" and c.kind == "number" and c.number != 10))
        for a, b, c in after
    ):
        return "another scale"
    return "a date" if any(t.kind == "date" for t in row) else none
