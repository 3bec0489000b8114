"""Means over strata: MMLU is averaged over its subjects, every other task is one stratum of documents.

By default every stratum counts alike, as on leaderboard v1; `by_size` weights it by its documents, as lm-eval does,
which makes the mean that of all documents. Values keep their unit. Trap: a stratum of one document shows no spread of
its own, so all such strata are taken together: too wide rather than too narrow. Sources: McCarthy & Snowden 1985
(n − 1 draws in small strata); Cochran 1977, 5A.12 (strata of one).
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd


def parts(values: pd.Series, level: str = "subject") -> list[np.ndarray]:
    """Values of every stratum, which a level of the index names; those that are missing are left out."""
    return [part.dropna().to_numpy(float) for _, part in values.groupby(level=level)]


def weights(strata: list[np.ndarray], by_size: bool = False) -> np.ndarray:
    """Weight of each stratum in the mean; they sum to 1."""
    sizes = np.array([len(values) if by_size else 1 for values in strata], dtype=float)
    return sizes / sizes.sum()


def scaled(values: pd.Series, by_size: bool = False) -> pd.Series:
    """`values` times a factor, so that the plain mean of its subjects' means is the mean with their weights.

    The index has a level `subject`.
    """
    if not by_size:
        return values
    sizes = values.groupby(level="subject").transform("count")
    return values * sizes * values.index.get_level_values("subject").nunique() / values.count()


def shares(values: pd.Series) -> pd.Series:
    """`values` times a factor, so that their mean over documents is the mean of their subjects' means."""
    sizes = values.groupby(level="subject").transform("count")
    return values * values.count() / (sizes * values.index.get_level_values("subject").nunique())


def standard_error(strata: list[np.ndarray], by_size: bool = False) -> float:
    """Standard error of the weighted mean; NaN where a stratum is empty or no spread is known."""
    if not strata or not all(len(values) for values in strata):
        return math.nan
    variance, single = 0.0, []
    for weight, values in zip(weights(strata, by_size), strata):
        if len(values) == 1:
            single.append(values[0])
            weight_of_one = weight
        else:
            variance += weight**2 * values.var(ddof=1) / len(values)
    if single:
        spread = np.var(single, ddof=1) if len(single) > 1 else math.nan
        variance += weight_of_one**2 * spread * len(single)
    return math.sqrt(variance)


def resampled(strata: list[np.ndarray], resamples: int, rng: np.random.Generator) -> tuple[float, np.ndarray]:
    """(plain mean of the strata's means, `resamples` of it); NaN where nothing, or no spread, is known.

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


def _means(values: np.ndarray, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Means of n − 1 draws with replacement, (resamples,); NaN for a single value."""
    n = len(values)
    if n == 1:
        return np.full(resamples, math.nan)
    step = max(1, 10**7 // n)  # draws held at a time
    sizes = [min(step, resamples - start) for start in range(0, resamples, step)]
    return np.concatenate([values[rng.integers(0, n, (size, n - 1))].mean(axis=1) for size in sizes])
