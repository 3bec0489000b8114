"""The blocks of the corpus pipeline against plain datatrove, and the memory of the whole pipeline as documents grow.

Speed, on 5,000 documents of the cpu profile's web components (--quick: 1,000), in documents a processor second, both
warm: quality and repetition (Gopher), C4's rules, personal details, MinHash signatures. ours: our blocks, one
tokenisation for all of them; peer: datatrove's own blocks with the same limits (the mean of word lengths where ours
take the median), which tokenise anew in each, by spaCy. ratio = ours / peer; `same` is the share of documents that
both keep or both drop.

Memory: ours is the peak of the whole pipeline at 100,000 documents of five sentences each (--quick: 10,000), peer at
a tenth of them, same code, one worker. ratio = peer / ours: 1.0 is flat, the most there can be.

spaCy is no part of the environment: without it the memory alone is measured, and the script says what to install.
"""

from __future__ import annotations

import importlib.util
import json
import random
import tempfile
from pathlib import Path

import measure
from datatrove.data import Document
from datatrove.pipeline.dedup import MinhashConfig, MinhashDedupSignature
from datatrove.pipeline.filters import C4QualityFilter, GopherQualityFilter, GopherRepetitionFilter
from datatrove.pipeline.formatters import PIIFormatter
from datatrove.utils.hashing import HashConfig

from s2utils.data import corpora, corpus_blocks, corpus_pipeline, decontamination
from s2utils.data.corpus_words import Words
from s2utils.workflow.params import load

DOCUMENTS, QUICK = 5_000, 1_000
SIZES, QUICK_SIZES = (10_000, 100_000), (1_000, 10_000)
SENTENCES = 5  # of a document of the second part
WARM = 20  # documents


def documents(n: int) -> list[str]:
    """A seeded sample of the texts of the web components, each whole."""
    params = load("cpu")
    chosen = {name: params.corpus.components[name] for name in params.corpus.pipeline.web}
    there = corpora.at_hand({name: c.model_copy(update={"max_documents": 0}) for name, c in chosen.items()})
    texts = [d.text for name, c in there.items() for d in corpora.documents(name, c, 0)]
    return random.Random(0).sample(texts, n)


def blocks(side: str, folder: str) -> list:
    """The same blocks of either side."""
    limits = load("cpu").corpus.pipeline
    config = MinhashConfig(
        n_grams=limits.minhash_n_grams, num_buckets=limits.minhash_buckets,
        hashes_per_bucket=limits.minhash_hashes, hash_config=HashConfig(hash_fc="sha1"),
    )  # fmt: skip
    quality, repetition, c4 = (rules.model_dump() for rules in (limits.quality, limits.repetition, limits.c4))
    if side == "ours":
        words = Words()
        chosen = [
            corpus_blocks.Quality(quality, words), corpus_blocks.C4(**c4, language=words),
            corpus_blocks.Repetition(repetition, words), corpus_blocks.Personal(limits.pii_max),
            MinhashDedupSignature(folder, config, words),
        ]  # fmt: skip
        for block in chosen[:3]:
            block.web = ("web",)
        return chosen
    for end in ("min", "max"):
        quality[f"{end}_avg_word_length"] = quality.pop(f"{end}_median_word_length")
    for kind in corpus_blocks.NGRAMS:
        repetition[kind] = tuple((int(n), most) for n, most in repetition[kind].items())
    return [
        GopherQualityFilter(**quality), C4QualityFilter(**c4), GopherRepetitionFilter(**repetition), PIIFormatter(),
        MinhashDedupSignature(folder, config),
    ]  # fmt: skip


def warm(side: str, n: int) -> tuple[str, list[str]]:
    """What is to be filtered, after a few documents that load the words of either side."""
    texts = documents(n)
    kept((side, texts[:WARM]))
    return side, texts


