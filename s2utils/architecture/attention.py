"""Causal attention with one, some or all key-value heads, a window, and first tokens that stay in sight.

Query head h reads key-value head h // (heads / kv_heads): as many as query heads is multi-head attention (MHA), one is
multi-query (MQA, Shazeer 2019), between is grouped-query (GQA, Ainslie and others 2023). A window of W counts the token
itself: query i sees key j where i − W < j ≤ i, as transformers has it. The first S tokens may stay in sight of all
(attention sinks, Xiao and others 2023); they count in W too, so i sees j < S or i − (W − S) < j ≤ i. Names of weights
are Llama's. Traps: papers also count W without the token itself, which is one key more; a window here hides keys and
saves nothing, since all T · T pairs are looked at (a cache that saves: `cache`).
"""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional

from s2utils.architecture import positions


def visible(queries: Tensor, keys: Tensor, window: int | None = None, sinks: int = 0) -> Tensor:
    """Whether a query sees a key, bool (…, Q, K), of their places in the text (…, Q) and (…, K); −1 is no key.

    `window` None: causal alone. Every query sees the key of its own place. Raises as `checked`.
    """
    query, key = queries[..., :, None], keys[..., None, :]
    causal = (key >= 0) & (key <= query)
    if window is None:
        return causal
    return causal & ((key > query - (window - checked(window, sinks))) | (key < sinks))


def checked(window: int, sinks: int) -> int:
    """`sinks`, or ValueError where they leave no place in the window for the token itself."""
    if not 0 <= sinks < window:
        raise ValueError(f"sinks must be 0 to {window - 1}, for a window of {window} counts the token itself: {sinks}")
    return sinks


def biased(seen: Tensor, bias: Tensor) -> Tensor:
    """`bias` (heads, Q, K) where a key is `seen` (Q, K), −inf elsewhere; large, so it is made once for all layers."""
    return bias.masked_fill(~seen, -math.inf)


def attend(q: Tensor, k: Tensor, v: Tensor, seen: Tensor) -> Tensor:
    """Softmax(q·k / sqrt(D)) over the keys that are `seen`, times v.

    q (B, heads, Q, D); k, v (B, kv_heads, K, D); seen (Q, K), or as `biased` gives it, which is added to the scores;
    gives (B, heads, Q, D). ValueError where the heads cannot be shared out alike.
    """
    heads, groups = q.size(1), k.size(1)
    if heads % groups:
        raise ValueError(f"{heads} query heads cannot share {groups} key-value heads alike: take a divisor of {heads}")
    k, v = (x.repeat_interleave(heads // groups, dim=1) for x in (k, v))
    mask = seen.to(q.dtype) if seen.is_floating_point() else seen
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)


class Attention(nn.Module):
    """Self-attention of a decoder's block."""

    def __init__(self, width: int, heads: int, kv_heads: int, head_dim: int = 0):
        super().__init__()
        self.head_dim = head_dim or width // heads
        self.q_proj = nn.Linear(width, heads * self.head_dim, bias=False)
        self.k_proj, self.v_proj = (nn.Linear(width, kv_heads * self.head_dim, bias=False) for _ in range(2))
        self.o_proj = nn.Linear(heads * self.head_dim, width, bias=False)

    def forward(self, x: Tensor, seen: Tensor, turn: Tensor | None = None) -> Tensor:
        """(B, T, width) to the same; `seen` as `attend`; `turn`: angles of RoPE, none without it."""
        q, k, v = (self._split(project(x)) for project in (self.q_proj, self.k_proj, self.v_proj))
        if turn is not None:
            q, k = positions.rotated(q, turn), positions.rotated(k, turn)
        return self.o_proj(attend(q, k, v, seen).transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        """(B, T, heads · D) to (B, heads, T, D)."""
        return x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
