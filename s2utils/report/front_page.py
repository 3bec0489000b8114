"""What the front page shows of the tables: the answer in three sentences, the figure of reading ease, the tables in
short.

Positions are in the drawing's own units, 520 wide. Trap: means over data sets would have no interval, so of tables with
several data sets one is shown, the last, which joins the others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from s2utils.evaluation import metrics
from s2utils.report import table_pages
from s2utils.results import layout, paired_tests, tables, verdicts

EASE, TOXIC = "flesch_reading_ease", "toxic"
LEFT, WIDTH, ROW = 185, 520, 24  # of labels, of all, of one model


@dataclass(frozen=True)
class Finding:
    """One sentence of the answer, with what it is about and the page that holds its numbers."""

    lead: str
    text: str
    href: str = ""


def answer(folder: Path) -> list[Finding]:
    """The three sentences, from the tables in `folder`.

    They rest on paired tests where a table of them is there, else on whether intervals meet, and say so.
    """
    names = "flesch leaderboard leaderboard_tests manner rouge text_metrics_tests".split()
    there = _read(folder, names)
    source = "text_metrics_tests" if "text_metrics_tests" in there else "flesch"
    rows = {metric: comparisons(there, metric) for metric in (EASE, TOXIC, "rouge_l_f1", "average")}
    cost = " ".join(f"By {metrics.name(m)}, {_sentence(rows[m], m)}" for m in ("rouge_l_f1", "average"))
    return [
        Finding("Simpler?", _answer(rows[EASE], EASE), f"tables/{source}.html" if rows[EASE] else ""),
        Finding("Safe?", _answer(rows[TOXIC], TOXIC), "tables/manner.html" if rows[TOXIC] else ""),
        Finding("At what cost?", cost, "tables/leaderboard.html" if rows["average"] else ""),
    ]


def _read(folder: Path, names: list[str]) -> dict[str, pd.DataFrame]:
    """Those of the tables that are there."""
    files = {name: folder / f"{name}.csv" for name in names}
    return {name: tables.read(csv) for name, csv in files.items() if csv.is_file()}


def _answer(rows: list[dict], metric: str) -> str:
    """One word, and the sentence it rests on."""
    better = metrics.METRICS[metric].better
    firm = [row["difference"] * better > 0 for row in rows if row["verdict"] == verdicts.DIFFERENT]
    some = "Mostly" if all(firm) and len(firm) > len(rows) / 2 else "In part" if any(firm) else "No"
    return f"{some if firm else 'No evidence'}: {_sentence(rows, metric)}"


def _sentence(rows: list[dict], metric: str) -> str:
    """What the comparisons of one metric say, without a capital, and what that rests on."""
    if not rows:
        return "nothing can be said yet: no table compares a fine-tune with the base model."
    facts = metrics.METRICS[metric]
    how = "paired tests, Holm-corrected" if "p_holm" in rows[0] else "by intervals alone"
    of = f"{verdicts.AGAINST_BASE} ({how})"
    text = verdicts.compared(rows, f"+.{facts.decimals}f", facts.higher, facts.lower, of, brief=True)
    return text[0].lower() + text[1:]


def comparisons(there: dict[str, pd.DataFrame], metric: str) -> list[dict]:
    """Fine-tunes against the base by `metric`, as `verdicts.compared` takes them.

    Tests, else whether intervals meet.
    """
    table = metrics.METRICS[metric].table
    for tests in (there.get(f"{table}_tests"), there.get("text_metrics_tests")):
        if tests is not None and {"metric", "model", "minus", "difference", "verdict"} <= set(tests):
            against = (tests["metric"] == metric) & (tests["minus"] == _base(there))
            against &= tests["model"].isin(_named(there, "sft"))
            if against.any():
                return [row | {"name": paired_tests.name(row)} for row in tests[against].to_dict("records")]
    return _overlaps(there.get(table), metric)


def _named(there: dict[str, pd.DataFrame], variant: str) -> list[str]:
    """Names of the models of a variant, as any table has them."""
    return [model for f in there.values() if "variant" in f for model in f.loc[f["variant"] == variant, "model"]]


def _base(there: dict[str, pd.DataFrame]) -> str:
    """Name of the base model, "" where no table says it."""
    return next(iter(_named(there, "base")), "")


def _overlaps(frame: pd.DataFrame | None, metric: str) -> list[dict]:
    """Fine-tunes beside the base by data set, "different" where the two intervals do not meet."""
    if frame is None or f"{metric}_ci_low" not in frame or "variant" not in frame:
        return []
    rows = []
    for _, part in frame.groupby("dataset" if "dataset" in frame else "base", sort=False):
        base = part[part["variant"] == "base"]
        for row in part[part["variant"] == "sft"].to_dict("records") if len(base) else ():
            low, high = base[f"{metric}_ci_low"].iat[0], base[f"{metric}_ci_high"].iat[0]
            apart = row[f"{metric}_ci_low"] > high or row[f"{metric}_ci_high"] < low
            verdict = verdicts.DIFFERENT if apart else verdicts.NO_EVIDENCE
            facts = {"name": paired_tests.name(row), "n": row.get("n", math.nan), "verdict": verdict}
            rows.append(facts | {"difference": row[metric] - base[metric].iat[0]})
    return rows


def ease(folder: Path) -> dict | None:
    """Panels of reading ease to draw, one a data set; None without the table. Positions are in the drawing's units."""
    csv = folder / "flesch.csv"
    frame = tables.read(csv).dropna(subset=[EASE]) if csv.is_file() else pd.DataFrame()
    if not {"base", "variant", "train_set", "dataset", "n"} <= set(frame):
        return None
    drawn = {"x": EASE, "low": f"{EASE}_ci_low", "high": f"{EASE}_ci_high"}
    ends = frame[list(drawn.values())].stack()
    if ends.empty:
        return None
    low, high = ends.min(), ends.max()
    margin = (high - low) * 0.04 or 1.0
    low, high = low - margin, high + margin
    firm, panels, top = told_apart(folder), [], 0
    several = frame["base"].nunique() > 1

    def at(value: float) -> float | None:
        return round(LEFT + (WIDTH - LEFT - 12) * (value - low) / (high - low), 1) if value == value else None

    for dataset, part in frame.groupby("dataset", sort=False):
        rows = [
            {"label": short(row, several), "value": row[EASE], "tuned": row["variant"] == "sft"}
            | {"firm": (dataset, row["model"], row["merge_mode"]) in firm, "y": top + 34 + ROW * i}
            | {place: at(row[column]) for place, column in drawn.items()}
            for i, row in enumerate(part.to_dict("records"))
        ]
        base, n, end = part.loc[part["variant"] == "base", EASE], part["n"].dropna(), top + 34 + ROW * len(rows)
        panel = {"title": dataset, "top": top, "bottom": end - 8, "rows": rows, "n": f"{n.min():.0f}" if len(n) else ""}
        panels.append(panel | {"base": at(base.iat[0]) if len(base) else None})
        top = end + 12
    step = next(s for s in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 10**6) if (high - low) / s <= 7)
    ticks = [
        {"x": at(v), "label": f"{v:g}".replace("-", "−")}
        for v in range(int(low // step + 1) * step, int(high) + 1, step)
    ]
    facts = [f"{p['title']}: " + ", ".join(f"{r['label']} {r['value']:.1f}" for r in p["rows"]) for p in panels]
    alt = "Mean Flesch reading ease of the answers with intervals, by model. " + "; ".join(facts) + "."
    tested = (folder / "text_metrics_tests.csv").is_file()
    drawing = {"width": WIDTH, "height": top + 6, "left": LEFT, "alt": alt}
    return drawing | {"panels": panels, "ticks": ticks, "tested": tested}


def told_apart(folder: Path) -> set[tuple[str, str, str]]:
    """(data set, model, merge mode) of the fine-tunes whose reading ease a paired test tells from the base's."""
    held = _read(folder, ["flesch", "text_metrics_tests"])
    tests = held.get("text_metrics_tests")
    if tests is None or "merge_mode" not in tests:
        return set()
    rows = tests[(tests["metric"] == EASE) & (tests["minus"] == _base(held)) & (tests["verdict"] == verdicts.DIFFERENT)]
    return set(zip(rows["dataset"], rows["model"], rows["merge_mode"]))


def short(row: dict, several: bool) -> str:
    """A model in a word: base, chat, or its train set and merge; its whole name where there are several bases."""
    name = "" if several else row["train_set"] if row["variant"] == "sft" else row["variant"]
    return layout.label(name or row["model"], row["merge_mode"])


def overview(folder: Path) -> dict | None:
    """One row a model, the main metric of each table as its page draws it; None where there is none.

    Of tables with several data sets, the last is shown: it joins the others.
    """
    columns, there = [], {name: frame for name, frame in _read(folder, metrics.STUDY).items() if len(frame)}
    for name, frame in there.items():
        about, dataset = metrics.TABLES[name], frame["dataset"].iat[-1] if "dataset" in frame else ""
        if dataset:
            frame = frame[frame["dataset"] == dataset].reset_index(drop=True)
        cells = dict(zip(zip(frame["model"], frame["merge_mode"]), table_pages.measured(frame, about.headline)))
        n = sorted(set(frame["n"].dropna().astype(int))) if "n" in frame else []
        facts = {"name": name, "number": about.number, "label": metrics.METRICS[about.headline].label, "set": dataset}
        columns.append(facts | {"cells": cells, "n": "–".join(map(str, dict.fromkeys([*n[:1], *n[-1:]])))})
    if not columns:
        return None
    keys = dict.fromkeys(key for column in columns for key in column["cells"])
    rows = [{"label": layout.label(*key), "cells": [c["cells"].get(key) for c in columns]} for key in keys]
    judge = there.get("mtbench", pd.DataFrame()).get("judge_reliability", pd.Series(dtype=str)).unique()
    return {"columns": columns, "rows": rows, "judge": ", ".join(map(str, judge))}
