"""papermill as the graph calls it does what papermill does, and leaves no kernel behind."""

import subprocess
import sys

import executed_notebooks
import nbformat
import psutil
import pytest
from conftest import REPOSITORY

OURS = ["s2utils", "notebook"]
CELLS = [
    "name = 'you'",
    "import os, sys\nprint(os.getpid())",
    "import sys\nprint('hello', name)\nsys.stderr.write('low')",
    "name",
]


@pytest.fixture
def notebook(tmp_path):
    """Write a notebook of cells, the first of them its parameters."""

    def write(cells):
        made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        made.cells[0].metadata["tags"] = ["parameters"]
        made.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(made, tmp_path / "in.ipynb")
        return tmp_path / "in.ipynb"

    return write


def run(module: list[str], given, out, *options: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", *module, str(given), str(out), *options]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120)


def execute(module, given, tmp_path):
    """(process, executed notebook)."""
    out = tmp_path / f"{module[0]}.ipynb"
    return run(module, given, out, "-p", "name", "world"), nbformat.read(out, as_version=4)


def test_cells_parameters_and_outputs_are_papermills(notebook, tmp_path):
    given = notebook([CELLS[0], *CELLS[2:]])
    (ours, made), (_, wanted) = (execute(m, given, tmp_path) for m in (OURS, ["papermill"]))
    assert ours.returncode == 0, ours.stderr[-2000:]
    assert made.cells[-1].outputs[0]["data"]["text/plain"] == "'world'"
    assert executed_notebooks.normalised(made) == executed_notebooks.normalised(wanted)


def test_no_kernel_is_left(notebook, tmp_path):
    done, made = execute(OURS, notebook(CELLS), tmp_path)
    (printed, *_) = (output["text"] for cell in made.cells for output in cell.outputs if output.get("name") == "stdout")
    assert done.returncode == 0 and not psutil.pid_exists(int(printed))


def test_a_failure_is_told_and_kept_in_the_notebook(notebook, tmp_path):
    done, made = execute(OURS, notebook([*CELLS[:2], "1 / 0", "print('never')"]), tmp_path)
    assert done.returncode == 1 and "ZeroDivisionError" in done.stderr
    assert any(output["output_type"] == "error" for cell in made.cells for output in cell.get("outputs", []))
    assert not made.cells[-1].outputs


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["-p", "profile", "1"], "there is no profile 1"),
        (["-r", "profile", "smoke", "-y", "overrides: [1]"], "overrides must be a section of keys"),
        (["-y", "["], "while parsing"),
        (["--cwd", "nowhere"], "nowhere"),
    ],
)
def test_parameters_that_cannot_be_used_show_no_stack(notebook, tmp_path, arguments, told):
    cell = "from s2utils.workflow import notebook\nnotebook.start('sft', profile, overrides)"
    given = notebook(["profile, overrides = 'cpu', {}", cell])
    done = run(OURS, given, tmp_path / "out.ipynb", "--no-progress-bar", *arguments)
    assert done.returncode == 1 and told in done.stderr and "Traceback" not in done.stderr
    assert f"{REPOSITORY}/s2utils/workflow/params.py" not in done.stderr


def test_a_notebook_that_is_not_there_is_named(tmp_path):
    done = run(OURS, "notebooks/99_none.ipynb", tmp_path / "out.ipynb")
    assert done.returncode == 1 and "99_none.ipynb" in done.stderr and "Traceback" not in done.stderr
