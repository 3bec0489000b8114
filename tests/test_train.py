import dataclasses
import json
import math
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
import yaml
from peft import get_peft_model

from s2utils import artefacts, models, train
from s2utils.params import Weights, load
from s2utils.train import Recorder, TrainingError


@pytest.fixture
def tok(llama2):
    return models.prepared(llama2)


@pytest.fixture
def params(tree):
    return load("smoke")


def with_sft(params, **changes):
    """Parameters with another training section."""
    return dataclasses.replace(params, sft=dataclasses.replace(params.sft, **changes))


def test_rows_hold_prompt_and_answer_and_the_over_long_are_counted(params, tok):
    frame = pd.DataFrame({"question": ["Why?", "How?", "Who?"], "answer": ["Light.", "Rain " * 200, "The cat."]})
    rows, dropped = train.rows(frame, with_sft(params, max_length=64), tok)
    assert rows.to_list() == [
        {"prompt": "### Human: Why?\n ### Assistant:", "completion": " Light."},
        {"prompt": "### Human: Who?\n ### Assistant:", "completion": " The cat."},
    ]
    assert dropped == 1


def test_a_row_of_exactly_the_limit_with_its_end_of_sequence_stays(params, tok):
    frame = pd.DataFrame({"question": ["Why?"], "answer": ["Light from the sun."]})
    length = len(tok("### Human: Why?\n ### Assistant: Light from the sun.")["input_ids"]) + 1
    assert train.rows(frame, with_sft(params, max_length=length), tok)[1] == 0
    assert train.rows(frame, with_sft(params, max_length=length - 1), tok)[1] == 1


def test_every_row_too_long_is_no_row(params, tok):
    rows, dropped = train.rows(
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
    assert train.steps(with_sft(params, **changes).sft, n) == steps


def test_lora_is_the_studys(tree):
    config = train.lora(load("a100-7b").sft)
    assert (config.r, config.lora_alpha, config.lora_dropout, config.target_modules, config.bias) == (
        64,
        16,
        0.1,
        "all-linear",
        "none",
    )


def test_the_configuration_of_the_cpu_profile(params, tmp_path):
    config = train.config(params, 100, tmp_path, "</s>")
    sft = params.sft
    assert (config.max_steps, config.learning_rate, config.max_length) == (
        sft.max_steps,
        sft.learning_rate,
        sft.max_length,
    )
    assert config.completion_only_loss is True and config.eos_token == "</s>" and not config.packing
    assert (config.seed, config.data_seed) == (42, 42) and config.use_cpu and config.report_to == []
    assert config.load_best_model_at_end and config.eval_steps == config.save_steps


def test_the_configuration_of_the_study(tree, tmp_path):
    """Its fields; bf16 and the device are put to the CPU, which is all that a GPU would change here."""
    params = load("a100-7b", {"runtime": {"device": "cpu"}})
    config = train.config(params, 38595, tmp_path, "</s>")
    assert config.per_device_train_batch_size * config.gradient_accumulation_steps == 128
    assert config.max_steps == 905 and config.eval_steps == config.save_steps == 45
    assert config.optim == "paged_adamw_8bit" and config.weight_decay == 0.1 and config.warmup_steps == 0.03
    assert config.bf16 and config.gradient_checkpointing and config.max_length == 1024
    stopping = [c for c in train.callbacks(params.sft, tmp_path) if hasattr(c, "early_stopping_patience")]
    assert [c.early_stopping_patience for c in stopping] == [5]
    assert len(train.callbacks(dataclasses.replace(params.sft, patience=0), tmp_path)) == 1


def test_only_a_checkpoint_written_to_its_end_is_resumed_from(tmp_path):
    assert train.last_checkpoint(tmp_path) is None
    for step in (5, 90, 100):
        (tmp_path / f"checkpoint-{step}").mkdir()
    assert train.last_checkpoint(tmp_path) is None
    recorder = Recorder(tmp_path)
    for step in (5, 90):
        recorder.on_save(SimpleNamespace(output_dir=str(tmp_path)), SimpleNamespace(global_step=step), None)
    assert train.last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-90")


STATE = SimpleNamespace(global_step=7)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["loss", "eval_loss"])
def test_a_loss_that_is_no_number_stops_the_run(tmp_path, name, value):
    with pytest.raises(TrainingError, match="not a number at step 7: lower sft.learning_rate"):
        Recorder(tmp_path).on_log(None, STATE, None, logs={name: value})
    assert not (tmp_path / "log.jsonl").exists()


def test_what_is_logged_is_kept(tmp_path):
    recorder = Recorder(tmp_path)
    recorder.on_log(None, STATE, None, logs={"loss": 1.5, "grad_norm": math.nan})
    recorder.on_log(None, STATE, None, logs=None)
    rows = artefacts.read_jsonl(tmp_path / "log.jsonl")
    assert len(rows) == 2 and rows[0]["loss"] == 1.5 and rows[0]["step"] == 7


