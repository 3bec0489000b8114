"""Progress without noise: a bar for each long step, where somebody reads it.

In JupyterLab and in a terminal bars are tqdm's. Nobody sees a notebook that papermill runs, so a job of the graph sends
its bars to its log (named in S2_LOG), which `tail -f` and `make progress` show, and its notebook holds results only.
Bars of the libraries that load and map in seconds, dozens a notebook, are off everywhere. Trap: a library looks for
these settings when it is imported, so they are made when `s2utils` is, before any of its modules.

    python -m s2utils progress cpu
"""

from __future__ import annotations

import os
import time
from pathlib import Path

LOG = "S2_LOG"
EVENTS = "S2_EVENTS"  # set where a program reads what `terminal` says of a run
QUIET = ("HF_HUB_DISABLE_PROGRESS_BARS", "HF_DATASETS_DISABLE_PROGRESS_BARS")
SPARING = {  # tqdm's own variables, for a log: seconds that a step takes before it shows a bar, and between two states
    "TQDM_DELAY": "2", "TQDM_MININTERVAL": "10", "TQDM_NCOLS": "100",
}  # fmt: skip
RECENT = 3600  # seconds without a word after which a job is not listed


def settle() -> None:
    """Make the settings; called when the package is imported."""
    for name in QUIET:
        os.environ.setdefault(name, "1")
    if os.environ.get(LOG):
        for name, value in SPARING.items():
            os.environ.setdefault(name, value)
        from s2utils.workflow import patches

        patches.bars_into(os.environ[LOG])


def bar(iterable, **settings):
    """Tqdm's bar over `iterable`, wherever bars go now."""
    import tqdm.auto

    return tqdm.auto.tqdm(iterable, **settings)


def settled(text: str) -> str:
    """A log as a terminal shows it in the end: of what was written over, the last state."""
    return "\n".join(line.rstrip("\r").rsplit("\r", 1)[-1] for line in text.split("\n"))


def running(profile: str) -> list[tuple[str, float, str]]:
    """(job, seconds since its last word, its last line) of jobs that wrote to their log lately, the latest first."""
    from s2utils.workflow import paths

    rows, now = [], time.time()
    for file in (paths.artefacts(profile) / "notebooks").glob("*.log"):
        age, said = now - file.stat().st_mtime, last(file)
        if age < RECENT and not said.startswith("Executing: 100%"):
            rows.append((file.stem, age, said))
    return sorted(rows, key=lambda row: row[1])


def last(log: Path) -> str:
    """The last line of a job's log that says something, without what a terminal would obey; "" where there is none."""
    try:
        with open(log, "rb") as file:
            file.seek(max(0, log.stat().st_size - 4096))
            text = settled(file.read().decode("utf-8", errors="replace"))
    except OSError:
        return ""
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    return "".join(c if c.isprintable() else "�" for c in lines[-1]) if lines else ""


def show(profile: str) -> None:
    """Print one line a job: what its log said last."""
    rows = running(profile)
    for job, age, said in rows:
        print(f"{job} ({age:.0f} s ago): {said}")
    if not rows:
        print("no job has written to its log in the last hour")
