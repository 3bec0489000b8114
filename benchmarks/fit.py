"""Likelihoods of whole documents: `models.likelihood` against lm-eval's `hf` rolling log-likelihood.

Same model (SmolLM2-135M, float32), documents, window, one thread. ours and peer: processor seconds, tokenising
included, both warm. The peer runs at batch size 1, its best on a CPU, and at 4 and 16 with the documents in the order
given. Peak memory is that of a process of its own above what it had once the model was loaded; the largest difference
of a document's log-likelihood stands in nat a token.

`matrix_rate` compares with the time that the model's linear layers alone take at the machine's best, on as many rows as
a pass has: `ratio` is that time over ours, so 1 is its limit.
"""

from __future__ import annotations

import json
import math
import time

import measure
import torch

from s2utils.models import likelihood, loading
from s2utils.models.parameters import Weights
from s2utils.workflow import packaged

WEIGHTS = Weights(path="embedded:smollm2-135m-instruct", revision="")
WINDOW, TOKENS = 2048, 512


def documents(n: int) -> list[str]:
    """Wikipedia leads in their order, each whole."""
    rows = json.loads(packaged.resolve("wikilead").read_text(encoding="utf-8"))
    return [row["extract"] for row in (rows if isinstance(rows, list) else list(rows.values()))[:n]]


def load(side: str, batch: int, n: int) -> dict:
    """A warm model and what it is to score."""
    torch.set_num_threads(1)
    model, tok, texts = loading.full(WEIGHTS, "float32"), loading.tokenizer(WEIGHTS), documents(n)
    made = {"model": model, "tok": tok, "texts": texts}
    if side == "hf":
        from lm_eval.models.huggingface import HFLM

        made["lm"] = HFLM(pretrained=model, tokenizer=tok, max_length=WINDOW, batch_size=batch, softmax_dtype="float32")
    {"hf": peer, "ours": ours, "matrices": matrices}[side](made | {"texts": texts[:2]})
    return made


def ours(made: dict) -> list[float]:
    """Log-likelihood of each document."""
    tok, windows = made["tok"], likelihood.Windows(WINDOW, WINDOW)
    ids = likelihood.encoded(tok, made["texts"])
    found = likelihood.losses(made["model"], ids, likelihood.beginning(tok), windows, TOKENS)
    return [-float(loss.sum(dtype=float)) for loss in found]


def peer(made: dict) -> list[float]:
    """The same by lm-eval."""
    from lm_eval.api.instance import Instance

    asked = [Instance("loglikelihood_rolling", {}, (text,), i) for i, text in enumerate(made["texts"])]
    return made["lm"].loglikelihood_rolling(asked, disable_tqdm=True)


def matrices(made: dict) -> float:
    """Processor seconds that the linear layers alone take for the documents' tokens, at the best of five passes."""
    linear = [m for m in made["model"].modules() if isinstance(m, torch.nn.Linear)]
    rows, best = {m: torch.randn(TOKENS, m.in_features) for m in linear}, math.inf
    with torch.inference_mode():
        for _ in range(5):
            started = time.process_time()
            for layer, row in rows.items():
                if layer.out_features > 10_000:  # the head, in parts as ours
                    for part in row.split(likelihood.ROWS):
                        layer(part)
                else:
                    layer(row)
            best = min(best, time.process_time() - started)
    tokens = sum(map(len, likelihood.encoded(made["tok"], made["texts"])))
    return best * tokens / TOKENS


def main() -> None:
    """Run and write benchmarks/results/fit.json."""
    options = measure.arguments(__doc__).parse_args()
    n, repeats = (40, 1) if options.quick else (150, 3)
    sides = {"ours": ("ours", 1), "hf, batch 1": ("hf", 1), "hf, batch 4": ("hf", 4), "hf, batch 16": ("hf", 16)}
    runs: dict[str, list] = {name: [] for name in (*sides, "matrices")}
    for _ in range(repeats):  # in turn, so that what else the machine does meets all alike
        for name, (side, batch) in sides.items():
            runs[name].append(measure.alone(ours if side == "ours" else peer, load, side, batch, n))
        runs["matrices"].append(measure.alone(matrices, load, "matrices", 1, n))
    best = {name: measure.best(found) for name, found in runs.items()}
    tokens = sum(map(len, likelihood.encoded(loading.tokenizer(WEIGHTS), documents(n))))
    mine, limit = best["ours"], min(run["value"] for run in runs["matrices"])
    extra = {name: run["peak_mb"] - run["start_mb"] for name, run in best.items()}
    rows = []
    for name in list(sides)[1:]:
        off = max(abs(a - b) for a, b in zip(mine["value"], best[name]["value"]))
        rows.append(
            measure.row(
                f"likelihood, {name}", unit="processor seconds", ours=mine["cpu_seconds"],
                peer=best[name]["cpu_seconds"],
                ratio=round(best[name]["cpu_seconds"] / mine["cpu_seconds"], 2), n=n, tokens=tokens,
                ours_extra_mb=extra["ours"], peer_extra_mb=extra[name], off_nat_a_document=off,
                memory_ratio=round(extra["ours"] / max(1, extra[name]), 3),
            )
        )  # fmt: skip
    share = round(limit / mine["cpu_seconds"], 3)
    rows.append(
        measure.row("matrix_rate", unit="processor seconds", ours=mine["cpu_seconds"], peer=round(limit, 2),
                    ratio=share, limit=1.0, n=n, tokens=tokens)
    )  # fmt: skip
    measure.write("fit", rows, options.quick)
    for row in rows[:-1]:
        print(
            row["name"], {k: row[k] for k in ("ours_extra_mb", "peer_extra_mb", "memory_ratio", "off_nat_a_document")}
        )


if __name__ == "__main__":
    main()
