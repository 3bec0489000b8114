"""Intervals: how far a mean could move with other questions, and how they combine.

Means: percentile bootstrap over questions, or over documents that hold many units each (`ratio`). Shares of right
answers: Wilson, which stays honest at 0 and at n, where a bootstrap gives a width of zero. Averages of several: MOVER
(Zou & Donner 2008), which combines intervals that are not symmetric. Paired differences: a permutation test that flips
signs (exact for few questions), Holm's correction for several of them, and Cohen's d_z. Trap: a difference without
spread has no d_z, and one question no p below 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import norm, permutation_test
from scipy.stats import t as student
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from s2utils.stats import ratios
from s2utils.workflow.params import Params


def bootstrap(values, resamples: int, confidence: float, seed: int, few: bool = False) -> tuple[float, float, float]:
    """(mean, low, high) of the values that are numbers; NaNs are left out; (nan, nan, nan) without any.

    A single value has a mean and no interval. `few`: widened as `percentiles` does for few units.
    """
    values = numbers(values)
    if len(values) < 2:
        return float(values[0]) if len(values) else math.nan, math.nan, math.nan
    rng = np.random.default_rng(seed)
    sizes = [(min(1000, resamples - start), len(values)) for start in range(0, resamples, 1000)]
    means = np.concatenate([values[rng.integers(0, len(values), size)].mean(axis=1) for size in sizes])
    return float(values.mean()), *percentiles(means, confidence, [len(values)] * few)


def percentiles(draws: np.ndarray, confidence: float, sizes: Sequence[int] = ()) -> tuple[float, float]:
    """(low, high) that hold the middle `confidence` of resampled values, (n,).

    With `sizes`, the number of units in each stratum that was drawn from, more: draws of few units spread too little,
    by (n − 1)/n, and their spread is itself hardly known (expanded percentile interval, Hesterberg 2015).
    """
    tail = (1 - confidence) / 2
    if len(known := np.asarray([n for n in sizes if n > 1])):
        tail = norm.cdf(math.sqrt(np.mean(known / (known - 1))) * student.ppf(tail, (known - 1).sum()))
    low, high = np.quantile(draws, [tail, 1 - tail])
    return float(low), float(high)


def mean(values, params: Params, few: bool = False) -> tuple[float, float, float]:
    """`bootstrap` with the resamples, confidence and seed of the profile."""
    return bootstrap(values, params.text_metrics.resamples, params.text_metrics.confidence, params.seed, few)


def names(name: str) -> list[str]:
    """What (value, low, high) are called in a table: <name>, <name>_ci_low, <name>_ci_high."""
    return [name, f"{name}_ci_low", f"{name}_ci_high"]


def columns(name: str, estimate: tuple[float, float, float]) -> dict[str, float]:
    """The columns of (value, low, high) in a table."""
    return dict(zip(names(name), estimate))


def mean_columns(name: str, values, params: Params, few: bool = False) -> dict[str, float]:
    """The columns of a mean in a table: <name>, <name>_ci_low, <name>_ci_high, and <name>_n_failed, which are NaN."""
    values = np.asarray(values, dtype=float)
    return columns(name, mean(values, params, few)) | {f"{name}_n_failed": int(np.isnan(values).sum())}


def share(hits: int, n: int, confidence: float) -> tuple[float, float, float]:
    """(share, low, high) of `hits` in `n`, Wilson."""
    low, high = proportion_confint(hits, n, alpha=1 - confidence, method="wilson")
    return hits / n, float(low), float(high)


def ratio(
    numerators, denominators, resamples: int, confidence: float, seed: int, few: bool = False
) -> tuple[float, float, float]:
    """(Σ numerators / Σ denominators, low, high): a mean of units that come in clusters, as sentences do in documents.

    One numerator and one denominator a cluster; whole clusters are drawn (percentile bootstrap). Clusters without a
    unit (denominator 0) are left out; nan without any, and no interval for a single one. `few` widens as `percentiles`.
    """
    value, draws = ratios.resampled(numerators, denominators, resamples, np.random.default_rng(seed))
    n = np.sum(np.isfinite(np.asarray(numerators, dtype=float)) & (np.asarray(denominators) > 0))
    return value, *percentiles(draws, confidence, [n] if few else ())


def cluster_share(
    hits, sizes, resamples: int, confidence: float, seed: int, few: bool = False
) -> tuple[float, float, float]:
    """`ratio` of hits among units in clusters; where none or all are hits, Wilson's interval of as many clusters."""
    hits, sizes = np.asarray(hits), np.asarray(sizes)
    if 0 < hits.sum() < sizes.sum():
        return ratio(hits, sizes, resamples, confidence, seed, few)
    clusters = int((sizes > 0).sum())
    return share(clusters * bool(hits.sum()), clusters, confidence) if clusters else (math.nan,) * 3


