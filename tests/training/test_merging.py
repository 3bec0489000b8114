import gc
import json

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from tiny_merges import IDS, exact, logits, merged_into, refused, save_adapter, save_base, written

from s2utils.models import loading
from s2utils.models.parameters import Weights
from s2utils.training import adapters, lora, merging

CASES = {
    "plain": {},
    "biased": {"attention_bias": True, "mlp_bias": True},
    "tied": {"tie_word_embeddings": True},
}
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES, indirect=True)
every_mode = pytest.mark.parametrize("mode", merging.MODES)


@pytest.fixture
def case(request) -> dict:
    return getattr(request, "param", {})


@pytest.fixture
def base(tiny_llama, tmp_path, case) -> Weights:
    return save_base(tiny_llama(**case), tmp_path / "base")


@pytest.fixture
def adapter(base, tmp_path):
    return save_adapter(loading.full(base, "float32"), tmp_path / "adapter")


def weights(model) -> dict[str, torch.Tensor]:
    """A copy of every weight."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


@every_case
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
        whole = full.get_submodule(name).weight.data
        tripped = merging.nf4_round_trip(whole)
        assert tripped.dtype == torch.bfloat16 and torch.equal(held, tripped) and not torch.equal(tripped, whole), name
    torch.manual_seed(0)
    assert all(len(row.unique()) <= 16 for row in merging.nf4_round_trip(torch.randn(4, 64))), "16 levels a block"


@every_case
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
    trained = merged_into(loading.full(base, "bfloat16").float(), adapter, "dequantized").to(torch.bfloat16)
    for name in merging.quantised(careful):
        assert torch.equal(careful.get_parameter(name), trained.get_parameter(name).float()), name


@every_case
@every_mode
def test_embeddings_norms_biases_and_head_stay(base, adapter, tmp_path, case, mode):
    before = weights(loading.full(base, "bfloat16"))
    merged = weights(written(base, adapter, tmp_path / "merged", mode))
    linear = {f"model.layers.{i}.{part}.weight" for i in range(2) for part in (
        "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
        "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj",
    )}  # fmt: skip
    assert {name for name in before if not torch.equal(before[name], merged[name])} == linear
    assert any(name.endswith("bias") for name in before) == bool(case.get("mlp_bias"))
    assert {value.dtype for value in merged.values()} == {torch.bfloat16}


def test_the_sum_is_made_in_float32_and_rounded_once(base, adapter, tmp_path):
    model = loading.full(base, "bfloat16")
    name, change = next(iter(lora.changes(adapters.read(adapter), model).items()))
    wanted = (model.get_parameter(name).data.float() + change.product.delta()).to(torch.bfloat16)
    merged = written(base, adapter, tmp_path / "merged", "bf16")
    assert torch.equal(merged.get_parameter(name).data, wanted)


@every_mode
def test_the_change_that_is_reported_is_the_change_that_was_made(base, adapter, tmp_path, mode):
    before, merged = loading.full(base, "bfloat16"), written(base, adapter, tmp_path / "merged", mode)
    facts = merging.write(base, adapter, mode, tmp_path / "merged")
    names = merging.quantised(before)
    apart = [(merged.get_parameter(n).float() - before.get_parameter(n).float()).abs().flatten() for n in names]
    assert facts["max_abs_change"] == pytest.approx(torch.cat(apart).max().item(), rel=1e-6)
    assert facts["mean_abs_change"] == pytest.approx(torch.cat(apart).mean().item(), rel=1e-4)


@every_case
@every_mode
@pytest.mark.parametrize("shard", [merging.SHARD, 100_000, 1], ids=["one file", "some files", "a file a tensor"])
def test_writing_shard_by_shard_is_the_merge_in_memory_to_the_bit(base, adapter, tmp_path, mode, shard):
    whole = merged_into(loading.full(base, "bfloat16"), adapter, mode)
    whole.save_pretrained(tmp_path / "whole")
    loaded = written(base, adapter, tmp_path / "merged", mode, shard=shard)
    ours, wanted = weights(loaded), weights(whole)
    assert set(ours) == set(wanted) and all(torch.equal(ours[name], wanted[name]) for name in wanted)
    assert torch.equal(logits(loaded), logits(whole))
    assert (loaded.lm_head.weight is loaded.model.embed_tokens.weight) == loaded.config.tie_word_embeddings
    for file in ("config.json", "generation_config.json"):
        theirs = json.loads((tmp_path / "whole" / file).read_text())
        assert json.loads((tmp_path / "merged" / file).read_text()) == theirs
    files = sorted((tmp_path / "merged").glob("*.safetensors"))
    assert (len(files) == 1) == (shard == merging.SHARD)
    assert len(files) == 1 or all(file.stat().st_size < 1.1 * shard or len(load_file(file)) == 1 for file in files)


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
    whole, folder = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir(), folder.mkdir()
    facts = merging.write(base, adapter, "dequantized", whole, shard=100_000)
    save, saved = merging.save_file, []

    def killed(tensors, path, **rest):
        if len(saved) == 2:
            path.write_bytes(b"half a file")
            raise KeyboardInterrupt
        saved.append(path)
        save(tensors, path, **rest)

    monkeypatch.setattr(merging, "save_file", killed)
    with pytest.raises(KeyboardInterrupt):
        merging.write(base, adapter, "dequantized", folder, shard=100_000)
    before = {p.name: p.stat().st_mtime_ns for p in folder.glob("model*.safetensors")}
    assert len(before) == 2
    monkeypatch.setattr(merging, "save_file", save)
    assert merging.write(base, adapter, "dequantized", folder, shard=100_000) == facts
    assert all((folder / name).stat().st_mtime_ns == time for name, time in before.items())
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == {p.name: p.read_bytes() for p in whole.iterdir()}


@pytest.mark.slow
def test_no_more_than_a_file_of_weights_is_alive(tiny_llama, tmp_path, monkeypatch):
    """A model of many files: what was written is gone before the next file is read."""
    base = save_base(tiny_llama(num_hidden_layers=48), tmp_path / "base")
    adapter = save_adapter(loading.full(base, "float32"), tmp_path / "adapter")
    gc.collect()
    known = {id(o) for o in gc.get_objects()}
    alive, save = [], merging.save_file

    def counted(tensors, path, **rest):
        new = [o for o in gc.get_objects() if id(o) not in known and type(o) is torch.Tensor and o.device.type == "cpu"]
        alive.append(sum(t.nbytes for t in new if t.dtype == torch.bfloat16))
        save(tensors, path, **rest)

    monkeypatch.setattr(merging, "save_file", counted)
    written(base, adapter, tmp_path / "merged", "dequantized", shard=500_000)
    assert len(alive) >= 8 and 0 < max(alive) < 2 * 500_000


def renamed(base) -> None:
    file = base / "model.safetensors"
    stored = {name.replace("q_proj", "query"): weight for name, weight in load_file(file).items()}
    save_file(stored, file, metadata={"format": "pt"})


def split_and_lost(base) -> None:
    model = loading.full(Weights(path=str(base), revision=""), "bfloat16")
    (base / "model.safetensors").unlink()
    model.save_pretrained(base, max_shard_size="60KB")
    sorted(base.glob("*.safetensors"))[1].unlink()


def cut(kept: int):
    return lambda base: (base / "model.safetensors").write_bytes((base / "model.safetensors").read_bytes()[:kept])


def reconfigured(base) -> None:
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"vocab_size": 300}))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda base: (base / "model.safetensors").rename(base / "pytorch_model.bin"), "holds no model.safetensors"),
        (renamed, "does not hold model.layers.0.self_attn.q_proj.weight"),
        (cut(4), "model.safetensors is missing, cut or no safetensors file .*: fetch it again"),
        (cut(1000), "model.safetensors is missing, cut or no safetensors file"),
        (cut(-1), "model.safetensors is missing, cut or no safetensors file"),
        (split_and_lost, "model-00002-of-.*.safetensors is missing, cut or no safetensors file"),
        (reconfigured, r"is \(400, 64\) and by config.json \(300, 64\): fetch both anew"),
    ],
)
def test_a_base_that_is_not_whole_is_refused(base, adapter, tmp_path, spoil, message):
    spoil(tmp_path / "base")
    refused(base, adapter, message)


def test_an_adapter_is_no_base(adapter):
    refused(Weights(path=str(adapter), revision=""), adapter, "adapter holds no model.safetensors")


@every_case
def test_an_adapter_that_is_kept_is_the_exact_model(base, adapter, tmp_path):
    (tmp_path / "kept").mkdir()
    assert merging.write(base, adapter, "adapter", tmp_path / "kept") == {}
    assert not list((tmp_path / "kept").glob("model*"))
    kept = loading.full(Weights(path=str(tmp_path / "kept"), revision=""), "bfloat16")
    theirs = PeftModel.from_pretrained(loading.quantized(base, "bfloat16"), adapter).eval()
    assert torch.equal(logits(kept), logits(theirs))
    assert not torch.equal(logits(kept), logits(loading.quantized(base, "bfloat16")))
    assert (logits(kept) - logits(exact(base, adapter))).abs().max() < 0.1  # bf16 arithmetic
    assert isinstance(kept, loading.PreTrainedModel)
    assert kept.generate(IDS[:, :5], max_new_tokens=3, do_sample=False).shape[1] > 5


@pytest.mark.parametrize("other", [{"num_hidden_layers": 1}, {"intermediate_size": 192}, {"num_key_value_heads": 4}])
def test_an_adapter_of_another_base_is_refused(adapter, tiny_llama, tmp_path, other):
    refused(save_base(tiny_llama(**other), tmp_path / "other"), adapter, "was trained on another base: model.layers")


def test_an_adapter_that_changes_nothing_is_refused(base, adapter):
    file = adapter / "adapter_model.safetensors"
    save_file({name: t * ("lora_B" not in name) for name, t in load_file(file).items()}, file)
    refused(base, adapter, "changes no weight: was it saved before training?", (*merging.MODES, "adapter"))


@pytest.mark.parametrize("changes", [{"use_dora": True}, {"modules_to_save": ["lm_head"]}])
def test_an_adapter_of_another_kind_is_refused(base, tmp_path, changes):
    other = save_adapter(loading.full(base, "float32"), tmp_path / "other", **changes)
    refused(base, other, next(iter(changes)))
