"""Copied heads are the same function, averages are means, and bytes of caches are the published ones."""

import pytest
import torch
from torch.testing import assert_close
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from s2utils.architecture import heads, shapes

FACTS = {
    "vocab_size": 61, "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 6,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "bos_token_id": 0, "eos_token_id": 0,
}  # fmt: skip
IDS = torch.randint(61, (2, 20), generator=torch.Generator().manual_seed(1))


@pytest.fixture(params=["llama", "mistral", "biased"])
def model(request):
    torch.manual_seed(1)
    if request.param == "mistral":
        return MistralForCausalLM(MistralConfig(**FACTS, sliding_window=5)).eval()
    made = LlamaForCausalLM(LlamaConfig(**FACTS, attention_bias=request.param == "biased")).eval()
    for name, weight in made.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(weight)
    return made


@torch.no_grad()
def test_copied_heads_are_the_same_function_and_leave_the_model_as_it_was(model):
    before = model(IDS).logits
    copied = heads.with_kv_heads(model, 6)
    assert copied.model.layers[0].self_attn.k_proj.weight.shape == (48, 48)
    assert_close(copied(IDS).logits, before, atol=1e-5, rtol=1e-5)
    assert torch.equal(model(IDS).logits, before) and model.config.num_key_value_heads == 2
    assert copied.model.embed_tokens.weight is model.model.embed_tokens.weight, "shared, not copied"
    cached = copied(IDS, use_cache=True).past_key_values
    assert cached.layers[0].keys.shape[1] == 6
    assert_close(heads.with_kv_heads(copied, 2)(IDS).logits, before, atol=1e-5, rtol=1e-5)  # the mean of equal heads


@torch.no_grad()
def test_one_head_is_the_mean_of_all(model):
    pooled, attention = heads.with_kv_heads(model, 1), model.model.layers[1].self_attn
    both = attention.v_proj.weight.unflatten(0, (2, 8))
    assert_close(pooled.model.layers[1].self_attn.v_proj.weight, (both[0] + both[1]) / 2)
    assert pooled(IDS).logits.isfinite().all()
    assert not torch.allclose(pooled(IDS).logits, model(IDS).logits, atol=1e-3)


@pytest.mark.parametrize("kv_heads", [3, 4, 12])
def test_numbers_that_do_not_divide_are_refused(model, kv_heads):
    with pytest.raises(ValueError, match=f"2 key-value heads of 6 heads cannot become {kv_heads}"):
        heads.with_kv_heads(model, kv_heads)


def test_largest_batches_of_a_7b_model_s_cache():
    a_token = shapes.cache_bytes(MistralConfig(), 2)
    assert 4096 * a_token == 512 * 2**20 and 32_768 * a_token == 4 * 2**30
    assert heads.largest_batch(2**30, 1024, a_token) == 8
    assert heads.largest_batch(2**30 - 1, 1024, a_token) == 7


def test_bytes_are_those_of_a_real_cache():
    torch.manual_seed(1)
    cached = LlamaForCausalLM(LlamaConfig(**FACTS))(IDS, use_cache=True).past_key_values
    held = sum(part.nbytes for layer in cached.layers for part in (layer.keys, layer.values))
    assert held == IDS.numel() * shapes.cache_bytes(LlamaConfig(**FACTS), 4)
