"""Verdicts of mixtures: what the spread over seeds tells apart, and what it does not."""

import numpy as np
import pandas as pd
import pytest

from s2utils.evaluation import fit, mixture_losses
from s2utils.training import mixtures

CONFIDENCE = 0.95


def losses(move: dict[str, float], seeds: int = 2, noise: float = 0.01, draw: int = 0) -> pd.DataFrame:
    """Macro averages of every model of every budget: 3, what `move` adds to its run, and noise; a run is one number."""
    rng = np.random.default_rng(draw)
    runs = {run for models in mixtures.BUDGETS.values() for run in models.values()}
    bits = {run: 3 + move.get(run, 0.0) + noise * rng.normal(size=seeds) for run in sorted(runs)}
    return pd.DataFrame([
        {"budget": budget, "model": model, "domain": fit.MACRO, "seed": seed, "bits_per_byte": bits[run][seed]}
        for budget, models in mixtures.BUDGETS.items() for model, run in models.items() for seed in range(seeds)
    ])  # fmt: skip


def test_models_that_do_not_differ_are_hardly_ever_told_apart():
    found = [mixture_losses.verdicts(losses({}, draw=i), CONFIDENCE) for i in range(20)]
    told = [frame["verdict"].ne("can't tell").any() for frame in found]
    assert np.sum(told) <= 3, "one family of rows has one chance in twenty"


def test_what_is_far_apart_is_told_with_its_sign_and_interval():
    frame = mixture_losses.verdicts(losses({"scratch": 0.3, "upcycled": -0.3}), CONFIDENCE)
    assert len(frame) == 8 and (frame["n"] == 2).all()
    verdict = frame.groupby("model")["verdict"].unique().map(list).to_dict()
    assert verdict == {mixtures.SCRATCH: ["worse"], mixtures.UPCYCLED: ["better"]}
    assert (frame["difference_ci_low"] < frame["difference"]).all()
    given = losses({}, noise=0.02)
    row = mixture_losses.verdicts(given, CONFIDENCE).iloc[0]
    mean = given[given["budget"] == mixtures.STEPS].groupby("model")["bits_per_byte"].mean()
    assert row["difference"] == pytest.approx(mean[row["model"]] - mean[row["minus"]])


def test_one_seed_tells_nothing():
    frame = mixture_losses.verdicts(losses({"scratch": 9.0}, seeds=1), CONFIDENCE)
    assert (frame["verdict"] == "can't tell").all() and frame["difference_ci_low"].isna().all()


def test_only_the_average_that_is_asked_for_counts():
    given = losses({"scratch": 1.0})
    other = given.assign(domain="code", bits_per_byte=9.0)
    both = mixture_losses.verdicts(pd.concat([given, other]), CONFIDENCE)
    assert both.equals(mixture_losses.verdicts(given, CONFIDENCE))
