"""Is this machine fit for a run? Packages, GPU, 4-bit kernels, disk and memory, each as one line of the table.

Sizes are bytes. Trap: a library that imports may still compute nonsense: bitsandbytes packs 4-bit layers on some
processors and then loses their gradients, so a real layer is run.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import operator
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import psutil
from huggingface_hub import constants
from packaging.utils import canonicalize_name

from s2utils.preflight.assumptions import CACHED
from s2utils.preflight.estimates import Estimate
from s2utils.preflight.finding import Finding, Row, enough
from s2utils.workflow import paths


def packages(most: int | None = 5) -> str:
    """Python and every locked package against what is installed; at most so many are named that differ, None: all."""
    python, file = f"Python {platform.python_version()}", paths.root() / "requirements.lock"
    if not file.is_file():
        raise Finding(f"{python}; no requirements.lock to compare with", "", "warn")
    lock = dict(line.split("==") for line in file.read_text(encoding="utf-8").splitlines() if "==" in line)
    there = {canonicalize_name(d.metadata["Name"] or ""): d.version for d in importlib.metadata.distributions()}
    found = {name: there.get(canonicalize_name(name), "").split("+")[0] for name in lock}
    gone = [name for name in lock if not found[name]]
    other = [f"{name} {found[name]}, not {lock[name]}" for name in lock if found[name] not in ("", lock[name])]
    text = f"{python}, {len(lock) - len(other) - len(gone)} of {len(lock)} packages as locked"
    text += "".join(f"; {what}: {', '.join(n[:most])}" for what, n in (("other", other), ("missing", gone)) if n)
    if gone or sys.version_info < (3, 11):
        raise Finding(text, "make setup (Python 3.11 or newer)")
    if other:
        raise Finding(text, "make setup, or numbers may move", "warn")
    return text


def gpu() -> str:
    """The first visible GPU: name, memory, CUDA, driver, bfloat16."""
    import torch

    cuda = torch.version.cuda
    if not torch.cuda.is_available():
        text = f"none visible (torch {torch.__version__}, CUDA {cuda or 'not built in'})"
        built = "check nvidia-smi and CUDA_VISIBLE_DEVICES"
        remedy = built if cuda else "install torch's CUDA build (make setup without TORCH_INDEX)"
        raise Finding(text, f"{remedy}, or use PROFILE=cpu")
    driver, query = "unknown", ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    with contextlib.suppress(OSError, subprocess.TimeoutExpired, IndexError):
        driver = subprocess.run(query, capture_output=True, text=True, timeout=5).stdout.split()[0]
    size = torch.cuda.get_device_properties(0).total_memory / 1e9
    text = f"{torch.cuda.device_count()} × {torch.cuda.get_device_name(0)}, {size:.0f} GB, CUDA {cuda}, driver {driver}"
    if not torch.cuda.is_bf16_supported():
        raise Finding(f"{text}, no bfloat16", "training needs bfloat16: use an Ampere GPU (A100) or newer")
    return text


def kernels(device: str) -> str:
    """A real 4-bit layer on the device: rounded, multiplied, differentiated after an evaluation."""
    try:
        import bitsandbytes
        import torch

        from s2utils.models.loading import keep_unpacked

        release = f"bitsandbytes {bitsandbytes.__version__}"
        layer = bitsandbytes.nn.Linear4bit(64, 64, bias=False, compute_dtype=torch.bfloat16, quant_type="nf4")
        switched = hasattr(layer, "support_avx512bf16_for_cpu")
        weight = torch.sin(torch.arange(64 * 64).float()).reshape(64, 64)
        nf4 = {"quant_type": "nf4", "compress_statistics": True}
        layer.weight = bitsandbytes.nn.Params4bit(weight, requires_grad=False, **nf4)
        layer = keep_unpacked(layer).to(device)
        x = torch.ones(4, 64, dtype=torch.bfloat16, device=device, requires_grad=True)
        with torch.no_grad():
            layer.eval()(x)
        product = layer.train()(x)
        product.sum().backward()
        exact = x.detach().float().cpu() @ weight.T
        off = ((product.detach().float().cpu() - exact).norm() / exact.norm()).item()
        right = off < 0.5 and x.grad.abs().sum() > 0  # NaN is not
    except Exception as error:  # whatever a native library raises, the table goes on
        text = f"bitsandbytes does not run on {device} ({type(error).__name__})"
        raise Finding(text, "make setup; python -m bitsandbytes says more") from None
    if not switched:
        raise Finding(f"{release} packs layers in a way we cannot switch off", "make setup")
    if not right:
        remedy = "make setup; other bitsandbytes releases may not fit this machine"
        raise Finding(f"wrong result (off by {off:.0%}) or no gradient", remedy)
    return f"{release} on {device}, gradients live after an evaluation"


def space(
    profile: str, estimates: list[Estimate], downloads: list[tuple[str, bool]], decoder: int, lacking: int,
    sizes: Mapping[str, int] = {},
) -> list[Row]:  # fmt: skip
    """Free disk against what artefacts and downloads still need, one row a file system.

    Of `downloads` a decoder takes 2 bytes for each of its weights: of `sizes` by its path, else of `decoder`. `lacking`
    embedded archives are to be fetched.
    """
    folder, systems = paths.artefacts(profile), {}
    hub = sum(2 * sizes.get(path, decoder) if is_decoder else CACHED["encoder"] for path, is_decoder in downloads)
    there = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    for path, name, need in (
        (folder, "artefacts", max(0.0, sum(e.disk for e in estimates) - there)),
        (Path(constants.HF_HUB_CACHE), "hub cache", hub),
        (paths.cache(), "S2_CACHE", CACHED["archive"] * lacking),
    ):
        place = next(p for p in (path, *path.parents) if p.exists())
        systems.setdefault(place.stat().st_dev, (place, {}))[1][name] = need
    rows, remedy = [], "free some, set HF_HOME or S2_CACHE to another disk, or take fewer merge.modes"
    for place, needs in systems.values():
        need, free = sum(needs.values()), shutil.disk_usage(place).free
        parts = ", ".join(f"{name} {size / 1e9:.1f}" for name, size in needs.items())
        text = f"{free / 1e9:.0f} GB free, {need / 1e9:.1f} GB needed ({parts})"
        rows.append(Row(f"disk at {place}", partial(enough, text, need, free, free / 1.2), remedy))
    return rows


def memory(device: str, estimates: list[Estimate]) -> list[Row]:
    """Memory of the GPU and of the host against the largest job."""
    import torch

    def row(what: str, kind: str, there: int, remedy: str) -> Row:
        largest = max(estimates, key=operator.attrgetter(kind))
        need = getattr(largest, kind)
        text = f"{there / 1e9:.1f} GB there, {largest.step} needs {need / 1e9:.1f} GB"
        return Row(what, partial(enough, text, need, there, 0.9 * there), remedy)

    batch = "sft.per_device_train_batch_size (more sft.gradient_accumulation_steps) or generate.batch_size"
    available, rows = psutil.virtual_memory().available, []
    if device == "cuda" and torch.cuda.is_available():
        there = torch.cuda.get_device_properties(0).total_memory
        rows.append(row("GPU memory", "memory", there, f"smaller {batch}"))
    remedy = "a machine with more memory" if device == "cuda" else f"smaller {batch}"
    return [*rows, row("memory", "host", available, remedy)]
