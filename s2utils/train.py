"""What the training notebook needs around trl's SFTTrainer: rows, configuration, loss, resume, records.

Loss counts on the answer only, the end-of-sequence token included; losses are nats an answer token. Traps: a
half-written checkpoint raises on resume, so only one with our marker counts; LoRA weights start in bf16 but a
resume reloads them in float32, so they are cast once; anything that draws random numbers between two steps
(an evaluation, an answer) changes what follows, so it must give the state back.
"""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import logging
import math
import resource
import sys
import time
from pathlib import Path

import pandas as pd
import torch
from datasets import Dataset
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError
from peft import LoraConfig
from torch.nn.functional import cross_entropy
from transformers import EarlyStoppingCallback, PreTrainedTokenizerBase, TrainerCallback
from trl import SFTConfig, SFTTrainer

from s2utils import artefacts, generate, models, readability
from s2utils.params import Params, Sft

MARKER = "whole.json"


class TrainingError(RuntimeError):
    """Training went wrong in a way that more steps will not mend."""


def rows(frame: pd.DataFrame, params: Params, tok: PreTrainedTokenizerBase) -> tuple[Dataset, int]:
    """(prompt/completion rows, how many were dropped): rows over `sft.max_length` tokens are left out."""
    examples = [models.example(q, a, tok, params.model) for q, a in zip(frame["question"], frame["answer"])]
    lengths = [len(ids) + 1 for ids in tok([p + c for p, c in examples])["input_ids"]]  # + EOS
    kept = [{"prompt": p, "completion": c} for (p, c), n in zip(examples, lengths) if n <= params.sft.max_length]
    return Dataset.from_list(kept), len(frame) - len(kept)


def steps(sft: Sft, n_rows: int) -> int:
    """Optimiser steps of the run."""
    return sft.max_steps or max(1, math.ceil(sft.epochs * n_rows / (sft.batch_size * sft.accumulation)))


def lora(sft: Sft) -> LoraConfig:
    """LoRA on every linear layer."""
    return LoraConfig(
        r=sft.r, lora_alpha=sft.alpha, lora_dropout=sft.dropout, target_modules="all-linear", task_type="CAUSAL_LM"
    )


def batching(sft: Sft, device: str) -> dict:
    """How batches are laid out here: attention, packing, padding_free, and a note where it is not what was asked.

    Rows without padding need an attention that knows where each row ends, which only FlashAttention does; without it
    rows are padded, beside rows of about their length.
    """
    asked = sft.packing or sft.padding_free
    flash = device == "cuda" and importlib.util.find_spec("flash_attn") is not None
    missing = "sft.packing and sft.padding_free need a GPU with flash_attn installed; rows are padded in batches of like length"
    return {
        "attention": "flash_attention_2" if asked and flash else "sdpa",
        "packing": sft.packing and flash,
        "padding_free": asked and flash,
        "note": missing if asked and not flash else "",
    }


