"""Verdicts of mixtures: only what all seeds agree on and is more than a seed changes."""

import numpy as np
import pandas as pd
import pytest

from s2utils.evaluation import fit, mixture_losses
from s2utils.training import mixtures


def losses(**bits: list[float]) -> pd.DataFrame:
    """Macro averages under equal steps, one a seed."""
    rows = [
        {"budget": mixtures.STEPS, "model": model, "domain": fit.MACRO, "seed": seed, "bits_per_byte": value}
        for model, values in bits.items()
        for seed, value in enumerate(values)
    ]
    return pd.DataFrame(rows).replace({"model": {"scratch": mixtures.SCRATCH, "dense": mixtures.DENSE}})


@pytest.mark.parametrize(
    ("scratch", "verdict"),
    [
        ([2.5, 2.51], "better"),
        ([3.5, 3.49], "worse"),
        ([2.5, 3.5], "cannot be told"),  # seeds disagree
        ([2.95, 2.99], "cannot be told"),  # a seed changes as much
        ([2.5], "cannot be told"),  # one seed tells no spread
    ],
)
def test_a_verdict_needs_seeds_that_agree(scratch, verdict):
    given = losses(dense=[3.0, 3.02][: len(scratch)], scratch=scratch)
    (row,) = mixture_losses.verdicts(given).to_dict("records")
    assert row["verdict"] == verdict and row["n"] == len(scratch) and row["minus"] == mixtures.DENSE
    assert np.isclose(row["difference"], np.mean(scratch) - np.mean([3.0, 3.02][: len(scratch)]))
    assert row["difference_lowest"] <= row["difference"] <= row["difference_highest"]


def test_only_the_average_that_is_asked_for_counts():
    given = losses(dense=[3.0, 3.0], scratch=[2.0, 2.0])
    other = given.assign(domain="code", bits_per_byte=9.0)
    assert mixture_losses.verdicts(pd.concat([given, other])).equals(mixture_losses.verdicts(given))
