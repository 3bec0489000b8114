"""Turn the raw rows of any source into one kind of record.

A record is a dict: dataset, id, post (the question's identity: a post's id, else id), question, body,
answer, score (votes or None), group (subreddit, topic or ""). Nothing is lost silently: what cannot be
used comes back counted by reason, so that read = records + unreadable. Kinds: `qa` (one question and one
answer a row), `articles` (a text without a question), `posts` (a question with lists of answers, their
ids and votes). Trap: columns are dotted paths: `answers.text` reads both {"answers": {"text": [...]}} and
{"answers": [{"text": ...}, ...]}; a key that itself holds the dots comes first.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from itertools import islice

from s2utils.data import readers, wikipedia
from s2utils.data.parameters import Source
from s2utils.data.streams import SourceError, Unreadable, writable

MISSING = object()  # no such column in this row; a column may also hold null
DELETED = ("[deleted]", "[removed]")  # what reddit shows instead of a text that is gone
Row = tuple[int, dict | Unreadable]


def read(name: str, source: Source, seed: int) -> tuple[list[dict], Counter]:
    """All records of a source and the count of rows (or answers) that could not be used, by reason.

    Raises SourceError if not one record is usable.
    """
    usable, unreadable = [], Counter()
    for block in blocks(name, source, seed):
        new, left_out = records(name, source, block)
        usable += new
        unreadable += left_out
    if not usable:
        rows, why = sum(unreadable.values()), dict(unreadable) or "it is empty"
        raise SourceError(f"{source.path}: {rows} rows and not one usable record ({why})")
    return usable, unreadable


def blocks(name: str, source: Source, seed: int, size: int = 10_000) -> Iterator[list[Row]]:
    """Numbered raw rows, `size` at a time; with `max_records` a seeded sample of the usable ones.

    Raises SourceError if no row of the first block has one of the columns that the source names.
    """
    rows = readers.rows(source)
    if source.max_records:
        rows = readers.sample(rows, source.max_records, seed)
    numbered = enumerate(rows, start=1)
    checked = False
    while block := list(islice(numbered, size)):
        if not checked:
            readable = [row for _, row in block if isinstance(row, dict)]
            checked = bool(readable)
            _check_columns(name, source, readable)
        yield block


def records(name: str, source: Source, rows: list[Row]) -> tuple[list[dict], Counter]:
    """The records of numbered raw rows, and what could not be used, by reason.

    A row of posts counts each of its answers, and once where they cannot be told apart. Any JSON value may
    stand anywhere in a row.
    """
    usable, unreadable = [], Counter()
    groups = {group.casefold() for group in source.groups}  # reddit's names come in any case
    for number, row in rows:
        if isinstance(row, Unreadable):
            unreadable[row.reason] += row.n
        elif groups and _text(row, source.group).casefold() not in groups:
            unreadable["other group"] += 1
        else:
            usable += _records(name, source, number, row, unreadable)
    return usable, unreadable


def _records(name: str, source: Source, number: int, row: dict, unreadable: Counter) -> list[dict]:
    """The records of one row; what is wrong with the others goes into `unreadable`."""
    if source.question and not isinstance(_look_up(row, source.question), str):
        unreadable["no question"] += 1
        return []
    identity = _identity(_look_up(row, source.id) if source.id else None, number)
    answers = [(_look_up(row, source.answer), _look_up(row, source.score) if source.score else None, "")]
    body = _text(row, source.body)
    if source.kind == "posts":
        body = "" if body.strip() in DELETED else body  # the title may still ask
        try:
            answers = _answers(source, row)
        except (TypeError, ValueError):
            unreadable["broken answers"] += 1
            return []
        if not answers:
            unreadable["post without answers"] += 1
    shared = {"question": _text(row, source.question), "body": body, "group": _text(row, source.group)}
    usable = []
    for answer, score, tail in answers:
        try:
            votes = _votes(score)
        except ValueError:
            votes = MISSING
        if not isinstance(answer, str):
            unreadable["answer is not text"] += 1
        elif votes is MISSING:
            unreadable["votes are not a number"] += 1
        elif answer.strip() in DELETED:
            unreadable["deleted"] += 1
        elif row.get("wikitext") is True and not (answer := wikipedia.plain(answer)):
            unreadable["no prose"] += 1
        else:
            own = {"dataset": name, "id": identity + tail, "post": identity, "answer": writable(answer), "score": votes}
            usable.append(own | shared)
    return usable


def _answers(source: Source, row: dict) -> list[tuple[object, object, str]]:
    """(answer, votes, end of its id) of each answer; TypeError or ValueError where the lists do not match."""
    texts = _look_up(row, source.answer)
    scores = _look_up(row, source.score) if source.score else [None] * len(texts)
    ids = _look_up(row, source.answer_id) if source.answer_id else [None] * len(texts)
    if not (isinstance(texts, list) and isinstance(scores, list) and isinstance(ids, list)):
        raise TypeError("not lists")
    numbered = enumerate(zip(texts, scores, ids, strict=True), start=1)
    return [(text, score, f"/{_identity(answer_id, n)}") for n, (text, score, answer_id) in numbered]


def _look_up(row: object, path: str) -> object:
    """What stands at a dotted path: a list where the path crosses a list of objects, MISSING where nothing does."""
    if isinstance(row, list):
        inside = [_look_up(item, path) if isinstance(item, dict) else MISSING for item in row]
        return MISSING if inside and all(value is MISSING for value in inside) else inside
    if not isinstance(row, dict):
        return MISSING
    if path in row:
        return row[path]
    head, dot, rest = path.partition(".")
    return _look_up(row[head], rest) if dot and head in row else MISSING


def _text(row: dict, path: str) -> str:
    value = _look_up(row, path) if path else ""
    return writable(value) if isinstance(value, str) else ""


def _identity(value: object, number: int) -> str:
    """An id as text; the number of the row or answer where there is none."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # ids from a column with gaps
    if isinstance(value, bool) or not isinstance(value, (str, int)) or not str(value).strip():
        return str(number)
    return writable(str(value))


def _votes(value: object) -> int | None:
    """Votes as a whole number of at most 2⁵³, None where there are none; ValueError for anything else."""
    if value is None or value is MISSING or value == "":
        return None
    if isinstance(value, float) and math.isnan(value):  # a gap in a column of numbers
        return None
    if isinstance(value, str) and len(value) < 20:
        value = float(value)  # CSV knows only text
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) > 2**53:  # beyond, tables would round it
        raise ValueError(value)
    return value


def _check_columns(name: str, source: Source, rows: list[dict]) -> None:
    """SourceError if a column that the source names is in none of the rows."""
    columns = [source.id, source.question, source.body, source.answer, source.answer_id, source.score, source.group]
    missing = [c for c in columns if c and all(_look_up(row, c) is MISSING for row in rows)]
    if rows and missing:
        there = sorted({column for row in rows for column in _columns(row)})
        listed = ", ".join(there[:40]) + (f" and {len(there) - 40} more" if len(there) > 40 else "")
        wanted = f"column{'s' * (len(missing) > 1)} {', '.join(missing)} that data.sources.{name} names"
        raise SourceError(f"{source.path}: no row has the {wanted}; it has {listed}")


def _columns(row: dict) -> Iterator[str]:
    """The row's columns as paths, two levels deep."""
    for key, value in row.items():
        inner = value[0] if isinstance(value, list) and value else value
        if isinstance(inner, dict) and inner:
            yield from (f"{key}.{below}" for below in inner)
        else:
            yield str(key)
