"""What a person sees of a run: plain lines without a terminal, few under CI, and nothing wider than the screen."""

import io
import re
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from rich.console import Console
from snakemake_interface_logger_plugins.common import LogEvent

from s2utils.workflow import artefacts, paths, terminal, timings

RULES = {
    "eda": ["01_eda", 1, 20.0], "sft_one": ["03_sft", 2, 80.0], "sft": ["03_sft", 1, 10.0],
    "report": ["", 1, 10.0],
}  # fmt: skip
SAID = "float32, which the profile computes in, is 6.0 times as fast here as bfloat16 (bfloat16 15, float32 90 GFLOP/s)"


def plan(promised: float | None = 20, **rules) -> None:
    smaller = ["03_sft (3 min): sft.max_steps"]
    values = {"rules": RULES | rules, "promised": promised, "said": [SAID], "smaller": smaller}
    artefacts.write_json(paths.artefacts("cpu") / "preflight" / timings.ESTIMATES, values)


def record(event=None, message: str = "", level: int = 20, **facts):
    return SimpleNamespace(event=event, levelno=level, getMessage=lambda: message, **facts)


@pytest.fixture
def handler(tree, monkeypatch):
    """Make a handler that writes into `seen`; a screen of `width` columns, or none."""
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.chdir(tree)
    monkeypatch.setattr(terminal.LogHandler, "profile", "cpu")
    monkeypatch.setattr(terminal.LogHandler, "cores", 2)

    def make(width: int = 0):
        seen, screen = io.StringIO(), {"width": width, "legacy_windows": False} if width else {}
        console = Console(file=seen, highlight=False, force_terminal=bool(width), **screen)
        monkeypatch.setattr(terminal, "Console", lambda **_: console)
        made = terminal.LogHandler(SimpleNamespace(), None)
        made.seen = seen
        return made

    return make


def planned(handler, **stats: int) -> None:
    """What Snakemake says before the first job."""
    handler.take(record(LogEvent.RUN_INFO, stats=stats | {"total": sum(stats.values())}))


def job(handler, number: int, rule: str, log: str = "") -> None:
    handler.take(record(LogEvent.JOB_INFO, jobid=number, rule_name=rule, log=[log] if log else []))


def end(handler, number: int) -> None:
    handler.take(record(LogEvent.JOB_FINISHED, job_id=number))


def whole(handler) -> None:
    """A run of four jobs."""
    planned(handler, preflight=1, sft_one=2, sft=1, all=1)
    job(handler, 1, "preflight", "artefacts/cpu/preflight/checks.txt")
    end(handler, 1)
    for number, name in ((2, "sciq"), (3, "wikilead")):
        job(handler, number, "sft_one", f"artefacts/cpu/notebooks/03_sft.{name}.log")
    for number in (2, 3, 3):  # the second word about a job says nothing new
        end(handler, number)
    job(handler, 4, "sft", "artefacts/cpu/notebooks/03_sft.log")
    end(handler, 4)
    handler.close()


def test_without_a_terminal_there_is_a_line_a_job_and_nothing_that_moves(handler):
    plan()
    made = handler()
    whole(made)
    text = made.seen.getvalue()
    assert made.live is None and not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", text)
    lines = text.splitlines()
    assert lines[0] == "4 jobs of the profile cpu, on 2 cores"
    assert [line.split() for line in lines[1:3]] == ["job took estimated".split(), "1 of 4 preflight 0:00 –".split()]
    assert lines[3] == f"about 85 s here: {SAID}"
    assert re.match(r"  2 of 4   03_sft.sciq +0:00 +1:20$", lines[4]) and max(map(len, lines[:3] + lines[4:])) < 80
    jobs = [line.split()[0] for line in lines if line.startswith("03_sft")]
    assert jobs == ["03_sft", "03_sft.sciq", "03_sft.wikilead"]
    assert re.search(r"all, one after another +0:00 +2:50$", text, re.M) and lines[-1] == "4 of 4 jobs in 0 s"
    made.close()
    assert made.seen.getvalue() == text, "logging closes a handler once more at the end"


def test_ci_hears_of_the_start_the_end_and_failures_only(handler, monkeypatch):
    monkeypatch.setenv("CI", "1")
    plan()
    made = handler()
    whole(made)
    start, end = "4 jobs of the profile cpu, on 2 cores", "4 of 4 jobs in 0 s"
    assert made.seen.getvalue().splitlines() == [start, f"about 85 s here: {SAID}", end]


