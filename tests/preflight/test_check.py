"""The whole: what is printed, written and returned; the network given up in time."""

import dataclasses
import json
import subprocess
import sys
import time
from types import SimpleNamespace

import httpx
import huggingface_hub
import pytest
import torch
from conftest import REPOSITORY
from huggingface_hub import constants
from transformers import AutoConfig

from s2utils.__main__ import main
from s2utils.models.parameters import Weights
from s2utils.preflight import access, check, formulas, host, machine
from s2utils.preflight.estimates import Estimate
from s2utils.preflight.finding import Finding, examined
from s2utils.preflight.machine import REFERENCE
from s2utils.workflow import params, timings

SECRET = "sk-" + "secret" * 4


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """No timing: the recorded machine's rates; no key, token or GPU of the person who runs the tests."""
    monkeypatch.setattr(machine, "measure", lambda *_: REFERENCE)
    monkeypatch.setattr(machine, "loop", lambda: REFERENCE.loop)
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: SECRET)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.parametrize(
    ("dtype", "bf16", "said"),
    [("float32", 20e9, "float32, which the profile computes in, is 5.0 times as fast here as bfloat16 "
      "(bfloat16 20, float32 101 GFLOP/s)"),
     ("float32", 303e9, "bfloat16 is 3.0 times as fast here as float32, which the profile computes in "
      "(bfloat16 303, float32 101 GFLOP/s): SET='model.dtype=bfloat16' takes it, and moves last digits"),
     ("bfloat16", 20e9, "float32 is 5.0 times as fast here as bfloat16, which the profile computes in "
      "(bfloat16 20, float32 101 GFLOP/s): SET='model.dtype=float32' takes it, and moves last digits")],
)  # fmt: skip
def test_the_dtype_that_is_faster_here_is_named_with_what_to_set(dtype, bf16, said):
    assert check.faster(dataclasses.replace(REFERENCE, bf16=bf16), dtype) == said


def test_what_a_shorter_run_would_leave_out_begins_with_what_takes_longest():
    made = [
        Estimate(s, {s: 2}, parts=[(s, n, "")]) for s, n in (("01_eda", 9e3), ("03_sft", 60.0), ("07_mtbench", 600.0))
    ]
    result = {"estimates": made, "machine": REFERENCE, "dtype": "float32"}
    plan = check.plan("smoke@sft.seed=2", result)
    assert plan["rules"]["03_sft"] == ["03_sft", 2, 30.0] and plan["rules"]["report"][:2] == ["", 1]
    assert [text.split(":")[0] for text in plan["smaller"]] == ["07_mtbench (10 min)", "03_sft (60 s)"]
    assert plan["promised"] == check.PROMISED["smoke"] and plan["said"] == [check.faster(REFERENCE, "float32")]
    assert check.plan("a100-7b", result)["promised"] is None


def test_what_the_readme_promises_is_what_a_run_is_held_against():
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert all(f"{minutes} minutes" in text for minutes in check.PROMISED.values())


def test_the_table_adds_up():
    made = [Estimate("01_eda", {"a": 1, "b": 2}, 3e9, disk=1e9, dollars=2.0, parts=[("a", 3600, "")], host=1e9),
            Estimate("03_sft", {"c": 3}, 2e9, disk=2e9, dollars=3.0, parts=[("c", 1800, "")], host=4e9)]  # fmt: skip
    head, first, _, last = (line.split() for line in check.table(made, on_gpu=True).split("\n"))
    assert head == "step jobs hours GPU-h GB, one job host GB disk GB dollars".split()
    assert last == ["all", "6", "1.50", "1.50", "3.00", "4.00", "3.00", "5.00"]
    assert first == ["01_eda", "3", "1.00", "1.00", "3.00", "1.00", "1.00", "2.00"]
    assert check.table(made, on_gpu=False).split()[-5] == "0.00"


@pytest.mark.parametrize(("budget", "state"), [(0.0, "pass"), (1.0, "fail"), (3.0, "pass")])
def test_a_budget_that_is_too_small(budget, state):
    judge = params.load("a100-7b").mtbench.judge.model_copy(update={"budget": budget})
    (row,) = map(examined, check.budgets([Estimate("07_mtbench", {}, asked=[("judge", judge, 2.0)])]))
    assert row.state == state and row.what == "judge budget" and row.found.startswith("2.00 dollars a job")
    assert bool(row.remedy) == (state == "fail")


def test_the_configuration_alone_is_fetched(monkeypatch, tree, tmp_path, tiny_llama):
    text, asked = tiny_llama().config.to_json_string(), []

    def get(url, **_):
        asked.append(url)
        return httpx.Response(200, text=text, request=httpx.Request("GET", url))

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub, "get_session", lambda: SimpleNamespace(get=get))
    config = check.configuration(Weights(path="someone/tiny-for-this-test", revision="main"))
    assert config.hidden_size == 64
    assert [url.endswith("someone/tiny-for-this-test/resolve/main/config.json") for url in asked] == [True]
    (tree / "mine").mkdir()
    (tree / "mine" / "config.json").write_text(text)
    assert check.configuration(Weights(path="mine", revision="")).hidden_size == 64 and len(asked) == 1
    monkeypatch.setenv("S2_CACHE", str(tmp_path))
    with pytest.raises(FileNotFoundError):  # what is embedded is not asked of the hub
        check.configuration(Weights(path="embedded:smollm2-135m-instruct", revision=""))
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("path", "config", "said"),
    [("x/Llama-2-7b-hf", None, "published sizes"), ("x/y", None, "(its config.json could not be read)"),
     ("x/y", AutoConfig.for_model("vit"), "(ValueError)")],
)  # fmt: skip
def test_sizes_that_cannot_be_had(path, config, said):
    try:
        found = check.sizes("m", path, config).source
    except Finding as finding:
        found = str(finding)
    assert said in found


