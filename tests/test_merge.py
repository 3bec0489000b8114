import json

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from s2utils import merge, models
from s2utils.merge import MergeError
from s2utils.params import Weights

BIASED = {"attention_bias": True, "mlp_bias": True}
CASES = {"plain": {}, "biased": BIASED, "tied": {"tie_word_embeddings": True}}


@pytest.fixture(params=CASES)
def case(request) -> dict:
    return CASES[request.param]


@pytest.fixture
def base(tiny_llama, tmp_path, case) -> Weights:
    """A random base saved in bf16, as the published ones are."""
    tiny_llama(**case).to(torch.bfloat16).save_pretrained(tmp_path / "base")
    return Weights(str(tmp_path / "base"), "")


@pytest.fixture
def adapter(base, tmp_path):
    """A LoRA adapter over every linear layer whose B is not zero, saved by peft."""
    return save_adapter(models.full(base, "float32"), tmp_path / "adapter")


def save_adapter(model, folder, scale: float = 0.05, **changes):
    """A LoRA adapter of `model` with random B of this size."""
    config = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "task_type": "CAUSAL_LM"} | changes
    wrapped = get_peft_model(model, LoraConfig(**config))
    generator = torch.Generator().manual_seed(7)
    for name, weight in wrapped.named_parameters():
        if "lora_B" in name:
            weight.data = torch.randn(weight.shape, generator=generator) * scale
    wrapped.save_pretrained(folder)
    return folder


