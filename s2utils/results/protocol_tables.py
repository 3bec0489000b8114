"""The leaderboard's two protocols on one model, document by document.

Every document is subtracted from itself under the other protocol; means and intervals are those of `paired_tables`
(percentage points). Trap: the average is made of the tasks, so its row is no further evidence.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from s2utils.evaluation import metrics
from s2utils.results import formatting, paired_tables
from s2utils.results.paired_tables import DOCUMENT
from s2utils.stats import stratified
from s2utils.workflow.params import Params

DIFFERENCE = ("difference", "difference_ci_low", "difference_ci_high")


def protocols(
    v1: pd.DataFrame, harness: pd.DataFrame, columns: dict[str, str], params: Params, bos: bool
) -> pd.DataFrame:
    """One row per metric: what one model scores under each protocol on the documents both have, harness minus v1.

    `bos`: harness puts a token in front. Columns: metric, n, n_asked_otherwise (documents whose prompt differs),
    n_changed (whose score does), v1 and harness (%, each averaged its own way), difference and its interval,
    largest_change (of a log-likelihood of those, nats), rounding (the same of documents that are asked the same: in
    bf16 their neighbours in a batch move them; it is no difference of the protocols, so v1's answer stands for both).
    """
    sides = [side.set_index(DOCUMENT, verify_integrity=True) for side in (v1, harness)]
    both = sides[0].index.intersection(sides[1].index)
    first, second = (side.loc[both] for side in sides)
    otherwise = (first["prompt"] != second["prompt"]) | bos
    values = first["value"], second["value"].where(otherwise, first["value"])
    weighted = [_within(side, by_size) for side, by_size in zip(values, (False, True))]
    pairs = zip(first["log_likelihoods"], second["log_likelihoods"])
    far = pd.Series([np.abs(np.subtract(a, b)).max() for a, b in pairs], both, float)
    rows = []
    for metric, (_, estimate) in paired_tables.of_tasks(
        weighted[1] - weighted[0], columns, params, by_size=False
    ).items():
        chosen = [task for task, column in columns.items() if metric in (column, "average")]
        asked, moved = otherwise.loc[chosen], far.loc[chosen]
        row = {"metric": metric, "n": len(asked), "n_asked_otherwise": int(asked.sum())}
        row["n_changed"] = int(((values[1] - values[0]).round(12).loc[chosen] != 0).sum())
        row |= {
            name: 100 * np.mean([_mean(side.loc[[t]]) for t in chosen])
            for name, side in zip(("v1", "harness"), weighted)
        }
        row |= dict(zip(DIFFERENCE, estimate))
        rows.append(
            row | {"largest_change": moved[asked].max() if asked.any() else 0.0, "rounding": moved[~asked].max()}
        )
    return pd.DataFrame(rows)


def _within(values: pd.Series, by_size: bool) -> pd.Series:
    """Values of all tasks, scaled so that the mean of a task's subjects' means is its mean under the protocol."""
    return values.groupby(level="task", group_keys=False).apply(stratified.scaled, by_size).reindex(values.index)


def _mean(values: pd.Series) -> float:
    return float(values.groupby(level="subject").mean().mean())


def between(frame: pd.DataFrame) -> str:
    """Sentences on `protocols`: how many documents change on which task, and how far the averages stand apart."""
    parts, whole = frame[frame["metric"] != "average"], frame[frame["metric"] == "average"].iloc[0]
    moved = [f"{row.n_changed} of {row.n} on {metrics.name(row.metric)}" for row in parts.itertuples() if row.n_changed]
    text = (
        f"The other protocol asks {whole['n_asked_otherwise']} of {whole['n']} documents otherwise and changes the "
        f"score of {', '.join(moved) if moved else 'none'}; no log-likelihood moves by more than "
        f"{whole['largest_change']:.3g} nat. Averages: v1 {whole['v1']:.1f}, harness {whole['harness']:.1f}, "
        f"difference {formatting.of_row(whole, 'difference', '+.2f')} points."
    )
    if whole["rounding"] > 0:
        text += f" Rounding alone moves documents that are asked the same by up to {whole['rounding']:.2g} nat."
    return text
