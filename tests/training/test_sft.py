import dataclasses
import errno
import json
import os
import random
import signal
import subprocess
import sys
import time

import httpx
import pandas as pd
import pytest
import torch
from conftest import REPOSITORY, write_rows
from huggingface_hub.errors import GatedRepoError
from peft import get_peft_model
from transformers import TrainerCallback

from s2utils.models import loading
from s2utils.training import callbacks, distributed, sft
from s2utils.training.failures import TrainingError, explained
from s2utils.training.trainer import Batches, Trainer, masked
from s2utils.workflow import artefacts
from s2utils.workflow.params import ParameterError, Weights, load


@pytest.fixture
def tok(llama2):
    return loading.prepared(llama2)


@pytest.fixture
def params(tree):
    return load("smoke")


def with_sft(params, **changes):
    """Parameters with another training section."""
    return dataclasses.replace(params, sft=dataclasses.replace(params.sft, **changes))


def test_rows_hold_prompt_and_answer_and_the_over_long_are_counted(params, tok):
    frame = pd.DataFrame({"question": ["Why?", "How?", "Who?"], "answer": ["Light.", "Rain " * 200, "The cat."]})
    rows, dropped = sft.rows(frame, with_sft(params, max_length=64), tok)
    assert rows.select_columns(["prompt", "completion"]).to_list() == [
        {"prompt": "### Human: Why?\n ### Assistant:", "completion": " Light."},
        {"prompt": "### Human: Who?\n ### Assistant:", "completion": " The cat."},
    ]
    assert dropped == 1
    for row in rows:
        assert row["input_ids"] == [*tok(row["prompt"] + row["completion"])["input_ids"], tok.eos_token_id]
        assert row["completion_mask"].index(1) == len(tok(row["prompt"])["input_ids"])


def test_a_row_of_exactly_the_limit_with_its_end_of_sequence_stays(params, tok):
    frame = pd.DataFrame({"question": ["Why?"], "answer": ["Light from the sun."]})
    length = len(tok("### Human: Why?\n ### Assistant: Light from the sun.")["input_ids"]) + 1
    assert sft.rows(frame, with_sft(params, max_length=length), tok)[1] == 0
    assert sft.rows(frame, with_sft(params, max_length=length - 1), tok)[1] == 1


def test_every_row_too_long_is_no_row(params, tok):
    rows, dropped = sft.rows(
        pd.DataFrame({"question": ["Why?"], "answer": ["So."]}), with_sft(params, max_length=2), tok
    )
    assert (len(rows), dropped) == (0, 1)


def test_the_prompt_ends_on_a_token_boundary(params, tok):
    prompt, completion = "### Human: Why?\n ### Assistant:", " Light from the sun."
    ids = tok(prompt)["input_ids"]
    assert tok(prompt + completion)["input_ids"][: len(ids)] == ids


@pytest.mark.parametrize(
    ("changes", "n", "steps"),
    [
        ({"max_steps": 0, "epochs": 3.0, "batch_size": 16, "accumulation": 8}, 38595, 905),
        ({"max_steps": 0, "epochs": 1.0, "batch_size": 4, "accumulation": 2}, 3, 1),
        ({"max_steps": 20}, 38595, 20),
    ],
)
def test_steps(params, changes, n, steps):
    assert sft.steps(with_sft(params, **changes).sft, n) == steps


def test_lora_is_the_studys(tree):
    config = sft.lora(load("a100-7b").sft)
    assert (config.r, config.lora_alpha, config.lora_dropout, config.target_modules, config.bias) == (
        64,
        16,
        0.1,
        "all-linear",
        "none",
    )


def test_the_configuration_of_the_cpu_profile(params, tmp_path):
    config = sft.config(params, 100, tmp_path, "</s>")
    wanted = params.sft
    assert (config.max_steps, config.learning_rate, config.max_length) == (
        wanted.max_steps,
        wanted.learning_rate,
        wanted.max_length,
    )
    assert config.completion_only_loss is True and config.eos_token == "</s>" and not config.packing
    assert (config.seed, config.data_seed) == (42, 42) and config.use_cpu and config.report_to == []
    assert config.load_best_model_at_end and config.eval_steps == config.save_steps


