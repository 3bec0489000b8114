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
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError
from peft import get_peft_model
from safetensors.torch import load_file
from transformers import EarlyStoppingCallback, TrainerCallback
from trl import SFTTrainer

from s2utils.models import loading
from s2utils.models.parameters import Weights
from s2utils.training import callbacks, distributed, sft
from s2utils.training.callbacks import Recorder, Samples
from s2utils.training.failures import TrainingError, explained
from s2utils.training.trainer import Batches, Trainer, masked
from s2utils.workflow import artefacts
from s2utils.workflow.params import ParameterError, load

unsaved_base = pytest.mark.filterwarnings("ignore:Could not find a config file in base")


@pytest.fixture
def params(tree):
    return load("smoke")


def with_sft(params, **changes):
    """Parameters with another training section."""
    return params.model_copy(update={"sft": params.sft.model_copy(update=changes)})


def rows_of(params, tok, *answers: str, **changes):
    """(rows, dropped) of these answers to "Why?"."""
    frame = pd.DataFrame({"question": ["Why?"] * len(answers), "answer": answers})
    return sft.rows(frame, with_sft(params, **changes), tok)


def test_rows_hold_prompt_and_answer_and_the_over_long_are_counted(params, tok):
    prompt, answer = "### Human: Why?\n ### Assistant:", "Light from the sun."
    rows, dropped = rows_of(params, tok, answer, "Rain " * 200, "The cat.", max_length=64)
    assert [(row["prompt"], row["completion"]) for row in rows] == [(prompt, f" {answer}"), (prompt, " The cat.")]
    assert dropped == 1
    asked = tok(prompt)["input_ids"]
    for row in rows:
        assert row["input_ids"] == [*tok(prompt + row["completion"])["input_ids"], tok.eos_token_id]
        assert row["input_ids"][: len(asked)] == asked and row["completion_mask"].index(1) == len(asked)
    length = len(rows[0]["input_ids"])
    for limit, kept in ((length, 1), (length - 1, 0), (2, 0)):
        rows, dropped = rows_of(params, tok, answer, max_length=limit)
        assert (len(rows), dropped) == (kept, 1 - kept)


@pytest.mark.parametrize(
    ("max_steps", "epochs", "batch", "accumulated", "n", "steps"),
    [(0, 3.0, 16, 8, 38595, 905), (0, 1.0, 4, 2, 3, 1), (20, 3.0, 16, 8, 38595, 20)],
)
def test_steps(params, max_steps, epochs, batch, accumulated, n, steps):
    sizes = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": accumulated}
    changed = with_sft(params, max_steps=max_steps, num_train_epochs=epochs, **sizes)
    assert sft.steps(changed.sft, n) == steps


def test_the_configuration_of_the_cpu_profile(params, tmp_path, monkeypatch):
    wanted, config = params.sft, sft.config(params, 100, tmp_path, "</s>")
    for name in ("max_steps", "learning_rate", "max_length"):
        assert getattr(config, name) == getattr(wanted, name)
    assert config.completion_only_loss is True and config.eos_token == "</s>" and not config.packing
    assert (config.seed, config.data_seed) == (42, 42) and config.use_cpu and config.report_to == []
    assert config.load_best_model_at_end and config.eval_steps == config.save_steps
    other = sft.config(with_sft(params, seed=7, report_to=["tensorboard"]), 100, tmp_path, "</s>")
    assert (other.seed, other.data_seed, other.report_to) == (7, 7, ["tensorboard"])
    monkeypatch.setattr(sft.SFTConfig, "n_gpu", property(lambda args: 8))
    assert sft.config(params, 100, tmp_path, "</s>").n_gpu == 1, "one process takes one GPU of those it sees"


def test_the_configuration_of_the_study(tree, tmp_path):
    """Its fields; bf16 and the device are put to the CPU, which is all that a GPU would change here."""
    params = load("a100-7b", {"runtime": {"device": "cpu"}})
    lora = sft.lora(params.sft)
    assert (lora.r, lora.lora_alpha, lora.lora_dropout) == (64, 16, 0.1)
    assert (lora.target_modules, lora.bias) == ("all-linear", "none")
    config = sft.config(params, 38595, tmp_path, "</s>")
    assert config.per_device_train_batch_size * config.gradient_accumulation_steps == 128
    assert config.max_steps == 905 and config.eval_steps == config.save_steps == 45
    assert config.optim == "paged_adamw_8bit" and config.weight_decay == 0.1 and config.warmup_steps == 0.03
    assert config.bf16 and config.gradient_checkpointing and config.max_length == 1024
    every = [Recorder, Samples, EarlyStoppingCallback]
    for changes, kinds in (({}, every), ({"samples": 0, "early_stopping_patience": 0}, every[:1])):
        settings = with_sft(params, country="", **changes).sft
        assert [type(c) for c in callbacks.callbacks(settings, tmp_path, None, ["a"])] == kinds


