"""Questions and answers from reddit dumps: submissions (RS_*) joined with their top-level comments (RC_*).

The dumps hold one JSON object a line, all subreddits mixed, in the order of time, so a post and its
comments lie months apart. They are parsed once into an SQLite file in the cache, sorted on disk, and
streamed from there: memory stays flat. A comment's parent is the post (also as null) or, as text or number, the
comment that it replies to. Trap: AutoModerator answers every post of some subreddits; it is
left out, as ELI5 did. Source: facebookresearch/ELI5, data_creation/download_reddit_qalist.py.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sqlite3
from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from filelock import FileLock
from tqdm.auto import tqdm

from s2utils.data.streams import SourceError, Unreadable, lines, parsed, shown, writable

SUBREDDITS = ("explainlikeimfive", "askscience", "AskHistorians")  # ELI5's
FORMAT = 2  # of the database; a new number parses the dumps again
KINDS = {  # names of whole dumps and of those of one subreddit, two examples
    "submission": (re.compile(r"^RS[_-]|_(?:submissions|posts)\."), "RS_2012-01.zst or r_askscience_posts.jsonl"),
    "comment": (re.compile(r"^RC[_-]|_comments\."), "RC_2012-01.zst or r_askscience_comments.jsonl"),
}
NAMES = re.compile(r"\.(zst|gz|bz2|xz|jsonl|ndjson|json)$|^R[SC]_[0-9v-]+$")
TABLES = """
CREATE TABLE submissions (id TEXT PRIMARY KEY, title TEXT, body TEXT, subreddit TEXT) WITHOUT ROWID;
CREATE TABLE comments (post TEXT, id TEXT, body TEXT, score INTEGER, PRIMARY KEY (post, id)) WITHOUT ROWID;
CREATE TABLE left_out (reason TEXT, n INTEGER);
"""
ORPHANS = "SELECT count(*) FROM comments WHERE NOT EXISTS (SELECT 1 FROM submissions s WHERE s.id = comments.post)"
JOINED = """
SELECT s.id, s.title, s.body, s.subreddit, c.id, c.body, c.score
FROM submissions s LEFT JOIN comments c ON c.post = s.id ORDER BY s.id, c.id
"""


def posts(folder: Path, subreddits: list[str], cache: Path) -> Iterator[dict | Unreadable]:
    """Posts in order of id: q_id, title, selftext, subreddit, answers {a_id, text, score}; then what was left out.

    `subreddits` in any case, [] for ELI5's three. The dumps are parsed on the first call and when they change.
    """
    database = _built(folder, subreddits or list(SUBREDDITS), cache)
    # immutable: no lock files, so that many jobs read it on a shared disk
    connection = sqlite3.connect(f"{database.as_uri()}?immutable=1", uri=True)
    try:
        for (post, title, body, subreddit), rows in groupby(connection.execute(JOINED), key=lambda row: row[:4]):
            comments = [row[4:] for row in rows if row[4] is not None]
            columns = map(list, zip(*comments)) if comments else ([], [], [])
            answers = dict(zip(("a_id", "text", "score"), columns))
            yield {"q_id": post, "title": title, "selftext": body, "subreddit": subreddit, "answers": answers}
        for reason, n in connection.execute("SELECT reason, n FROM left_out ORDER BY reason"):
            yield Unreadable(reason, n)
    finally:
        connection.close()


def _built(folder: Path, subreddits: list[str], cache: Path) -> Path:
    """The database of these dumps and subreddits; parallel jobs wait for the first one."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and NAMES.search(path.name))
    dumps = []
    for kind, (name, examples) in KINDS.items():
        of_kind = [(path, kind) for path in files if name.search(path.name)]
        if not of_kind:
            raise SourceError(f"{shown(folder)}: no reddit dump of {kind}s in this folder, such as {examples}")
        dumps += of_kind
    facts = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path, _ in dumps]
    wanted = sorted({name.casefold() for name in subreddits})
    identity = hashlib.sha256(json.dumps([FORMAT, wanted, facts]).encode()).hexdigest()[:16]
    database = (cache / f"{identity}.sqlite").resolve()
    if not database.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{database}.lock"):
            if not database.is_file():
                partial = database.with_suffix(".partial")
                partial.unlink(missing_ok=True)  # of a run that was killed
                try:
                    _build(partial, dumps, wanted)
                    os.replace(partial, database)
                except sqlite3.OperationalError as error:
                    raise SourceError(
                        f"{shown(folder)}: cannot be sorted in {cache} ({error}); free space there, or set S2_CACHE"
                    ) from error
                finally:
                    partial.unlink(missing_ok=True)
    return database


def _build(database: Path, dumps: list[tuple[Path, str]], subreddits: list[str]) -> None:
    """Parse the dumps into `database`."""
    left_out: Counter = Counter()
    connection = sqlite3.connect(database, isolation_level=None)
    try:
        # nobody reads the file before it is whole, so no journal
        pragmas = "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-200000;"  # 200 MB
        connection.executescript(f"{pragmas} {TABLES} BEGIN;")
        for i, (path, kind) in enumerate(dumps, start=1):
            table = f"INSERT OR IGNORE INTO {kind}s VALUES (?, ?, ?, ?)"
            progress = tqdm(lines(path), desc=f"{path.name} ({i}/{len(dumps)})", unit=" lines", unit_scale=True)
            for _, line in progress:
                row = _read(line, kind, subreddits)
                if isinstance(row, str):
                    left_out[row] += 1
                elif row and not connection.execute(table, row).rowcount:
                    left_out[f"{kind} seen before"] += 1  # months that overlap
        left_out["comment without its post"] = connection.execute(ORPHANS).fetchone()[0]
        connection.executemany("INSERT INTO left_out VALUES (?, ?)", ((r, n) for r, n in left_out.items() if n))
        connection.execute("COMMIT")
    finally:
        connection.close()


def _read(line: str, kind: str, subreddits: list[str]) -> tuple | str | None:
    """The line as a database row, the reason why it is left out, or None for an empty line."""
    line = line.strip()
    if not line:
        return None
    if not (line[0] == "{" and line[-1] == "}"):
        return "broken line"
    low = line.lower()
    if not any(name in low for name in subreddits):
        return "other subreddit"  # most lines, told without parsing them
    row = parsed(line)
    if row is None:
        return "broken line"
    if not isinstance(row.get("subreddit"), str) or row["subreddit"].casefold() not in subreddits:
        return "other subreddit"
    row = {key: writable(value) if isinstance(value, str) else value for key, value in row.items()}
    texts = ("id", "title") if kind == "submission" else ("id", "link_id", "body")
    if not all(isinstance(row.get(key), str) for key in texts):
        return "broken line"
    if kind == "submission":
        body = row.get("selftext")  # null in posts that are a link
        return row["id"], row["title"], body if isinstance(body, str) else "", row["subreddit"]
    if "parent_id" not in row:
        return "comment that does not name its parent"
    if row["parent_id"] not in (row["link_id"], None):
        return "reply to a comment"
    if row.get("author") == "AutoModerator" or row["body"].startswith("Your submission has been removed"):
        return "moderators' notice"
    score = row.get("score")
    known = isinstance(score, int) and not isinstance(score, bool) and abs(score) < 2**63
    return row["link_id"].removeprefix("t3_"), row["id"], row["body"], score if known else None
