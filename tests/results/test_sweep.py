import math

import pandas as pd
import pytest

from s2utils.results import sweep
from s2utils.workflow import artefacts, params


def row(point: str, seed: int, value: float, variant: str = "sft", rate: float = 1.0, **more) -> dict:
    """A result of one point of a sweep over `sft.seed` and `sft.learning_rate`."""
    return {
        "point": point, "sft.seed": seed, "sft.learning_rate": rate, "table": "flesch", "model": variant,
        "variant": variant,
        "merge_mode": "none", "dataset": "d", "metric": "flesch_reading_ease", "value": value, "ci_low": value - 1,
        "ci_high": value + 3, "n": 10, "n_failed": 1,
    } | more  # fmt: skip


SWEPT = ["sft.seed", "sft.learning_rate"]


def test_seeds_are_what_only_draws_lots():
    assert all(map(sweep.is_seed, ("seed", "sft.seed", "generate.sample_seed")))
    assert not any(map(sweep.is_seed, ("sft.learning_rate", "seed.x")))


def test_the_spread_over_seeds_by_hand():
    found = pd.DataFrame(
        [row("a", 1, 2.0), row("b", 2, 4.0), row("a", 1, 3.0, "base"), row("b", 2, 3.0, "base"),
            row("c", 1, 9.0, rate=2.0)]
    )  # fmt: skip
    made = sweep.summary(found, SWEPT).set_index(["variant", "sft.learning_rate"])
    tuned = made.loc[("sft", 1.0)]
    assert (tuned["value"], tuned["ci_low"], tuned["ci_high"]) == (3.0, 2.0, 6.0)
    assert tuned["seed_sd"] == pytest.approx(math.sqrt(2)) and (tuned["seed_min"], tuned["seed_max"]) == (2.0, 4.0)
    assert (tuned["seeds"], tuned["n"], tuned["n_failed"], tuned["above_base"]) == (2, 10, 2, 1)
    base = made.loc[("base", 1.0)]
    assert base["seed_sd"] == 0 and math.isnan(base["above_base"])


def test_a_single_run_has_no_spread():
    made = sweep.summary(pd.DataFrame([row("a", 1, 2.0), row("a", 1, 1.0, "base")]), SWEPT)
    assert made[["seed_sd", "seed_min", "seed_max"]].isna().all(axis=None) and (made["seeds"] == 1).all()
    assert made.set_index("variant").at["sft", "above_base"] == 1


def test_the_headline_is_the_mean_over_data_sets_and_merges():
    found = pd.DataFrame(
        [row("a", 1, 2.0), row("a", 1, 4.0, dataset="e"), row("a", 1, 7.0, metric="flesch_kincaid_grade")]
    )
    assert sweep.headline(found)["value"].tolist() == [3.0]


def test_a_setting_is_named_by_its_values_but_the_seeds():
    assert sweep.label(pd.Series({"sft.seed": 1, "sft.r": 8}), ["sft.seed", "sft.r"]) == "sft.r 8"
    assert sweep.label(pd.Series({"sft.seed": 1}), ["sft.seed"]) == "as the profile"


def test_a_point_without_tables_says_what_makes_them(tree):
    changes = {"sweep": {"sft.seed": [42, 43]}}
    loaded = params.load("smoke", changes)
    with pytest.raises(artefacts.MissingArtefact, match=r"make 08_sweep PROFILE=smoke SET='sweep.sft.seed=\[42,43\]'"):
        sweep.collect(params.points("smoke", loaded), loaded, changes)
