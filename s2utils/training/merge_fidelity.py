"""How far a merged model stands from the exact one, the 4-bit base with its adapter unmerged beside it.

On human answers, token by token (teacher forcing): KL(exact ‖ model) of the next-token distributions in
nats a token, the share of tokens with the same likeliest next token, and the perplexity, where each
answer counts once whatever its length; in the weights: absolute differences |ΔW|. Logits are compared
in float32. Trap: a 4-bit model on a CPU must not be packed (`loading.keep_unpacked`), or the exact
model is itself up to 0.9 logit off. Source: Dettmers et al. 2023 (QLoRA).
"""

from __future__ import annotations

import gc
import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import torch
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from s2utils.models import loading
from s2utils.models.parameters import Weights
from s2utils.stats import intervals
from s2utils.training import adapters, lora, merging, weight_files
from s2utils.workflow.params import Params

if TYPE_CHECKING:
    from peft import PeftModel

EXACT, WRONG, ROUNDED, BASE = "adapter", "requantized", "nf4", "none"  # beside the merges: see `compare`
MOST = 200  # answers; more narrow the intervals little and logits of all are kept
METRICS = ("kl", "loss", "agreement")


def tokens(
    frame: pd.DataFrame, params: Params, tok: PreTrainedTokenizerBase
) -> tuple[list[tuple[list[int], int]], int]:
    """((token ids, length of the prompt) an answer, how many were over `sft.max_length`), shortest first.

    Prompt, answer and end of sequence, as in training.
    """
    examples = [loading.example(q, a, tok, params.model) for q, a in zip(frame["question"], frame["answer"])]
    rows = [row for row in loading.taught(examples, tok) if len(row[0]) <= params.sft.max_length]
    return sorted(rows, key=lambda row: len(row[0])), len(frame) - len(rows)


def compare(rows: list, params: Params, adapter: Path, merged: dict[str, Path]) -> list[dict]:
    """`answers` of the exact model, of those in the folders `merged`, and of three that they are compared with.

    requantized: the merge that goes wrong. nf4, none: the base in 4 bits and as published, without adapter. A merge
    that stands no nearer to the exact model than nf4 has lost what was learnt. The exact model, nf4 and requantized
    are one 4-bit base: with the adapter on, off, and merged by peft, which leaves no way back, so it comes last.
    """
    from peft import PeftModel

    batch_size, device = params.sft.per_device_train_batch_size, params.runtime.device
    network = PeftModel.from_pretrained(
        loading.quantized(params.model.base, params.model.dtype, device), adapter
    ).eval()
    exact = [own.cpu() for own in logits(network, rows, batch_size, "exact")]
    compared = [_row(EXACT, i, own, own, rows[i]) for i, own in enumerate(exact)]
    with network.disable_adapter():
        compared += answers(network, rows, exact, batch_size, ROUNDED)
    network = requantized(network)
    compared += answers(network, rows, exact, batch_size, WRONG)
    folders = [(mode, Weights(path=str(folder), revision="")) for mode, folder in merged.items()]
    for mode, weights in [*folders, (BASE, params.model.base)]:
        del network  # of 13 billion parameters one at a time fits
        gc.collect()
        network = loading.full(weights, params.model.dtype, device)
        compared += answers(network, rows, exact, batch_size, mode)
    order = (EXACT, *merged, WRONG, ROUNDED, BASE)
    return sorted(compared, key=lambda row: order.index(row["merge_mode"]))