def kept(made: tuple[str, list[str]]) -> list[str]:
    """Ids of the documents that the filters keep; signatures are made of these."""
    side, texts = made
    passed: list[str] = []

    def noted(data):
        for doc in data:
            passed.append(doc.id)
            yield doc

    data = (Document(t, str(i), metadata={"component": "web", "domain": "web"}) for i, t in enumerate(texts))
    with tempfile.TemporaryDirectory() as folder:
        *filters, signature = blocks(side, folder)
        for block in filters:
            data = block.run(data, 0, 1)
        signature.run(noted(data), 0, 1)
    return passed


def speed(n: int, rounds: int) -> dict:
    """Both sides in turns on the same `n` documents."""
    runs = [{side: measure.alone(kept, warm, side, n) for side in ("ours", "datatrove")} for _ in range(rounds)]
    ours, peer = (measure.best([turn[side] for turn in runs]) for side in ("ours", "datatrove"))
    apart = set(ours["value"]) ^ set(peer["value"])
    return measure.row(
        "blocks against datatrove's with spaCy",
        ours=round(n / ours["cpu_seconds"], 1), peer=round(n / peer["cpu_seconds"], 1), unit="documents/s", n=n,
        ratio=round(peer["cpu_seconds"] / ours["cpu_seconds"], 2),
        same=1 - len(apart) / n, kept=len(ours["value"]), kept_by_peer=len(peer["value"]), rounds=rounds,
    )  # fmt: skip


def synthetic(n: int) -> tuple[tempfile.TemporaryDirectory, int]:
    """A folder with `n` documents of sentences of the web components, drawn anew for each."""
    words, draw, folder = Words(), random.Random(1), tempfile.TemporaryDirectory()
    sentences = [s for text in documents(QUICK) for s in words.sent_tokenize(text) if s.endswith((".", "!", "?"))]
    with open(Path(folder.name) / "texts.jsonl", "w", encoding="utf-8") as file:
        for i in range(n):
            text = " ".join(" ".join(draw.sample(sentences, SENTENCES)).split())
            file.write(json.dumps({"id": str(i), "text": text}) + "\n")
    return folder, n


def pipeline(made: tuple[tempfile.TemporaryDirectory, int]) -> int:
    """The whole pipeline, in this process; documents of the mix."""
    (folder, n), params = made, load("cpu")
    out, limits = Path(folder.name) / "out", params.corpus.pipeline.model_copy(update={"web": ["texts"]})
    components = {"texts": corpora.folder(Path(folder.name) / "texts.jsonl", domain="web")}
    sets = decontamination.evaluation_sets(params)
    funnel = corpus_pipeline.run(out, components, limits, sets, params.s2.toxicity_model, params.seed)
    assert funnel.loc[funnel["step"] == "read", "n"].sum() == n, "documents are lost"
    return int(funnel.loc[(funnel["step"] == "contamination") & (funnel["reason"] == "kept"), "n"].sum())


def memory(sizes: tuple[int, int]) -> tuple[dict, list[dict]]:
    """(the row, what was measured) at both sizes."""
    runs = [{"documents": n} | measure.alone(pipeline, synthetic, n) for n in sizes]
    runs = [{("kept" if key == "value" else key): value for key, value in run.items()} for run in runs]
    small, large = (run["peak_mb"] for run in runs)
    row = measure.row(
        "memory of the pipeline as documents grow", ours=large, peer=small, unit="MB", limit=1.0,
        ratio=round(small / large, 2), n=sizes[1], documents_per_second=round(sizes[1] / runs[1]["seconds"], 1),
    )  # fmt: skip
    return row, runs


def main():
    chosen = measure.arguments(__doc__).parse_args()
    rows, missing = [], importlib.util.find_spec("spacy") is None
    if not missing:
        rows.append(speed(*((QUICK, 1) if chosen.quick else (DOCUMENTS, 2))))
        measure.write("corpus", rows, chosen.quick)  # memory takes longer
    row, runs = memory(QUICK_SIZES if chosen.quick else SIZES)
    measure.write("corpus", [*rows, row], chosen.quick, runs=runs)
    if missing:
        print("Speed was not measured, for there is no spaCy here: `pip install 'spacy>=3.8,<4'` in a copy of it")


if __name__ == "__main__":
    main()
