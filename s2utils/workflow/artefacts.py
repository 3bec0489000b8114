"""Artefacts on disk: whole or not there, never made with other parameters, resumable when killed.

A step's folder holds its files, ``making.json`` (the key it is being made under) while work goes on,
and ``manifest.json``, written last. Only a folder with a manifest of the expected key counts as done.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from s2utils.workflow.errors import UserError


class MissingArtefact(UserError, FileNotFoundError):
    """An earlier step has not run (or ran with other parameters); the message says which."""

    def _render_traceback_(self) -> list[str]:
        """As `UserError`, with what can be done in a notebook."""
        return [f"{self}\nor in a cell here, then this cell again\n    notebook.run_upstream()"]


@contextlib.contextmanager
def replacing(path: Path, mode: str = "w") -> Iterator:
    """Open a temporary file beside `path` and rename it over `path` once it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, mode, **({} if "b" in mode else {"encoding": "utf-8", "newline": "\n"})) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


@contextlib.contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """An empty folder that takes the place of `folder` once the block ends without error."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as held:
        new = Path(held) / "new"
        new.mkdir()
        yield new
        if folder.exists():
            folder.rename(Path(held) / "old")
        new.rename(folder)


def write_json(path: Path, value: object) -> None:
    """Write JSON, whole or not at all."""
    with replacing(path) as file:
        json.dump(value, file, indent=1, ensure_ascii=False, default=str)
        file.write("\n")


def read_json(path: Path) -> dict | None:
    """A JSON object, or None where there is no such file or it is not whole."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def append_jsonl(path: Path, rows: list[dict]) -> None:
    """Append rows and force them to disk; a torn last line is what `read_jsonl` forgives."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="utf-8", errors="replace", newline="\n") as file:  # half a surrogate pair becomes "?"
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())


def read_jsonl(path: Path) -> list[dict]:
    """Rows of a JSONL file we append to. A torn last line (a kill) is cut off the file."""
    if not path.is_file():
        return []
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) < len(data):
        with replacing(path, "wb") as file:
            file.write(whole)
    return [json.loads(line) for line in whole.split(b"\n") if line.strip()]  # splitlines() would also split at U+2028


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def ready(folder: Path, key: str) -> bool:
    """Whether `folder` holds the complete artefact `key`, every file at its recorded size."""
    manifest = read_json(folder / "manifest.json")
    if not manifest or manifest.get("key") != key:
        return False
    return all(
        (folder / f).is_file() and (folder / f).stat().st_size == m["bytes"] for f, m in manifest["files"].items()
    )


def require(folder: Path, key: str, notebook: str, command: str, shown: Path | None = None) -> dict:
    """Manifest of an earlier step's artefact, or MissingArtefact naming the notebook to run.

    `shown` is what it calls the folder.
    """
    if ready(folder, key):
        return read_json(folder / "manifest.json")
    state = "was made with other parameters or code" if (folder / "manifest.json").is_file() else "is not there yet"
    raise MissingArtefact(
        f"{shown or folder} {state}: run notebooks/{notebook}.ipynb first, or in the terminal\n    {command}"
    )


@contextlib.contextmanager
def making(folder: Path, key: str, facts: dict | None = None) -> Iterator[dict]:
    """Make the artefact `key` in `folder`; the manifest is written when the block ends without error.

    What an earlier, killed attempt under the same key left is kept for the block to resume from;
    anything else is removed. The block may add facts to the yielded dict.
    """
    partial = read_json(folder / "making.json") or {}
    if partial.get("key") != key and folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for half in folder.rglob(".*.*"):  # what a kill left of `replacing`
        if half.is_file():
            half.unlink()
    (folder / "manifest.json").unlink(missing_ok=True)
    if partial.get("key") != key:
        write_json(folder / "making.json", {"key": key})
    record = dict(facts or {})
    started = time.time()
    yield record
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name not in ("making.json", ".done"))
    listing = {str(p.relative_to(folder)): {"bytes": p.stat().st_size, "sha256": sha256(p)} for p in files}
    seconds = round(time.time() - started, 1)
    write_json(folder / "manifest.json", {"key": key, "seconds": seconds, **record, "files": listing})
    (folder / "making.json").unlink()
