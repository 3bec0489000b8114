"""Merge a QLoRA adapter into its base: simply (bf16), carefully (dequantized), or not at all (adapter).

- `bf16`: base weights + adapter.
- `dequantized`: base → NF4 → bf16, + adapter, so inference sees the weights that training saw, rounded once more.
- `adapter`: 4-bit base beside its unmerged adapter, the exact model that was trained; no weights are made.

The sum is made in float32, a layer at a time, and cast once, to bf16 whatever the model then computes in
(`model.dtype`); `write` holds one shard of the model in memory, whatever the base's own shards are. Traps: merging
*into* a live 4-bit model re-quantises the sum; and training quantised bf16 weights, so NF4 comes from bf16 also
where the model is float16 or float32. Source: Dettmers et al. 2023 (QLoRA).
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tqdm.auto import tqdm
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from s2utils import artefacts, models
from s2utils.params import Weights

MODES = ("bf16", "dequantized")
DTYPE = torch.bfloat16  # of a merged model's weights
SHARD = 2 * 10**9  # bytes of a written file, and so of weights in memory
Factors = tuple[torch.Tensor, torch.Tensor, float]


class MergeError(ValueError):
    """Adapter and base do not belong together."""


def nf4_round_trip(weight: torch.Tensor) -> torch.Tensor:
    """`weight` after NF4 with double quantisation and back, in its own dtype."""
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    packed, state = quantize_4bit(weight.contiguous(), quant_type="nf4", compress_statistics=True, blocksize=64)
    return dequantize_4bit(packed, state)


def factors(adapter: Path) -> dict[str, Factors]:
    """Module name → A (r, in), B (out, r) and the scale α/r of a saved LoRA adapter."""
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    unsupported = [
        k for k in ("use_dora", "use_rslora", "rank_pattern", "alpha_pattern", "modules_to_save") if config.get(k)
    ]
    unsupported += ["bias"] if config.get("bias", "none") != "none" else []
    if unsupported or config["peft_type"] != "LORA":
        raise MergeError(f"{adapter}: cannot merge {config['peft_type']} with {', '.join(unsupported) or 'this type'}")
    tensors = load_file(adapter / "adapter_model.safetensors")
    scale = config["lora_alpha"] / config["r"]
    found = {}
    for name in (n for n in tensors if n.endswith(".lora_A.weight")):
        module = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
        found[module] = (tensors[name], tensors[name.replace("lora_A", "lora_B")], scale)
    return found


def delta(a: torch.Tensor, b: torch.Tensor, scale: float, device: torch.device | str = "cpu") -> torch.Tensor:
    """α/r · B·A in float32, shape (out, in)."""
    return scale * (b.to(device).float() @ a.to(device).float())


def summed(weight: torch.Tensor, mode: str, added: Factors | None) -> torch.Tensor:
    """A layer's merged weight (out, in) in float32; `added` is None where the adapter leaves the layer alone."""
    seen = (nf4_round_trip(weight.to(DTYPE)) if mode == "dequantized" else weight).float()
    return seen if added is None else seen + delta(*added, weight.device)


@torch.no_grad()
def merge(model: PreTrainedModel, adapter: Path, mode: str) -> tuple[PreTrainedModel, dict]:
    """Merge `adapter` into a full-precision `model`, in place; embeddings, norms and the output head stay.

    Also returns what `overall` says of the merged layers. Raises MergeError as `checked` does.
    """
    added = checked(model, adapter, mode)
    changes = {}
    for name, module in tqdm(linear(model).items(), desc=f"merge {mode}", unit="layer"):
        before = module.weight.data
        module.weight.data = summed(before, mode, added.get(name)).to(before.dtype)
        changes[name] = change(module.weight.data, before)
    return model, overall(changes)