def test_the_configuration_of_the_study(tree, tmp_path):
    """Its fields; bf16 and the device are put to the CPU, which is all that a GPU would change here."""
    params = load("a100-7b", {"runtime": {"device": "cpu"}})
    config = sft.config(params, 38595, tmp_path, "</s>")
    assert config.per_device_train_batch_size * config.gradient_accumulation_steps == 128
    assert config.max_steps == 905 and config.eval_steps == config.save_steps == 45
    assert config.optim == "paged_adamw_8bit" and config.weight_decay == 0.1 and config.warmup_steps == 0.03
    assert config.bf16 and config.gradient_checkpointing and config.max_length == 1024
    kinds = [type(c).__name__ for c in callbacks.callbacks(with_sft(params, country="").sft, tmp_path, None, ["a"])]
    assert kinds == ["Recorder", "Samples", "EarlyStoppingCallback"]
    off = with_sft(params, country="", samples=0, patience=0)
    assert [type(c).__name__ for c in callbacks.callbacks(off.sft, tmp_path, None, [])] == ["Recorder"]


def test_processes_share_the_effective_batch(params, tmp_path):
    eight = with_sft(params, accumulation=8)
    assert [sft.share(eight.sft, n) for n in (1, 2, 4, 8)] == [8, 4, 2, 1]
    assert sft.config(eight, 100, tmp_path, "</s>", 4).gradient_accumulation_steps == 2
    assert sft.config(eight, 100, tmp_path, "</s>", 4).max_steps == sft.config(eight, 100, tmp_path, "</s>").max_steps
    with pytest.raises(ParameterError, match="sft.accumulation is 8 and 3 processes share it: make it a multiple of 3"):
        sft.config(eight, 100, tmp_path, "</s>", 3)


def test_all_random_numbers_of_training_come_from_one_seed(tree, tmp_path):
    config = sft.config(load("smoke", "sft.seed=7"), 100, tmp_path, "</s>")
    assert (config.seed, config.data_seed) == (7, 7)


def test_one_process_takes_one_gpu_of_those_it_sees(params, tmp_path, monkeypatch):
    monkeypatch.setattr(sft.SFTConfig, "n_gpu", property(lambda args: 8))
    assert sft.config(params, 100, tmp_path, "</s>")._n_gpu == 1


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({}, "Set sft.optimizer=adamw_torch sft.samples=0 sft.patience=0$"),
        ({"samples": 0, "patience": 0}, "Set sft.optimizer=adamw_torch$"),
        ({"optimizer": "adamw_8bit", "samples": 0, "patience": 0}, "Set sft.optimizer=adamw_torch$"),
        ({"optimizer": "adamw_torch", "patience": 0}, "Set sft.samples=0$"),
        ({"optimizer": "adamw_torch", "samples": 0}, "Set sft.patience=0$"),
    ],
)
def test_what_a_sharded_model_cannot_be_trained_with_is_refused(tree, changes, wanted):
    with pytest.raises(ParameterError, match=wanted):
        distributed.check_sharding(with_sft(load("a100-13b"), **changes))
    distributed.check_sharding(with_sft(load("a100-13b"), optimizer="adamw_torch", samples=0, patience=0))


def test_a_model_is_not_sharded_on_a_cpu(params, tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ParameterError, match="runtime.device is cpu, where accelerate trains whole copies"):
        sft.run(params, tmp_path, "sciq", tmp_path)


def test_the_order_of_rows_depends_on_seed_epoch_and_effective_batch_alone():
    lengths = [1 + (7 * i) % 64 for i in range(64)]

    def order(seed=42, epoch=0, batch=8):
        return list(Batches(batch, lengths, seed, lambda: epoch))

    torch.manual_seed(1)
    first = order()
    torch.manual_seed(2)
    assert order() == first and sorted(first) == list(range(64))
    assert order(epoch=1) != first and order(seed=43) != first and order(epoch=1) == order(epoch=1)
    spread = [
        max(lengths[i] for i in first[j : j + 8]) - min(lengths[i] for i in first[j : j + 8]) for j in range(8, 64, 8)
    ]
    assert sum(spread) / len(spread) < 40  # rows beside rows of like length; all lengths span 63


