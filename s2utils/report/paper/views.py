"""The results' tables as the write-up shows them, and their cells; what their columns are called says `metric.md`.

A cell is "value [low, high] (k failed)", bold or † where the table marks it. Cells are Markdown already.
"""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from s2utils.evaluation import metrics
from s2utils.report.paper.comparisons import paired_table
from s2utils.report.paper.markup import Text
from s2utils.report.paper.phrases import MERGES, estimate, merge, named, number, size
from s2utils.report.paper.tables_read import Held
from s2utils.results import best_rows, verdicts

TOLD = ("rouge_2_f1", "rouge_l_f1", "bertscore_f1", "flesch_reading_ease", "flesch_kincaid_grade")  # of single choices


def modes(held: Held, name: str) -> list[str]:
    """Merge modes of the fine-tunes in a table, the careful one first."""
    found = dict.fromkeys(row["merge_mode"] for row in held.rows(name) if row["merge_mode"] not in ("", "none"))
    return sorted(found, key=lambda mode: [*MERGES, mode].index(mode))


def view(held: Held, name: str, mode: str = "") -> pd.DataFrame:
    """Rows of the base, chat and the fine-tunes under one merge, each metric with its interval and failures."""
    frame = held.table(name)
    frame = frame[frame["merge_mode"].isin(["", "none", mode])].reset_index(drop=True) if mode else frame
    rows, shown = frame.to_dict("records"), frame[[c for c in ("dataset",) if c in frame]].copy()
    shown["model"] = _cells(row["model"] if mode else named(row["model"], row["merge_mode"]) for row in rows)
    for column in ("n", "n_cut", "n_looping"):
        if column in frame:
            shown[column] = _cells(number(n, 0) for n in frame[column])
    for metric in (metric for metric in metrics.of(name) if metric.column in frame):
        shown[metric.label] = _cells(_cell(row, metric.column, metric.decimals) for row in rows)
    return shown


def _cells(texts: Iterable[str]) -> pd.Series:
    """A column whose cells stay the texts that they are, marked up or not."""
    return pd.Series(list(texts), dtype=object)


def pairs(held: Held, name: str, columns: list[str]) -> pd.DataFrame | None:
    """The paired differences between merges as a table to show; None where there is a gap."""
    frame, rows = held.table(paired_table(name)), held.rows(paired_table(name))
    known = [c for c in columns if frame is not None and f"{c}_difference_n" in frame]
    if not known:
        return None
    shown = frame[["train_set"]].copy()
    shown["difference"] = _cells(Text(f"{merge(row['merge_mode'])} minus {merge(row['minus'])}") for row in rows)
    for metric in (metrics.METRICS[column] for column in known):
        column = f"{metric.column}_difference"
        shown[metric.full_name] = _cells(
            Text(
                f"{estimate(row, column, metric.decimals, signed=True, bare=True)} "
                f"({size(row, f'{column}_n', f'{column}_n_failed')})"
            )
            for row in rows
        )
    return shown


def _cell(row: dict, metric: str, digits: int) -> Text:
    """A value with its interval, its mark and its failures, as it stands in a table."""
    value, space, interval = estimate(row, metric, digits, bare=True).partition(" ")
    mark, failed = row.get(f"{metric}_mark", ""), row.get(f"{metric}_n_failed", 0)
    value = {best_rows.BEST: f"**{value}**", best_rows.ALIKE: f"{value}†"}.get(mark, value)
    return Text(value + space + interval + (f" ({number(failed, 0)} failed)" if failed > 0 else ""))


def published(held: Held, name: str) -> dict | None:
    """The rows that the paper has too: a table "ours (published)", how many values, how many inside our interval."""
    frame = held.table(name)
    known = [m for m in metrics.of(name) if f"{m.column}_published" in frame]
    frame = frame.dropna(subset=[f"{m.column}_published" for m in known], how="all").reset_index(drop=True)
    if not known or frame.empty:
        return None
    shown = frame[[c for c in ("dataset",) if c in frame]].copy()
    shown["model"] = _cells(map(named, frame["model"], frame["merge_mode"]))
    n = inside = 0
    for m in known:
        ours, theirs = frame[m.column], frame[f"{m.column}_published"]
        n += theirs.notna().sum()
        inside += theirs.between(frame[f"{m.column}_ci_low"], frame[f"{m.column}_ci_high"]).sum()
        shown[m.label] = _cells(
            Text(f"{number(one, m.decimals)} ({number(other, m.decimals)})") for one, other in zip(ours, theirs)
        )
    return {"view": shown, "n": n, "inside": inside}


def choices(held: Held, words: dict[str, str]) -> tuple[dict[str, list[bool]], pd.DataFrame] | None:
    """What single choices of the study, called by `words`, move: ({choice: of each mean, whether it moves}, a table).

    The table has a column a data set. None where there is a gap.
    """
    rows = [row for row in held.rows("protocols_text") if row["metric"] in TOLD and row["choice"] in words]
    moved = {choice: [] for choice in words}
    cells = {}
    for row in rows:
        verdict = verdicts.by_interval(row["effect_ci_low"], row["effect_ci_high"])
        moved[row["choice"]].append(verdict == verdicts.DIFFERENT)
        effect = estimate(row, "effect", metrics.METRICS[row["metric"]].decimals, signed=True, bare=True)
        mine = cells.setdefault((row["choice"], row["metric"]), {})
        mine |= {"choice": words[row["choice"]], "metric": metrics.name(row["metric"])}
        mine[row["dataset"]] = Text(f"{effect} ({size(row)})")
    columns = ["choice", "metric", *dict.fromkeys(row["dataset"] for row in rows)]
    return (moved, pd.DataFrame(cells.values(), columns=columns, dtype=object).fillna("–")) if rows else None
