"""BERTScore of all models' answers in one call against `bert_score.score` a model at a time.

ours and peer: processor seconds over the same answers, references and encoder, on one thread each. Ours loads the
encoder once, encodes each text once, with texts of the same length, and matches each pair alone; the peer loads and
encodes the references again for every model, and pads. Values are compared with the peer's in its default batches,
where a value depends on its neighbours (`s2utils/evaluation/bertscore.py`), and, of the first model, in batches of one
pair. Text: Wikipedia leads as references, and as answers other leads cut to random lengths, seeded.
"""

from __future__ import annotations

import random

import measure
import torch

from s2utils.data import sources
from s2utils.evaluation import bertscore
from s2utils.models import loading
from s2utils.workflow.params import load


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
        frame, _ = bertscore.score(flat, references * len(answers), settings.bertscore, settings.bertscore_layer, "cpu")
        return frame["bertscore_f1"].tolist()
    import bert_score

    path, _ = loading.located(settings.bertscore)
    f1, batch = [], {"batch_size": 1} if side == "alone" else {}
    for part in answers[:1] if side == "alone" else answers:
        *_, found = bert_score.score(part, references, model_type=path, num_layers=settings.bertscore_layer, **batch)
        f1 += found.tolist()
    return f1


def main():
    parser = measure.arguments(__doc__)
    parser.add_argument("--models", type=int, help="8, quick 4")
    parser.add_argument("--answers", type=int, help="300, quick 60")
    chosen = parser.parse_args()
    chosen.models = chosen.models or (4 if chosen.quick else 8)
    chosen.answers = chosen.answers or (60 if chosen.quick else 300)
    found = {}
    for side in ("peer", "ours", "alone"):
        found[side] = measure.alone(run, prepare, side, chosen.models, chosen.answers)
    apart = {s: max(abs(a - b) for a, b in zip(found["ours"]["value"], found[s]["value"])) for s in ("peer", "alone")}
    ours, peer = (found[side]["cpu_seconds"] for side in ("ours", "peer"))
    row = measure.row(
        "BERTScore against bert_score", ours=ours, peer=peer, ratio=round(peer / ours, 2), unit="processor s",
        n=len(found["ours"]["value"]),
    )  # fmt: skip
    measure.write(
        "bertscore", [row], chosen.quick, largest_difference_default_batches=apart["peer"],
        largest_difference_batches_of_one=apart["alone"], n_batches_of_one=chosen.answers,
    )  # fmt: skip
    print("largest difference of an F1: {peer:.1e} in default batches, {alone:.1e} in batches of one".format(**apart))


if __name__ == "__main__":
    main()
