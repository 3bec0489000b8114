"""Which row of a table is best, and whether the questions can tell it from the runner-up.

The best mean of a column and data set is compared with the second best, question by question, by a permutation test
that flips signs; of equal means the smaller standard deviation stands first, as in the study. Trap: each cell is one
test at the table's level, not corrected for the number of cells. It is strict: of rows that are alike, the two best
differ least.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from s2utils.evaluation import metrics
from s2utils.stats import intervals
from s2utils.workflow.params import Params

BEST, ALIKE = "best", "best, not told apart"

ROW = ["model", "merge_mode"]
LEGEND = (
    "Bold: best of its column{groups}, told apart from the runner-up by a paired permutation test over {unit}s "
    "(p < {level:.2g}, each cell by itself); †: best, not told apart."
)


def best(values: pd.DataFrame, params: Params) -> pd.DataFrame:
    """One row per metric (and data set) with two rows or more: the best, its runner-up, and the test between them.

    `values`, as `sample_scores.of` reads them, has model, merge_mode, metric, question, value, and as it may be
    dataset, and weight (a question's weight in the row's mean: without one all weigh alike). NaN has failed and is left
    out. Columns: metric, dataset, model, merge_mode, the runner-up as one text, n (questions that both answered),
    difference (above 0: better), p, mark. Raises ValueError where a question stands twice in a row.
    """
    settings, rows = params.text_metrics, []
    values = values.assign(weight=values.get("weight", 1.0))
    groups = ["metric", *(["dataset"] if "dataset" in values and values["dataset"].any() else [])]
    for key, part in values.groupby(groups, sort=False):
        part = part.dropna(subset="value")
        sides = {row: side.set_index("question", verify_integrity=True) for row, side in part.groupby(ROW, sort=False)}
        sign = metrics.METRICS[key[0]].better or 1
        order = sorted(sides, key=lambda row: _place(sides[row], sign))
        if len(order) < 2:
            continue
        one, other = (sides[row] for row in order[:2])
        both = one.index.intersection(other.index)
        apart = sign * (one.loc[both, "value"] - other.loc[both, "value"])
        p = intervals.sign_flip(apart * one.loc[both, "weight"], settings.resamples, params.seed)
        found = dict(zip(groups, key)) | dict(zip(ROW, order[0])) | {"runner_up": " · ".join(order[1]), "n": len(both)}
        mean = np.average(apart, weights=one.loc[both, "weight"]) if len(both) else np.nan
        told = BEST if p < 1 - settings.confidence else ALIKE
        rows.append(found | {"difference": mean, "p": p, "mark": told})
    return pd.DataFrame(rows, columns=[*groups, *ROW, "runner_up", "n", "difference", "p", "mark"])


def _place(side: pd.DataFrame, sign: int) -> tuple[float, float]:
    """What rows are ordered by: the mean, the better the earlier, then the standard deviation."""
    mean = np.average(side["value"], weights=side["weight"])
    spread = np.sqrt(np.average((side["value"] - mean) ** 2, weights=side["weight"]))
    return round(-sign * mean, 9), round(spread, 9)  # rounding in the last digits is no difference


def marked(frame: pd.DataFrame, found: pd.DataFrame) -> pd.DataFrame:
    """`frame`, a table with one row per model (and data set), with a column `<metric>_mark` for each of its metrics in
    `found`.
    """
    on = [*ROW, *(["dataset"] if "dataset" in frame and "dataset" in found else [])]
    for metric, part in found[found["metric"].isin(frame.columns)].groupby("metric", sort=False):
        told = {tuple(row[k] for k in on): row["mark"] for row in part.to_dict("records")}
        frame = frame.assign(**{f"{metric}_mark": [told.get(key, "") for key in zip(*(frame[k] for k in on))]})
    return frame


def legend(found: pd.DataFrame, params: Params, unit: str = "question") -> str:
    """The sentence that says what bold and † mean."""
    groups = " and data set" if "dataset" in found else ""
    return LEGEND.format(groups=groups, unit=unit, level=round(1 - params.text_metrics.confidence, 9))
