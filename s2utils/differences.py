"""Differences between the merges of one fine-tune, question by question, with intervals.

Questions differ far more among each other than merges do, so each is subtracted from itself before anything is
averaged. One that failed under either merge is left out of its metric and counted. Units are the metric's own, on the
leaderboard percentage points. Traps: MMLU is the unweighted mean of its subjects, so its documents are not one
sample; an interval without width says that no question changed, not that none would; and with few questions a
bootstrap is too narrow (of normal values it leaves out the truth 8 % of the time at 20, 11 % at 8, 20 % at 4).
Sources: McCarthy & Snowden 1985 (n − 1 draws in small strata); Cochran 1977, 5A.12 (strata of one).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
import pandas as pd

from s2utils import intervals
from s2utils.params import Params
from s2utils.tables import LABELS

KEYS = ["train_set", "merge_mode", "minus", "n"]
ENDS = ("", "_ci_low", "_ci_high", "_n", "_n_changed", "_n_failed")
NAMES = LABELS | {
    f"bertscore_{part}": f"BERTScore {LABELS[f'bertscore_{part}']}" for part in ("precision", "recall", "f1")
}
FEW = 20  # questions; below, chance is more often taken for a difference


def paired(found: pd.DataFrame, metrics: list[str], params: Params) -> pd.DataFrame:
    """One row per train set and pair of merge modes, the later minus the earlier: KEYS, and ENDS of each metric.

    `found` has train_set, merge_mode, question and `metrics`; only questions that both modes have are compared (`n`).
    Of a metric: `<metric>_difference`, its bootstrap interval over questions, and how many questions were averaged
    (_n), differ at all (_n_changed) and failed (_n_failed). Raises ValueError where a question stands twice.
    """
    settings = params.text_metrics
    rows = []
    for row, apart in _apart(found, ["question"], metrics):
        for metric in metrics:
            estimate = intervals.bootstrap(apart[metric], settings.resamples, settings.confidence, params.seed)
            row |= _columns(metric, apart[metric], estimate)
        rows.append(row)
    return _frame(rows, metrics)


def tasks(found: pd.DataFrame, columns: dict[str, str], params: Params) -> pd.DataFrame:
    """As `paired`, of the leaderboard's tasks and their average, averaged as the table averages; percentage points.

    `found` has train_set, merge_mode and the columns of `leaderboard.evaluate`; `columns` gives each task's metric.
    Documents are drawn within their task, for MMLU within their subject; the average draws the four tasks together.
    """
    settings = params.text_metrics
    tail = (1 - settings.confidence) / 2
    rows = []
    for row, apart in _apart(found, ["task", "subject", "doc_id"], ["value"]):
        values = 100 * apart["value"].round(12)  # rounding in a probability's last digits is no difference
        rng, means, drawn = np.random.default_rng(params.seed), [], []
        for task, column in columns.items():
            mine = values.loc[[task]]
            strata = [v.dropna().to_numpy() for _, v in mine.groupby(level="subject")]
            mean, resampled = stratified(strata, settings.resamples, rng)
            row |= _columns(column, mine, (mean, *np.quantile(resampled, [tail, 1 - tail])))
            means.append(mean)
            drawn.append(resampled)
        ends = np.quantile(np.mean(drawn, axis=0), [tail, 1 - tail])
        rows.append(row | _columns("average", values, (np.mean(means), *ends)))
    return _frame(rows, [*columns.values(), "average"])


def stratified(strata: list[np.ndarray], resamples: int, rng: np.random.Generator) -> tuple[float, np.ndarray]:
    """(unweighted mean of the strata's means, `resamples` of it); NaN where nothing, or no spread, is known.

    Of n values in a stratum n − 1 are drawn, with replacement: n draws would make small strata too sure. Strata of one
    value show no spread and are drawn from as if they were one: too wide rather than too narrow.
    """
    if not all(len(values) for values in strata):
        return math.nan, np.full(resamples, math.nan)
    single = [values for values in strata if len(values) == 1]
    groups = [(1, values) for values in strata if len(values) > 1]
    groups += [(len(single), np.concatenate(single))] if single else []
    drawn = sum(weight * _means(values, resamples, rng) for weight, values in groups)
    return float(np.mean([values.mean() for values in strata])), drawn / len(strata)


def verdict(low: float, high: float, below: str, above: str) -> str:
    """`below` or `above` where an interval of differences leaves out 0, else that it cannot be told."""
    return below if high < 0 else above if low > 0 else "not told apart"


def shown(pairs: pd.DataFrame, metrics: list[str]) -> pd.DataFrame:
    """`pairs` as readers see it: one cell a metric, "+1 [-2, +4] (3 of 9 differ, 1 failed)"."""
    view = pairs[KEYS].rename(columns=lambda name: name.replace("_", " "))
    for metric in metrics:
        view[NAMES.get(metric, metric)] = [
            f"{_text(row, metric)} ({row[f'{metric}_difference_n_changed']} of {row[f'{metric}_difference_n']} differ"
            + (f", {failed} failed)" if (failed := row[f"{metric}_difference_n_failed"]) else ")")
            for row in pairs.to_dict("records")
        ]
    return view


def reading(pairs: pd.DataFrame, metrics: list[str], confidence: float) -> str:
    """Sentences: how many comparisons tell the merges apart, which, and how many would by chance."""
    each = [(row, metric) for row in pairs.to_dict("records") for metric in metrics]
    if not each:
        return "Each fine-tune has one merge here: there is nothing to compare."
    lows = [row[f"{metric}_difference_ci_low"] for row, metric in each]
    highs = [row[f"{metric}_difference_ci_high"] for row, metric in each]
    told = [
        f"{row['train_set']}, {row['merge_mode']} − {row['minus']}: {NAMES.get(metric, metric)} {_text(row, metric)}"
        for (row, metric), low, high in zip(each, lows, highs)
        if verdict(low, high, "lower", "higher") != "not told apart"
    ]
    blind = sum(low != low for low in lows)
    few = any(1 < row[f"{metric}_difference_n"] < FEW for row, metric in each)
    return (
        f"Two merges of one fine-tune are told apart in {len(told)} of {len(each)} comparisons ({confidence:.0%} intervals "
        f"of the difference that leave out 0), not told apart in {len(each) - len(told) - blind}"
        + (f"; {blind} have too few questions for an interval" if blind else "")
        + (". Told apart: " + "; ".join(told) if told else "")
        + f". If no merge mattered, chance alone would tell about {(1 - confidence) * (len(each) - blind):.2g} apart"
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


def _means(values: np.ndarray, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Means of n − 1 draws with replacement, (resamples,); NaN for a single value."""
    n = len(values)
    if n == 1:
        return np.full(resamples, math.nan)
    step = max(1, 10**7 // n)  # draws held at a time
    sizes = [min(step, resamples - start) for start in range(0, resamples, step)]
    return np.concatenate([values[rng.integers(0, n, (size, n - 1))].mean(axis=1) for size in sizes])


def _text(row: dict, metric: str) -> str:
    value, low, high = (row[f"{metric}_difference{end}"] for end in ENDS[:3])
    return "–" if value != value else f"{value:+.3g}" + (f" [{low:+.3g}, {high:+.3g}]" if low == low else "")
