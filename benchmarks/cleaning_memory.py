"""Memory and throughput of cleaning and measuring as the rows grow: 100,000 and 1,000,000 synthetic rows.

ours: peak memory (proportional set size, all processes of the job) at 1,000,000 rows (--quick: 200,000); peer: at
100,000 rows (40,000), same code. ratio = peer / ours: 1.0 is flat, the most there can be. Rows a second, once the
processes are at work, stand beside it. What
follows in 02_datasets holds the kept records in memory; that part is not measured here.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import measure
import pandas as pd
import psutil
import readability

SIZES, QUICK = (100_000, 1_000_000), (40_000, 200_000)
JOB = """
import os, pathlib, sys
import readability
from s2utils.data import shards

folder = pathlib.Path(sys.argv[1])
profile = readability.profile(folder / "forum.jsonl", "pyphen", os.cpu_count())
shards.write(folder / "out", profile, 0)
"""


def synthetic(path: Path, n: int) -> None:
    """`n` answers, three a post, put together from 20,000 texts."""
    texts, draw = readability.answers(20_000), random.Random(1)
    with open(path, "w", encoding="utf-8") as file:
        for i in range(0, n, 3):
            size = min(3, n - i)
            held = {
                "a_id": [f"a{j}" for j in range(size)],
                "text": draw.choices(texts, k=size),
                "score": [5, 4, 3][:size],
            }
            file.write(json.dumps({"id": str(i), "question": f"Why is that so, number {i}?", "answers": held}) + "\n")


def tree_mb(process: psutil.Process) -> float:
    """Memory of a process and its children, shared pages counted once."""
    total = 0
    for one in [process, *process.children(recursive=True)]:
        with contextlib.suppress(psutil.Error):
            total += one.memory_full_info().pss
    return total / 2**20


def run(n: int) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        synthetic(Path(folder) / "forum.jsonl", n)
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
        started, peak = time.perf_counter(), 0.0
        job = subprocess.Popen([sys.executable, "-c", JOB, folder], env=environment, stderr=subprocess.DEVNULL)
        watched = psutil.Process(job.pid)
        while job.poll() is None:
            with contextlib.suppress(psutil.Error):
                peak = max(peak, tree_mb(watched))
            time.sleep(0.2)
        seconds = time.perf_counter() - started
        if job.returncode:
            raise SystemExit(f"the job at {n:,} rows failed with status {job.returncode}")
        blocks = sorted((Path(folder) / "out").glob("*.parquet"), key=lambda f: f.stat().st_mtime)
        sizes = [len(pd.read_parquet(f, columns=["id"])) for f in blocks]
        assert sum(sizes) == n, f"{sum(sizes)} of {n} rows came out"
        first, last = blocks[1].stat().st_mtime, blocks[-1].stat().st_mtime  # once both processes are at work
    steady = round(sum(sizes[2:]) / (last - first))
    return {"rows": n, "peak_mb": round(peak), "seconds": round(seconds, 1), "rows_per_second": steady}


def main():
    chosen = measure.arguments(__doc__).parse_args()
    table = pd.DataFrame([run(n) for n in (QUICK if chosen.quick else SIZES)])
    print(table.to_string(index=False))
    small, large = table.iloc[0], table.iloc[1]
    row = measure.row(
        "memory of cleaning as rows grow", ours=float(large["peak_mb"]), peer=float(small["peak_mb"]), unit="MB",
        limit=1.0,
        ratio=round(float(small["peak_mb"] / large["peak_mb"]), 2), n=int(large["rows"]),
    )  # fmt: skip
    throughput = round(float(large["rows_per_second"] / small["rows_per_second"]), 2)
    measure.write("cleaning_memory", [row], chosen.quick, runs=table.to_dict("records"), throughput_ratio=throughput)


if __name__ == "__main__":
    main()
