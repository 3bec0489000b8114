"""What the write-up tells of data, training and merging, read from the tables.

Nothing is computed anew but shares, and counts and sums of rows.
"""

from __future__ import annotations

import math

import pandas as pd

from s2utils.report.paper.phrases import number
from s2utils.report.paper.tables_read import Held
from s2utils.results import verdicts


def funnel(held: Held) -> list[dict]:
    """One row per data set: read, kept, and the rule that costs most with its n ("" where nothing is dropped)."""
    found = []
    for name, part in held.parts("funnel", "dataset"):
        counts = part.groupby("reason", sort=False)["n"].sum()
        lost = counts[(counts.index != "read") & ~counts.index.str.startswith("kept")]
        worst = {"worst": lost.idxmax(), "worst_n": lost.max()} if len(lost) else {"worst": ""}
        found.append({"dataset": name, "read": counts.get("read", math.nan), "kept": counts.get("kept", 0)} | worst)
    return found


def pivoted(frame: pd.DataFrame, rows: list[str], column: str, total: str = "") -> pd.DataFrame:
    """Counts `n` as a table to show; with `total` each also as percent of that row of its data set."""
    wide = frame.pivot_table(index=rows, columns=column, values="n", aggfunc="sum", sort=False)
    view = wide.map(lambda n: number(n, 0))
    if total in wide.index:  # it stands first, what is kept last
        shares = (100 * wide / wide.loc[total]).map(lambda share: f" ({number(share, 1)} %)")
        told = view + shares.where(wide.notna(), "")
        told.loc[total] = view.loc[total]
        view = told.loc[sorted(told.index, key=lambda reason: (reason != total, reason.startswith("kept")))]
    return view.reset_index().rename(columns=lambda name: str(name).replace("_", " "))


def written(held: Held) -> list[dict]:
    """One row per data set of articles: questions asked for, and how many passed at the first and a later attempt."""
    found = []
    for name, part in held.parts("questions", "dataset"):
        first, passed = part["attempt"] == part["attempt"].min(), part["reason"] == ""
        counts = {"asked": first, "first": first & passed, "again": ~first & passed}
        found.append({"dataset": name} | {key: part.loc[chosen, "n"].sum() for key, chosen in counts.items()})
    return found


def raw(held: Held) -> list[dict]:
    """One row per data set of the raw sources: what 01 found, merged from its tables; missing parts are left out."""
    ease, grade, found = held.params.s2.fre_min, held.params.s2.fkg_max, []
    for sizes in held.rows("eda_sizes"):
        own = {
            part: [row for row in held.rows(f"eda_{part}") if row["dataset"] == sizes["dataset"]]
            for part in ("limits", "backends", "vocabulary", "toxicity", "lengths")
        }
        limits = {(row["fre_min"], row["fkg_max"]): row for row in own["limits"]}
        sides = {part: {row["kept"]: row for row in own[part]} for part in ("vocabulary", "toxicity")}
        looser = {"limits": (ease, grade), "looser_ease": (ease - 10, grade), "looser_grade": (ease, grade + 2)}
        found.append(
            {"dataset": sizes["dataset"], "sizes": sizes, "backends": own["backends"]}
            | {"lengths": next(iter(own["lengths"]), None)}
            | {name: limits.get(pair) for name, pair in looser.items()}
            | {part: two if {"kept", "dropped"} <= set(two) else None for part, two in sides.items()}
        )
    return found


def distances(held: Held) -> list[dict]:
    """One row per train set: its merges' distance to the model that was trained, and what pairs of them say."""
    modes, found = [mode for mode in held.params.merge.modes if mode != "adapter"], []
    for name, part in held.parts("merge", "train_set"):
        known = {row["merge_mode"]: row for row in part.to_dict("records")}
        pairs = [
            row | {"verdict": verdicts.by_interval(row["kl_difference_ci_low"], row["kl_difference_ci_high"])}
            for row in held.rows("merge_paired")
            if row["train_set"] == name and {row["merge_mode"], row["minus"]} <= set(modes)
        ]
        merges = [known[mode] for mode in modes if mode in known]
        found.append({"train_set": name, "modes": merges, "pairs": pairs, "scale": known})
    return found
