"""Names of a model's weights against those in its files, which transformers renames, joins and splits.

A Mixtral's file holds each expert's three matrices, its model one stack of two; GPT-2's published file leaves the
prefix out. Trap: a weight that is looked up under the model's name only is missed, and the model loads with random
numbers in its place. Source: transformers' conversion mappings, which it loads and saves with.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

import torch
from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, dot_natural_key, rename_source_key


class Part(NamedTuple):
    """A tensor of a file, and the pattern under which transformers joins it with others, if it does."""

    name: str
    pattern: str | None


def of(model: PreTrainedModel, names: Iterable[str]) -> dict[str, list[Part]]:
    """Name of a weight of `model` → the tensors called `names` that it is made of; what is no weight is left out."""
    transforms, known = get_model_conversion_mapping(model), model.state_dict()
    renamings = [t for t in transforms if isinstance(t, WeightRenaming)]
    converters = [t for t in transforms if isinstance(t, WeightConverter)]
    found = defaultdict(list)
    for name in sorted(names, key=dot_natural_key):  # experts 2 before 10
        weight, pattern = rename_source_key(name, renamings, converters, model.base_model_prefix, known)
        if weight not in known:
            weight, pattern = name, None
        if weight in known:
            found[weight].append(Part(name, pattern))
    return dict(found)


def needed(model: PreTrainedModel) -> set[str]:
    """Weights that a file must hold; one of two names of a shared weight."""
    return {name for name, _ in model.named_parameters()} - set(model.all_tied_weights_keys)


def joined(model: PreTrainedModel, weight: str, held: list[tuple[Part, torch.Tensor]]) -> torch.Tensor:
    """A weight from the tensors it is made of."""
    (first, tensor), *_ = held
    if first.pattern is None:
        return tensor
    converter = next(  # of a new mapping: it keeps what it is given
        t for t in get_model_conversion_mapping(model)
        if isinstance(t, WeightConverter) and first.pattern in t.source_patterns
    )  # fmt: skip
    for part, tensor in held:
        converter.add_tensor(weight, part.name, part.pattern, tensor)
    made = converter.convert(weight, model=model, config=model.config)[weight]
    return made[0] if isinstance(made, list) else made
