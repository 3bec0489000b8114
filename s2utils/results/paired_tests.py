"""Models against each other, question by question or document by document: the tests behind every "different".

A sample is subtracted from itself under the other model, so that hard and easy ones do not add to the spread. Intervals
are bootstraps over questions, on the leaderboard over documents within task and subject (`paired_tables.of_tasks`). p
is of flipped signs, each sample with the weight it has in the mean, corrected by Holm over all comparisons of a metric,
on the leaderboard over all rows. Traps: the leaderboard's average is made of its tasks, so its rows are no further
evidence; d_z is the mean over the samples' spread and does not grow with their number.
"""

from __future__ import annotations

import itertools

import pandas as pd

from s2utils.evaluation import metrics
from s2utils.results import layout, paired_tables, verdicts
from s2utils.results.paired_tables import DOCUMENT
from s2utils.stats import intervals, stratified
from s2utils.workflow.params import Params
from s2utils.workflow.steps import ModelRow

KEYS = ["model", "merge_mode", "minus", "minus_merge_mode"]
DIFFERENCE = ("difference", "difference_ci_low", "difference_ci_high")
COLUMNS = [*KEYS, "dataset", "metric", "n", "n_changed", "n_failed", *DIFFERENCE, "p", "p_holm", "d_z", "verdict"]


def pairs(rows: list[ModelRow]) -> list[tuple[ModelRow, ModelRow]]:
    """(model, minus).

    Chat and every fine-tune minus the base, then the merges of one fine-tune, later minus earlier.
    """
    base = next((row for row in rows if row.variant == "base"), None)
    against_base = [(row, base) for row in rows if base and row is not base]
    tuned = [row for row in rows if row.train_set]
    return against_base + [(b, a) for a, b in itertools.combinations(tuned, 2) if a.train_set == b.train_set]


def of_questions(
    samples: pd.DataFrame, compared: list[tuple[ModelRow, ModelRow]], columns: list[str], params: Params
) -> pd.DataFrame:
    """One row per metric of `columns`, comparison and data set; the columns are `COLUMNS`.

    `samples`, as of `sample_scores`, have model, merge_mode, dataset, question, metric and value.
    """
    rows = []
    for metric in columns:
        of_metric = samples[samples["metric"] == metric]
        wide = of_metric.pivot(index=["dataset", "question"], columns=["model", "merge_mode"], values="value")
        family = []
        for row, minus in compared:
            for dataset, part in wide.groupby(level="dataset", sort=False):
                apart = part[row.model, row.merge_mode] - part[minus.model, minus.merge_mode]
                about = _row(row, minus, metric, apart, intervals.mean(apart, params), apart, params)
                family.append(about | {"dataset": dataset})
        rows += _corrected(family, params)
    return pd.DataFrame(rows, columns=COLUMNS)


def of_documents(
    scores: dict[str, pd.DataFrame], compared: list[tuple[ModelRow, ModelRow]], columns: dict[str, str], params: Params
) -> pd.DataFrame:
    """One row per comparison and metric (`columns` of the tasks, and the average), in percentage points.

    `scores` has `leaderboard.documents` of every model's id. The columns are `COLUMNS`, without a data set.
    """
    rows = []
    for row, minus in compared:
        one, other = (scores[r.id].set_index(DOCUMENT, verify_integrity=True)["value"] for r in (minus, row))
        both = one.index.intersection(other.index)
        apart = other.loc[both] - one.loc[both]
        for metric, (mine, estimate) in paired_tables.of_tasks(apart, columns, params).items():
            shares = _shares(mine, params.leaderboard.protocol == "harness")
            rows.append(_row(row, minus, metric, mine, estimate, shares, params))
    return pd.DataFrame(_corrected(rows, params), columns=[c for c in COLUMNS if c != "dataset"])


def _row(
    row: ModelRow, minus: ModelRow, metric: str, apart: pd.Series, estimate: tuple, shares: pd.Series, params: Params
) -> dict:
    """A row of tests but for the corrected p.

    `apart` are differences a sample, `shares` those that average to the mean.
    """
    known = apart.dropna()
    keys = dict(zip(KEYS, (row.model, row.merge_mode, minus.model, minus.merge_mode))) | {"metric": metric}
    counts = {"n": len(apart), "n_changed": int((known != 0).sum()), "n_failed": len(apart) - len(known)}
    p = intervals.sign_flip(shares, params.text_metrics.resamples, params.seed)
    return keys | counts | dict(zip(DIFFERENCE, estimate)) | {"p": p, "d_z": intervals.effect_size(shares)}


def _corrected(family: list[dict], params: Params) -> list[dict]:
    """Rows with p corrected for their number, and the verdict at the tables' level."""
    level = 1 - params.text_metrics.confidence
    corrected = intervals.holm([row["p"] for row in family])
    return [row | {"p_holm": p, "verdict": verdicts.by_p(p, level)} for row, p in zip(family, corrected)]


def _shares(values: pd.Series, by_size: bool) -> pd.Series:
    """Values of one task, or of all, scaled so that their plain mean is the leaderboard's.

    Missing ones stay missing.
    """
    tasks = values.index.get_level_values("task").nunique()
    parts = [
        stratified.shares(stratified.scaled(part, by_size)) / part.count() for _, part in values.groupby(level="task")
    ]
    return pd.concat(parts) * values.count() / tasks


def reading(tests: pd.DataFrame, metric: str, base: str, brief: bool = False) -> str:
    """A sentence on the comparisons of fine-tunes with `base`, a model's name, by one metric."""
    chosen = tests[(tests["metric"] == metric) & (tests["minus"] == base) & (tests["model"] != f"{base}-chat")]
    facts, rows = metrics.METRICS[metric], chosen.to_dict("records")
    told = [row | {"name": name(row)} for row in rows]
    form = f"+.{facts.decimals}f"
    return f"{facts.full_name}. {verdicts.compared(told, form, facts.higher, facts.lower, brief=brief)}"


def name(row: dict) -> str:
    """What a row of tests is about, in words: model, merge and data set."""
    return layout.label(row["model"], row["merge_mode"]) + (f" on {row['dataset']}" if row.get("dataset") else "")