@pytest.fixture
def flash(monkeypatch):
    """As if flash_attn were installed."""
    find = sft.importlib.util.find_spec
    monkeypatch.setattr(
        sft.importlib.util, "find_spec", lambda name, *a: object() if name == "flash_attn" else find(name, *a)
    )


ASKED = [(False, False), (True, False), (False, True), (True, True)]


@pytest.mark.parametrize(("packing", "padding_free"), ASKED)
def test_rows_are_padded_where_flash_attention_is_missing_and_the_record_says_so(params, packing, padding_free):
    layout = sft.batching(with_sft(params, packing=packing, padding_free=padding_free).sft, "cpu")
    assert (layout["attention"], layout["packing"], layout["padding_free"]) == ("sdpa", False, False)
    assert ("flash_attn" in layout["note"]) == (packing or padding_free)


@pytest.mark.parametrize(("packing", "padding_free"), ASKED)
def test_with_flash_attention_the_layout_is_what_was_asked(params, flash, packing, padding_free):
    layout = sft.batching(with_sft(params, packing=packing, padding_free=padding_free).sft, "cuda")
    asked = packing or padding_free
    assert layout == {
        "attention": "flash_attention_2" if asked else "sdpa", "packing": packing, "padding_free": asked, "note": "",
    }  # fmt: skip
    assert sft.batching(with_sft(params, packing=packing).sft, "cpu")["packing"] is False


def test_the_configuration_follows_the_layout(params, tmp_path, monkeypatch):
    layout = {"attention": "flash_attention_2", "packing": True, "padding_free": True, "note": ""}
    monkeypatch.setattr(sft, "batching", lambda settings, device: layout)
    many = with_sft(params, max_steps=0, epochs=3.0, evaluations=20)
    config = sft.config(many, 1000, tmp_path, "</s>")
    assert config.packing and config.padding_free and config.max_length == params.sft.max_length
    assert config.max_steps == -1 and config.num_train_epochs == 3.0 and config.eval_steps == config.save_steps == 0.05
    assert config.eval_packing is False
    layout["packing"] = False
    config = sft.config(many, 1000, tmp_path, "</s>")
    assert not config.packing and config.padding_free and config.max_length is None  # trl refuses both


def test_trackers_are_passed_through(tree, tmp_path):
    assert sft.config(with_sft(load("smoke"), report_to=["tensorboard"]), 9, tmp_path, "</s>").report_to == [
        "tensorboard"
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("sft.report_to=[wandbb]", "did you mean 'wandb'"),
        ("sft.country=usa", "three capital letters"),
        ("sft.samples=-1", "must lie between 0"),
        ("sft.sample_tokens=0", "must lie between 1"),
    ],
)
def test_parameters_that_cannot_be_used_are_refused(tree, change, message):
    with pytest.raises(ParameterError, match=message):
        load("smoke", change)


@pytest.fixture
def quantized(tiny_llama, tmp_path):
    """Make a tiny NF4 Llama with a LoRA adapter in training; `keep` as the helper loads it, or as transformers does."""
    tiny_llama().to(torch.bfloat16).save_pretrained(tmp_path / "tiny")

    def make(params, keep: bool):
        weights = Weights(str(tmp_path / "tiny"), "")
        if keep:
            base = loading.quantized(weights, "bfloat16")
        else:
            base = loading.AutoModelForCausalLM.from_pretrained(
                weights.path, quantization_config=loading.nf4(), dtype=torch.bfloat16, device_map={"": "cpu"}
            )
        model = get_peft_model(base, sft.lora(params.sft))
        sft.settle_adapter(model, "base")
        generator = torch.Generator().manual_seed(1)
        for name, weight in model.named_parameters():
            if weight.requires_grad:
                assert weight.dtype == torch.float32
                if "lora_B" in name:
                    weight.data = torch.randn(weight.shape, generator=generator) * 0.05
        return model.train()

    return make


