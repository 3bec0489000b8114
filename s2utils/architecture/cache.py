"""A rolling buffer: keys and values of the last W tokens of each sequence, token i in slot i mod W.

`window` W counts the token itself: query i sees key j where i − W < j ≤ i. The first `sinks` tokens may be kept
(attention sinks); they take slots of the W, so that memory is the same: then i ≥ S goes to S + (i − S) mod (W − S).
Keys are stored turned by RoPE to their place in the text, so the order of slots does not matter to softmax and nothing
is ever moved. `read` takes prompts of different lengths, padded on the right, in chunks of any size; a single new token
is written first and attends to the slots as they lie, a longer chunk attends to the slots as they were and to itself.

A `RollingBuffer` is what transformers' Llama and Mistral take as `past_key_values` (their attention calls `update`), so
the model's own layers run over it, with attention "sdpa" or "eager". Trap: what is padded must not be stored, and yet
must see something: each token sees itself, whatever it is, so no row is masked whole and nothing is NaN. Sources:
Jiang et al. 2023 (Mistral 7B, section 2); Xiao et al. 2023 (sinks; their positions are those in the cache, ours in the
text).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from transformers import LlamaForCausalLM, MistralConfig, MistralForCausalLM, PretrainedConfig, PreTrainedModel

from s2utils.architecture import shapes
from s2utils.architecture.attention import checked, visible


def slot(place: torch.Tensor, window: int, sinks: int = 0) -> torch.Tensor:
    """The slot of the token at `place` (0, 1, …) of its sequence."""
    return torch.where(place < sinks, place, sinks + (place - sinks) % (window - sinks))


def additive(seen: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """A mask to add to scores, (B, 1, Q, K), of a bool one (B, Q, K): 0 where seen, else −∞."""
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill(~seen, -math.inf)[:, None]


class RollingBuffer:
    """Slots of every layer, (layers, B, key-value heads, W, head dimension), and what lies in them."""

    def __init__(
        self, config: PretrainedConfig, batch_size: int, window: int, sinks: int = 0,
        dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu",
    ) -> None:  # fmt: skip
        """Empty slots for a model of `config`; nothing is allocated afterwards but a chunk's own keys and values."""
        self.window, self.sinks = window, checked(window, sinks)
        shape = (config.num_hidden_layers, batch_size, config.num_key_value_heads, window, shapes.head_dim(config))
        self.keys, self.values = (torch.zeros(shape, dtype=dtype, device=device) for _ in range(2))
        self.places = torch.full((batch_size, window), -1, device=device)  # of the token in each slot; −1: empty
        self.lengths = torch.zeros(batch_size, dtype=torch.long, device=device)  # tokens that each sequence has had

    @property
    def nbytes(self) -> int:
        """Bytes of all slots: W of them a layer and sequence, however long the text."""
        return self.keys.nbytes + self.values.nbytes

    def begin(self, size: int, counts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(places (B, size), which of the keys that `update` will return each sees (B, size, K)) of new tokens.

        The first `counts` (B,) of each row are tokens, the others padding. Call it before the layers run.
        """
        places = self.lengths[:, None] + torch.arange(size, device=self.lengths.device)  # (B, size)
        ends = self.lengths + counts
        self.in_place = size == 1 and bool((counts == 1).all())
        before = self.places.clone()
        kept = places < ends[:, None]
        kept &= (places < self.sinks) | (places >= ends[:, None] - (self.window - self.sinks))
        self.rows, self.columns = kept.nonzero(as_tuple=True)  # of a chunk, those that the rest does not overwrite
        stored = places[self.rows, self.columns]
        self.slots = slot(stored, self.window, self.sinks)
        self.places[self.rows, self.slots] = stored
        self.lengths = ends
        keys = self.places if self.in_place else torch.cat([before, places], dim=1)
        return places, visible(places, keys, self.window, self.sinks)

    def update(self, keys: torch.Tensor, values: torch.Tensor, layer: int, *_, **__) -> tuple[torch.Tensor, ...]:
        """Store a layer's new keys and values (B, heads, T, width); returns those to attend to (B, heads, K, width)."""
        seen = []
        for slots, new in ((self.keys[layer], keys), (self.values[layer], values)):
            seen.append(slots if self.in_place else torch.cat([slots, new], dim=2))
            slots.transpose(1, 2)[self.rows, self.slots] = new.transpose(1, 2)[self.rows, self.columns]
        return tuple(seen)


@torch.no_grad()
def extend(
    model: PreTrainedModel, buffer: RollingBuffer, ids: torch.Tensor, counts: torch.Tensor | None = None
) -> torch.Tensor:
    """Logits (B, T, vocabulary) of new tokens (B, T), which the buffer then holds; row b's first `counts[b]` are some.

    Logits of padding mean nothing.
    """
    counts = torch.full((len(ids),), ids.shape[1], device=ids.device) if counts is None else counts
    places, seen = buffer.begin(ids.shape[1], counts)
    mask = additive(seen, model.dtype)
    return model(input_ids=ids, position_ids=places, attention_mask=mask, past_key_values=buffer, use_cache=True).logits


def read(
    model: PreTrainedModel, buffer: RollingBuffer, ids: torch.Tensor, lengths: torch.Tensor, chunk: int
) -> Iterator[torch.Tensor]:
    """Logits (B, ≤ chunk, vocabulary) of one chunk after the other of prompts (B, T), padded on the right."""
    for start in range(0, ids.shape[1], chunk):
        part = ids[:, start : start + chunk]
        yield extend(model, buffer, part, (lengths - start).clamp(0, part.shape[1]))


@torch.no_grad()
def windowed(model: PreTrainedModel, ids: torch.Tensor, window: int | None, sinks: int = 0, **more):
    """The model's output for whole texts (B, T) at once, under the window's mask: what any cache has to equal."""
    places = torch.arange(ids.shape[1], device=ids.device)[None]
    mask = additive(visible(places, places, window, sinks), model.dtype)
    return model(input_ids=ids, attention_mask=mask, use_cache=False, **more)


def as_mistral(model: LlamaForCausalLM, window: int | None) -> MistralForCausalLM:
    """The same weights, shared, in Mistral's class, which differs from Llama's in its window alone."""
    facts = {k: v for k, v in model.config.to_dict().items() if k not in ("model_type", "architectures")}
    with torch.device("meta"):
        mistral = MistralForCausalLM(MistralConfig(**facts | {"sliding_window": window}))
    mistral.load_state_dict(model.state_dict(), assign=True)
    mistral.tie_weights()
    mistral.model.rotary_emb = model.model.rotary_emb  # its frequencies are no weights, so they are on no device yet
    return mistral.eval()
