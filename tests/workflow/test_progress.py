import os
import subprocess
import sys
from pathlib import Path

import pytest

from s2utils.__main__ import main
from s2utils.workflow import paths, progress

ROOT = Path(__file__).resolve().parents[2]


def ran(code: str, tmp_path, **environment) -> tuple[str, str]:
    """(what a new interpreter said, its log)"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    log = tmp_path / "a.log"
    return done.stdout + done.stderr, log.read_bytes().decode() if log.is_file() else ""


BARS = """
import time
import s2utils
from s2utils.workflow import progress
from tqdm import tqdm
from tqdm.auto import tqdm as auto
for _ in tqdm(range(40), desc="long"): time.sleep(0.02)
for _ in auto(range(3), desc="short"): pass
for _ in progress.bar(range(3), desc="own"): pass
"""


def test_bars_of_a_job_go_to_its_log_and_short_ones_nowhere(tmp_path):
    said, log = ran(BARS, tmp_path, S2_LOG="a.log", TQDM_DELAY="0.1", TQDM_MININTERVAL="0.05")
    assert said == "" and "short" not in log and "own" not in log
    assert "\r" in log and "long: 100%" in log and log.count("\n") == 1
    assert progress.settled(log).count("long") == 1


def test_without_a_log_bars_are_those_of_the_terminal(tmp_path):
    said, log = ran(BARS, tmp_path, S2_LOG="")
    assert log == "" and all(name in said for name in ("long", "short", "own"))


def test_the_bars_of_libraries_are_off(tmp_path):
    code = """
import s2utils, transformers.utils.logging as logging, datasets
assert not logging.is_progress_bar_enabled()
datasets.Dataset.from_list([{"a": 1}]).map(lambda row: row)
"""
    assert "Map" not in ran(code, tmp_path)[0]


@pytest.mark.parametrize(
    ("text", "seen"),
    [("", ""), ("a\nb\n", "a\nb\n"), ("a\r\nb\r\n", "a\nb\n"), ("1%\r2%\r3%\nx", "3%\nx"), ("\r1%\r2%\r", "2%")],
)
def test_of_what_was_written_over_the_last_state_stays(text, seen):
    assert progress.settled(text) == seen == progress.settled(seen)


def test_a_log_is_tidied_and_a_notebook_is_not(tmp_path):
    log, other = tmp_path / "a.log", tmp_path / "a.ipynb"
    for file in (log, other):
        file.write_bytes(b"first\n 1%\r 2%\r\xff100%\nlast")
    assert main(["redact", str(log), str(other)]) == 0
    assert log.read_bytes() == b"first\n\xff100%\nlast" and b"\r" in other.read_bytes()


def test_running_jobs_are_listed_with_their_last_word(tree, capsys):
    folder = paths.artefacts("smoke") / "notebooks"
    folder.mkdir(parents=True)
    (folder / "03_sft.sciq.log").write_text("Input\n\r 1%|a\r12%|██ 5/40 [00:10<01:10]\x1b")
    (folder / "01_eda.log").write_text("Executing: 100%|██████████| 41/41 [00:32<00:00]\n")
    (folder / "07_mtbench.log").write_text("x")
    os.utime(folder / "07_mtbench.log", (0, 0))
    main(["progress", "smoke"])
    said = capsys.readouterr().out
    assert said.startswith("03_sft.sciq (") and "12%|██ 5/40 [00:10<01:10]�" in said and said.count("\n") == 1
    main(["progress", "cpu"])
    assert "no job" in capsys.readouterr().out
