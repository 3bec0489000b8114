import json

import pytest
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from tiny_merges import exact, logits, merged_into, refused, save_base, wrapped, written

from s2utils.models import loading
from s2utils.models.parameters import Weights
from s2utils.training import adapters, lora

SIZES = {
    "vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
GPT_OSS = SIZES | {"intermediate_size": 32, "num_local_experts": 4, "num_experts_per_tok": 2}
GPT2 = {
    "vocab_size": 97, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
SHAPES = {
    "llama": (transformers.LlamaConfig, SIZES),
    "mistral": (transformers.MistralConfig, SIZES),
    "qwen2": (transformers.Qwen2Config, SIZES),  # with biases
    "gemma": (transformers.GemmaConfig, SIZES),  # embedding and head are one weight, as in GPT-2
    "gpt2": (transformers.GPT2Config, GPT2),  # Conv1D
    "mixtral": (transformers.MixtralConfig, SIZES | {"num_local_experts": 4}),  # fused experts
    "pythia": (
        transformers.GPTNeoXConfig,
        {k: v for k, v in SIZES.items() if k not in ("num_key_value_heads", "head_dim")},
    ),
}
OTHERS = {"gpt_oss": (transformers.GptOssConfig, GPT_OSS)}
ATTENTION = {"gpt2": ["c_attn"], "pythia": ["query_key_value"]}  # else q, k and v
every_shape = pytest.mark.parametrize("shape", SHAPES)


def base_of(shape: str, folder, **changes) -> Weights:
    """A random network of this shape, saved in bf16."""
    torch.manual_seed(0)
    kind, sizes = (SHAPES | OTHERS)[shape]
    network = transformers.AutoModelForCausalLM.from_config(kind(**(sizes | changes)))
    for name, weight in network.named_parameters():
        torch.nn.init.normal_(weight.data, mean=float("norm" in name and "bias" not in name), std=0.1)
    return save_base(network, folder / "base")


def saved(base: Weights, folder, save: dict | None = None, **changes):
    """The folder of an adapter whose every number was trained, as peft saves it."""
    network = wrapped(loading.full(base, "float32"), start=1.0, **changes)
    network.save_pretrained(folder / "adapter", **(save or {}))
    return folder / "adapter"


def equals_the_unmerged(base: Weights, adapter) -> None:
    """In float32 the merged network answers as peft's unmerged one and not as the base; files hold the same in bf16."""
    unmerged = logits(PeftModel.from_pretrained(loading.full(base, "float32"), adapter).eval())
    merged = merged_into(loading.full(base, "float32"), adapter, "bf16")
    assert torch.allclose(logits(merged), unmerged, atol=1e-5)
    assert (unmerged - logits(loading.full(base, "float32"))).abs().max() > 1e-3
    loaded = written(base, adapter, adapter.parent / "merged", "bf16", "float32", shard=20_000).state_dict()
    whole = merged.to(torch.bfloat16).state_dict()
    assert set(loaded) == set(whole)
    for name, weight in loaded.items():
        assert torch.equal(weight, whole[name].float()), name


@every_shape
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"use_rslora": True},
        {"rank_pattern": {r".*\.1\..*": 2}, "alpha_pattern": {r".*\.0\..*": 3}, "use_rslora": True},
        {"trainable_token_indices": [3, 5, 96]},
        {"bias": "all"},
        {"init_lora_weights": "gaussian"},
    ],
    ids=lambda changes: next(iter(changes), "plain"),
)
def test_merged_is_unmerged_for_every_shape(shape, changes, tmp_path):
    base = base_of(shape, tmp_path)
    equals_the_unmerged(base, saved(base, tmp_path, **changes))


