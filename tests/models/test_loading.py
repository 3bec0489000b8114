import json
import shutil

import bitsandbytes
import pytest
import torch
from peft import LoraConfig, get_peft_model

from s2utils.models import generation, loading
from s2utils.models.parameters import Weights
from s2utils.training import sft
from s2utils.workflow.params import ParameterError, load

IDS = torch.tensor([[1, 5, 6, 7]])


def at(folder) -> Weights:
    """Weights in a folder of this machine."""
    return Weights(path=str(folder), revision="")


@pytest.fixture
def study(tree):
    """Parameters of the published study."""
    return load("a100-7b")


def test_a_tokenizer_pads_on_the_left_with_a_token_that_is_not_its_end(llama2, llama2_folder):
    assert llama2.pad_token is None
    for own, wanted in ((None, "<unk>"), (llama2.eos_token, "<unk>"), ("▁the", "▁the")):
        llama2.pad_token = own
        tok = loading.prepared(llama2)
        assert (tok.pad_token, tok.padding_side) == (wanted, "left") and tok.pad_token_id != tok.eos_token_id
    tok = loading.tokenizer(at(llama2_folder))
    assert (tok.pad_token, tok.padding_side) == ("<unk>", "left")


@pytest.mark.parametrize("variant", ["base", "sft"])
def test_turns_of_models_without_a_template(study, tok, variant):
    assert loading.plain_prompt("Why {so}?", study.model) == "### Human: Why {so}?\n ### Assistant:"
    assert loading.prompt(["Why?"], variant, tok, study.model) == "### Human: Why?\n ### Assistant:"
    assert loading.prompt(["Why?", "  Because. ", "How?"], variant, tok, study.model) == (
        "### Human: Why?\n ### Assistant: Because.\n### Human: How?\n ### Assistant:"
    )


def test_turns_of_the_chat_model_are_llama_2s(study, tok):
    assert loading.prompt(["Why?"], "chat", tok, study.model) == "<s>[INST] Why? [/INST]"
    assert loading.prompt(["Why?", "Because.", "How?"], "chat", tok, study.model) == (
        "<s>[INST] Why? [/INST] Because. </s><s>[INST] How? [/INST]"
    )


def test_a_system_prompt_stands_in_the_first_turn_of_the_chat_model_only(study, tok):
    kind = study.model.model_copy(update={"system_prompt": "Be kind."})
    assert loading.prompt(["Why?", "So.", "How?"], "chat", tok, kind) == (
        "<s>[INST] <<SYS>>\nBe kind.\n<</SYS>>\n\nWhy? [/INST] So. </s><s>[INST] How? [/INST]"
    )
    assert "kind" not in loading.prompt(["Why?"], "sft", tok, kind)


def test_fine_tunes_learn_the_template_that_the_parameters_name(study, tok):
    chat = study.model.model_copy(update={"template": "chat"})
    assert loading.example("Why?", "So.", tok, study.model) == ("### Human: Why?\n ### Assistant:", " So.")
    assert loading.example("Why?", "So.", tok, chat) == ("[INST] Why? [/INST]", "So.")
    assert loading.prompt(["Why?"], "base", tok, chat) == "### Human: Why?\n ### Assistant:"
    asked = loading.encoded([loading.prompt(["Why?"], "sft", tok, chat)], tok, "sft")[0]
    assert asked[0] == tok.bos_token_id and asked.count(tok.bos_token_id) == 1
    assert tok.decode(asked, skip_special_tokens=True) == "[INST] Why? [/INST]"


def test_a_chat_template_that_is_not_there_is_asked_for(study, tok):
    tok.chat_template = None
    with pytest.raises(ParameterError, match="set model.template to human_assistant"):
        loading.prompt(["Why?"], "sft", tok, study.model.model_copy(update={"template": "chat"}))


@pytest.mark.parametrize("variant", ["base", "chat"])
def test_every_prompt_starts_with_one_bos(study, tok, variant):
    text = loading.prompt(["Warum, café 😀?"], variant, tok, study.model)
    ids = loading.encoded([text], tok, variant)[0]
    assert [i for i in ids if i in (tok.bos_token_id, tok.eos_token_id)] == ids[:1] == [1]
    assert tok.decode(ids, skip_special_tokens=True) == text.removeprefix("<s>")
    turns = loading.encoded([loading.prompt(["Why?", "So.", "How?"], "chat", tok, study.model)], tok, "chat")[0]
    assert [i for i in turns if i in (1, 2)] == [1, 2, 1], "the first answer ends"


