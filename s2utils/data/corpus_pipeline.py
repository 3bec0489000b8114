"""Dolma's pipeline over the components of a corpus, in stages of datatrove blocks, with a funnel of what each drops.

read → web rules, personal details, toxicity → exact duplicates → near duplicates (MinHash) → evaluation sets → mix.
`run` works the stages off on this machine; on a cluster each goes to datatrove's own executor, in this order:
`SlurmPipelineExecutor(stage.blocks, tasks=stage.tasks, depends=…, logging_dir=stage.logs, …)`, then `finish`. Tasks
that a kill left unfinished are done again, and the same documents, in the same order and bytes, come out however many
tasks there are. Trap: raw text, personal details included, lies in `work` until the end.
Source: Soldaini et al. 2024, Dolma; Rae et al. 2021 (Gopher); Raffel et al. 2020 (C4).
"""

from __future__ import annotations

import json
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.dedup import (
    MinhashConfig,
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupFilter,
    MinhashDedupSignature,
)
from datatrove.utils.hashing import HashConfig

from s2utils.data import corpus_blocks as blocks
from s2utils.data import corpus_copies, corpus_mix
from s2utils.data.corpora import Document
from s2utils.data.corpus_words import Words
from s2utils.data.parameters import Component, Pipeline
from s2utils.workflow import artefacts

SHARD = 2_000  # documents of a file of the mix, which is shuffled in memory
COUNTED = {"filtered": "toxicity", "unique": "duplicates", "clean": "contamination"}  # folder → last step before it


@dataclass(frozen=True)
class Stage:
    """What one executor runs: `blocks` over `tasks` shares, its logs and marks of finished tasks in `logs`."""

    name: str
    blocks: list[PipelineStep]
    tasks: int
    logs: Path


def stages(
    work: Path, components: dict[str, Component], pipeline: Pipeline, sets: dict[str, list[str]], model: str, seed: int
) -> list[Stage]:
    """The stages, in order; their files lie in `work`.

    `sets` are the texts of each evaluation set (`decontamination.evaluation_sets`), `model` scores toxicity.
    """
    work = work.resolve()
    artefacts.write_json(work / "sets.json", sets)
    words, tasks, least = Words(), pipeline.tasks, pipeline.duplicate_paragraph_words
    config = MinhashConfig(
        n_grams=pipeline.minhash_n_grams, num_buckets=pipeline.minhash_buckets,
        hashes_per_bucket=pipeline.minhash_hashes, seed=seed, hash_config=HashConfig(hash_fc="sha1"),
    )  # fmt: skip

    def dropped(step: str, reason: str = "") -> blocks.Dropped:
        return blocks.Dropped(work / "dropped" / step, reason)

    filters = {
        "language": lambda out: blocks.Language(pipeline.language, pipeline.language_min, out),
        "quality": lambda out: blocks.Quality(pipeline.quality.model_dump(), words, out),
        "c4": lambda out: blocks.C4(**pipeline.c4.model_dump(), language=words, exclusion_writer=out),
        "repetition": lambda out: blocks.Repetition(pipeline.repetition.model_dump(), words, out),
        "pii": lambda out: blocks.Personal(pipeline.pii_max, out),
        "toxicity": lambda out: blocks.Toxicity(pipeline.toxicity_sentence_max, model, out),
    }
    chosen = [filters[step](dropped(step)) for step in pipeline.steps]
    for block in chosen:
        if isinstance(block, blocks.Web):
            block.web = tuple(pipeline.web)
    plan = [
        ("read", [blocks.Read(work / "raw", components, seed)], 1),
        ("filter", [
            blocks.Blocks(work / "raw", shared=True), *chosen,
            corpus_copies.Fingerprints(work / "fingerprints", least), blocks.writer(work / "filtered"),
        ], tasks),
        ("copies", [corpus_copies.FindCopies(work / "fingerprints", work / "marks")], 1),
        ("unique", [
            blocks.Blocks(work / "filtered"), corpus_copies.Copies(work / "marks", least, dropped("duplicates")),
            blocks.writer(work / "unique"), MinhashDedupSignature(str(work / "signatures"), config, words),
        ], tasks),
        ("buckets", [MinhashDedupBuckets(str(work / "signatures"), str(work / "pairs"), config=config)],
         pipeline.minhash_buckets),
        ("clusters", [MinhashDedupCluster(str(work / "pairs"), str(work / "near"), config)], 1),
        ("clean", [
            blocks.Blocks(work / "unique"),
            MinhashDedupFilter(str(work / "near"), dropped("near_duplicates", "near duplicate")),
            blocks.Decontamination(work / "sets.json", pipeline.contamination_words, dropped("contamination")),
            blocks.writer(work / "clean"),
        ], tasks),
    ]  # fmt: skip
    return [Stage(name, steps, n, work / "logs" / name) for name, steps, n in plan]


