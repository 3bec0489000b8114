"""Folders of LoRA adapters as peft saves them, read and checked; what is not known is refused by name.

Every key of adapter_config.json must be used, harmless or neutral, so what another or a later peft adds is an error
and not a wrong model. Trap: PiSSA, OLoRA, CorDA, LoRA-GA and LoftQ change the base before training, so base + B·A
is not what was trained. Sources: Hu et al. 2021 (LoRA), Meng et al. 2024 (PiSSA).
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from s2utils.models.bases import CONFIG
from s2utils.workflow.params import ParameterError

WEIGHTS = "adapter_model.safetensors"
USED = {
    "peft_type", "r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern", "init_lora_weights",
    "trainable_token_indices", "target_parameters", "base_model_name_or_path",
}  # fmt: skip
HARMLESS = {  # of no effect on the sum, or told by the tensors themselves
    "auto_mapping", "bias", "corda_config", "ensure_weight_tying", "eva_config", "exclude_modules", "fan_in_fan_out",
    "inference_mode", "layers_pattern", "layers_to_transform", "loftq_config", "lora_bias", "lora_dropout",
    "lora_ga_config", "megatron_core", "merge_weights", "peft_version", "qalora_group_size", "revision",
    "runtime_config", "target_modules", "task_type",
}  # fmt: skip
KEEPS_BASE = (True, False, None, "gaussian", "eva", "orthogonal", "mica")  # what `init_lora_weights` may be
WHY = {
    "use_dora": "DoRA also scales the rows of the sum",
    "modules_to_save": "whole modules were trained beside the adapter",
    "layer_replication": "the base was stacked anew from copies of its layers",
    "alora_invocation_tokens": "the adapter acts after some tokens only",
}
BESIDE = "load it beside its base instead, with its folder as model.base.path"
CONVERT = (
    "changed the base before training: save it as plain LoRA with model.save_pretrained(folder, "
    "path_initial_model_for_weight_conversion=<the adapter as saved before training>)"
)
LOFTQ = "changed the base before training: save that base, take it as model.base.path and set init_lora_weights to true"
SAVED = "give the folder that peft's save_pretrained wrote"


class MergeError(ParameterError):
    """Adapter and base do not belong together, or the adapter holds what is not merged."""


@dataclass(frozen=True)
class Adapter:
    """A saved adapter: its folder, configuration and tensors by name."""

    folder: Path
    config: dict
    tensors: dict[str, torch.Tensor]

    def refused(self, name: str, problem: str) -> MergeError:
        """The error of one tensor."""
        return MergeError(f"{self.folder / WEIGHTS}: {name} {problem}")

    def misplaced(self, problem: str) -> MergeError:
        """The error of an adapter that does not fit the model."""
        base = self.config.get("base_model_name_or_path") or "the base it was trained on"
        return MergeError(f"{self.folder} was trained on another base: {problem}; set model.base.path to {base}")


def read(folder: Path) -> Adapter:
    """The adapter in `folder`; MergeError where a file is not there or not whole, or holds what is not merged."""
    return Adapter(folder, configuration(folder / CONFIG), weights(folder / WEIGHTS))


def configuration(file: Path) -> dict:
    """adapter_config.json, all its keys known."""
    try:
        config = json.loads(file.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise MergeError(f"{file} is missing: {SAVED}") from None
    except ValueError as error:
        raise MergeError(f"{file} is not JSON ({error}): fetch or save the adapter again") from None
    if not isinstance(config, dict) or "peft_type" not in config:
        raise MergeError(f"{file} names no peft_type: {SAVED}")
    if config["peft_type"] != "LORA":
        raise MergeError(f"{file}: peft_type is {config['peft_type']} and only LORA is merged; {BESIDE}")
    if unknown := [key for key, value in config.items() if value and key not in USED | HARMLESS]:
        named = ", ".join(f"{key} ({WHY[key]})" if key in WHY else key for key in unknown)
        raise MergeError(f"{file}: cannot merge with {named}; {BESIDE}")
    if (start := config.get("init_lora_weights")) not in KEEPS_BASE:
        raise MergeError(f"{file}: init_lora_weights {start} {LOFTQ if start == 'loftq' else CONVERT}")
    _check_numbers(file, config)
    return config


def _check_numbers(file: Path, config: dict) -> None:
    """MergeError unless ranks are whole numbers from 1, alphas numbers, and names of patterns regular expressions."""
    for key, pattern in (("r", "rank_pattern"), ("lora_alpha", "alpha_pattern")):
        by_layer = config.get(pattern) or {}
        if not isinstance(by_layer, dict):
            raise MergeError(f"{file}: {pattern} is {by_layer!r} and must map names of layers to numbers")
        for name, value in ({key: config.get(key)} | by_layer).items():
            whole = type(value) is int and value >= 1
            if not (whole if key == "r" else type(value) in (int, float) and math.isfinite(value)):
                raise MergeError(
                    f"{file}: {name} is {value!r} and must be a {'whole number from 1' if key == 'r' else 'number'}"
                )
            try:
                re.compile(name)
            except re.error as error:
                raise MergeError(f"{file}: {name!r} in {pattern} is no regular expression ({error})") from None


def weights(file: Path) -> dict[str, torch.Tensor]:
    """Name → tensor of adapter_model.safetensors, whole and finite."""
    if not file.is_file() and (file.parent / "adapter_model.bin").is_file():
        raise MergeError(
            f"{file.parent} holds adapter_model.bin only, a pickle, which may run code: where you trust it, convert it "
            "with PeftModel.from_pretrained(base, folder).save_pretrained(folder)"
        )
    try:
        tensors = load_file(file)
    except FileNotFoundError:
        raise MergeError(f"{file} is missing: {SAVED}") from None
    except SafetensorError as error:
        raise MergeError(f"{file} is cut or not a safetensors file ({error}): fetch or save it again") from None
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor.float()).all():
            raise MergeError(f"{file}: {name} holds NaN or infinity: training diverged, take an earlier checkpoint")
    return tensors
