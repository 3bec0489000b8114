"""Sources for tests: their rows, written in every format there is."""

import bz2
import csv
import gzip
import io
import json
import lzma
from pathlib import Path

import pandas as pd
import pyarrow as pa
import zstandard

from s2utils.data.parameters import Source

SIMPLE = "The sun is hot and big. It gives us light in the day. At night we see the moon and the stars in the sky."
PACK = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.ZstdCompressor(write_checksum=True).compress,
}
LINES = "".join(f"line {i} {i * i * 2654435761 % 2**32:08x}\n" for i in range(60_000))
ROWS = {
    "qa": [{"id": "1", "q": "Why?", "a": "Because."}, {"id": "2", "q": "How, \"so\"?", "a": "Like\nthis."}],
    "articles": [{"id": "1", "text": "The sun is a star."}, {"id": "2", "text": "Rain is\n\nwater."}],
    "posts": [
        {"id": "p1", "q": "Why?", "body": "I ask.",
         "answers": {"a_id": ["x", "y"], "text": ["So.", "No."], "score": [5, -1]}},
        {"id": "p2", "q": "How?", "body": "", "answers": {"a_id": ["z"], "text": ["Thus."], "score": [3]}},
    ],
}  # fmt: skip
NAMES = (  # of columns that a row may have or lack
    "id", "q", "a", "body", "answers", "text", "a_id", "score", "answers.text", "g", "wikitext",
)  # fmt: skip
COLUMNS = {
    "qa": {"question": "q", "answer": "a"},
    "articles": {"answer": "text"},
    "posts": {"question": "q", "body": "body", "answer": "answers.text", "answer_id": "answers.a_id",
              "score": "answers.score"},
}  # fmt: skip


def changed(section, **values):
    """A copy of a section of parameters with other values."""
    return section.model_copy(update=values)


def source(path: str | Path, kind: str = "qa", **changes) -> Source:
    """A source with the columns of ROWS."""
    unused = dict.fromkeys("config split revision question body answer answer_id score group".split(), "")
    facts = {"kind": kind, "path": str(path), "id": "id", "groups": [], "max_records": 0}
    return Source(**(unused | facts | COLUMNS[kind] | changes))


def packed(name: str | Path, data: str | bytes) -> bytes:
    """The data as a file of this name holds them."""
    data = data.encode("utf-8", "replace") if isinstance(data, str) else data
    return PACK.get(Path(name).suffix, bytes)(data)


def json_lines(rows: list) -> str:
    """Rows as JSON lines; a text is a line as it is."""
    return "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)


def put(folder: Path, name: str, rows: list[dict]) -> str:
    """Write `rows` in the format that the name says; returns the name, which is the path from the root."""
    path, kind = folder / name, Path(name).suffixes[0]
    if kind == ".arrow":
        table = pa.Table.from_pylist(rows)
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(table)
    elif kind == ".parquet":
        pd.DataFrame(rows).to_parquet(path)
    else:
        text = io.StringIO(newline="")
        if kind == ".csv":
            writer = csv.DictWriter(text, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        else:
            text.write(json.dumps(rows, indent=1) if kind == ".json" else json_lines(rows))
        path.write_bytes(packed(name, text.getvalue()))
    return name