def test_the_stop_ids_hold_the_end_of_sequence(tok, tiny_llama):
    model = tiny_llama(vocab_size=len(tok))
    assert generation.stop_ids(model, tok) == [2]
    model.generation_config.eos_token_id = [2, 7]
    assert generation.stop_ids(model, tok) == [2, 7]
    model.generation_config.eos_token_id = None
    assert generation.stop_ids(model, tok) == [2]


def test_where_weights_lie(tree):
    (tree / "weights").mkdir()
    assert loading.located(Weights(path="weights", revision="x")) == (str(tree / "weights"), {})
    assert loading.located(Weights(path="someone/model", revision="abc")) == ("someone/model", {"revision": "abc"})
    assert loading.located(Weights(path="someone/model", revision="")) == ("someone/model", {"revision": "main"})


def test_the_folder_of_a_model_on_the_hub_is_fetched_without_other_formats(tree, monkeypatch):
    import fnmatch

    import huggingface_hub

    asked, copy = {}, lambda name, **options: asked.update(options, name=name) or "/hub/copy"
    monkeypatch.setattr(huggingface_hub, "snapshot_download", copy)
    (tree / "weights").mkdir()
    assert loading.folder(Weights(path="weights", revision="")) == tree / "weights" and not asked
    assert str(loading.folder(Weights(path="someone/model", revision="abc"))) == "/hub/copy"
    assert (asked["name"], asked["revision"]) == ("someone/model", "abc")
    published = ["model-00001-of-00002.safetensors", "model.safetensors.index.json", "config.json", "pytorch_model.bin",
                 "consolidated.safetensors", "original/consolidated.00.pth", "generation_config.json"]  # fmt: skip
    fetched = [f for f in published if any(fnmatch.fnmatch(f, pattern) for pattern in asked["allow_patterns"])]
    assert fetched == [published[0], published[1], published[2], published[6]]


def four_bit(model) -> list:
    """Its 4-bit layers, seven a decoder layer, none of which may be packed."""
    layers = [m for m in model.modules() if isinstance(m, bitsandbytes.nn.Linear4bit)]
    assert len(layers) == 2 * 7 and not any(m.support_avx512bf16_for_cpu for m in layers)
    return layers


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_an_adapters_folder_is_loaded_over_the_4_bit_base_it_names(theirs, dtype):
    loaded = loading.full(theirs(), dtype)
    assert four_bit(loaded) and not loaded.training
    assert sum(name.endswith("lora_A.default.weight") for name, _ in loaded.named_parameters()) == 2 * 7
    assert loaded(input_ids=IDS).logits.dtype == getattr(torch, dtype)


def test_a_padding_token_that_was_added_without_an_embedding_is_passed_over(tiny_base, tmp_path):
    folder = shutil.copytree(tiny_base, tmp_path / "padded")
    tok = loading.AutoTokenizer.from_pretrained(folder)
    tok.add_special_tokens({"pad_token": "[PAD]"})
    tok.save_pretrained(folder)
    assert loading.AutoTokenizer.from_pretrained(folder).pad_token_id == 400, "one more than the model knows"
    assert loading.tokenizer(at(folder)).pad_token == "<unk>"


@pytest.fixture
def theirs(tiny_base, tmp_path):
    """Make an adapter's folder as peft's save_pretrained leaves it, on the tiny base; `config` is what it then says."""

    def make(**config):
        folder, model = tmp_path / "theirs", loading.full(at(tiny_base), "bfloat16")
        lora = LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False)
        get_peft_model(model, lora).save_pretrained(folder)
        file = folder / "adapter_config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | config))
        return at(folder)

    return make


