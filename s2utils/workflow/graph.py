"""Run a part of the graph from Python: what a notebook reads and what is not there yet, behind one progress bar.

Snakemake decides what has to run, as it does for `make`; here it is told what is wanted, and what `terminal`, its
logger, hears of it becomes a bar. Trap: a `.done` file says that a job ran once, not that its artefact is still there
or still current, so those of artefacts that are not are taken away first.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from s2utils.workflow import artefacts, paths, progress, steps
from s2utils.workflow.errors import UserError
from s2utils.workflow.overrides import written
from s2utils.workflow.params import Params, points

MEMORY = 5600  # MB that jobs may take side by side, as in the Makefile
KEPT = 40  # last lines of a failed run


class GraphError(UserError, RuntimeError):
    """A job of the graph failed; the message holds the end of what it said."""


def wanted(step: str, params: Params, names: list[str]) -> list[tuple[str, str]]:
    """(step, name) of all that `step` reads for `names`, the nearest first, without what its own notebook makes."""
    found: dict[tuple[str, str], None] = {}
    todo = [pair for name in names for pair in steps.upstream(step, params, name)]
    while todo:
        pair = todo.pop(0)
        if pair not in found:
            found[pair] = None
            todo += steps.upstream(pair[0], params, pair[1])
    return [pair for pair in found if steps.STEPS[pair[0]].notebook != steps.STEPS[step].notebook]


def missing(step: str, profile: str, params: Params, overrides: dict, names: list[str]) -> list[Path]:
    """`.done` files to ask Snakemake for, so that all that `step` reads for `names` is there; [] where it is."""
    if compared := steps.STEPS[step].compares:  # tables of every point; Snakemake knows whether they are current
        tables = [steps.folder(other, point, overrides) for point in points(profile, params) for other in compared]
        return [folder / ".done" for folder in tables]
    found = []
    for upstream, name in wanted(step, params, names):
        folder = steps.folder(upstream, profile, overrides, name)
        if not artefacts.ready(folder, steps.key(upstream, params, name)):
            found.append(folder / ".done")
    return found


def command(profile: str, overrides: dict, targets: list[Path]) -> list[str]:
    """Snakemake as `make` calls it, for `targets`."""
    changes = f"{written(overrides)} " if overrides else ""  # it would strip a quote at the end
    return [
        sys.executable, "-m", "s2utils", "run", "--cores", str(os.cpu_count()), "--resources", f"mem_mb={MEMORY}",
        "gpu=1", "--rerun-triggers", "mtime", "params", "input", "--rerun-incomplete", "--nolock",
        "--scheduler", "greedy", "--config", f"profile={profile}", f"set={changes}", "preflight=0",
        "--", *(str(target.relative_to(paths.root())) for target in targets),
    ]  # fmt: skip


def environment() -> dict[str, str]:
    """Variables of this process, its Python first; those that a Jupyter kernel sets for itself left out."""
    kernel = ("MPLBACKEND", "JPY_PARENT_PID", "JPY_SESSION_NAME")
    kept = {k: v for k, v in os.environ.items() if k not in kernel}
    return kept | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}


def run(profile: str, overrides: dict, targets: list[Path]) -> None:
    """Make `targets`. GraphError where a job fails; an interrupt ends the jobs and leaves what can be resumed."""
    for target in targets:
        target.unlink(missing_ok=True)
    call = command(profile, overrides, targets)
    process = subprocess.Popen(
        call, cwd=paths.root(), env=environment() | {progress.EVENTS: "1"}, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, encoding="utf-8", errors="replace", start_new_session=True,
    )  # fmt: skip
    last: deque[str] = deque(maxlen=KEPT)
    try:
        _follow(process.stdout, last)
    except BaseException:
        _end(process)
        raise
    if process.wait():
        raise GraphError(f"the graph stopped. The end of what it said:\n{''.join(last)}\nCommand: {shlex.join(call)}")


def _follow(lines: Iterator[str], last: deque[str]) -> None:
    """A bar over jobs from events of `terminal`: what began last, and how many are done; `last` takes what was said."""
    from tqdm.auto import tqdm

    with tqdm(total=1, desc="upstream", unit="job") as bar:
        for line in lines:
            try:
                event = dict(json.loads(line))
            except (ValueError, TypeError):  # of Snakemake, before its logger begins
                event = {"said": line.rstrip("\n")}
            if "said" in event:
                last.append(f"{event['said']}\n")
            if "job" in event:
                bar.set_description(event["job"])
            if "total" in event:
                bar.total = event["total"]
                bar.update(event["ended"] - bar.n)


def _end(process: subprocess.Popen) -> None:
    """Interrupt Snakemake and its jobs, and kill them where they do not end in half a minute."""
    for sign in (signal.SIGINT, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(30)
            return
