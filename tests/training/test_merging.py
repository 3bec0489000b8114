import json

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from s2utils.models import loading
from s2utils.models.parameters import Weights
from s2utils.training import merging
from s2utils.training.merging import MergeError

BIASED = {"attention_bias": True, "mlp_bias": True}
CASES = {"plain": {}, "biased": BIASED, "tied": {"tie_word_embeddings": True}}


@pytest.fixture(params=CASES)
def case(request) -> dict:
    return CASES[request.param]


@pytest.fixture
def base(tiny_llama, tmp_path, case) -> Weights:
    """A random base saved in bf16, as the published ones are."""
    tiny_llama(**case).to(torch.bfloat16).save_pretrained(tmp_path / "base")
    return Weights(path=str(tmp_path / "base"), revision="")


@pytest.fixture
def adapter(base, tmp_path):
    """A LoRA adapter over every linear layer whose B is not zero, saved by peft."""
    return save_adapter(loading.full(base, "float32"), tmp_path / "adapter")


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
    return merging.merge(model, adapter, mode)[0]


def exact(base, adapter, unpacked=torch.float32):
    """The trained model in float32: the adapter beside the 4-bit weights, which are unpacked in a dtype."""
    import bitsandbytes

    live = loading.quantized(base, "float32")
    for module in live.modules():
        if isinstance(module, bitsandbytes.nn.Linear4bit) and unpacked != torch.float32:
            module.weight.quant_state.dtype = unpacked
            held = bitsandbytes.functional.dequantize_4bit(module.weight.data, module.weight.quant_state)
            assert held.dtype == unpacked
            module.forward = lambda x, w=held, m=module: torch.nn.functional.linear(x, w.float(), m.bias)
    return PeftModel.from_pretrained(live, adapter).eval()


def written(base, adapter, folder, mode: str, dtype: str = "bfloat16", shard: int = merging.SHARD):
    """The merged model as `merge.write` leaves it on the disk, loaded."""
    folder.mkdir(exist_ok=True)
    merging.write(base, adapter, mode, folder, shard=shard)
    return loading.full(Weights(path=str(folder), revision=""), dtype)


IDS = torch.arange(3, 83).reshape(2, 40)


def logits(model) -> torch.Tensor:
    """(2, 40, vocabulary) logits in float32."""
    with torch.inference_mode():
        return model(input_ids=IDS).logits.float()


def test_the_simple_merge_is_pefts_own(base, adapter):
    merged = merged_into(loading.full(base, "float32"), adapter, "bf16")
    theirs = PeftModel.from_pretrained(loading.full(base, "float32"), adapter).merge_and_unload()
    ours, wanted = weights(merged), weights(theirs)
    assert set(ours) == set(wanted)
    for name in wanted:
        assert torch.allclose(ours[name], wanted[name], atol=1e-6), name
    assert torch.allclose(logits(merged), logits(theirs), atol=1e-5)


def test_the_round_trip_is_what_a_4_bit_model_holds(base):
    import bitsandbytes

    live, full = loading.quantized(base, "bfloat16"), loading.full(base, "bfloat16")
    layers = {n: m for n, m in live.named_modules() if isinstance(m, bitsandbytes.nn.Linear4bit)}
    assert len(layers) == 2 * 7
    for name, layer in layers.items():
        held = bitsandbytes.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state)
        tripped = merging.nf4_round_trip(full.get_submodule(name).weight.data)
        assert tripped.dtype == torch.bfloat16
        assert torch.equal(held, tripped), name
        assert not torch.equal(tripped, full.get_submodule(name).weight.data)


def test_the_round_trip_has_sixteen_levels_a_block():
    torch.manual_seed(0)
    tripped = merging.nf4_round_trip(torch.randn(4, 64))
    assert all(len(row.unique()) <= 16 for row in tripped)


def test_the_careful_merge_answers_like_the_4_bit_base_with_its_adapter(base, adapter, tmp_path):
    """But for roundings to bf16: none but that of the unpacked weights, or that and the sum's."""
    reference = logits(exact(base, adapter))
    apart = {
        mode: (logits(written(base, adapter, tmp_path / mode, mode, "float32")) - reference).abs().max()
        for mode in merging.MODES
    }
    assert apart["dequantized"] < 0.1 * apart["bf16"] and apart["bf16"] > 1e-3
    unrounded = merged_into(loading.full(base, "float32"), adapter, "dequantized")
    assert (logits(unrounded) - logits(exact(base, adapter, torch.bfloat16))).abs().max() < 1e-4


