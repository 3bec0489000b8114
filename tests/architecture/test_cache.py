"""A rolling buffer equals the full cache under the window's mask, for every chunk, length and window."""

import functools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from s2utils.architecture import attention, cache

FACTS = {
    "vocab_size": 61, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 128, "pad_token_id": 0,
}  # fmt: skip


@functools.cache
def mistral(window: int | None) -> MistralForCausalLM:
    torch.manual_seed(1)
    return MistralForCausalLM(MistralConfig(**FACTS, sliding_window=window)).eval()


def tokens(batch: int, size: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(1, 61, (batch, size), generator=torch.Generator().manual_seed(seed))


def through(model, buffer: cache.RollingBuffer, ids: torch.Tensor, lengths: list[int], chunk: int) -> torch.Tensor:
    return torch.cat(list(cache.read(model, buffer, ids, torch.tensor(lengths), chunk)), dim=1)


def test_the_window_counts_the_token_itself_as_transformers_does():
    places = torch.arange(6)
    seen = attention.visible(places, places, 3)
    assert seen.sum(dim=1).tolist() == [1, 2, 3, 3, 3, 3]
    ids = tokens(2, 30)
    assert torch.equal(cache.windowed(mistral(4), ids, 4).logits, mistral(4)(input_ids=ids).logits)


def test_slots_of_mistral_s_example():
    """Prompts of 5, 7 and 2 tokens that begin at places 0, 1 and 3 of their sequences, W = 3 (mistral-inference)."""
    buffer = cache.RollingBuffer(mistral(3).config, 3, 3)
    buffer.lengths = torch.tensor([0, 1, 3])
    buffer.begin(7, torch.tensor([5, 7, 2]))
    flat = buffer.rows * 3 + buffer.slots
    assert [flat[buffer.rows == row].tolist() for row in range(3)] == [[2, 0, 1], [5, 3, 4], [6, 7]]


@settings(deadline=None, max_examples=40)
@given(
    window=st.integers(1, 9), chunk=st.integers(1, 30), lengths=st.lists(st.integers(0, 28), min_size=1, max_size=4),
    share=st.floats(0, 0.99), steps=st.integers(1, 3),
)  # fmt: skip
def test_logits_are_those_of_the_full_cache_under_the_window_s_mask(window, chunk, lengths, share, steps):
    model, sinks = mistral(None), int(share * window)
    ids = tokens(len(lengths), max(1, *lengths) + steps, window)
    buffer = cache.RollingBuffer(model.config, len(lengths), window, sinks)
    found = through(model, buffer, ids[:, : max(1, *lengths)], lengths, chunk)
    assert torch.isfinite(found).all(), "padding too must see something"
    more = [cache.extend(model, buffer, ids[:, -steps:][:, i : i + 1]) for i in range(steps)]
    for row, length in enumerate(lengths):
        whole = torch.cat([ids[row : row + 1, :length], ids[row : row + 1, -steps:]], dim=1)
        want = cache.windowed(model, whole, window, sinks).logits[0]
        torch.testing.assert_close(found[row, :length], want[:length], rtol=0, atol=1e-5)
        torch.testing.assert_close(torch.cat(more, dim=1)[row], want[length:], rtol=0, atol=1e-5)
        last = set(range(max(min(sinks, length + steps), length + steps - (window - sinks)), length + steps))
        kept = last | set(range(min(sinks, length + steps)))
        assert {place for place in buffer.places[row].tolist() if place >= 0} == kept


@pytest.mark.parametrize("chunk", [1, 4, 5, 16, 120])
def test_far_beyond_the_window_every_chunk_has_the_same_logits(chunk):
    ids, window = tokens(1, 120), 4
    want = mistral(window)(input_ids=ids).logits
    buffer = cache.RollingBuffer(mistral(window).config, 1, window)
    torch.testing.assert_close(through(mistral(window), buffer, ids, [120], chunk), want, rtol=0, atol=1e-5)


def test_bytes_are_w_slots_however_long_the_text():
    config = mistral(4).config
    buffer = cache.RollingBuffer(config, 2, 4)
    slot = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * 4
    before = buffer.keys.data_ptr()
    for _ in range(2):
        assert buffer.nbytes == 2 * 4 * slot
        through(mistral(4), buffer, tokens(2, 33), [33, 20], 7)
    assert buffer.keys.data_ptr() == before and buffer.lengths.tolist() == [66, 40]


def test_a_window_must_hold_the_token_itself():
    for window, sinks in ((0, 0), (3, 3), (3, -1)):
        with pytest.raises(ValueError, match="counts the token itself"):
            cache.RollingBuffer(mistral(4).config, 1, window, sinks)


def test_eager_attention_gives_the_same():
    ids = tokens(2, 20)
    model = MistralForCausalLM._from_config(mistral(3).config, attn_implementation="eager").eval()
    model.load_state_dict(mistral(3).state_dict())
    buffer = cache.RollingBuffer(model.config, 2, 3)
    found = through(model, buffer, ids, [20, 20], 6)
    torch.testing.assert_close(found, mistral(3)(input_ids=ids).logits, rtol=0, atol=1e-5)


def test_a_llama_is_a_mistral_of_any_window():
    torch.manual_seed(2)
    llama = LlamaForCausalLM(LlamaConfig(**FACTS, rms_norm_eps=1e-5, rope_theta=5000.0)).eval()
    ids = tokens(1, 40)
    whole, narrow = cache.as_mistral(llama, None), cache.as_mistral(llama, 5)
    assert narrow.lm_head.weight.data_ptr() == llama.lm_head.weight.data_ptr()
    torch.testing.assert_close(whole(input_ids=ids).logits, llama(input_ids=ids).logits)
    torch.testing.assert_close(narrow(input_ids=ids).logits, cache.windowed(llama, ids, 5).logits)
