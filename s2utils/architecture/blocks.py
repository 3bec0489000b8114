"""The parts of a decoder's block that look at one token at a time: norms and MLPs.

Tensors are (…, width); nothing here moves a value from one token to another. A norm brings each token's vector to one
scale: LayerNorm (Ba and others 2016) takes off the mean and divides by the standard deviation, RMSNorm (Zhang &
Sennrich 2019) divides by the root of the mean square alone; OLMo's LayerNorm has no parameters (Groeneveld and others
2024). SwiGLU (Shazeer 2020) has three matrices where a GeLU MLP has two, so at equal parameters it is two thirds as
wide. Names of weights are Llama's in transformers, so its weights load unchanged. Trap: the mean square is taken in
float32 whatever the model computes in, as transformers does.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class RMSNorm(nn.Module):
    """x / sqrt(mean(x²) + eps), times a weight a dimension."""

    def __init__(self, width: int, eps: float = 1e-6):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(width)), eps

    def forward(self, x: Tensor) -> Tensor:
        """(…, width) to the same shape."""
        exact = x.float()
        return self.weight * (exact * torch.rsqrt(exact.square().mean(-1, keepdim=True) + self.eps)).to(x.dtype)


class LayerNorm(nn.Module):
    """(x − mean) / sqrt(variance + eps); with `affine` times a weight and plus a bias a dimension."""

    def __init__(self, width: int, eps: float = 1e-5, affine: bool = True):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width)) if affine else None
        self.bias = nn.Parameter(torch.zeros(width)) if affine else None
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """(…, width) to the same shape."""
        centred = x.float() - x.float().mean(-1, keepdim=True)
        scaled = (centred * torch.rsqrt(centred.square().mean(-1, keepdim=True) + self.eps)).to(x.dtype)
        return scaled if self.weight is None else self.weight * scaled + self.bias


class GeluMLP(nn.Module):
    """down(GeLU(up(x))): two matrices, no biases."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.up_proj, self.down_proj = nn.Linear(width, hidden, bias=False), nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(…, width) to the same shape."""
        return self.down_proj(functional.gelu(self.up_proj(x)))


class SwiGLU(nn.Module):
    """down(SiLU(gate(x)) · up(x)): three matrices, no biases."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.gate_proj, self.up_proj = (nn.Linear(width, hidden, bias=False) for _ in range(2))
        self.down_proj = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(…, width) to the same shape."""
        return self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))


def parameters(module: nn.Module) -> int:
    """How many numbers training may change."""
    return sum(weight.numel() for weight in module.parameters())