def test_processes_share_the_effective_batch(params, tmp_path):
    eight = with_sft(params, gradient_accumulation_steps=8)
    assert [sft.share(eight.sft, n) for n in (1, 2, 4, 8)] == [8, 4, 2, 1]
    assert sft.config(eight, 100, tmp_path, "</s>", 4).gradient_accumulation_steps == 2
    assert sft.config(eight, 100, tmp_path, "</s>", 4).max_steps == sft.config(eight, 100, tmp_path, "</s>").max_steps
    with pytest.raises(
        ParameterError, match="sft.gradient_accumulation_steps is 8 and 3 processes share it: make it a multiple of 3"
    ):
        sft.config(eight, 100, tmp_path, "</s>", 3)


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({}, "Set sft.optim=adamw_torch sft.samples=0 sft.early_stopping_patience=0$"),
        ({"samples": 0, "early_stopping_patience": 0}, "Set sft.optim=adamw_torch$"),
        ({"optim": "adamw_8bit", "samples": 0, "early_stopping_patience": 0}, "Set sft.optim=adamw_torch$"),
        ({"optim": "adamw_torch", "early_stopping_patience": 0}, "Set sft.samples=0$"),
        ({"optim": "adamw_torch", "samples": 0}, "Set sft.early_stopping_patience=0$"),
    ],
)
def test_what_a_sharded_model_cannot_be_trained_with_is_refused(tree, changes, wanted):
    with pytest.raises(ParameterError, match=wanted):
        distributed.check_sharding(with_sft(load("a100-13b"), **changes))
    distributed.check_sharding(with_sft(load("a100-13b"), optim="adamw_torch", samples=0, early_stopping_patience=0))


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
    batches = torch.tensor([lengths[i] for i in first]).reshape(8, 8)[1:].float()
    assert (batches.amax(1) - batches.amin(1)).mean() < 40  # rows beside rows of like length; all lengths span 63


@pytest.fixture
def flash(monkeypatch):
    """As if flash_attn were installed."""
    find = sft.importlib.util.find_spec
    monkeypatch.setattr(
        sft.importlib.util, "find_spec", lambda name, *a: object() if name == "flash_attn" else find(name, *a)
    )


@pytest.mark.parametrize("packing", [False, True])
@pytest.mark.parametrize("padding_free", [False, True])
def test_rows_are_padded_where_flash_attention_is_missing_and_the_record_says_so(params, flash, packing, padding_free):
    settings, asked = with_sft(params, packing=packing, padding_free=padding_free).sft, packing or padding_free
    layout = sft.batching(settings, "cpu")
    assert (layout["attention"], layout["packing"], layout["padding_free"]) == ("sdpa", False, False)
    assert ("flash_attn" in layout["note"]) == asked
    attention = "flash_attention_2" if asked else "sdpa"
    assert sft.batching(settings, "cuda") == {
        "attention": attention, "packing": packing, "padding_free": asked, "note": ""
    }  # fmt: skip


