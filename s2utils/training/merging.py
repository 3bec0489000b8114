"""Merge a QLoRA adapter into its base: simply (bf16), carefully (dequantized), or not at all (adapter).

- `bf16`: base weights + adapter.
- `dequantized`: base → NF4 → bf16, + adapter, so inference sees the weights that training saw, rounded once more.
- `adapter`: 4-bit base beside its unmerged adapter, the exact model that was trained; no weights are made.

The sum is made in float32, a weight at a time, and cast once, to bf16 whatever the model then computes in
(`model.dtype`); `write` holds one shard of the model in memory, whatever the base's own shards are. What an adapter
may hold is told by `lora`. Traps: merging *into* a live 4-bit model re-quantises the sum; and training quantised bf16
weights, so NF4 comes from bf16 also where the model is float16 or float32. Source: Dettmers et al. 2023 (QLoRA).
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from tqdm.auto import tqdm
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion
from transformers.pytorch_utils import Conv1D

from s2utils.models import loading
from s2utils.models.parameters import Weights
from s2utils.training import adapters, lora, parts
from s2utils.training.adapters import MergeError
from s2utils.workflow import artefacts

MODES = ("bf16", "dequantized")
DTYPE = torch.bfloat16  # of a merged model's weights
SHARD = 2 * 10**9  # bytes of a written file, and so of weights in memory


def nf4_round_trip(weight: torch.Tensor) -> torch.Tensor:
    """`weight` after NF4 with double quantisation and back, in its own dtype; blocks run along the layer's inputs."""
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    packed, state = quantize_4bit(weight.contiguous(), quant_type="nf4", compress_statistics=True, blocksize=64)
    return dequantize_4bit(packed, state)


def rounded(weight: torch.Tensor, layer: torch.nn.Module) -> torch.Tensor:
    """A layer's weight as the 4-bit model holds it; a Conv1D's lies as (in, out), which bitsandbytes turns round first."""
    return nf4_round_trip(weight.mT).mT if isinstance(layer, Conv1D) else nf4_round_trip(weight)


def summed(weight: torch.Tensor, mode: str, layer: torch.nn.Module | None, change: lora.Change | None) -> torch.Tensor:
    """A merged weight in float32; `layer` is None for what NF4 leaves alone, `change` where the adapter does."""
    seen = rounded(weight.to(DTYPE), layer) if mode == "dequantized" and layer is not None else weight
    return seen.float() if change is None else change.applied(seen.float())


@torch.no_grad()
def merge(model: PreTrainedModel, adapter: Path, mode: str) -> tuple[PreTrainedModel, dict]:
    """Merge `adapter` into a full-precision `model`, in place; what it does not hold and NF4 leaves alone stays.

    Also returns what `overall` says of the merged weights. Raises MergeError as `checked` does.
    """
    added, layers = checked(model, adapter, mode), quantised(model)
    moved = {}
    for name, weight in tqdm(list(model.named_parameters()), desc=f"merge {mode}", unit="weight"):
        if name in added or name in layers:
            before = weight.data
            weight.data = summed(before, mode, layers.get(name), added.get(name)).to(before.dtype).contiguous()
            moved[name] = change(weight.data, before)
    return model, overall(moved)


@torch.no_grad()
def write(base: Weights, adapter: Path, mode: str, folder: Path, device: str = "cpu", shard: int = SHARD) -> dict:
    """Write `base` merged with `adapter` into `folder` as a model that transformers loads; returns `overall`.

    The same weights as loading the base in bf16, `merge` and save, but files of about `shard` bytes are
    made one after another and renamed when whole; those that are there are not made again. Sums are made
    on `device`. Tokenizer not included. Raises MergeError as `checked` does, and where the base has no safetensors.
    """
    if mode == "adapter":
        return keep(base, adapter, folder)
    device, source = loading.usable(device), loading.folder(base)
    where, empty = tensors(source), plan(source)
    added, layers = checked(empty, adapter, mode), quantised(empty)
    held = parts.of(empty, where)
    added |= {name: added[twin] for name, twin in empty.all_tied_weights_keys.items() if name in held and twin in added}
    if missing := sorted(parts.needed(empty) - set(held)):
        raise MergeError(f"{source} does not hold {missing[0]} under this name")
    sizes = {name: weight.nbytes for name, weight in empty.state_dict().items() if name in held}
    groups = grouped(sizes, shard)
    moved = artefacts.read_json(folder / "changes.json") or {}
    for file, names in tqdm(named(groups).items(), desc=f"merge {mode}", unit="file"):
        if (folder / file).is_file():
            continue
        made = {}
        for name, weight in read(source, empty, names):
            made[name] = weight.to(empty.dtype) if weight.is_floating_point() else weight
            if name in layers or name in added:
                before = made[name].to(device)
                after = summed(before, mode, layers.get(name), added.get(name)).to(empty.dtype)
                made[name], moved[name] = after.cpu(), change(after, before)
        made = {name: weight.contiguous() for name, weight in revert_weight_conversion(empty, made).items()}
        save_file(made, folder / f".{file}", metadata={"format": "pt"})
        artefacts.write_json(folder / "changes.json", moved)  # first: a renamed shard is never read again
        os.replace(folder / f".{file}", folder / file)
    if len(groups) > 1:
        write_index(folder, list(named(groups)), sum(sizes.values()))
    empty.config.save_pretrained(folder)
    if (source / "generation_config.json").is_file():  # copied: some published ones are refused when saved anew
        shutil.copyfile(source / "generation_config.json", folder / "generation_config.json")
    return overall(moved)


