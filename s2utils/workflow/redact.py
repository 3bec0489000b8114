"""No secret leaves the environment: what looks like a token is replaced in whatever is written for readers.

Secrets are the values of variables named …TOKEN, …KEY, …SECRET or …PASSWORD, and texts of the well-known forms
(`hf_…`, `sk-…`). Trap: a file is written before it is redacted, so a job killed in between leaves it as it was; the
next run of the job, or of this command, mends it.

    python -m s2utils redact [--names MY_LOGIN,…] FILE_OR_FOLDER…
"""

from __future__ import annotations

import functools
import html
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from urllib.parse import quote

from s2utils.workflow import artefacts, progress

NAMED = re.compile(r"(TOKEN|KEY|SECRET|PASSWORD|PASSWD|CREDENTIALS?)$", re.IGNORECASE)
FORMS = re.compile(
    r"(?<![A-Za-z0-9_-])(?:hf_[A-Za-z0-9]{20,}|sk-[A-Za-z0-9_-]{20,}|gh[pousr]_[A-Za-z0-9]{30,}|github_pat_\w{30,}"
    r"|AKIA[A-Z0-9]{16}|xox[abprs]-[A-Za-z0-9-]{20,})(?![A-Za-z0-9])"
)
SHORTEST = 8  # characters; a shorter value ("none", "1234") would blot out plain words
TEXT = (".ipynb", ".log", ".txt", ".json", ".jsonl", ".html", ".csv", ".md", ".tex", ".svg", ".tsv", ".yaml")


def secrets(environment: Mapping[str, str] | None = None, names: Iterable[str] = ()) -> dict[str, str]:
    """Value, in every way it may be written → the name of its variable; the longest values first."""
    environment, found = os.environ if environment is None else environment, {}
    for name, value in environment.items():
        if len(value) < SHORTEST or not (NAMED.search(name) or name in names) or _harmless(value):
            continue
        as_json = (json.dumps(value, ensure_ascii=plain)[1:-1] for plain in (True, False))
        found |= dict.fromkeys((value, *as_json, html.escape(value), quote(value, safe="")), name)
    return dict(sorted(found.items(), key=lambda pair: -len(pair[0])))


def _harmless(value: str) -> bool:
    """A file that holds a secret is no secret (SSH_KEY=/home/me/.ssh/id), nor is a number."""
    return value.isdecimal() or (os.sep in value and os.path.exists(value))


def redacted(text: str, known: dict[str, str] | None = None) -> str:
    """`text` with every secret replaced by ‹NAME›, or ‹secret› where only its form gives it away."""
    for value, name in (secrets() if known is None else known).items():
        text = text.replace(value, f"‹{name}›")
    return FORMS.sub("‹secret›", text)


def values(value: object, known: dict[str, str] | None = None) -> object:
    """Plain JSON values with all texts redacted, keys too."""
    known = secrets() if known is None else known
    clean = functools.partial(values, known=known)
    if isinstance(value, str):
        return redacted(value, known)
    if isinstance(value, dict):
        return {clean(k): clean(v) for k, v in value.items()}
    return [clean(v) for v in value] if isinstance(value, (list, tuple)) else value


def files(paths: Iterable[Path], names: Iterable[str] = ()) -> list[Path]:
    """Redact text files in place, those of folders too; returns those that held a secret."""
    clean, held = functools.partial(redacted, known=secrets(names=tuple(names))), []
    for path in paths:
        inside = sorted(f for f in path.rglob("*") if f.suffix in TEXT) if path.is_dir() else [path]
        held += [file for file in inside if file.is_file() and _rewritten(file, clean)]
    return held


def _rewritten(file: Path, change: Callable[[str], str]) -> bool:
    """Change a file's text in place, bytes that are no text kept; returns whether anything changed."""
    text = file.read_bytes().decode("utf-8", errors="surrogateescape")
    changed = change(text)
    if changed != text:
        with artefacts.replacing(file, "wb") as out:
            out.write(changed.encode("utf-8", errors="surrogateescape"))
    return changed != text


def tidy(paths: list[Path], names: str = "") -> None:
    """`files` with `names` separated by commas, which are named on the error stream.

    Of a bar in a log its last state stays.
    """
    for file in files(paths, [n for n in names.split(",") if n]):
        print(f"{file}: a secret was taken out", file=sys.stderr)
    for file in paths:
        if file.suffix == ".log" and file.is_file():
            _rewritten(file, progress.settled)  # while we are at it: of a bar its last state