@every_shape
def test_layers_and_modules_that_were_chosen_or_left_out(shape, tmp_path):
    base, targets = base_of(shape, tmp_path), ATTENTION.get(shape, ["q_proj", "k_proj", "o_proj"])
    pattern = "h" if shape == "gpt2" else "layers"
    layers = {"layers_to_transform": [1], "layers_pattern": pattern, "exclude_modules": ["o_proj"]}
    adapter = saved(base, tmp_path, target_modules=targets, **layers)
    equals_the_unmerged(base, adapter)
    moved = lora.changes(adapters.read(adapter), loading.full(base, "float32"))
    assert all(".1." in name and "o_proj" not in name for name in moved)


@pytest.mark.parametrize("shape", ["llama", "mistral", "qwen2", "mixtral"])
@pytest.mark.parametrize("target", ["embed_tokens", "lm_head"])
def test_embedding_and_head_are_merged_where_they_are_two_weights(shape, target, tmp_path):
    base = base_of(shape, tmp_path)
    equals_the_unmerged(base, saved(base, tmp_path, target_modules=["q_proj", target]))


@pytest.mark.parametrize(("shape", "target"), [("gemma", "embed_tokens"), ("gemma", "lm_head"), ("gpt2", "wte")])
def test_one_weight_under_two_names_is_not_moved_for_one_of_them(shape, target, tmp_path):
    base = base_of(shape, tmp_path)
    adapter = saved(base, tmp_path, target_modules=[target, *ATTENTION.get(shape, ["q_proj"])])
    refused(base, adapter, "lm_head.weight and .* are one weight in the base .* ensure_weight_tying=True")


@pytest.mark.parametrize("shape", ["qwen2", "gpt2"])
@pytest.mark.parametrize("changes", [{"bias": "lora_only"}, {"lora_bias": True}], ids=lambda c: next(iter(c)))
def test_biases_of_layers_that_have_one(shape, changes, tmp_path):
    base = base_of(shape, tmp_path)
    targets = ATTENTION.get(shape, ["q_proj", "k_proj", "v_proj"])
    equals_the_unmerged(base, saved(base, tmp_path, target_modules=targets, **changes))


@every_shape
def test_embeddings_that_were_saved_beside_the_adapter_take_the_place_of_the_bases(shape, tmp_path):
    base = base_of(shape, tmp_path)
    network = wrapped(loading.full(base, "float32"), start=1.0)
    network.get_input_embeddings().weight.data[7] += 1
    network.save_pretrained(tmp_path / "adapter", save_embedding_layers=True)
    equals_the_unmerged(base, tmp_path / "adapter")


EXPERTS = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]


@pytest.mark.parametrize(
    ("shape", "changes"),
    [
        ("gemma", {"target_modules": ["q_proj", "embed_tokens"], "ensure_weight_tying": True}),  # trained as one
        ("llama", {"trainable_token_indices": {"embed_tokens": [4, 9], "lm_head": [2]}}),
        *(("llama", {"init_lora_weights": start}) for start in ("orthogonal", "eva", "mica")),  # leave the base alone
        # a square weight that is targeted as a parameter is not turned round
        ("gpt2", {"target_modules": [], "target_parameters": ["attn.c_proj.weight"]}),
        ("gpt_oss", {"target_modules": ["q_proj"], "target_parameters": EXPERTS}),  # experts that lie as in by out
    ],
)
def test_other_ways_of_training(shape, changes, tmp_path):
    base = base_of(shape, tmp_path)
    equals_the_unmerged(base, saved(base, tmp_path, **changes))


@pytest.mark.parametrize("parameters", [EXPERTS[:1], EXPERTS, ["mlp.gate.weight"]])
def test_parameters_that_are_no_modules(parameters, tmp_path):
    base = base_of("mixtral", tmp_path)
    adapter = saved(base, tmp_path, target_modules=["q_proj"], target_parameters=parameters)
    equals_the_unmerged(base, adapter)
    moved = lora.changes(adapters.read(adapter), loading.full(base, "float32"))
    assert {n for n in moved if "mlp" in n} == {f"model.layers.{i}.{p}" for i in range(2) for p in parameters}


