"""Merge a QLoRA adapter into its base: simply (bf16) or carefully (dequantized).

- `bf16`: base weights + adapter.
- `dequantized`: base → NF4 → bf16, + adapter, so inference sees the weights that training saw.

The sum is made in float32, a layer at a time, and cast once. Trap: merging *into* a live 4-bit model
re-quantises the sum; neither mode does that. Source: Dettmers et al. 2023 (QLoRA).
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from tqdm.auto import tqdm
from transformers import PreTrainedModel

MODES = ("bf16", "dequantized")


class MergeError(ValueError):
    """Adapter and base do not belong together."""


def nf4_round_trip(weight: torch.Tensor) -> torch.Tensor:
    """`weight` after NF4 with double quantisation and back, in its own dtype: what QLoRA trained against."""
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    packed, state = quantize_4bit(weight.contiguous(), quant_type="nf4", compress_statistics=True, blocksize=64)
    return dequantize_4bit(packed, state)


def factors(adapter: Path) -> dict[str, tuple[torch.Tensor, torch.Tensor, float]]:
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


@torch.no_grad()
def merge(model: PreTrainedModel, adapter: Path, mode: str) -> tuple[PreTrainedModel, dict]:
    """Merge `adapter` into a full-precision `model`, in place; embeddings, norms and the output head stay.

    Also returns the largest and the mean absolute change of a weight of the merged layers. Raises
    MergeError where a module is missing, has another shape, or the adapter changes nothing.
    """
    if mode not in MODES:
        raise ValueError(f"unknown merge mode {mode!r}; known: {', '.join(MODES)}")
    added = factors(adapter)
    linear = {n: m for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)}
    head = model.get_output_embeddings()
    if missing := sorted(set(added) - set(linear)):
        raise MergeError(f"{adapter} was trained on another base: {missing[0]} is not in the model")
    if not any(b.abs().max() > 0 and a.abs().max() > 0 for a, b, _ in added.values()):
        raise MergeError(f"{adapter} changes no weight: was it saved before training?")
    largest, total, count = 0.0, 0.0, 0
    for name, module in tqdm(linear.items(), desc=f"merge {mode}", unit="layer"):
        if module is head:
            continue
        before = module.weight.data
        weight = nf4_round_trip(before) if mode == "dequantized" else before
        if name in added:
            a, b, scale = added[name]
            if (b.shape[0], a.shape[1]) != weight.shape:
                raise MergeError(f"{adapter} was trained on another base: {name} is {tuple(weight.shape)}")
            weight = (weight.float() + delta(a, b, scale, weight.device)).to(weight.dtype)
        change = (weight.float() - before.float()).abs()
        largest, total, count = max(largest, change.max().item()), total + change.sum().item(), count + change.numel()
        module.weight.data = weight
    return model, {"max_abs_change": largest, "mean_abs_change": total / count}