@pytest.mark.parametrize("published", [torch.float16, torch.float32])
def test_nf4_and_the_sum_are_bf16_whatever_the_base_was_published_in(tiny_llama, tmp_path, published):
    """A published base in float16, as Llama-2's: the 4-bit weights that training saw, and a bf16 sum."""
    tiny_llama().to(published).save_pretrained(tmp_path / "base")
    base = Weights(path=str(tmp_path / "base"), revision="")
    adapter = save_adapter(loading.full(base, "float32"), tmp_path / "adapter")
    careful = written(base, adapter, tmp_path / "merged", "dequantized", "float32")
    trained = merging.merge(loading.full(base, "bfloat16").float(), adapter, "dequantized")[0].to(torch.bfloat16)
    for name, module in merging.linear(careful).items():
        assert torch.equal(module.weight, trained.get_submodule(name).weight.float()), name


@pytest.mark.parametrize("mode", merging.MODES)
def test_embeddings_norms_biases_and_head_stay(base, adapter, case, mode):
    model = loading.full(base, "bfloat16")
    before, merged = weights(model), weights(merged_into(model, adapter, mode))
    linear = {f"model.layers.{i}.{part}.weight" for i in range(2) for part in (
        "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj",
    )}  # fmt: skip
    moved = {name for name in before if not torch.equal(before[name], merged[name])}
    assert moved == linear
    assert any(name.endswith("bias") for name in before) == bool(case.get("mlp_bias"))
    assert {value.dtype for value in merged.values()} == {torch.bfloat16}


def test_the_sum_is_made_in_float32_and_rounded_once(base, adapter):
    model = loading.full(base, "bfloat16")
    name, change = next(iter(merging.checked(model, adapter, "bf16").items()))
    wanted = (model.get_parameter(name).data.float() + change.product.delta()).to(torch.bfloat16)
    assert torch.equal(merged_into(model, adapter, "bf16").get_parameter(name).data, wanted)


@pytest.mark.parametrize("mode", merging.MODES)
def test_the_change_that_is_reported_is_the_change_that_was_made(base, adapter, mode):
    model = loading.full(base, "float32")
    before = weights(model)
    merged, facts = merging.merge(model, adapter, mode)
    changes = torch.cat(
        [(value - before[name]).abs().flatten() for name, value in weights(merged).items() if "_proj.weight" in name]
    )
    assert facts["max_abs_change"] == pytest.approx(changes.max().item(), rel=1e-6)
    assert facts["mean_abs_change"] == pytest.approx(changes.mean().item(), rel=1e-4)


@pytest.mark.parametrize("shard", [merging.SHARD, 100_000, 1], ids=["one file", "some files", "a file a tensor"])
@pytest.mark.parametrize("mode", merging.MODES)
def test_writing_shard_by_shard_is_the_merge_in_memory_to_the_bit(base, adapter, tmp_path, mode, shard):
    whole, facts = merging.merge(loading.full(base, "bfloat16"), adapter, mode)
    whole.save_pretrained(tmp_path / "whole")
    loaded = written(base, adapter, tmp_path / "merged", mode, shard=shard)
    ours, wanted = weights(loaded), weights(whole)
    assert set(ours) == set(wanted) and all(torch.equal(ours[name], wanted[name]) for name in wanted)
    assert torch.equal(logits(loaded), logits(whole))
    assert (loaded.lm_head.weight is loaded.model.embed_tokens.weight) == loaded.config.tie_word_embeddings
    for file in ("config.json", "generation_config.json"):
        theirs = json.loads((tmp_path / "whole" / file).read_text())
        assert json.loads((tmp_path / "merged" / file).read_text()) == theirs
    assert merging.write(base, adapter, mode, tmp_path / "merged", shard=shard) == pytest.approx(facts)


def test_a_base_in_several_files_is_merged_like_one(base, adapter, tmp_path):
    loading.full(base, "bfloat16").save_pretrained(tmp_path / "split", max_shard_size="60KB")
    assert len(list((tmp_path / "split").glob("*.safetensors"))) > 2
    one = written(base, adapter, tmp_path / "one", "dequantized")
    many = written(
        Weights(path=str(tmp_path / "split"), revision=""), adapter, tmp_path / "many", "dequantized", shard=150_000
    )
    assert len(list((tmp_path / "many").glob("*.safetensors"))) > 1
    assert all(torch.equal(weight, weights(one)[name]) for name, weight in weights(many).items())