def gradients(model) -> dict[str, torch.Tensor]:
    """LoRA gradients of one fixed batch."""
    model.zero_grad()
    ids = torch.arange(3, 67).reshape(2, 32)
    model(input_ids=ids, labels=ids).loss.backward()
    return {n: w.grad.clone() for n, w in model.named_parameters() if w.requires_grad}


def evaluate(model) -> None:
    """What an evaluation in the middle of training does."""
    model.eval()
    with torch.no_grad():
        model(input_ids=torch.arange(3, 35).reshape(1, 32))
    model.train()


def test_an_evaluation_leaves_the_lora_gradients_as_they_were(quantized, params):
    model = quantized(params, keep=True)
    before = gradients(model)
    assert before and all(g.abs().max() > 0 for g in before.values())
    evaluate(model)
    after = gradients(model)
    for name in before:
        assert torch.equal(before[name], after[name]), name


@pytest.mark.filterwarnings("ignore:bitsandbytes..gemv_4bit")
def test_without_the_switch_gradients_are_wrong_on_such_a_cpu(quantized, params):
    """The trap that `keep_unpacked` is for: if this fails, bitsandbytes has mended it."""
    from bitsandbytes.functional import has_avx512bf16

    if not has_avx512bf16():
        pytest.skip("this CPU has no AVX512-BF16, where the trap lies")
    model = quantized(params, keep=False)
    before = gradients(model)
    evaluate(model)
    after = gradients(model)
    wrong = [name for name in before if (after[name] - before[name]).norm() > 0.2 * before[name].norm()]
    assert len(wrong) > len(before) / 2


@pytest.fixture
def trainer_in(quantized, params, tok):
    """Make a trainer of two steps that keeps its checkpoints in a folder; `changes` go into the training section."""
    frame = pd.DataFrame(
        {
            "question": [f"Why is {w} here?" for w in ("rain", "the cat", "the sun", "light")],
            "answer": ["It was warm.", "So.", "The cat sat on the mat because it was warm.", "It was warm."],
        }
    )
    base = params
    usual = {
        "max_steps": 2,
        "batch_size": 1,
        "accumulation": 2,
        "patience": 0,
        "evaluations": 2,
        "samples": 0,
        "country": "",
    }

    def make(folder, kind=Trainer, **changes):
        params = with_sft(base, **(usual | changes))
        rows, _ = sft.rows(frame, params, tok)
        folder.mkdir(exist_ok=True)
        torch.manual_seed(0)
        trainer = kind(
            model=quantized(params, keep=True), args=sft.config(params, len(rows), folder, tok.eos_token), train_dataset=rows,
            eval_dataset=rows, processing_class=tok, callbacks=callbacks.callbacks(params.sft, folder, tok, list(rows["prompt"])),
        )  # fmt: skip
        sft.settle_adapter(trainer.model, "base")
        return trainer

    return make


def test_the_loss_counts_on_the_answer_and_its_end_of_sequence_only(trainer_in, tok, tmp_path):
    trainer = trainer_in(tmp_path / "run")
    prompt = tok("### Human: Why is rain here?\n ### Assistant:")["input_ids"]
    batch = trainer.data_collator([trainer.train_dataset[0]])
    ids, labels = batch["input_ids"][0].tolist(), batch["labels"][0].tolist()
    assert ids == [*prompt, *tok(" It was warm.", add_special_tokens=False)["input_ids"], tok.eos_token_id]
    assert labels == [-100] * len(prompt) + ids[len(prompt) :]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Could not find a config file in base")
def test_a_killed_training_goes_on_to_the_same_adapter(trainer_in, tmp_path):
    """Two steps at once, or one, a stop, and one more from the checkpoint: the same bytes."""
    from safetensors.torch import load_file

    def trained(folder, stop_at: int | None = None):
        trainer = trainer_in(folder)
        if stop_at:
            trainer.add_callback(Stop(stop_at))
        trainer.train(resume_from_checkpoint=callbacks.last_checkpoint(folder))
        trainer.save_model(folder / "adapter")
        return load_file(folder / "adapter" / "adapter_model.safetensors")

    whole = trained(tmp_path / "whole")
    trained(tmp_path / "cut", stop_at=1)
    assert callbacks.last_checkpoint(tmp_path / "cut").endswith("checkpoint-1")
    resumed = trained(tmp_path / "cut")
    assert whole and set(whole) == set(resumed)
    saved = json.loads((tmp_path / "cut" / "adapter" / "adapter_config.json").read_text())
    assert saved["base_model_name_or_path"] == "base"  # not the folder on this machine
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    log = [json.loads(line) for line in (tmp_path / "cut" / "log.jsonl").read_text().splitlines()]
    assert {row["step"] for row in log} >= {1, 2}
    assert callbacks.curve(tmp_path / "cut")["train_loss"].notna().all()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Could not find a config file in base")
