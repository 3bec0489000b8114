"""Differences between the merges of one fine-tune, question by question, with intervals.

Questions differ far more among each other than merges do, so each is subtracted from itself before anything is
averaged. One that failed under either merge is left out of its metric and counted. Units are the metric's own, on the
leaderboard percentage points. Traps: MMLU is a mean over its subjects (`strata`), so its documents are not one sample;
an interval without width says that no question changed, not that none would; and with few questions a bootstrap is too
narrow (of normal values it leaves out the truth 8 % of the time at 20, 11 % at 8, 20 % at 4).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pandas as pd

from s2utils.evaluation import metrics
from s2utils.results import verdicts
from s2utils.stats import intervals, stratified
from s2utils.workflow.params import Params

KEYS = ["train_set", "merge_mode", "minus", "n"]
DOCUMENT = ["task", "subject", "doc_id"]
ENDS = ("", "_ci_low", "_ci_high", "_n", "_n_changed", "_n_failed")
FEW = 20  # questions; below, chance is more often taken for a difference


def paired(samples: pd.DataFrame, metrics: list[str], params: Params) -> pd.DataFrame:
    """One row per train set and pair of merge modes, the later minus the earlier: KEYS, and ENDS of each metric.

    `samples`, as of `sample_scores`, have train_set ("" is left out), merge_mode, question, metric and value; only
    questions that both modes have are compared (`n`). Of a metric: `<metric>_difference`, its bootstrap interval over
    questions, and how many questions were averaged (_n), differ at all (_n_changed) and failed (_n_failed). Raises
    ValueError where a question stands twice.
    """
    rows, row_keys = [], ["train_set", "merge_mode", "question"]
    tuned = samples[(samples["train_set"] != "") & samples["metric"].isin(metrics)]
    wide = tuned.pivot(index=row_keys, columns="metric", values="value")
    wide = wide.loc[pd.MultiIndex.from_frame(tuned[row_keys].drop_duplicates())].reset_index()
    for row, apart in _apart(wide, ["question"], metrics):
        for metric in metrics:
            row |= _columns(metric, apart[metric], intervals.mean(apart[metric], params))
        rows.append(row)
    return _frame(rows, metrics)


def tasks(found: pd.DataFrame, columns: dict[str, str], params: Params) -> pd.DataFrame:
    """As `paired`, of the leaderboard's tasks and their average, averaged as the table averages; percentage points.

    `found` has train_set, merge_mode and the columns of `leaderboard.documents`; `columns` gives each task's metric.
    """
    rows = []
    for row, apart in _apart(found, DOCUMENT, ["value"]):
        for metric, (mine, estimate) in of_tasks(apart["value"], columns, params).items():
            row |= _columns(metric, mine, estimate)
        rows.append(row)
    return _frame(rows, [*columns.values(), "average"])


def of_tasks(
    apart: pd.Series, columns: dict[str, str], params: Params, by_size: bool | None = None
) -> dict[str, tuple[pd.Series, tuple[float, float, float]]]:
    """Metric → (its documents' differences, (mean, low, high)), each task and "average"; percentage points.

    `apart` has one difference of shares a document, its index is DOCUMENT. Documents are drawn within their task, for
    MMLU within their subject; the average draws the four tasks together. Subjects weigh as `leaderboard.protocol` says,
    or by size or not.
    """
    by_size = params.leaderboard.protocol == "harness" if by_size is None else by_size
    settings = params.text_metrics
    values = 100 * apart.round(12)  # rounding in a probability's last digits is no difference
    rng, means, drawn, found = np.random.default_rng(params.seed), [], [], {}
    for task, metric in columns.items():
        mine = values.loc[[task]]
        parts = stratified.parts(stratified.scaled(mine, by_size))
        mean, resampled = stratified.resampled(parts, settings.resamples, rng)
        found[metric] = mine, (mean, *intervals.percentiles(resampled, settings.confidence))
        means.append(mean)
        drawn.append(resampled)
    ends = intervals.percentiles(np.mean(drawn, axis=0), settings.confidence)
    return found | {"average": (values, (float(np.mean(means)), *ends))}


def reading(pairs: pd.DataFrame, columns: list[str], confidence: float) -> str:
    """Sentences: how many comparisons tell the merges apart, which, and how many would by chance."""
    rows = [
        row
        | {f"difference{end}": row[f"{column}_difference{end}"] for end in ENDS}
        | {"name": f"{row['train_set']}, {row['merge_mode']} − {row['minus']}: {metrics.name(column)}"}
        | {"n": row[f"{column}_difference_n"], "n_failed": row[f"{column}_difference_n_failed"]}
        for row in pairs.to_dict("records")
        for column in columns
    ]
    if not rows:
        return "Each fine-tune has one merge here: there is nothing to compare."
    for row in rows:
        row["verdict"] = verdicts.by_interval(row["difference_ci_low"], row["difference_ci_high"])
    blind = sum(row["verdict"] == verdicts.TOO_FEW for row in rows)
    few = any(1 < row["n"] < FEW for row in rows)
    return (
        f"{verdicts.compared(rows, '+.3g', of='comparison of two merges of one fine-tune')} The verdicts are those of "
        f"{confidence:.0%} intervals, each by itself"
        + (f"; {blind} have too few questions for one" if blind else "")
        + f". If no merge mattered, chance alone would tell about {(1 - confidence) * (len(rows) - blind):.2g} apart"
        + (
            f"; more where there are fewer than {FEW} questions, at 8 about twice as many, at 4 four times."
            if few
            else "."
        )
    )


def _apart(found: pd.DataFrame, on: list[str], metrics: list[str]) -> Iterator[tuple[dict, pd.DataFrame]]:
    """(KEYS, differences of `metrics` by question) of each pair of merge modes of each train set."""
    for train_set, part in found.groupby("train_set", sort=False):
        sides = {
            mode: side.set_index(on, verify_integrity=True)[metrics].astype(float)
            for mode, side in part.groupby("merge_mode", sort=False)
        }
        for one, other in itertools.combinations(sides, 2):
            both = sides[one].index.intersection(sides[other].index)
            row = {"train_set": train_set, "merge_mode": other, "minus": one, "n": len(both)}
            yield row, sides[other].loc[both] - sides[one].loc[both]


def _columns(metric: str, apart: pd.Series, estimate: tuple[float, float, float]) -> dict[str, float]:
    counts = (int(apart.notna().sum()), int((apart.dropna() != 0).sum()), int(apart.isna().sum()))
    return {f"{metric}_difference{end}": value for end, value in zip(ENDS, (*estimate, *counts))}


def _frame(rows: list[dict], metrics: list[str]) -> pd.DataFrame:
    """The rows, with all columns also where there is none."""
    return pd.DataFrame(rows, columns=KEYS + [f"{metric}_difference{end}" for metric in metrics for end in ENDS])
