"""Clean and measure the sources, block by block: memory stays flat in rows, and a killed run goes on.

The blocks of all sources are dealt out to `data.shards` jobs. A block is one Parquet of its records, kept
and dropped ones, with the count of unreadable rows in its metadata; it is there whole or not at all.
Rows are the same, in the same order, however many shards and processes made them.
Alone: `python -m s2utils make filtered <profile> <shard>`.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, wait
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from tqdm.auto import tqdm

from s2utils.data import cards, filters, sources
from s2utils.data.parameters import S2, Source
from s2utils.workflow import artefacts, notebook, processes
from s2utils.workflow.params import Params

BLOCK = 2_000  # rows
_NUMBERS = {"score": pa.int64(), "n_words": pa.int64(), "fre": pa.float64(), "fkg": pa.float64()}
SCHEMA = pa.schema([(column, _NUMBERS.get(column, pa.string())) for column in filters.COLUMNS])


def write(folder: Path, params: Params, shard: int) -> None:
    """Write the blocks of `shard` (0 to data.shards − 1) that are missing in `folder`."""
    workers = params.runtime.threads
    running: set = set()
    with processes.pool(workers) as pool:
        for name, source in params.data.sources.items():
            blocks = sources.blocks(name, source, params.seed, BLOCK)
            for number, rows in enumerate(tqdm(blocks, desc=f"clean and measure {name}", unit="block")):
                path = folder / f"{name}-{number:06d}.parquet"
                if number % params.data.shards != shard or path.is_file():
                    continue
                job = (name, source, params.s2, params.data.keep_rejected, rows, path)
                if not pool:
                    _block(*job)
                    continue
                running.add(pool.submit(_block, *job))
                while len(running) > 2 * workers:  # so many blocks in memory, no more
                    done, running = wait(running, return_when=FIRST_COMPLETED)
                    for finished in done:
                        finished.result()
        for finished in running:
            finished.result()


def _block(name: str, source: Source, s2: S2, keep_rejected: bool, raw: list, path: Path) -> None:
    """Write one block."""
    records, unreadable = sources.records(name, source, raw)
    rows = [filters.apply(record, source.kind, s2) for record in records]
    if not keep_rejected:
        rows = [row | {"answer": ""} if row["dropped"] else row for row in rows]
    table = pa.Table.from_pylist(rows, SCHEMA)
    table = table.replace_schema_metadata({"unreadable": json.dumps(unreadable, sort_keys=True)})
    with artefacts.replacing(path, "wb") as file:
        pq.write_table(table, file, compression="zstd")


def files(folders: list[Path], name: str) -> list[Path]:
    """Blocks of a source in order, from all shards."""
    return sorted((p for folder in folders for p in folder.glob(f"{name}-??????.parquet")), key=lambda p: p.name)


def kept(folders: list[Path], name: str) -> tuple[pd.DataFrame, Counter]:
    """(records that passed every step, count of all others by reason)."""
    counts: Counter = Counter()
    parts = []
    for path in files(folders, name):
        counts.update(json.loads(pq.read_metadata(path).metadata[b"unreadable"]))
        table = pq.read_table(path)
        dropped = table["dropped"].to_pandas()
        counts.update(dropped[dropped != ""])
        parts.append(table.filter(pc.equal(table["dropped"], "")))
    if not parts or not sum(len(p) for p in parts) + sum(counts.values()):
        raise sources.SourceError(f"data.sources.{name}: it holds no rows")
    frame = pa.concat_tables(parts).to_pandas()
    return frame.astype({"score": "Int64"}), counts


def questions(folders: list[Path], params: Params) -> pd.DataFrame:
    """One row per question of all sources but articles, which have none: dataset, post, question, group.

    Where `asks` is a step, meta posts and open threads are left out, whatever their answers fell for.
    """
    columns = ["dataset", "post", "question", "group"]
    parts = [pd.DataFrame(columns=columns, dtype="str")]
    for name, source in params.data.sources.items():
        for path in files(folders, name) if source.kind != "articles" else ():
            frame = pq.read_table(path, columns=columns).to_pandas()
            asked = frame[frame["question"] != ""].drop_duplicates("post")
            if source.kind == "posts" and "asks" in params.s2.steps["posts"]:
                asks = [filters.is_question(*q.partition("\n")[::2]) for q in asked["question"]]
                asked = asked[np.array(asks, dtype=bool)]
            parts.append(asked)
    return pd.concat(parts, ignore_index=True).drop_duplicates(["dataset", "post"])


def rejected(folders: list[Path], frame: pd.DataFrame, n: int, seed: int, path: Path | None) -> pd.DataFrame:
    """`n` seeded examples of each reason, from the blocks and from `frame`; all dropped records go to `path`."""
    writer, picked = None, None
    with artefacts.replacing(path, "wb") if path else contextlib.nullcontext() as file:
        blocks = (pq.read_table(block, filters=[("dropped", "!=", "")]).to_pandas() for block in files(folders, "*"))
        for part in itertools.chain(blocks, [frame[frame["dropped"] != ""]]):
            picked = cards.pick(part, picked, n, seed)
            if file:
                writer = writer or pq.ParquetWriter(file, SCHEMA, compression="zstd")
                writer.write_table(pa.Table.from_pandas(part[filters.COLUMNS], SCHEMA, preserve_index=False))
        if writer:
            writer.close()
    return picked


def make(run: notebook.Run, shard: str) -> Path:
    """Folder of a shard's finished artefact, made if it is missing."""
    part = run.artefact(shard, "filtered")
    if not part.ready:
        with part.making():
            write(part.folder, run.params, int(shard))
    return part.folder