def test_a_training_killed_in_its_second_epoch_goes_on_with_the_same_rows(trainer_in, tmp_path):
    """Two steps an epoch, stopped after the third: what transformers would redraw is the order of the first epoch."""
    for name, stops in {"whole": [None], "cut": [3, None]}.items():
        for stop in stops:
            trainer = trainer_in(tmp_path / name, max_steps=6, evaluations=6)
            if stop:
                trainer.add_callback(Stop(stop))
            trainer.train(resume_from_checkpoint=callbacks.last_checkpoint(tmp_path / name))
        trainer.save_model(tmp_path / name / "adapter")
    losses = [callbacks.curve(tmp_path / name)["train_loss"].tolist() for name in ("whole", "cut")]
    assert losses[0] == losses[1] and same(adapter(tmp_path / "whole"), adapter(tmp_path / "cut"))


def test_the_adapters_configuration_lists_its_layers_in_order(quantized, params, tmp_path):
    model = quantized(params, keep=True)
    model.save_pretrained(tmp_path / "adapter")
    saved = json.loads((tmp_path / "adapter/adapter_config.json").read_text())
    assert saved["target_modules"] == sorted(saved["target_modules"]) and len(saved["target_modules"]) >= 7


class Stop(TrainerCallback):
    """End the run after a step, as a kill would."""

    def __init__(self, step: int):
        self.step = step

    def on_step_end(self, args, state, control, **_):
        control.should_training_stop = state.global_step >= self.step
        return control


def test_the_loss_and_its_gradients_are_those_of_all_logits(trainer_in, tmp_path):
    """Ours against trl's own on the same padded batch, and against the definition."""
    from trl import SFTTrainer

    found = {}
    for kind in (Trainer, SFTTrainer):
        trainer = trainer_in(tmp_path / kind.__name__, kind)
        batch = trainer.data_collator([trainer.train_dataset[i] for i in range(4)])
        assert (batch["attention_mask"] == 0).any() and (batch["labels"] == -100).any()
        for n in (None, torch.tensor(50)):
            trainer.model.zero_grad()
            loss = trainer.compute_loss(trainer.model, dict(batch), num_items_in_batch=n)
            loss.backward()
            gradients = {k: w.grad.clone() for k, w in trainer.model.named_parameters() if w.requires_grad}
            found[kind, n is None] = (loss.item(), gradients)
    for per_batch in (True, False):
        (ours, gradients), (trls, others) = found[Trainer, per_batch], found[SFTTrainer, per_batch]
        assert ours == pytest.approx(trls, rel=2e-3)
        for name, gradient in gradients.items():
            assert (gradient - others[name]).norm() < 0.02 * others[name].norm(), name
    with torch.no_grad():
        logits = (
            trainer.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1].float()
        )
        kept = batch["labels"][:, 1:] != -100
        expected = torch.nn.functional.cross_entropy(logits[kept], batch["labels"][:, 1:][kept])
    assert found[Trainer, True][0] == pytest.approx(expected.item(), rel=5e-3)
    assert found[Trainer, False][0] == pytest.approx(expected.item() * kept.sum().item() / 50, rel=5e-3)


def test_rows_without_a_learnt_token_are_counted_packed_ones_too(trainer_in, tmp_path):
    assert masked(trainer_in(tmp_path / "run").train_dataset) == 0
    rows = [{"labels": [-100, 5]}, {"labels": [-100, -100]}]
    packed = [{"labels": [-100, 5, -100, -100, -100, 6], "seq_lengths": [2, 2, 2]}]
    assert masked(rows) == 1 and masked(packed) == 1


