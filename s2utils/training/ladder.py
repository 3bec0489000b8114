"""A ladder of small Llamas trained from nothing, on mixes of domains: the same text, more parameters.

A run is a size, a mix, a budget of bytes and a seed. Runs of one mix, budget and seed see the same blocks in the same
order, whatever their size. Checkpoints are folders that transformers loads, made at given counts of tokens; each has
the loss on held-out text. A killed run goes on from its last checkpoint to the same bytes, and runs side by side are
equal to runs one after the other, for each computes with one thread on a CPU. Parameters are counted outside of the
embedding, which is also the head. FLOP are 6·N·D with these (Kaplan and others 2020); `flop_all` adds the head, and
attention to all earlier positions, which weigh more than the layers where a model is small. Trap: the learning rate
falls over the whole run, so a checkpoint before its end has a higher loss than a run that ends there (Hoffmann 2022).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from s2utils.architecture import experts
from s2utils.training import muon, packing
from s2utils.training.failures import TrainingError
from s2utils.training.packing import Blocks
from s2utils.training.parameters import Arm, Ladder
from s2utils.workflow import artefacts, processes, progress
from s2utils.workflow.errors import ParameterError

STATE = "state.pt"  # of a run that is not at its end
RECORD = "checkpoints.json"  # of one that is
ASPECT = 32  # hidden size to layers
RAW = "-raw"  # after a domain's name: its documents before the filters


class Run(NamedTuple):
    """One model to train."""

    name: str  # of its folder
    parameters: int  # wanted, outside of the embedding
    weights: dict[str, float]  # domain → share of the bytes
    n_bytes: int
    checkpoints: tuple[int, ...]  # tokens; the end is one in any case
    seed: int  # of the weights and of the order of the text
    variant: str = ""  # what `build` is to make of it


def rungs(ladder: Ladder, weights: Mapping[str, float]) -> list[Run]:
    """The runs of the ladder: every size on the mix `weights`, with every seed."""
    return [
        Run(f"{size}-{seed}", size, dict(weights), ladder.bytes, tuple(ladder.checkpoints), seed)
        for size in ladder.parameters
        for seed in ladder.seeds
    ]


def arms(ladder: Ladder, weights: Mapping[str, float]) -> list[Run]:
    """The runs of the ablation: one size, as many bytes of every arm, with every seed."""
    given = ladder.ablation
    return [
        Run(f"{name}-{seed}", given.parameters, weights_of(arm, weights), given.bytes, (), seed)
        for name, arm in given.arms.items()
        for seed in given.seeds
    ]


def weights_of(arm: Arm, weights: Mapping[str, float]) -> dict[str, float]:
    """{domain: share of the bytes} of an arm: the mix `weights` narrowed to `only`, `upsampled`, scaled to 1.

    A domain of `raw` is called <domain>-raw. ParameterError for a domain that the mix has not.
    """
    for domain in (*arm.only, *arm.raw, *arm.upsampled):
        if not weights.get(domain):
            raise ParameterError(f"an arm names {domain}, which is not in the mix of {', '.join(weights)}")
    kept = {
        d: w * (arm.times if d in arm.upsampled else 1)
        for d, w in weights.items()
        if w and (not arm.only or d in arm.only)
    }
    total = math.fsum(kept.values())
    return {d + RAW * (d in arm.raw): w / total for d, w in kept.items()}


def config(parameters: int, vocab_size: int, context: int) -> LlamaConfig:
    """A Llama of about that many parameters outside of the embedding, `ASPECT` times as wide as it is deep.

    Heads have 16 dimensions, 64 from 512 on; the width of the MLP, about 8/3 of the hidden size, settles the rest, so
    that the count is within 4 % from 20,000 on.
    """
    layers = max(1, round((parameters / 12 / ASPECT**2) ** (1 / 3)))
    width = math.sqrt(parameters / 12 / layers)
    head = 64 if width >= 512 else 16
    hidden = max(1, round(width / head)) * head
    mlp = max(1, round((parameters / layers - 4 * hidden**2) / (3 * hidden) / 8)) * 8
    return LlamaConfig(
        vocab_size=vocab_size, hidden_size=hidden, intermediate_size=mlp, num_hidden_layers=layers,
        num_attention_heads=hidden // head, num_key_value_heads=hidden // head, max_position_embeddings=context,
        tie_word_embeddings=True, bos_token_id=0, eos_token_id=0, pad_token_id=1, use_cache=False,
    )  # fmt: skip


def llama(run: Run, vocab_size: int, context: int) -> LlamaForCausalLM:
    """The model of a run with new weights: a `build` of `train`."""
    return LlamaForCausalLM(config(run.parameters, vocab_size, context))


def outside_embedding(model: torch.nn.Module) -> int:
    """Parameters of the layers and norms; the head is the embedding, and learned positions are one too."""
    embeddings = sum(part.weight.numel() for part in model.modules() if isinstance(part, torch.nn.Embedding))
    return sum(weight.numel() for weight in model.parameters()) - embeddings


def active_parameters(model: torch.nn.Module) -> int:
    """Those of `outside_embedding` that a token meets: of a mixture's experts, which are stacks, only its own."""
    stacks = sum(weight.numel() for weight in model.parameters() if weight.ndim == 3)
    met = stacks // model.config.num_experts * model.config.num_experts_per_tok if stacks else 0
    return outside_embedding(model) - stacks + met


