"""The checks of a GPU hold on a processor against itself, and see what is wrong; no GPU is needed to know that."""

import subprocess
import sys

import pytest
import torch

from s2utils.evaluation.leaderboard import shared_prefix
from s2utils.models.parameters import Weights
from s2utils.preflight import gpu_check
from s2utils.training import merging
from s2utils.workflow import artefacts


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Weights:
    return Weights(path=str(gpu_check.small(tmp_path_factory.mktemp("weights") / "small")), revision="")


@pytest.fixture(scope="module")
def trained(base, tmp_path_factory):
    """(what the check of training said, the folder that the others look into)"""
    folder = tmp_path_factory.mktemp("checks")
    return gpu_check.training(base, "cpu", folder), folder


@pytest.mark.slow
def test_every_check_holds_for_a_processor_against_itself(base, trained):
    (holds, told), folder = trained
    assert holds and "resumed to the same bits" in told
    for name in ("merges as on the processor", "generation", "shared prefixes as hf"):
        holds, told = gpu_check.CHECKS[name](base, "cpu", folder)
        assert holds, f"{name}: {told}"
        assert name != "merges as on the processor" or told == "bf16: equal to the bit; dequantized: equal to the bit"
    holds, told = gpu_check.flash(base, "cpu", folder)
    assert holds is None and told == "flash_attn is not installed"


@pytest.mark.slow
def test_what_is_wrong_does_not_hold(base, trained, monkeypatch, capsys):
    _, folder = trained
    summed = merging.summed
    calls = []

    def off(weight, mode, *changes):
        calls.append(mode)
        return summed(weight, mode, *changes) + (0.5 if len(calls) == 3 else 0.0)

    monkeypatch.setattr(merging, "summed", off)
    holds, told = gpu_check.merges(base, "cpu", folder)
    assert holds is False and "weights differ" in told
    score = shared_prefix.SharedPrefixLM._score
    monkeypatch.setattr(
        shared_prefix.SharedPrefixLM, "_score", lambda *a, **k: [(v + 0.01, g) for v, g in score(*a, **k)]
    )
    holds, told = gpu_check.likelihoods(base, "cpu", folder)
    assert holds is False and "nat" in told

    def broken(*_):
        raise RuntimeError("no such kernel")

    def absent(*_):
        raise ModuleNotFoundError("No module named 'flash'", name="flash")

    monkeypatch.setattr(gpu_check, "CHECKS", {"broken": broken, "absent": absent})
    found = gpu_check.check(base, "cpu", folder)
    assert found == {"broken": (False, "RuntimeError: no such kernel"), "absent": (None, "flash is not installed")}
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
    watch = gpu_check.Memory()
    end = (tmp_path / "benchmarks" / "01_eda.tsv").stat().st_mtime
    watch.samples = [(end - 60, 900.0), (end - 5, 300.0), (end - 4, 200.0), (end + 60, 900.0)]
    jobs = gpu_check.table(tmp_path, watch)
    assert [job["tokens_per_second"] for job in jobs] == [None, 50.5, 5.5]
    assert jobs[0] == {"step": "01_eda", "seconds": 10.0, "gpu_mb": 300.0, "tokens_per_second": None}


@pytest.mark.slow
def test_without_a_gpu_it_says_so_and_ends_with_2():
    done = subprocess.run(
        [sys.executable, "-m", "s2utils", "gpu-check"], capture_output=True, text=True, timeout=100,
        env=dict(__import__("os").environ, CUDA_VISIBLE_DEVICES=""),
    )  # fmt: skip
    assert done.returncode == 2, done.stderr[-2000:]
    assert "none visible" in done.stdout and "nothing was checked" in done.stdout
