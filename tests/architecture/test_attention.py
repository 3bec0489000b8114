"""Masks, shared heads, and that nothing looks ahead."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from s2utils.architecture.attention import Attention, attend, biased, visible
from s2utils.architecture.positions import angles


def noise(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_a_window_counts_the_token_itself_and_the_first_tokens():
    places = torch.arange(6)
    assert visible(places, places).sum(1).tolist() == [1, 2, 3, 4, 5, 6]
    assert visible(places, places, 3).int().tolist()[5] == [0, 0, 0, 1, 1, 1]
    assert visible(places, places, 3, 2).int().tolist()[5] == [1, 1, 0, 0, 0, 1]


@given(st.integers(1, 30), st.integers(1, 30), st.data())
def test_every_token_sees_itself_and_no_more_than_the_window(tokens, window, data):
    sinks, places = data.draw(st.integers(0, window - 1)), torch.arange(tokens)
    seen = visible(places, places, window, sinks)
    assert seen.diagonal().all() and not seen.triu(1).any()
    assert seen.sum(1).tolist() == [min(i + 1, window) for i in range(tokens)]
    assert torch.equal(visible(places, places, tokens), visible(places, places)), "a window as long as the text is none"


@pytest.mark.parametrize("sinks", [-1, 3, 4])
def test_sinks_that_leave_no_place_are_refused(sinks):
    with pytest.raises(ValueError, match="sinks must be 0 to 2"):
        visible(torch.arange(6), torch.arange(6), 3, sinks)


def test_attention_written_out():
    q, k, v = noise(3, 2, 4, 7, 8)
    seen, bias = visible(torch.arange(7), torch.arange(7), 4), noise(4, 7, 7)
    scores = (q @ k.mT / math.sqrt(8) + bias).masked_fill(~seen, -math.inf)
    assert_close(attend(q, k, v, biased(seen, bias)), scores.softmax(-1) @ v)
    assert_close(attend(q, k, v, seen), attend(q, k, v, biased(seen, torch.zeros(4, 7, 7))))


@given(st.sampled_from([1, 2, 3, 6]))
def test_shared_heads_are_copied_ones(kv_heads):
    q, (k, v), seen = noise(1, 6, 5, 8), noise(2, 1, kv_heads, 5, 8), visible(torch.arange(5), torch.arange(5))
    copied = [x.repeat_interleave(6 // kv_heads, dim=1) for x in (k, v)]
    assert_close(attend(q, k, v, seen), attend(q, *copied, seen))


def test_heads_that_cannot_be_shared_alike_are_refused():
    with pytest.raises(ValueError, match="6 query heads cannot share 4"):
        attend(noise(1, 6, 5, 8), noise(1, 4, 5, 8), noise(1, 4, 5, 8), torch.ones(5, 5, dtype=torch.bool))


@given(st.integers(0, 8), st.sampled_from([None, 1, 3]))
def test_a_change_moves_nothing_before_it_and_nothing_beyond_the_window(place, window):
    torch.manual_seed(0)
    module, x, where = Attention(32, 4, 2), noise(1, 9, 32), torch.arange(9)
    changed = x.clone()
    changed[0, place] += 1
    seen, turn = visible(where, where, window), angles(where, 8)
    with torch.no_grad():
        moved = (module(x, seen, turn) != module(changed, seen, turn)).any(-1)[0]
    assert moved.nonzero().flatten().tolist() == list(range(place, min(9, place + (window or 9))))
