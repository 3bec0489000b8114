"""What the arms of an architecture have learnt: loss on held-out text by variant, and by length for positions.

Loss is in nats a token. Every length scores the same tokens: blocks of the longest are cut into pieces, so shorter
pieces differ in nothing but what a token can look back on. Intervals of a loss are of blocks of packed text drawn anew,
of which one document may fill several, so they are rather too narrow; a difference from the baseline is judged by the
spread over seeds: losses are taken as variant + seed + rest (a two-way layout without interaction; all arms of a seed
see the same text), and the rest of all arms together gives a t interval, its p corrected for the number of arms (Holm).
Trap: the rest is taken to be alike in all arms; two seeds could not show otherwise. Source: Montgomery, Design and
Analysis of Experiments, randomised blocks.
"""

from __future__ import annotations

import math
import time

import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch.nn.functional import cross_entropy
from transformers import AutoTokenizer

from s2utils.architecture import decoder
from s2utils.stats import intervals, ratios
from s2utils.training import ladder, packing, pretraining
from s2utils.training.architecture_arms import BASELINE, CHOICES
from s2utils.training.packing import Blocks
from s2utils.workflow import progress
from s2utils.workflow.notebook import Run
from s2utils.workflow.params import Params

PASSES = 5  # timed, after one that warms up


def held_out(run: Run, rows: pd.DataFrame) -> Blocks:
    """Held-out text of 09 in blocks as long as the longest length, domains in equal shares."""
    p = run.params
    frame = pd.read_parquet(run.require("corpus").folder / "held_out.parquet")
    trained = pd.read_parquet(run.require("corpus").folder / "train.parquet", columns=["domain"])["domain"].unique()
    texts = frame[frame["domain"].isin(trained)].groupby("domain", sort=False)["text"].apply(list).to_dict()
    tok = AutoTokenizer.from_pretrained(_folder(run, rows.iloc[0]))
    length = p.ladder.context * max(p.architecture.times)
    return packing.pack(texts, dict.fromkeys(texts, 1 / len(texts)), p.architecture.held_out_bytes, tok, length, 0)


def measured(run: Run, rows: pd.DataFrame, blocks: Blocks) -> pd.DataFrame:
    """One row an arm, seed and length: arm, seed, parameters, length, n, loss with interval, milliseconds a pass.

    Arms of positions are timed, and measured at all lengths, others at that of training. Timed are forward passes
    over as many tokens as a batch of training has; the interval is of passes drawn anew. What an arm cannot read is
    missing.
    """
    p, found = run.params, []
    context = p.ladder.context
    for row in progress.bar(list(rows.itertuples()), desc="arms", unit="model"):
        arm, model = row.run.rpartition("-")[0], decoder.load(_folder(run, row)).to(p.runtime.device)
        known = {"arm": arm, "seed": row.seed, "parameters": ladder.outside_embedding(model)}
        positions = arm in CHOICES["positions"].values()
        for times in p.architecture.times if positions else (1,):
            length, values = times * context, {"loss": (math.nan,) * 3, "forward_ms": (math.nan,) * 3}
            if model.config.positions != "learned" or length <= context:
                nats, tokens = losses(model, blocks, length), [blocks.ids.shape[1] - 1] * len(blocks.ids)
                rng = np.random.default_rng(p.seed)
                loss, drawn = ratios.resampled(nats, tokens, p.text_metrics.resamples, rng)
                values["loss"] = (loss, *intervals.percentiles(drawn, p.text_metrics.confidence, [len(tokens)]))
                batch = p.ladder.per_device_train_batch_size * context
                passes = forward_times(model, length, batch) if positions else []
                values["forward_ms"] = intervals.mean(passes, p, few=True)
            estimates = {k: v for name, value in values.items() for k, v in intervals.columns(name, value).items()}
            found.append(known | {"length": length, "n": len(blocks.ids)} | estimates)
    return pd.DataFrame(found)


