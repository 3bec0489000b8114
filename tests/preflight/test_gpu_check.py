"""The checks of a GPU hold on a processor against itself, and see what is wrong; no GPU is needed to know that."""

import os
import subprocess
import sys
from functools import partial

import pytest
import torch

from s2utils.evaluation.leaderboard import shared_prefix
from s2utils.models.parameters import Weights
from s2utils.preflight import gpu_check
from s2utils.preflight.finding import Check, Row, examined
from s2utils.training import merging
from s2utils.workflow import artefacts


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Weights:
    return Weights(path=str(gpu_check.small(tmp_path_factory.mktemp("weights") / "small")), revision="")


@pytest.fixture(scope="module")
def trained(base, tmp_path_factory):
    """(what the check of training said, the folder that the others look into)."""
    folder = tmp_path_factory.mktemp("checks")
    return gpu_check.training(base, "cpu", folder), folder


def made(name: str, base, folder) -> Check:
    """The outcome of one check on the processor."""
    return examined(Row(name, partial(gpu_check.outcome, gpu_check.CHECKS[name], base, "cpu", folder)))


@pytest.mark.slow
def test_every_check_holds_for_a_processor_against_itself(base, trained):
    told, folder = trained
    assert "resumed to the same bits" in told
    checks = {name: made(name, base, folder) for name in list(gpu_check.CHECKS)[1:]}
    states = {name: check.state for name, check in checks.items()}
    assert states == dict.fromkeys(states, "pass") | {"FlashAttention": "warn"}, checks
    assert checks["merges as on the processor"].found == "bf16: equal to the bit; dequantized: equal to the bit"
    assert checks["FlashAttention"].found == "flash_attn is not installed"


@pytest.mark.slow
def test_what_is_wrong_does_not_hold(base, trained, monkeypatch, capsys):
    _, folder = trained
    summed, calls = merging.summed, []

    def off(weight, mode, *changes):
        calls.append(mode)
        return summed(weight, mode, *changes) + (0.5 if len(calls) == 3 else 0.0)

    monkeypatch.setattr(merging, "summed", off)
    check = made("merges as on the processor", base, folder)
    assert check.state == "fail" and "weights differ" in check.found
    score = shared_prefix.SharedPrefixLM._score
    shifted = lambda *a, **k: [(v + 0.01, g) for v, g in score(*a, **k)]  # noqa: E731
    monkeypatch.setattr(shared_prefix.SharedPrefixLM, "_score", shifted)
    check = made("shared prefixes as hf", base, folder)
    assert check.state == "fail" and "nat" in check.found


def test_a_check_that_raises_does_not_hold_and_one_without_its_package_is_left_out(monkeypatch, capsys):
    def broken(*_):
        raise RuntimeError("no such kernel")

    def absent(*_):
        raise ModuleNotFoundError("No module named 'flash'", name="flash")

    monkeypatch.setattr(gpu_check, "CHECKS", {"broken": broken, "absent": absent})
    found = [(c.state, c.found) for c in gpu_check.check(None, "cpu", None)]
    assert found == [("fail", "RuntimeError: no such kernel"), ("warn", "flash is not installed")]
    assert "DOES NOT HOLD broken" in capsys.readouterr().out


def test_how_far_two_adapters_are_apart_is_a_share_of_what_was_learnt():
    one = {"a.lora_A.weight": torch.ones(2, 2), "a.lora_B.weight": torch.tensor([[3.0, 4.0]])}
    other = one | {"a.lora_B.weight": torch.tensor([[3.0, 4.5]])}
    assert gpu_check.apart(one, one) == 0 and gpu_check.apart(one, other) == pytest.approx(0.1)


def test_a_finished_study_has_a_row_a_job(tmp_path):
    for job in ("01_eda", "03_sft.sciq", "04_generate.m"):
        (tmp_path / "benchmarks").mkdir(exist_ok=True)
        (tmp_path / "benchmarks" / f"{job}.tsv").write_text("s\th:m:s\n10\t0:00:10\n")
    artefacts.write_json(tmp_path / "sft" / "sciq" / "result.json", {"tokens_per_second": 50.5})
    artefacts.write_json(tmp_path / "answers" / "m" / "manifest.json", {"seconds": 4.0})
    artefacts.append_jsonl(tmp_path / "answers" / "m" / "answers.jsonl", [{"n_tokens": 10}, {"n_tokens": 12}])
    end = (tmp_path / "benchmarks" / "01_eda.tsv").stat().st_mtime
    samples = [(end - 60, 900.0), (end - 5, 300.0), (end - 4, 200.0), (end + 60, 900.0)]
    jobs = gpu_check.table(tmp_path, samples)
    assert [job["tokens_per_second"] for job in jobs] == [None, 50.5, 5.5]
    assert jobs[0] == {"step": "01_eda", "seconds": 10.0, "gpu_mb": 300.0, "tokens_per_second": None}


@pytest.mark.slow
def test_without_a_gpu_it_says_so_and_ends_with_2():
    done = subprocess.run(
        [sys.executable, "-m", "s2utils", "gpu-check"], capture_output=True, text=True, timeout=100,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    assert done.returncode == 2, done.stderr[-2000:]
    assert "none visible" in done.stdout and "nothing was checked" in done.stdout