def flop_per_token(facts: LlamaConfig, parameters: int) -> tuple[int, int]:
    """(6·N, the same with the head and attention) of forward and backward passes; attention looks back half a block."""
    attention = 6 * facts.num_hidden_layers * facts.hidden_size * facts.max_position_embeddings
    return 6 * parameters, 6 * (parameters + facts.vocab_size * facts.hidden_size) + attention


def learning_rate(step: int, steps: int, warmup: float, schedule: str) -> float:
    """Share of the peak at `step` (from 0): linear to 1 over the share `warmup` of the steps, then down to 0."""
    rising = max(1, round(warmup * steps))
    if step < rising:
        return (step + 1) / rising
    left = (steps - step) / max(1, steps - rising)
    return left if schedule == "linear" else (1 - math.cos(math.pi * left)) / 2


def held_out_loss(model: LlamaForCausalLM, blocks: Blocks, batch_size: int) -> tuple[float, float]:
    """(nats a token, bits a byte) of packed held-out text, whose documents are not scored each by itself."""
    with torch.no_grad():
        batches = (blocks.ids[i : i + batch_size] for i in range(0, len(blocks.ids), batch_size))
        nats = math.fsum(_loss(model, batch, reduction="sum").item() for batch in batches)
    return nats / (blocks.ids[:, 1:].size), nats / math.log(2) / int(blocks.bytes.sum())


def train(
    run: Run, blocks: Blocks, held_out: Blocks, tok: PreTrainedTokenizerBase, ladder: Ladder, folder: Path,
    device: str = "cpu", bar: bool = True, build: Callable[[Run, int, int], torch.nn.Module] = llama,
) -> pd.DataFrame:  # fmt: skip
    """Train a run into `folder`; one row a checkpoint.

    `build` makes its model of (run, vocabulary, context), a function of a module so that other processes have it.

    Columns: checkpoint (its folder's name), step, tokens, bytes, flop, flop_all, parameters, active_parameters,
    train_loss (nats a token since the last one, with the routers' balance), loss and bits_per_byte (held out). What is
    finished is read, what was killed goes on.
    TrainingError where the loss is no number or a checkpoint lies beyond the end.
    """
    if done := artefacts.read_json(folder / RECORD):
        (folder / STATE).unlink(missing_ok=True)  # a kill between the two
        return pd.DataFrame(done["checkpoints"])
    with _one_thread(device):
        return _train(run, blocks, held_out, tok, ladder, folder, device, bar, build)


