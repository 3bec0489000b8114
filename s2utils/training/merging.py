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

import os
import shutil
from pathlib import Path

import torch
from huggingface_hub import split_state_dict_into_shards_factory
from safetensors.torch import save_file
from tqdm.auto import tqdm
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion
from transformers.pytorch_utils import Conv1D

from s2utils.models import loading
from s2utils.models.parameters import Weights
from s2utils.training import adapters, lora, publish, weight_files
from s2utils.training.adapters import MergeError
from s2utils.workflow import artefacts, steps
from s2utils.workflow.notebook import Run

MODES = ("bf16", "dequantized")
DTYPE = torch.bfloat16  # of a merged model's weights
SHARD = 2 * 10**9  # bytes of a written file, and so of weights in memory


def nf4_round_trip(weight: torch.Tensor) -> torch.Tensor:
    """`weight` after NF4 with double quantisation and back, in its own dtype; blocks run along the layer's inputs."""
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    packed, state = quantize_4bit(weight.contiguous(), quant_type="nf4", compress_statistics=True, blocksize=64)
    return dequantize_4bit(packed, state)


def rounded(weight: torch.Tensor, layer: torch.nn.Module) -> torch.Tensor:
    """A layer's weight as the 4-bit model holds it; a Conv1D's lies as (in, out), and bitsandbytes turns it first."""
    return nf4_round_trip(weight.mT).mT if isinstance(layer, Conv1D) else nf4_round_trip(weight)


def summed(weight: torch.Tensor, mode: str, layer: torch.nn.Module | None, change: lora.Change | None) -> torch.Tensor:
    """A merged weight in float32; `layer` is None for what NF4 leaves alone, `change` where the adapter does."""
    seen = rounded(weight.to(DTYPE), layer) if mode == "dequantized" and layer is not None else weight
    return seen.float() if change is None else change.applied(seen.float())


def make(run: Run, name: str) -> None:
    """Merge the adapter behind a model, unless that is done, with tokenizer and card, ready for `from_pretrained`.

    A killed merge goes on with the file it stopped in.
    """
    row, merged, params = steps.model(run.params, name), run.artefact(name, "merged"), run.params
    if merged.ready:
        return
    adapter = run.require("sft", row.train_set).folder
    with merged.making(model=row.model, merge_mode=row.merge_mode) as record:
        record["change"] = write(params.model.base, adapter, row.merge_mode, merged.folder, params.runtime.device)
        loading.tokenizer(params.model.base).save_pretrained(merged.folder)
        result = artefacts.read_json(adapter / "result.json")
        with artefacts.replacing(merged.folder / "README.md") as file:
            file.write(publish.card(params, row.train_set, result, row.merge_mode))


@torch.no_grad()
def write(base: Weights, adapter: Path, mode: str, folder: Path, device: str = "cpu", shard: int = SHARD) -> dict:
    """Write `base` merged with `adapter` into `folder` as a model that transformers loads; returns `overall`.

    The base in bf16, merged and saved, but files of about `shard` bytes are made one after another and renamed when
    whole; those that are there are not made again. Sums are made on `device`. Tokenizer not included. Raises MergeError
    as `adapters.read` and `lora.changes` do, and where the base has no safetensors.
    """
    if mode == "adapter":
        return keep(base, adapter, folder)
    device, source = loading.usable(device), loading.folder(base)
    stored, model = weight_files.tensors(source), plan(source)
    added, layers = lora.changes(adapters.read(adapter), model), quantised(model)
    parts = weight_files.parts(model, stored)
    added |= {
        name: added[twin] for name, twin in model.all_tied_weights_keys.items() if name in parts and twin in added
    }
    if missing := sorted(weight_files.needed(model) - set(parts)):
        raise MergeError(f"{source} does not hold {missing[0]} under this name")
    sizes = {name: weight.nbytes for name, weight in model.state_dict().items() if name in parts}
    split = split_state_dict_into_shards_factory(
        sizes, get_storage_size=int, filename_pattern="model{suffix}.safetensors", max_shard_size=shard
    )
    changes = artefacts.read_json(folder / "changes.json") or {}
    for file, names in tqdm(split.filename_to_tensors.items(), desc=f"merge {mode}", unit="file"):
        if (folder / file).is_file():
            continue
        merged = {}
        for name, weight in weight_files.read(source, model, names):
            merged[name] = weight.to(model.dtype) if weight.is_floating_point() else weight
            if name in layers or name in added:
                before = merged[name].to(device)
                after = summed(before, mode, layers.get(name), added.get(name)).to(model.dtype)
                merged[name], changes[name] = after.cpu(), change(after, before)
        merged = {name: weight.contiguous() for name, weight in revert_weight_conversion(model, merged).items()}
        save_file(merged, folder / f".{file}", metadata={"format": "pt"})
        artefacts.write_json(folder / "changes.json", changes)  # first: a renamed shard is never read again
        os.replace(folder / f".{file}", folder / file)
    if len(split.filename_to_tensors) > 1:
        weight_files.write_index(folder, list(split.filename_to_tensors), sum(sizes.values()))
    model.config.save_pretrained(folder)
    if (source / "generation_config.json").is_file():  # copied: some published ones are refused when saved anew
        shutil.copyfile(source / "generation_config.json", folder / "generation_config.json")
    return overall(changes)


def keep(base: Weights, adapter: Path, folder: Path) -> dict:
    """Put the adapter itself into `folder`, with the base that `loading.full` loads beneath it; {} for no change."""
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


def quantised(model: PreTrainedModel) -> dict[str, torch.nn.Module]:
    """Name of a weight → its linear layer, but for the head: what NF4 holds in 4 bits. Fused experts are none."""
    linear, head = (torch.nn.Linear, Conv1D), model.get_output_embeddings()
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, linear) and layer is not head}
    return {f"{name}.weight": layer for name, layer in layers.items()}


def change(after: torch.Tensor, before: torch.Tensor) -> dict[str, float]:
    """Largest and mean absolute difference of two weights, and how many numbers they hold."""
    moved = (after.float() - before.float()).abs()
    return {"max": moved.max().item(), "mean": moved.mean().item(), "n": moved.numel()}


def overall(changes: dict[str, dict[str, float]]) -> dict[str, float]:
    """Largest and mean absolute change of a weight over all that were merged."""
    count = sum(c["n"] for c in changes.values())
    mean = sum(c["mean"] * c["n"] for c in changes.values()) / count
    return {"max_abs_change": max(c["max"] for c in changes.values()), "mean_abs_change": mean}