def test_the_configuration_follows_the_layout(params, tmp_path, monkeypatch):
    layout = {"attention": "flash_attention_2", "packing": True, "padding_free": True, "note": ""}
    monkeypatch.setattr(sft, "batching", lambda settings, device: layout)
    many = with_sft(params, max_steps=0, num_train_epochs=3.0, evaluations=20)
    config = sft.config(many, 1000, tmp_path, "</s>")
    assert config.packing and config.padding_free and config.max_length == params.sft.max_length
    assert config.max_steps == -1 and config.num_train_epochs == 3.0 and config.eval_steps == config.save_steps == 0.05
    assert config.eval_packing is False
    layout["packing"] = False
    config = sft.config(many, 1000, tmp_path, "</s>")
    assert not config.packing and config.padding_free and config.max_length is None  # trl refuses both


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("sft.report_to=[wandbb]", "did you mean 'wandb'"),
        ("sft.country=usa", "three capital letters"),
        ("sft.samples=-1", "must be int from 0"),
        ("sft.sample_tokens=0", "must be int from 1"),
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
        weights = Weights(path=str(tmp_path / "tiny"), revision="")
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
    words = ("rain", "the cat", "the sun", "light")
    answers = ["It was warm.", "So.", "The cat sat on the mat because it was warm.", "It was warm."]
    frame = pd.DataFrame({"question": [f"Why is {word} here?" for word in words], "answer": answers})
    usual = {
        "max_steps": 2, "per_device_train_batch_size": 1, "gradient_accumulation_steps": 2,
        "early_stopping_patience": 0, "evaluations": 2, "samples": 0,
        "country": "",
    }  # fmt: skip
    base = params

    def make(folder, kind=Trainer, **changes):
        params = with_sft(base, **(usual | changes))
        rows, _ = sft.rows(frame, params, tok)
        folder.mkdir(exist_ok=True)
        torch.manual_seed(0)
        trainer = kind(
            model=quantized(params, keep=True),
            args=sft.config(params, len(rows), folder, tok.eos_token),
            train_dataset=rows,
            eval_dataset=rows,
            processing_class=tok,
            callbacks=callbacks.callbacks(params.sft, folder, tok, list(rows["prompt"])),
        )
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


def trained(trainer_in, folder, stops=(None,), **changes) -> dict[str, torch.Tensor]:
    """The adapter after one attempt for each of `stops`, which names the step after which it is cut."""
    for stop in stops:
        trainer = trainer_in(folder, **changes)
        if stop:
            trainer.add_callback(Stop(stop))
        trainer.train(resume_from_checkpoint=callbacks.last_checkpoint(folder))
    trainer.save_model(folder / "adapter")
    return load_file(folder / "adapter" / "adapter_model.safetensors")


def same(one: dict, other: dict) -> bool:
    """Whether two adapters are equal to the bit."""
    return bool(one) and set(one) == set(other) and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
@unsaved_base
@pytest.mark.parametrize(
    ("stop", "changes"),
    [(1, {}), (3, {"max_steps": 6, "evaluations": 6})],  # where transformers redraws the first
    ids=["first epoch", "second epoch"],
)
def test_a_killed_training_goes_on_to_the_same_adapter(trainer_in, tmp_path, stop, changes):
    whole = trained(trainer_in, tmp_path / "whole", **changes)
    assert same(whole, trained(trainer_in, tmp_path / "cut", (stop, None), **changes))
    saved = json.loads((tmp_path / "cut" / "adapter" / "adapter_config.json").read_text())
    assert saved["base_model_name_or_path"] == "base"  # not the folder on this machine
    losses = [callbacks.curve(tmp_path / name)["train_loss"] for name in ("whole", "cut")]
    assert losses[0].notna().all() and losses[0].tolist() == losses[1].tolist()


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
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        logits = trainer.model(**inputs).logits[:, :-1].float()
        kept = batch["labels"][:, 1:] != -100
        expected = torch.nn.functional.cross_entropy(logits[kept], batch["labels"][:, 1:][kept])
    assert found[Trainer, True][0] == pytest.approx(expected.item(), rel=5e-3)
    assert found[Trainer, False][0] == pytest.approx(expected.item() * kept.sum().item() / 50, rel=5e-3)


def test_rows_without_a_learnt_token_are_counted_packed_ones_too(trainer_in, tmp_path):
    assert masked(trainer_in(tmp_path / "run").train_dataset) == 0
    rows = [{"labels": [-100, 5]}, {"labels": [-100, -100]}]
    packed = [{"labels": [-100, 5, -100, -100, -100, 6], "seq_lengths": [2, 2, 2]}]
    assert masked(rows) == 1 and masked(packed) == 1


