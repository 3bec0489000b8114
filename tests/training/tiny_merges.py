"""Adapters of tiny models, and what a merge of them must be."""

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from s2utils.models import loading
from s2utils.models.parameters import Weights
from s2utils.training import adapters, lora, merging
from s2utils.training.adapters import MergeError

IDS = torch.arange(3, 83).reshape(4, 20)


@torch.no_grad()
def logits(network) -> torch.Tensor:
    """(4, 20, vocabulary) in float32."""
    return network(input_ids=IDS).logits.float()


def save_base(network, folder) -> Weights:
    """A network saved in bf16, as the published ones are."""
    network.to(torch.bfloat16).save_pretrained(folder)
    return Weights(path=str(folder), revision="")


def wrapped(network, start: float = 0.0, **changes):
    """A network with an adapter whose every trained number was drawn, around `start` times what peft began with."""
    config = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "task_type": "CAUSAL_LM"} | changes
    network, generator = get_peft_model(network, LoraConfig(**config)), torch.Generator().manual_seed(7)
    for name, weight in network.named_parameters():
        if weight.requires_grad and ("lora_B" in name or start):
            weight.data.mul_(start).add_(torch.randn(weight.shape, generator=generator) * 0.05)  # may share storage
    return network.eval()


def save_adapter(network, folder, **changes):
    """The folder of a LoRA adapter of `network` with random B, saved by peft."""
    wrapped(network, **changes).save_pretrained(folder)
    return folder


@torch.no_grad()
def merged_into(network, adapter, mode: str):
    """A whole network in its own dtype with the adapter merged into it, which is what `write` makes of files."""
    added, layers = lora.changes(adapters.read(adapter), network), merging.quantised(network)
    for name, weight in network.named_parameters():
        if name in added or name in layers:
            merged = merging.summed(weight.data, mode, layers.get(name), added.get(name))
            weight.data = merged.to(weight.dtype).contiguous()
    return network


def written(base: Weights, adapter, folder, mode: str, dtype: str = "bfloat16", shard: int = merging.SHARD):
    """The merged model as `merging.write` leaves it on the disk, loaded."""
    folder.mkdir(exist_ok=True)
    merging.write(base, adapter, mode, folder, shard=shard)
    return loading.full(Weights(path=str(folder), revision=""), dtype)


def exact(base: Weights, adapter, unpacked=torch.float32):
    """The trained model in float32: the adapter beside the 4-bit weights, which are unpacked in a dtype."""
    import bitsandbytes

    live = loading.quantized(base, "float32")
    for module in live.modules():
        if isinstance(module, bitsandbytes.nn.Linear4bit) and unpacked != torch.float32:
            module.weight.quant_state.dtype = unpacked
            weight = bitsandbytes.functional.dequantize_4bit(module.weight.data, module.weight.quant_state)
            assert weight.dtype == unpacked
            module.forward = lambda x, w=weight, m=module: torch.nn.functional.linear(x, w.float(), m.bias)
    return PeftModel.from_pretrained(live, adapter).eval()


def refused(base: Weights, adapter, message: str, modes=("bf16",)) -> None:
    """No mode merges, each says so in one line, and nothing is written."""
    folder = adapter.parent / "nothing"
    folder.mkdir(exist_ok=True)
    for mode in modes:
        with pytest.raises(MergeError, match=message) as raised:
            merging.write(base, adapter, mode, folder)
        assert "\n" not in str(raised.value) and not list(folder.iterdir())
