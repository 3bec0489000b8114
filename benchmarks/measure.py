"""What the benchmark scripts share: a job measured in a process of its own, and one result file a script.

Trap: a process started by fork begins with its parent's peak memory, so jobs are spawned.
"""

from __future__ import annotations

import argparse
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

from s2utils.workflow import artefacts

RESULTS = Path(__file__).resolve().parent / "results"


def machine() -> str:
    """Processor, its wide units for float32 and bfloat16, and the number of cores."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    import torch

    capability = torch.backends.cpu.get_cpu_capability()
    found = {"bf16": torch.cpu._is_avx512_bf16_supported(), "AMX": torch.cpu._is_amx_tile_supported()}
    units = [capability, *(unit for unit, has in found.items() if has and capability == "AVX512")]
    return f"{name}, {' '.join(units)}, {os.cpu_count()} cores"


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


def arguments(doc: str) -> argparse.ArgumentParser:
    """A script's parser, which takes --quick: the same method on less, three minutes at most on two slow cores."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the same on less: three minutes at most")
    return parser


def row(
    name: str, *, ours: float, peer: float, ratio: float, unit: str, n: int, limit: float | None = None, **more
) -> dict:
    """One comparison: `ours` and `peer` in `unit`, for the same work of size `n` in one run.

    `limit` is the ratio that cannot be passed, where one is known; `more` stands in the file only.
    """
    share = None if limit is None else round(ratio / limit, 3)
    facts = {"name": name, "ours": ours, "peer": peer, "unit": unit, "n": n, "ratio": ratio, "limit": limit}
    return facts | {"share_of_limit": share, "machine": machine()} | more


def write(script: str, rows: list[dict], quick: bool = False, **more) -> None:
    """Write benchmarks/results/<script>.json ({rows, quick, …}), whole or not at all, and print its table."""
    artefacts.write_json(RESULTS / f"{script}.json", {"rows": rows, "quick": quick} | more)
    shown = ["name", "ours", "peer", "unit", "n", "ratio", "limit", "share_of_limit", "machine"]
    print(pd.DataFrame(rows)[shown].to_string(index=False))


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
