"""Is this machine fit for a run? Packages, GPU, 4-bit kernels, disk and memory, each as one line of the table.

Sizes are bytes. Trap: a library that imports may still compute nonsense: bitsandbytes packs 4-bit layers on some
processors and then loses their gradients, so a real layer is run.
"""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
from huggingface_hub import constants
from packaging.utils import canonicalize_name

from s2utils.preflight.access import Check
from s2utils.preflight.estimates import Estimate
from s2utils.workflow import paths
from s2utils.workflow.params import Params

ENCODER = 1.5e9  # bytes a hub encoder or data set takes in the cache, at most
ARCHIVE = 0.4e9  # bytes of an embedded archive, while it is unpacked


def packages(most: int | None = 5) -> list[Check]:
    """Python and every locked package against what is installed; at most so many are named that differ, None: all."""
    python, file = f"Python {platform.python_version()}", paths.root() / "requirements.lock"
    if not file.is_file():
        return [Check("warn", "packages", f"{python}; no requirements.lock to compare with")]
    lock = dict(line.split("==") for line in file.read_text(encoding="utf-8").splitlines() if "==" in line)
    there = {canonicalize_name(d.metadata["Name"] or ""): d.version for d in importlib.metadata.distributions()}
    found = {name: there.get(canonicalize_name(name), "").split("+")[0] for name in lock}
    gone = [name for name, version in found.items() if not version]
    moved = [
        f"{name} {version}, not {lock[name]}" for name, version in found.items() if version not in ("", lock[name])
    ]
    text = f"{python}, {len(lock) - len(moved) - len(gone)} of {len(lock)} packages as locked"
    text += "".join(f"; {what}: {', '.join(n[:most])}" for what, n in (("other", moved), ("missing", gone)) if n)
    if gone or sys.version_info < (3, 11):
        return [Check("fail", "packages", text, "make setup (Python 3.11 or newer)")]
    return [Check("warn" if moved else "pass", "packages", text, "make setup, or numbers may move" if moved else "")]


def gpu() -> Check:
    """The first visible GPU: name, memory, CUDA, driver, bfloat16."""
    import torch

    if not torch.cuda.is_available():
        if torch.version.cuda is None:
            remedy = "install torch's CUDA build (make setup without TORCH_INDEX), or use PROFILE=cpu"
        else:
            remedy = "check nvidia-smi and CUDA_VISIBLE_DEVICES, or use PROFILE=cpu"
        return Check(
            "fail",
            "GPU",
            f"none visible (torch {torch.__version__}, CUDA {torch.version.cuda or 'not built in'})",
            remedy,
        )
    try:
        asked = subprocess.run(
            ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=5,
        )
        driver = asked.stdout.split()[0]
    except (OSError, subprocess.TimeoutExpired, IndexError):
        driver = "unknown"
    size = torch.cuda.get_device_properties(0).total_memory / 1e9
    text = f"{torch.cuda.device_count()} × {torch.cuda.get_device_name(0)}, {size:.0f} GB, CUDA {torch.version.cuda}, driver {driver}"
    if not torch.cuda.is_bf16_supported():
        return Check(
            "fail", "GPU", f"{text}, no bfloat16", "training needs bfloat16: use an Ampere GPU (A100) or newer"
        )
    return Check("pass", "GPU", text)


