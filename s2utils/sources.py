"""Read the sources of questions and answers as one kind of record, whatever they look like.

A record is a dict: dataset, id, question, body, answer, score (votes or None), group (subreddit, topic
or ""). Nothing is lost silently: what cannot be read comes back counted by reason, so that
read = records + unreadable. Kinds: `qa` (one question and one answer a row), `articles` (a text without
a question), `posts` (a question with a list of answers and their votes: {a_id, text, score}).
"""

from __future__ import annotations

import csv
import gzip
import json
import random
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from s2utils import embedded, paths
from s2utils.params import Source

SUFFIXES = (".json", ".jsonl", ".csv", ".parquet", ".arrow")


class SourceError(ValueError):
    """A source that cannot be read at all; the message names it, the trouble and the remedy."""


def read(name: str, source: Source, seed: int) -> tuple[list[dict], Counter]:
    """Records of a source and the count of rows (or answers) that could not be read, by reason.

    With `max_records` a seeded sample of the rows is taken; the rest is neither read nor counted.
    """
    records, unreadable, seen_columns = [], Counter(), Counter()
    count = 0
    for number, row in _sampled(source, seed):
        count += 1
        if not isinstance(row, dict):
            unreadable["broken row"] += 1
            continue
        seen_columns.update(row.keys())
        records += _records(name, source, row, number, unreadable)
    missing = [c for c in _columns(source) if c and not seen_columns[c]]
    if count and missing and seen_columns:
        raise SourceError(
            f"{source.path}: no row has the column{'s' * (len(missing) > 1)} {', '.join(missing)} that "
            f"data.sources.{name} names; it has {', '.join(sorted(map(str, seen_columns)))}"
        )
    if not records:
        raise SourceError(
            f"{source.path}: {count} rows and not one usable record ({dict(unreadable) or 'it is empty'})"
        )
    return records, unreadable


def _columns(source: Source) -> list[str]:
    return [source.id, source.question, source.body, source.answer, source.group]


def _records(name: str, source: Source, row: dict, number: int, unreadable: Counter) -> list[dict]:
    """The records of one row; what is wrong with the others goes into `unreadable`."""

    def text(column: str) -> str | None:
        value = row.get(column) if column else ""
        return _writable(value) if isinstance(value, str) else None

    question, body, group = text(source.question), text(source.body) or "", text(source.group) or ""
    identity = _writable(str(row.get(source.id, number) if source.id else number))
    if question is None:
        unreadable["no question"] += 1
        return []
    answers = [(row.get(source.answer), None, "")]
    if source.kind == "posts":
        held = row.get(source.answer)
        try:
            answers = list(zip(held["text"], held["score"], [f"/{a}" for a in held["a_id"]], strict=True))
        except (TypeError, KeyError, ValueError):
            unreadable["broken answers"] += 1
            return []
    records = []
    for answer, score, tail in answers:
        if not isinstance(answer, str) or not (score is None or isinstance(score, int)) or isinstance(score, bool):
            unreadable["answer is not text" if not isinstance(answer, str) else "votes are not a number"] += 1
            continue
        records.append(
            {"dataset": name, "id": identity + tail, "question": question, "body": body, "answer": _writable(answer),
             "score": score, "group": group}
        )  # fmt: skip
    return records


def _writable(text: str) -> str:
    """Half a surrogate pair, which JSON can spell and no file can hold, becomes "?"."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _sampled(source: Source, seed: int) -> Iterator[tuple[int, object]]:
    """(row number, row), all of them or a seeded sample in the source's order."""
    rows = enumerate(_rows(source), start=1)
    if not source.max_records:
        yield from rows
        return
    held = list(rows)
    keep = random.Random(seed).sample(range(len(held)), min(source.max_records, len(held)))
    yield from (held[i] for i in sorted(keep))


def _rows(source: Source) -> Iterator[object]:
    """Raw rows of a file or a hub data set; None for a row that is broken."""
    if source.path.startswith("embedded:"):
        path = embedded.resolve(source.path)
    else:
        path = paths.root() / source.path
        if not path.is_file():
            looks_local = any(source.path.endswith(s) or source.path.endswith(s + ".gz") for s in SUFFIXES)
            if looks_local or source.path.startswith((".", "/")):
                raise SourceError(f"{source.path}: there is no such file (paths start at the repository's root)")
            yield from _hub_rows(source)
            return
    kind = Path(path.name.removesuffix(".gz")).suffix
    if kind not in SUFFIXES:
        raise SourceError(f"{source.path}: cannot read '{kind}' files; known: {', '.join(SUFFIXES)} (also .gz)")
    if kind in (".parquet", ".arrow"):
        yield from _column_rows(source, path)
        return
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8-sig", errors="replace", newline="") as file:
        try:
            if kind == ".csv":
                csv.field_size_limit(2**31 - 1)
                yield from (None if None in row or None in row.values() else row for row in csv.DictReader(file))
            elif kind == ".json" and (start := _first(file)) in "[{" and not _is_lines(file):
                value = json.load(file)
                yield from value.values() if start == "{" else value
            else:
                for line in file:
                    if line.strip():
                        yield _parsed(line)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise SourceError(f"{source.path}: the file is cut or not gzip ({error}); fetch it again") from error
        except (ValueError, RecursionError) as error:
            raise SourceError(f"{source.path}: not valid {kind[1:]} ({error})") from error


def _column_rows(source: Source, path: Path) -> Iterator[dict]:
    import datasets
    import pyarrow.parquet

    try:
        if path.suffix == ".arrow":
            yield from datasets.Dataset.from_file(str(path))
        else:
            for batch in pyarrow.parquet.ParquetFile(path).iter_batches():
                yield from batch.to_pylist()
    except (OSError, ValueError) as error:
        raise SourceError(f"{source.path}: not valid {path.suffix[1:]} ({error})") from error


def _hub_rows(source: Source) -> Iterator[object]:
    import datasets

    try:
        yield from datasets.load_dataset(source.path, source.config or None, split=source.split or "train")
    except (OSError, ValueError) as error:
        raise SourceError(
            f"hub data set {source.path} could not be loaded ({type(error).__name__}: {str(error)[:200]}); check the "
            "connection, HF_TOKEN for gated sets, or give a local file in data.sources"
        ) from error


def _first(file) -> str:
    """First character that is not white space; the file is back at its start."""
    start = next((c for c in iter(lambda: file.read(1), "") if not c.isspace()), "")
    file.seek(0)
    return start


def _is_lines(file) -> bool:
    """Whether the first line is a whole JSON value and another follows: JSON lines under a .json name."""
    first, second = file.readline(), file.readline()
    file.seek(0)
    return bool(second.strip()) and _parsed(first) is not None


def _parsed(line: str) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None
