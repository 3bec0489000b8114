import math
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
from conftest import REPOSITORY

from s2utils.training import callbacks
from s2utils.training.callbacks import Recorder
from s2utils.training.failures import TrainingError
from s2utils.workflow import artefacts


def test_only_a_checkpoint_written_to_its_end_is_resumed_from(tmp_path):
    assert callbacks.last_checkpoint(tmp_path) is None
    for step in (5, 90, 100):
        (tmp_path / f"checkpoint-{step}").mkdir()
    assert callbacks.last_checkpoint(tmp_path) is None
    recorder, here = Recorder(tmp_path), SimpleNamespace(output_dir=str(tmp_path))
    for step, first in ((5, True), (90, True), (100, False)):  # others must not vouch for what the first one writes
        recorder.on_save(here, SimpleNamespace(global_step=step, is_world_process_zero=first), None)
    assert callbacks.last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-90")


STATE = SimpleNamespace(global_step=7, is_world_process_zero=True)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["loss", "eval_loss"])
def test_a_loss_that_is_no_number_stops_the_run(tmp_path, name, value):
    with pytest.raises(TrainingError, match="not a number at step 7: lower sft.learning_rate"):
        Recorder(tmp_path).on_log(None, STATE, None, logs={name: value})
    assert not (tmp_path / "log.jsonl").exists()


def test_what_is_logged_is_kept(tmp_path):
    recorder = Recorder(tmp_path)
    recorder.on_log(None, STATE, None, logs={"loss": 1.5, "grad_norm": math.nan})
    recorder.on_log(None, STATE, None, logs=None)
    rows = artefacts.read_jsonl(tmp_path / "log.jsonl")
    assert len(rows) == 2 and rows[0]["loss"] == 1.5 and rows[0]["step"] == 7


def test_the_curve_has_one_row_a_step_the_last_one_counting(tmp_path):
    rows = [
        {"step": 1, "seconds": 1.0, "loss": 3.0},
        {"step": 2, "seconds": 2.0, "loss": 2.0},
        {"step": 2, "seconds": 2.5, "eval_loss": 2.2},
        {"step": 2, "seconds": 1.0, "loss": 2.1},  # killed and run again from step 1
        {"step": 2, "seconds": 1.5, "eval_loss": 2.3},
        {"step": 2, "seconds": 1.6, "train_loss": 2.55, "train_runtime": 1.6},  # trl's last line: a mean over all steps
    ]
    artefacts.append_jsonl(tmp_path / "log.jsonl", rows)
    curve = callbacks.curve(tmp_path)
    assert curve["step"].tolist() == [1, 2]
    assert curve["train_loss"].tolist() == [3.0, 2.1]
    assert curve["eval_loss"].tolist()[1] == 2.3


def test_a_counter_that_starts_again_is_summed_over_attempts():
    assert callbacks.total([3, 7, 2, 5]) == 12
    assert callbacks.total([]) == 0 and callbacks.total([4, 4]) == 4


def test_the_curve_of_samples_counts_each_question_once_a_step(tmp_path):
    simple = {"flesch_reading_ease": 100.0, "flesch_kincaid_grade": 1.0}
    rows = [
        {"step": 0, "prompt": "a", "text": "", "ended": False},  # no word: no readability
        {"step": 0, "prompt": "b", "text": "So.", "ended": True} | simple,
        {"step": 2, "prompt": "a", "text": "It is.", "ended": False} | simple,
        {"step": 2, "prompt": "a", "text": "It is.", "ended": True} | simple,  # killed and answered again
    ]
    artefacts.append_jsonl(tmp_path / "samples.jsonl", rows)
    found = callbacks.samples(tmp_path)
    assert found["step"].tolist() == [0, 2] and found["n"].tolist() == [2, 1] and found["n_failed"].tolist() == [1, 0]
    assert found["flesch_reading_ease"].tolist() == [100.0, 100.0] and found["ended"].tolist() == [0.5, 1.0]
    assert callbacks.samples(tmp_path / "nowhere").empty


METER = """
import os, sys, time
done = []
def watch(event, given):
    writes = event == "open" and isinstance(given[1], str) and set(given[1]) & set("wax+")
    asks = event in ("socket.connect", "socket.getaddrinfo")
    if writes and isinstance(given[0], str) and not given[0].startswith("/dev/") or asks:
        done.append((event, str(given[0])))
from s2utils.training import callbacks
sys.dont_write_bytecode = True
sys.addaudithook(watch)
def work():  # codecarbon measures no interval below 50 ms
    end = time.perf_counter() + 0.3
    while time.perf_counter() < end:
        sum(i * i for i in range(10**4))
meter = callbacks.Meter("FRA")
work()
first = meter.read()
work()
second = meter.read()
meter.tracker.stop()
assert 0 < first["kwh"] < second["kwh"] and 0 < first["co2_kg"] < second["co2_kg"], (first, second)
assert not done, done
assert not os.listdir("."), os.listdir(".")
"""


@pytest.mark.slow
def test_energy_is_measured_without_network_and_without_files(tmp_path):
    here = os.environ | {"S2_ROOT": str(REPOSITORY), "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-B", "-c", METER]
    done = subprocess.run(command, cwd=tmp_path, env=here, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]


def test_an_unknown_country_is_named():
    with pytest.raises(TrainingError, match="'XYZ' is no country"):
        callbacks.Meter("XYZ")
