"""A sweep: every table under every combination of its values, and how far seeds move each result.

Reads the tables that the notebooks wrote for each point; values keep the units of their table. Trap: the interval of a
run is over its questions. Another seed moves the result as well, and that is not in it. Source: Bouthillier et al. 2021
(Accounting for Variance in Machine Learning Benchmarks).
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from s2utils.evaluation import metrics
from s2utils.results import tables
from s2utils.workflow import artefacts, paths, steps
from s2utils.workflow.overrides import typed
from s2utils.workflow.params import Params

ROW = ["table", "model", "variant", "merge_mode", "dataset", "metric"]
HEADLINES = {"sft": "eval_loss_after"} | {name: metrics.TABLES[name].headline for name in metrics.STUDY}


def is_seed(key: str) -> bool:
    """Whether a parameter only draws lots: `seed`, `sft.seed`, `generate.sample_seed`."""
    return key.endswith("seed")


def collect(points: dict[str, dict], params: Params, overrides: dict) -> pd.DataFrame:
    """One row per point, table, model, merge_mode, dataset and metric: the swept values, value, ci_low, ci_high, n,
    n_failed.

    `points` as `params.points` gives them. The loss of a training ("sft") is over `n` validation answers and has no
    interval.
    """
    rows = []
    for point, values in points.items():
        for name in metrics.STUDY:
            if name == "judge" and not params.mtbench.validation:
                continue
            frame = tables.read(
                _table("mtbench" if name == "judge" else metrics.TABLES[name].step, point, overrides, name)
            )
            for row in frame.to_dict("records"):
                keys = {"point": point, **values, "table": name} | {k: row.get(k, "") for k in ROW[1:-1]}
                rows += [
                    keys
                    | {"metric": m, "value": row[m], "ci_low": row[f"{m}_ci_low"], "ci_high": row[f"{m}_ci_high"]}
                    | {"n": row["n"], "n_failed": row[f"{m}_n_failed"]}
                    for m in metrics.columns(name)
                ]
        for row in tables.read(_table("sft", point, overrides, "sft")).to_dict("records"):
            keys = {"point": point, **values, "table": "sft", "model": f"{params.model.name}-{row['train_set']}"}
            keys |= {"variant": "sft", "merge_mode": "none", "dataset": params.dataset_of(row["train_set"])}
            rows += [
                keys | {"metric": m, "value": row[m], "n": row["eval_rows"], "n_failed": 0}
                for m in ("eval_loss_before", "eval_loss_after")
            ]
    return pd.DataFrame(rows)


def _table(step: str, point: str, overrides: dict, name: str) -> Path:
    """A point's table; MissingArtefact where it is not there yet."""
    file = paths.reports(steps.home(step, point, overrides)) / "tables" / f"{name}.csv"
    if not file.is_file():
        command = f"make 08_sweep PROFILE={point.partition('@')[0]}{typed(overrides)}"
        raise artefacts.MissingArtefact(
            f"{file.relative_to(paths.root())} is not there yet: run notebooks/{steps.STEPS[step].notebook}.ipynb "
            f"under the profile {point} first, or in the terminal\n    {command}"
        )
    return file


def summary(found: pd.DataFrame, swept: list[str]) -> pd.DataFrame:
    """One row per setting (the swept values but the seeds) and result: value, its interval, and its spread over seeds.

    value, ci_low, ci_high: means over the seeds of a run's value and of its interval over questions; seed_sd (n − 1),
    seed_min, seed_max over the `seeds` runs, empty for a single one; above_base: runs with a value above the base
    model's under the same values and seed.
    """
    base = found[found["variant"] == "base"].set_index(["point", "table", "dataset", "metric"])["value"]
    places = pd.MultiIndex.from_frame(found[["point", "table", "dataset", "metric"]])
    above = (found["value"] > base.reindex(places).to_numpy()).where(found["variant"] == "sft")
    groups = found.assign(above=above).groupby([k for k in swept if not is_seed(k)] + ROW, sort=False, dropna=False)
    made = groups.agg(
        n=("n", "first"),
        n_failed=("n_failed", "sum"),
        seeds=("value", "size"),
        value=("value", "mean"),
        ci_low=("ci_low", "mean"),
        ci_high=("ci_high", "mean"),
        seed_sd=("value", "std"),
        seed_min=("value", "min"),
        seed_max=("value", "max"),
        above_base=("above", lambda a: a.astype(float).sum(min_count=1)),
    ).reset_index()
    made.loc[made["seeds"] == 1, ["seed_min", "seed_max"]] = float("nan")
    return made


def headline(found: pd.DataFrame) -> pd.DataFrame:
    """The main metric of each table, one row per point, table and model: the mean over data sets and merges."""
    main = found[found["metric"] == found["table"].map(HEADLINES)]
    keys = [c for c in main if c not in ("merge_mode", "dataset", "value", "ci_low", "ci_high", "n", "n_failed")]
    return main.groupby(keys, sort=False)["value"].mean().reset_index()


def label(row: pd.Series, swept: list[str]) -> str:
    """A setting in words: its values but the seeds."""
    return ", ".join(f"{k} {row[k]}" for k in swept if not is_seed(k)) or "as the profile"


def name(metric: str) -> str:
    """A metric's name, that of the loss of training too."""
    return "validation loss" if metric == "eval_loss_after" else metrics.name(metric)