@pytest.mark.slow
@unsaved_base
def test_sample_answers_do_not_change_the_training(trainer_in, tmp_path):
    usual, samples = {"lora_dropout": 0.1, "max_steps": 4}, {"samples": 2, "sample_tokens": 4}
    without = trained(trainer_in, tmp_path / "without", **usual)
    assert same(without, trained(trainer_in, tmp_path / "with", **usual, **samples))
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
    wanted = (
        "sft.per_device_train_batch_size 2.*sft.gradient_accumulation_steps.*sft.gradient_checkpointing.*goes on "
        "from the last whole checkpoint"
    )
    with pytest.raises(TrainingError, match=wanted), explained(params):
        trainer.train()
    assert callbacks.last_checkpoint(folder).endswith("checkpoint-1")
    monkeypatch.undo()
    assert trained(trainer_in, folder) and len(callbacks.curve(folder)["train_loss"].dropna()) == 2


FULL = [
    OSError(errno.ENOSPC, "No space left on device"),
    RuntimeError("[enforce fail at inline_container.cc:858] . PytorchStreamWriter failed writing file data/0: write"),
]


@pytest.mark.slow
@unsaved_base
@pytest.mark.parametrize("error", FULL)
def test_a_full_disk_leaves_a_checkpoint_that_is_not_used(trainer_in, params, tmp_path, monkeypatch, error):
    folder = tmp_path / "run"
    trainer = trainer_in(folder)
    write = trainer._save_optimizer_and_scheduler

    def full(output_dir):
        if trainer.state.global_step == 2:  # the adapter is written already
            raise error
        write(output_dir)

    monkeypatch.setattr(trainer, "_save_optimizer_and_scheduler", full)
    wanted = "the disk is full.*Make room.*goes on from the last whole"
    with pytest.raises(TrainingError, match=wanted), explained(params):
        trainer.train()
    assert (folder / "checkpoint-2").is_dir() and callbacks.last_checkpoint(folder).endswith("checkpoint-1")
    assert same(trained(trainer_in, tmp_path / "whole"), trained(trainer_in, folder))


@pytest.mark.parametrize(("kind", "status"), [(GatedRepoError, 401), (HfHubHTTPError, 401), (HfHubHTTPError, 403)])
def test_a_gated_model_names_the_page_and_the_token(tree, monkeypatch, kind, status):
    params = load("a100-7b")
    response = httpx.Response(status, request=httpx.Request("GET", "https://x"))
    refused = kind("Client Error", response=response)

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


TRAINING = """
import json, sys
from pathlib import Path
import torch
from s2utils.training import sft
from s2utils.workflow.params import load
base, data, folder, changes = sys.argv[1:]
torch.set_num_threads(1)
p = load("smoke", {"model": {"base": {"path": base}}, "sft": json.loads(changes)})
sft.run(p, Path(data), "sciq", Path(folder))
"""


@pytest.mark.slow
def test_five_kills_at_random_moments_end_in_the_same_adapter(tiny_base, tmp_path):
    """SIGKILL wherever it hits: a step, an evaluation, an answer, a checkpoint half written, in any epoch."""
    settings = {"max_steps": 40, "evaluations": 13, "lora_dropout": 0.1, "gradient_accumulation_steps": 2}
    settings |= {"early_stopping_patience": 0, "country": ""}
    data = write_rows(tmp_path / "data", train=20, validation=4)  # 5 steps an epoch, a checkpoint every 3

    def start(folder) -> subprocess.Popen:
        folder.mkdir(exist_ok=True)
        command = [sys.executable, "-c", TRAINING, str(tiny_base), str(data), str(folder), json.dumps(settings)]
        here = os.environ | {"S2_ROOT": str(REPOSITORY), "PYTHONPATH": str(REPOSITORY)}
        with open(folder / "output.txt", "w") as output:
            return subprocess.Popen(command, env=here, stdout=output, stderr=output)

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
    assert process.wait(timeout=200) == 0, (whole / "output.txt").read_text()[-2000:]
    most, chance, resumed = lines(whole) // 8, random.Random(), []  # by what was logged: a busy machine gets no further
    for _ in range(5):
        process = start(cut)
        logged(process, cut, chance.randint(1, most))
        time.sleep(chance.uniform(0, 0.1))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, (cut / "output.txt").read_text()[-2000:]
        resumed.append(callbacks.last_checkpoint(cut))
    process = start(cut)
    assert process.wait(timeout=200) == 0, (cut / "output.txt").read_text()[-2000:]
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert (whole / name).read_bytes() == (cut / name).read_bytes(), (name, resumed)
    assert any(resumed), "no kill came after a checkpoint"
    assert not list(cut.glob("checkpoint-*"))
