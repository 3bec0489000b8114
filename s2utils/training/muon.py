"""Muon in float32: steps whose singular values are near 1, for small models that are trained from nothing.

The momentum of a weight matrix is brought near its nearest orthogonal matrix by five Newton–Schulz iterations before
it is subtracted; embeddings, norms and the output head, which are no maps between hidden states, take AdamW. Matrices
of one shape go through the iterations together. A mixture's experts are one parameter (experts, rows, columns), whose
gates and maps up stand one above the other: each of these matrices has a step of its own. `torch.optim.Muon` computes
the same step in bfloat16, which a processor without units for it multiplies several times slower. Trap: a step's size
does not depend on the gradient's, so a learning rate that suits AdamW is too small here by an order of magnitude.
Source: Jordan and others 2024, "Muon: an optimizer for hidden layers in neural networks" (coefficients, Nesterov's
momentum, the factor for tall matrices).
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor
from torch.optim import AdamW, Optimizer

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic: steep at 0, so that five iterations lift small values too
ITERATIONS = 5
BETAS = (0.9, 0.95)  # of AdamW
FUSED = "experts.gate_up_proj"  # parameters of transformers that hold two matrices, one above the other


def orthogonalized(matrices: Tensor) -> Tensor:
    """Matrices (…, m, n) with the same singular vectors and singular values of about 0.7 to 1.2; zeros stay zeros.

    Trap: singular values below about a thousandth of the Frobenius norm are lifted, but not as far.
    """
    a, b, c = COEFFICIENTS
    tall = matrices.size(-2) > matrices.size(-1)
    x = matrices.mT if tall else matrices  # the smaller Gram matrix
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class Muon(Optimizer):
    """Muon for matrices, and for stacks of them (n, rows, columns); ValueError for other parameters.

    A step subtracts lr · sqrt(max(1, rows / columns)) · `orthogonalized`(Nesterov's momentum) and lr · weight_decay of
    the matrix. A group's `fused` says how many matrices of equal height stand one above the other in each. The state of
    a parameter is its momentum, so a state_dict restores everything.
    """

    def __init__(self, params: Iterable, lr: float = 0.02, momentum: float = 0.95, weight_decay: float = 0.0):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "fused": 1})
        for weight in self._weights():
            if weight.ndim not in (2, 3):
                raise ValueError(f"Muon takes matrices, not a parameter of shape {tuple(weight.shape)}: give it AdamW")

    def _weights(self) -> list[Tensor]:
        return [weight for group in self.param_groups for weight in group["params"]]

    @torch.no_grad()
    def step(self, closure=None) -> None:
        """One step on the gradients that are there; `closure` is not used."""
        for group in self.param_groups:
            shapes: dict[torch.Size, list[Tensor]] = {}
            for weight in group["params"]:
                if weight.grad is not None:
                    shapes.setdefault(weight.shape, []).append(weight)
            for weights in shapes.values():
                self._step(weights, group["lr"], group["momentum"], group["weight_decay"], group["fused"])

    def _step(self, weights: list[Tensor], lr: float, momentum: float, weight_decay: float, fused: int) -> None:
        """Step parameters of one shape together."""
        for weight in weights:
            if "momentum_buffer" not in self.state[weight]:
                self.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
        gradients = [weight.grad for weight in weights]
        buffers = [self.state[weight]["momentum_buffer"] for weight in weights]
        torch._foreach_lerp_(buffers, gradients, 1 - momentum)
        matrices = torch.stack(torch._foreach_lerp(gradients, buffers, momentum)).unflatten(-2, (fused, -1))
        rows, columns = matrices.shape[-2:]
        steps = orthogonalized(matrices).flatten(-3, -2)
        torch._foreach_mul_(weights, 1 - lr * weight_decay)
        torch._foreach_add_(weights, list(steps), alpha=-lr * math.sqrt(max(1, rows / columns)))


def optimizers(model: torch.nn.Module, lr: float, adamw_lr: float, weight_decay: float) -> tuple[Muon, AdamW]:
    """(Muon for the matrices of the layers, AdamW for all else) of a transformers model.

    Embeddings, of positions too, and the head (`get_output_embeddings`) are no matrices of layers; they and the norms
    are not decayed.
    """
    ends = [module for module in model.modules() if isinstance(module, torch.nn.Embedding)]
    ends = {id(end.weight) for end in (*ends, model.get_output_embeddings()) if end is not None}
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    matrices = [weight for weight in weights if weight.ndim in (2, 3) and id(weight) not in ends]
    rest = [weight for weight in weights if weight.ndim not in (2, 3) or id(weight) in ends]
    pairs = {id(weight) for name, weight in model.named_parameters() if name.endswith(FUSED)}
    groups = [{"params": [weight for weight in matrices if id(weight) not in pairs]}]
    if pairs:
        groups.append({"params": [weight for weight in matrices if id(weight) in pairs], "fused": 2})
    muon = Muon(groups, lr=lr, weight_decay=weight_decay)
    return muon, AdamW(rest, lr=adamw_lr, betas=BETAS, weight_decay=0.0)
