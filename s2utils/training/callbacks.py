"""The record of a training run: log, whole checkpoints, sample answers, energy, and what came of it.

Losses are nats an answer token, seconds wall clock, energy kWh and kg of CO2. Traps: a half-written checkpoint
raises on resume, so only one with our marker counts, and in several processes it is whole only once each has
written its part; anything that draws random numbers between two steps must give the state back.
"""

from __future__ import annotations

import logging
import math
import os
import resource
import sys
import time
from pathlib import Path

import pandas as pd
import torch
from transformers import EarlyStoppingCallback, PreTrainedTokenizerBase, ProgressCallback, TrainerCallback

from s2utils.models import generation, loading, special_tokens
from s2utils.text import readability
from s2utils.training import distributed
from s2utils.training.failures import TrainingError
from s2utils.training.parameters import Sft
from s2utils.workflow import artefacts, progress

MARKER = "whole.json"
MACHINE = [  # differ from run to run
    "processes", "seconds", "tokens_per_second", "kwh", "co2_kg", "peak_memory_mb", "peak_gpu_mb",
]  # fmt: skip


def callbacks(sft: Sft, folder: Path, tok: PreTrainedTokenizerBase, prompts: list[str]) -> list[TrainerCallback]:
    """Logs, whole checkpoints, a stop at NaN; answers to the first of `prompts` and early stopping where asked for."""
    wanted: list[TrainerCallback] = [Recorder(folder, sft.country)]
    if os.environ.get(progress.LOG):  # in a notebook the trainer shows a table, which nobody sees before it is done
        wanted.append(Bar())
    if sft.samples:
        wanted.append(Samples(folder, tok, prompts[: sft.samples], sft.sample_tokens))
    return wanted + ([EarlyStoppingCallback(sft.early_stopping_patience)] if sft.early_stopping_patience else [])


class Bar(ProgressCallback):
    """The trainer's bar over steps, without its lines of values, which are in log.jsonl."""

    def on_log(self, args, state, control, logs=None, **_):
        """Nothing."""


class Recorder(TrainerCallback):
    """Append every logged value to log.jsonl, mark finished checkpoints, refuse a loss that is not a number.

    Seconds, and kWh and kg of CO2 of all processes where a country is given, count from 0 in each attempt; see `total`.
    """

    def __init__(self, folder: Path, country: str = ""):
        self.log, self.started = folder / "log.jsonl", time.time()
        self.meter = Meter(country) if country else None

    def on_log(self, args, state, control, logs=None, **_):
        """Keep the values of this step."""
        if any(isinstance(v, float) and not math.isfinite(v) for k, v in (logs or {}).items() if k.endswith("loss")):
            raise TrainingError(
                f"the loss is not a number at step {state.global_step}: lower sft.learning_rate, or look for broken "
                "rows. The last checkpoint is kept; a rerun goes on from it."
            )
        read = distributed.everyone(self.meter.read()) if self.meter else [{}]
        if not state.is_world_process_zero:
            return
        used = {"seconds": round(time.time() - self.started, 2)} | {k: sum(r[k] for r in read) for k in read[0]}
        artefacts.append_jsonl(self.log, [{"step": state.global_step} | used | (logs or {})])

    def on_train_end(self, args, state, control, **_):
        """Stop measuring."""
        if self.meter:
            self.meter.tracker.stop()

    def on_save(self, args, state, control, **_):
        """Mark the checkpoint as whole; the marker is what a resume looks for, so only who wrote the rest sets it."""
        distributed.everyone(None)  # each has written its random state
        if not state.is_world_process_zero:
            return
        artefacts.write_json(
            Path(args.output_dir) / f"checkpoint-{state.global_step}" / MARKER, {"step": state.global_step}
        )