def cluster_shares(hits: np.ndarray, sizes, resamples: int, confidence: float, seed: int, few: bool = False) -> list:
    """`cluster_share` of every column of hits (clusters, m), which are drawn once for all; every cluster has units."""
    n, rng, drawn = len(hits), np.random.default_rng(seed), []
    for rows in ratios.steps(n, resamples):
        places = rng.integers(0, n, (rows, n)) + n * np.arange(rows)[:, None]
        often = np.bincount(places.ravel(), minlength=rows * n).reshape(rows, n).astype(float)
        drawn.append((often @ hits) / (often @ sizes)[:, None])
    found = []
    for column, draws in zip(hits.T, np.concatenate(drawn).T):
        if n > 1 and 0 < column.sum() < np.sum(sizes):
            ends = percentiles(draws, confidence, [n] if few else ())
            found.append((float(column.sum() / np.sum(sizes)), *ends))
        else:
            found.append(cluster_share(column, sizes, 1, confidence, seed))
    return found


def average(estimates: list[tuple[float, float, float]], weights=None) -> tuple[float, float, float]:
    """(mean, low, high) of independent (value, low, high), MOVER; `weights` sum to 1, equal ones without."""
    each = [1 / len(estimates)] * len(estimates) if weights is None else weights
    mean = sum(w * v for w, (v, _, _) in zip(each, estimates))
    down = math.sqrt(sum((w * (v - low)) ** 2 for w, (v, low, _) in zip(each, estimates)))
    up = math.sqrt(sum((w * (high - v)) ** 2 for w, (v, _, high) in zip(each, estimates)))
    return mean, mean - down, mean + up


def difference(one: tuple[float, float, float], other: tuple[float, float, float]) -> tuple[float, float, float]:
    """(one − other, low, high) of two independent (value, low, high), MOVER."""
    value = one[0] - other[0]
    down, up = math.hypot(one[0] - one[1], other[2] - other[0]), math.hypot(one[2] - one[0], other[0] - other[1])
    return value, value - down, value + up


def sign_flip(differences, resamples: int, seed: int) -> float:
    """Two-sided p of paired differences whose signs are flipped; exact where `resamples` allow all 2ⁿ; NaNs left out.

    Zeros keep their place in n only: flipping them changes nothing. nan without any difference.
    """
    values = numbers(differences)
    moved = values[values != 0]
    if len(moved) < 2:
        return 1.0 if len(values) else math.nan
    rng = np.random.default_rng(seed)
    test = permutation_test(
        (moved,), np.mean, permutation_type="samples", vectorized=True, n_resamples=resamples, batch=1000, rng=rng
    )
    return float(test.pvalue)


def fewest(confidence: float) -> int:
    """The least number of differences that can be told from 0: all of one sign have p = 2^(1 − n)."""
    return math.ceil(1 - math.log2(1 - confidence))


def effect_size(differences) -> float:
    """Cohen's d_z: mean of paired differences over their standard deviation; nan without spread. NaNs left out."""
    values = numbers(differences)
    spread = values.std(ddof=1) if len(values) > 1 else 0.0
    return float(values.mean() / spread) if spread > 1e-12 * np.abs(values).max(initial=0) else math.nan


def holm(p_values) -> list[float]:
    """Each p corrected for their number (Holm 1979), in their order; NaNs stay and do not count."""
    corrected = np.array(p_values, dtype=float)
    known = np.isfinite(corrected)
    if known.any():
        corrected[known] = multipletests(corrected[known], method="holm")[1]
    return corrected.tolist()


def compared(differences: dict[str, np.ndarray], resamples: int, confidence: float, seed: int) -> pd.DataFrame:
    """One row per named comparison of paired differences (one a question, NaN where it failed under either).

    Columns: comparison, n, n_failed, difference, its bootstrap interval, p (`sign_flip`), p_holm over all rows, d_z.
    """
    rows = []
    for name, values in differences.items():
        estimate = bootstrap(values, resamples, confidence, seed)
        p, d_z = sign_flip(values, resamples, seed), effect_size(values)
        rows.append((name, len(values), len(values) - len(numbers(values)), *estimate, p, p, d_z))
    columns = "comparison n n_failed difference difference_ci_low difference_ci_high p p_holm d_z".split()
    frame = pd.DataFrame(rows, columns=columns)
    return frame.assign(p_holm=holm(frame["p"]))


def numbers(values) -> np.ndarray:
    """The values that are numbers, NaNs and infinities left out."""
    values = np.asarray(values, dtype=float)
    return values[np.isfinite(values)]