def test_a_killed_merge_goes_on_with_the_file_it_stopped_in(base, adapter, tmp_path, monkeypatch):
    facts = merging.write(base, adapter, "dequantized", make(tmp_path / "whole"), shard=100_000)
    save, saved = merging.save_file, []

    def killed(tensors, path, **rest):
        if len(saved) == 2:
            path.write_bytes(b"half a file")
            raise KeyboardInterrupt
        saved.append(path)
        save(tensors, path, **rest)

    folder = make(tmp_path / "killed")
    monkeypatch.setattr(merging, "save_file", killed)
    with pytest.raises(KeyboardInterrupt):
        merging.write(base, adapter, "dequantized", folder, shard=100_000)
    before = {p.name: p.stat().st_mtime_ns for p in folder.glob("model*.safetensors")}
    assert len(before) == 2
    monkeypatch.setattr(merging, "save_file", save)
    assert merging.write(base, adapter, "dequantized", folder, shard=100_000) == facts
    assert all((folder / name).stat().st_mtime_ns == time for name, time in before.items())
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == {
        p.name: p.read_bytes() for p in (tmp_path / "whole").iterdir()
    }


def make(folder):
    """The folder, made."""
    folder.mkdir()
    return folder


@pytest.mark.slow
def test_no_more_than_a_file_of_weights_is_alive(tiny_llama, tmp_path, monkeypatch):
    """A model of many files: what was written is gone before the next file is read."""
    import gc

    base = Weights(path=str(tmp_path / "base"), revision="")
    tiny_llama(num_hidden_layers=48).to(torch.bfloat16).save_pretrained(base.path)
    adapter = save_adapter(loading.full(base, "float32"), tmp_path / "adapter")
    gc.collect()
    known = {id(o) for o in gc.get_objects()}
    alive, save = [], merging.save_file

    def counted(tensors, path, **rest):
        new = [o for o in gc.get_objects() if id(o) not in known and type(o) is torch.Tensor and o.device.type == "cpu"]
        alive.append(sum(t.nbytes for t in new if t.dtype == torch.bfloat16))
        save(tensors, path, **rest)

    monkeypatch.setattr(merging, "save_file", counted)
    merging.write(base, adapter, "dequantized", make(tmp_path / "merged"), shard=500_000)
    assert len(alive) >= 8 and 0 < max(alive) < 2 * 500_000


@pytest.mark.parametrize("case", [{}], ids=["plain"])
def test_a_base_without_safetensors_is_refused(base, adapter, tmp_path):
    (tmp_path / "base" / "model.safetensors").rename(tmp_path / "base" / "pytorch_model.bin")
    with pytest.raises(MergeError, match="holds no model.safetensors"):
        merging.write(base, adapter, "bf16", tmp_path)


@pytest.mark.parametrize("case", [{}], ids=["plain"])
def test_a_base_with_other_names_is_refused(base, adapter, tmp_path):
    from safetensors.torch import load_file, save_file

    file = tmp_path / "base" / "model.safetensors"
    renamed = {name.replace("q_proj", "query"): weight for name, weight in load_file(file).items()}
    save_file(renamed, file, metadata={"format": "pt"})
    with pytest.raises(MergeError, match="does not hold model.layers.0.self_attn.q_proj.weight"):
        merging.write(base, adapter, "bf16", tmp_path)


@pytest.mark.parametrize("case", [{}], ids=["plain"])
@pytest.mark.parametrize("kept", [4, 1000, -1])
def test_a_base_that_is_cut_is_refused(base, adapter, tmp_path, kept):
    file = tmp_path / "base" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(MergeError, match="model.safetensors is missing, cut or no safetensors file .*: fetch it again"):
        merging.write(base, adapter, "bf16", tmp_path)


@pytest.mark.parametrize("case", [{}], ids=["plain"])
def test_a_base_with_a_missing_file_is_refused(base, adapter, tmp_path):
    loading.full(base, "bfloat16").save_pretrained(tmp_path / "split", max_shard_size="60KB")
    missing = sorted((tmp_path / "split").glob("*.safetensors"))[1]
    missing.unlink()
    with pytest.raises(MergeError, match=f"{missing.name} is missing, cut or no safetensors file"):
        merging.write(Weights(path=str(tmp_path / "split"), revision=""), adapter, "bf16", make(tmp_path / "merged"))


