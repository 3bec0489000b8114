"""What the training notebook needs around trl's SFTTrainer: rows, configuration, resume, records.

Loss counts on the answer only, the end-of-sequence token included. Traps: a half-written checkpoint
raises on resume, so only one with our marker counts; LoRA weights start in bf16 but a resume reloads
them in float32, so they are cast once.
"""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import pandas as pd
import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import EarlyStoppingCallback, PreTrainedTokenizerBase, TrainerCallback
from trl import SFTConfig

from s2utils import artefacts, models
from s2utils.params import Params, Sft

MARKER = "whole.json"


class TrainingError(RuntimeError):
    """Training went wrong in a way that more steps will not mend."""


def rows(frame: pd.DataFrame, params: Params, tok: PreTrainedTokenizerBase) -> tuple[Dataset, int]:
    """(prompt/completion rows, how many were dropped): rows over `sft.max_length` tokens are left out."""
    prompts = [models.plain_prompt(q, params.model) for q in frame["question"]]
    completions = [f" {a}" for a in frame["answer"]]
    lengths = [len(ids) + 1 for ids in tok([p + c for p, c in zip(prompts, completions)])["input_ids"]]  # + EOS
    kept = [
        {"prompt": p, "completion": c} for p, c, n in zip(prompts, completions, lengths) if n <= params.sft.max_length
    ]
    return Dataset.from_list(kept), len(frame) - len(kept)


def steps(sft: Sft, n_rows: int) -> int:
    """Optimiser steps of the run."""
    return sft.max_steps or max(1, math.ceil(sft.epochs * n_rows / (sft.batch_size * sft.accumulation)))


def lora(sft: Sft) -> LoraConfig:
    """LoRA on every linear layer."""
    return LoraConfig(
        r=sft.r, lora_alpha=sft.alpha, lora_dropout=sft.dropout, target_modules="all-linear", task_type="CAUSAL_LM"
    )