def test_an_adapter_without_a_tokenizer_has_its_bases(theirs, tiny_base, llama2_folder, tmp_path):
    adapter = theirs()
    assert not list((tmp_path / "theirs").glob("tokenizer*"))
    tok, base = loading.tokenizer(adapter), loading.tokenizer(at(tiny_base))
    assert tok.get_vocab() == base.get_vocab() and tok.pad_token == base.pad_token == "<unk>"
    network, plain = loading.full(adapter, "float32"), loading.quantized(at(tiny_base), "float32")
    ids = torch.tensor([tok("What is rain?")["input_ids"]])
    assert not torch.allclose(network(input_ids=ids).logits, plain(input_ids=ids).logits, atol=1e-3), "it is applied"
    shutil.copytree(llama2_folder, tmp_path / "theirs", dirs_exist_ok=True)
    (tmp_path / "theirs" / "chat_template.jinja").write_text("their own")
    assert loading.tokenizer(adapter).chat_template == "their own"


@pytest.mark.parametrize("load_it", [loading.tokenizer, lambda weights: loading.full(weights, "float32")])
@pytest.mark.parametrize(
    ("said", "message"),
    [
        (None, "the adapter .*theirs does not name its base .it says null.: write the folder or hub id .*_config.json"),
        ("", "does not name its base"),
        (7, "does not name its base .it says 7."),
        ("/them/llama", "was trained on '/them/llama', which cannot be loaded here .*: fetch it, or write the"),
        ("someone/nowhere", "was trained on 'someone/nowhere', which cannot be loaded here .*: fetch it, or write the"),
        ("embedded:nothing", "was trained on 'embedded:nothing', which cannot be loaded here .nothing embedded is"),
    ],
)
def test_an_adapter_whose_base_is_not_to_be_had_names_both_and_the_remedy(theirs, said, message, load_it):
    with pytest.raises(ParameterError, match=message) as refused:
        load_it(theirs(base_model_name_or_path=said))
    assert "\n" not in str(refused.value)


def test_an_adapter_that_is_not_whole_is_refused_by_name(theirs, tiny_llama, tmp_path):
    adapter, file = theirs(), tmp_path / "theirs" / "adapter_config.json"
    config = file.read_text()
    tiny_llama(hidden_size=128).to(torch.bfloat16).save_pretrained(tmp_path / "wider")
    wider = json.dumps(json.loads(config) | {"base_model_name_or_path": str(tmp_path / "wider")})
    torn = dict.fromkeys(
        ("", "[]", config[:40], "\ufeff" + config), "_config.json is not what peft writes .*: fetch the"
    )
    for written, message in (torn | {wider: "theirs does not fit the base .*wider"}).items():
        file.write_text(written, encoding="utf-8")
        with pytest.raises(ParameterError, match=message):
            loading.full(adapter, "float32")
    file.write_text(config)
    with pytest.raises(ParameterError, match="theirs is an adapter, which can be asked and .*: train on the base"):
        loading.quantized(adapter, "float32")
    (tmp_path / "theirs" / "adapter_model.safetensors").unlink()
    with pytest.raises(ParameterError, match="theirs does not fit the base"):
        loading.full(adapter, "float32")


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_4_bit_model_keeps_head_and_embeddings_and_is_never_packed(tiny_base, dtype):
    model = loading.quantized(at(tiny_base), dtype)
    layers = four_bit(model)
    assert all(m.weight.quant_state.quant_type == "nf4" and m.weight.quant_state.nested for m in layers)
    assert type(model.lm_head) is torch.nn.Linear and model.lm_head.weight.dtype == getattr(torch, dtype)
    model.eval()(input_ids=IDS)
    assert not any(getattr(m.weight.quant_state, "packing_format_for_cpu", False) for m in layers)


def test_a_model_to_be_sharded_keeps_its_bits_in_floats_and_is_placed_nowhere(tiny_base, monkeypatch):
    base, asked, kind = at(tiny_base), {}, loading.AutoModelForCausalLM
    read = kind.from_pretrained
    monkeypatch.setattr(kind, "from_pretrained", lambda path, **k: asked.update(k) or read(path, **k))
    model = loading.quantized(base, "bfloat16", "cuda:1", sharded=True)
    assert "device_map" not in asked and asked["quantization_config"].bnb_4bit_quant_storage == torch.bfloat16
    assert {w.dtype for w in model.parameters()} == {torch.bfloat16}
    layer = four_bit(model)[0]
    assert layer.weight.numel() * 4 == layer.in_features * layer.out_features
    assert torch.equal(model(input_ids=IDS).logits, loading.quantized(base, "bfloat16")(input_ids=IDS).logits)


