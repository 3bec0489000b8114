"""Notebooks in a real JupyterLab, driven through its menu in a browser: what a reader does."""

import contextlib
import json
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest
from test_study import copy_of_repository, environment

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[1]
TOKEN = "for-this-test"
PATIENCE = 240_000  # ms a notebook, on a busy machine
# of the notebook that is in front: how many code cells ran, how many there are, errors, whether a slider is there
STATE = """() => {
  const panel = window.jupyterapp.shell.currentWidget
  const cells = panel.content.widgets.filter(cell => cell.model.type === 'code')
  const outputs = cells.flatMap(cell => cell.model.sharedModel.toJSON().outputs)
  const session = panel.sessionContext.session
  const state = session && session.kernel && session.kernel.status
  return {
    ran: cells.filter(cell => cell.model.executionCount).length, cells: cells.length, idle: state === 'idle',
    errors: outputs.filter(o => o.output_type === 'error').map(o => [o.ename, o.traceback.join('\\n')]),
    widgets: outputs.filter(o => (o.data || {})['application/vnd.jupyter.widget-view+json']).length,
  }
}"""
DONE = f"() => {{ const s = ({STATE})(); return s.idle && s.ran && (s.ran === s.cells || s.errors.length) }}"


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Address of a JupyterLab over a copy of the repository whose notebooks begin with the smoke profile."""
    root = tmp_path_factory.mktemp("lab") / "repository"
    copy_of_repository(root)
    for file in (root / "notebooks").glob("*.ipynb"):
        file.write_text(file.read_text().replace('profile: str = \\"cpu\\"', 'profile: str = \\"smoke\\"'))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = {f"JUPYTER_{k}_DIR": str(root.parent / k.lower()) for k in ("RUNTIME", "DATA", "CONFIG")}
    ours = environment(root) | own | {"IPYTHONDIR": str(root.parent / "ipython"), "TQDM_DELAY": "1"}
    ours.pop("MPLBACKEND", None)  # as in a terminal; the tests set it for themselves
    command = [
        "jupyter", "lab", "--no-browser", "--allow-root", f"--port={port}", f"--IdentityProvider.token={TOKEN}",
        "--LabApp.expose_app_in_browser=True", f"--ServerApp.root_dir={root}", "--LabApp.news_url=None",
    ]  # fmt: skip
    with open(root.parent / "lab.log", "wb") as log:
        server = subprocess.Popen(command, cwd=root, env=ours, stdout=log, stderr=subprocess.STDOUT)
    try:
        _wait(f"http://127.0.0.1:{port}/api/status?token={TOKEN}", server, root.parent / "lab.log")
        yield f"http://127.0.0.1:{port}", root
    finally:
        server.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(20)
        server.kill()


def _wait(address: str, server: subprocess.Popen, log: Path) -> None:
    for _ in range(240):
        with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=5) as reply:
            json.load(reply)
            return
        assert server.poll() is None, log.read_text()
        time.sleep(0.5)
    raise AssertionError(log.read_text())


@pytest.fixture
def run_all(lab, chromium):
    """Open a notebook, click Run, Run All Cells, and wait: (page, state of its cells)."""
    address, _ = lab
    page = chromium.new_page(viewport={"width": 1300, "height": 900})

    def run(name: str):
        page.goto(f"{address}/lab/tree/notebooks/{name}.ipynb?token={TOKEN}&reset", timeout=PATIENCE)
        page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=PATIENCE)
        kernel = (
            "() => { const s = window.jupyterapp.shell.currentWidget.sessionContext; return s && s.session && "
            "s.session.kernel }"
        )
        page.wait_for_function(kernel, timeout=PATIENCE)
        page.click(".lm-MenuBar-itemLabel:text-is('Run')")
        page.click(".lm-Menu-itemLabel:text-is('Run All Cells')")
        page.wait_for_function(DONE, timeout=PATIENCE)
        return page, page.evaluate(STATE)

    yield run
    page.close()


def test_the_first_notebook_runs_and_its_sliders_move_the_counts(run_all, lab):
    page, state = run_all("01_eda")
    assert state["errors"] == [] and state["ran"] == state["cells"] and state["widgets"] >= 1
    index = (
        "window.jupyterapp.shell.currentWidget.content.widgets.findIndex(c => "
        "c.model.sharedModel.source.startsWith('widgets.offer'))"
    )
    page.evaluate(f"() => window.jupyterapp.shell.currentWidget.content.scrollToItem({index}, 'start')")
    slider = page.locator(".widget-slider", has_text="FRE at least").first
    slider.wait_for(timeout=PATIENCE)
    table = page.locator(".widget-html-content table").first
    before = table.inner_text()
    slider.locator(".noUi-handle").focus()
    for _ in range(20):
        page.keyboard.press("ArrowLeft")
    page.wait_for_function(
        "text => document.querySelector('.widget-html-content table').innerText !== text", arg=before, timeout=60_000
    )
    assert (lab[1] / "reports/smoke/figures/eda_readability.png").is_file()


def test_the_last_notebook_runs_where_there_is_no_sweep(run_all):
    _, state = run_all("08_sweep")
    assert state["errors"] == [] and state["ran"] == state["cells"]


def test_a_notebook_without_its_inputs_says_what_makes_them(run_all):
    page, state = run_all("03_sft")
    ((name, text),) = state["errors"]
    assert name == "MissingArtefact" and "make 02_datasets PROFILE=smoke" in text and "notebook.run_upstream()" in text
    assert "Traceback" not in text and "artefacts.py" not in text and len(text.splitlines()) < 8
    page.get_by_text("make 02_datasets PROFILE=smoke").first.wait_for(timeout=PATIENCE)


def test_notebooks_are_left_without_outputs_in_the_repository():
    for file in (ROOT / "notebooks").glob("*.ipynb"):
        assert not [c for c in nbformat.read(file, 4).cells if c.get("outputs")], "the test runs copies"
