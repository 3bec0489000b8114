"""Intervals: how far a mean could move with other questions, and how they combine.

Means: percentile bootstrap over questions. Shares of right answers: Wilson, which stays honest at 0 and
at n, where a bootstrap gives a width of zero. Averages of several: MOVER (Zou & Donner 2008), which
combines intervals that are not symmetric.
"""

from __future__ import annotations

import math

import numpy as np
from statsmodels.stats.proportion import proportion_confint


def bootstrap(values, resamples: int, confidence: float, seed: int) -> tuple[float, float, float]:
    """(mean, low, high) of the values that are numbers; NaNs are left out; (nan, nan, nan) without any.

    A single value has a mean and no interval.
    """
    values = np.asarray(values, dtype=float)
    values = values[np.isfinite(values)]
    if not len(values):
        return math.nan, math.nan, math.nan
    if len(values) == 1:
        return float(values[0]), math.nan, math.nan
    rng = np.random.default_rng(seed)
    means = np.concatenate(
        [
            values[rng.integers(0, len(values), (min(1000, resamples - i), len(values)))].mean(axis=1)
            for i in range(0, resamples, 1000)
        ]
    )
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(values.mean()), float(low), float(high)


def share(hits: int, n: int, confidence: float) -> tuple[float, float, float]:
    """(share, low, high) of `hits` in `n`, Wilson."""
    low, high = proportion_confint(hits, n, alpha=1 - confidence, method="wilson")
    return hits / n, float(low), float(high)


def average(estimates: list[tuple[float, float, float]]) -> tuple[float, float, float]:
    """(mean, low, high) of independent (value, low, high), MOVER."""
    k = len(estimates)
    mean = sum(v for v, _, _ in estimates) / k
    down = math.sqrt(sum((v - low) ** 2 for v, low, _ in estimates)) / k
    up = math.sqrt(sum((high - v) ** 2 for v, _, high in estimates)) / k
    return mean, mean - down, mean + up
