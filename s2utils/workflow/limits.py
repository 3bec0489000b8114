"""What a parameter must be: the base of every section, kinds of values with their limits, and how a refusal words them.

A room's ``parameters`` module builds its sections from these; limits that pydantic knows stand in the JSON schema, from
which a refusal and docs/parameters.md are worded. Every number's range ends, so no number of a run is infinite.
"""

from __future__ import annotations

import difflib
import typing
from collections.abc import Iterable
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

MOST = 10**9  # more rows, tokens or steps than any run has


class Section(BaseModel):
    """Parameters under one key: all of them written in the profile, no others, none changed later."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    def model_copy(self, *, update: dict | None = None, deep: bool = False):
        """A copy with other values, which are not checked; AttributeError for a key that is none."""
        if unknown := set(update or {}) - set(type(self).model_fields):  # pydantic would take any
            raise AttributeError(f"{type(self).__name__} has no {', '.join(sorted(unknown))}")
        return super().model_copy(update=update, deep=deep)


def nearest(name: object, known: Iterable[str]) -> str:
    """Text that names the nearest known name ("; did you mean 'x'?"), or lists all."""
    known = [str(k) for k in known]
    close = difflib.get_close_matches(name if isinstance(name, str) else shown(name), known, n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else f"; known: {', '.join(known)}"


def shown(value: object) -> str:
    """A value in one line of at most 80 characters, as Python writes it."""
    try:
        text = repr(value)
    except ValueError:  # an integer of thousands of digits
        text = "a number too long to be written"
    return text if len(text) <= 80 else f"{text[:79]}…"


def known(value: str, names: Iterable[str], what: str = "") -> str:
    """`value` where it is one of `names`; a ValueError, which `what` begins, that names the nearest where it is not."""
    names = list(names)
    if value not in names:
        raise ValueError(f"{what}is {shown(value)}{nearest(value, names)}")
    return value


def _unique(values: list) -> list:
    """Lists that name nothing twice; members need no hash."""
    if any(value in values[:i] for i, value in enumerate(values)):
        raise ValueError(f"must name nothing twice, not {shown(values)}")
    return values


def each(choice: typing.Any, value: typing.Any) -> typing.Any:
    """A map that holds every name of the Literal `choice`, in its order."""
    names = typing.get_args(choice)

    def whole(values: dict) -> dict:
        if set(values) != set(names):
            raise ValueError(f"must name {', '.join(names)}, not {shown(list(values))}")
        return {name: values[name] for name in names}

    return Annotated[dict[choice, value], AfterValidator(whole)]


def _text(pattern: str, form: str) -> typing.Any:
    """Text that `pattern` matches; `form` says it in words."""
    return Annotated[str, Field(pattern=f"^{pattern}$", json_schema_extra={"form": form})]


Item = TypeVar("Item")
Distinct = Annotated[list[Item], AfterValidator(_unique), Field(json_schema_extra={"uniqueItems": True})]
Filled = Field(min_length=1)  # of a list or a map

Count = Annotated[int, Field(ge=0, le=MOST)]  # 0: none, or all
Size = Annotated[int, Field(ge=1, le=MOST)]
Repeats = Annotated[int, Field(ge=1, le=100)]
Jobs = Annotated[int, Field(ge=1, le=1000)]  # at a time
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]  # what NumPy takes
Share = Annotated[float, Field(ge=0, le=1)]
Cosine = Annotated[float, Field(ge=-1, le=1)]
Amount = Annotated[float, Field(ge=0, le=MOST)]
Heat = Annotated[float, Field(ge=0, le=10)]  # temperature of sampling; 0: the likeliest token

_CHARACTER = r"[^\x00-\x1f\x7f-\x9f\u2028\u2029]"
Line = _text(f"{_CHARACTER}*", "one line of text without control characters")
FilledLine = _text(rf"{_CHARACTER}*[^\s\x00-\x1f\x7f-\x9f]{_CHARACTER}*", "one line of text that is not empty")
Text = _text(r"[^\x00]*", "text without NUL")
Name = _text(r"\w[\w.+-]{0,79}", "a name of at most 80 letters, digits and . _ + -")  # of a folder
Key = _text(r"[\w.+-]+", "a parameter's dotted name")
Names = Distinct[Name]
Address = _text(r"(https?://[^\s\x00-\x1f\x7f]+)?", "an address such as http://localhost:8000/v1, or empty")
Variable = _text(r"([A-Za-z_][A-Za-z0-9_]*)?", "the name of an environment variable, or empty")
Country = _text(r"([A-Z]{3})?", "three capital letters such as USA, or empty")
Language = _text(r"[a-z]{2}", "two small letters such as en")
