"""Rows of a file that was made elsewhere: CSV, JSON (one array, or a value a line) or Parquet, however it was encoded.

Values stay what the file has (cells of a CSV are texts); `values` reads them. A text or a list in place of a row is a
row with the one column "output". Unlike in a source (`readers`), a row that cannot be read is an error. Traps: a file
that is not UTF-8 is taken for Windows-1252, which reads any bytes, so `note` says so; only "\\n" ends a line of JSON,
for texts hold U+2028.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from s2utils.data.streams import writable
from s2utils.data.values import Note
from s2utils.workflow.params import ParameterError

# the study's prompt, or Llama-2's: a CSV whose header holds one has no header
PROMPT = re.compile(r"\A\s*(?:### Human:|(?:<s>\s*)?\[INST\])(.*?)(?:### Assistant:|\[/INST\]) ?", re.DOTALL)
BARE = "output"  # column of a row that is a value without a name
LINES = (".jsonl", ".ndjson")
JSON = (".json", *LINES)
MARKS = (  # at the beginning of a file; UTF-32's holds UTF-16's
    (codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip


class RecordsError(ParameterError):
    """A file that holds no rows that can be read; the message names it, the line and the remedy."""


@dataclass(frozen=True)
class Records:
    """Rows, each with every column (None where it lacks one), their numbers, and how the file had to be read ("")."""

    rows: list[dict]
    columns: list[str]
    numbers: list[int]
    note: str = ""


def read(file: Path, part: str = "", notes: list[Note] | None = None) -> Records:
    """All rows of a file, in order; a number is its line in JSON lines, else its place from 1. Raises RecordsError.

    `notes` hears of a strange encoding of what was given as `part`.
    """
    note = ""
    try:
        if file.suffix == ".parquet":
            import pyarrow.parquet

            rows = list(enumerate(pyarrow.parquet.read_table(file).to_pylist(), start=1))
        else:
            text, note = decoded(file.read_bytes())
            rows = _json(text, file) if file.suffix in JSON else _csv(text, file)
    except RecordsError:
        raise
    except (OSError, ValueError, csv.Error) as error:
        kinds = "CSV, JSON or JSON lines in UTF-8, or Parquet"
        raise RecordsError(f"{file} cannot be read: {error}; wanted: {kinds}") from error
    if not rows:
        raise RecordsError(f"{file} holds no rows")
    if note and notes is not None:
        notes.append(Note(part, file.name, 0, "", note, read=True))
    columns = list(dict.fromkeys(name for _, row in rows for name in row))
    whole = [{name: row.get(name) for name in columns} for _, row in rows]
    return Records(whole, columns, [number for number, _ in rows], note)


def decoded(data: bytes) -> tuple[str, str]:
    """(text of a file's bytes, what had to be done to read them)."""
    encoding = next((encoding for mark, encoding in MARKS if data.startswith(mark)), "utf-8")
    try:
        return data.decode(encoding), ""
    except UnicodeDecodeError:
        text = data.decode(encoding, "replace")
    broken = text.count("\ufffd")
    if encoding == "utf-8" and broken >= sum(c > "\x7f" for c in text) - broken:  # hardly a letter of UTF-8
        return data.decode("cp1252", "replace"), "not UTF-8: read as Windows-1252"
    return text, f"not whole {encoding.removesuffix('-sig').upper()}: what is no character became U+FFFD"


def listed(columns: list[str]) -> str:
    """Names of columns for a message."""
    return ", ".join(repr(c[:60]) for c in columns[:12]) + (", …" if len(columns) > 12 else "") or "none"


def _csv(text: str, file: Path) -> list[tuple[int, dict]]:
    csv.field_size_limit(2**31 - 1)
    first = text.partition("\n")[0]
    comma = next((c for c in ",;\t" if c in first), ",")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=comma, strict=True)
    lines = [(reader.line_num, line) for line in reader if line]
    if not lines:
        return []
    head = [writable(c) for c in lines[0][1]]
    if any(PROMPT.match(cell) for cell in head):
        head = ["" if cell.isdigit() else "0" if PROMPT.match(cell) else f"column {i}" for i, cell in enumerate(head)]
    else:
        lines = lines[1:]
    if doubled := [c for c in dict.fromkeys(head) if head.count(c) > 1]:
        times = head.count(doubled[0])
        raise RecordsError(f"{file}: column {doubled[0]!r} stands {times} times; give each its own name")
    for number, line in lines:
        if len(line) != len(head):
            wanted = f"{len(head)}: {listed(head)}"
            raise RecordsError(f"{file}, line {number}: {len(line)} cells where the header has {wanted}")
    return [(i, dict(zip(head, line))) for i, (_, line) in enumerate(lines, start=1)]


def _json(text: str, file: Path) -> list[tuple[int, dict]]:
    """Rows of one array or object, or of a value a line."""
    trouble = None
    if text.lstrip()[:1] == "[" or file.suffix not in LINES:
        try:
            whole = json.loads(text)
        except (ValueError, RecursionError) as error:
            trouble = error
        else:
            if isinstance(whole, dict) and len(whole) > 1 and all(isinstance(v, (list, dict)) for v in whole.values()):
                wanted = "an array of rows is wanted (orient='records' in pandas)"
                raise RecordsError(f"{file} is an object of columns; {wanted}")
            rows = enumerate(whole if isinstance(whole, list) else [whole], start=1)
            return [(number, _row(row, f"{file}, row {number}")) for number, row in rows]
    return [(number, _row(value, f"{file}, line {number}")) for number, value in json_lines(text, file, trouble)]


def json_lines(text: str, file: object, trouble: Exception | None = None) -> Iterator[tuple[int, object]]:
    """(number, value) of each line that is not blank. Raises RecordsError with the file and the line.

    `trouble` is what was wrong with the text as one value; of its first line this is said instead.
    """
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                value = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise RecordsError(f"{file}, line {number} is not JSON: {trouble or error}") from error
            yield number, value
            trouble = None


def _row(value: object, where: str) -> dict:
    if isinstance(value, dict):
        return {writable(str(name)): inside for name, inside in value.items()}
    if value is None or isinstance(value, (str, list)):
        return {BARE: value}
    raise RecordsError(f"{where} must be an object of names and values, or a text, not {value!r:.40}")