@torch.inference_mode()
def losses(model: decoder.Decoder, blocks: Blocks, length: int) -> np.ndarray:
    """Nats of each block, (n,), read in pieces of `length` tokens; ValueError where they do not fill it."""
    size = blocks.ids.shape[1] - 1
    if size % length:
        raise ValueError(f"pieces of {length} tokens do not fill a block of {size}")
    ids = torch.from_numpy(blocks.ids.astype(np.int64)).to(model.device)
    sums = []
    for row in ids:
        given, target = row[:-1].view(-1, length), row[1:].view(-1, length)
        sums.append(cross_entropy(model(given).logits.flatten(0, 1), target.flatten(), reduction="sum").item())
    return np.array(sums)


@torch.inference_mode()
def forward_times(model: decoder.Decoder, length: int, tokens: int) -> list[float]:
    """Milliseconds of a forward pass over about `tokens` tokens in pieces of `length`, `PASSES` times.

    Forward alone: at the longest length a backward pass over T5's scores of all layers would not fit 40 GB.
    """
    draw = torch.Generator().manual_seed(0)
    size = (max(1, tokens // length), length)
    ids = torch.randint(model.config.vocab_size, size, generator=draw).to(model.device)
    passes = []
    for _ in range(PASSES + 1):
        started = time.perf_counter()
        model(ids)
        if model.device.type == "cuda":
            torch.cuda.synchronize()
        passes.append(1000 * (time.perf_counter() - started))
    return passes[1:]


def by_choice(found: pd.DataFrame, context: int) -> pd.DataFrame:
    """The table `blocks`: choice, variant, seed, parameters, n, loss with interval; `found` as `measured` gives it."""
    trained = found[found["length"] == context].set_index("arm")
    parts = [
        trained.loc[[arm]].assign(choice=choice, variant=variant)
        for choice, variants in CHOICES.items()
        for variant, arm in variants.items()
    ]
    columns = ["choice", "variant", "seed", "parameters", "n", "loss", "loss_ci_low", "loss_ci_high"]
    return pd.concat(parts)[columns].reset_index(drop=True)


def verdicts(found: pd.DataFrame, params: Params) -> pd.DataFrame:
    """One row a variant that is not the baseline: choice, variant, n (seeds), difference, interval, p_holm, verdict.

    `difference` is its loss minus the baseline's, averaged over seeds; `found` as `measured` gives it.
    """
    wide = found[found["length"] == params.ladder.context].pivot(index="arm", columns="seed", values="loss")
    apart, confidence = against(wide, BASELINE, params.text_metrics.confidence), params.text_metrics.confidence
    rows = [
        {"choice": choice, "variant": variant, **apart.loc[arm].to_dict()}
        for choice, variants in CHOICES.items()
        for variant, arm in variants.items()
        if arm != BASELINE
    ]
    return judged(pd.DataFrame(rows), confidence)


def judged(rows: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """Differences of losses as `against` gives them: p corrected for their number (p_holm), and the verdict."""
    p_holm = intervals.holm(rows["p"])
    words = np.where(rows["difference"] < 0, "better", "worse")
    told = {"p_holm": p_holm, "verdict": np.where(np.array(p_holm) < 1 - confidence, words, "can't tell")}
    return rows.drop(columns="p").astype({"n": int}).assign(**told)


def against(losses: pd.DataFrame, baseline: str, confidence: float) -> pd.DataFrame:
    """Differences from `baseline`, a row of `losses` (variants × seeds), of the other rows: n, difference, interval, p.

    The interval and p are missing with one seed, which has no spread.
    """
    arms, seeds = losses.shape
    rest = losses.sub(losses.mean(axis=1), axis=0).sub(losses.mean(axis=0) - losses.to_numpy().mean(), axis=1)
    freedom = (arms - 1) * (seeds - 1)
    error = math.sqrt((rest.to_numpy() ** 2).sum() / freedom * 2 / seeds) if freedom else math.nan
    difference = (losses.mean(axis=1) - losses.mean(axis=1)[baseline]).drop(baseline)
    half = stats.t.ppf((1 + confidence) / 2, max(freedom, 1)) * error
    p = 2 * stats.t.sf(difference.abs() / error, max(freedom, 1)) if error else np.zeros(len(difference))
    return pd.DataFrame(
        {
            "n": seeds, "difference": difference, "difference_ci_low": difference - half,
            "difference_ci_high": difference + half, "p": p,
        }
    )  # fmt: skip


def _folder(run: Run, row):
    return pretraining.checkpoint(run.artefact(step="arms").folder, row)
