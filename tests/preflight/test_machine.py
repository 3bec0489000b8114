"""Counts of decoders against published ones and against peft; formulas of single things at their limits."""

import dataclasses

import peft
import pytest
import torch
from safetensors import safe_open
from transformers import AutoConfig

from s2utils.preflight import machine
from s2utils.preflight.machine import A100, REFERENCE
from s2utils.training import sft
from s2utils.workflow import packaged, params


def published(name: str) -> machine.Shape:
    return machine.shape(machine.known(f"someone/{name.title()}-hf"), name, "")


@pytest.mark.parametrize(
    ("name", "count"),
    [("llama-2-7b", 6_738_415_616), ("llama-2-13b", 13_015_864_320), ("smollm2-135m", 134_515_008),
     ("mistral-7b", 7_241_732_096), ("olmo-7b", 6_888_095_744), ("pythia-14m", 14_067_712), ("pythia-70m", 70_426_624),
     ("pythia-160m", 162_322_944), ("pythia-6.9b", 6_857_302_016)],
)  # fmt: skip
def test_published_parameter_counts(name, count):
    assert published(name).total == count


def test_sizes_of_any_other_model_are_not_known():
    assert machine.known("someone/mystery") is None


def test_the_count_of_a_real_model_is_that_of_its_file():
    folder = packaged.resolve("smollm2-135m-instruct")
    with safe_open(folder / "model.safetensors", "pt") as file:
        tensors = [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118 (it is no dict)
    counted = machine.shape(AutoConfig.from_pretrained(folder), "smollm2-135m", "")
    assert counted.total == sum(torch.Size(t).numel() for t in tensors) and counted == published("smollm2-135m")


def test_lora_is_counted_as_peft_makes_it(tiny_llama):
    p, model = params.load("cpu"), tiny_llama()
    shape = machine.shape(model.config, "tiny", "")
    assert shape.total == sum(w.numel() for w in model.parameters())
    trained = sum(w.numel() for w in peft.get_peft_model(model, sft.lora(p.sft)).parameters() if w.requires_grad)
    assert shape.widths * p.sft.r == trained


def test_llama_2_takes_what_is_known_of_it():
    shape = published("llama-2-7b")
    assert 3.6e9 < shape.quantized < 3.9e9 and shape.widths * 64 == 159_907_840
    assert shape.active == shape.total - 32_000 * 4096 - 65 * 4096  # embeddings are looked up, norms are no product
    assert round(8 * machine.NF4, 3) == 4.127
    assert machine.Costs(params.load("a100-7b"), shape, A100).kv(1) == 2 * 32 * 4096 * 2 == 2**19


def test_nothing_takes_nothing():
    c = machine.Costs(params.load("cpu"), published("smollm2-135m"), REFERENCE)
    assert c.forward(0, 100, logits=True) == c.kv(0) == c.answer(0, 16, 100, 50, True) == 0
    assert c.model.activations(0, 192, False, True) == c.model.activations(2, 0, True, False) == 0


def test_what_all_prompts_begin_with_is_read_once_a_batch():
    c = machine.Costs(params.load("cpu"), published("smollm2-135m"), REFERENCE)
    read = [c.answer(8, batch, 100, 0, False, shared) for batch, shared in ((8, 0), (1, 80), (8, 80))]
    assert read[0] == read[1] == c.forward(800, 100) and read[2] == c.forward(240, 100)


def test_to_draw_a_token_takes_longer_than_to_take_the_likeliest():
    c = machine.Costs(params.load("cpu"), published("smollm2-135m"), REFERENCE)
    assert c.decode(8, 100, True) - c.decode(8, 100, False) == pytest.approx(8 * 49_152 / REFERENCE.topk)


def test_measured_rates_are_rates():
    threads = torch.get_num_threads()
    measured = machine.measure("cpu", 1, 64, 128)
    assert torch.get_num_threads() == threads
    assert all(v > 0 for v in dataclasses.asdict(measured).values() if isinstance(v, float))
    assert machine.fastest("time.sleep(0.02)", time=__import__("time")) == pytest.approx(0.02, rel=0.2)