def config(params: Params, n_rows: int, folder: Path, eos: str) -> SFTConfig:
    """What trl is told for this profile; checkpoints go into `folder`."""
    sft, on_cpu = params.sft, params.runtime.device == "cpu"
    every = max(1, steps(sft, n_rows) // max(1, sft.evaluations))
    return SFTConfig(
        output_dir=str(folder),
        max_steps=steps(sft, n_rows),
        per_device_train_batch_size=sft.batch_size,
        per_device_eval_batch_size=sft.batch_size,
        gradient_accumulation_steps=sft.accumulation,
        learning_rate=sft.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=sft.warmup,
        weight_decay=sft.weight_decay,
        optim=sft.optimizer,
        max_length=sft.max_length,
        completion_only_loss=True,
        eos_token=eos,
        packing=False,
        gradient_checkpointing=sft.gradient_checkpointing,
        bf16=True,
        use_cpu=on_cpu,
        seed=params.seed,
        data_seed=params.seed,
        train_sampling_strategy="group_by_length",
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
        report_to=[],
        dataloader_pin_memory=not on_cpu,
        disable_tqdm=False,
    )


def callbacks(sft: Sft, folder: Path) -> list[TrainerCallback]:
    """Logs, whole checkpoints, a stop at NaN, and early stopping where asked for."""
    return [Recorder(folder), *([EarlyStoppingCallback(sft.patience)] if sft.patience else [])]


class Recorder(TrainerCallback):
    """Append every logged value to log.jsonl, mark finished checkpoints, refuse a loss that is not a number."""

    def __init__(self, folder: Path):
        self.log, self.started = folder / "log.jsonl", time.time()

    def on_log(self, args, state, control, logs=None, **_):
        """Keep the values of this step."""
        if any(isinstance(v, float) and not math.isfinite(v) for k, v in (logs or {}).items() if k.endswith("loss")):
            raise TrainingError(
                f"the loss is not a number at step {state.global_step}: lower sft.learning_rate, or look for broken rows. "
                "The last checkpoint is kept; a rerun goes on from it."
            )
        artefacts.append_jsonl(
            self.log, [{"step": state.global_step, "seconds": round(time.time() - self.started, 2)} | (logs or {})]
        )

    def on_save(self, args, state, control, **_):
        """Mark the checkpoint as whole; the marker is what a resume looks for."""
        artefacts.write_json(
            Path(args.output_dir) / f"checkpoint-{state.global_step}" / MARKER, {"step": state.global_step}
        )


def last_checkpoint(folder: Path) -> str | None:
    """The newest checkpoint that was written to its end."""
    whole = [p for p in folder.glob("checkpoint-*") if (p / MARKER).is_file()]
    return str(max(whole, key=lambda p: int(p.name.split("-")[1]))) if whole else None


def settle_adapter(model: torch.nn.Module, base: str) -> None:
    """Cast trainable weights to float32, which a resume would do anyway, and record `base` instead of a local path."""
    model.peft_config["default"].base_model_name_or_path = base
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data = weight.data.float()


def curve(folder: Path) -> pd.DataFrame:
    """One row per step: train_loss, eval_loss, seconds; a step that was run twice counts once (the last)."""
    log = pd.DataFrame(artefacts.read_jsonl(folder / "log.jsonl"))
    log = log.drop(columns=["train_loss", "train_runtime"], errors="ignore")  # the closing line's mean over all steps
    log = log.rename(columns={"loss": "train_loss"})
    return log.groupby("step", as_index=False).last()


def card(params: Params, train_set: str, result: dict) -> str:
    """Model card in hub format for an adapter."""
    weights = params.model.base.path
    base = weights if not weights.startswith("embedded:") else "HuggingFaceTB/SmolLM2-135M-Instruct"
    head = {
        "base_model": base,
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "tags": ["lora", "qlora", "sft", "readability"],
    }
    lines = "\n".join(f"{k}: {json.dumps(v)}" for k, v in head.items())
    facts = "\n".join(f"| {k} | {v} |" for k, v in result.items())
    return (
        f"---\n{lines}\n---\n# {params.model.name}-{train_set}\n\n"
        f"QLoRA adapter (NF4 base, LoRA r {params.sft.r}, α {params.sft.alpha}) of {base}, trained to answer in simple words on "
        f"the {train_set} set.\n\nPrompt: `{params.model.prompt!r}`, the answer follows.\n\n"
        f"| fact | value |\n|---|---|\n{facts}\n\n"
        "Limits: it imitates simple text; it was not made safe by preference training, and its facts are not checked.\n"
    )


def total(values: list[float]) -> float:
    """Sum over attempts of a counter that starts again from 0 with each: 3, 7, 2, 5 → 12."""
    return sum(v - p if v >= p else v for p, v in zip([0, *values], values))


def result(trainer, folder: Path, rows: Dataset, held_out: Dataset, dropped: int) -> dict:
    """What a run did: losses (nats an answer token) before and after, sizes, tokens and speed (all attempts, evaluations too)."""
    before = artefacts.read_json(folder / "before.json")["eval_loss"]
    evaluated = [h["eval_loss"] for h in trainer.state.log_history if h.get("step", 0) > 0 and "eval_loss" in h]
    best = trainer.args.load_best_model_at_end and evaluated
    log = artefacts.read_jsonl(folder / "log.jsonl")
    tokens, seconds = (total([h[k] for h in log if k in h]) for k in ("num_tokens", "seconds"))
    return {
        "eval_loss_before": before,
        "eval_loss_after": min(evaluated) if best else trainer.evaluate()["eval_loss"],
        "eval_rows": len(held_out),
        "train_rows": len(rows),
        "rows_too_long": dropped,
        "steps": trainer.state.global_step,
        "epochs": round(trainer.state.epoch, 3),
        "tokens": int(tokens),
        "tokens_per_second": round(tokens / seconds, 1),
        "seconds": round(seconds, 1),
    }
