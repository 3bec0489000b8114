"""The committed notebooks and the graph: clean, complete, and resolvable under every profile."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from conftest import declare

from s2utils.evaluation import metrics
from s2utils.workflow import declared, params, steps

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def test_every_notebook_declares_its_steps_and_one_run_for_readers():
    """In the order of the numbers, which have no gap; `make study` runs the first eight."""
    known = declared.notebooks()
    assert [n.name for n in known] == [p.stem for p in NOTEBOOKS]
    assert [int(n.name[:2]) for n in known] == list(range(1, len(known) + 1))
    for notebook in known:
        assert sum(step.collects for step in notebook.steps) == 1, notebook.name
    assert [n.name for n in known if n.part == "study"] == [n.name for n in known[:8]]


@pytest.mark.parametrize("profile", params.profiles())
def test_a_declared_parameter_is_one_that_there_is(profile):
    """One that was renamed would fall out of an identity in silence."""
    known = params.flat(params.load(profile))
    for step in steps.STEPS.values():
        for name in (*step.parameters, *step.endpoints):
            assert any(key == name or key.startswith(f"{name}.") for key in known), f"{step.name}: {name}"


def test_a_table_has_one_notebook_that_writes_it():
    written = [table for step in steps.STEPS.values() for table in step.tables]
    assert len(written) == len(set(written)) and all(not step.tables or step.collects for step in steps.STEPS.values())
    known = {table: step.name for step in steps.STEPS.values() for table in step.tables}
    assert all(
        steps.STEPS[known[table]].notebook == steps.STEPS[m.step].notebook for table, m in metrics.TABLES.items()
    )


def test_what_a_notebook_declares_survives_nbstripout(tmp_path):
    file = shutil.copy(NOTEBOOKS[0], tmp_path)
    before = nbformat.read(file, 4)
    before.cells[2]["outputs"] = [nbformat.v4.new_output("stream", text="said")]
    nbformat.write(before, file)
    tools = Path(sys.executable).parent
    subprocess.run([tools / "nbstripout", "--keep-id", file], check=True)
    assert Path(file).read_bytes() == NOTEBOOKS[0].read_bytes()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_is_clean(path):
    notebook = nbformat.read(path, 4)
    nbformat.validate(notebook)
    code = [c for c in notebook.cells if c.cell_type == "code"]
    assert not [c for c in code if c.outputs or c.execution_count], "outputs are committed"
    tagged = [c for c in code if "parameters" in c.metadata.get("tags", [])]
    assert tagged == [code[0]] and 'profile: str = "cpu"' in tagged[0].source
    assert notebook.cells[0].cell_type == "markdown" and notebook.cells[0].source.startswith(f"# {path.stem[:2]} · ")
    for word in ("Reads", "Writes", "Runtime"):
        assert f"| {word} |" in notebook.cells[0].source
    titles = [
        line
        for c in notebook.cells
        if c.cell_type == "markdown"
        for line in c.source.splitlines()
        if line.startswith("## ")
    ]
    assert titles[-2:] == ["## Checks", "## Reading"]
    assert max(len(c.source.splitlines()) for c in code) <= 40
    imports = [node for node in ast.walk(ast.parse(code[1].source)) if isinstance(node, ast.ImportFrom)]
    ours = [name for node in imports if node.module.startswith("s2utils") for name in node.names]
    assert 1 <= len(ours) <= 6, "names of ours in the first cell after the parameters"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_what_is_drawn_is_shown(path):
    """A notebook shows the last expression of a cell by itself, and none inside of an `if` or a loop."""
    shows = ("figures.save", "Markdown", "HTML")
    for cell in nbformat.read(path, 4).cells:
        tree = ast.parse(cell.source if cell.cell_type == "code" else "")
        for node in ast.walk(tree):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and node is not tree.body[-1]:
                assert ast.unparse(node.value.func) not in shows, f"{cell.id}: {ast.unparse(node)[:80]} is not shown"


def test_answers_of_two_merges_draw_the_same_random_numbers():
    """04 seeds them by the model's name, which both merges share, not by the id, which they do not."""
    cells = nbformat.read(ROOT / "notebooks/04_generate.ipynb", 4).cells
    making = "\n".join(c.source for c in cells if "makes-answers" in c.metadata.get("tags", []))
    assert making.count("seed=") == 1 and 'seed=f"{p.seed}/{row.model}"' in making


