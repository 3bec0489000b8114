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
    """α/r · B·A in the shape of a weight; A (experts · r, in) has r rows an expert, B (out, r · experts) r columns."""

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
    reader, changed = _Reader(adapter, model), {}
    for name in adapter.tensors:
        if (statement := reader.statement(name)) is None:
            continue
        weight, kind, value = statement
        change = changed.setdefault(weight, Change())
        if getattr(change, kind) is not None:
            raise adapter.refused(name, f"changes {weight} a second time; {BESIDE}")
        setattr(change, kind, value)
    _share(adapter, model, changed)
    if not any(change.trained() for change in changed.values()):
        raise MergeError(f"{adapter.folder} changes no weight: was it saved before training?")
    return changed


class _Reader:
    """Reads what the tensors of an adapter say of a model's weights."""

    def __init__(self, adapter: Adapter, model: PreTrainedModel):
        self.adapter, self.config, self.modules = adapter, adapter.config, dict(model.named_modules())
        self.shapes = {name: p.shape for name, p in model.named_parameters(remove_duplicate=False)}
        self.embeddings = [m for m in (model.get_input_embeddings(), model.get_output_embeddings()) if m is not None]

    def statement(self, name: str) -> tuple[str, str, object] | None:
        """(name of the weight, field of `Change`, value) of a tensor; None for a B, of which its A speaks."""
        if name.endswith(".token_adapter.trainable_tokens_delta"):
            return self.rows(name)
        if not (lora := re.fullmatch(r"(.+)\.lora_(embedding_)?([AB])(?:\.weight|\.bias)?", name)):
            return self.whole(name)
        layer, embedding, part = lora.groups()
        names = [f"{layer}.lora_{embedding or ''}{p}{'' if embedding else '.weight'}" for p in "AB"]
        if missing := [n for n in names if n not in self.adapter.tensors]:
            raise self.adapter.refused(name, f"is there without {missing[0]}: fetch or save the adapter again")
        a, b = (self.adapter.tensors[n] for n in names)
        if name == f"{layer}.lora_B.bias":
            return self.shift(name, *self.product(names[0], a, b))
        if name not in names:
            raise self.adapter.refused(name, f"is of a kind that is not merged; {BESIDE}")
        if part == "B":
            return None
        weight, product = self.product(name, *((b.T, a.T) if embedding else (a, b)))
        return weight, "product", product

    def product(self, name: str, a: torch.Tensor, b: torch.Tensor) -> tuple[str, Product]:
        """(name of the weight, what is added to it) of an A (r, in) and its B (out, r)."""
        from peft.utils.other import get_pattern_key

        module = _module(name)
        layer = self.modules.get(module)
        if layer is None:
            old = " (experts saved one by one: load and save it once with this peft)" if ".experts." in module else ""
            raise self.adapter.misplaced(f"{module} is not in the model{old}")
        if a.ndim != 2 or b.ndim != 2 or not a.numel() or not b.numel():
            raise self.adapter.refused(
                name, "or its B is no matrix: gather the shards of a model before its adapter is saved"
            )
        shapes = {f"{module}.{key}": p.shape for key, p in layer.named_parameters(recurse=False) if p.ndim > 1}
        targets = self.config.get("target_parameters") or []
        targeted = {n: s for n, s in shapes.items() if any(n.endswith(f".{target}") for target in targets)}
        shapes = targeted or shapes
        flipped = {n: _flips(layer, s, bool(targeted)) for n, s in shapes.items()}
        wanted = (b.shape[0], a.shape[1])
        fitting = [n for n, s in shapes.items() if wanted == tuple(s[-2:][::-1] if flipped[n] else s[-2:])]
        if not fitting:
            resized = " (a resized vocabulary?)" if layer in self.embeddings else ""
            shown = ", ".join(str(tuple(shape)) for shape in shapes.values())
            raise self.adapter.misplaced(f"{module} is {shown} in the model and {wanted} in the adapter{resized}")
        if len(fitting) > 1:
            raise self.adapter.refused(name, f"may belong to {' or '.join(fitting)}; {BESIDE}")
        weight, shape = fitting[0], shapes[fitting[0]]
        experts = shape[0] if len(shape) == 3 else 1
        key = weight if targeted else module  # what peft's patterns are matched with
        ranks, alphas = self.config.get("rank_pattern") or {}, self.config.get("alpha_pattern") or {}
        r = ranks.get(get_pattern_key(ranks, key), self.config["r"])
        if not a.shape[0] == b.shape[1] == r * experts:
            both = f"{a.shape[0] // experts} and its B {b.shape[1] // experts}"
            raise self.adapter.refused(name, f"has rank {both} but r is {r} in {CONFIG}: take both files from one save")
        scale = alphas.get(get_pattern_key(alphas, key), self.config["lora_alpha"])
        scale /= math.sqrt(r) if self.config.get("use_rslora") else r
        return weight, Product(a, b, scale, shape, flipped[weight])

    def shift(self, name: str, weight: str, product: Product) -> tuple[str, str, torch.Tensor]:
        """The bias of a B, which is scaled as B is."""
        bias, tensor = f"{_module(name)}.bias", self.adapter.tensors[name]
        if bias not in self.shapes:
            raise self.adapter.refused(name, f"has no place: {weight} has no bias in the base (lora_bias); {BESIDE}")
        self.check_shape(bias, tensor)
        return bias, "shift", product.scale * tensor.float()

    def rows(self, name: str) -> tuple[str, str, tuple[torch.Tensor, torch.Tensor]]:
        """Trained tokens: rows of an embedding or a head."""
        chosen, module = self.config.get("trainable_token_indices"), _module(name)
        weight, values = f"{module}.weight", self.adapter.tensors[name]
        if isinstance(chosen, dict):
            chosen = next((rows for key, rows in chosen.items() if f".{module}".endswith(f".{key}")), None)
        if (shape := self.shapes.get(weight)) is None:
            raise self.adapter.misplaced(f"{module} is not in the model")
        if not isinstance(chosen, list) or values.shape != (len(chosen), shape[1]):
            unlike = f"is {tuple(values.shape)}, unlike trainable_token_indices in {CONFIG}"
            raise self.adapter.refused(name, f"{unlike}: take both files from one save")
        if not all(type(row) is int and 0 <= row < shape[0] for row in chosen):
            raise self.adapter.misplaced(f"trainable_token_indices reach beyond the {shape[0]} tokens of {module}")
        return weight, "rows", (torch.tensor(chosen), values)

    def whole(self, name: str) -> tuple[str, str, torch.Tensor]:
        """A trained bias, or an embedding that was saved beside the adapter."""
        module, tensor, leaf = _module(name), self.adapter.tensors[name], name.rpartition(".")[2]
        weight = f"{module}.{leaf}"
        shape, embedding = self.shapes.get(weight), leaf == "weight" and self.modules.get(module) in self.embeddings
        if shape is None or not (embedding or leaf == "bias"):
            raise self.adapter.refused(name, f"is of a kind that is not merged; {BESIDE}")
        if embedding and tensor.ndim == 2 and tensor.shape[1] == shape[1] and tensor.shape[0] != shape[0]:
            resized = f"has {tensor.shape[0]} tokens and the base {shape[0]}: the vocabulary was resized; save the base"
            remedy = f"after model.resize_token_embeddings({tensor.shape[0]}) and take that as model.base.path"
            raise self.adapter.refused(name, f"{resized} {remedy}")
        self.check_shape(weight, tensor)
        return weight, "whole", tensor

    def check_shape(self, weight: str, tensor: torch.Tensor) -> None:
        """MergeError where a tensor has another shape than the weight that it is about."""
        if tensor.shape != self.shapes[weight]:
            both = f"{tuple(self.shapes[weight])} in the model and {tuple(tensor.shape)} in the adapter"
            raise self.adapter.misplaced(f"{weight} is {both}")