def adapter(folder) -> dict[str, torch.Tensor]:
    """Weights of a saved adapter."""
    from safetensors.torch import load_file

    return load_file(folder / "adapter" / "adapter_model.safetensors")


def same(one: dict, other: dict) -> bool:
    """Whether two adapters are equal to the bit."""
    return bool(one) and set(one) == set(other) and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Could not find a config file in base")
def test_sample_answers_do_not_change_the_training(trainer_in, tmp_path):
    for name, changes in {"without": {}, "with": {"samples": 2, "sample_tokens": 4}}.items():
        trainer = trainer_in(tmp_path / name, dropout=0.1, max_steps=4, **changes)
        trainer.train()
        trainer.save_model(tmp_path / name / "adapter")
    assert same(adapter(tmp_path / "without"), adapter(tmp_path / "with"))
    rows = artefacts.read_jsonl(tmp_path / "with" / "samples.jsonl")
    assert [row["step"] for row in rows] == [2, 2, 4, 4] and all(row["n_tokens"] <= 4 for row in rows)
    assert len({row["prompt"] for row in rows}) == 2 and not (tmp_path / "without" / "samples.jsonl").exists()


@pytest.mark.slow
def test_the_result_counts_rows_tokens_and_cost(trainer_in, tmp_path):
    folder = tmp_path / "run"
    trainer = trainer_in(folder, country="USA")
    trainer.evaluate()
    trainer.train()
    found = callbacks.result(trainer, folder, {"rows_too_long": 3})
    assert (found["steps"], found["rows_too_long"], found["processes"]) == (2, 3, 1)
    logged = [row["eval_loss"] for row in artefacts.read_jsonl(folder / "log.jsonl") if "eval_loss" in row]
    assert (found["eval_loss_before"], found["eval_loss_after"]) == (logged[0], logged[-1])
    assert found["tokens"] == sum(len(row["input_ids"]) for row in trainer.train_dataset)  # one epoch, no padding
    assert found["kwh"] > 0 and found["co2_kg"] > 0 and found["seconds"] > 0
    assert found["peak_memory_mb"] > 100 and found["peak_gpu_mb"] == 0
    assert {"seconds", "kwh", "co2_kg"} < set(found) and set(callbacks.MACHINE) < set(found)


