"""The decoder has the logits of whole models of transformers, and every choice changes what it should."""

import dataclasses
import json

import pytest
import torch
from torch.testing import assert_close
from transformers import AutoConfig, AutoModelForCausalLM

from s2utils.architecture import decoder
from s2utils.architecture.decoder import Config, Decoder

SIZES = {
    "vocab_size": 61, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64,
}  # fmt: skip
TOKENS = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 1}
IDS = torch.randint(61, (2, 40), generator=torch.Generator().manual_seed(1))


def random(model):
    """With weights that all matter, norms' too."""
    torch.manual_seed(1)
    for name, weight in model.named_parameters():
        torch.nn.init.normal_(weight, mean=float("norm" in name), std=0.2)
    return model.eval()


@torch.no_grad()
@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("llama", {}),
        ("llama", {"num_key_value_heads": 4}),
        ("llama", {"num_key_value_heads": 1}),
        ("mistral", {"sliding_window": 5}),
        ("olmo", {}),
    ],
)
def test_with_their_weights_it_is_llama_mistral_and_olmo(kind, changes):
    config = AutoConfig.for_model(kind, **SIZES | TOKENS | {"tie_word_embeddings": True} | changes)
    theirs = random(AutoModelForCausalLM.from_config(config))
    assert_close(decoder.from_transformers(theirs)(IDS).logits, theirs(IDS).logits, atol=1e-4, rtol=1e-4)


PHI = {"hidden_act": "gelu", "partial_rotary_factor": 1.0, "tie_word_embeddings": True}


@torch.no_grad()
def test_a_parallel_block_with_gelu_and_layernorm_is_phi_s_whose_biases_are_0():
    theirs = AutoModelForCausalLM.from_config(AutoConfig.for_model("phi", **SIZES | TOKENS | PHI)).eval()
    for name, weight in theirs.named_parameters():
        if "norm" in name or name.endswith("weight"):
            torch.nn.init.normal_(weight, mean=float("norm" in name), std=0.2)
    assert_close(decoder.from_transformers(theirs)(IDS).logits, theirs(IDS).logits, atol=1e-4, rtol=1e-4)
    torch.nn.init.ones_(theirs.model.layers[0].mlp.fc1.bias)
    with pytest.raises(ValueError, match=r"layers.0.mlp.up_proj.bias is not 0"):
        decoder.from_transformers(theirs)


@pytest.mark.parametrize("changes", [{"hidden_act": "gelu_new"}, {"partial_rotary_factor": 0.5}])
def test_a_phi_of_another_activation_or_rotation_is_refused(changes):
    with pytest.raises(ValueError, match="rotation is of all dimensions"):
        decoder.from_transformers(
            AutoModelForCausalLM.from_config(AutoConfig.for_model("phi", **SIZES | TOKENS | PHI | changes))
        )


def test_models_that_are_something_else_are_refused():
    apart = AutoConfig.for_model("llama", **SIZES | TOKENS)
    with pytest.raises(ValueError, match="head is the embedding"):
        decoder.from_transformers(AutoModelForCausalLM.from_config(apart))


CHOICES = [
    {}, {"norm": "layernorm"}, {"norm": "layernorm_plain"}, {"activation": "gelu"}, {"block": "parallel"},
    {"positions": "learned"}, {"positions": "t5"}, {"window": 5}, {"window": 5, "sinks": 2},
]  # fmt: skip


@torch.no_grad()
@pytest.mark.parametrize("changes", CHOICES, ids=str)
def test_every_choice_comes_back_from_its_folder_looks_not_ahead_and_is_its_own(changes, tmp_path):
    torch.manual_seed(1)
    model = Decoder(Config(**SIZES, **changes)).eval()
    model.save_pretrained(tmp_path)
    back = decoder.load(tmp_path)
    assert back.config == model.config and torch.equal(back(IDS).logits, model(IDS).logits)
    later = IDS.clone()
    later[:, 20:] = (IDS[:, 20:] + 7) % 61
    assert torch.equal(model(IDS).logits[:, :20], model(later).logits[:, :20])
    if changes:
        torch.manual_seed(1)
        baseline = Decoder(Config(**SIZES)).eval()
        baseline.load_state_dict(model.state_dict(), strict=False)
        assert not torch.allclose(model(IDS).logits, baseline(IDS).logits, atol=1e-6)


def test_saved_files_are_the_same_bytes_each_time(tmp_path):
    torch.manual_seed(1)
    model = Decoder(Config(**SIZES))
    for name in "ab":
        model.save_pretrained(tmp_path / name)
    for file in ("config.json", "model.safetensors"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    assert json.loads((tmp_path / "a" / "config.json").read_text()) == dataclasses.asdict(model.config)


def test_learned_positions_end_and_the_others_do_not():
    long = torch.zeros(1, 65, dtype=torch.long)
    with pytest.raises(ValueError, match="65 tokens, and positions are learned for 64"):
        Decoder(Config(**SIZES, positions="learned"))(long)
    for kind in ("rope", "t5"):
        assert Decoder(Config(**SIZES, positions=kind))(long).logits.isfinite().all()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"norm": "batchnorm"}, "norm 'batchnorm' is none of rmsnorm"),
        ({"positions": "alibi"}, "positions 'alibi' is none of rope"),
        ({"num_key_value_heads": 3}, "must each divide the next"),
        ({"hidden_size": 30}, "must each divide the next"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        Config(**SIZES | changes)