def run(
    folder: Path,
    components: dict[str, Component],
    pipeline: Pipeline,
    sets: dict[str, list[str]],
    model: str,
    seed: int,
    workers: int = 1,
) -> pd.DataFrame:
    """Filter and mix the components into `folder`/documents; returns the funnel, which is kept beside them.

    Raises what `corpora.documents` raises. What an earlier, killed run left is gone on with; a change of arguments
    needs another folder.
    """
    if not (folder / "funnel.csv").is_file():
        for stage in stages(folder / "work", components, pipeline, sets, model, seed):
            LocalPipelineExecutor(
                stage.blocks, tasks=stage.tasks, workers=min(workers, stage.tasks), logging_dir=str(stage.logs)
            ).run()
        finish(folder, components, pipeline, seed)
    shutil.rmtree(folder / "work", ignore_errors=True)
    return pd.read_csv(folder / "funnel.csv", keep_default_na=False)


def finish(folder: Path, components: dict[str, Component], pipeline: Pipeline, seed: int) -> None:
    """Mix the documents that are left, and write the funnel, last."""
    frame = funnel(folder / "work", pipeline)
    mix(folder / "work" / "clean", folder / "documents", components, seed)
    with artefacts.replacing(folder / "funnel.csv") as file:
        frame.to_csv(file, index=False)


def documents(folder: Path) -> Iterator[Document]:
    """Documents of a finished corpus, in the order of the mix."""
    for file in sorted((folder / "documents").glob("*.parquet")):
        for row in blocks.rows(file):
            yield Document(row["id"], row["domain"], row["component"], row["text"])


def mix(clean: Path, target: Path, components: dict[str, Component], seed: int) -> None:
    """Each document as often as the epochs of its component say, shuffled, in files of about `SHARD` in `target`.

    A copy falls into a file by chance and is shuffled there, so that memory holds one file.
    """
    files = sorted(clean.glob("*.parquet"))
    sizes = _counts(clean, "component")
    rng = np.random.default_rng(seed)
    copies = {name: iter(corpus_mix.copies(sizes[name], c.epochs, seed)) for name, c in components.items()}
    total = sum(round(sizes[name] * component.epochs) for name, component in components.items())
    shards = max(1, round(total / SHARD))
    parts = target.with_name("work") / "parts"
    shutil.rmtree(parts, ignore_errors=True)
    parts.mkdir(parents=True)
    waiting: dict[int, list[str]] = defaultdict(list)

    def write() -> None:
        for shard, lines in waiting.items():
            with open(parts / f"{shard:06d}.jsonl", "a", encoding="utf-8") as file:
                file.writelines(lines)
        waiting.clear()

    held = 0
    for row in (row for file in files for row in blocks.rows(file)):
        for shard in rng.integers(0, shards, next(copies[row["component"]])).tolist():
            waiting[shard].append(json.dumps(row) + "\n")
            held += 1
            if held % SHARD == 0:
                write()
    write()
    for n in range(shards):
        path = parts / f"{n:06d}.jsonl"
        rows = list(map(json.loads, path.read_text(encoding="utf-8").splitlines())) if path.is_file() else []
        order = np.random.default_rng([seed, n]).permutation(len(rows))
        with artefacts.replacing(target / f"{n:06d}.parquet", "wb") as file:
            pq.write_table(pa.Table.from_pylist([rows[i] for i in order], blocks.SCHEMA), file, compression="zstd")


def funnel(work: Path, pipeline: Pipeline) -> pd.DataFrame:
    """One row per (step, domain, reason): n and the id of one document; the reason of what stays is "kept".

    Of each step and domain, kept and dropped are what the step before kept. Raises RuntimeError where the documents
    that were written are not those.
    """
    rows = [
        ("read", name, reason, n, "")
        for name, reasons in (artefacts.read_json(work / "left_out.json") or {}).items()
        for reason, n in sorted(reasons.items())
    ]
    left = _counts(work / "raw", "domain")
    rows += [("read", domain, "kept", n, "") for domain, n in left.items()]
    for step in [*pipeline.steps, "duplicates", "near_duplicates", "contamination"]:
        counts, example = Counter(), {}
        for file in sorted((work / "dropped" / step).glob("*.jsonl")):
            with open(file, encoding="utf-8") as lines:
                for row in map(json.loads, lines):
                    counts[key := (row["domain"], row["reason"])] += 1
                    example.setdefault(key, f"{row['component']}/{row['id']}")
        for domain in left:
            of_domain = sorted(key for key in counts if key[0] == domain)
            rows += [(step, *key, counts[key], example[key]) for key in of_domain]
            left[domain] -= sum(counts[key] for key in of_domain)
            rows.append((step, domain, "kept", left[domain], ""))
        for folder, last in COUNTED.items():
            if step == (pipeline.steps[-1] if folder == "filtered" and pipeline.steps else last):
                there = _counts(work / folder, "domain")
                if there != +Counter(left):
                    raise RuntimeError(f"{work / folder} holds {dict(there)}, {dict(left)} were kept: remove {work}")
    return pd.DataFrame(rows, columns=["step", "domain", "reason", "n", "example"])


def _counts(folder: Path, column: str) -> Counter:
    """Documents of all files of a folder by a column, in the order in which its values come."""
    counts: Counter = Counter()
    for file in sorted(folder.glob("*.parquet")):
        for value in pq.read_table(file, columns=[column])[column].value_counts().to_pylist():
            counts[value["values"]] += value["counts"]
    return counts
