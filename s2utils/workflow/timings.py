"""How long a notebook takes here: what its jobs took before, or what `make preflight` estimated. Seconds.

Read from small files, nothing is measured. The graph records every job in `artefacts/<profile>/benchmarks/`, one file
a job, the last run counts. Trap: a job that found its work done records seconds, not what the work would take.
"""

from __future__ import annotations

import datetime
from pathlib import Path

from s2utils.workflow import artefacts, paths

ESTIMATES = "estimates.json"  # in the folder of preflight


def recorded(profile: str, notebook: str, chosen: list[str] | None = None) -> tuple[float, int, float] | None:
    """(seconds of all jobs one after another, jobs, time of the last) of `notebook`; None where none is recorded.

    `chosen` names models or train sets; without it all jobs count.
    """
    wanted = {f"{head}{name}" for name in chosen or () for head in ("", "merges-", "merges-of-")}
    spent, last = [], 0.0
    for file in sorted((paths.artefacts(profile) / "benchmarks").glob(f"{notebook}*.tsv")):
        if wanted and file.stem.partition(".")[2] not in wanted:
            continue
        if (took := seconds(file)) is not None:
            spent.append(took)
            last = max(last, file.stat().st_mtime)
    return (sum(spent), len(spent), last) if spent else None


def seconds(file: Path) -> float | None:
    """Wall-clock seconds of a Snakemake benchmark; None where the file is not whole."""
    try:
        head, row = (line.split("\t") for line in file.read_text(encoding="utf-8").splitlines()[:2])
        return float(row[head.index("s")])
    except ValueError:
        return None


def estimated(profile: str, notebook: str) -> float | None:
    """Seconds of all jobs by the last preflight of `profile`; None without one."""
    rules = plan(profile).get("rules", {}).values()
    return sum(jobs * seconds for of, jobs, seconds in rules if of == notebook) or None


def plan(profile: str) -> dict:
    """What the last preflight of `profile` said the run will take (`preflight.plan`); {} without one."""
    return artefacts.read_json(paths.artefacts(profile) / "preflight" / ESTIMATES) or {}


def sentence(profile: str, notebook: str, chosen: list[str] | None = None) -> str:
    """What the notebook takes on this machine, in a few words."""
    if found := recorded(profile, notebook, chosen):
        seconds, jobs, last = found
        day = datetime.datetime.fromtimestamp(last).date()
        many = f", all {jobs} jobs one after another" if jobs > 1 else ""
        return f"Took {shown(seconds)} here (recorded {day}{many})"
    if (seconds := estimated(profile, notebook)) is not None:
        return f"Takes about {shown(seconds)} here, all jobs one after another (estimated by preflight)"
    return f"Not run here yet; `make preflight PROFILE={profile.partition('@')[0]}` estimates what it takes"


def shown(seconds: float) -> str:
    """12 s, 3 min or 2 h 5 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