@pytest.mark.parametrize("case", [{}], ids=["plain"])
def test_a_base_unlike_its_configuration_is_refused(base, adapter, tmp_path):
    file = tmp_path / "base" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"vocab_size": 300}))
    with pytest.raises(MergeError, match=r"is \(400, 64\) and by config.json \(300, 64\): fetch both anew"):
        merging.write(base, adapter, "bf16", make(tmp_path / "merged"))


@pytest.mark.parametrize("case", [{}], ids=["plain"])
def test_an_adapter_is_no_base(adapter, tmp_path):
    with pytest.raises(MergeError, match="adapter holds no model.safetensors"):
        merging.write(Weights(path=str(adapter), revision=""), adapter, "bf16", tmp_path)


def test_an_adapter_that_is_kept_is_the_exact_model(base, adapter, tmp_path):
    assert merging.write(base, adapter, "adapter", make(tmp_path / "kept")) == {}
    assert not list((tmp_path / "kept").glob("model*"))
    kept = loading.full(Weights(path=str(tmp_path / "kept"), revision=""), "bfloat16")
    theirs = PeftModel.from_pretrained(loading.quantized(base, "bfloat16"), adapter).eval()
    assert torch.equal(logits(kept), logits(theirs))
    assert not torch.equal(logits(kept), logits(loading.quantized(base, "bfloat16")))
    assert (logits(kept) - logits(exact(base, adapter))).abs().max() < 0.1  # bf16 arithmetic


@pytest.mark.parametrize("case", [{}], ids=["plain"])
def test_a_kept_adapter_generates(base, adapter, tmp_path):
    merging.write(base, adapter, "adapter", make(tmp_path / "kept"))
    kept = loading.full(Weights(path=str(tmp_path / "kept"), revision=""), "bfloat16")
    assert isinstance(kept, loading.PreTrainedModel)
    assert kept.generate(IDS[:, :5], max_new_tokens=3, do_sample=False).shape[1] > 5


def test_the_scale_is_alpha_over_r(base, tmp_path):
    model = loading.full(base, "float32")
    adapter = save_adapter(loading.full(base, "float32"), tmp_path / "one", lora_alpha=4)
    once = merging.checked(model, adapter, "bf16")
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(config | {"lora_alpha": 12}))
    thrice = merging.checked(model, adapter, "bf16")
    for name in once:
        assert torch.allclose(3 * once[name].product.delta(), thrice[name].product.delta())


@pytest.mark.parametrize("other", [{"num_hidden_layers": 1}, {"intermediate_size": 192}, {"num_key_value_heads": 4}])
@pytest.mark.parametrize("case", [{}], ids=["plain"])
def test_an_adapter_of_another_base_is_refused(adapter, tiny_llama, tmp_path, other):
    with pytest.raises(MergeError, match="was trained on another base: model.layers"):
        merging.merge(tiny_llama(**other), adapter, "bf16")
    tiny_llama(**other).save_pretrained(tmp_path / "other")
    with pytest.raises(MergeError, match="was trained on another base: model.layers"):
        merging.write(Weights(path=str(tmp_path / "other"), revision=""), adapter, "bf16", tmp_path)


@pytest.mark.parametrize("case", [{}], ids=["plain"])
def test_an_adapter_that_changes_nothing_is_refused(base, tmp_path):
    zero = save_adapter(loading.full(base, "float32"), tmp_path / "zero", scale=0.0)
    with pytest.raises(MergeError, match="changes no weight: was it saved before training?"):
        merging.merge(loading.full(base, "float32"), zero, "bf16")
    for mode in (*merging.MODES, "adapter"):
        with pytest.raises(MergeError, match="changes no weight: was it saved before training?"):
            merging.write(base, zero, mode, tmp_path)


@pytest.mark.parametrize("case", [{}], ids=["plain"])
@pytest.mark.parametrize("changes", [{"use_dora": True}, {"modules_to_save": ["lm_head"]}, {"lora_bias": True}])
def test_an_adapter_of_another_kind_is_refused(base, tmp_path, changes):
    other = save_adapter(loading.full(base, "float32"), tmp_path / "other", **changes)
    with pytest.raises(MergeError, match=next(iter(changes))):
        merging.merge(loading.full(base, "float32"), other, "bf16")


@pytest.mark.parametrize("case", [{}], ids=["plain"])
def test_an_unknown_mode_is_refused(base, adapter):
    with pytest.raises(ValueError, match="known: bf16, dequantized"):
        merging.merge(loading.full(base, "float32"), adapter, "simple")
