"""The recipes of docs/: what they name exists, what they type is accepted."""

import importlib
import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import rooms
from conftest import forget_digests

from s2utils.data import sources
from s2utils.workflow import params, steps

ROOT = Path(__file__).resolve().parents[1]
PAGES = {name: (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8") for name in ("extending", "running")}
COMMANDS = [
    line
    for text in PAGES.values()
    for block in re.findall(r"```sh\n(.*?)```", text, re.S)
    for line in block.splitlines()
]
MAKE = sorted({line for line in COMMANDS if line.startswith("make ")})


def test_there_are_commands_to_check():
    assert len(MAKE) > 12


@pytest.mark.parametrize("line", MAKE)
def test_make_knows_the_target_and_the_profile_its_parameters(line):
    words = shlex.split(line)
    given = dict(w.split("=", 1) for w in words[1:] if "=" in w)
    assert set(given) <= {"PROFILE", "SET", "Q", "MODEL", "PREDICTIONS", "STEP", "ALL", "YES"}
    planned = subprocess.run(["make", "-n", "-o", "setup", *words[1:]], cwd=ROOT, capture_output=True, text=True)
    assert planned.returncode == 0 and "s2utils" in planned.stdout or "snakemake" in planned.stdout, planned.stderr
    loaded = params.load(given.get("PROFILE", "cpu"), given.get("SET", ""))
    if "MODEL" in given:
        assert given["MODEL"] in (loaded.model.name, f"{loaded.model.name}-chat")


@pytest.mark.parametrize("name", PAGES)
def test_what_a_page_names_exists(name):
    for path in re.findall(r"`((?:s2utils|tests|reports|notebooks|params)/[\w./]+)`", PAGES[name]):
        assert (ROOT / path).exists() or path in ("params/mine.yaml", "notebooks/09_name.ipynb"), path
    for module, attribute in re.findall(r"`([a-z_]+)\.([a-z_]+)(?:\(.*?\))?`", PAGES[name]):
        if (ROOT / "s2utils" / f"{module}.py").is_file():
            assert hasattr(importlib.import_module(f"s2utils.{module}"), attribute), f"{module}.{attribute}"
    for section, key in re.findall(r"`(data|model|sft|mtbench|merge)\.(\w+)", PAGES[name]):
        assert any(k.startswith(f"{section}.{key}") for k in params.flat(params.load("cpu"))), f"{section}.{key}"


def test_the_data_set_of_the_recipe_is_read(tree):
    block = re.search(r"```yaml\n(.*?)```", PAGES["extending"], re.S)[1]
    (tree / "params" / "mine.yaml").write_text(block)
    (tree / "my").mkdir()
    (tree / "my" / "questions.csv").write_text("id,question,answer\n1,Why?,It is so.\n2,How?,\n")
    loaded = params.load("mine")
    rows, unreadable = sources.read("textbook", loaded.data.sources["textbook"], loaded.seed)
    assert [r["question"] for r in rows] == ["Why?", "How?"] and rows[0]["answer"] == "It is so." and not unreadable
    changes = steps.key("data", loaded) != steps.key("data", params.load("cpu"))
    assert changes and "textbook" in loaded.datasets


def test_the_notebook_of_the_recipe_is_a_step_of_the_graph_and_one_file(tree):
    before = {path for path in tree.rglob("*") if path.is_file()}
    block = re.search(r"## A notebook\n.*?```json\n(.*?)```", PAGES["extending"], re.S)[1]
    content = {"cells": [], "metadata": json.loads(block), "nbformat": 4, "nbformat_minor": 5}
    (tree / "notebooks" / "09_name.ipynb").write_text(json.dumps(content))
    forget_digests()
    loaded = params.load("smoke")
    assert steps.shown("09_name") == "name" and "name" in [step.name for step in steps.shown_of()]
    assert steps.upstream("name", loaded) == [("text_metrics", "")] and steps.key("name", loaded)
    assert len({path for path in tree.rglob("*") if path.is_file()} - before) == 1


def test_every_room_is_explained_in_the_order_of_the_layers_and_drawn_as_it_is():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## Where is what")[2].partition("## ")[0]
    named = re.findall(r"^\| `(\w+)` \|", text, flags=re.M)
    assert (
        sorted(named)
        == sorted(p.parent.name for p in (ROOT / "s2utils").glob("*/__init__.py"))
        == sorted(rooms.rooms())
    )
    assert rooms.drawn() == rooms.imports() and rooms.PICTURE.read_text(encoding="utf-8") == rooms.draw(), (
        "docs/rooms.py"
    )
