"""Key-value heads of a model that is there: copied to more, pooled to fewer, and how many texts' caches fit.

A Llama of transformers with G key-value heads serves query heads in G groups of neighbours. Each key-value head copied
to all query heads of its group is the same function with a larger cache; heads averaged to fewer are where Ainslie and
others (2023) begin, who then train on. What a cache takes a token: `shapes.cache_bytes`. Units: bytes, tokens. Trap:
the mean of heads is another function; how much worse, only a loss tells.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor


def largest_batch(budget: int, context: int, bytes_a_token: int) -> int:
    """How many texts of `context` tokens have room for their caches in `budget` bytes."""
    return budget // (context * bytes_a_token)


@torch.no_grad()
def with_kv_heads(model, kv_heads: int):
    """A Llama or Mistral of transformers with that many key-value heads: more are copied, fewer are means.

    All other weights are shared with `model`, not copied.
    ValueError where one number does not divide the other, or the number of query heads.
    """
    old, queries = model.config.num_key_value_heads, model.config.num_attention_heads
    if queries % kv_heads or max(old, kv_heads) % min(old, kv_heads):
        raise ValueError(f"{old} key-value heads of {queries} heads cannot become {kv_heads}: take a divisor")
    made = copy.deepcopy(model, {id(weight): weight for weight in model.parameters()})
    made.config = copy.deepcopy(model.config)
    made.config.num_key_value_heads = kv_heads
    for layer in made.model.layers:
        attention = layer.self_attn
        for project in (attention.k_proj, attention.v_proj):
            project.weight = torch.nn.Parameter(_regrouped(project.weight, old, kv_heads))
            if project.bias is not None:
                project.bias = torch.nn.Parameter(_regrouped(project.bias, old, kv_heads))
            project.out_features = len(project.weight)
        attention.num_key_value_groups = queries // kv_heads
    return made.eval()


def _regrouped(weight: Tensor, old: int, new: int) -> Tensor:
    """(old · D, …) to (new · D, …): each head repeated, or neighbours averaged."""
    heads = weight.unflatten(0, (old, -1))
    if new > old:
        return heads.repeat_interleave(new // old, dim=0).flatten(0, 1)
    return heads.unflatten(0, (new, -1)).mean(1).flatten(0, 1)
