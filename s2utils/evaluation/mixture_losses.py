"""Do experts pay? Bits a byte by domain of mixtures and dense models that had as many steps, or as much computation.

A row a budget, model, domain and seed (`training.mixtures.BUDGETS`); a model that stands under several budgets is the
same one. Parameters are those of `architecture.shapes`, the embedding with them; FLOP are of training. Intervals are of
documents drawn anew; what seeds change is told beside. Trap: at equal steps a mixture may win for it computes more a
step, and at equal FLOP lose for it then reads less: neither answers the other.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
from transformers import AutoConfig

from s2utils.architecture import shapes
from s2utils.evaluation import fit
from s2utils.training import mixtures
from s2utils.workflow.params import Params

FACTS = ["budget", "model", "total_parameters", "active_parameters", "tokens", "flop", "domain", "seed"]


def table(folder: Path, rows: pd.DataFrame, documents: pd.DataFrame, params: Params) -> pd.DataFrame:
    """One row a budget, model, domain (averages too, as `fit.by_domain`) and seed.

    Columns: `FACTS`, n, loss (nats a token) and bits_per_byte with their intervals. `rows` as `mixtures.make_mixtures`
    gives them, in `folder`; `documents` as `fit.chosen`.
    """
    last = rows.sort_values("tokens", kind="stable").groupby("run", sort=False).tail(1).set_index("run")
    scores = fit.of_checkpoints(folder, rows, documents, params)
    found = []
    for (budget, models), seed in itertools.product(mixtures.BUDGETS.items(), params.mixtures.seeds):
        for model, run in models.items():
            end = last.loc[f"{run}-{seed}"]
            config = AutoConfig.from_pretrained(folder / end.name / end["checkpoint"])
            facts = {
                "budget": budget, "model": model, "total_parameters": shapes.total_parameters(config),
                "active_parameters": shapes.active_parameters(config), "tokens": end["tokens"], "flop": end["flop_all"],
            }  # fmt: skip
            found.append(scores[scores["run"] == end.name].assign(**facts))
    ends = ["", "_ci_low", "_ci_high"]
    frame = pd.concat(found, ignore_index=True)
    frame = frame.assign(**{f"loss{end}": np.log(frame[f"perplexity{end}"]) for end in ends})
    return frame[[*FACTS, "n", *(f"{metric}{end}" for metric in ("loss", "bits_per_byte") for end in ends)]]


def verdicts(losses: pd.DataFrame, domain: str = fit.MACRO) -> pd.DataFrame:
    """Every mixture minus every dense model of its budget: one row each, of `table`.

    Columns: budget, model, minus, n (seeds), difference (mean of seeds, bits a byte), lowest and highest of the seeds,
    spread (the largest difference that the seed alone makes, in either model), verdict. Better or worse is what all
    seeds agree on and is more than that spread.
    """
    rows = []
    for budget, part in losses[losses["domain"] == domain].groupby("budget", sort=False):
        bits = part.pivot(index="seed", columns="model", values="bits_per_byte")
        dense = [model for model in part["model"].unique() if model not in mixtures.MIXTURES]
        mixed = [model for model in part["model"].unique() if model in mixtures.MIXTURES]
        for model, other in itertools.product(mixed, dense):
            if (model, other) == (mixtures.SCRATCH, mixtures.RESTARTED):
                continue  # one that was never stopped
            apart = bits[model] - bits[other]
            spread = max(bits[name].max() - bits[name].min() for name in (model, other))
            firm = len(apart) > 1 and (apart.min() > 0 or apart.max() < 0) and abs(apart.mean()) > spread
            rows.append({
                "budget": budget, "model": model, "minus": other, "n": len(apart), "difference": apart.mean(),
                "difference_lowest": apart.min(), "difference_highest": apart.max(), "spread": spread,
                "verdict": ("worse" if apart.mean() > 0 else "better") if firm else "cannot be told",
            })  # fmt: skip
    return pd.DataFrame(rows)
