"""Training speed: our configuration against trl's defaults, on rows of the lengths that ELI5 has.

ours and peer: non-padding tokens a processor second (one thread, as the cpu profile trains; other programs disturb that
less than the clock) of the same optimiser steps over the same rows, evaluations left out. Equal on both sides: NF4 base
and the dtype it computes in, LoRA, rows, `max_length`, learning rate, schedule, weight decay, effective batch, threads.
Different: what `train.config` and `train.Trainer` set (batches of 2 rows of like length with accumulation, no gradient
checkpointing, logits of answer tokens only, LoRA in float32) against SFTConfig's own (batches of 8, checkpointing, all
positions, LoRA in bf16). Text: Wikipedia leads cut to lengths drawn from a lognormal with median 130 tokens, seeded.

The validation loss (nats an answer token over fixed rows) is followed on both sides under several seeds: its largest
difference between the means is held against the spread of the seeds (--quick: one seed, one step).
"""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from pathlib import Path

import measure
import torch
from datasets import Dataset
from transformers import TrainerCallback

from s2utils.data import sources
from s2utils.models import loading
from s2utils.training import sft
from s2utils.training.trainer import Trainer
from s2utils.workflow.params import Params, load

MEDIAN, SIGMA, SHORTEST, LONGEST = 130, 0.6, 32, 512  # tokens of a row; ELI5's simple answers
BATCH, VALIDATION = 8, 6  # effective batch; rows of the validation loss
PARTS = ("trl", "no checkpointing", "batches of like length", "ours")  # each with what stands before it


class Watch(TrainerCallback):
    """Processor seconds of the steps, and the validation loss outside of them."""

    def __init__(self, rows: list[torch.Tensor], prompts: list[int], every: int):
        self.rows, self.prompts, self.every, self.seconds, self.losses = rows, prompts, every, 0.0, []

    def on_train_begin(self, args, state, control, model=None, **_):
        """Loss of the base model; it also warms the processor up."""
        self.losses.append(self.loss(model))

    def on_step_begin(self, args, state, control, **_):
        """Start the watch."""
        self.began = time.process_time()

    def on_step_end(self, args, state, control, model=None, **_):
        """Stop it; then look at the loss."""
        self.seconds += time.process_time() - self.began
        if state.global_step % self.every == 0:
            self.losses.append(self.loss(model))

    @torch.no_grad()
    def loss(self, model) -> float:
        """Mean over answer tokens, from plain logits, the same way for both sides."""
        model.eval()
        total = count = 0
        for ids, prompt in zip(self.rows, self.prompts):
            logits = model(input_ids=ids[None]).logits[0, prompt - 1 : -1].float()
            total += torch.nn.functional.cross_entropy(logits, ids[prompt:], reduction="sum").item()
            count += len(ids) - prompt
        model.train()
        return total / count


def texts(n: int, params: Params, tok) -> list[dict]:
    """`n` rows {question, answer}: leads joined and cut to the drawn length."""
    records, _ = sources.read("wikilead", params.data.sources["wikilead"], 0)
    chance, rows = random.Random(0), []
    leads = [r["answer"] for r in records]
    chance.shuffle(leads)
    for i in range(n):
        length = min(LONGEST, max(SHORTEST, round(chance.lognormvariate(0, SIGMA) * MEDIAN)))
        question = f"Can you tell me something about {' '.join(leads[i].split()[:4])}?"
        used = len(tok(loading.plain_prompt(question, params.model))["input_ids"]) + 1
        ids = tok(" ".join(leads[(i + j) % len(leads)] for j in range(12)))["input_ids"][: max(12, length - used)]
        rows.append({"question": question, "answer": tok.decode(ids).strip()})
    return rows