def _module(name: str) -> str:
    """Name of the base's module that a tensor of the adapter is about."""
    plain = re.sub(r"\.(base_layer|token_adapter)\b", "", name.removeprefix("base_model.model."))
    return re.sub(r"\.(lora_\w+(\.\w+)?|trainable_tokens_delta|weight|bias)$", "", plain)


def _flips(layer: torch.nn.Module, shape: torch.Size, targeted: bool) -> bool:
    """Whether a weight lies as (in, out); peft takes a Conv1D that is targeted as a parameter as it lies."""
    return getattr(layer, "is_transposed", False) if len(shape) == 3 else isinstance(layer, Conv1D) and not targeted


def _share(adapter: Adapter, model: PreTrainedModel, changed: dict[str, Change]) -> None:
    """Leave one change where two names are one weight; MergeError where only one of them would change."""
    for name, source in model.all_tied_weights_keys.items():
        own, shared = changed.pop(name, Change()), changed.get(source, Change())
        products = [change.product for change in (own, shared) if change.product is not None]
        same_product = not products or (len(products) == 2 and products[0].same(products[1]))
        whole = own.whole is None or (shared.whole is not None and torch.equal(own.whole, shared.whole))
        if same_product and whole and own.rows is None:
            continue
        raise MergeError(
            f"{adapter.folder}: {name} and {source} are one weight in the base and not in the adapter, so one would "
            f"move with the other: train with ensure_weight_tying=True, or {BESIDE}"
        )
