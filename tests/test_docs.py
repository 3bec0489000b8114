"""The recipes of docs/: what they name exists, what they type is accepted, and followed they change so many files."""

import importlib
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import rooms
from conftest import forget_digests
from transformers import MistralConfig

from s2utils.data import sources
from s2utils.preflight import check, estimates, machine
from s2utils.workflow import params, steps

ROOT = Path(__file__).resolve().parents[1]
NAMES = ("extending", "running", "attention", "experts")
PAGES = {name: (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8") for name in NAMES}
SECTIONS = [part for text in PAGES.values() for part in re.split(r"^## ", text, flags=re.M)]
MADE = ("params/mine.yaml", "notebooks/17_name.ipynb", "notebooks/17_dpo.ipynb")  # by who follows a recipe


def blocks(section: str, language: str) -> list[str]:
    """What a section has its reader write, in order."""
    return re.findall(rf"```{language}\n(.*?)```", section, re.S)


MAKE = [
    pytest.param(line, section, id=line)
    for section in SECTIONS
    for line in "".join(blocks(section, "sh")).splitlines()
    if line.startswith("make ")
]


def recipe(title: str) -> str:
    """A section of extending.md."""
    (section,) = (section for section in SECTIONS if section.startswith(f"{title}\n"))
    return section


def test_there_are_commands_to_check():
    assert len(MAKE) > 12


@pytest.mark.parametrize(("line", "section"), MAKE)
def test_make_knows_the_target_and_the_profile_its_parameters(tree, line, section):
    words = shlex.split(line)
    given = dict(w.split("=", 1) for w in words[1:] if "=" in w)
    known = "PROFILE SET Q MODEL PREDICTIONS STEP ALL YES TEXTS DOMAIN SAMPLE"
    assert set(given) <= set(known.split())
    planned = subprocess.run(["make", "-n", "-o", "setup", *words[1:]], cwd=ROOT, capture_output=True, text=True)
    assert planned.returncode == 0 and "s2utils" in planned.stdout or "snakemake" in planned.stdout, planned.stderr
    if given.get("PROFILE") == "mine":
        (tree / "params" / "mine.yaml").write_text(blocks(section, "yaml")[0])
    loaded = params.load(given.get("PROFILE", "cpu"), given.get("SET", ""))
    if "MODEL" in given:
        assert given["MODEL"] in (loaded.model.name, f"{loaded.model.name}-chat")


def modules(name: str) -> list[object]:
    """Modules of ours that are called so."""
    paths = [path.relative_to(ROOT).with_suffix("") for path in (ROOT / "s2utils").rglob(f"{name}.py")]
    return [importlib.import_module(".".join(path.parts)) for path in paths]


@pytest.mark.parametrize("name", PAGES)
def test_what_a_page_names_exists(name):
    for path in re.findall(r"`((?:s2utils|tests|reports|notebooks|params)/[\w./]+)`", PAGES[name]):
        assert (ROOT / path).exists() or path in MADE, path
    keys, sections = params.flat(params.load("cpu")), params.Params.model_fields
    for first, second in re.findall(r"`([a-z_]+)\.(?!py\b|md\b|json\b)(\w+)[.\w]*(?:=[^`]*|\([^`]*\))?`", PAGES[name]):
        ours = modules(first)
        known = any(hasattr(module, second) for module in ours)
        known |= any(f"{key}.".startswith(f"{first}.{second}.") for key in keys)
        assert known or not (ours or first in sections), f"{first}.{second}"


@pytest.mark.parametrize("text", ["`readers.row`", "`s2utils/data/reader.py`", "`model.bas`", "`steps.modells(…)`"])
def test_a_name_that_is_not_there_is_seen(monkeypatch, text):
    monkeypatch.setitem(PAGES, "extending", text)
    with pytest.raises(AssertionError):
        test_what_a_page_names_exists("extending")


def contents(tree: Path) -> dict[str, bytes]:
    files = (path for path in tree.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {str(path.relative_to(tree)): path.read_bytes() for path in files}


@pytest.fixture
def changed(tree):
    """Which files differ from those that the repository has."""
    before = contents(tree)
    return lambda: sorted(path for path, text in contents(tree).items() if before.get(path) != text)


def put(file: Path, text: str, before: str = "") -> None:
    """Write `text` above the first line that begins with `before`, or at the end; a file that is not there begins."""
    file.parent.mkdir(parents=True, exist_ok=True)
    old = file.read_text(encoding="utf-8") if file.is_file() else ""
    place = old.index(f"\n{before}") + 1 if before else len(old)
    file.write_text(old[:place] + text + old[place:], encoding="utf-8")


def notebook(tree: Path, name: str, section: str) -> None:
    """The notebook of a recipe, without cells."""
    content = {"cells": [], "metadata": json.loads(blocks(section, "json")[0]), "nbformat": 4, "nbformat_minor": 5}
    (tree / "notebooks" / f"{name}.ipynb").write_text(json.dumps(content))
    forget_digests()


def in_tree(tree: Path, script: str) -> None:
    """Run Python in the changed copy."""
    environment = os.environ | {"PYTHONPATH": str(tree), "S2_ROOT": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", script], cwd=tree, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def test_a_data_set_is_one_file_and_is_read(tree, changed):
    (tree / "params" / "mine.yaml").write_text(blocks(recipe("A data set"), "yaml")[0])
    assert changed() == ["params/mine.yaml"]
    (tree / "my").mkdir()
    (tree / "my" / "questions.csv").write_text("id,question,answer\n1,Why?,It is so.\n2,How?,\n")
    loaded = params.load("mine")
    rows, unreadable = sources.read("textbook", loaded.data.sources["textbook"], loaded.seed)
    assert [r["question"] for r in rows] == ["Why?", "How?"] and rows[0]["answer"] == "It is so." and not unreadable
    assert steps.key("data", loaded) != steps.key("data", params.load("cpu")) and "textbook" in loaded.datasets
    assert {row.train_set for row in steps.models(loaded)} == {"", "textbook", "sciq-wikilead-textbook"}


def test_a_base_model_is_one_file_and_what_it_takes_is_estimated_from_its_configuration(tree, changed):
    (tree / "params" / "mine.yaml").write_text(blocks(recipe("A model"), "yaml")[0])
    assert changed() == ["params/mine.yaml"]
    loaded = params.load("mine")
    assert {row.base for row in steps.models(loaded)} == {"Mistral-7B"} and loaded.model.base.revision == "main"
    shape = check.sizes(loaded.model.name, loaded.model.base.path, MistralConfig())  # its defaults are this model's
    assert shape.name == "Mistral-7B" and 7.2e9 < shape.total < 7.3e9
    taken = {e.step: e for e in estimates.estimate(loaded, shape, machine.A100)}
    assert taken["03_sft"].seconds > 0 and 10e9 < taken["03_sft"].memory < 40e9


def test_a_metric_is_three_files_and_a_column_of_its_table(tree, changed):
    row, function, test = blocks(recipe("A metric"), "python")
    put(tree / "s2utils/evaluation/metrics.py", row, before="    )\n}  # fmt: skip\nSTUDY")
    file = tree / "s2utils/evaluation/text_metrics.py"
    put(file, f"{function}\n\n", before="MANNER = ")
    file.write_text(file.read_text().replace("reference_cosine)}", "reference_cosine, exclamations)}"))
    put(tree / "tests/evaluation/test_text_metrics.py", f"from s2utils.evaluation import text_metrics\n\n\n{test}")
    assert len(changed()) == 3
    script = """
import runpy
from pathlib import Path
import pandas as pd
from s2utils.evaluation import metrics, sample_scores, text_metrics
from s2utils.results import layout, tables
from s2utils.workflow.notebook import Run
from s2utils.workflow.params import load

runpy.run_path("tests/evaluation/test_text_metrics.py")["test_exclamation_marks_are_counted"]()
text_metrics.embed = lambda texts, *_, **__: pd.DataFrame({"v": [1.0] * len(texts)}).to_numpy()
scores = text_metrics.manner(["Oh! It rains!", "It is dry.", ""], ["It rains."] * 3, load("smoke"))
run, about = Run("report", "smoke", load("smoke")), {"dataset": "sciq", "source": "s", "question": "Why?"}
with (made := run.artefact(step="text_metrics")).making():
    scores = scores.assign(**about, model_id="SmolLM2-135M", id=["1", "2", "3"], ended=True, looping=False)
    scores.to_parquet(made.folder / "scores.parquet")
samples = sample_scores.of(run, "text_metrics")["manner"]
assert samples.loc[samples["metric"] == "exclamations", "value"].fillna(-1).tolist() == [2, 0, -1], samples
table = sample_scores.summary(samples, load("smoke"))
assert layout.view(table, "manner").loc[0, "Exclamation marks"] == "1.000 [0.000, 2.000] (1 failed)"
tables.write(table, "manner", Path("reports/t"), {"title": "Manner", "caption": ""})
assert tables.schema(Path("reports/t/manner.csv"))["columns"]["exclamations"] == "float64"
"""
    in_tree(tree, script)


def test_a_notebook_is_three_files_with_parameters_of_its_own(tree, changed):
    section, room = recipe("A notebook"), tree / "s2utils/evaluation/parameters.py"
    notebook(tree, "17_name", section)
    model, line = blocks(section, "python")
    put(room, f"{model}\n\n", before="class Parameters(")
    put(room, line)
    put(tree / "params/cpu.yaml", blocks(section, "yaml")[0])
    assert len(changed()) == 3
    script = """
from s2utils.workflow import declared, maps, steps
from s2utils.workflow.params import ParameterError, load, points, profiles

for name in profiles():
    loaded = load(name)
    assert steps.settings("name", loaded) == {"seed": 42, "asked.questions": 4}
assert steps.shown("17_name") == "name" and "name" in [step.name for step in steps.shown_of()]
assert steps.upstream("name", loaded) == [("text_metrics", "")]
assert steps.key("name", loaded) != steps.key("name", load(name, "asked.questions=5"))
assert steps.key("text_metrics", loaded) == steps.key("text_metrics", load(name, "asked.questions=5"))
assert "What does a reader ask?" in maps.readme(declared.notebooks()[-1])
assert list(points("cpu", load("cpu", "sweep.asked.questions=[4,5]"))) == ["cpu", "cpu@asked.questions=5"]
for wrong, said in (("questions=0", "must be int from 1"), ("question=1", "did you mean 'questions'")):
    try:
        load("cpu", f"asked.{wrong}")
    except ParameterError as error:
        assert said in str(error), error
    else:
        raise AssertionError(wrong)
"""
    in_tree(tree, script)


def study_keys() -> dict[tuple[str, str], str]:
    """(step, name) → identity of all that the study makes."""
    loaded = params.load("smoke")
    pairs = [(step.name, name) for step in steps.STEPS.values() for name in steps.names(step.name, loaded)]
    return {pair: steps.key(pair[0], loaded, pair[1]) for pair in pairs}


def test_a_kind_of_model_is_two_files_and_the_study_does_not_wait_for_it(tree, changed):
    section = recipe("A kind of model")
    before = study_keys()
    notebook(tree, "17_dpo", section)
    (row,) = blocks(section, "python")
    put(tree / "s2utils/workflow/steps.py", row, before="    return [row for row in rows")
    assert len(changed()) == 2
    script = f"""
from s2utils.evaluation import scoring_protocols
from s2utils.workflow import notebook, steps
from s2utils.workflow.params import load

params, id = load("smoke"), "SmolLM2-135M-sciq-dpo"
run = notebook.Run("preferred", "smoke", params)
assert id in [row.id for row in run.models] and len(run.models) == len(steps.models(params)) + 2
assert steps.names("dpo", params) == [id, "SmolLM2-135M-sciq-wikilead-dpo"]
assert steps.upstream("dpo", params, id) == [("data", ""), ("sft", "sciq")]
assert steps.upstream("answers", params, id) == [("data", ""), ("dpo", id)]
assert ("answers", id) in steps.upstream("preferred", params)
assert "dpo" not in {{row.variant for row in steps.models(params)}}
known = {before!r}
waited = {{step for pair in known for step, _ in steps.upstream(pair[0], params, pair[1])}}
assert waited <= {{step for step, _ in known}}  # of the study, and so on
assert {{pair: steps.key(pair[0], params, pair[1]) for pair in known}} == known
"""
    in_tree(tree, script)


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
