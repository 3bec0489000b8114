"""Do experts pay? Bits a byte by domain of mixtures and dense models that had as many steps, or as much computation.

A row a budget, model, domain and seed (`training.mixtures.BUDGETS`); a model that stands under several budgets is the
same one. Parameters are those of `architecture.shapes`, the embedding with them; FLOP are of training. Intervals of a
loss are of documents drawn anew; a difference is judged by the spread over seeds. Trap: at equal steps a mixture may
win for it computes more a step, and at equal FLOP lose for it then reads less: neither answers the other.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
from transformers import AutoConfig

from s2utils.architecture import shapes
from s2utils.evaluation import fit
from s2utils.evaluation.architecture_losses import against, judged
from s2utils.stats import intervals
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
    frame = pd.concat(found, ignore_index=True)
    loss, perplexity, bits = (intervals.names(metric) for metric in ("loss", "perplexity", "bits_per_byte"))
    frame = frame.assign(**dict(zip(loss, np.log(frame[perplexity].to_numpy()).T)))
    return frame[[*FACTS, "n", *loss, *bits]]


def verdicts(losses: pd.DataFrame, confidence: float, domain: str = fit.MACRO) -> pd.DataFrame:
    """Every mixture minus every dense model of its budget: one row each, of `table`.

    Columns: budget, model, minus, n (seeds), difference (mean of seeds, bits a byte) with its interval, p_holm over all
    rows, verdict. The spread is what all runs together leave over (`architecture_losses.against`): two seeds of two
    models alone would tell hardly any. One seed has no spread, and tells nothing.
    """
    runs = {(budget, model): run for budget, models in mixtures.BUDGETS.items() for model, run in models.items()}
    macro = losses[losses["domain"] == domain]
    macro = macro.assign(arm=[runs[pair] for pair in zip(macro["budget"], macro["model"])])
    wide = macro.drop_duplicates(["arm", "seed"]).pivot(index="arm", columns="seed", values="bits_per_byte")
    rows = []
    for budget, part in macro.groupby("budget", sort=False):
        models = dict.fromkeys(part["model"])
        dense = [model for model in models if model not in mixtures.MIXTURES]
        for model, other in itertools.product([model for model in models if model in mixtures.MIXTURES], dense):
            if (model, other) == (mixtures.SCRATCH, mixtures.RESTARTED):
                continue  # one that was never stopped
            apart = against(wide, runs[budget, other], confidence).loc[runs[budget, model]]
            rows.append({"budget": budget, "model": model, "minus": other} | apart.to_dict())
    return judged(pd.DataFrame(rows), confidence)
