"""A table's columns by what they are, and its cells as readers see them.

Text columns say what a row is about, `n` and `n_…` count, and a measure is a column with `_ci_low` and `_ci_high`
beside it, and perhaps `_n_failed`, `_published` and `_mark`. Units are the table's.
"""

from __future__ import annotations

import functools
import math
import re
from dataclasses import dataclass

import pandas as pd

from s2utils.evaluation import metrics
from s2utils.results import best_rows, formatting
from s2utils.stats import intervals
from s2utils.text import safe
from s2utils.workflow.params import Params

TAILS = "ci_low ci_high n_failed n_changed n published mark finished spread stderr".split()
MEASURED_TEXT = ("verdict", "passed", "judge_reliability")  # text that is measured and not a key
IMPLIED = ("base", "variant", "train_set")  # by the model's name
FIRST = ("dataset", "model", "train_set", "merge_mode")
BY_NAME = ("model", "base", "variant", "train_set", "merge_mode", "dataset")  # keys even where they look like numbers


@dataclass(frozen=True)
class Layout:
    """A table's columns by what they are; those of a measure, and what the model's name implies, are left out."""

    keys: list[str]  # text
    verdicts: list[str]  # text that is said of the numbers, and stands behind them
    counts: list[str]
    measures: list[str]
    others: list[str]  # further numbers


def of(frame: pd.DataFrame, name: str = "") -> Layout:
    """The layout of a table."""
    measures = [c for c in frame if ends(frame, c) or c in metrics.columns(name)]
    taken = {f"{m}_{tail}" for m in measures for tail in TAILS} | set(measures)
    taken |= {c for c in IMPLIED if "model" in frame} | {end for m in measures for end in ends(frame, m)}
    rest = [c for c in frame if c not in taken]
    keys = [c for c in rest if c in BY_NAME or not pd.api.types.is_numeric_dtype(frame[c]) or frame[c].isna().all()]
    counts = [c for c in rest if c not in keys and (c == "n" or c.startswith("n_"))]
    others = [c for c in rest if c not in keys and c not in counts]
    keys.sort(key=lambda c: FIRST.index(c) if c in FIRST else len(FIRST))
    told = [c for c in keys if c in MEASURED_TEXT]
    return Layout([c for c in keys if c not in told], told, counts, measures, others)


def ends(frame: pd.DataFrame, column: str) -> list[str]:
    """The columns of a measure's interval: `<column>_ci_low` and `_high`, or the bare ones of a column "value"."""
    bare = column == "value" and f"{column}_ci_low" not in frame
    both = [f"{'' if bare else f'{column}_'}ci_{end}" for end in ("low", "high")]
    return both if set(both) <= set(frame) else []


def decimals(frame: pd.DataFrame, column: str) -> int:
    """Decimals a column is shown with: its metric's, else as many as its size leaves room for."""
    if column in metrics.METRICS:
        return metrics.METRICS[column].decimals
    values = pd.concat([pd.to_numeric(frame[c], errors="coerce") for c in (column, *ends(frame, column))]).dropna()
    if not len(values) or (values == values.round()).all():
        return 0
    size = values.abs().max()
    return 1 if size >= 100 else 2 if size >= 10 else 3 if size >= 1 else 4


def number_format(frame: pd.DataFrame, column: str) -> str:
    """The format of a plain number; a p-value keeps its leading digits."""
    return ".3g" if column == "p" or column.startswith("p_") else f",.{decimals(frame, column)}f"


def title(name: str) -> str:
    """A table's title in words, where its schema has none."""
    return metrics.TABLES[name].title if name in metrics.TABLES else name.replace("_", " ").capitalize()


def words(column: str) -> str:
    """A column's name as readers see it; a metric by its label, also where something follows its name."""
    key = next((k for k in sorted(metrics.METRICS, key=len, reverse=True) if re.match(rf"{k}(_|$)", column)), "")
    if not key:
        return column.replace("_", " ")
    label = metrics.METRICS[key].label + (" (BERTScore)" if key.startswith("bertscore") else "")
    return label + column.removeprefix(key).replace("_", " ")


@functools.cache
def label(model: str, merge_mode: str) -> str:
    """A row's model in words: "name", or "name · merge" where it was merged."""
    return safe.visible(model if merge_mode in ("", "none") else f"{model} · {merge_mode}")


def view(frame: pd.DataFrame, name: str = "") -> pd.DataFrame:
    """A table as readers see it: keys, counts, one cell a measure ("value [low, high] (k failed)"), further numbers."""
    parts, shown = of(frame, name), {}
    for column in parts.keys:
        none = pd.api.types.is_float_dtype(frame[column]) and frame[column].isna().all()
        shown[column.replace("_", " ")] = [formatting.MISSING] * len(frame) if none else frame[column]
    for column in parts.counts:
        shown[words(column)] = frame[column]
    for column in parts.measures:
        shown[words(column)] = cells(frame, column)
        theirs = f"{column}_published"
        if theirs in frame and frame[theirs].notna().any():
            places = formatting.decimals(decimals(frame, column))
            shown[f"{words(column)}, published"] = [
                formatting.number(v, places).replace("–", "") for v in frame[theirs]
            ]
    for column in parts.others:
        form = number_format(frame, column)
        shown[words(column)] = frame[column].map(
            str if frame[column].dtype == bool else lambda v, f=form: formatting.number(v, f)
        )
    return pd.DataFrame(shown | {c: frame[c] for c in parts.verdicts}, index=frame.index)


def measured(values: pd.Series, column: str, params: Params) -> dict[str, float]:
    """The columns of a measure but for its failures: the mean of values and its bootstrap interval."""
    return intervals.columns(column, intervals.mean(values, params))


def cells(frame: pd.DataFrame, column: str, digits: int | None = None) -> list[str]:
    """Cells of a measure: "value [low, high] (k failed)"; the best "**value**", or "value†".

    A column that holds several metrics has its decimals for each, unless `digits` says how many.
    """
    if digits is not None or "metric" not in frame or not len(frame):
        return _cells(frame, column, decimals(frame, column) if digits is None else digits)
    made: dict[int, str] = {}
    for metric, places in frame.reset_index(drop=True).groupby("metric", sort=False, dropna=False).groups.items():
        part = frame.iloc[places]
        own = metrics.METRICS[metric].decimals if metric in metrics.METRICS else decimals(part, column)
        made |= dict(zip(places, _cells(part, column, own)))
    return [made[i] for i in range(len(frame))]


def _cells(frame: pd.DataFrame, column: str, digits: int) -> list[str]:
    low, high = ends(frame, column) or ("", "")
    form = formatting.decimals(digits, signed=column.endswith("difference"))
    made = []
    for row in frame.to_dict("records"):
        value, mark = row[column], row.get(f"{column}_mark", "")
        text = formatting.with_interval(value, row.get(low, math.nan), row.get(high, math.nan), form)
        number, space, interval = text.partition(" ")
        if number != formatting.MISSING:
            number = f"**{number}**" if mark == best_rows.BEST else f"{number}†" if mark == best_rows.ALIKE else number
        count, changed, failed = (row.get(f"{column}_{tail}", math.nan) for tail in ("n", "n_changed", "n_failed"))
        notes = [] if math.isnan(changed) or math.isnan(count) else [f"{changed:.0f} of {count:.0f} changed"]
        notes += [f"{failed:.0f} failed"] if failed > 0 else []
        made.append(number + space + interval + (f" ({', '.join(notes)})" if notes else ""))
    return made
