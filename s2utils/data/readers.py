"""Raw rows of files and hub data sets, streamed: memory does not grow with the number of rows.

A row is a dict, or `Unreadable` with its reason; nothing is left out without a count.
Trap: one JSON array is the exception to streaming: it is parsed whole.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import operator
import random
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from s2utils.data import reddit, wikipedia
from s2utils.data.parameters import Component, Source
from s2utils.data.streams import PACKED, SourceError, Unreadable, lines, parsed, unpacked
from s2utils.workflow import packaged, paths

SUFFIXES = (".json", ".jsonl", ".ndjson", ".csv", ".parquet", ".arrow", ".xml")
BATCH = 1000  # rows of a parquet or arrow file turned into Python at a time
STREAMED = 10_000  # rows of a hub set among which the next of a sample is drawn


def rows(source: Source) -> Iterator[dict | Unreadable]:
    """Raw rows of what `source.path` names; SourceError if it is not there or cannot be read on."""
    path = packaged.resolve(source.path) if source.path.startswith("embedded:") else paths.root() / source.path
    if path.is_dir():
        yield from reddit.posts(path, source.groups, paths.cache() / "reddit")
        return
    plain_name = path.name.removesuffix(path.suffix) if path.suffix in PACKED else path.name
    kind = Path(plain_name).suffix
    if not path.is_file():
        if kind in SUFFIXES or source.path.startswith((".", "/")):
            raise SourceError(f"{source.path}: there is no such file (paths start at the repository's root)")
        yield from hub_rows(source)
    elif kind in (".parquet", ".arrow") and kind == path.suffix:
        yield from _column_rows(source, path)
    elif kind == ".xml":
        yield from wikipedia.pages(path)
    elif kind == ".csv":
        yield from _csv_rows(source, path)
    elif kind == ".json" and not _is_lines(path):
        yield from _json_rows(source, path)
    elif kind in (".json", ".jsonl", ".ndjson"):
        yield from (_row(parsed(line)) for _, line in lines(path) if line.strip())
    else:
        known = f"known: {', '.join(SUFFIXES)}; all but parquet and arrow also {' '.join(PACKED)}"
        suffixes = path.name.removeprefix(path.stem.split(".")[0])
        raise SourceError(f"{source.path}: cannot read '{suffixes}' files; {known}")


def sample(rows: Iterable[dict | Unreadable], k: int, seed: int) -> Iterator[dict | Unreadable]:
    """A seeded sample of `k` usable rows in their order (Algorithm R, Vitter 1985), then the unreadable by reason."""
    draw, kept, unreadable, seen = random.Random(seed), [], Counter(), 0
    for row in rows:
        if isinstance(row, Unreadable):
            unreadable[row.reason] += row.n
            continue
        if seen < k:
            kept.append((seen, row))
        elif (place := draw.randrange(seen + 1)) < k:
            kept[place] = (seen, row)
        seen += 1
    yield from (row for _, row in sorted(kept, key=operator.itemgetter(0)))
    yield from itertools.starmap(Unreadable, unreadable.items())


def _row(value: object) -> dict | Unreadable:
    return value if isinstance(value, dict) else Unreadable("broken row")


def _is_lines(path: Path) -> bool:
    """Whether the first line is a whole JSON value and another follows: JSON lines under a .json name."""
    written = (line for _, line in lines(path) if line.strip())
    return parsed(next(written, "")) is not None and next(written, None) is not None


def _json_rows(source: Source, path: Path) -> Iterator[dict | Unreadable]:
    """Rows of one array of objects, or of one object of objects."""
    try:
        with io.TextIOWrapper(unpacked(path), encoding="utf-8-sig", errors="replace") as file:
            value = json.load(file)
    except SourceError:
        raise
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{source.path}: not valid json ({error})") from error
    if isinstance(value, dict) and any(isinstance(inside, dict) for inside in value.values()):
        value = list(value.values())
    yield from map(_row, value if isinstance(value, list) else [value])  # one value: JSON lines of one line


def _csv_rows(source: Source, path: Path) -> Iterator[dict | Unreadable]:
    csv.field_size_limit(2**31 - 1)
    with io.TextIOWrapper(unpacked(path), encoding="utf-8-sig", errors="replace", newline="") as file:
        reader = csv.DictReader(file)
        try:
            for row in reader:
                yield Unreadable("broken row") if None in row or None in row.values() else row
        except csv.Error as error:
            raise SourceError(f"{source.path}: not valid csv (line {reader.line_num}: {error})") from error


def _column_rows(source: Source, path: Path) -> Iterator[dict]:
    """Rows of a parquet or arrow file, a batch in memory at a time."""
    import pyarrow as pa
    import pyarrow.parquet

    try:
        if path.suffix == ".parquet":
            with pyarrow.parquet.ParquetFile(path) as file:
                for batch in file.iter_batches(BATCH):
                    yield from batch.to_pylist()
            return
        with pa.memory_map(str(path)) as file:
            try:
                batches = iter(pa.ipc.open_stream(file))  # as the datasets library writes them
            except pa.ArrowInvalid:
                stored = pa.ipc.open_file(file)
                batches = map(stored.get_batch, range(stored.num_record_batches))
            for batch in batches:
                for start in range(0, batch.num_rows, BATCH):
                    yield from batch.slice(start, BATCH).to_pylist()
    except (OSError, ValueError) as error:
        raise SourceError(f"{source.path}: not valid {path.suffix[1:]} ({error})") from error


def hub_rows(source: Source | Component, sample: int = 0, seed: int = 0) -> Iterator[dict]:
    """Rows of a hub data set; with `sample`, so many of them drawn from the stream, which is not downloaded whole."""
    import datasets

    try:
        rows = datasets.load_dataset(
            source.path,
            source.config or None,
            split=source.split or "train",
            revision=source.revision or None,
            streaming=bool(sample),
        )
        yield from rows.shuffle(seed=seed, buffer_size=STREAMED).take(sample) if sample else rows
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        remedy = "check the connection, HF_TOKEN for gated sets"
        if "script" in str(error).lower():
            remedy = "its loading script is not run: try the hub's copy without one (revision: refs/convert/parquet)"
        raise SourceError(
            f"hub data set {source.path} could not be loaded ({type(error).__name__}: {str(error)[:200]}); {remedy}, "
            "or give a local file"
        ) from error
