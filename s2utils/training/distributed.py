"""The processes of one training run: how many there are, and what they tell each other.

A launcher (`torchrun`, `accelerate launch`) starts one a GPU and numbers them in LOCAL_RANK; a process that was
started alone is the first of one. Trap: what every process must agree on (is there a checkpoint?) is asked of the
first one, because on a shared file system the others may not see its files yet.
"""

from __future__ import annotations

import os

import torch
from accelerate import PartialState
from torch import distributed

from s2utils.workflow.params import ParameterError, Params


def join(device: str) -> None:
    """Join the other processes, by gloo on a CPU and NCCL on GPUs; nothing where no launcher started this one."""
    if "LOCAL_RANK" in os.environ:
        PartialState(cpu=device == "cpu")


def leave() -> None:
    """Part from the others at the end of the work."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


def count() -> int:
    """How many processes train together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def first() -> bool:
    """Whether this is the process that writes files."""
    return not distributed.is_initialized() or distributed.get_rank() == 0


def everyone(value: object) -> list:
    """`value` of every process, in the order of their ranks; all wait here for the last one."""
    if count() == 1:
        return [value]
    values: list = [None] * count()
    distributed.all_gather_object(values, value)
    return values


def own_device(device: str) -> str:
    """The device of this process, of the kind `device` ("cpu" | "cuda"): `cuda:<LOCAL_RANK>`."""
    return f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if device == "cuda" else device


def own_gpu() -> list[str] | None:
    """The GPU of this process as the driver numbers it, None without one."""
    if not torch.cuda.is_available():
        return None
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    place = torch.cuda.current_device()
    return [visible[place]] if place < len(visible) and visible[place] else [str(place)]


def sharded() -> bool:
    """Whether accelerate splits the model over the processes (FSDP); its launcher says so in a variable."""
    return os.environ.get("ACCELERATE_USE_FSDP", "").lower() in ("true", "1", "yes")


def check_sharding(params: Params) -> None:
    """ParameterError where a sharded model (FSDP) cannot be trained with these parameters."""
    sft = params.sft
    if params.runtime.device == "cpu":
        raise ParameterError(
            "runtime.device is cpu, where accelerate trains whole copies and no shards: start with torchrun"
        )
    wrong = {
        "sft.optim=adamw_torch": "8bit" in sft.optim or "paged" in sft.optim,
        "sft.samples=0": sft.samples > 0,
        "sft.early_stopping_patience=0": sft.early_stopping_patience > 0,
    }
    if any(wrong.values()):
        raise ParameterError(
            "a sharded model takes no paged or 8-bit optimizer, whose states cannot be split, no sample answers, which "
            "one process cannot give alone, and no early stopping, which goes back to a checkpoint (peft 0.21 does not "
            "restore those). Set " + " ".join(setting for setting, is_wrong in wrong.items() if is_wrong)
        )