def test_the_curve_has_one_row_a_step_the_last_one_counting(tmp_path):
    artefacts.append_jsonl(
        tmp_path / "log.jsonl",
        [
            {"step": 1, "seconds": 1.0, "loss": 3.0},
            {"step": 2, "seconds": 2.0, "loss": 2.0},
            {"step": 2, "seconds": 2.5, "eval_loss": 2.2},
            {"step": 2, "seconds": 1.0, "loss": 2.1},  # killed and run again from step 1
            {"step": 2, "seconds": 1.5, "eval_loss": 2.3},
            {
                "step": 2,
                "seconds": 1.6,
                "train_loss": 2.55,
                "train_runtime": 1.6,
            },  # trl's closing line: a mean over all steps
        ],
    )
    curve = train.curve(tmp_path)
    assert curve["step"].tolist() == [1, 2]
    assert curve["train_loss"].tolist() == [3.0, 2.1]
    assert curve["eval_loss"].tolist()[1] == 2.3


def test_the_card_is_a_hub_card(params):
    text = train.card(params, "sciq", {"steps": 2})
    _, head, body = text.split("---\n", 2)
    assert yaml.safe_load(head)["base_model"] == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert yaml.safe_load(head)["library_name"] == "peft"
    assert "# SmolLM2-135M-sciq" in body and "| steps | 2 |" in body


@pytest.fixture
def quantized(tiny_llama, tmp_path):
    """Make a tiny NF4 Llama with a LoRA adapter in training; `keep` as the helper loads it, or as transformers does."""
    tiny_llama().to(torch.bfloat16).save_pretrained(tmp_path / "tiny")

    def make(params, keep: bool):
        weights = Weights(str(tmp_path / "tiny"), "")
        if keep:
            base = models.quantized(weights)
        else:
            base = models.AutoModelForCausalLM.from_pretrained(
                weights.path, quantization_config=models.nf4(), dtype=torch.bfloat16, device_map={"": "cpu"}
            )
        model = get_peft_model(base, train.lora(params.sft))
        train.settle_adapter(model, "base")
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
    """Make a trainer of two steps that keeps its checkpoints in a folder."""
    from trl import SFTTrainer

    frame = pd.DataFrame(
        {
            "question": [f"Why is {w} here?" for w in ("rain", "the cat", "the sun", "light")],
            "answer": ["It was warm."] * 4,
        }
    )
    params = with_sft(params, max_steps=2, batch_size=1, accumulation=2, patience=0, evaluations=2)

    def make(folder):
        rows, _ = train.rows(frame, params, tok)
        folder.mkdir(exist_ok=True)
        torch.manual_seed(0)
        trainer = SFTTrainer(
            model=quantized(params, keep=True), args=train.config(params, len(rows), folder, tok.eos_token), train_dataset=rows,
            eval_dataset=rows, processing_class=tok, callbacks=train.callbacks(params.sft, folder),
        )  # fmt: skip
        train.settle_adapter(trainer.model, "base")
        return trainer

    return make


def test_the_loss_counts_on_the_answer_and_its_end_of_sequence_only(trainer_in, tok, tmp_path):
    trainer = trainer_in(tmp_path / "run")
    prompt = tok("### Human: Why is rain here?\n ### Assistant:")["input_ids"]
    batch = trainer.data_collator([trainer.train_dataset[0]])
    ids, labels = batch["input_ids"][0].tolist(), batch["labels"][0].tolist()
    assert ids == [*prompt, *tok(" It was warm.", add_special_tokens=False)["input_ids"], tok.eos_token_id]
    assert labels == [-100] * len(prompt) + ids[len(prompt) :]


@pytest.mark.filterwarnings("ignore:Could not find a config file in base")
def test_a_killed_training_goes_on_to_the_same_adapter(trainer_in, tmp_path):
    """Two steps at once, or one, a stop, and one more from the checkpoint: the same bytes."""
    from safetensors.torch import load_file

    def trained(folder, stop_at: int | None = None):
        trainer = trainer_in(folder)
        if stop_at:
            trainer.add_callback(Stop(stop_at))
        trainer.train(resume_from_checkpoint=train.last_checkpoint(folder))
        trainer.save_model(folder / "adapter")
        return load_file(folder / "adapter" / "adapter_model.safetensors")

    whole = trained(tmp_path / "whole")
    trained(tmp_path / "cut", stop_at=1)
    assert train.last_checkpoint(tmp_path / "cut").endswith("checkpoint-1")
    resumed = trained(tmp_path / "cut")
    assert whole and set(whole) == set(resumed)
    saved = json.loads((tmp_path / "cut" / "adapter" / "adapter_config.json").read_text())
    assert saved["base_model_name_or_path"] == "base"  # not the folder on this machine
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    log = [json.loads(line) for line in (tmp_path / "cut" / "log.jsonl").read_text().splitlines()]
    assert {row["step"] for row in log} >= {1, 2}
    assert train.curve(tmp_path / "cut")["train_loss"].notna().all()


class Stop(train.TrainerCallback):
    """End the run after a step, as a kill would."""

    def __init__(self, step: int):
        self.step = step

    def on_step_end(self, args, state, control, **_):
        control.should_training_stop = state.global_step >= self.step
        return control


def test_a_counter_that_starts_again_is_summed_over_attempts():
    assert train.total([3, 7, 2, 5]) == 12
    assert train.total([]) == 0 and train.total([4, 4]) == 4
