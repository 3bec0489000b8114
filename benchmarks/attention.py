"""Attention over a rolling buffer of ours against transformers' caches of a sliding window, while decoding.

Window 1,024, full and turned over; float32, one thread; heads of SmolLM2-135M (nine, three of keys and values, 64
wide), all its layers. Timed are a step's cache and attention alone, all layers: what is written, moved and attended to,
without the model's projections and MLP; ours with its mask, the peers without theirs. Both attend through transformers'
own function. Every side gets the same keys, values and queries in the same run; the largest difference of an output of
any step and layer stands beside, and must be small, as do the bytes that each keeps alive. `limit`: attention over keys
and values that nobody writes to.
"""

from __future__ import annotations

import time
from types import SimpleNamespace

import measure
import torch
from transformers import DynamicCache, MistralConfig, StaticCache
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from s2utils.architecture import cache
from s2utils.evaluation import attention_windows

WINDOW, LAYERS, HEADS, KEY_HEADS, WIDTH = 1024, 30, 9, 3, 64
BEYOND = 100  # tokens read after the window is full
PEERS = ("dynamic, with config", "static")
CLOSE = 1e-5  # of outputs that are to be the same
SHAPE = SimpleNamespace(num_key_value_groups=HEADS // KEY_HEADS, is_causal=True)


def load(side: str, batch: int, layers: int, steps: int) -> dict:
    """A cache that has read `WINDOW` + `BEYOND` tokens, and what comes next."""
    torch.set_num_threads(1)
    config = MistralConfig(
        hidden_size=HEADS * WIDTH, num_attention_heads=HEADS, num_key_value_heads=KEY_HEADS, num_hidden_layers=layers,
        sliding_window=WINDOW, vocab_size=8, intermediate_size=8,
    )  # fmt: skip
    kept = {
        "ours": lambda: cache.RollingBuffer(config, batch, WINDOW),
        "dynamic, with config": lambda: DynamicCache(config=config),
        "static": lambda: StaticCache(config=config, max_cache_len=WINDOW + BEYOND + steps),
        "attention alone": lambda: None,
    }[side]()
    draw = torch.Generator().manual_seed(1)
    size, still = WINDOW + BEYOND, []
    for layer in range(layers):
        keys, values = (torch.randn(batch, KEY_HEADS, size, WIDTH, generator=draw) for _ in range(2))
        if kept is None:
            still.append((keys[:, :, -WINDOW:].clone(), values[:, :, -WINDOW:].clone()))
            continue
        if side == "ours" and layer == 0:
            kept.begin(size, torch.full((batch,), size))
        kept.update(keys, values, layer)
    new = [torch.randn(batch, heads, 1, WIDTH, generator=draw) for heads in (HEADS, KEY_HEADS, KEY_HEADS)]
    made = {"kept": kept, "still": still, "new": new, "layers": layers, "steps": steps}
    decode(made | {"steps": 2})
    return made


@torch.inference_mode()
def decode(made: dict) -> dict:
    """Processor seconds a step, the outputs of every step and layer, bytes kept alive."""
    kept, (query, key, value), one = made["kept"], made["new"], torch.ones(len(made["new"][0]), dtype=torch.long)
    outputs, started = [], time.process_time()
    for step in range(made["steps"]):
        mask = None
        if isinstance(kept, cache.RollingBuffer):
            mask = cache.additive(kept.begin(1, one)[1], torch.float32)
        for layer in range(made["layers"]):
            new = key * (1 + step / 64), value - step / 64  # else the order of what is kept could not show
            keys, values = kept.update(*new, layer) if kept else made["still"][layer]
            outputs.append(sdpa_attention_forward(SHAPE, query, keys, values, mask, scaling=WIDTH**-0.5)[0])
    seconds = (time.process_time() - started) / made["steps"]
    held = attention_windows.held_bytes(kept) if kept else 0
    return {"seconds": seconds, "out": torch.stack(outputs).numpy(), "bytes": held}


def main() -> None:
    """Run and write benchmarks/results/attention.json."""
    options = measure.arguments(__doc__).parse_args()
    layers, steps, repeats = (10, 20, 1) if options.quick else (LAYERS, 60, 3)
    rows = []
    for batch in (1, 16):
        sides = ("ours", *PEERS, "attention alone")
        runs: dict[str, list] = {side: [] for side in sides}
        for _ in range(repeats):  # in turn, so that what else the machine does meets all alike
            for side in sides:
                runs[side].append(measure.alone(decode, load, side, batch, layers, steps))
        best = {side: min((run["value"] for run in found), key=lambda v: v["seconds"]) for side, found in runs.items()}
        ours, floor = best["ours"], best["attention alone"]["seconds"]
        slots = batch * WINDOW * layers * 2 * KEY_HEADS * WIDTH * 4
        for peer in PEERS:
            theirs = best[peer]
            off = float(abs(ours["out"] - theirs["out"]).max())
            if not off <= CLOSE:
                raise SystemExit(f"outputs differ by {off:.1e} from {peer}")
            rows.append(
                measure.row(
                    f"{peer}, batch {batch}", unit="processor ms a step", n=steps, ours=round(1e3 * ours["seconds"], 2),
                    peer=round(1e3 * theirs["seconds"], 2), ratio=round(theirs["seconds"] / ours["seconds"], 2),
                    limit=round(theirs["seconds"] / floor, 2), off=off, ours_bytes=ours["bytes"],
                    peer_bytes=theirs["bytes"], window_bytes=slots,
                )
            )  # fmt: skip
    measure.write("attention", rows, options.quick)
    for row in rows:
        print(row["name"], {k: row[k] for k in ("off", "ours_bytes", "peer_bytes", "window_bytes")})


if __name__ == "__main__":
    main()
