"""Failures of a training that its user can mend (memory, disk, access), each with the remedy."""

from __future__ import annotations

import contextlib
import errno

import torch
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError

from s2utils.workflow.errors import UserError
from s2utils.workflow.params import Params

RERUN = "A rerun with the same parameters goes on from the last whole checkpoint; changed ones start anew."


class TrainingError(UserError, RuntimeError):
    """Training went wrong in a way that more steps will not mend."""


@contextlib.contextmanager
def explained(params: Params):
    """Turn what a user can mend into a TrainingError that says how; all else is raised as it is."""
    try:
        yield
    except Exception as error:
        causes = [error]
        while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None:
            causes.append(cause)
        if remedy := _remedy(causes, params):
            raise TrainingError(remedy) from error
        raise


def _remedy(causes: list[BaseException], params: Params) -> str:
    """What to do about an error and what it was raised from; "" where that is not known."""
    text, sft, path = " ".join(map(str, causes)), params.sft, params.model.base.path
    if any(isinstance(e, torch.OutOfMemoryError) for e in causes) or "can't allocate memory" in text:
        return (
            f"out of memory at sft.per_device_train_batch_size {sft.per_device_train_batch_size}: halve it and double "
            f"sft.gradient_accumulation_steps ({sft.gradient_accumulation_steps}), which keeps the effective batch; "
            f"or set sft.gradient_checkpointing to true (it is {str(sft.gradient_checkpointing).lower()}), or lower "
            f"sft.max_length. {RERUN}"
        )
    full = any(getattr(e, "errno", None) == errno.ENOSPC for e in causes) or "No space left" in text
    if full or "PytorchStreamWriter failed" in text:  # what torch.save makes of a full disk
        return (
            "the disk is full; a checkpoint that was not written to its end is not used. Make room (`make clean` "
            f"deletes a profile's artefacts; S2_CACHE moves the cache). {RERUN}"
        )
    answers = [getattr(e.response, "status_code", 0) for e in causes if isinstance(e, HfHubHTTPError)]
    if {401, 403} & set(answers) or any(isinstance(e, GatedRepoError) for e in causes):
        return (
            f"the hub does not hand out {path}: accept its licence at https://huggingface.co/{path}, then set HF_TOKEN "
            "to a token of that account (https://huggingface.co/settings/tokens), or set model.base.path to a copy "
            "that is not gated"
        )
    return ""