def requantized(network: PeftModel) -> PreTrainedModel:
    """The merge that goes wrong: peft adds the adapter to a live 4-bit model and rounds the sum to 4 bits again."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Merge lora module to 4-bit")  # what is measured here
        merged = network.merge_and_unload()
    return loading.keep_unpacked(merged).eval()


@torch.inference_mode()
def logits(
    network: PreTrainedModel, rows: list[tuple[list[int], int]], batch_size: int, label: str | None = None
) -> Iterator[torch.Tensor]:
    """Yield the logits (answer tokens, vocabulary) that predict an answer, in the order of `rows`."""
    for first in tqdm(range(0, len(rows), batch_size), desc=label, unit="batch", disable=label is None):
        batch = rows[first : first + batch_size]
        ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row, _ in batch], batch_first=True)  # (B, T)
        lengths = torch.tensor([[len(row)] for row, _ in batch])
        skipped = min(start for _, start in batch) - 1  # prompts need no logits
        predicted = network(
            input_ids=ids.to(network.device),
            attention_mask=(torch.arange(ids.shape[1]) < lengths).to(network.device),
            use_cache=False,
            logits_to_keep=torch.arange(skipped, ids.shape[1], device=network.device),
        ).logits  # (B, T - skipped, V)
        for i, (row, start) in enumerate(batch):
            yield predicted[i, start - 1 - skipped : len(row) - 1 - skipped]


def distance(exact: torch.Tensor, other: torch.Tensor, targets: torch.Tensor) -> dict[str, float]:
    """Means over the tokens of one answer. `exact`, `other` (N, V) logits, `targets` (N,) the tokens that came.

    kl: nats a token, ≥ 0 but for rounding. loss: nats a token, of `other`. agreement: share in 0–1.
    """
    p = torch.log_softmax(exact.to(other.device).float(), dim=-1)
    q = torch.log_softmax(other.float(), dim=-1)
    return {
        "n_tokens": len(targets),
        "kl": (p.exp() * (p - q)).sum(-1).mean().item(),
        "loss": -q.gather(1, targets.to(q.device)[:, None]).mean().item(),
        "agreement": (p.argmax(-1) == q.argmax(-1)).float().mean().item(),
    }


def answers(network: PreTrainedModel, rows: list, exact: list[torch.Tensor], batch_size: int, mode: str) -> list[dict]:
    """One row per answer: merge_mode, question (its position) and its `distance` to the `exact` logits."""
    others = logits(network, rows, batch_size, mode)
    return [_row(mode, i, e, f, row) for i, (e, f, row) in enumerate(zip(exact, others, rows))]


def _row(mode: str, number: int, exact: torch.Tensor, other: torch.Tensor, row: tuple[list[int], int]) -> dict:
    ids, start = row
    return {"merge_mode": mode, "question": number} | distance(exact, other, torch.tensor(ids[start:]))


@torch.inference_mode()
def layers(params: Params, adapter: Path, merged: dict[str, Path]) -> list[dict]:
    """One row per merge_mode and linear layer: module, layer (its number), max and mean of |ΔW|, and n weights.

    ΔW is the difference to what the exact model computes with, NF4(base) + α/r·B·A, its 4 bits unpacked in the dtype it
    computes in. Read a layer at a time from the files of the base and of the `merged` models; the others are computed
    from the base.
    """
    compute, device = loading.computing(params.model.dtype), params.runtime.device
    source = loading.folder(params.model.base)
    empty = merging.plan(source)
    added, quantised = lora.changes(adapters.read(adapter), empty), merging.quantised(empty)
    sides = zip(*(weight_files.read(folder, empty, list(quantised)) for folder in (source, *merged.values())))
    rows = []
    for (name, layer), weights in tqdm(zip(quantised.items(), sides), total=len(quantised), desc="ΔW"):
        weight, *others = (weight.to(device) for _, weight in weights)
        module = name.removesuffix(".weight")
        rounded = merging.rounded(weight.to(merging.DTYPE).to(compute), layer).float()
        exact = added[name].applied(rounded) if name in added else rounded
        compared = dict(zip(merged, others))
        compared |= {WRONG: merging.rounded(exact, layer), ROUNDED: rounded, BASE: weight.to(merging.DTYPE)}
        number = next((int(part) for part in module.split(".") if part.isdigit()), -1)
        for mode, other in compared.items():
            keys = {"merge_mode": mode, "module": module, "layer": number}
            rows.append(keys | merging.change(other, exact))
    return rows


def summary(compared: pd.DataFrame, moved: pd.DataFrame, params: Params) -> pd.DataFrame:
    """One row per merge_mode of one train set: n, each metric with interval, and |ΔW| over all layers.

    Perplexity is exp of the mean loss. The exact model has no |ΔW|: it is what others are measured against.
    """
    rows = []
    for mode, part in compared.groupby("merge_mode", sort=False):
        row = {"merge_mode": mode, "n": len(part), "n_tokens": int(part["n_tokens"].sum())}
        row |= intervals.mean_columns("kl", part["kl"], params)
        loss = intervals.mean_columns("perplexity", part["loss"], params)
        row |= {name: value if name.endswith("_n_failed") else math.exp(value) for name, value in loss.items()}
        row |= intervals.mean_columns("agreement", part["agreement"], params)
        changes = moved[moved["merge_mode"] == mode].set_index("module")[["max", "mean", "n"]].to_dict("index")
        rows.append(row | (merging.overall(changes) if changes else {}))
    return pd.DataFrame(rows)
