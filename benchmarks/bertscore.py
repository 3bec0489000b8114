"""BERTScore of all models' answers in one call against `bert_score.score` a model at a time.

ours and peer: processor seconds over the same answers, references and encoder, on one thread each; values are compared. Ours
loads the encoder once and encodes each reference once, however many models are scored against it; the peer does both
again for every model. Text: Wikipedia leads as references, and as answers other leads cut to random lengths, seeded.
"""

from __future__ import annotations

import argparse
import random

import measure
import torch

from s2utils import models, sources, text_metrics
from s2utils.params import load


def pairs(n_models: int, n: int) -> tuple[list[list[str]], list[str]]:
    """(answers of each model, references), `n` each."""
    records, _ = sources.read("wikilead", load("cpu").data.sources["wikilead"], 0)
    leads, chance = [r["answer"] for r in records], random.Random(0)
    texts = chance.sample(leads, n * (n_models + 1))
    cut = [" ".join(text.split()[: chance.randint(20, 120)]) for text in texts]
    return [cut[i * n : (i + 1) * n] for i in range(n_models)], texts[n_models * n :]


def prepare(side: str, n_models: int, n: int) -> tuple:
    """What `run` needs; nothing is loaded yet."""
    torch.set_num_threads(1)
    settings = load("cpu").text_metrics
    return side, settings, *pairs(n_models, n)


def run(made: tuple) -> list[float]:
    """F1 of every answer."""
    side, settings, answers, references = made
    if side == "ours":
        flat = [a for part in answers for a in part]
        frame, _ = text_metrics.bertscore(
            flat, references * len(answers), settings.bertscore, settings.bertscore_layer, "cpu"
        )
        return frame["bertscore_f1"].tolist()
    import bert_score

    path, _ = models.located(settings.bertscore)
    f1 = []
    for part in answers:
        *_, found = bert_score.score(part, references, model_type=path, num_layers=settings.bertscore_layer)
        f1 += found.tolist()
    return f1


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=8)
    parser.add_argument("--answers", type=int, default=300)
    chosen = parser.parse_args()
    found = {}
    for side in ("peer", "ours"):
        found[side] = measure.alone(run, prepare, side, chosen.models, chosen.answers)
    apart = max(abs(a - b) for a, b in zip(found["ours"]["value"], found["peer"]["value"]))
    ours, peer = (found[side]["cpu_seconds"] for side in ("ours", "peer"))
    measure.write(
        "bertscore", ours=ours, peer=peer, ratio=round(peer / ours, 2), limit=2, unit="processor s", n=len(found["ours"]["value"]),
        largest_difference=apart,
    )  # fmt: skip
    print(f"largest difference of an F1: {apart:.1e}")


if __name__ == "__main__":
    main()
