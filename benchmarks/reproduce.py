"""Seconds and peak memory of every step of a whole run, from nothing, in a temporary copy.

ours: wall seconds of the run; peer: the same jobs one after another (the sum of their seconds, measured in the same
run). ratio = peer / ours; limit: the number of cores. --quick runs the smoke profile up to the first adapter.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import measure
import pandas as pd

HERE = Path(__file__).resolve().parents[1]
FEW = ("eda", "sft/sciq")


def main():
    parser = measure.arguments(__doc__)
    parser.add_argument("--profile", default=os.environ.get("PROFILE", "smoke"))
    parser.add_argument("--cores", type=int, default=os.cpu_count())
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "repository"
        copy.mkdir()
        for name in ("Snakefile", "notebooks", "params", "s2utils", "pyproject.toml"):
            source = HERE / name
            (shutil.copytree if source.is_dir() else shutil.copy)(source, copy / name)
        shutil.copytree(HERE / "reports" / "published", copy / "reports" / "published")
        command = [
            "snakemake",
            "--cores",
            str(chosen.cores),
            "--resources",
            f"mem_mb={os.environ.get('MEM_MB', 5600)}",
            "gpu=1",
        ]
        command += ["--scheduler", "greedy", "--quiet", "all", "--config", f"profile={chosen.profile}", "preflight=0"]
        command += ["--", *(f"artefacts/{chosen.profile}/{done}/.done" for done in FEW)] if chosen.quick else []
        started = time.time()
        subprocess.run(command, cwd=copy, env=os.environ | {"PYTHONPATH": str(copy), "S2_ROOT": str(copy)}, check=True)
        seconds = time.time() - started
        files = sorted((copy / "artefacts" / chosen.profile / "benchmarks").glob("*.tsv"))
        jobs = pd.concat([pd.read_csv(f, sep="\t").assign(job=f.stem) for f in files])
    jobs["step"] = jobs["job"].str.split(".").str[0]
    steps = jobs.groupby("step").agg(
        jobs=("s", "size"), seconds=("s", "sum"), longest=("s", "max"), peak_mb=("max_rss", "max")
    )
    print(steps.round(0).astype(int).to_string())
    total = float(jobs["s"].sum())
    row = measure.row(
        f"jobs side by side, {chosen.profile}", ours=round(seconds, 1), peer=round(total, 1),
        ratio=round(total / seconds, 2),
        limit=chosen.cores, unit="s", n=len(jobs),
    )  # fmt: skip
    measure.write("reproduce", [row], chosen.quick, steps=json.loads(steps.round(1).to_json(orient="index")))


if __name__ == "__main__":
    main()
