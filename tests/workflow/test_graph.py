import os
import shutil
import signal
import subprocess
import sys
from collections import deque
from pathlib import Path
from types import SimpleNamespace

import pytest
import tqdm.auto
from conftest import REPOSITORY
from snakemake_interface_logger_plugins.common import LogEvent

from s2utils.workflow import graph, notebook, params, progress, steps, terminal


def make(run, step: str, name: str = "") -> None:
    with run.artefact(name, step).making():
        pass


@pytest.fixture
def loaded(tree):
    return params.load("smoke")


def test_what_a_notebook_makes_itself_is_not_upstream_of_it(loaded):
    assert graph.wanted("data", loaded, [""]) == []
    assert graph.wanted("sft", loaded, ["sciq"]) == [("data", ""), ("filtered", "0"), ("filtered", "1")]
    tuned = "SmolLM2-135M-sciq.bf16"
    asked = graph.wanted("answers", loaded, [tuned])
    assert ("sft", "sciq") in asked and ("merged", tuned) not in asked
    assert ("merged", tuned) in graph.wanted("leaderboard", loaded, [tuned])
    assert graph.wanted("leaderboard", loaded, ["SmolLM2-135M"]) == []
    for step in steps.STEPS:  # each can be asked
        graph.wanted(step, loaded, steps.names(step, loaded))


def test_only_what_is_not_there_or_not_current_is_missing(tree, loaded):
    run = notebook.Run("sft", "smoke", loaded)
    wanted = [tree / f"artefacts/smoke/{folder}/.done" for folder in ("data", "filtered/0", "filtered/1")]
    assert graph.missing("sft", "smoke", loaded, {}, ["sciq"]) == wanted
    for shard in ("0", "1"):
        make(run, "filtered", shard)
    make(run, "data")
    assert graph.missing("sft", "smoke", loaded, {}, ["sciq"]) == []
    other = {"seed": 7}
    assert wanted[0] in graph.missing("sft", "smoke", params.load("smoke", other), other, ["sciq"])


def test_a_sweep_wants_the_tables_of_its_points(tree):
    changes = {"sweep": {"sft.seed": [42, 43]}}
    found = graph.missing("sweep", "smoke", params.load("smoke", changes), changes, [""])
    assert tree / "artefacts/smoke/sft/.done" in found and tree / "artefacts/smoke@sft.seed=43/sft/.done" in found
    assert len(found) == 8


def test_a_choice_narrows_what_a_run_is_about(tree):
    loaded = params.load("smoke")
    names = lambda step, **choices: notebook.Run(step, "smoke", loaded, {}, choices).names  # noqa: E731
    assert names("sft", train_set="sciq") == ["sciq"] and names("sft", train_set="all") == loaded.sft.train_sets
    merges = [f"SmolLM2-135M-sciq.{mode}" for mode in ("bf16", "dequantized")]
    assert names("answers", model="all", train_set="sciq") == merges
    assert names("leaderboard", model="SmolLM2-135M") == ["SmolLM2-135M"] and names("data") == [""]


def test_the_bar_follows_what_the_logger_tells(tree, monkeypatch, capsys):
    """Records of Snakemake go through the logger as it runs there, its lines through the bar."""
    monkeypatch.setenv(progress.EVENTS, "1")
    handler = terminal.LogHandler(None, None)
    for event, facts in (
        (LogEvent.RUN_INFO, {"stats": {"sft_one": 2, "sft": 1, "total": 3}}),
        (LogEvent.JOB_INFO, {"jobid": 1, "rule_name": "sft_one", "log": ["a/cpu/notebooks/03_sft.sciq.log"]}),
        (LogEvent.JOB_INFO, {"jobid": 2, "rule_name": "sft", "log": []}),
        (LogEvent.JOB_FINISHED, {"job_id": 1}),
        (LogEvent.JOB_ERROR, {"jobid": 2}),
    ):
        handler.take(SimpleNamespace(event=event, levelno=20, **facts))
    handler.close()
    bars, bar = [], tqdm.auto.tqdm
    monkeypatch.setattr("tqdm.auto.tqdm", lambda **settings: bars.append(bar(**settings)) or bars[0])
    last = deque(maxlen=4)
    graph._follow(iter(["Error in the Snakefile\n", *capsys.readouterr().out.splitlines(True)]), last)
    assert (bars[0].total, bars[0].n) == (3, 1) and bars[0].desc.startswith("sft")
    told = "".join(last)
    assert told.startswith("Error in the Snakefile\n3 jobs") and "failed: sft\n1 of 3 jobs in 0 s" in told
    assert progress.EVENTS not in os.environ, "jobs do not inherit it"