def keep(base: Weights, adapter: Path, folder: Path) -> dict:
    """Put the adapter itself into `folder`, with the base that `models.full` loads beneath it; {} for no change."""
    saved = adapters.read(adapter)
    lora.changes(saved, plan(loading.folder(base)))  # refuses what does not fit
    shutil.copyfile(adapter / adapters.WEIGHTS, folder / adapters.WEIGHTS)
    own = {"base_model_name_or_path": base.path, "revision": base.revision or None}
    artefacts.write_json(folder / adapters.CONFIG, saved.config | own)
    return {}


def plan(source: Path) -> PreTrainedModel:
    """The model of a folder without its weights: names and shapes, in `DTYPE`."""
    config = AutoConfig.from_pretrained(source, dtype=DTYPE)
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, dtype=config.dtype)


def linear(model: PreTrainedModel) -> dict[str, torch.nn.Module]:
    """Name → linear layer, the output head left out: what NF4 holds in 4 bits. Fused experts are none."""
    head = model.get_output_embeddings()
    return {n: m for n, m in model.named_modules() if isinstance(m, (torch.nn.Linear, Conv1D)) and m is not head}


def quantised(model: PreTrainedModel) -> dict[str, torch.nn.Module]:
    """Name of a weight → its linear layer."""
    return {f"{name}.weight": layer for name, layer in linear(model).items()}


def checked(model: PreTrainedModel, adapter: Path, mode: str) -> dict[str, lora.Change]:
    """The adapter's changes; MergeError as `adapters.read` and `lora.changes`."""
    if mode not in MODES:
        raise ValueError(f"unknown merge mode {mode!r}; known: {', '.join(MODES)}")
    return lora.changes(adapters.read(adapter), model)


def change(after: torch.Tensor, before: torch.Tensor) -> dict[str, float]:
    """Largest and mean absolute difference of two weights, and how many numbers they hold."""
    moved = (after.float() - before.float()).abs()
    return {"max": moved.max().item(), "mean": moved.mean().item(), "n": moved.numel()}


def overall(changes: dict[str, dict[str, float]]) -> dict[str, float]:
    """Largest and mean absolute change of a weight over all that were merged."""
    count = sum(c["n"] for c in changes.values())
    mean = sum(c["mean"] * c["n"] for c in changes.values()) / count
    return {"max_abs_change": max(c["max"] for c in changes.values()), "mean_abs_change": mean}


# Files


def tensors(source: Path) -> dict[str, str]:
    """Tensor name → safetensors file of a model's folder, in the order of the files."""
    if index := artefacts.read_json(source / "model.safetensors.index.json"):
        return dict(sorted(index["weight_map"].items(), key=lambda item: item[1]))
    if not (source / "model.safetensors").is_file():
        raise MergeError(f"{source} holds no model.safetensors: only that format is read a tensor at a time")
    with opened(source / "model.safetensors") as file:
        return dict.fromkeys(file.keys(), "model.safetensors")


@contextlib.contextmanager
def opened(file: Path) -> Iterator[safe_open]:
    """A safetensors file; MergeError where it is not there or cut."""
    try:
        with safe_open(file, "pt") as tensors:
            yield tensors
    except (FileNotFoundError, SafetensorError) as error:
        raise MergeError(f"{file} is missing, cut or no safetensors file ({error}): fetch it again") from None


def read(source: Path, model: PreTrainedModel, names: list[str]) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield (name, weight) of `model` for `names`, read from a folder one at a time.

    A file stays open only while a weight is read, so that its pages can go.
    """
    where = tensors(source)
    made_of, shapes = parts.of(model, where), {name: weight.shape for name, weight in model.state_dict().items()}
    for name in names:
        held = {}
        for file in dict.fromkeys(where[part.name] for part in made_of[name]):
            with opened(source / file) as stored:
                held |= {p.name: stored.get_tensor(p.name) for p in made_of[name] if where[p.name] == file}
        weight, planned = parts.joined(model, name, [(p, held[p.name]) for p in made_of[name]]), shapes[name]
        if weight.shape != planned:
            raise MergeError(
                f"{source}: {name} is {tuple(weight.shape)} and by config.json {tuple(planned)}: fetch both anew"
            )
        yield name, weight


def write_index(folder: Path, files: list[str], size: int) -> None:
    """The index of a model in several files, whose weights take `size` bytes."""
    index = {}
    for name in files:
        with opened(folder / name) as file:
            index |= dict.fromkeys(file.keys(), name)
    contents = {"metadata": {"total_size": size}, "weight_map": index}
    artefacts.write_json(folder / "model.safetensors.index.json", contents)


def grouped(sizes: dict[str, int], limit: int) -> list[list[str]]:
    """Names in their order, cut into groups of at most `limit` bytes (a larger tensor stands alone)."""
    groups, filled = [[]], 0
    for name, size in sizes.items():
        if groups[-1] and filled + size > limit:
            groups.append([])
            filled = 0
        groups[-1].append(name)
        filled += size
    return groups


def named(groups: list[list[str]]) -> dict[str, list[str]]:
    """File name → its group, as transformers names shards."""
    if len(groups) == 1:
        return {"model.safetensors": groups[0]}
    return {f"model-{i:05d}-of-{len(groups):05d}.safetensors": group for i, group in enumerate(groups, start=1)}
