"""What notebook 10 computes on a GPU: losses of whole documents, and models from nothing.

Each check gives what it found and raises a `Finding` where that does not hold; `gpu_check` makes them. Trap: on a GPU
the ladder computes in bfloat16 (autocast) and on a processor in float32, so its loss is compared with itself only.
"""

from __future__ import annotations

import math
import time
from pathlib import Path

import numpy as np

from s2utils.models.parameters import Weights
from s2utils.preflight.finding import held
from s2utils.workflow.params import load

WITHIN = 1e-3  # nat a token, in float32
FEWER = 0.9  # of the loss of the first checkpoint, and of a uniform model: at most so much is left at the end
TEXTS = [
    f"Word {i} of the cat is {i * i}: it sat on mat {i % 7} and saw {i % 11} dogs. " * (1 + i % 5) for i in range(300)
]
LADDER = {  # a few seconds on one core
    "vocab_size": 512, "context": 64, "parameters": [100_000], "bytes": 60_000, "checkpoints": [4_000], "seeds": [1],
    "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "held_out_bytes": 2_000,
}  # fmt: skip


def documents(base: Weights, device: str, folder: Path) -> str:
    """Losses of documents, longer ones in windows that overlap, are the processor's in float32."""
    from s2utils.models import likelihood, loading

    tok, windows = loading.tokenizer(base), likelihood.Windows(96, 48)
    ids = tok(TEXTS[:16], add_special_tokens=False)["input_ids"]
    if not any(len(row) > windows.length for row in ids):
        ids.append([token for row in ids for token in row][: 2 * windows.length])

    def losses(where: str, dtype: str) -> tuple[np.ndarray, float]:
        network = loading.full(base, dtype, where)
        likelihood.losses(network, ids[:2], likelihood.beginning(tok), windows)  # warm
        started = time.perf_counter()
        rows = likelihood.losses(network, ids, likelihood.beginning(tok), windows, 1024)
        return np.concatenate(rows), time.perf_counter() - started

    (ours, _), (theirs, _) = losses(device, "float32"), losses("cpu", "float32")
    low, seconds = losses(device, "bfloat16")
    off, bias = float(np.abs(ours - theirs).max()), float(abs(low.mean() - ours.mean()))
    found = f"{len(ours):,} tokens, {off:.1e} nat apart at most; bf16: their mean {bias:.1e} apart"
    return held(off < WITHIN, f"{found}, {len(low) / seconds:,.0f} tokens/s")


def from_nothing(base: Weights, device: str, folder: Path) -> str:
    """A small Llama of the ladder learns: bfloat16 on a GPU, Muon and AdamW; what it leaves is loaded."""
    from s2utils.models import loading
    from s2utils.training import byte_bpe, ladder

    settings = load("smoke", {"ladder": LADDER}).ladder
    tok, (run,) = byte_bpe.train(TEXTS, settings.vocab_size), ladder.rungs(settings, {"text": 1.0})
    to, started = folder / "ladder", time.perf_counter()
    rows = ladder.train_all([run], {"text": TEXTS[30:]}, {"text": TEXTS[:30]}, tok, settings, to, 1, device)
    speed = rows["tokens"].iat[-1] / (time.perf_counter() - started)
    first, last = rows["loss"].iloc[[0, -1]]
    left = loading.full(Weights(path=str(to / run.name / rows["checkpoint"].iat[-1]), revision=""), "float32", "cpu")
    whole = all(bool(weight.isfinite().all()) for weight in left.parameters())
    learns = whole and last < FEWER * min(first, math.log(settings.vocab_size))
    return held(learns, f"held-out loss {first:.3f} → {last:.3f} nat a token, {speed:,.0f} tokens/s")