def script(monkeypatch, code: str) -> None:
    monkeypatch.setattr(graph, "command", lambda *_: [sys.executable, "-c", code])


def test_a_failed_job_shows_the_end_of_what_it_said_and_no_stack(tree, monkeypatch):
    script(monkeypatch, "import sys; print('bad row 7'); sys.exit(1)")
    with pytest.raises(graph.GraphError, match="bad row 7") as caught:
        graph.run("smoke", {}, [])
    assert caught.value._render_traceback_() == [str(caught.value)]


def test_a_stale_mark_goes_before_the_graph_runs(tree, monkeypatch):
    mark = tree / "artefacts/smoke/data/.done"
    mark.parent.mkdir(parents=True)
    mark.touch()
    script(monkeypatch, "import pathlib; assert not pathlib.Path('artefacts/smoke/data/.done').exists()")
    graph.run("smoke", {}, [mark])


def test_an_interrupt_ends_the_jobs(tree, monkeypatch):
    script(monkeypatch, "import time; print('on', flush=True); time.sleep(60)")
    started = []
    start = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: started.append(start(*a, **k)) or started[-1])

    def interrupted(lines, last):
        next(iter(lines))
        raise KeyboardInterrupt

    monkeypatch.setattr(graph, "_follow", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # children of a shell's background ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            graph.run("smoke", {}, [])
    finally:
        signal.signal(signal.SIGINT, before)
    assert started[0].returncode in (-signal.SIGINT, 1)


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {"model": {"prompt": "Q: {question} A:"}}], ids=str)
def test_snakemake_takes_the_command(tree, changes):
    targets = graph.missing("sft", "smoke", params.load("smoke", changes), changes, ["sciq"])
    root = Path(graph.__file__).resolve().parents[2]
    call = graph.command("smoke", changes, targets)
    call[4:4] = ["-n", "--snakefile", str(root / "Snakefile"), "--directory", str(tree)]
    environment = graph.environment() | {"S2_ROOT": str(tree), "PYTHONPATH": str(root)}
    ran = subprocess.run(call, cwd=tree, env=environment, capture_output=True, text=True)
    planned = ran.stdout + ran.stderr
    assert ran.returncode == 0, planned[-2000:]
    assert "rule data:" in planned and "rule sft_one" not in planned and "rule preflight" not in planned


@pytest.mark.slow
def test_run_upstream_makes_again_what_was_lost(study, tmp_path):
    """Of the whole small study one model's answers are lost: they alone are made again, to the same bytes."""
    from test_study import environment

    study = shutil.copytree(study, tmp_path / "repository", symlinks=True)
    lost = study / "artefacts/smoke/answers/SmolLM2-135M"
    before = (lost / "answers.jsonl").read_bytes()
    other = study / "artefacts/smoke/merged/SmolLM2-135M-sciq.bf16/manifest.json"
    kept = other.stat().st_mtime_ns
    (lost / "manifest.json").unlink()
    code = """
from s2utils.workflow import notebook
run = notebook.start("text_metrics", "smoke")
assert not run.artefact("SmolLM2-135M", "answers").ready
notebook.run_upstream()
assert run.artefact("SmolLM2-135M", "answers").ready
"""
    own = environment(study)
    done = subprocess.run([sys.executable, "-c", code], cwd=study, env=own, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "run the cell that stopped again" in done.stdout and "job" in done.stderr
    assert (lost / "answers.jsonl").read_bytes() == before and other.stat().st_mtime_ns == kept


@pytest.mark.slow
def test_a_failed_job_shows_the_end_of_its_log_where_snakemake_is_called_by_itself(tree):
    shutil.copy(REPOSITORY / "Snakefile", tree)
    call = [sys.executable, "-m", "snakemake", "artefacts/smoke/eda/.done", "--cores", "1"]
    given = ["--config", "profile=smoke", "preflight=0", "set=data.sources.sciq.path=none.csv"]
    own = {k: v for k, v in os.environ.items() if k != "S2_TERMINAL"} | {"PYTHONPATH": str(tree)}
    done = subprocess.run([*call, *given], cwd=tree, env=own, capture_output=True, text=True, timeout=200)
    assert done.returncode and "none.csv: there is no such file" in done.stderr, done.stderr[-2000:]
    assert "Traceback" not in done.stderr and "-->" not in done.stderr, done.stderr[-2000:]
