"""Ratios of sums over documents, as bits over bytes and loss over tokens: the value, and its bootstrap.

Whole documents are drawn, with what is above and below the line together, so that long ones weigh as they do in the
ratio. Trap: the mean of documents' own ratios is another number, in which a short document counts as a long one.
Source: Efron & Tibshirani 1993, 10.3 (ratio estimators).
"""

from __future__ import annotations

import math

import numpy as np


def resampled(above, below, resamples: int, rng: np.random.Generator) -> tuple[float, np.ndarray]:
    """(Σ above / Σ below, `resamples` of it (resamples,)); both are (documents,).

    NaN above, or 0 below, leaves a document out. A single one has a value and no spread (NaN), none has neither.
    """
    above, below = np.asarray(above, dtype=float), np.asarray(below, dtype=float)
    known = np.isfinite(above) & (below > 0)
    above, below = above[known], below[known]
    n = len(above)
    if n == 0:
        return math.nan, np.full(resamples, math.nan)
    value = float(above.sum() / below.sum())
    if n == 1:
        return value, np.full(resamples, math.nan)
    drawn = [rng.integers(0, n, (size, n)) for size in steps(n, resamples)]
    return value, np.concatenate([above[places].sum(axis=1) / below[places].sum(axis=1) for places in drawn])


def steps(n: int, resamples: int) -> list[int]:
    """How many draws of n units are held at a time."""
    step = max(1, 10**7 // n)
    return [min(step, resamples - start) for start in range(0, resamples, step)]
