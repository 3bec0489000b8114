"""Shapes: published counts, the parameters of transformers' own models, and what batches do to experts."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    OlmoeConfig,
    Qwen2Config,
    Qwen2MoeConfig,
    Qwen3Config,
    Qwen3MoeConfig,
)

from s2utils.architecture import shapes

MISTRAL = MistralConfig(vocab_size=32_000, num_key_value_heads=8)
MIXTRAL = MixtralConfig(vocab_size=32_000)
SMALL = {
    "vocab_size": 96, "hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2,
}  # fmt: skip
FINE = SMALL | {"num_experts": 6, "num_experts_per_tok": 3}
CONFIGS = [
    LlamaConfig(**SMALL),
    LlamaConfig(**SMALL, tie_word_embeddings=True, attention_bias=True, mlp_bias=True, head_dim=12),
    MistralConfig(**SMALL),
    MixtralConfig(**SMALL, num_local_experts=5, num_experts_per_tok=2),
    OlmoeConfig(**FINE),
    Qwen2Config(**SMALL),
    Qwen2MoeConfig(**FINE, moe_intermediate_size=16, shared_expert_intermediate_size=24, mlp_only_layers=[0]),
    Qwen3Config(**SMALL, head_dim=16),
    Qwen3MoeConfig(**FINE, moe_intermediate_size=16, decoder_sparse_step=2),
]


@pytest.mark.parametrize(
    ("config", "total", "active"),
    [
        (MIXTRAL, 46_702_792_704, 12_879_925_248),
        (MISTRAL, 7_241_732_096, 7_241_732_096),
        (LlamaConfig(), 6_738_415_616, 6_738_415_616),
    ],
    ids=["Mixtral 8x7B", "Mistral 7B", "Llama 2 7B"],
)
def test_published_counts(config, total, active):
    assert (shapes.total_parameters(config), shapes.active_parameters(config)) == (total, active)


@pytest.mark.parametrize("config", [*CONFIGS, MIXTRAL], ids=lambda config: config.model_type)
def test_parameters_are_those_of_the_model(config):
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    sizes = {name: weight.numel() for name, weight in model.named_parameters()}
    chosen = shapes.parts(config)
    assert sum(chosen.values()) == sum(sizes.values())
    assert chosen["experts"] == sum(size for name, size in sizes.items() if ".experts." in name)
    assert chosen["norms"] == sum(size for name, size in sizes.items() if "norm" in name)


def test_a_model_whose_parts_are_not_known_is_named():
    with pytest.raises(ValueError, match="'gpt2'"):
        shapes.parts(GPT2Config())


@pytest.mark.parametrize(("pairs", "size"), [(32, 524_288), (8, 131_072), (1, 16_384)], ids=["MHA", "GQA", "MQA"])
def test_cache_of_7b_shapes(pairs, size):
    assert shapes.cache_bytes(MistralConfig(num_key_value_heads=pairs), 2) == size


def test_flop_are_those_that_pytorch_counts():
    from torch.utils.flop_counter import FlopCounterMode

    config = LlamaConfig(**SMALL, attn_implementation="eager")
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(input_ids=torch.zeros(1, 24, dtype=torch.long))
    rope = counter.get_total_flops() - 24 * shapes.flop_per_token(config, 24)
    assert 0 <= rope <= 2 * 24 * config.hidden_size, "only the angles of positions are left"


def test_a_mixture_works_as_a_smaller_model_and_is_read_as_a_larger_one():
    assert shapes.flop_per_token(MIXTRAL, 0) < 0.3 * 2 * shapes.total_parameters(MIXTRAL)
    alone, crowd = (shapes.bytes_read(MIXTRAL, size, 0, 2) for size in (1, 256))
    lookup = 2 * 255 * MIXTRAL.hidden_size
    assert alone / 2 == pytest.approx(shapes.active_parameters(MIXTRAL) - 31_999 * MIXTRAL.hidden_size)
    whole = 2 * (shapes.total_parameters(MIXTRAL) - 31_999 * MIXTRAL.hidden_size) + lookup
    assert crowd == pytest.approx(whole, rel=1e-9)
    assert shapes.bytes_read(MIXTRAL, 1, 10, 2) - alone == 10 * 131_072


@given(st.integers(1, 64), st.data())
def test_one_token_needs_its_own_experts_and_many_need_all(n_experts, data):
    chosen = data.draw(st.integers(1, n_experts))
    assert shapes.expected_experts(n_experts, chosen, 1) == pytest.approx(chosen)
    assert shapes.expected_experts(n_experts, chosen, 10_000) == pytest.approx(n_experts)
    assert shapes.expected_experts(n_experts, chosen, 0) == 0


def test_expected_experts_are_those_of_uniform_draws():
    rng = np.random.default_rng(0)
    choices = rng.random((4000, 5, 8)).argsort(axis=-1)[..., :2]
    needed = np.mean([len(np.unique(batch)) for batch in choices])
    assert shapes.expected_experts(8, 2, 5) == pytest.approx(needed, abs=0.05)
