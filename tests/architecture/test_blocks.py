"""Norms and MLPs: what they do not see, and torch's and transformers' own."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRMSNorm

from s2utils.architecture.blocks import GeluMLP, LayerNorm, RMSNorm, SwiGLU, parameters

seeds = st.integers(0, 10_000)


def noise(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@given(seeds, st.floats(0.1, 100))
def test_no_norm_sees_a_scale_and_layernorm_no_shift(seed, factor):
    x = noise(seed, 3, 16)
    for norm in (LayerNorm(16, eps=0), LayerNorm(16, eps=0, affine=False), RMSNorm(16, eps=0)):
        assert_close(norm(factor * x), norm(x), atol=1e-4, rtol=1e-4)
    assert_close(LayerNorm(16, eps=0)(x + factor), LayerNorm(16, eps=0)(x), atol=1e-3, rtol=1e-3)


@given(seeds)
def test_a_normed_vector_has_the_scale_that_its_norm_promises(seed):
    x = noise(seed, 16)
    assert math.isclose(RMSNorm(16, eps=0)(x).square().mean().item(), 1, rel_tol=1e-4)
    normed = LayerNorm(16, eps=0)(x)
    assert abs(normed.mean().item()) < 1e-5 and math.isclose(normed.var(correction=0).item(), 1, rel_tol=1e-4)


@pytest.mark.parametrize("affine", [True, False])
def test_layernorm_is_torch_s(affine):
    ours, theirs = LayerNorm(16, affine=affine), torch.nn.LayerNorm(16, elementwise_affine=affine)
    if affine:
        torch.nn.init.normal_(theirs.weight)
        torch.nn.init.normal_(theirs.bias)
    ours.load_state_dict(theirs.state_dict())
    assert_close(ours(noise(1, 5, 16)), theirs(noise(1, 5, 16)))
    assert parameters(ours) == 32 * affine


def test_rmsnorm_is_llama_s():
    ours, theirs = RMSNorm(16), LlamaRMSNorm(16)
    torch.nn.init.normal_(theirs.weight)
    ours.load_state_dict(theirs.state_dict())
    assert_close(ours(noise(1, 5, 16)), theirs(noise(1, 5, 16)))


def test_swiglu_is_llama_s():
    theirs = LlamaMLP(LlamaConfig(hidden_size=32, intermediate_size=48))
    ours = SwiGLU(32, 48)
    ours.load_state_dict(theirs.state_dict())
    assert_close(ours(noise(1, 5, 32)), theirs(noise(1, 5, 32)))


def test_a_gelu_mlp_by_hand_and_at_the_parameters_of_a_swiglu_of_two_thirds():
    mlp = GeluMLP(1, 1)
    torch.nn.init.constant_(mlp.up_proj.weight, 2.0)
    torch.nn.init.constant_(mlp.down_proj.weight, 5.0)
    assert math.isclose(mlp(torch.ones(1)).item(), 5 * 2 * 0.5 * (1 + math.erf(2 / math.sqrt(2))), rel_tol=1e-6)
    assert parameters(GeluMLP(30, 120)) == parameters(SwiGLU(30, 80)) == 7200
