"""The leaderboard's models against each other, and its two protocols on one model, document by document.

Every document is subtracted from itself under the other model, so that hard and easy ones do not add to the spread; means
and intervals are those of `differences` (percentage points). p is of flipped signs, each document with the weight it has
in the mean, corrected by Holm for all rows of a table. Traps: the average is made of the tasks, so its row is no further
evidence; d_z is the mean over the documents' spread, weights included, and does not grow with their number.
"""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd

from s2utils.results import paired_tables
from s2utils.results.paired_tables import DOCUMENT
from s2utils.results.tables import LABELS
from s2utils.stats import intervals, stratified
from s2utils.workflow.params import Params
from s2utils.workflow.steps import ModelRow

KEYS = ["model", "merge_mode", "minus", "minus_merge_mode"]
DIFFERENCE = ("difference", "difference_ci_low", "difference_ci_high")


def pairs(rows: list[ModelRow]) -> list[tuple[ModelRow, ModelRow]]:
    """(model, minus): chat and every fine-tune minus the base, then the merges of one fine-tune, later minus earlier."""
    base = next((row for row in rows if row.variant == "base"), None)
    found = [(row, base) for row in rows if base and row is not base]
    tuned = [row for row in rows if row.train_set]
    return found + [(b, a) for a, b in itertools.combinations(tuned, 2) if a.train_set == b.train_set]


def tests(
    scores: dict[str, pd.DataFrame], compared: list[tuple[ModelRow, ModelRow]], columns: dict[str, str], params: Params
) -> pd.DataFrame:
    """One row per comparison and metric (`columns` of the tasks, and the average).

    `scores` has `leaderboard.documents` of every model's id. Columns: model, merge_mode, minus, minus_merge_mode,
    metric, n (documents both have), n_changed, n_failed, difference and its interval, p, p_holm, d_z, verdict
    ("different" where p_holm is below 1 − confidence, else "no evidence").
    """
    rows = []
    for row, minus in compared:
        keys = {
            "model": row.model,
            "merge_mode": row.merge_mode,
            "minus": minus.model,
            "minus_merge_mode": minus.merge_mode,
        }
        one, other = (scores[r.id].set_index(DOCUMENT, verify_integrity=True)["value"] for r in (minus, row))
        both = one.index.intersection(other.index)
        apart = other.loc[both] - one.loc[both]
        for metric, (mine, estimate) in paired_tables.of_tasks(apart, columns, params).items():
            parts = _shares(mine, params.leaderboard.protocol == "harness")
            rows.append(keys | {"metric": metric} | _counts(mine) | dict(zip(DIFFERENCE, estimate)) | {
                "p": intervals.sign_flip(parts, params.text_metrics.resamples, params.seed), "d_z": intervals.effect_size(parts),
            })  # fmt: skip
    names = [*KEYS, "metric", "n", "n_changed", "n_failed", *DIFFERENCE, "p", "d_z"]
    frame = pd.DataFrame(rows, columns=names)
    frame.insert(names.index("p") + 1, "p_holm", intervals.holm(frame["p"]))
    limit = 1 - params.text_metrics.confidence
    frame["verdict"] = ["different" if p < limit else "no evidence" for p in frame["p_holm"]]  # NaN is not below
    return frame


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


def _shares(values: pd.Series, by_size: bool) -> pd.Series:
    """Values of one task, or of all, scaled so that their plain mean is the leaderboard's; missing ones stay missing."""
    tasks = values.index.get_level_values("task").nunique()
    parts = [
        stratified.shares(stratified.scaled(part, by_size)) / part.count() for _, part in values.groupby(level="task")
    ]
    return pd.concat(parts) * values.count() / tasks


def _counts(values: pd.Series) -> dict[str, int]:
    known = values.dropna()
    return {"n": len(values), "n_changed": int((known != 0).sum()), "n_failed": len(values) - len(known)}


def shown(frame: pd.DataFrame) -> pd.DataFrame:
    """`tests` or `protocols` as readers see it."""
    view = frame.rename(columns=lambda name: name.replace("_", " "))
    view["metric"] = [LABELS.get(name, name) for name in frame["metric"]]
    view["difference"] = [_interval(*row) for row in frame[list(DIFFERENCE)].itertuples(index=False)]
    for name in {"p", "p_holm"} & set(frame):
        view[name.replace("_", " ")] = [f"{p:.3f}" if p >= 0.001 else "< 0.001" for p in frame[name]]
    return view.drop(columns=["difference ci low", "difference ci high"]).round(2)


def reading(frame: pd.DataFrame, confidence: float) -> str:
    """Sentences on `tests`: how many comparisons differ after the correction, which, and how many would without it."""
    if frame.empty:
        return "There is one model here, and nothing to compare it with."
    told = frame[frame["verdict"] == "different"]
    names = [
        f"{_name(row['model'], row['merge_mode'])} − {_name(row['minus'], row['minus_merge_mode'])} on "
        f"{LABELS.get(row['metric'], row['metric'])}: {_interval(*(row[k] for k in DIFFERENCE))}"
        for row in told.to_dict("records")
    ]
    loose = int((frame["p"] < 1 - confidence).sum())
    return (
        f"Of {len(frame)} comparisons {len(told)} differ after Holm's correction at {1 - confidence:.2g}, and {loose} would "
        f"without it"
        + (f": {'; '.join(names)}." if names else ". So there is no evidence here that any of these models differ.")
    )


def between(frame: pd.DataFrame) -> str:
    """Sentences on `protocols`: how many documents change on which task, and how far the averages stand apart."""
    parts, whole = frame[frame["metric"] != "average"], frame[frame["metric"] == "average"].iloc[0]
    moved = [
        f"{row.n_changed} of {row.n} on {LABELS.get(row.metric, row.metric)}"
        for row in parts.itertuples()
        if row.n_changed
    ]
    text = (
        f"The other protocol asks {whole['n_asked_otherwise']} of {whole['n']} documents otherwise and changes the score of "
        f"{', '.join(moved) if moved else 'none'}; no log-likelihood moves by more than {whole['largest_change']:.3g} nat. "
        f"Averages: v1 {whole['v1']:.1f}, harness {whole['harness']:.1f}, difference "
        f"{_interval(*whole[list(DIFFERENCE)])} points."
    )
    if whole["rounding"] > 0:
        text += f" Rounding alone moves documents that are asked the same by up to {whole['rounding']:.2g} nat."
    return text


def _name(model: str, merge_mode: str) -> str:
    return model if merge_mode == "none" else f"{model} ({merge_mode})"


def _interval(value: float, low: float, high: float) -> str:
    return "–" if value != value else f"{value:+.2f}" + (f" [{low:+.2f}, {high:+.2f}]" if low == low else "")