def test_experts_are_written_one_by_one_as_the_base_holds_them(tmp_path):
    base = base_of("mixtral", tmp_path, num_local_experts=12)  # expert 2 comes before 10
    adapter = saved(base, tmp_path)
    equals_the_unmerged(base, adapter)
    written(base, adapter, tmp_path / "one", "bf16")
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (tmp_path / "one", tmp_path / "base"))
    assert {n: w.shape for n, w in ours.items()} == {n: w.shape for n, w in theirs.items()}
    assert any("experts.3.w1" in name for name in ours)


def test_a_base_without_the_prefix_of_its_names_is_merged(tmp_path):
    """GPT-2 as it was published."""
    base = base_of("gpt2", tmp_path)
    file = tmp_path / "base" / "model.safetensors"
    bare = {name.removeprefix("transformer."): weight for name, weight in load_file(file).items()}
    save_file(bare, file, metadata={"format": "pt"})
    equals_the_unmerged(base, saved(base, tmp_path))


@pytest.mark.parametrize("shape", ["gpt2", "mixtral", "qwen2"])
def test_the_careful_merge_is_the_4_bit_base_with_its_adapter(shape, tmp_path):
    base = base_of(shape, tmp_path)
    adapter = saved(base, tmp_path)
    reference = logits(exact(base, adapter, torch.bfloat16))
    apart = {
        mode: (logits(merged_into(loading.full(base, "float32"), adapter, mode)) - reference).abs().max()
        for mode in ("bf16", "dequantized")
    }
    assert apart["dequantized"] < 1e-4 and apart["bf16"] > 1e-3


@pytest.mark.parametrize("init", ["pissa", "pissa_niter_2", "olora"])
def test_a_start_that_changed_the_base_is_refused_and_merged_once_converted(init, tmp_path):
    base = base_of("llama", tmp_path)
    network = get_peft_model(loading.full(base, "float32"), LoraConfig(
        r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=init,
    ))  # fmt: skip
    network.peft_config["default"].init_lora_weights = True  # as peft's guide says, for the conversion
    network.save_pretrained(tmp_path / "start")
    network.peft_config["default"].init_lora_weights = init
    for name, weight in network.named_parameters():
        if "lora_B" in name:
            weight.data += 0.05
    network.eval().save_pretrained(tmp_path / "adapter")
    refused(base, tmp_path / "adapter", f"init_lora_weights {init} changed the base .* path_initial_model_for_weight")
    trained = logits(network)
    network.save_pretrained(tmp_path / "plain", path_initial_model_for_weight_conversion=str(tmp_path / "start"))
    merged = merged_into(loading.full(base, "float32"), tmp_path / "plain", "bf16")
    assert torch.allclose(logits(merged), trained, atol=1e-4)


LARGER = r"\(97, 32\) in the model and \(100, 32\) in the adapter \(a resized vocabulary\?\)"


@pytest.mark.parametrize(
    ("embeddings", "changes", "message"),
    [
        (True, {}, r"has 100 tokens and the base 97: .*resize_token_embeddings\(100\)"),
        (False, {"target_modules": ["q_proj", "embed_tokens"]}, f"embed_tokens is {LARGER}"),
        (False, {"target_modules": ["q_proj", "lm_head"]}, f"lm_head is {LARGER}"),
        (False, {"trainable_token_indices": [3, 98]}, "indices reach beyond the 97 tokens of model.embed_tokens"),
    ],
)
def test_a_resized_vocabulary_is_refused(embeddings, changes, message, tmp_path):
    base, larger = base_of("llama", tmp_path), base_of("llama", tmp_path / "larger", vocab_size=100)
    adapter = saved(larger, tmp_path, {"save_embedding_layers": embeddings}, **changes)
    refused(base, adapter, message, ("bf16", "adapter"))


