"""Provenance of a run: which code, parameters, versions, hardware and files stand behind its numbers.

Times are seconds. Trap: a revision such as "main" moves; for weights and data sets that lie in the hub's
cache the commit it stood for is recorded beside it. Environment variables are never read into the record.
"""

from __future__ import annotations

import contextlib
import platform
import subprocess
from pathlib import Path

import psutil

from s2utils.workflow import artefacts, disk, notebook, packaged, paths, redact, steps
from s2utils.workflow.params import Params, flat, load, parse_set


def collect(profile: str, overrides: dict | str | None = None) -> dict:
    """Everything a reader needs to say where the numbers of `profile` come from."""
    params = load(profile, overrides)
    changes = parse_set(overrides) if isinstance(overrides, str) else dict(overrides or {})
    values = flat(params)
    return {
        "profile": profile,
        "study": params.study,
        "commit": commit(),
        "overrides": flat(changes) if changes else {},
        "seeds": {k: v for k, v in values.items() if k.endswith("seed")},
        "parameters": values,
        "versions": {"python": platform.python_version(), "platform": platform.platform(), **notebook.versions()},
        "hardware": hardware(),
        "sources": sources(values),
        "archives": packaged.hashes() if any(str(v).startswith("embedded:") for v in values.values()) else {},
        "artefacts": finished(profile, params),
        "notebooks": notebooks(profile),
    }


def write(profile: str, overrides: dict | str | None = None) -> Path:
    """Write reports/<profile>/provenance.json; returns its path."""
    path = paths.reports(profile) / "provenance.json"
    artefacts.write_json(path, redact.values(collect(profile, overrides)))
    return path


def commit() -> dict:
    """{"id": commit or "unknown", "dirty": True, False or None}; needs neither git nor a repository."""
    if not (paths.root() / ".git").exists():  # a repository around an unpacked archive is not ours
        return {"id": "unknown", "dirty": None}
    head, status = _git("rev-parse", "HEAD"), _git("status", "--porcelain")
    return {"id": head or "unknown", "dirty": None if not head or status is None else bool(status)}


def _git(*arguments: str) -> str | None:
    """Output of a git command that takes no lock, None where it fails."""
    command = ["git", "--no-optional-locks", "-C", str(paths.root()), *arguments]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return ran.stdout.strip() if ran.returncode == 0 else None


def hardware() -> dict:
    """Processor, cores we may use, memory in GB, and names of the visible GPUs."""
    import torch

    cuda, process = torch.cuda.is_available(), psutil.Process()  # macOS binds no process to cores
    return {
        "cpu": _cpu(),
        "cores": len(process.cpu_affinity()) if hasattr(process, "cpu_affinity") else psutil.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if cuda else [],
    }


def _cpu() -> str:
    """Name of the processor; `platform` knows only its architecture on Linux."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return notebook.processor()


def sources(values: dict[str, object]) -> dict[str, dict]:
    """Weights and data sets by path: revision (or configuration) and hub commit, or archive and member.

    `values` are flat parameters.
    """
    found: dict[str, dict] = {}
    for key, path in values.items():
        section, _, last = key.rpartition(".")
        local_model = last == "model" and values.get(f"{section}.backend") == "local"
        if not path or not (last == "path" or local_model):
            continue
        if str(path).startswith("embedded:"):
            found[str(path)] = packaged.origin(str(path).removeprefix("embedded:"))
        elif (paths.root() / str(path)).is_file():
            found[str(path)] = {"sha256": artefacts.sha256(paths.root() / str(path))}
        elif f"{section}.config" not in values:
            revision = values[f"{section}.revision"]
            found[str(path)] = {"revision": revision, "commit": _hub_commit("models", str(path), str(revision))}
        else:
            facts = {fact: values[f"{section}.{fact}"] for fact in ("config", "split", "revision")}
            found[str(path)] = {**facts, "commit": _hub_commit("datasets", str(path), str(facts["revision"]))}
    return found


def _hub_commit(kind: str, repository: str, revision: str) -> str:
    """The commit `revision` stood for when it was downloaded, "" where the hub's cache does not say."""
    from huggingface_hub.constants import HF_HUB_CACHE

    folder = Path(HF_HUB_CACHE) / f"{kind}--{repository.replace('/', '--')}"
    reference = folder / "refs" / (revision or "main")
    if reference.is_file():
        return reference.read_text(encoding="utf-8").strip()
    return revision if revision and (folder / "snapshots" / revision).is_dir() else ""


def finished(profile: str, params: Params) -> list[dict]:
    """One row per finished artefact; `current` says whether these parameters and this code made it."""
    rows, top = [], paths.artefacts(profile)
    for step in steps.STEPS:
        for file in [top / step / "manifest.json", *sorted((top / step).glob("*/manifest.json"))]:
            if not (manifest := artefacts.read_json(file)):
                continue
            name = "" if file.parent == top / step else file.parent.name
            facts = {fact: manifest.get(fact) for fact in ("key", "seconds", "versions", "device")}
            hashes = {f: facts["sha256"] for f, facts in manifest["files"].items()}
            current = manifest["key"] == disk.identity(step, params, name)
            rows.append({"step": step, "name": name, **facts, "current": current, "sha256": hashes})
    return rows


def notebooks(profile: str) -> dict[str, dict]:
    """Executed notebook → seconds, start, end, and whether it stopped with an error."""
    rows = {}
    for file in sorted((paths.artefacts(profile) / "notebooks").glob("*.ipynb")):
        times = ((artefacts.read_json(file) or {}).get("metadata") or {}).get("papermill") or {}
        rows[file.stem] = {
            "seconds": round(times["duration"], 1) if times.get("duration") is not None else None,
            "start": times.get("start_time"),
            "end": times.get("end_time"),
            "failed": bool(times.get("exception")),
        }
    return rows