def _train(run, blocks, held_out, tok, ladder, folder, device, bar, build) -> pd.DataFrame:
    """`train` of what is not finished."""
    size, context = ladder.per_device_train_batch_size * ladder.gradient_accumulation_steps, ladder.context
    steps, tokens = math.ceil(len(blocks.ids) / size), len(blocks.ids) * context
    if run.checkpoints and max(run.checkpoints) >= tokens:
        raise TrainingError(
            f"{run.name}: a checkpoint at {max(run.checkpoints):,} tokens of {tokens:,}: give more bytes"
        )
    ends = {math.ceil(count / (size * context)) for count in run.checkpoints} | {steps}
    torch.manual_seed(run.seed)
    model = build(run, len(tok), context).to(device)
    pair = muon.optimizers(model, ladder.learning_rate, ladder.adamw_learning_rate, ladder.weight_decay)
    peaks = ladder.learning_rate, ladder.adamw_learning_rate
    step, nats, rows = _resumed(folder, model, pair)
    for done in progress.bar(
        range(step, steps), initial=step, total=steps, desc=run.name, unit="step", disable=not bar
    ):
        share = learning_rate(done, steps, ladder.warmup_steps, ladder.lr_scheduler_type)
        for optimizer, peak in zip(pair, peaks):
            for group in optimizer.param_groups:
                group["lr"] = peak * share
            optimizer.zero_grad(set_to_none=True)
        nats.append(_backward(model, blocks.ids[done * size : (done + 1) * size], ladder.per_device_train_batch_size))
        for optimizer in pair:
            optimizer.step()
        if not math.isfinite(nats[-1]):
            raise TrainingError(f"{run.name}: the loss is not a number at step {done + 1}: lower ladder.learning_rate")
        if done + 1 in ends:
            row = _facts(done + 1, model, blocks, size) | {"train_loss": sum(nats) / len(nats)}
            row |= dict(
                zip(("loss", "bits_per_byte"), held_out_loss(model, held_out, ladder.per_device_train_batch_size))
            )
            rows.append(row)
            nats = []
            model.save_pretrained(folder / row["checkpoint"])
            tok.save_pretrained(folder / row["checkpoint"])
            keep(folder, done + 1, model, pair, rows)
    artefacts.write_json(folder / RECORD, {"run": run._asdict(), "checkpoints": rows})
    (folder / STATE).unlink(missing_ok=True)
    return pd.DataFrame(rows)


def train_all(
    runs: Sequence[Run], texts: Mapping[str, Sequence[str]], held_out: Mapping[str, Sequence[str]],
    tok: PreTrainedTokenizerBase, ladder: Ladder, folder: Path, workers: int = 1, device: str = "cpu",
    build: Callable[[Run, int, int], torch.nn.Module] = llama,
) -> pd.DataFrame:  # fmt: skip
    """`train` of each run into `folder`/<its name>, `workers` at a time; the rows of all, after run, seed and epochs.

    `epochs`: how often the domain that was seen most often was seen. `held_out` is packed in equal shares.
    """
    if len({run.name for run in runs}) < len(runs):
        raise ParameterError(f"two runs of one name: {', '.join(run.name for run in runs)}")
    equal = dict.fromkeys(held_out, 1 / len(held_out))
    size = sum(len(text.encode()) for documents in held_out.values() for text in documents)
    unseen = packing.pack(held_out, equal, min(size, ladder.held_out_bytes), tok, ladder.context, 0)
    packed, seen, jobs = None, None, []
    frames = {}
    with processes.pool(workers) as pool:
        for run in runs:
            text = (run.weights, run.n_bytes, run.seed)
            if text != seen:
                packed, seen = packing.pack(texts, run.weights, run.n_bytes, tok, ladder.context, run.seed), text
            job = (run, packed, unseen, tok, ladder, folder / run.name, device)
            epochs = packed.domains["epochs"].max()
            jobs.append((run, epochs, pool.submit(train, *job, False, build) if pool else train(*job, build=build)))
        waiting = progress.bar(jobs, desc="train", unit="model", disable=not pool)
        for run, epochs, made in waiting:
            frame = made.result() if pool else made
            frames[run.name] = frame.assign(seed=run.seed, epochs=epochs)
    return pd.concat(frames, names=["run"]).reset_index("run").reset_index(drop=True)


