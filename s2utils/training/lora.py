"""LoRA adapters as changes of a base's weights: what is added, replaced or put in place of a few rows.

Merged are A and B of linear layers, GPT-2's Conv1D, embeddings, the output head and fused experts
(`target_parameters`), trained biases, trained tokens and saved embeddings; ΔW = α/r · B·A, with rsLoRA α/√r. A tensor
of any other kind is an error. Trap: where embedding and head are one weight, LoRA on one of them cannot be merged
without moving the other. Sources: Hu et al. 2021 (LoRA), Kalajdzievski 2023 (rsLoRA).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from s2utils.training.adapters import BESIDE, CONFIG, Adapter, MergeError


@dataclass(frozen=True)
class Product:
    """α/r · B·A in the shape of a weight; A (experts · r, in) holds r rows an expert, B (out, r · experts) r columns."""

    a: torch.Tensor
    b: torch.Tensor
    scale: float
    shape: torch.Size
    transposed: bool  # the weight lies as (in, out)

    def delta(self, device: torch.device | str = "cpu") -> torch.Tensor:
        """What is added to the weight, in float32."""
        a, b = self.a.to(device).float(), self.b.to(device).float()
        if len(self.shape) == 3:
            experts = self.shape[0]
            a, b = a.unflatten(0, (experts, -1)), b.unflatten(1, (-1, experts)).permute(2, 0, 1)
        product = self.scale * (b @ a)
        return product.mT if self.transposed else product

    def same(self, other: Product) -> bool:
        """Whether both add the same by the same factors: what they add may be as large as an embedding."""
        mine, theirs = ((p.a, p.b) if not p.transposed else (p.b.T, p.a.T) for p in (self, other))
        return (self.shape, self.scale) == (other.shape, other.scale) and all(map(torch.equal, mine, theirs))


@dataclass
class Change:
    """What becomes of one weight: `whole` takes its place, `rows` replace a few, `product` and `shift` are added."""

    whole: torch.Tensor | None = None
    rows: tuple[torch.Tensor, torch.Tensor] | None = None  # (N,) indices, (N, width) values
    product: Product | None = None
    shift: torch.Tensor | None = None

    def applied(self, weight: torch.Tensor) -> torch.Tensor:
        """The changed weight, in the dtype and on the device of `weight`."""
        if self.whole is not None:
            weight = self.whole.to(weight)
        if self.rows is not None:
            weight = weight.index_copy(0, self.rows[0].to(weight.device), self.rows[1].to(weight))
        if self.product is not None:
            weight = weight + self.product.delta(weight.device).to(weight.dtype)
        return weight if self.shift is None else weight + self.shift.to(weight)

    def trained(self) -> bool:
        """Whether training left anything; embeddings are saved also where they were not trained."""
        product = self.product is not None and bool(self.product.a.any() and self.product.b.any())
        bias = self.whole is not None and self.whole.ndim == 1
        return product or bias or self.rows is not None or (self.shift is not None and bool(self.shift.any()))


def changes(adapter: Adapter, model: PreTrainedModel) -> dict[str, Change]:
    """Name of a weight, as `model` calls it → its change; one of two names of a shared weight.

    The model may be one without weights. MergeError where adapter and model do not fit, where a tensor is of a kind
    that is not merged, and where nothing would change.
    """
    found: dict[str, Change] = {}
    for name in adapter.tensors:
        for weight, kind, value in _told(adapter, model, name):
            change = found.setdefault(weight, Change())
            if getattr(change, kind) is not None:
                raise adapter.refused(name, f"changes {weight} a second time; {BESIDE}")
            setattr(change, kind, value)
    _share(adapter, model, found)
    if not any(change.trained() for change in found.values()):
        raise MergeError(f"{adapter.folder} changes no weight: was it saved before training?")
    return found


def _told(adapter: Adapter, model: PreTrainedModel, name: str) -> list[tuple[str, str, object]]:
    """What a tensor says, as (name of the weight, field of `Change`, value); nothing for a B, which its A tells."""
    if lora := re.fullmatch(r"(.+)\.lora_(embedding_)?([AB])(?:\.weight|\.bias)?", name):
        layer, embedding, part = lora.groups()
        names = [f"{layer}.lora_{embedding or ''}{p}{'' if embedding else '.weight'}" for p in "AB"]
        if missing := [n for n in names if n not in adapter.tensors]:
            raise adapter.refused(name, f"is there without {missing[0]}: fetch or save the adapter again")
        a, b = (adapter.tensors[n] for n in names)
        if name == f"{layer}.lora_B.bias":
            return [_shift(adapter, model, name, *_product(adapter, model, names[0], a, b))]
        if name not in names:
            raise adapter.refused(name, f"is of a kind that is not merged; {BESIDE}")
        if part == "B":
            return []
        weight, product = _product(adapter, model, name, *((b.T, a.T) if embedding else (a, b)))
        return [(weight, "product", product)]
    if name.endswith(".token_adapter.trainable_tokens_delta"):
        return [_rows(adapter, model, name)]
    return [_whole(adapter, model, name)]


def _module(name: str) -> str:
    """Name of the base's module that a tensor of the adapter is about."""
    plain = re.sub(r"\.(base_layer|token_adapter)\b", "", name.removeprefix("base_model.model."))
    return re.sub(r"\.(lora_\w+(\.\w+)?|trainable_tokens_delta|weight|bias)$", "", plain)


