"""The base beneath an adapter: what `adapter_config.json` names, a hub id or a folder.

Trap: peft writes the path that the base had where the adapter was trained, or nothing where it was never saved.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from s2utils.models.parameters import Weights
from s2utils.workflow import packaged
from s2utils.workflow.params import ParameterError

T = TypeVar("T")
CONFIG = "adapter_config.json"


def is_adapter(path: str) -> bool:
    """Whether a folder holds an adapter."""
    return (Path(path) / CONFIG).is_file()


def beneath(adapter: Path, load: Callable[[Weights], T]) -> T:
    """What `load` makes of the base beneath an adapter; ParameterError naming both where there is none to be had."""
    file = adapter / CONFIG
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        name, revision = config.get("base_model_name_or_path"), config.get("revision") or ""
    except (ValueError, AttributeError) as error:
        raise ParameterError(
            f"{file} is not what peft writes ({first_line(error)}): fetch the adapter again"
        ) from error
    remedy = f"write the folder or hub id of the model it was trained on as base_model_name_or_path into {file}"
    if not name or not isinstance(name, str):
        raise ParameterError(f"the adapter {adapter} does not name its base (it says {json.dumps(name)}): {remedy}")
    try:
        return load(Weights(path=name, revision=revision))
    except ParameterError:
        raise
    except (OSError, ValueError, packaged.FetchError) as error:
        raise ParameterError(
            f"the adapter {adapter} was trained on '{name}', which cannot be loaded here ({first_line(error)}): "
            f"fetch it, or {remedy}"
        ) from error


def first_line(error: Exception) -> str:
    """What an error says, without the pages that some libraries add."""
    return next(iter(str(error).splitlines()), type(error).__name__)