def _loss(model: LlamaForCausalLM, rows: np.ndarray, reduction: str = "mean", balanced: bool = False) -> torch.Tensor:
    """Cross-entropy in nats of the tokens of `rows` (B, T + 1) after the first; in bfloat16 on a GPU.

    `balanced` adds a mixture's balance loss, its mean over layers, as much of it as `router_aux_loss_coef` says.
    """
    ids, share = torch.from_numpy(rows.astype(np.int64)).to(model.device), 0.0
    if balanced:
        share = getattr(model.config, "router_aux_loss_coef", 0.0)
    with torch.autocast("cuda", torch.bfloat16, enabled=model.device.type == "cuda"):
        output = model(input_ids=ids[:, :-1], **({"output_router_logits": True} if share else {}))
    loss = cross_entropy(output.logits.flatten(0, 1).float(), ids[:, 1:].flatten(), reduction=reduction)
    if not share:
        return loss
    routers = [logits.float() for logits in output.router_logits]
    return loss + share * experts.balance_losses(routers, model.config.num_experts_per_tok).mean()


def _backward(model: LlamaForCausalLM, rows: np.ndarray, at_a_time: int) -> float:
    """Gradients of the mean loss of a step's rows, some at a time; returns it."""
    total = 0.0
    for i in range(0, len(rows), at_a_time):
        part = rows[i : i + at_a_time]
        loss = _loss(model, part, balanced=True) * (len(part) / len(rows))
        loss.backward()
        total += loss.item()
    return total


def _facts(step: int, model: LlamaForCausalLM, blocks: Blocks, size: int) -> dict:
    """What a checkpoint has cost."""
    tokens = min(step * size, len(blocks.ids)) * model.config.max_position_embeddings
    active = active_parameters(model)
    plain, whole = flop_per_token(model.config, active)
    return {
        "checkpoint": f"tokens-{tokens}", "step": step, "tokens": tokens,
        "bytes": int(blocks.bytes[: step * size].sum()), "flop": plain * tokens, "flop_all": whole * tokens,
        "parameters": outside_embedding(model), "active_parameters": active,
    }  # fmt: skip


def keep(folder: Path, step: int, model: LlamaForCausalLM, pair: tuple, rows: list[dict]) -> None:
    """Everything that the next step depends on, whole or not at all; what was there goes."""
    state = {
        "step": step, "rows": rows, "model": model.state_dict(), "optimizers": [o.state_dict() for o in pair],
    }  # fmt: skip
    with artefacts.replacing(folder / STATE, "wb") as file:
        torch.save(state, file)


def _resumed(folder: Path, model: LlamaForCausalLM, pair: tuple) -> tuple[int, list[float], list[dict]]:
    """(steps done, losses since, rows) of what a killed run has left, which model and optimizers take on."""
    if not (folder / STATE).is_file():
        return 0, [], []
    state = torch.load(folder / STATE, map_location=model.device, weights_only=True)
    model.load_state_dict(state["model"])
    for optimizer, kept in zip(pair, state["optimizers"]):
        optimizer.load_state_dict(kept)
    return state["step"], [], state["rows"]


@contextlib.contextmanager
def _one_thread(device: str) -> Iterator[None]:
    """One thread of a CPU: faster on matrices this small, and the same digits however many runs are side by side."""
    threads = torch.get_num_threads()
    if device == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
