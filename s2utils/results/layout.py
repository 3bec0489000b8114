"""What a run leaves for readers, read back: its tables with their captions, and its figures.

A table is a CSV file with one row per thing measured: text columns say what, `n` and `n_…` count, and a measure is a
column with `_ci_low` and `_ci_high` beside it, and perhaps `_n_failed`, `_published` and `_mark`. Units are the table's.
"""

from __future__ import annotations

import base64
import functools
import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from s2utils.results import tables
from s2utils.text import safe

TITLES = tables.TITLES | {
    "answers_paired": "Merges compared: length and end of the answers",
    "claims": "The study's claims",
    "funnel": "The filter funnel",
    "judge_counts": "What the judge was asked, and what came back",
    "judge_failures": "Why replies of the judge were not clear",
    "judge_paired": "Merges compared: judged validation set",
    "judge_pairs": "Fine-tunes against the base, judged in pairs",
    "judge_panel": "Is the judge reliable?",
    "leaderboard_paired": "Merges compared: leaderboard",
    "leaderboard_tests": "Fine-tunes tested: leaderboard",
    "manner": "Manner of the answers",
    "membership": "Did the models see the evaluation data?",
    "merge": "How far each merge stands from the trained model",
    "merge_paired": "Merges compared: distance to the trained model",
    "mtbench_paired": "Merges compared: MT(S)-bench",
    "protocols": "Leaderboard under two protocols",
    "protocols_text": "Text metrics: what each choice of protocol is worth",
    "questions": "Questions written for articles",
    "sets": "Sets and splits",
    "sft": "Training",
    "sweep": "The sweep",
    "text_metrics_paired": "Merges compared: text metrics",
    "text_metrics_tests": "Fine-tunes tested: text metrics",
}
TAILS = ("_ci_low", "_ci_high", "_n_failed", "_n_changed", "_n", "_published", "_mark", "_finished", "_spread")
SAID = ("verdict", "passed")  # text that is measured and not a key
IMPLIED = ("base", "variant", "train_set")  # by the model's name


def caption(csv: Path) -> str:
    """What stands under a table, "" where it has none."""
    file = csv.with_suffix(".txt")
    return file.read_text(encoding="utf-8").strip() if file.is_file() else ""


def title(name: str) -> str:
    """A table's title in words."""
    return TITLES.get(name) or words(re.sub("^eda_", "raw sources: ", name)).capitalize()


def words(column: str) -> str:
    """A column's name as readers see it."""
    for key in sorted(tables.LABELS, key=len, reverse=True):
        if column == key or column.startswith(f"{key}_"):
            column = column.replace(
                key, tables.LABELS[key] + (" (BERTScore)" if key.startswith("bertscore") else ""), 1
            )
            break
    return column.replace("_", " ")


@dataclass(frozen=True)
class Layout:
    """A table's columns by what they are."""

    keys: list[str]  # text
    counts: list[str]
    measures: list[str]
    others: list[str]  # further numbers


def layout(frame: pd.DataFrame, name: str = "") -> Layout:
    """Columns of `frame` by what they are; those that belong to a measure, and what the model's name implies, left out."""
    measures = [c for c in frame if ends(frame, c) or c in tables.METRICS.get(name, ())]
    taken = {f"{m}{tail}" for m in measures for tail in TAILS} | set(measures)
    taken |= {c for c in IMPLIED if "model" in frame} | {end for m in measures for end in ends(frame, m)}
    rest = [c for c in frame if c not in taken]
    first = ("dataset", "model", "merge_mode")
    keys = [c for c in rest if c in tables.KEYS or not pd.api.types.is_numeric_dtype(frame[c]) or frame[c].isna().all()]
    counts = [c for c in rest if c not in keys and (c == "n" or c.startswith("n_"))]
    keys.sort(key=lambda c: first.index(c) if c in first else len(first))
    return Layout(keys, counts, measures, [c for c in rest if c not in keys and c not in counts])


def ends(frame: pd.DataFrame, column: str) -> list[str]:
    """The columns of a measure's interval: `<column>_ci_low` and `_high`, or the bare ones of a column "value"."""
    bare = column == "value" and f"{column}_ci_low" not in frame
    found = [f"{'' if bare else f'{column}_'}ci_{end}" for end in ("low", "high")]
    return found if set(found) <= set(frame) else []


def digits(frame: pd.DataFrame, column: str, name: str = "") -> int:
    """Decimals a column is shown with: its table's, else as many as its size leaves room for."""
    if name in tables.DECIMALS and column in tables.METRICS[name]:
        return tables.DECIMALS[name]
    held = [column, *ends(frame, column)]
    values = pd.concat([pd.to_numeric(frame[c], errors="coerce") for c in held]).dropna()
    if not len(values) or (values == values.round()).all():
        return 0
    size = values.abs().max()
    return 1 if size >= 100 else 2 if size >= 10 else 3 if size >= 1 else 4


def headline(folder: Path) -> pd.DataFrame:
    """One row per (model, merge_mode), one number per table in `folder`: its main metric, mean over data sets."""
    means = []
    for name, metric in tables.HEADLINES.items():
        if (folder / f"{name}.csv").is_file():
            groups = tables.read_table(folder / f"{name}.csv").groupby(["model", "merge_mode"], sort=False)
            means.append(groups[metric].mean().round(tables.DECIMALS[name]))
    return pd.concat(means, axis=1, sort=False).reset_index() if means else pd.DataFrame()


def figure(png: Path) -> dict:
    """A picture with its text: {name, data (URI), alt, caption, files}."""
    text = png.with_suffix(".txt")
    alt, _, said = (text.read_text(encoding="utf-8") if text.is_file() else png.stem).partition("\n")
    return {
        "name": png.stem,
        "data": f"data:image/png;base64,{base64.b64encode(png.read_bytes()).decode()}",
        "alt": alt.strip(),
        "caption": said.strip(),
        "files": [f"{png.stem}.{kind}" for kind in ("svg", "pdf") if png.with_suffix(f".{kind}").is_file()],
    }


@functools.cache
def label(model: str, merge_mode: str) -> str:
    """A row's model in words: "name", or "name · merge" where it was merged."""
    return safe.visible(model if merge_mode in ("", "none") else f"{model} · {merge_mode}")
