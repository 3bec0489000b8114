"""What notebooks 10 to 12 compute on a GPU: losses of documents, models from nothing, decoders, heads, mixtures.

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

WITHIN = 1e-3  # nat a token, or a logit, in float32
FEWER = 0.9  # of the loss of the first checkpoint, and of a uniform model: at most so much is left at the end
TEXTS = [
    f"Word {i} of the cat is {i * i}: it sat on mat {i % 7} and saw {i % 11} dogs. " * (1 + i % 5) for i in range(300)
]
LADDER = {  # a few seconds on one core
    "vocab_size": 512, "context": 64, "parameters": [100_000], "bytes": 60_000, "checkpoints": [4_000], "seeds": [1],
    "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "held_out_bytes": 2_000,
}  # fmt: skip
HEADS = {  # a Llama that shares each key-value head among four heads
    "vocab_size": 512, "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 8,
    "num_key_value_heads": 2, "max_position_embeddings": 2048, "tie_word_embeddings": True, "bos_token_id": 0,
    "eos_token_id": 0,
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


def shared_heads(base: Weights, device: str, folder: Path) -> str:
    """A small Llama has the same logits as a decoder of ours, and with its key-value heads copied; both are decoded."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from s2utils.architecture import decoder, heads
    from s2utils.evaluation import attention_heads

    torch.manual_seed(1)
    network = LlamaForCausalLM(LlamaConfig(**HEADS)).eval()
    ids = torch.randint(HEADS["vocab_size"], (2, 64), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        theirs, network, ids = network(ids).logits, network.to(device), ids.to(device)
        copied = heads.with_kv_heads(network, HEADS["num_attention_heads"])
        others = (network, copied, decoder.from_transformers(network).to(device))
        off = max(float((theirs - other(ids).logits.cpu()).abs().max()) for other in others)
    speeds = attention_heads.decode({"shared": network, "copied": copied}, 16, 1024, 4)
    faster = sum(speeds["shared"]) / sum(speeds["copied"])
    return held(off < WITHIN, f"logits {off:.1e} apart at most; shared heads {faster:.1f} times as fast as copied ones")


def upcycled(base: Weights, device: str, folder: Path) -> str:
    """A small mixture goes on from a dense model's weights and learns; its router is read from its checkpoint."""
    from s2utils.evaluation import expert_routing
    from s2utils.models import loading
    from s2utils.training import byte_bpe, mixtures, pretraining

    ladder = LADDER | {"parameters": [30_000], "bytes": 30_000}
    changes = {"parameters": 30_000, "bytes": 30_000, "upcycle_at": 2_000, "checkpoints": [4_000], "seeds": [1]}
    settings = load("smoke", {"ladder": ladder, "mixtures": changes})
    tok = byte_bpe.train(TEXTS, settings.ladder.vocab_size)
    given = pretraining.Material({"text": TEXTS[30:]}, {"text": TEXTS[:30]}, {"text": 1.0}, tok)
    rows = mixtures.train(given, settings.mixtures, settings.ladder, folder / "mixtures", 1, device)
    dense, mixture = (rows[rows["run"] == f"{name}-1"] for name in ("dense", "upcycled"))
    first, last = dense["loss"].iat[0], mixture["loss"].iat[-1]
    weights = Weights(path=str(pretraining.checkpoint(folder / "mixtures", mixture.iloc[-1])), revision="")
    ids = tok(TEXTS[0])["input_ids"][:32]
    apart = [
        expert_routing.router_logits(loading.full(weights, "float32", where), ids)[-1].cpu()
        for where in (device, "cpu")
    ]
    off = float((apart[0] - apart[1]).abs().max())
    return held(
        last < FEWER * first and off < WITHIN, f"loss {first:.3f} → {last:.3f}, routers {off:.1e} apart at most"
    )