@pytest.mark.slow
def test_out_of_memory_names_what_to_change_and_a_rerun_goes_on(trainer_in, params, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    trainer = trainer_in(folder)
    step = type(trainer).training_step

    def starved(self, *args, **kwargs):
        if self.state.global_step == 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return step(self, *args, **kwargs)

    monkeypatch.setattr(Trainer, "training_step", starved)
    wanted = "sft.batch_size 2.*sft.accumulation.*sft.gradient_checkpointing.*goes on from the last whole checkpoint"
    with pytest.raises(TrainingError, match=wanted), explained(params):
        trainer.train()
    assert callbacks.last_checkpoint(folder).endswith("checkpoint-1")
    monkeypatch.undo()
    trainer = trainer_in(folder)
    trainer.train(resume_from_checkpoint=callbacks.last_checkpoint(folder))
    assert trainer.state.global_step == 2


FULL = [
    OSError(errno.ENOSPC, "No space left on device"),
    RuntimeError(
        "[enforce fail at inline_container.cc:858] . PytorchStreamWriter failed writing file data/0: file write failed"
    ),
]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Could not find a config file in base")
@pytest.mark.parametrize("error", FULL)
def test_a_full_disk_leaves_a_checkpoint_that_is_not_used(trainer_in, params, tmp_path, monkeypatch, error):
    whole = trainer_in(tmp_path / "whole")
    whole.train()
    whole.save_model(tmp_path / "whole" / "adapter")
    folder = tmp_path / "run"
    trainer = trainer_in(folder)
    write = trainer._save_optimizer_and_scheduler

    def full(output_dir):
        if trainer.state.global_step == 2:  # the adapter is written already
            raise error
        write(output_dir)

    monkeypatch.setattr(trainer, "_save_optimizer_and_scheduler", full)
    with (
        pytest.raises(TrainingError, match="the disk is full.*Make room.*goes on from the last whole"),
        explained(params),
    ):
        trainer.train()
    assert (folder / "checkpoint-2").is_dir() and callbacks.last_checkpoint(folder).endswith("checkpoint-1")
    trainer = trainer_in(folder)
    trainer.train(resume_from_checkpoint=callbacks.last_checkpoint(folder))
    trainer.save_model(folder / "adapter")
    assert same(adapter(tmp_path / "whole"), adapter(folder))


def test_a_gated_model_names_the_page_and_the_token(tree, monkeypatch):
    params = load("a100-7b")
    refused = GatedRepoError(
        "401 Client Error", response=httpx.Response(401, request=httpx.Request("GET", "https://x"))
    )

    def gated(*args, **kwargs):
        raise OSError("You are trying to access a gated repo.") from refused

    monkeypatch.setattr(loading.AutoTokenizer, "from_pretrained", gated)
    with pytest.raises(TrainingError) as caught, explained(params):
        loading.tokenizer(params.model.base)
    assert "https://huggingface.co/meta-llama/Llama-2-7b-hf" in str(caught.value) and "HF_TOKEN" in str(caught.value)


def test_other_errors_are_left_alone(params):
    with pytest.raises(OSError, match="Permission denied"), explained(params):
        raise OSError(errno.EACCES, "Permission denied")
    with pytest.raises(TrainingError, match="not a number"), explained(params):
        raise TrainingError("the loss is not a number")


def environment() -> dict:
    """What a process needs to run this copy."""
    return os.environ | {"S2_ROOT": str(REPOSITORY), "PYTHONPATH": str(REPOSITORY)}


TRAINING = """
import json, sys
from pathlib import Path
import torch
from s2utils.training import sft as train
from s2utils.workflow.params import load
base, data, folder, changes = sys.argv[1:]
torch.set_num_threads(1)
p = load("smoke", {"model": {"base": {"path": base}}, "sft": json.loads(changes)})
train.run(p, Path(data), "sciq", Path(folder))
"""


@pytest.mark.slow
def test_five_kills_at_random_moments_end_in_the_same_adapter(tiny_base, tmp_path):
    """SIGKILL wherever it hits: a step, an evaluation, an answer, a checkpoint half written, in any epoch."""
    settings = {"max_steps": 40, "evaluations": 13, "dropout": 0.1, "accumulation": 2, "patience": 0, "country": ""}
    data = write_rows(tmp_path / "data", train=20, validation=4)  # 5 steps an epoch, a checkpoint every 3

    def start(folder) -> subprocess.Popen:
        folder.mkdir(exist_ok=True)
        command = [sys.executable, "-c", TRAINING, str(tiny_base), str(data), str(folder), json.dumps(settings)]
        with open(folder / "output.txt", "w") as output:
            return subprocess.Popen(command, env=environment(), stdout=output, stderr=output)

    def lines(folder) -> int:
        log = folder / "log.jsonl"
        return log.read_bytes().count(b"\n") if log.is_file() else 0

    def logged(process, folder, more: int) -> None:
        """Wait until the attempt has logged."""
        before, deadline = lines(folder), time.time() + 120
        while lines(folder) < before + more and process.poll() is None and time.time() < deadline:
            time.sleep(0.01)

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    process = start(whole)
    logged(process, whole, 1)
    began = time.time()
    assert process.wait(timeout=200) == 0, (whole / "output.txt").read_text()[-2000:]
    seconds, chance, resumed = time.time() - began, random.Random(), []
    for _ in range(5):
        process = start(cut)
        logged(process, cut, 1)
        time.sleep(chance.uniform(0, seconds / 6))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, (cut / "output.txt").read_text()[-2000:]
        resumed.append(callbacks.last_checkpoint(cut))
    process = start(cut)
    assert process.wait(timeout=200) == 0, (cut / "output.txt").read_text()[-2000:]
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert (whole / name).read_bytes() == (cut / name).read_bytes(), (name, resumed)
    assert any(resumed), "no kill came after a checkpoint"
    assert not list(cut.glob("checkpoint-*"))