def kernels(device: str) -> Check:
    """A real 4-bit layer on the device: rounded, multiplied, differentiated after an evaluation."""
    try:
        import bitsandbytes
        import torch

        from s2utils.models.loading import keep_unpacked

        if not hasattr(bitsandbytes.nn.Linear4bit(64, 64), "support_avx512bf16_for_cpu"):
            return Check(
                "fail",
                "4-bit kernels",
                f"bitsandbytes {bitsandbytes.__version__} packs layers in a way we cannot switch off",
                "make setup",
            )
        weight = torch.sin(torch.arange(64 * 64).float()).reshape(64, 64)
        layer = bitsandbytes.nn.Linear4bit(64, 64, bias=False, compute_dtype=torch.bfloat16, quant_type="nf4")
        layer.weight = bitsandbytes.nn.Params4bit(
            weight, requires_grad=False, quant_type="nf4", compress_statistics=True
        )
        layer = keep_unpacked(layer).to(device)
        x = torch.ones(4, 64, dtype=torch.bfloat16, device=device, requires_grad=True)
        with torch.no_grad():
            layer.eval()(x)
        made = layer.train()(x)
        made.sum().backward()
        wanted = x.detach().float().cpu() @ weight.T
        off = ((made.detach().float().cpu() - wanted).norm() / wanted.norm()).item()
        if not off < 0.5 or not x.grad.abs().sum() > 0:  # NaN is not
            return Check(
                "fail",
                "4-bit kernels",
                f"wrong result (off by {off:.0%}) or no gradient",
                "make setup; other bitsandbytes releases may not fit this machine",
            )
    except Exception as error:  # whatever a native library raises, the table goes on
        return Check(
            "fail",
            "4-bit kernels",
            f"bitsandbytes does not run on {device} ({type(error).__name__})",
            "make setup; python -m bitsandbytes says more",
        )
    return Check(
        "pass",
        "4-bit kernels",
        f"bitsandbytes {bitsandbytes.__version__} on {device}, gradients live after an evaluation",
    )


def space(
    profile: str, estimates: list[Estimate], downloads: list[tuple[str, bool]], decoder: int, lacking: int
) -> list[Check]:
    """Free disk against what artefacts and downloads still need, one line a file system.

    A `downloads` that is a decoder takes 2 bytes for each of `decoder` weights; `lacking` embedded archives are to be fetched.
    """
    folder, cache = paths.artefacts(profile), Path(constants.HF_HUB_CACHE)
    there = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) if folder.is_dir() else 0
    needs = [
        (folder, "artefacts", max(0.0, sum(e.disk for e in estimates) - there)),
        (cache, "hub cache", sum(2 * decoder if large else ENCODER for _, large in downloads)),
        (paths.cache(), "S2_CACHE", ARCHIVE * lacking),
    ]
    found: dict[int, list] = {}
    for path, name, need in needs:
        place = next(p for p in (path, *path.parents) if p.exists())
        group = found.setdefault(place.stat().st_dev, [place, [], 0.0])
        group[1].append(f"{name} {need / 1e9:.1f}")
        group[2] += need
    checks = []
    for place, names, need in found.values():
        free = shutil.disk_usage(place).free
        state = "fail" if free < need else "warn" if free < 1.2 * need else "pass"
        text = f"{free / 1e9:.0f} GB free, {need / 1e9:.1f} GB needed ({', '.join(names)})"
        remedy = "free some, set HF_HOME or S2_CACHE to another disk, or take fewer merge.modes"
        checks.append(Check(state, f"disk at {place}", text, remedy if state != "pass" else ""))
    return checks


def memory(params: Params, estimates: list[Estimate]) -> list[Check]:
    """Memory of the GPU and of the host against the largest job."""
    import torch

    smaller = "smaller sft.per_device_train_batch_size (more sft.gradient_accumulation_steps) or generate.batch_size"
    on_gpu, checks = params.runtime.device == "cuda", []
    if on_gpu and torch.cuda.is_available():
        e, there = max(estimates, key=lambda e: e.memory), torch.cuda.get_device_properties(0).total_memory
        checks.append(_fits("GPU memory", e.step, e.memory, there, smaller))
    e, there = max(estimates, key=lambda e: e.host), psutil.virtual_memory().available
    return [*checks, _fits("memory", e.step, e.host, there, "a machine with more memory" if on_gpu else smaller)]


def _fits(what: str, step: str, need: float, there: float, remedy: str) -> Check:
    state = "fail" if need > there else "warn" if need > 0.9 * there else "pass"
    text = f"{there / 1e9:.1f} GB there, {step} needs {need / 1e9:.1f} GB"
    return Check(state, what, text, remedy if state != "pass" else "")
