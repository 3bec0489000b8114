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
    files = {
        f"{name}.csv"
        for name in ("flesch", "rouge", "manner", "leaderboard", "text_metrics_tests", "leaderboard_tests")
    }
    there = {csv.stem: tables.read(csv) for csv in sorted(folder.glob("*.csv")) if csv.name in files}
    source = "text_metrics_tests" if "text_metrics_tests" in there else "flesch"
    rows = {metric: comparisons(there, metric) for metric in (EASE, TOXIC, "rouge_l_f1", "average")}
    cost = " ".join(f"By {metrics.name(m)}, {_sentence(rows[m], m)}" for m in ("rouge_l_f1", "average"))
    return [
        Finding("Simpler?", _answer(rows[EASE], EASE), f"tables/{source}.html" if rows[EASE] else ""),
        Finding("Safe?", _answer(rows[TOXIC], TOXIC), "tables/manner.html" if rows[TOXIC] else ""),
        Finding("At what cost?", cost, "tables/leaderboard.html" if rows["average"] else ""),
    ]


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
    facts, how = (
        metrics.METRICS[metric],
        "paired tests, Holm-corrected" if "p_holm" in rows[0] else "by intervals alone",
    )
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
            against = (
                (tests["metric"] == metric) & (tests["minus"] == base_of(there)) & tests["model"].isin(tuned(there))
            )
            if against.any():
                return [row | {"name": paired_tests.name(row)} for row in tests[against].to_dict("records")]
    return _overlaps(there.get(table), metric)


def base_of(there: dict[str, pd.DataFrame]) -> str:
    """Name of the base model, "" where no table says it."""
    named = (f.loc[f["variant"] == "base", "model"] for f in there.values() if "variant" in f)
    return next((models.iat[0] for models in named if len(models)), "")


def tuned(there: dict[str, pd.DataFrame]) -> set[str]:
    """Names of the fine-tunes, as any table has them."""
    return {model for f in there.values() if "variant" in f for model in f.loc[f["variant"] == "sft", "model"]}


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
            facts = {
                "name": paired_tests.name(row),
                "difference": row[metric] - base[metric].iat[0],
                "verdict": verdict,
            }
            rows.append({"n": row.get("n", math.nan)} | facts)
    return rows


def ease(folder: Path) -> dict | None:
    """Panels of reading ease to draw, one a data set; None without the table. Positions are in the drawing's units."""
    csv = folder / "flesch.csv"
    frame = tables.read(csv).dropna(subset=[EASE]) if csv.is_file() else pd.DataFrame()
    if not {"base", "variant", "train_set", "dataset", "n"} <= set(frame):
        return None
    ends = frame[[EASE, f"{EASE}_ci_low", f"{EASE}_ci_high"]].stack()
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
        rows = []
        for i, row in enumerate(part.to_dict("records")):
            key = (dataset, row["model"], row["merge_mode"])
            rows.append(
                {
                    "label": short(row, several),
                    "value": row[EASE],
                    "tuned": row["variant"] == "sft",
                    "firm": key in firm,
                    "y": top + 34 + ROW * i,
                    "x": at(row[EASE]),
                    "low": at(row[f"{EASE}_ci_low"]),
                    "high": at(row[f"{EASE}_ci_high"]),
                }
            )
        base = part.loc[part["variant"] == "base", EASE]
        n = part["n"].dropna()
        panels.append(
            {
                "title": dataset,
                "top": top,
                "bottom": top + 34 + ROW * len(rows) - 8,
                "rows": rows,
                "base": at(base.iat[0]) if len(base) else None,
                "n": f"{n.min():.0f}" if len(n) else "",
            }
        )
        top += 34 + ROW * len(rows) + 12
    step = next(s for s in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 10**6) if (high - low) / s <= 7)
    ticks = [
        {"x": at(v), "label": f"{v:g}".replace("-", "−")}
        for v in range(int(low // step + 1) * step, int(high) + 1, step)
    ]
    facts = [f"{p['title']}: " + ", ".join(f"{r['label']} {r['value']:.1f}" for r in p["rows"]) for p in panels]
    alt = "Mean Flesch reading ease of the answers with intervals, by model. " + "; ".join(facts) + "."
    return {
        "panels": panels,
        "ticks": ticks,
        "width": WIDTH,
        "height": top + 6,
        "left": LEFT,
        "alt": alt,
        "tested": bool(firm) or (folder / "text_metrics_tests.csv").is_file(),
    }


def told_apart(folder: Path) -> set[tuple[str, str, str]]:
    """(data set, model, merge mode) of the fine-tunes whose reading ease a paired test tells from the base's."""
    held = {f.stem: tables.read(f) for f in folder.glob("*.csv") if f.stem in ("flesch", "text_metrics_tests")}
    tests = held.get("text_metrics_tests")
    if tests is None or "merge_mode" not in tests:
        return set()
    rows = tests[(tests["metric"] == EASE) & (tests["minus"] == base_of(held)) & (tests["verdict"] == "different")]
    return set(zip(rows["dataset"], rows["model"], rows["merge_mode"]))


def short(row: dict, several: bool) -> str:
    """A model in a word: base, chat, or its train set and merge; its whole name where there are several bases."""
    name = "" if several else row["train_set"] if row["variant"] == "sft" else row["variant"]
    return layout.label(name or row["model"], row["merge_mode"])


def overview(folder: Path) -> dict | None:
    """One row a model, the main metric of each table as its page draws it; None where there is none.

    Of tables with several data sets, the last is shown: it joins the others.
    """
    columns, order, labels, sets = [], {}, {}, {}
    for name in metrics.STUDY:
        metric = metrics.TABLES[name].headline
        csv = folder / f"{name}.csv"
        if not csv.is_file():
            continue
        frame = tables.read(csv)
        if not len(frame):
            continue
        if "dataset" in frame:
            sets[name] = frame["dataset"].iat[-1]
            frame = frame[frame["dataset"] == sets[name]].reset_index(drop=True)
        cells = dict(zip(zip(frame["model"], frame["merge_mode"]), table_pages.measured(frame, metric)))
        for row in frame.to_dict("records"):
            order.setdefault((row["model"], row["merge_mode"]), len(order))
            labels[row["model"], row["merge_mode"]] = layout.label(row["model"], row["merge_mode"])
        n = sorted(set(frame["n"].dropna().astype(int))) if "n" in frame else []
        columns.append(
            {
                "name": name,
                "number": metrics.TABLES[name].number,
                "label": metrics.METRICS[metric].label,
                "set": sets.get(name, ""),
                "cells": cells,
                "n": "–".join(map(str, dict.fromkeys([*n[:1], *n[-1:]]))),
            }
        )
    if not columns:
        return None
    told = tables.read(folder / "mtbench.csv") if "mtbench" in [c["name"] for c in columns] else pd.DataFrame()
    judge = [str(v) for v in told.get("judge_reliability", pd.Series(dtype=str)).unique()]
    rows = [{"label": labels[key], "cells": [c["cells"].get(key) for c in columns]} for key in order]
    return {"columns": columns, "rows": rows, "judge": ", ".join(judge)}