@pytest.mark.slow
@pytest.mark.parametrize("profile", params.profiles())
def test_graph_builds_under_every_profile(profile, tmp_path):
    """`snakemake -n` resolves every rule; all models of the study are planned."""
    tools = str(Path(sys.executable).parent)
    environment = os.environ | {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    command = ["snakemake", "-n", "--forceall", "--cores", "2", "--nolock", "--config", f"profile={profile}"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    planned = done.stdout + done.stderr
    loaded = params.load(profile)
    for row in steps.models(loaded):
        assert f"answers/{row.id}/.done" in planned and f"mtbench/{row.id}/.done" in planned
    scored = len(steps.models(loaded)) - steps.same_weights(loaded)
    assert planned.count("rule leaderboard_one:") == scored and planned.count("rule protocols:") == 1
    asked = dict(re.findall(r"rule (\w+):\n((?: {4}.*\n)+)", planned))
    assert ("gpu=1" in asked["sft_one"]) == (loaded.runtime.device == "cuda")
    for collecting in ("sft", "answers", "leaderboard", "mtbench"):
        assert "gpu=1" not in asked[collecting], f"{collecting} only collects: it must not wait for a GPU"


@pytest.mark.slow
def test_a_sweep_plans_what_its_values_change_and_nothing_twice():
    tools = str(Path(sys.executable).parent)
    environment = os.environ | {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    changes = "set=sft.train_sets=[sciq] merge.modes=[bf16] sweep.sft.seed=[42,43] sweep.sft.r=[8,4]"
    command = ["snakemake", "-n", "--forceall", "--cores", "2", "--nolock", "--config", "profile=smoke", changes]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    counts = dict(re.findall(r"^(\w+) +(\d+)$", done.stdout + done.stderr, re.M))
    r = params.load("smoke").sft.r
    runs = 4 if r in (8, 4) else 5  # the profile itself, where it is none of the points
    assert counts["sft_one"] == str(runs) and counts["answers_one"] == counts["mtbench_one"] == str(2 + runs)
    assert counts["data"] == counts["eda"] == counts["preflight"] == counts["sweep"] == "1"


@pytest.mark.slow
def test_a_notebook_more_is_one_file_that_the_study_does_not_run(tree):
    """It stands on 05: `make reproduce` runs it, `make study` plans neither it nor a report that waits for it."""
    shutil.copy(ROOT / "Snakefile", tree)
    look = {"name": "look", "parameters": "seed", "modules": "data.eda", "reads": "text_metrics", "collects": True}
    declare(tree, "17_look", look)
    tools = str(Path(sys.executable).parent)
    environment = os.environ | {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(tree)}

    def planned(*given: str) -> str:
        command = ["snakemake", "-n", "--cores", "2", "--nolock", "--config", "profile=smoke", *given]
        done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout + done.stderr

    study, house = planned("part=study"), planned()
    assert "artefacts/smoke/look" not in study and "rule sweep" not in study
    for plan in (study, house):
        assert all(f"rule {step.name}:" in plan for step in steps.shown_of("study", sweep=False))
        assert "rule report:" in plan and "rule preflight:" in plan
    job = re.search(r"rule look:\n((?: {4}.*\n)+)", house)[1]
    assert "input: artefacts/smoke/text_metrics/.done" in job and "log: artefacts/smoke/notebooks/17_look.ipynb" in job
    assert "artefacts/smoke/look/.done" in re.search(r"rule report:\n {4}input: (.*)", house)[1]


def test_embedded_profiles_name_what_they_are():
    """Nothing small is called ELI5."""
    for profile in ("cpu", "smoke"):
        assert not [d for d in params.load(profile).datasets if "eli5" in d.casefold()]


@pytest.mark.slow
def test_make_runs_one_notebook_and_what_it_needs():
    command = ["make", "-o", "setup", "03_sft", "PROFILE=smoke", "FLAGS=-n --forceall", "SET=sft.max_steps=5"]
    tools = str(Path(sys.executable).parent)
    environment = os.environ | {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    planned = done.stdout + done.stderr
    assert done.returncode == 0, planned[-2000:]
    assert "rule sft_one:" in planned and "rule data:" in planned and "rule answers" not in planned
    assert "rule preflight:" in planned
