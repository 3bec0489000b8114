import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from s2utils.training import adapters
from s2utils.training.adapters import MergeError

CONFIG = {  # as peft 0.2 wrote them in 2023
    "base_model_name_or_path": "me/base", "bias": "none", "enable_lora": None, "fan_in_fan_out": False,
    "inference_mode": True, "lora_alpha": 16, "lora_dropout": 0.05, "merge_weights": False, "modules_to_save": None,
    "peft_type": "LORA", "r": 2, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM",
}  # fmt: skip
TENSORS = {
    "base_model.model.q_proj.lora_A.weight": torch.ones(2, 4),
    "base_model.model.q_proj.lora_B.weight": torch.ones(4, 2),
}


@pytest.fixture
def folder(tmp_path):
    """A small adapter's folder."""
    (tmp_path / "adapter_config.json").write_text(json.dumps(CONFIG))
    save_file(TENSORS, tmp_path / "adapter_model.safetensors")
    return tmp_path


def configured(folder, **changes):
    (folder / "adapter_config.json").write_text(json.dumps(CONFIG | changes))
    return folder


def refused(folder, message: str) -> None:
    with pytest.raises(MergeError, match=message) as raised:
        adapters.read(folder)
    assert "\n" not in str(raised.value) and str(folder) in str(raised.value)


def test_an_adapter_of_2023_is_read(folder):
    adapter = adapters.read(folder)
    assert adapter.config == CONFIG
    assert {n: t.tolist() for n, t in adapter.tensors.items()} == {n: t.tolist() for n, t in TENSORS.items()}


def test_a_byte_order_mark_is_no_part_of_the_configuration(folder):
    file = folder / "adapter_config.json"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert adapters.read(folder).config == CONFIG


def test_neutral_values_of_what_is_not_known_are_read(folder):
    adapters.read(configured(folder, use_dora=False, a_key_of_2027=None, another=[], a_third={}, velora_config=None))


OTHER_KINDS = {
    "layer_replication": [[0, 2], [1, 2]], "alora_invocation_tokens": [1, 2], "use_qalora": True,
    "use_bdlora": {"nblocks": 2}, "arrow_config": {"top_k": 3}, "kasa_config": {"beta": 0.1},
    "velora_config": {"scale": 1.0}, "monteclora_config": {"num_samples": 8}, "megatron_config": {"hidden_size": 8},
    "enable_lora": [True, False],
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"use_dora": True}, "adapter_config.json: cannot merge with use_dora .DoRA also .*; load it beside its base"),
        ({"modules_to_save": ["lm_head"]}, "cannot merge with modules_to_save .whole modules"),
        *(({key: value}, key) for key, value in OTHER_KINDS.items()),
        ({"a_key_of_2027": 1, "use_dora": True}, "cannot merge with a_key_of_2027, use_dora"),
        ({"peft_type": "IA3"}, "peft_type is IA3 and only LORA is merged; load it beside its base"),
        ({"peft_type": None}, "peft_type is None"),
        *(({"init_lora_weights": start}, f"init_lora_weights {start} changed the base .* path_initial_model_for")
          for start in ("pissa", "pissa_niter_16", "olora", "corda", "lora_ga")),
        ({"init_lora_weights": "loftq"}, "init_lora_weights loftq changed the base .* set init_lora_weights to true"),
        ({"init_lora_weights": "of_2027"}, "init_lora_weights of_2027"),
        *(({"r": r}, f"adapter_config.json: r is {r!r} and must be a whole number from 1")
          for r in (0, "8", None, True, 2.5)),
        *(({"lora_alpha": alpha}, f"lora_alpha is {alpha} and must be a number") for alpha in (None, float("nan"))),
        ({"rank_pattern": {"q_proj": 0}}, "q_proj is 0 and must be a whole number"),
        ({"rank_pattern": ["q_proj"]}, r"rank_pattern is \['q_proj'\] and must map names of layers to numbers"),
        ({"alpha_pattern": {"q_proj": "x"}}, "q_proj is 'x' and must be a number"),
        ({"alpha_pattern": {"q_(": 8}}, r"'q_\(' in alpha_pattern is no regular expression"),
    ],
)  # fmt: skip
def test_a_configuration_that_is_not_merged_is_refused_by_the_name_of_its_key(folder, changes, message):
    refused(configured(folder, **changes), message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "adapter_config.json is not JSON .* fetch or save the adapter again"),
        (b'{"r": 8, "peft', "adapter_config.json is not JSON"),
        ('{"r": 8}'.encode("utf-16"), "adapter_config.json is not JSON"),
        (b"[]", "adapter_config.json names no peft_type: give the folder that peft's save_pretrained wrote"),
        (b'{"r": 8}', "adapter_config.json names no peft_type"),
    ],
)
def test_a_configuration_that_is_none_is_refused(folder, content, message):
    (folder / "adapter_config.json").write_bytes(content)
    refused(folder, message)


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    refused(folder, f"{name} is missing: give the folder that peft's save_pretrained wrote")


def test_a_pickle_is_not_opened(folder):
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    refused(
        folder, r"holds adapter_model.bin only, a pickle, .*PeftModel.from_pretrained\(base, folder\).save_pretrained"
    )


@pytest.mark.parametrize("kept", [0, 4, 40, -1])
def test_cut_tensors_are_refused(folder, kept):
    file = folder / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    refused(folder, "adapter_model.safetensors is cut or not a safetensors file .* fetch or save it again")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", TENSORS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_numbers_that_are_none_are_refused(folder, name, value, dtype):
    tensors = {n: t.to(dtype) for n, t in load_file(folder / "adapter_model.safetensors").items()}
    tensors[name][0, 1] = value
    save_file(tensors, folder / "adapter_model.safetensors")
    refused(folder, f"{name} holds NaN or infinity: training diverged, take an earlier checkpoint")