@torch.no_grad()
def write(base: Weights, adapter: Path, mode: str, folder: Path, device: str = "cpu", shard: int = SHARD) -> dict:
    """Write `base` merged with `adapter` into `folder` as a model that transformers loads; returns `overall`.

    The same weights as loading the base in bf16, `merge` and save, but files of about `shard` bytes are
    made one after another and renamed when whole; those that are there are not made again. Sums are made
    on `device`. Tokenizer not included. Raises MergeError as `checked` does, and where the base has no safetensors.
    """
    if mode == "adapter":
        return keep(base, adapter, folder)
    source, device = models.folder(base), models.usable(device)
    empty = plan(source)
    added, layers = checked(empty, adapter, mode), linear(empty)
    bytes_of = {name: weight.nbytes for name, weight in empty.state_dict().items()}
    where = {name: file for name, file in tensors(source).items() if name in bytes_of}
    if missing := sorted({f"{name}.weight" for name in layers} - set(where)):
        raise MergeError(f"{source} does not hold {missing[0]} under this name")
    groups = grouped({name: bytes_of[name] for name in where}, shard)
    changes = artefacts.read_json(folder / "changes.json") or {}
    for file, names in tqdm(named(groups).items(), desc=f"merge {mode}", unit="file"):
        if (folder / file).is_file():
            continue
        weights = {}
        for name, weight in read(source, where, names):
            weights[name] = weight.to(empty.dtype) if weight.is_floating_point() else weight
            if (layer := name.removesuffix(".weight")) in layers:
                before = weights[name].to(device)
                after = summed(before, mode, added.get(layer)).to(empty.dtype)
                weights[name], changes[layer] = after.cpu(), change(after, before)
        save_file(weights, folder / f".{file}", metadata={"format": "pt"})
        artefacts.write_json(folder / "changes.json", changes)  # first: a renamed shard is never read again
        os.replace(folder / f".{file}", folder / file)
    if len(groups) > 1:
        index = {name: file for file, names in named(groups).items() for name in names}
        size = sum(bytes_of[name] for name in where)
        artefacts.write_json(
            folder / "model.safetensors.index.json", {"metadata": {"total_size": size}, "weight_map": index}
        )
    empty.config.save_pretrained(folder)
    if (source / "generation_config.json").is_file():  # copied: some published ones are refused when saved anew
        shutil.copyfile(source / "generation_config.json", folder / "generation_config.json")
    return overall(changes)


def keep(base: Weights, adapter: Path, folder: Path) -> dict:
    """Put the adapter itself into `folder`, with the base that `models.full` loads beneath it; {} for no change."""
    added = factors(adapter)
    refuse_empty(adapter, added)
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    shutil.copyfile(adapter / "adapter_model.safetensors", folder / "adapter_model.safetensors")
    own = {"base_model_name_or_path": base.path, "revision": base.revision or None}
    artefacts.write_json(folder / "adapter_config.json", config | own)
    return {}


def plan(source: Path) -> PreTrainedModel:
    """The model of a folder without its weights: names and shapes, in `DTYPE`."""
    config = AutoConfig.from_pretrained(source, dtype=DTYPE)
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, dtype=config.dtype)


def linear(model: PreTrainedModel) -> dict[str, torch.nn.Linear]:
    """Name → linear layer, the output head left out: what NF4 holds in 4 bits."""
    head = model.get_output_embeddings()
    return {n: m for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and m is not head}


def checked(model: PreTrainedModel, adapter: Path, mode: str) -> dict[str, Factors]:
    """The adapter's factors; MergeError where a layer is missing, has another shape, or nothing would change."""
    if mode not in MODES:
        raise ValueError(f"unknown merge mode {mode!r}; known: {', '.join(MODES)}")
    added, layers = factors(adapter), linear(model)
    if missing := sorted(set(added) - set(layers)):
        raise MergeError(f"{adapter} was trained on another base: {missing[0]} is not in the model")
    for name, (a, b, _) in added.items():
        if (b.shape[0], a.shape[1]) != layers[name].weight.shape:
            raise MergeError(
                f"{adapter} was trained on another base: {name} is {tuple(layers[name].weight.shape)} in the model"
            )
    refuse_empty(adapter, added)
    return added


def refuse_empty(adapter: Path, added: dict[str, Factors]) -> None:
    """MergeError where no product B·A is other than zero."""
    if not any(b.abs().max() > 0 and a.abs().max() > 0 for a, b, _ in added.values()):
        raise MergeError(f"{adapter} changes no weight: was it saved before training?")


def change(after: torch.Tensor, before: torch.Tensor) -> dict[str, float]:
    """Largest and mean absolute difference of two weights, and how many numbers they hold."""
    moved = (after.float() - before.float()).abs()
    return {"max": moved.max().item(), "mean": moved.mean().item(), "n": moved.numel()}


def overall(changes: dict[str, dict[str, float]]) -> dict[str, float]:
    """Largest and mean absolute change of a weight over all layers."""
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
    with safe_open(source / "model.safetensors", "pt") as file:
        return dict.fromkeys(file.keys(), "model.safetensors")


def read(source: Path, where: dict[str, str], names: list[str]):
    """Yield (name, tensor) of `names`; a file stays open only while its tensors are read, so its pages can go."""
    for file in dict.fromkeys(where[name] for name in names):
        with safe_open(source / file, "pt") as opened:
            for name in (n for n in names if where[n] == file):
                yield name, opened.get_tensor(name)


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
