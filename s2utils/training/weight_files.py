"""A model's weights in its safetensors files, which name, join and split them in ways of their own.

A Mixtral's file holds each expert's three matrices, its model one stack of two; GPT-2's published file leaves the
prefix out. Trap: a weight that is looked up under the model's name only is missed, and the model loads with random
numbers in its place. Source: transformers' conversion mappings, which it loads and saves with.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, dot_natural_key, rename_source_key

from s2utils.training.adapters import MergeError
from s2utils.workflow import artefacts

INDEX = "model.safetensors.index.json"


class Part(NamedTuple):
    """A tensor of a file, and the pattern under which transformers joins it with others, if it does."""

    name: str
    pattern: str | None


def parts(model: PreTrainedModel, names: Iterable[str]) -> dict[str, list[Part]]:
    """Name of a weight of `model` → the tensors called `names` that it is made of; what is no weight is left out."""
    transforms, known = get_model_conversion_mapping(model), model.state_dict()
    renamings = [t for t in transforms if isinstance(t, WeightRenaming)]
    converters = [t for t in transforms if isinstance(t, WeightConverter)]
    parts_of = defaultdict(list)
    for name in sorted(names, key=dot_natural_key):  # experts 2 before 10
        weight, pattern = rename_source_key(name, renamings, converters, model.base_model_prefix, known)
        if weight not in known:
            weight, pattern = name, None
        if weight in known:
            parts_of[weight].append(Part(name, pattern))
    return dict(parts_of)


def needed(model: PreTrainedModel) -> set[str]:
    """Weights that a file must hold; one of two names of a shared weight."""
    return {name for name, _ in model.named_parameters()} - set(model.all_tied_weights_keys)


def tensors(source: Path) -> dict[str, str]:
    """Tensor name → safetensors file of a model's folder, in the order of the files."""
    if index := artefacts.read_json(source / INDEX):
        return dict(sorted(index["weight_map"].items(), key=lambda item: item[1]))
    if not (source / "model.safetensors").is_file():
        raise MergeError(f"{source} holds no model.safetensors: only that format is read a tensor at a time")
    with opened(source / "model.safetensors") as file:
        return dict.fromkeys(file.keys(), "model.safetensors")


@contextlib.contextmanager
def opened(file: Path) -> Iterator[safe_open]:
    """A safetensors file; MergeError where it is not there or cut."""
    try:
        with safe_open(file, "pt") as stored:
            yield stored
    except (FileNotFoundError, SafetensorError) as error:
        raise MergeError(f"{file} is missing, cut or no safetensors file ({error}): fetch it again") from None


def read(source: Path, model: PreTrainedModel, names: list[str]) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield (name, weight) of `model` for `names`, read from a folder one at a time.

    A file stays open only while a weight is read, so that its pages can go.
    """
    where = tensors(source)
    parts_of, shapes = parts(model, where), {name: weight.shape for name, weight in model.state_dict().items()}
    for name in names:
        stored = {}
        for file in dict.fromkeys(where[part.name] for part in parts_of[name]):
            with opened(source / file) as tensors_of_file:
                own = [part.name for part in parts_of[name] if where[part.name] == file]
                stored |= {part: tensors_of_file.get_tensor(part) for part in own}
        weight = _joined(model, name, [(part, stored[part.name]) for part in parts_of[name]])
        if weight.shape != shapes[name]:
            raise MergeError(
                f"{source}: {name} is {tuple(weight.shape)} and by config.json {tuple(shapes[name])}: fetch both anew"
            )
        yield name, weight


def _joined(model: PreTrainedModel, weight: str, stored: list[tuple[Part, torch.Tensor]]) -> torch.Tensor:
    """A weight from the tensors it is made of."""
    (first, tensor), *_ = stored
    if first.pattern is None:
        return tensor
    mapping = get_model_conversion_mapping(model)  # anew: a converter keeps what it is given
    converter = next(t for t in mapping if isinstance(t, WeightConverter) and first.pattern in t.source_patterns)
    for part, tensor in stored:
        converter.add_tensor(weight, part.name, part.pattern, tensor)
    joined = converter.convert(weight, model=model, config=model.config)[weight]
    return joined[0] if isinstance(joined, list) else joined


def write_index(folder: Path, files: list[str], size: int) -> None:
    """The index of a model in several files, whose weights take `size` bytes."""
    index = {}
    for name in files:
        with opened(folder / name) as file:
            index |= dict.fromkeys(file.keys(), name)
    artefacts.write_json(folder / INDEX, {"metadata": {"total_size": size}, "weight_map": index})
