"""What the benchmark scripts share: a job measured in a process of its own, and one result file a script.

Trap: a process started by fork begins with its parent's peak memory, so jobs are spawned.
"""

from __future__ import annotations

import multiprocessing
import os
import platform
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pandas as pd

from s2utils import artefacts

RESULTS = Path(__file__).resolve().parent / "results"


def machine() -> str:
    """Processor and number of cores."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores"


def alone(function: Callable, make: Callable, *args) -> dict:
    """`function(make(*args))` in a fresh process: seconds, cpu_seconds, peak_mb, start_mb and value.

    Only `function` is timed; peak_mb is the whole process's at its end, start_mb before `function` began.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_measured, function, make, args).result()


def best(runs: list[dict]) -> dict:
    """The run that took least processor time: the others were disturbed more."""
    return min(runs, key=lambda run: run["cpu_seconds"])


def peak_mb() -> float:
    """Highest resident memory of this process so far."""
    try:  # ru_maxrss of a spawned process still holds what its parent had at that moment
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
    except (OSError, StopIteration):
        unit = 1024**2 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def write(name: str, *, ours: float, peer: float, ratio: float, limit: float, unit: str, n: int, **more) -> None:
    """Write benchmarks/results/<name>.json, whole or not at all, and print its table.

    `ours` and `peer` are in `unit`, for the same work of size `n` in one run; `limit` is what `ratio` is
    held against. `more` goes into the file only.
    """
    facts = {"name": name, "ours": ours, "peer": peer, "ratio": ratio, "limit": limit, "unit": unit, "n": n}
    facts["machine"] = machine()
    artefacts.write_json(RESULTS / f"{name}.json", facts | more)
    print(pd.DataFrame([facts]).to_string(index=False))


def _measured(function: Callable, make: Callable, args: tuple) -> dict:
    made = make(*args)
    start_mb, started, cpu = peak_mb(), time.perf_counter(), time.process_time()
    value = function(made)
    return {
        "seconds": round(time.perf_counter() - started, 2),
        "cpu_seconds": round(time.process_time() - cpu, 2),
        "start_mb": round(start_mb),
        "peak_mb": round(peak_mb()),
        "value": value,
    }
