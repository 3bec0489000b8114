"""RoPE depends on distance alone; T5's bias is transformers'."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close
from transformers import LlamaConfig, T5Config
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb
from transformers.models.t5.modeling_t5 import T5Attention

from s2utils.architecture.positions import RelativeBias, angles, rotated

places = st.integers(0, 2000)


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@given(places, places, st.integers(0, 2000))
def test_a_dot_product_depends_on_the_distance_only(query, key, shift):
    q, k = noise(2, 32).double()
    scores = []
    for more in (0, shift):
        turn = angles(torch.tensor([query + more, key + more]), 32)
        scores.append(rotated(q, turn[0]) @ rotated(k, turn[1]))
    assert_close(scores[0], scores[1], atol=1e-3, rtol=1e-3)  # angles are float32


@given(places)
def test_turning_keeps_the_length_and_place_0_turns_nothing(place):
    x = noise(32)
    assert_close(rotated(x, angles(torch.tensor(place), 32)).norm(), x.norm())
    assert torch.equal(rotated(x, angles(torch.tensor(0), 32)), x)


@pytest.mark.parametrize("theta", [10_000.0, 1_000_000.0])
def test_rotation_is_llama_s(theta):
    config = LlamaConfig(
        hidden_size=64, num_attention_heads=2, rope_parameters={"rope_theta": theta, "rope_type": "default"}
    )
    x, positions = noise(1, 2, 50, 32), torch.arange(50)
    theirs, _ = apply_rotary_pos_emb(x, x, *LlamaRotaryEmbedding(config)(x, positions[None]))
    assert_close(rotated(x, angles(positions, 32, theta)), theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("buckets", "most"), [(32, 128), (8, 20)])
def test_relative_bias_is_t5_s(buckets, most):
    config = T5Config(
        d_model=64, num_heads=4, d_kv=16, is_decoder=True, relative_attention_num_buckets=buckets,
        relative_attention_max_distance=most,
    )  # fmt: skip
    theirs, ours, where = T5Attention(config, True, layer_idx=0), RelativeBias(4, buckets, most), torch.arange(300)
    ours.relative_attention_bias = theirs.relative_attention_bias
    seen = where[:, None] >= where
    assert torch.equal(ours(where, where) * seen, theirs.compute_bias(300, 300)[0] * seen)


@given(st.integers(0, 500), st.integers(0, 500))
def test_a_farther_key_is_in_no_earlier_bucket(near, farther):
    first, second = RelativeBias(1).bucket(torch.tensor(sorted((near, farther)))).tolist()
    assert 0 <= first <= second <= 31