def config(params: Params, n_rows: int, folder: Path, eos: str) -> SFTConfig:
    """What trl is told for this profile; checkpoints go into `folder`."""
    sft, on_cpu = params.sft, params.runtime.device == "cpu"
    layout = batching(sft, params.runtime.device)
    total, every = steps(sft, n_rows), max(1, steps(sft, n_rows) // max(1, sft.evaluations))
    if layout["packing"]:  # how many sequences the rows fill is known to trl only: a share of the steps instead
        total, every = sft.max_steps or -1, min(0.99, 1 / max(1, sft.evaluations))
    return SFTConfig(
        output_dir=str(folder),
        max_steps=total,
        num_train_epochs=sft.epochs,
        per_device_train_batch_size=sft.batch_size,
        per_device_eval_batch_size=sft.batch_size,
        gradient_accumulation_steps=sft.accumulation,
        learning_rate=sft.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=sft.warmup,
        weight_decay=sft.weight_decay,
        optim=sft.optimizer,
        max_length=None if layout["padding_free"] and not layout["packing"] else sft.max_length,  # `rows` has cut them
        completion_only_loss=True,
        eos_token=eos,
        packing=layout["packing"],
        eval_packing=False,  # a validation loss is over the same rows whatever the layout
        padding_free=layout["padding_free"],
        gradient_checkpointing=sft.gradient_checkpointing,
        bf16=True,
        use_cpu=on_cpu,
        seed=params.seed,
        data_seed=params.seed,
        train_sampling_strategy="group_by_length",
        include_num_input_tokens_seen="non_padding",
        eval_strategy="steps",
        eval_steps=every,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=2,
        load_best_model_at_end=sft.patience > 0,
        metric_for_best_model="eval_loss",
        restore_callback_states_from_checkpoint=True,  # early stopping goes on counting after a kill
        logging_steps=1,
        logging_nan_inf_filter=False,
        report_to=sft.report_to,
        dataloader_pin_memory=not on_cpu,
        disable_tqdm=False,
    )


class Trainer(SFTTrainer):
    """SFTTrainer that, on a CPU, computes logits only where an answer token is predicted.

    There trl scores every position, prompts and padding too, computes the logits again in the backward pass and multiplies
    them in float32; that takes as long as all layers of a small model. Its token accuracy and entropy are left out. On a GPU
    trl's fused kernel skips the other positions itself.
    """

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Mean cross-entropy of the answer tokens, of all batches of a step where their number is given."""
        if self.args.device.type != "cpu" or return_outputs:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        labels = inputs["labels"][:, 1:]  # (B, T - 1): what each position predicts
        places = (labels != -100).any(0).nonzero().flatten()  # (P,)
        given = {k: v for k, v in inputs.items() if k != "labels"}
        logits = model(**given, logits_to_keep=places, use_cache=False).logits  # (B, P, V)
        loss = cross_entropy(logits.flatten(0, 1).float(), labels[:, places].flatten(), reduction="sum")
        if num_items_in_batch is None:
            return loss / (labels != -100).sum()
        # gradients are averaged over the processes, and the number of tokens is that of all
        workers = self.accelerator.num_processes if self.args.average_tokens_across_devices else 1
        return loss / num_items_in_batch * workers


def masked(rows: Dataset) -> int:
    """How many prepared rows hold no token that is learnt; a packed row counts as its parts."""
    lost = 0
    for row in rows:
        start = 0
        for length in row.get("seq_lengths") or [len(row["labels"])]:
            lost += all(label == -100 for label in row["labels"][start : start + length])
            start += length
    return lost


@contextlib.contextmanager
def explained(params: Params):
    """Turn the failures a user can mend (memory, disk, access) into a TrainingError that says how."""
    rerun = "A rerun with the same parameters goes on from the last whole checkpoint; changed ones start anew."
    try:
        yield
    except Exception as error:
        chain = [error]
        while (inner := chain[-1].__cause__ or chain[-1].__context__) is not None:
            chain.append(inner)
        said = " ".join(str(e) for e in chain)
        if any(isinstance(e, torch.OutOfMemoryError) for e in chain) or "can't allocate memory" in said:
            raise TrainingError(
                f"out of memory at sft.batch_size {params.sft.batch_size}: halve it and double sft.accumulation "
                f"({params.sft.accumulation}), which keeps the effective batch; or set sft.gradient_checkpointing to true (it is "
                f"{str(params.sft.gradient_checkpointing).lower()}), or lower sft.max_length. {rerun}"
            ) from error
        full = any(getattr(e, "errno", None) == errno.ENOSPC for e in chain) or "No space left" in said
        if full or "PytorchStreamWriter failed" in said:  # what torch.save makes of a full disk
            raise TrainingError(
                "the disk is full; a checkpoint that was not written to its end is not used. Make room (`make clean` deletes a "
                f"profile's artefacts; S2_CACHE moves the cache). {rerun}"
            ) from error
        refused = [
            e for e in chain if isinstance(e, HfHubHTTPError) and getattr(e.response, "status_code", 0) in (401, 403)
        ]
        if refused or any(isinstance(e, GatedRepoError) for e in chain):
            path = params.model.base.path
            raise TrainingError(
                f"the hub does not hand out {path}: accept its licence at https://huggingface.co/{path}, then set HF_TOKEN to a "
                "token of that account (https://huggingface.co/settings/tokens), or set model.base.path to a copy that is not gated"
            ) from error
        raise


def callbacks(params: Params, folder: Path, tok: PreTrainedTokenizerBase, held_out: Dataset) -> list[TrainerCallback]:
    """Logs, whole checkpoints, a stop at NaN; sample answers and early stopping where asked for."""
    sft = params.sft
    wanted: list[TrainerCallback] = [Recorder(folder, sft.country)]
    if sft.samples:
        wanted.append(Samples(folder, tok, list(held_out["prompt"])[: sft.samples], sft.sample_tokens))
    return wanted + ([EarlyStoppingCallback(sft.patience)] if sft.patience else [])


class Recorder(TrainerCallback):
    """Append every logged value to log.jsonl, mark finished checkpoints, refuse a loss that is not a number.

    Seconds, and kWh and kg of CO2 where a country is given, count from 0 in each attempt; see `total`.
    """

    def __init__(self, folder: Path, country: str = ""):
        self.log, self.started = folder / "log.jsonl", time.time()
        self.meter = Meter(country) if country else None

    def on_log(self, args, state, control, logs=None, **_):
        """Keep the values of this step."""
        if any(isinstance(v, float) and not math.isfinite(v) for k, v in (logs or {}).items() if k.endswith("loss")):
            raise TrainingError(
                f"the loss is not a number at step {state.global_step}: lower sft.learning_rate, or look for broken rows. "
                "The last checkpoint is kept; a rerun goes on from it."
            )
        if not state.is_world_process_zero:
            return
        used = {"seconds": round(time.time() - self.started, 2)} | (self.meter.read() if self.meter else {})
        artefacts.append_jsonl(self.log, [{"step": state.global_step} | used | (logs or {})])

    def on_train_end(self, args, state, control, **_):
        """Stop measuring."""
        if self.meter:
            self.meter.tracker.stop()

    def on_save(self, args, state, control, **_):
        """Mark the checkpoint as whole; the marker is what a resume looks for, so only who wrote the rest sets it."""
        if not state.is_world_process_zero:
            return
        artefacts.write_json(
            Path(args.output_dir) / f"checkpoint-{state.global_step}" / MARKER, {"step": state.global_step}
        )


class Meter:
    """Energy and carbon of this process by codecarbon, which neither asks the network nor writes a file here.

    Trap: a processor without a power meter (a virtual machine) is estimated from its model and its load.
    """

    def __init__(self, country: str):
        from codecarbon import OfflineEmissionsTracker
        from codecarbon.input import DataSource
        from codecarbon.output import BaseOutput

        if country not in DataSource().get_global_energy_mix_data():
            raise TrainingError(
                f"sft.country {country!r} is no country codecarbon knows; write its ISO code, such as USA or FRA"
            )
        logging.getLogger("codecarbon").setLevel(logging.ERROR)

        class Reading(BaseOutput):
            kwh, co2_kg = 0.0, 0.0

            def out(self, total, delta):
                self.kwh, self.co2_kg = total.energy_consumed, total.emissions

            live_out = out

        self.reading = Reading()
        self.tracker = OfflineEmissionsTracker(
            country_iso_code=country, tracking_mode="process", log_level="error", allow_multiple_runs=True,
            save_to_file=False, save_to_api=False, output_handlers=[self.reading],
        )  # fmt: skip
        self.tracker.start()

    def read(self) -> dict:
        """{kwh, co2_kg} since the start."""
        self.tracker.flush()
        return {"kwh": self.reading.kwh, "co2_kg": self.reading.co2_kg}


class Samples(TrainerCallback):
    """Answer the same few validation prompts at every evaluation, greedily, and keep them in samples.jsonl.

    Readability is the study's (Pyphen). The training that follows is the same as without: the random state, the
    model's mode and its weights are given back.
    """

    def __init__(self, folder: Path, tok: PreTrainedTokenizerBase, prompts: list[str], max_new_tokens: int):
        self.file, self.tok, self.prompts, self.max_new_tokens = folder / "samples.jsonl", tok, prompts, max_new_tokens

    def on_evaluate(self, args, state, control, model=None, **_):
        """Answer, measure, append: one row a prompt."""
        if not state.is_world_process_zero:
            return
        ids = models.encoded(self.prompts, self.tok, "sft")
        training = model.training
        with torch.random.fork_rng(), torch.autocast(model.device.type, torch.bfloat16):
            asked = {"batch_size": len(ids), "max_new_tokens": self.max_new_tokens, "label": None}
            batches = generate.completions(model.eval(), self.tok, ids, seed="samples", **asked)
            answers = [answer for batch in batches for answer in batch]
        model.train(training)
        rows = []
        for prompt, answer in zip(self.prompts, answers):
            ease, grade = readability.flesch(answer["text"])
            measured = {"flesch_reading_ease": ease, "flesch_kincaid_grade": grade} if math.isfinite(ease) else {}
            rows.append({"step": state.global_step, "prompt": prompt} | answer | measured)
        artefacts.append_jsonl(self.file, rows)


def last_checkpoint(folder: Path) -> str | None:
    """The newest checkpoint that was written to its end."""
    whole = [p for p in folder.glob("checkpoint-*") if (p / MARKER).is_file()]
    return str(max(whole, key=lambda p: int(p.name.split("-")[1]))) if whole else None


def settle_adapter(model: torch.nn.Module, base: str, revision: str = "") -> None:
    """Cast trainable weights to float32, which a resume would do anyway, and record `base` instead of a local path."""
    model.peft_config["default"].base_model_name_or_path = base
    model.peft_config["default"].revision = revision or None
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data = weight.data.float()


def curve(folder: Path) -> pd.DataFrame:
    """One row per step: train_loss, eval_loss, seconds; a step that was run twice counts once (the last)."""
    log = pd.DataFrame(artefacts.read_jsonl(folder / "log.jsonl"))
    log = log.drop(columns=["train_loss", "train_runtime"], errors="ignore")  # the closing line's mean over all steps
    log = log.rename(columns={"loss": "train_loss"})
    return log.groupby("step", as_index=False).last()


def samples(folder: Path) -> pd.DataFrame:
    """One row per step: n sample answers, how many have no word, mean readability of the others, share that ended."""
    kept = {
        (row["step"], row["prompt"]): row for row in artefacts.read_jsonl(folder / "samples.jsonl")
    }  # the last counts
    found = []
    for step in sorted({step for step, _ in kept}):
        frame = pd.DataFrame([row for (s, _), row in kept.items() if s == step])
        frame = frame.reindex(columns=["ended", "flesch_reading_ease", "flesch_kincaid_grade"]).astype(float)
        n = {"step": step, "n": len(frame), "n_failed": int(frame["flesch_reading_ease"].isna().sum())}
        found.append(n | frame.mean().to_dict())
    return pd.DataFrame(found)


def total(values: list[float]) -> float:
    """Sum over attempts of a counter that starts again from 0 with each: 3, 7, 2, 5 → 12."""
    return sum(v - p if v >= p else v for p, v in zip([0, *values], values))


def peak_mb() -> dict:
    """Highest memory of this process so far, and of its GPU (0 without one), in MB."""
    unit = 1024**2 if sys.platform == "darwin" else 1024
    gpu = torch.cuda.max_memory_allocated() / 1024**2 if torch.cuda.is_available() else 0
    process = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    return {"peak_memory_mb": round(process), "peak_gpu_mb": round(gpu)}


MACHINE = ["seconds", "tokens_per_second", "kwh", "co2_kg", "peak_memory_mb", "peak_gpu_mb"]  # differ from run to run


def result(trainer, folder: Path, rows: Dataset, held_out: Dataset, dropped: int) -> dict:
    """What a run did: losses (nats an answer token) before and after, rows, tokens, and its cost over all attempts.

    `tokens` are the non-padding tokens behind the adapter; steps that a kill threw away cost seconds, and no tokens.
    """
    before = artefacts.read_json(folder / "before.json")["eval_loss"]
    evaluated = [h["eval_loss"] for h in trainer.state.log_history if h.get("step", 0) > 0 and "eval_loss" in h]
    best = trainer.args.load_best_model_at_end and evaluated
    after = min(evaluated) if best else trainer.evaluate()["eval_loss"]
    log = artefacts.read_jsonl(folder / "log.jsonl")
    cost = {k: total([h[k] for h in log if k in h]) for k in ("seconds", "kwh", "co2_kg") if any(k in h for h in log)}
    tokens = int(trainer.state.num_input_tokens_seen)
    return {
        "eval_loss_before": before,
        "eval_loss_after": after,
        "eval_rows": len(held_out),
        "train_rows": len(rows),
        "rows_too_long": dropped,
        "rows_masked": masked(trainer.train_dataset),
        "steps": trainer.state.global_step,
        "epochs": round(trainer.state.epoch, 3),
        "tokens": tokens,
        "tokens_per_second": round(tokens / cost["seconds"], 1),
        **{k: round(v, 1 if k == "seconds" else 6) for k, v in cost.items()},
        **peak_mb(),
    }