def test_the_4_bits_are_those_of_the_bf16_weights_whatever_is_computed_in(tiny_llama, tmp_path):
    """A base published in float32 or float16 is rounded to bf16 first, as where training computes in bf16."""
    for published in (torch.float32, torch.float16):
        tiny_llama().to(published).save_pretrained(tmp_path / str(published))
        bits = {}
        for dtype in ("bfloat16", "float16", "float32"):
            model = loading.quantized(at(tmp_path / str(published)), dtype)
            layers = four_bit(model)
            bits[dtype] = [m.weight.data for m in layers]
            unpacked = bitsandbytes.functional.dequantize_4bit(layers[0].weight.data, layers[0].weight.quant_state)
            assert unpacked.dtype == loading.computing(dtype) == layers[0].compute_dtype == model.dtype
        assert all(torch.equal(a, b) and torch.equal(a, c) for a, b, c in zip(*bits.values())), published


SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
SHAPES = {  # Touvron et al. 2023: shape, parameters; trainable ones of LoRA with r 64 on every linear layer
    "7b": ((4096, 11008, 32, 32), 6_738_415_616, 159_907_840),
    "13b": ((5120, 13824, 40, 40), 13_015_864_320, 250_347_520),
}


@pytest.mark.parametrize("size", SHAPES)
def test_the_a100_models_can_be_put_together(tree, size):
    """Without weights or a GPU: the Llama-2 shapes, their NF4 layers and the study's LoRA on them."""
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.quantizers.auto import AutoHfQuantizer

    values, parameters, trainable = SHAPES[size]
    shape = dict(zip(SIZES, values))
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig(vocab_size=32000, **shape))
    assert model.num_parameters() == parameters
    quantizer = AutoHfQuantizer.from_config(loading.nf4(), pre_quantized=False)
    quantizer.preprocess_model(model, device_map={"": "meta"})
    layers = [m for m in loading.keep_unpacked(model).modules() if isinstance(m, bitsandbytes.nn.Linear4bit)]
    assert len(layers) == 7 * shape["num_hidden_layers"]
    assert {(m.compute_dtype, m.weight.quant_type, m.weight.compress_statistics) for m in layers} == {
        (torch.bfloat16, "nf4", True)
    }
    assert type(model.lm_head) is torch.nn.Linear
    with torch.device("meta"):
        wrapped = get_peft_model(model, sft.lora(load(f"a100-{size}").sft))
    assert sum(w.numel() for w in wrapped.parameters() if w.requires_grad) == trainable
    assert {n.split(".lora_")[0].rsplit(".", 1)[1] for n, w in wrapped.named_parameters() if w.requires_grad} == {
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
    }  # fmt: skip


def test_a_gpu_that_is_not_there_is_refused_before_anything_is_loaded(tmp_path, monkeypatch):
    from s2utils.evaluation import bertscore
    from s2utils.training import merging

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    nowhere, adapter = at(tmp_path / "nowhere"), tmp_path / "adapter"
    for load_it in (
        lambda: loading.full(nowhere, "bfloat16", "cuda"),
        lambda: loading.quantized(nowhere, "bfloat16", "cuda"),
        lambda: loading.adapted(nowhere, adapter, "bfloat16", "cuda"),
        lambda: bertscore.score(["a"], ["b"], nowhere, 1, "cuda"),
    ):
        with pytest.raises(ParameterError, match="runtime.device is cuda and no GPU is visible"):
            load_it()
    (tmp_path / "nowhere").mkdir()
    with pytest.raises(ParameterError, match="no GPU is visible"):
        merging.write(nowhere, adapter, "bf16", tmp_path, "cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert loading.usable("cuda") == "cuda" and loading.usable("cpu") == "cpu"


@pytest.mark.parametrize(("there", "nearest"), [(True, "cuda"), (False, "cpu")])
def test_what_a_collecting_run_computes_is_computed_where_it_can_be(monkeypatch, there, nearest):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert loading.nearest("cuda") == nearest and loading.nearest("cpu") == "cpu"