def test_a_model_beside_the_study_of_unknown_size_counts_as_the_base_and_says_so():
    changes = "fit.models.Strange.path=x/strange fit.models.Strange.revision=main"
    p = params.load("a100-7b", changes)
    base = check.sizes("Llama-2-7b", p.model.base.path, None)
    shapes, (warning,) = check.beside(p, [None] * 7, base)
    assert [shape.name for shape in shapes] == [*p.fit.models] and shapes[-1].total == base.total > shapes[2].total
    assert warning.state == "warn" and warning.what == "sizes of Strange" and "as large as Llama-2-7b" in warning.found


def test_jobs_that_hang_are_given_up_and_keep_no_program_from_ending():
    code = "import time; from s2utils.preflight import check; hang = lambda: time.sleep(900)\n"
    code += "print(check.together([lambda: 1, hang, lambda: 1 / 0, lambda: 3], 0.2)())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, cwd=REPOSITORY)
    assert done.stdout.split("\n")[0] == "[1, None, None, 3]", done.stderr[-2000:]


@pytest.mark.parametrize("profile", ["cpu", "smoke"])
def test_the_embedded_profiles_pass(profile):
    result = check.collect(profile)
    assert not [c for c in result["checks"] if c.state == "fail" and c.what not in ("packages", "memory")]
    rows = [c.what.partition(" at ")[0] for c in result["checks"]]
    assert list(dict.fromkeys(rows)) == [
        "parameters", "packages", "4-bit kernels", "embedded archives", "memory", "disk",
    ]  # fmt: skip
    assert len(result["estimates"]) == len(formulas.NOTEBOOKS) and result["model"].source == "its config.json"


@pytest.mark.parametrize("profile", ["a100-7b", "a100-13b"])
def test_the_gpu_profiles_fail_quickly_and_clearly_offline(monkeypatch, profile, tmp_path):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    started = time.monotonic()
    result = check.collect(profile, "mtbench.judge.base_url=http://127.0.0.1:9/v1 questions.writer.budget=0.01")
    assert time.monotonic() - started < 15
    failed, text = {c.what for c in result["checks"] if c.state == "fail"}, check.show(result)
    assert {"GPU", "judge", "question writer", "dataset vblagoje/lfqa", "question writer budget"} <= failed
    assert {f"model {getattr(params.load(profile).model, m).path}" for m in ("base", "chat")} <= failed
    assert "4-bit kernels" not in text and text.count(f"→ {access.HUB}") == 1, "a remedy stands once for its neighbours"
    assert len(result["estimates"]) == len(formulas.NOTEBOOKS) and "published sizes" in text and SECRET not in text


def test_a_hub_that_does_not_answer_is_given_up(monkeypatch):
    monkeypatch.setattr(check, "PATIENCE", 0.2)
    monkeypatch.setattr(access, "hub", lambda *_: time.sleep(10))
    monkeypatch.setattr(check, "configuration", lambda _: time.sleep(10))
    result = check.collect("a100-7b")
    (row,) = [c for c in result["checks"] if c.what == "dataset cais/mmlu"]
    assert (row.state, row.found) == ("fail", "no answer in 0 s")
    assert result["model"].source.startswith("published sizes")


def test_a_base_model_of_unknown_size_leaves_the_checks():
    result = check.collect("a100-7b", "model.base.path=someone/mystery")
    assert result["estimates"] == [] and result["checks"][-1].what == "estimates"
    assert "mystery" in check.show(result)


@pytest.mark.parametrize(
    ("changes", "code", "said"),
    [("", 0, ["0 fail", "03_sft", "pass  parameters", "101 f32"]), ("sft.max_step=5", 1, ["did you mean 'max_steps'"]),
     ("mtbench.questions=gone.jsonl", 1, ["gone.jsonl", "07_mtbench"]),
     ("mtbench.prompts=gone.jsonl mtbench.judge.backend=file mtbench.judge.model=people.csv", 1,
      ["mtbench.prompts", "ratings people.csv", ", changed by --set"])],
)  # fmt: skip
def test_the_command(tree, monkeypatch, capsys, changes, code, said):
    monkeypatch.setattr(host, "packages", lambda: "as locked")
    assert main(["preflight", "cpu", "--set", changes]) == code
    text = capsys.readouterr().out
    assert all(word in text for word in said) and text.rstrip().endswith(f"{code and len(said) - 1 or code} fail")


def test_what_the_command_writes_for_programs(tree, monkeypatch, capsys):
    monkeypatch.setattr(host, "packages", lambda: "as locked")
    assert main(["preflight", "cpu", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["model"]["layers"] == 30 and "asked" not in told["estimates"][1]
    assert len(told["estimates"]) == len(formulas.NOTEBOOKS)
    for e in told["estimates"]:  # what the terminal of a run reads
        assert timings.estimated("cpu", e["step"]) == pytest.approx(e["seconds"], abs=1) and e["seconds"] > 0