def _embeddings(model: PreTrainedModel) -> list[torch.nn.Module | None]:
    return [model.get_input_embeddings(), model.get_output_embeddings()]


def _product(
    adapter: Adapter, model: PreTrainedModel, name: str, a: torch.Tensor, b: torch.Tensor
) -> tuple[str, Product]:
    """(name of the weight, what is added to it) of an A (r, in) and its B (out, r)."""
    from peft.utils.other import get_pattern_key

    config, module = adapter.config, _module(name)
    layer = dict(model.named_modules()).get(module)
    if layer is None:
        old = " (experts saved one by one: load and save it once with this peft)" if ".experts." in module else ""
        raise adapter.misplaced(f"{module} is not in the model{old}")
    if a.ndim != 2 or b.ndim != 2 or not a.numel() or not b.numel():
        raise adapter.refused(name, "or its B is no matrix: gather the shards of a model before its adapter is saved")
    shapes = {f"{module}.{key}": p.shape for key, p in layer.named_parameters(recurse=False) if p.ndim > 1}
    targets = config.get("target_parameters") or []
    targeted = {n: s for n, s in shapes.items() if any(n.endswith(f".{target}") for target in targets)}
    shapes = targeted or shapes
    flipped = {n: _flips(layer, s, bool(targeted)) for n, s in shapes.items()}
    wanted = (b.shape[0], a.shape[1])
    fitting = [n for n, s in shapes.items() if wanted == tuple(s[-2:][::-1] if flipped[n] else s[-2:])]
    if not fitting:
        resized = " (a resized vocabulary?)" if layer in _embeddings(model) else ""
        shown = ", ".join(str(tuple(shape)) for shape in shapes.values())
        raise adapter.misplaced(f"{module} is {shown} in the model and {wanted} in the adapter{resized}")
    if len(fitting) > 1:
        raise adapter.refused(name, f"may belong to {' or '.join(fitting)}; {BESIDE}")
    weight, shape = fitting[0], shapes[fitting[0]]
    experts = shape[0] if len(shape) == 3 else 1
    key = weight if targeted else module  # what peft's patterns are matched with
    ranks, alphas = config.get("rank_pattern") or {}, config.get("alpha_pattern") or {}
    r = ranks.get(get_pattern_key(ranks, key), config["r"])
    if not a.shape[0] == b.shape[1] == r * experts:
        both = f"{a.shape[0] // experts} and its B {b.shape[1] // experts}"
        raise adapter.refused(name, f"has rank {both} but r is {r} in {CONFIG}: take both files from one save")
    scale = alphas.get(get_pattern_key(alphas, key), config["lora_alpha"])
    scale /= math.sqrt(r) if config.get("use_rslora") else r
    return weight, Product(a, b, scale, shape, flipped[weight])


