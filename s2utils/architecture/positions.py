"""How attention learns where a token stands: rotation (RoPE) and T5's bias by distance.

RoPE (Su and others 2021) turns each pair of dimensions of queries and keys by an angle that grows with the position,
so that their dot product depends on the distance alone; pairs are (i, i + D/2), as in Llama. T5's bias (Raffel and
others 2020) adds a learnt number a head to every score, one for each bucket of distances: buckets are exact up to half
of them, then grow with the logarithm, and all distances from `max_distance` on share the last. Learned absolute
positions are an embedding (`decoder`), which has no row for a position it was not made for. Trap: both of these can be
computed for any position, which does not say that a model does well beyond the positions it was trained on.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def angles(positions: Tensor, head_dim: int, theta: float = 10_000.0) -> Tensor:
    """Angle in radians of every pair of dimensions at `positions` (…, T): (…, T, head_dim / 2), float32.

    Pair i turns by theta^(−2i / head_dim) a position.
    """
    speeds = theta ** (-torch.arange(0, head_dim, 2, device=positions.device).float() / head_dim)
    return positions[..., None].float() * speeds


def rotated(x: Tensor, turn: Tensor) -> Tensor:
    """Queries or keys (…, T, head_dim) turned by `angles` (T, head_dim / 2), or of a shape that broadcasts."""
    cos, sin = turn.cos().to(x.dtype), turn.sin().to(x.dtype)
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


class RelativeBias(nn.Module):
    """T5's bias of a decoder: a number a head for each bucket of distances back from a query."""

    def __init__(self, heads: int, buckets: int = 32, max_distance: int = 128):
        super().__init__()
        self.relative_attention_bias = nn.Embedding(buckets, heads)
        self.max_distance = max_distance

    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Positions (Q,) and (K,) to a bias (heads, Q, K); keys after a query count as distance 0."""
        distance = (queries[:, None] - keys).clamp(min=0)
        return self.relative_attention_bias(self.bucket(distance)).permute(2, 0, 1)

    def bucket(self, distance: Tensor) -> Tensor:
        """Bucket of distances from 0 on, of any shape."""
        buckets = self.relative_attention_bias.num_embeddings
        exact = buckets // 2
        steps = torch.log(distance.clamp(min=1).float() / exact) / math.log(self.max_distance / exact)
        far = exact + (steps * (buckets - exact)).long()
        return torch.where(distance < exact, distance, far.clamp(max=buckets - 1))