def weights(model) -> dict[str, torch.Tensor]:
    """A copy of every weight."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def merged_into(model, adapter, mode: str):
    """The model with the adapter merged into it."""
    return merge.merge(model, adapter, mode)[0]


IDS = torch.arange(3, 83).reshape(2, 40)


def logits(model) -> torch.Tensor:
    """(2, 40, vocabulary) logits in float32."""
    with torch.inference_mode():
        return model(input_ids=IDS).logits.float()


def test_the_simple_merge_is_pefts_own(base, adapter):
    merged = merged_into(models.full(base, "float32"), adapter, "bf16")
    theirs = PeftModel.from_pretrained(models.full(base, "float32"), adapter).merge_and_unload()
    ours, wanted = weights(merged), weights(theirs)
    assert set(ours) == set(wanted)
    for name in wanted:
        assert torch.allclose(ours[name], wanted[name], atol=1e-6), name
    assert torch.allclose(logits(merged), logits(theirs), atol=1e-5)


def test_the_round_trip_is_what_a_4_bit_model_holds(base):
    import bitsandbytes

    live, full = models.quantized(base), models.full(base, "bfloat16")
    layers = {n: m for n, m in live.named_modules() if isinstance(m, bitsandbytes.nn.Linear4bit)}
    assert len(layers) == 2 * 7
    for name, layer in layers.items():
        held = bitsandbytes.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state)
        tripped = merge.nf4_round_trip(full.get_submodule(name).weight.data)
        assert tripped.dtype == torch.bfloat16
        assert torch.equal(held, tripped), name
        assert not torch.equal(tripped, full.get_submodule(name).weight.data)


def test_the_round_trip_has_sixteen_levels_a_block():
    torch.manual_seed(0)
    tripped = merge.nf4_round_trip(torch.randn(4, 64))
    assert all(len(row.unique()) <= 16 for row in tripped)


def test_the_careful_merge_answers_like_the_4_bit_base_with_its_adapter(base, adapter):
    live = models.AutoModelForCausalLM.from_pretrained(
        base.path, quantization_config=models.nf4(torch.float32), dtype=torch.float32, device_map={"": "cpu"}
    )
    reference = logits(PeftModel.from_pretrained(models.keep_unpacked(live), adapter).eval())
    careful = logits(merged_into(models.full(base, "float32"), adapter, "dequantized"))
    simple = logits(merged_into(models.full(base, "float32"), adapter, "bf16"))
    assert (careful - reference).abs().max() < 1e-4
    assert (simple - reference).abs().max() > 1e-3


@pytest.mark.parametrize("mode", merge.MODES)
def test_embeddings_norms_biases_and_head_stay(base, adapter, case, mode):
    model = models.full(base, "bfloat16")
    before, merged = weights(model), weights(merged_into(model, adapter, mode))
    linear = {f"model.layers.{i}.{part}.weight" for i in range(2) for part in (
        "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj",
    )}  # fmt: skip
    moved = {name for name in before if not torch.equal(before[name], merged[name])}
    assert moved == linear
    assert any(name.endswith("bias") for name in before) == bool(case.get("mlp_bias"))
    assert {value.dtype for value in merged.values()} == {torch.bfloat16}


def test_the_sum_is_made_in_float32_and_rounded_once(base, adapter):
    model = models.full(base, "bfloat16")
    name, factors = next(iter(merge.factors(adapter).items()))
    wanted = (model.get_submodule(name).weight.data.float() + merge.delta(*factors)).to(torch.bfloat16)
    assert torch.equal(merged_into(model, adapter, "bf16").get_submodule(name).weight.data, wanted)


@pytest.mark.parametrize("mode", merge.MODES)
def test_the_change_that_is_reported_is_the_change_that_was_made(base, adapter, mode):
    model = models.full(base, "float32")
    before = weights(model)
    merged, facts = merge.merge(model, adapter, mode)
    changes = torch.cat(
        [(value - before[name]).abs().flatten() for name, value in weights(merged).items() if "_proj.weight" in name]
    )
    assert facts["max_abs_change"] == pytest.approx(changes.max().item(), rel=1e-6)
    assert facts["mean_abs_change"] == pytest.approx(changes.mean().item(), rel=1e-4)


def test_a_merged_model_survives_the_disk(base, adapter, tmp_path):
    merged = merged_into(models.full(base, "bfloat16"), adapter, "dequantized")
    merged.save_pretrained(tmp_path / "merged")
    assert torch.equal(logits(models.full(Weights(str(tmp_path / "merged"), ""), "bfloat16")), logits(merged))


def test_the_scale_is_alpha_over_r(base, tmp_path):
    once = merge.factors(save_adapter(models.full(base, "float32"), tmp_path / "one", lora_alpha=4))
    torch.manual_seed(0)
    config = json.loads((tmp_path / "one" / "adapter_config.json").read_text())
    (tmp_path / "one" / "adapter_config.json").write_text(json.dumps(config | {"lora_alpha": 12}))
    thrice = merge.factors(tmp_path / "one")
    for name in once:
        assert torch.allclose(3 * merge.delta(*once[name]), merge.delta(*thrice[name]))


@pytest.mark.parametrize("other", [{"num_hidden_layers": 1}, {"intermediate_size": 192}, {"num_key_value_heads": 4}])
@pytest.mark.parametrize("case", [{}], ids=["plain"])
def test_an_adapter_of_another_base_is_refused(adapter, tiny_llama, other):
    with pytest.raises(MergeError, match="was trained on another base: model.layers"):
        merge.merge(tiny_llama(**other), adapter, "bf16")


@pytest.mark.parametrize("case", [{}], ids=["plain"])
def test_an_adapter_that_changes_nothing_is_refused(base, tmp_path):
    zero = save_adapter(models.full(base, "float32"), tmp_path / "zero", scale=0.0)
    with pytest.raises(MergeError, match="changes no weight: was it saved before training?"):
        merge.merge(models.full(base, "float32"), zero, "bf16")


@pytest.mark.parametrize("case", [{}], ids=["plain"])
@pytest.mark.parametrize(
    "changes",
    [
        {"use_dora": True},
        {"use_rslora": True},
        {"rank_pattern": {"q_proj": 2}},
        {"bias": "lora_only"},
        {"modules_to_save": ["lm_head"]},
    ],
)
def test_an_adapter_of_another_kind_is_refused(base, tmp_path, changes):
    other = save_adapter(models.full(base, "float32"), tmp_path / "other", **changes)
    with pytest.raises(MergeError, match=next(iter(changes))):
        merge.merge(models.full(base, "float32"), other, "bf16")


@pytest.mark.parametrize("case", [{}], ids=["plain"])
def test_an_unknown_mode_is_refused(base, adapter):
    with pytest.raises(ValueError, match="known: bf16, dequantized"):
        merge.merge(models.full(base, "float32"), adapter, "simple")
