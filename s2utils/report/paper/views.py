"""The results' tables as the write-up shows them: what they are called, and their cells.

A cell is "value [low, high] (k failed)", bold or † where the table marks it. Cells are Markdown already.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import pandas as pd

from s2utils.evaluation import metrics
from s2utils.report.paper.markup import Text, escape
from s2utils.report.paper.phrases import MERGES, count, estimate, named, number, size
from s2utils.report.paper.tables_read import Held
from s2utils.results import best_rows
from s2utils.results.verdicts import DIFFERENT, by_interval

CHOICES = {
    "prompt": "Scoring the prompt with the answer", "syllables": "Counting syllables by hyphenation",
    "stemmer": "Stemming the words", "reference": "Another question's reference",
}  # fmt: skip
LEAKS = {"min_k": "its least likely tokens (AUC)", "order_apart": "the order of its sentences (nats a token)"}
TOLD = (
    "rouge_2_f1",
    "rouge_l_f1",
    "bertscore_f1",
    "flesch_reading_ease",
    "flesch_kincaid_grade",
)  # of the study's choices


def modes(held: Held, name: str) -> list[tuple[str, str]]:
    """(merge mode, its name) of the fine-tunes in a table, the careful one first."""
    found = dict.fromkeys(r["merge_mode"] for r in held.rows(name) if r["merge_mode"] not in ("", "none"))
    first = [m for m in ("dequantized", "bf16", "adapter") if m in found]
    return [(m, MERGES.get(m, m)) for m in [*first, *(m for m in found if m not in first)]]


def view(held: Held, name: str, mode: str = "") -> pd.DataFrame:
    """Rows of the base, chat and the fine-tunes under one merge, each metric with its interval and failures."""
    frame = held.table(name)
    frame = frame[frame["merge_mode"].isin(["", "none", mode])].reset_index(drop=True) if mode else frame
    rows, shown = frame.to_dict("records"), pd.DataFrame(index=frame.index)
    if "dataset" in frame:
        shown["data set"] = frame["dataset"]
    shown["model"] = _cells(r["model"] if mode else named(r["model"], r["merge_mode"]) for r in rows)
    for column, label in (("n", "n"), ("n_cut", "cut"), ("n_looping", "loops")):
        if column in frame:
            shown[label] = _cells(number(v, 0) for v in frame[column])
    for metric in (metric for metric in metrics.of(name) if metric.column in frame):
        shown[metric.label] = _cells(_cell(r, metric.column, metric.decimals) for r in rows)
    return shown


def _cells(texts: Iterable[str]) -> pd.Series:
    """A column whose cells stay the texts that they are, marked up or not."""
    return pd.Series(list(texts), dtype=object)


def paired_table(name: str) -> str:
    """The table of differences between merges that goes with a table of results."""
    return "text_metrics_paired" if metrics.TABLES[name].step == "text_metrics" else f"{name}_paired"


def pairs(held: Held, name: str, columns: list[str]) -> pd.DataFrame | None:
    """The paired differences between merges as a table to show; None where there is a gap."""
    frame = held.table(paired_table(name))
    known = [c for c in columns if frame is not None and f"{c}_difference_n" in frame]
    if not known:
        return None
    rows = frame.to_dict("records")
    shown = pd.DataFrame({"train set": frame["train_set"], "difference": _cells(two_merges(r) for r in rows)})
    for column in known:
        facts, difference = metrics.METRICS[column], f"{column}_difference"
        shown[facts.full_name] = _cells(
            Text(
                f"{_bare(r, difference, facts.decimals, signed=True)} "
                f"({size(r, f'{difference}_n', f'{difference}_n_failed')})"
            )
            for r in rows
        )
    return shown


def two_merges(row: dict) -> Text:
    """What was subtracted from what: "careful merge minus simple merge"."""
    return Text(f"{merge_name(row['merge_mode'])} minus {merge_name(row['minus'])}")


def _bare(row: dict, metric: str, digits: int, signed: bool = False) -> str:
    return estimate(row, metric, digits, signed).replace(" (no interval)", "")


def _cell(row: dict, metric: str, digits: int) -> Text:
    """A value with its interval, its mark and its failures, as it stands in a table."""
    failed = row.get(f"{metric}_n_failed", 0)
    mark = {best_rows.BEST: "best", best_rows.ALIKE: "†"}.get(row.get(f"{metric}_mark", ""), "")
    text = _bare(row, metric, digits)
    if mark:
        value, space, rest = text.partition(" ")
        text = f"{f'**{value}**' if mark == 'best' else value + mark}{space}{rest}"
    return Text(text + (f" ({number(failed, 0)} failed)" if failed and failed > 0 else ""))


def published(held: Held, name: str) -> dict | None:
    """The rows that the paper has too: a table "ours (published)", how many values, how many inside our interval."""
    frame = held.table(name)
    known = [m for m in metrics.of(name) if f"{m.column}_published" in (frame if frame is not None else ())]
    theirs = {m.column: f"{m.column}_published" for m in known}
    rows = [r for r in held.rows(name) if not all(math.isnan(r[column]) for column in theirs.values())]
    if not rows:
        return None
    values = [(r, column) for r in rows for column in theirs if not math.isnan(r[theirs[column]])]
    inside = sum(r[f"{c}_ci_low"] <= r[theirs[c]] <= r[f"{c}_ci_high"] for r, c in values if f"{c}_ci_low" in r)
    shown = pd.DataFrame({"model": _cells(named(r["model"], r["merge_mode"]) for r in rows)})
    if "dataset" in frame:
        shown.insert(0, "data set", [r["dataset"] for r in rows])
    for m in known:
        shown[m.label] = _cells(
            Text(f"{number(r[m.column], m.decimals)} ({number(r[theirs[m.column]], m.decimals)})") for r in rows
        )
    return {"view": shown, "n": len(values), "inside": inside}


def merge_name(mode: str) -> Text:
    """A merge mode in words."""
    return escape(MERGES.get(mode) or mode)


def choices(held: Held) -> dict | None:
    """What single choices of the study move: sentences, and a table with a column a data set.

    None where there is a gap.
    """
    rows = [r for r in held.rows("protocols_text") if r["metric"] in TOLD and r["choice"] in CHOICES]
    if not rows:
        return None
    told = []
    for choice, words in CHOICES.items():
        mine = [r for r in rows if r["choice"] == choice]
        firm = sum(
            by_interval(r.get("effect_ci_low", math.nan), r.get("effect_ci_high", math.nan)) == DIFFERENT for r in mine
        )
        told += [Text(f"{words} moves {count(firm)} of {count(len(mine), 'mean')}")] if mine else []
    cells = {}
    for r in rows:
        text = Text(f"{_bare(r, 'effect', metrics.METRICS[r['metric']].decimals, signed=True)} ({size(r)})")
        cells.setdefault((CHOICES[r["choice"]], metrics.name(r["metric"])), {})[r["dataset"]] = text
    names = list(dict.fromkeys(r["dataset"] for r in rows))
    view = pd.DataFrame({"choice": [c for c, _ in cells], "metric": [m for _, m in cells]})
    for name in names:
        view[name] = _cells(row.get(name, Text("–")) for row in cells.values())
    return {"told": told, "view": view}
