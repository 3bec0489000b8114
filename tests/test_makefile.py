"""The thin front: every notebook has a target, and each command runs what it says."""

import json
import shutil
import subprocess

import pytest
from conftest import REPOSITORY

from s2utils import steps


def planned(root, *arguments: str) -> subprocess.CompletedProcess:
    """What make would run."""
    return subprocess.run(["make", "-n", *arguments], cwd=root, capture_output=True, text=True, timeout=60)


@pytest.fixture
def front(tree):
    """The Makefile beside the notebooks, set up."""
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(REPOSITORY / name, tree / name)
    shutil.copytree(REPOSITORY / "benchmarks", tree / "benchmarks")
    (tree / ".venv").mkdir()
    (tree / ".venv" / "ready").touch()
    return tree


def test_every_notebook_can_be_asked_for_two_digits_too(front):
    empty = {"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    (front / "notebooks" / "10_corpora.ipynb").write_text(json.dumps(empty))
    for name in (*{s.notebook for s in steps.STEPS.values()}, "10_corpora"):
        done = planned(front, name, "PROFILE=smoke")
        assert done.returncode == 0, done.stderr
        assert f"python -m s2utils.steps {name}" in done.stdout and "artefacts/smoke/" in done.stdout
    assert planned(front, "11_nothing").returncode == 2


@pytest.mark.parametrize("quick", [True, False])
def test_bench_runs_every_script_whole_or_short(front, quick):
    done = planned(front, "bench", *(["QUICK=1"] if quick else []))
    scripts = {p.name for p in (front / "benchmarks").glob("*.py")} - {"measure.py"}
    assert done.returncode == 0 and len(scripts) >= 7 and all(f"benchmarks/{name}" in done.stdout for name in scripts)
    assert ("--quick" in done.stdout) == quick and "measure.py" not in done.stdout


def test_a_gpu_is_checked_with_the_packages_of_the_machine_where_there_is_no_environment(front):
    done = planned(front, "gpu-check", "WEIGHTS=a b")
    assert "python3 -m s2utils.gpu_check --weights 'a b'" in done.stdout and "install.py" not in done.stdout
    (front / ".venv" / "bin").mkdir()
    (front / ".venv" / "bin" / "python").touch()
    assert "python -m s2utils.gpu_check" in planned(front, "gpu-check").stdout