def prepare(part: str, seed: int, steps: int, threads: int, validation: int = VALIDATION) -> tuple:
    """A trainer that has not begun, its watch and its number of non-padding tokens."""
    import pandas as pd
    from trl import SFTConfig, SFTTrainer

    torch.set_num_threads(threads)
    changes = {
        "max_steps": steps,
        "max_length": LONGEST + 64,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": BATCH // 2,
        "samples": 0,
    }
    params = load(
        "cpu", {"seed": seed, "sft": changes | {"country": "", "early_stopping_patience": 0, "evaluations": 1}}
    )
    tok = loading.tokenizer(params.model.base)
    rows, _ = sft.rows(pd.DataFrame(texts(steps * BATCH + validation, params, tok)), params, tok)
    held = [rows[i] for i in range(validation)]
    rows = Dataset.from_list([rows[i] for i in range(validation, len(rows))])
    ids = [torch.tensor(r["input_ids"]) for r in held]
    watch = Watch(ids, [r["completion_mask"].index(1) for r in held], max(1, steps // 2))
    folder = tempfile.mkdtemp(prefix="s2-sft-")
    ours = sft.config(params, len(rows), Path(folder), tok.eos_token)
    ours.eval_strategy, ours.save_strategy = "no", "no"
    given = {
        k: getattr(ours, k)
        for k in ("max_steps", "learning_rate", "weight_decay", "warmup_steps", "max_length", "seed", "bf16")
    }
    given |= {
        "use_cpu": True,
        "dataloader_pin_memory": False,
        "save_strategy": "no",
        "report_to": [],
        "output_dir": folder,
    }
    if part != "trl":
        given["gradient_checkpointing"] = False
    if part == "batches of like length":
        given |= {"per_device_train_batch_size": 2, "gradient_accumulation_steps": BATCH // 2}
        given["train_sampling_strategy"] = "group_by_length"
    kind, args = (Trainer, ours) if part == "ours" else (SFTTrainer, SFTConfig(**given))
    trainer = kind(
        model=loading.quantized(params.model.base, params.model.dtype), args=args, train_dataset=rows,
        processing_class=tok,
        peft_config=sft.lora(params.sft), callbacks=[watch],
    )  # fmt: skip
    if part == "ours":
        sft.settle_adapter(trainer.model, params.model.base.path)
    return trainer, watch, sum(len(row["input_ids"]) for row in trainer.train_dataset)


def run(made: tuple) -> dict:
    """Train; tokens and processor seconds of the steps, and the validation losses."""
    trainer, watch, tokens = made
    trainer.train()
    return {"tokens": tokens, "seconds": round(watch.seconds, 2), "losses": [round(x, 4) for x in watch.losses]}


def main():
    parser = measure.arguments(__doc__)
    parser.add_argument("--steps", type=int, help="4, quick 1")
    parser.add_argument("--seeds", type=int, help="3, quick 1")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--parts", action="store_true", help="also what lies between the two, one seed each")
    chosen = parser.parse_args()
    chosen.steps = chosen.steps or (1 if chosen.quick else 4)
    chosen.seeds = chosen.seeds or (1 if chosen.quick else 3)
    found: dict[str, list[dict]] = {part: [] for part in PARTS}
    validation = 2 if chosen.quick else VALIDATION
    for seed in range(chosen.seeds):
        for part in PARTS if chosen.parts and seed == 0 else (PARTS[0], PARTS[-1]):
            done = measure.alone(run, prepare, part, seed, chosen.steps, chosen.threads, validation)
            found[part].append(done["value"] | {"peak_mb": done["peak_mb"]})
            print(part, seed, found[part][-1], flush=True)
    # over all seeds: which rows meet in a batch, and so how much is padding, differs between them
    speed = {p: sum(r["tokens"] for r in runs) / sum(r["seconds"] for r in runs) for p, runs in found.items() if runs}
    ours, peer = found["ours"], found["trl"]
    curves = {"ours": [r["losses"] for r in ours], "peer": [r["losses"] for r in peer]}
    means = {side: [statistics.mean(point) for point in zip(*runs)] for side, runs in curves.items()}
    difference = max(abs(a - b) for a, b in zip(means["ours"], means["peer"]))
    spread = max(max(point) - min(point) for runs in curves.values() for point in zip(*runs))
    row = measure.row(
        "training against trl's defaults", ours=round(speed["ours"], 1), peer=round(speed["trl"], 1),
        ratio=round(speed["ours"] / speed["trl"], 2), unit="non-padding tokens/processor second", n=ours[0]["tokens"],
    )  # fmt: skip
    measure.write(
        "sft", [row], chosen.quick, loss_difference=round(difference, 4), seed_spread=round(spread, 4), losses=curves,
        peak_mb={"ours": max(r["peak_mb"] for r in ours), "peer": max(r["peak_mb"] for r in peer)},
        parts={part: round(value, 1) for part, value in speed.items()},
    )  # fmt: skip
    print(f"largest difference of the mean losses {difference:.4f}, spread of the seeds {spread:.4f}")


if __name__ == "__main__":
    main()
