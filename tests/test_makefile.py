"""The thin front: every notebook has a target, and each command runs what it says."""

import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest
from conftest import REPOSITORY, declare

from s2utils.workflow import steps
from s2utils.workflow.params import parse_set


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
    declare(front, "10_corpora", {"name": "corpora", "parameters": "seed", "collects": True})
    for name in {step.notebook for step in steps.STEPS.values()}:
        done = planned(front, name, "PROFILE=smoke")
        assert done.returncode == 0, done.stderr
        assert f"python -m s2utils step {name}" in done.stdout and "artefacts/smoke/" in done.stdout
    assert planned(front, "11_nothing").returncode == 2


def test_the_study_is_a_part_of_the_house(front):
    asked = {target: planned(front, target).stdout for target in ("study", "reproduce")}
    assert " part=study" in asked["study"] and "part=" not in asked["reproduce"]
    assert asked["study"].replace(" part=study", "") == asked["reproduce"]


@pytest.mark.parametrize("quick", [True, False])
def test_bench_runs_every_script_whole_or_short(front, quick):
    done = planned(front, "bench", *(["QUICK=1"] if quick else []))
    scripts = {p.name for p in (front / "benchmarks").glob("*.py")} - {"measure.py"}
    assert done.returncode == 0 and len(scripts) >= 7 and all(f"benchmarks/{name}" in done.stdout for name in scripts)
    assert ("--quick" in done.stdout) == quick and "measure.py" not in done.stdout


def test_a_gpu_is_checked_with_the_packages_of_the_machine_where_there_is_no_environment(front):
    done = planned(front, "gpu-check", "WEIGHTS=a b")
    assert "python3 -m s2utils gpu-check --weights 'a b'" in done.stdout and "install.py" not in done.stdout
    (front / ".venv" / "bin").mkdir()
    (front / ".venv" / "bin" / "python").touch()
    assert "python -m s2utils gpu-check" in planned(front, "gpu-check").stdout


HOSTILE = 'it\'s "here"; touch ran #&|<*'  # a value that a shell would take apart
TARGETS = {  # target → variables that reach its command as they are
    "reproduce": ("PROFILE", "SET"), "study": ("PROFILE", "SET"), "preflight": ("PROFILE", "SET"),
    "01_eda": ("PROFILE", "SET"), "report": ("SET",),
    "compare": ("A", "B"), "ask": ("PROFILE", "Q", "MODEL", "SET"), "progress": ("PROFILE",), "gpu-check": ("WEIGHTS",),
    "audit": ("PREDICTIONS", "REFERENCES", "JUDGEMENTS", "ANSWERS", "QUESTIONS", "PROFILE", "SET"),
    "corpus": ("TEXTS", "TEXT", "DOMAIN", "SAMPLE", "PROFILE", "SET"),
    "publish": ("WHAT", "TO", "NAMED"), "clean-artefacts": ("PROFILE", "SET", "STEP"), "clean": ("PROFILE",),
}  # fmt: skip


@pytest.mark.parametrize("target", TARGETS)
def test_every_value_reaches_its_command_as_it_is(front, target):
    given = {name: f"{name.lower()} {HOSTILE}" for name in TARGETS[target]}
    done = planned(front, target, *(f"{name}={value}" for name, value in given.items()))
    assert done.returncode == 0, done.stderr
    whole = done.stdout.replace("\\\n", " ")
    assert subprocess.run(["bash", "-n"], input=whole, text=True, capture_output=True).stderr == ""
    words = [word.strip() for word in shlex.split(whole, comments=False)]
    assert all(any(word.endswith(value) or f"/{value}/" in word for word in words) for value in given.values()), words


def test_nothing_is_deleted_where_there_is_no_such_profile(front):
    for name in ("artefacts", "reports"):
        (front / name / "smoke").mkdir(parents=True)
        (front / name / "it's").mkdir()
    shutil.copy(front / "params/smoke.yaml", front / "params/it's.yaml")
    for wrong in ("", ".", "..", "../params", "smokee", "../params/smoke", HOSTILE):
        done = subprocess.run(["make", "clean", f"PROFILE={wrong}"], cwd=front, capture_output=True, text=True)
        assert done.returncode == 2 and "nothing is deleted" in done.stderr
        assert (front / "artefacts/smoke").is_dir() and (front / "reports/smoke").is_dir()
    subprocess.run(["make", "clean", "PROFILE=it's"], cwd=front, check=True, capture_output=True)
    assert not (front / "artefacts/it's").exists() and not (front / "reports/it's").exists()
    assert (front / "artefacts/smoke").is_dir() and (front / "params/it's.yaml").is_file()


@pytest.fixture
def apostrophe(front):
    """The repository in a folder with an apostrophe and a blank, its Python that of the tests."""
    shutil.copy(REPOSITORY / "Snakefile", front / "Snakefile")
    there = front.parent / "it's here"
    front.rename(there)
    (there / ".venv/bin").mkdir()
    python = there / ".venv/bin/python"
    python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    python.chmod(0o755)
    shutil.copy(there / "params/smoke.yaml", there / "params/it's.yaml")
    shutil.copy(there / "params/mts_bench.jsonl", there / "params/it's.jsonl")
    return there


def make(root, *arguments: str) -> subprocess.CompletedProcess:
    own = {k: v for k, v in os.environ.items() if k not in ("S2_ROOT", "PYTHONPATH", "CI")}
    command = ["make", "CORES=1", *arguments]
    return subprocess.run(command, cwd=root, env=own, capture_output=True, text=True, timeout=120)


@pytest.mark.slow
def test_the_graph_is_planned_in_a_folder_and_with_files_that_have_an_apostrophe(apostrophe):
    changes = "SET=mtbench.questions=params/it's.jsonl membership.control='params/it''s.jsonl'"
    done = make(apostrophe, "07_mtbench", "FLAGS=-n -p", "PROFILE=it's", changes)
    assert done.returncode == 0, done.stderr[-2000:] + done.stdout[-2000:]
    commands = re.findall(r"^Shell command: (.*)$", done.stdout + done.stderr, re.MULTILINE)
    assert len(commands) > 20
    assert subprocess.run(["bash", "-n"], input="\n".join(commands), text=True, capture_output=True).stderr == ""
    filtered = shlex.split(next(command for command in commands if "s2utils make filtered" in command))
    assert "artefacts/it's/filtered/" in filtered[-1]
    assert parse_set(filtered[filtered.index("--set") + 1]) == {
        "mtbench": {"questions": "params/it's.jsonl"}, "membership": {"control": "params/it's.jsonl"},
    }  # fmt: skip


def test_a_command_runs_in_a_folder_with_an_apostrophe(apostrophe):
    done = make(apostrophe, "progress", "PROFILE=it's")
    assert done.returncode == 0 and "no job has written" in done.stdout, done.stderr
    done = make(apostrophe, "reproduce", "SET=mtbench.n=-1")
    assert done.returncode == 2 and "'mtbench.n' must be int from 0" in done.stderr and "Traceback" not in done.stderr
