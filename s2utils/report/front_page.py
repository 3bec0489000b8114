"""What the front page shows of the tables: the figure of reading ease, and the tables in short.

Positions are in the drawing's own units, 520 wide. Trap: means over data sets would have no interval, so of tables with
several data sets one is shown, the last, which joins the others.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from s2utils.report import findings, table_pages
from s2utils.report.findings import EASE
from s2utils.results import layout, tables

LEFT, WIDTH, ROW = 185, 520, 24  # of labels, of all, of one model


def ease(folder: Path) -> dict | None:
    """Panels of reading ease to draw, one a data set; None without the table. Positions are in the drawing's units."""
    csv = folder / "flesch.csv"
    frame = tables.read_table(csv).dropna(subset=[EASE]) if csv.is_file() else pd.DataFrame()
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
            key = (dataset, f"{row['model']}.{row['merge_mode']}")
            rows.append(
                {
                    "label": short(row, several), "value": row[EASE], "tuned": row["variant"] == "sft", 
                    "firm": key in firm, "y": top + 34 + ROW * i,
                    "x": at(row[EASE]), "low": at(row[f"{EASE}_ci_low"]), "high": at(row[f"{EASE}_ci_high"]),
                }
            )  # fmt: skip
        base = part.loc[part["variant"] == "base", EASE]
        n = part["n"].dropna()
        panels.append(
            {
                "title": dataset, "top": top, "bottom": top + 34 + ROW * len(rows) - 8, "rows": rows,
                "base": at(base.iat[0]) if len(base) else None, "n": f"{n.min():.0f}" if len(n) else "",
            }
        )  # fmt: skip
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


def told_apart(folder: Path) -> set[tuple[str, str]]:
    """(data set, model id) of the fine-tunes whose reading ease a paired test tells from the base's."""
    held = {f.stem: tables.read_table(f) for f in folder.glob("*.csv") if f.stem in ("flesch", "text_metrics_tests")}
    tests = held.get("text_metrics_tests")
    if tests is None:
        return set()
    rows = tests[
        (tests["metric"] == EASE) & (tests["minus"] == findings.base_of(held)) & (tests["verdict"] == "different")
    ]
    return set(zip(rows["dataset"], rows["model"]))


def short(row: dict, several: bool) -> str:
    """A model in a word: base, chat, or its train set and merge; its whole name where there are several bases."""
    name = "" if several else row["train_set"] if row["variant"] == "sft" else row["variant"]
    return layout.label(name or row["model"], row["merge_mode"])


def overview(folder: Path) -> dict | None:
    """One row a model, the main metric of each table as its page draws it; None where there is none.

    Of tables with several data sets, the last is shown: it joins the others.
    """
    columns, order, labels, sets = [], {}, {}, {}
    for name, metric in tables.HEADLINES.items():
        csv = folder / f"{name}.csv"
        if not csv.is_file():
            continue
        frame = tables.read_table(csv)
        if not len(frame):
            continue
        if "dataset" in frame:
            sets[name] = frame["dataset"].iat[-1]
            frame = frame[frame["dataset"] == sets[name]].reset_index(drop=True)
        cells = dict(zip(zip(frame["model"], frame["merge_mode"]), table_pages.measured(frame, metric, name)))
        for row in frame.to_dict("records"):
            order.setdefault((row["model"], row["merge_mode"]), len(order))
            labels[row["model"], row["merge_mode"]] = layout.label(row["model"], row["merge_mode"])
        n = sorted(set(frame["n"].dropna().astype(int))) if "n" in frame else []
        columns.append(
            {
                "name": name, "number": tables.TITLES[name].partition(" · ")[0], "label": tables.LABELS[metric],
                "set": sets.get(name, ""), "cells": cells, "n": "–".join(map(str, dict.fromkeys([*n[:1], *n[-1:]]))),
            }
        )  # fmt: skip
    if not columns:
        return None
    told = tables.read_table(folder / "mtbench.csv") if "mtbench" in [c["name"] for c in columns] else pd.DataFrame()
    judge = [str(v) for v in told.get("judge_reliability", pd.Series(dtype=str)).unique()]
    rows = [{"label": labels[key], "cells": [c["cells"].get(key) for c in columns]} for key in order]
    return {"columns": columns, "rows": rows, "judge": ", ".join(judge)}