class Meter:
    """Energy and carbon of this process and its GPU by codecarbon, without network and without a file here.

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
            save_to_file=False, save_to_api=False, output_handlers=[self.reading], gpu_ids=distributed.own_gpu(),
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
        ids = loading.encoded(self.prompts, self.tok, "sft")
        training = model.training
        with torch.random.fork_rng(), torch.autocast(model.device.type, torch.bfloat16, enabled=args.bf16):
            asked = {"batch_size": len(ids), "max_new_tokens": self.max_new_tokens, "label": None}
            batches = generation.completions(model.eval(), self.tok, ids, seed="samples", **asked)
            answers = [answer for batch in batches for answer in batch]
        model.train(training)
        rows = []
        for prompt, answer in zip(self.prompts, answers):
            ease, grade = readability.flesch(answer["text"])
            measured = {"flesch_reading_ease": ease, "flesch_kincaid_grade": grade} if math.isfinite(ease) else {}
            rows.append({"step": state.global_step, "prompt": special_tokens.readable(prompt)} | answer | measured)
        artefacts.append_jsonl(self.file, rows)


def last_checkpoint(folder: Path) -> str | None:
    """The newest checkpoint that was written to its end."""
    whole = [p for p in folder.glob("checkpoint-*") if (p / MARKER).is_file()]
    return str(max(whole, key=lambda p: int(p.name.split("-")[1]))) if whole else None


def curve(folder: Path) -> pd.DataFrame:
    """One row per step: train_loss, eval_loss, seconds; a step that was run twice counts once (the last)."""
    log = pd.DataFrame(artefacts.read_jsonl(folder / "log.jsonl"))
    log = log.drop(columns=["train_loss", "train_runtime"], errors="ignore")  # the closing line's mean over all steps
    log = log.rename(columns={"loss": "train_loss"})
    return log.groupby("step", as_index=False).last()


def samples(folder: Path) -> pd.DataFrame:
    """One row per step: n sample answers, how many have no word, mean readability of the others, share that ended."""
    means = ["ended", "flesch_reading_ease", "flesch_kincaid_grade"]
    rows = pd.DataFrame(artefacts.read_jsonl(folder / "samples.jsonl"), columns=["step", "prompt", *means])
    kept = rows.drop_duplicates(["step", "prompt"], keep="last").astype(dict.fromkeys(means, float))
    kept = kept.assign(n=1, n_failed=kept["flesch_reading_ease"].isna())
    sums = {"n": "sum", "n_failed": "sum"}
    return kept.groupby("step", as_index=False).agg(sums | dict.fromkeys(means, "mean"))


def total(values: list[float]) -> float:
    """Sum over attempts of a counter that starts again from 0 with each: 3, 7, 2, 5 → 12."""
    return sum(v - p if v >= p else v for p, v in zip([0, *values], values))


def peak_mb() -> dict:
    """Highest memory of this process so far, and of its GPU (0 without one), in MB."""
    unit = 1024**2 if sys.platform == "darwin" else 1024
    gpu = torch.cuda.max_memory_allocated() / 1024**2 if torch.cuda.is_available() else 0
    process = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    return {"peak_memory_mb": round(process), "peak_gpu_mb": round(gpu)}


def result(trainer, folder: Path, counts: dict) -> dict:
    """What a run did: losses (nats an answer token) before and after, rows, tokens, and its cost over all attempts.

    The same in every process, which all have to call it: `counts` of rows go in as they are; `tokens` are the
    non-padding tokens behind the adapter, of all processes (steps that a kill threw away cost seconds, and no tokens);
    peak memory is that of the largest process.
    """
    evaluated = [h["eval_loss"] for h in trainer.state.log_history if h.get("step", 0) > 0 and "eval_loss" in h]
    best = trainer.args.load_best_model_at_end and evaluated
    after = min(evaluated) if best else trainer.evaluate()["eval_loss"]
    peaks = distributed.everyone(peak_mb())
    facts = {}
    if distributed.first():  # reading mends a torn line, which one process may do
        log = artefacts.read_jsonl(folder / "log.jsonl")
        cost = {
            k: total([h[k] for h in log if k in h]) for k in ("seconds", "kwh", "co2_kg") if any(k in h for h in log)
        }
        tokens = int(trainer.state.num_input_tokens_seen)
        facts = {
            "eval_loss_before": next(h["eval_loss"] for h in log if h["step"] == 0 and "eval_loss" in h),
            "eval_loss_after": after,
            **counts,
            "steps": trainer.state.global_step,
            "epochs": round(trainer.state.epoch, 3),
            "tokens": tokens,
            "tokens_per_second": round(tokens / cost["seconds"], 1),
            **{k: round(v, 1 if k == "seconds" else 6) for k, v in cost.items()},
            **{k: max(peak[k] for peak in peaks) for k in peaks[0]},
            "processes": trainer.args.world_size,
        }
    return distributed.everyone(facts)[0]
