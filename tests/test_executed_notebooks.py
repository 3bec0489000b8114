import copy
import os
import subprocess
import sys
from pathlib import Path

import executed_notebooks
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from s2utils.workflow import paths, timings

ROOT = Path(__file__).resolve().parents[1]


def run(seconds: float, letter: str, pieces: int = 1) -> nbformat.NotebookNode:
    """A notebook as a run leaves it, with all that differs from run to run."""
    styled = (
        f'<style>#T_{letter * 5} td {{}}</style><table id="T_{letter * 5}"><td id="T_{letter * 5}_row0">1</td></table>'
    )
    outputs = [
        new_output("display_data", {"text/markdown": f"**Profile smoke**\n\nTook {seconds:.0f} s here (recorded "
                                                     f"2026-11-2{pieces}).\n\n| a |"}),
        *[new_output("stream", name="stdout", text=text) for text in (["ab\n"] if pieces == 1 else ["a", "b\n"])],
        new_output("stream", name="stderr", text="w"),
        new_output("execute_result", {"text/plain": f"<Styler at 0x{letter * 12}>", "text/html": styled},
            execution_count=1),
    ]  # fmt: skip
    times = {"start_time": f"2026-11-2{pieces}T00:00:00", "duration": seconds, "status": "completed"}
    cell = new_code_cell(
        "x", execution_count=1, outputs=outputs, id=letter * 8, metadata={"papermill": times, "tags": ["a"]}
    )
    cells = [new_markdown_cell("# t", id=f"m{letter}"), cell]
    return new_notebook(
        cells=cells,
        metadata={"papermill": times | {"output_path": f"{letter}.ipynb"}, "language_info": {"name": "python"}},
    )


def test_two_runs_are_equal_once_normalised():
    first, second = run(3, "a"), run(700, "b", pieces=2)
    assert first != second
    assert executed_notebooks.normalised(first) == executed_notebooks.normalised(second)
    nbformat.validate(executed_notebooks.normalised(first))
    assert executed_notebooks.normalised(executed_notebooks.normalised(first)) == executed_notebooks.normalised(first)


def test_the_original_stays_as_it_was():
    first = run(3, "a")
    before = copy.deepcopy(first)
    executed_notebooks.normalised(first)
    assert first == before


def change(path: str, value):
    def apply(notebook):
        node, (*parents, last) = notebook, [int(p) if p.isdigit() else p for p in path.split("/")]
        for part in parents:
            node = node[part]
        node[last] = value

    return apply


@pytest.mark.parametrize(
    ("path", "value"),
    [("cells/1/source", "y"), ("cells/0/source", "# u"), ("cells/1/metadata/tags", ["b"]),
        ("cells/1/execution_count", 2),
     ("cells/1/outputs/1/text", "ac\n"), ("cells/1/outputs/1/name", "stderr"),
     ("cells/1/outputs/3/data/text/plain", "<Table at 0x1>"),
     ("metadata/language_info", {"name": "r"})],
)  # fmt: skip
def test_whatever_else_differs_shows(path, value):
    first, second = run(3, "a"), run(3, "a")
    if "text/plain" in path:
        second.cells[1].outputs[3].data["text/plain"] = value
    else:
        change(path, value)(second)
    assert executed_notebooks.normalised(first) != executed_notebooks.normalised(second)


def test_a_changed_number_in_a_styled_table_shows():
    first, second = run(3, "a"), run(3, "b")
    second.cells[1].outputs[3].data["text/html"] = second.cells[1].outputs[3].data["text/html"].replace(">1<", ">2<")
    assert executed_notebooks.normalised(first) != executed_notebooks.normalised(second)


@pytest.mark.parametrize("state", ["nothing", "estimate", "one", "many"])
def test_every_sentence_on_durations_is_one(tree, state):
    folder = paths.artefacts("smoke")
    for name in {"one": ["03_sft"], "many": ["03_sft", "03_sft.sciq"]}.get(state, []):
        (folder / "benchmarks").mkdir(parents=True, exist_ok=True)
        (folder / "benchmarks" / f"{name}.tsv").write_text("s\n3000\n")
    if state == "estimate":
        (folder / "preflight").mkdir(parents=True)
        (folder / "preflight" / "estimates.json").write_text('{"03_sft": 9}')
    text = f"before\n\n{timings.sentence('smoke', '03_sft')}.\n\nafter"
    assert executed_notebooks._settled(text) == "before\n\n‹duration›\n\nafter"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["08_sweep", "01_eda"])
def test_a_notebook_run_twice_is_the_same(tmp_path, name):
    tools = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": tools, "PYTHONPATH": str(ROOT), "S2_ROOT": str(tmp_path / "repository")}
    for folder in ("params", "notebooks", "s2utils", "reports/published"):
        (tmp_path / "repository" / folder).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "repository" / folder).symlink_to(ROOT / folder)
    made = []
    for turn in ("first", "second"):
        output = tmp_path / f"{turn}.ipynb"
        command = [
            "papermill",
            f"notebooks/{name}.ipynb",
            str(output),
            "--cwd",
            ".",
            "--kernel",
            "python3",
            "-p",
            "profile",
            "smoke",
        ]
        log = {"S2_LOG": str(tmp_path / "log")}  # bars would tell the time
        done = subprocess.run(
            command, cwd=tmp_path / "repository", env=environment | log, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-3000:]
        made.append(nbformat.read(output, 4))
    assert made[0] != made[1]
    assert executed_notebooks.normalised(made[0]) == executed_notebooks.normalised(made[1])