def edited(adapter, tensors: dict, **config):
    """The adapter with tensors of ones in these shapes, without those of None, and keys of its configuration set."""
    stored = load_file(adapter / "adapter_model.safetensors")
    stored |= {name: shape and torch.ones(shape) for name, shape in tensors.items()}
    stored = {name: tensor for name, tensor in stored.items() if tensor is not None}
    save_file(stored, adapter / "adapter_model.safetensors")
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | config))
    return adapter


Q = "base_model.model.model.layers.0.self_attn.q_proj"


LAYER = Q.removesuffix("q_proj")


@pytest.mark.parametrize(
    ("tensors", "config", "message"),  # a tensor that is None is taken out
    [
        ({}, {"r": 8}, "lora_A.weight has rank 4 and its B 4 but r is 8 in adapter_config.json: take both"),
        ({}, {"rank_pattern": {"k_proj": 2}}, "k_proj.lora_A.weight has rank 4 .* r is 2"),
        ({f"{Q}.lora_B.weight": (32, 3)}, {}, "q_proj.lora_A.weight has rank 4 and its B 3"),
        ({f"{Q}.lora_B.weight": None}, {}, "q_proj.lora_A.weight is there without .*q_proj.lora_B.weight"),
        ({f"{Q}.lora_A.weight": None}, {}, "q_proj.lora_B.weight is there without .*q_proj.lora_A.weight"),
        ({f"{Q}.lora_magnitude_vector": (32,)}, {}, "q_proj.lora_magnitude_vector is of a kind"),
        ({f"{Q}.lora_A.default.weight": (4, 32)}, {}, "lora_A.default.weight is of a kind"),
        ({"base_model.model.score.weight": (2, 32)}, {}, "score.weight is of a kind"),
        ({"base_model.model.model.norm.weight": (32,)}, {}, "norm.weight is of a kind"),
        ({f"{Q}.lora_B.bias": (32,)}, {}, r"q_proj.lora_B.bias has no place: .*weight has no bias in the base \(lora_"),
        ({f"{Q}.lora_A.weight": (0,)}, {}, "q_proj.lora_A.weight or its B is no matrix"),
        ({f"{Q}.lora_A.weight": (4, 31)}, {}, r"another base: .*q_proj is \(32, 32\) in the model and \(32, 31\)"),
        (
            {f"{LAYER}query.lora_{part}.weight": (4, 4) for part in "AB"},
            {"base_model_name_or_path": "me/mine"},
            "another base: .*query is not in the model; set model.base.path to me/mine",
        ),
        (
            {f"{LAYER}experts.0.w1.lora_{part}.weight": (4, 4) for part in "AB"},
            {},
            "experts.0.w1 is not in the model .experts saved one by one: load and save it once with this peft.",
        ),
    ],
)
def test_a_tensor_that_fits_nothing_is_named(tensors, config, message, tmp_path):
    base = base_of("llama", tmp_path)
    refused(base, edited(saved(base, tmp_path), tensors, **config), message, ("bf16", "adapter"))


def test_trained_tokens_unlike_their_indices_are_refused(tmp_path):
    base = base_of("llama", tmp_path)
    adapter = saved(base, tmp_path, trainable_token_indices=[3, 5])
    for rows in ([3, 5, 6], None):
        edited(adapter, {}, trainable_token_indices=rows)
        refused(base, adapter, r"trainable_tokens_delta is \(2, 32\), unlike trainable_token_indices")


def test_a_base_and_an_adapter_of_another_shape_are_refused(tmp_path):
    adapter = saved(base_of("mistral", tmp_path), tmp_path)
    message = "was trained on another base: model.layers.0.* is not in the model; set model.base.path to .*base"
    refused(base_of("gpt2", tmp_path / "other"), adapter, message)


def test_an_adapter_that_was_not_trained_is_refused_though_embeddings_were_saved(tmp_path):
    base = base_of("llama", tmp_path)
    network = get_peft_model(
        loading.full(base, "float32"), LoraConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM")
    )
    network.save_pretrained(tmp_path / "adapter", save_embedding_layers=True)
    refused(base, tmp_path / "adapter", "changes no weight: was it saved before training?")
