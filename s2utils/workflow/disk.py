"""What the artefacts of a profile take on disk, and which of them nothing needs any more. Sizes are bytes.

An artefact is current when today's parameters and code would make the same one. What is not current is never read
again; deleting a current one costs the time to make it again. Trap: "current" is meant for this profile and these
overrides: what `make … SET=…` made is not current without the same SET.

    python -m s2utils disk cpu [--step merged] [--all] [--yes]
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from s2utils.workflow import artefacts, paths, steps
from s2utils.workflow.params import ParameterError, Params, load, nearest, parse_set

RECORDS = ("cache", "notebooks", "benchmarks", "preflight")  # replies that cost money, and what a run says of itself


@dataclass(frozen=True)
class Held:
    """A folder below artefacts/<profile>/, with what is known of it."""

    name: str  # sft/sciq
    folder: Path
    size: int
    state: str  # "current" | "resumable" | "not current" | "record" | "unknown"


def held(profile: str, params: Params, step: str = "") -> list[Held]:
    """Every folder of the profile, or of one of its steps, the largest first."""
    top, rows = paths.artefacts(profile), []
    for folder in sorted(f for f in top.glob("*") if f.is_dir() and not f.is_symlink() and step in ("", f.name)):
        makes_one = any((folder / file).is_file() for file in ("manifest.json", "making.json"))
        whole = makes_one or folder.name not in steps.STEPS
        for part in [folder] if whole else sorted(f for f in folder.iterdir() if f.is_dir() and not f.is_symlink()):
            name = "" if part == folder else part.name
            rows.append(Held(str(part.relative_to(top)), part, size(part), _state(folder.name, params, name, part)))
    return sorted(rows, key=lambda row: -row.size)


def size(folder: Path) -> int:
    """Bytes of the files below `folder`; links count as links."""
    return sum(f.lstat().st_size for f in folder.rglob("*") if not f.is_dir() or f.is_symlink())


def _state(step: str, params: Params, name: str, folder: Path) -> str:
    if step not in steps.STEPS:
        return "record" if step in RECORDS else "unknown"
    manifest, making = (artefacts.read_json(folder / f"{file}.json") for file in ("manifest", "making"))
    if not (manifest or making):
        return "unknown"
    key = identity(step, params, name)
    if key and (manifest or {}).get("key") == key:
        return "current"
    return "resumable" if key and (making or {}).get("key") == key else "not current"


def identity(step: str, params: Params, name: str) -> str | None:
    """Key of what `step` makes for `name` today; None where the study no longer has it."""
    try:
        return steps.key(step, params, name) if name in steps.names(step, params) else None
    except (KeyError, FileNotFoundError):
        return None


def clean(profile: str, overrides: str = "", step: str = "", everything: bool = False, yes: bool = False) -> None:
    """List what there is, say what would go, and delete it where `yes`."""
    params = load(profile, parse_set(overrides))
    if step and step not in steps.STEPS:
        raise ParameterError(f"there is no step '{step}'{nearest(step, steps.STEPS)}")
    rows = held(profile, params, step)
    states = ("not current", "current", "resumable") if everything else ("not current",)  # never records
    gone = [row for row in rows if row.state in states]
    for row in rows:
        mark = "goes" if row in gone else "stays"
        print(f"{row.size / 1e6:10,.1f} MB  {mark:5}  {row.state:11}  {row.name}")
    total, freed = (sum(row.size for row in some) / 1e6 for some in (rows, gone))
    print(f"{total:10,.1f} MB in all; {freed:,.1f} MB in {len(gone)} folders would be freed")
    for row in gone if yes else ():
        for file in ("manifest.json", ".done"):  # first, so that a kill leaves nothing that looks finished
            (row.folder / file).unlink(missing_ok=True)
        shutil.rmtree(row.folder)
    if gone:
        print("deleted" if yes else "nothing is deleted yet: YES=1 deletes what goes")