def test_a_run_far_beyond_the_readme_is_said_before_the_first_job(handler):
    plan(leaderboard_one=["06_leaderboard", 7, 1100.0])
    made = handler()
    planned(made, leaderboard_one=7)
    text = made.seen.getvalue()
    assert "more than 3 times the 20 minutes that the README says of two cores" in text
    assert "03_sft (3 min): sft.max_steps" in text
    assert "PROFILE=smoke" in text and not made.jobs
    plan(leaderboard_one=["06_leaderboard", 7, 900.0])
    made = handler()
    planned(made, leaderboard_one=7)
    assert "more than" not in made.seen.getvalue()


@pytest.mark.parametrize("width", [80, 120])
def test_the_lines_that_move_fit_the_screen_and_say_when_it_will_be_done(handler, tree, width):
    plan()
    made = handler(width)
    planned(made, preflight=1, sft_one=2)
    log = tree / "artefacts/cpu/notebooks/03_sft.sciq.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("start\n 10%|#   | 1/10\r 70%|####### | 7/10 [00:50<00:21, \x1b[31m7.1s/step]" + "x" * 200)
    job(made, 2, "sft_one", str(log.relative_to(tree)))
    made.jobs[2].started = time.time() - 65
    lines = [str(line) for line in made.now().renderables]
    assert len(lines) == 2 and all(len(line) < width for line in lines)
    assert lines[0].startswith("  03_sft.sciq  1:05 of 1:20  70%|") and "\x1b" not in lines[0]
    assert re.fullmatch(r"0 of 3 done · 0:00 · about 4[78] s left, done at \d\d:\d\d", lines[1])
    made.close()


def test_a_failed_job_shows_the_end_of_its_log(handler, tree):
    plan()
    made = handler()
    planned(made, eda=1)
    log = tree / "artefacts/cpu/notebooks/01_eda.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("".join(f"line {i}\n" for i in range(99)) + "ParameterError: correct params/cpu.yaml\n")
    job(made, 7, "eda", "artefacts/cpu/notebooks/01_eda.log")
    made.take(record(LogEvent.JOB_ERROR, jobid=7))
    made.take(record(None, "Exiting because a job execution failed.", level=40))
    made.close()
    text = made.seen.getvalue()
    assert "failed: 01_eda\nline 60\n" in text
    assert "correct params/cpu.yaml\n(the end of artefacts/cpu/notebooks/01_eda.log)" in text
    assert "Exiting because" not in text and text.rstrip().endswith("0 of 1 jobs in 0 s; failed: 01_eda")


def test_failed_checks_stand_without_the_estimates(handler, tree):
    made = handler()
    file = tree / "artefacts/cpu/preflight/checks.txt"
    file.parent.mkdir(parents=True, exist_ok=True)
    checks = "pass  parameters  fine\nfail  disk  1 GB free\n      → free some\n"
    file.write_text(f"{checks}\nEstimates for X\n" + "y\n" * 50)
    planned(made, preflight=1)
    job(made, 1, "preflight", "artefacts/cpu/preflight/checks.txt")
    made.take(record(LogEvent.JOB_ERROR, jobid=1))
    text = made.seen.getvalue()
    assert "fail  disk  1 GB free" in text and "PREFLIGHT=0 goes on without them" in text and "Estimates" not in text


def test_a_fault_in_showing_does_not_end_the_run(handler, capsys):
    made = handler()
    made.emit(record(LogEvent.JOB_INFO))  # without what such a record holds
    planned(made, eda=1)
    assert "1 jobs of the profile cpu" in made.seen.getvalue()


def test_jobs_of_a_sweep_say_of_which_point(handler):
    made = handler()
    planned(made, sft_one=1)
    job(made, 1, "sft_one", "artefacts/cpu@sft.seed=43/notebooks/03_sft.sciq.log")
    assert made.jobs[1].name == "03_sft.sciq (sft.seed=43)"


@pytest.mark.slow
def test_snakemake_takes_the_handler_and_a_dry_run_is_its_own(tmp_path):
    (tmp_path / "Snakefile").write_text("rule one:\n    output: 'a.txt'\n    shell: 'echo 1 > {output}'\n")
    account = "Snakemake's own account of it: .snakemake/log/"
    for given, wanted in ((["-n"], "rule one:"), ([], account), ([], "Nothing to do")):
        call = [sys.executable, "-m", "s2utils", "run", "--cores", "1", "--config", "profile=cpu", *given]
        done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and wanted in done.stdout + done.stderr, done.stderr[-2000:]
    (tmp_path / "a.txt").unlink()
    (tmp_path / "Snakefile").write_text("rule one:\n    output: 'b.txt'\n    shell: 'exit 3'\n")
    done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "0 of 1 jobs" in done.stdout and "failed: one" in done.stdout