def _flips(layer: torch.nn.Module, shape: torch.Size, targeted: bool) -> bool:
    """Whether a weight lies as (in, out); peft takes a Conv1D that is targeted as a parameter as it lies."""
    return getattr(layer, "is_transposed", False) if len(shape) == 3 else isinstance(layer, Conv1D) and not targeted


def _shift(adapter: Adapter, model: PreTrainedModel, name: str, weight: str, product: Product):
    """The bias of a B, which is scaled as B is."""
    bias, tensor = f"{_module(name)}.bias", adapter.tensors[name]
    shape = _shapes(model).get(bias)
    if shape is None:
        raise adapter.refused(name, f"has no place: {weight} has no bias in the base (lora_bias); {BESIDE}")
    if tensor.shape != shape:
        raise adapter.misplaced(f"{bias} is {tuple(shape)} in the model and {tuple(tensor.shape)} in the adapter")
    return bias, "shift", product.scale * tensor.float()


def _rows(adapter: Adapter, model: PreTrainedModel, name: str):
    """Trained tokens: rows of an embedding or a head."""
    chosen, module, values = adapter.config.get("trainable_token_indices"), _module(name), adapter.tensors[name]
    if isinstance(chosen, dict):
        chosen = next((rows for key, rows in chosen.items() if f".{module}".endswith(f".{key}")), None)
    shape = _shapes(model).get(f"{module}.weight")
    if shape is None:
        raise adapter.misplaced(f"{module} is not in the model")
    if not isinstance(chosen, list) or values.shape != (len(chosen), shape[1]):
        raise adapter.refused(
            name, f"is {tuple(values.shape)}, unlike trainable_token_indices in {CONFIG}: take both files from one save"
        )
    if not all(type(row) is int and 0 <= row < shape[0] for row in chosen):
        raise adapter.misplaced(f"trainable_token_indices reach beyond the {shape[0]} tokens of {module}")
    return f"{module}.weight", "rows", (torch.tensor(chosen), values)


def _whole(adapter: Adapter, model: PreTrainedModel, name: str):
    """A trained bias, or an embedding that was saved beside the adapter."""
    module, tensor, leaf = _module(name), adapter.tensors[name], name.rpartition(".")[2]
    shape = _shapes(model).get(f"{module}.{leaf}")
    embedding = leaf == "weight" and dict(model.named_modules()).get(module) in [m for m in _embeddings(model) if m]
    if shape is None or not (embedding or leaf == "bias"):
        raise adapter.refused(name, f"is of a kind that is not merged; {BESIDE}")
    if embedding and tensor.ndim == 2 and tensor.shape[1] == shape[1] and tensor.shape[0] != shape[0]:
        raise adapter.refused(
            name, f"has {tensor.shape[0]} tokens and the base {shape[0]}: the vocabulary was resized; save the base after "
            f"model.resize_token_embeddings({tensor.shape[0]}) and take that as model.base.path",
        )  # fmt: skip
    if tensor.shape != shape:
        raise adapter.misplaced(
            f"{module}.{leaf} is {tuple(shape)} in the model and {tuple(tensor.shape)} in the adapter"
        )
    return f"{module}.{leaf}", "whole", tensor


def _shapes(model: PreTrainedModel) -> dict[str, torch.Size]:
    return {name: p.shape for name, p in model.named_parameters(remove_duplicate=False)}


def _share(adapter: Adapter, model: PreTrainedModel, found: dict[str, Change]) -> None:
    """Leave one change where two names are one weight; MergeError where only one of them would change."""
    for name, source in model.all_tied_weights_keys.items():
        own, shared = found.pop(name, Change()), found.get(source, Change())
        products = [change.product for change in (own, shared) if change.product is not None]
        one = not products or (len(products) == 2 and products[0].same(products[1]))
        whole = own.whole is None or (shared.whole is not None and torch.equal(own.whole, shared.whole))
        if one and whole and own.rows is None:
            continue
        raise MergeError(
            f"{adapter.folder}: {name} and {source} are one weight in the base and not in the adapter, so one would move "
            f"with the other: train with ensure_weight_tying=True, or {BESIDE}"
        )
