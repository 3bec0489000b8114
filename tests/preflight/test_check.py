"""What a run lacks and what it takes: formulas at their limits, recorded runs, every failure injected."""

import dataclasses
import http.server
import json
import re
import shutil
import subprocess
import sys
import time
from collections import namedtuple
from types import SimpleNamespace

import httpx
import huggingface_hub
import pytest
import torch
from conftest import REPOSITORY, serving
from huggingface_hub import constants, errors
from transformers import AutoConfig

from s2utils.__main__ import main
from s2utils.preflight import access, check, estimates, host, machine
from s2utils.preflight.machine import A100, REFERENCE
from s2utils.training import sft
from s2utils.workflow import packaged, params, timings

SECRET = "sk-" + "secret" * 4
RECORDED = {  # seconds of all jobs of a step on 2026-11-30, two at a time; REFERENCE holds that machine's rates
    "cpu": {"01_eda": 16, "02_datasets": 88, "03_sft": 213, "04_generate": 385, "05_text_metrics": 75, "06_leaderboard": 468, "07_mtbench": 333},
    "smoke": {"01_eda": 13, "02_datasets": 62, "03_sft": 63, "04_generate": 173, "05_text_metrics": 30, "06_leaderboard": 105, "07_mtbench": 185},
}  # fmt: skip
PINNED = {  # what those runs had where a profile may move, so that the truth does not
    "cpu": {
        "data": {"train_max": 40, "validation": {"sciq": 12, "wikilead": 12}, "test": {"sciq": 12, "wikilead": 12}},
        "questions": {"writer": {"batch_size": 32, "max_new_tokens": 24}},
        "sft": {"r": 16, "max_steps": 8, "batch_size": 2, "accumulation": 2, "max_length": 192, "evaluations": 2, "eval_rows": 8, "sample_tokens": 12},
        "merge": {"modes": ["bf16", "dequantized"]},
        "generate": {"n": 12, "max_new_tokens": 56, "batch_size": 48},
        "membership": {"n": 12, "shuffles": 1},
        "leaderboard": {
            "limit": {"arc": 4, "hellaswag": 4, "mmlu": 1, "truthfulqa": 20}, "mmlu_subjects": 8,
            "compared": {"limit": {"arc": 2, "hellaswag": 2, "mmlu": 1, "truthfulqa": 5}, "mmlu_subjects": 2},
        },
        "mtbench": {
            "n": 4, "max_new_tokens": 48, "reasons": False, "validation": 1, "pairs": 1,
            "panel": {"questions": 2, "repeats": 2}, "judge": {"max_new_tokens": 64, "batch_size": 24},
        },
    },
    "smoke": {"data": {"train_max": 24, "validation": {"sciq": 8, "wikilead": 8}, "test": {"sciq": 8, "wikilead": 8}}},
}  # fmt: skip


@pytest.fixture(scope="module")
def shapes() -> dict:
    return {n: machine.shape(machine.known(n), n, "published sizes") for n in machine.PUBLISHED}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """No timing: the recorded machine's rates; no key and no token of the person who runs the tests."""
    monkeypatch.setattr(machine, "measure", lambda *_: REFERENCE)
    monkeypatch.setattr(machine, "loop", lambda: REFERENCE.loop)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)


def by_step(p, shape, rates=REFERENCE) -> dict:
    return {e.step: e for e in estimates.estimate(p, shape, rates)}


# --- counts and sizes


@pytest.mark.parametrize(
    ("name", "count"), [("llama-2-7b", 6_738_415_616), ("llama-2-13b", 13_015_864_320), ("smollm2-135m", 134_515_008)]
)
def test_published_parameter_counts(shapes, name, count):
    assert shapes[name].total == count


def test_the_count_of_a_real_model_is_that_of_its_file(shapes):
    from safetensors import safe_open

    folder = packaged.resolve("smollm2-135m-instruct")
    with safe_open(folder / "model.safetensors", "pt") as file:
        tensors = [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118 (it is no dict)
    counted = machine.shape(AutoConfig.from_pretrained(folder), "x", "")
    assert counted.total == sum(torch.Size(t).numel() for t in tensors)
    assert dataclasses.replace(counted, name="", source="") == dataclasses.replace(
        shapes["smollm2-135m"], name="", source=""
    )


def test_lora_is_counted_as_peft_makes_it(tiny_llama):
    import peft

    p, model = params.load("cpu"), tiny_llama()
    shape = machine.shape(model.config, "tiny", "")
    assert shape.total == sum(w.numel() for w in model.parameters())
    trained = sum(w.numel() for w in peft.get_peft_model(model, sft.lora(p.sft)).parameters() if w.requires_grad)
    assert shape.widths * p.sft.r == trained


def test_llama_2_fits_where_it_is_known_to_fit(shapes):
    assert 3.6e9 < machine.training_weights(shapes["llama-2-7b"]) < 3.9e9
    assert shapes["llama-2-7b"].widths * 64 == 159_907_840
    for size in ("7b", "13b"):  # the study: one A100 of 40 GB
        made = by_step(params.load(f"a100-{size}"), shapes[f"llama-2-{size}"], A100)
        assert 10e9 < made["03_sft"].memory < 40e9
    costs = machine.Costs(params.load("a100-7b"), shapes["llama-2-7b"], A100)
    assert costs.kv(1) == 2 * 32 * 4096 * 2 == 2**19


def test_nf4_takes_4_127_bits():
    assert round(8 * machine.NF4, 3) == 4.127


# --- formulas at their limits


def test_nothing_takes_nothing(shapes):
    c = machine.Costs(params.load("cpu"), shapes["smollm2-135m"], REFERENCE)
    assert c.forward(0, 100, logits=True) == c.kv(0) == c.answer(0, 16, 100, 50, True) == 0
    assert machine.activations(c.model, 0, 192, False, True) == machine.activations(c.model, 2, 0, True, False) == 0


@pytest.mark.parametrize("key", ["sft.batch_size", "sft.max_length", "sft.r"])
@pytest.mark.parametrize("profile", ["cpu", "a100-7b"])
def test_training_memory_grows(shapes, profile, key):
    shape = shapes["llama-2-7b" if "7b" in profile else "smollm2-135m"]
    values = [by_step(params.load(profile, f"{key}={n}"), shape)["03_sft"].memory for n in (2, 4, 64, 2048)]
    assert values == sorted(set(values))


@pytest.mark.parametrize(
    ("step", "key"),
    [("03_sft", "sft.max_steps"), ("03_sft", "sft.r"), ("03_sft", "sft.batch_size"), ("04_generate", "generate.n"),
     ("04_generate", "generate.max_new_tokens"), ("07_mtbench", "mtbench.max_new_tokens"), ("06_leaderboard", "leaderboard.mmlu_subjects"),
     ("02_datasets", "data.train_max"), ("05_text_metrics", "text_metrics.resamples"), ("01_eda", "eda.sample")],
)  # fmt: skip
def test_time_grows(shapes, step, key):
    values = [by_step(params.load("cpu", f"{key}={n}"), shapes["smollm2-135m"])[step].seconds for n in (2, 8, 50)]
    assert values == sorted(set(values))


def test_checkpointing_trades_memory_for_time(shapes):
    without, with_ = (
        by_step(params.load("a100-7b", f"sft.gradient_checkpointing={on}"), shapes["llama-2-7b"], A100)["03_sft"] for on in ("false", "true")
    )  # fmt: skip
    assert with_.memory < without.memory and with_.seconds > without.seconds


def test_what_else_the_judge_is_asked_takes_time_and_money(shapes):
    few = {"validation": 0, "pairs": 0, "panel": {"questions": 0}}
    for profile, name, rates in (("cpu", "smollm2-135m", REFERENCE), ("a100-7b", "llama-2-7b", A100)):
        none = by_step(params.load(profile, {"mtbench": few}), shapes[name], rates)["07_mtbench"]
        for more in ({"validation": 3}, {"pairs": 3}, {"panel": {"questions": 3}}):
            e = by_step(params.load(profile, {"mtbench": few | more}), shapes[name], rates)["07_mtbench"]
            assert e.seconds > none.seconds and (e.dollars > none.dollars) == (profile != "cpu"), more


def test_a_faster_machine_takes_less(shapes):
    fast = dataclasses.replace(REFERENCE, bf16=1e15, f32=1e15, fresh=1e12, copy=1e12, topk=1e12, call=1e-9, loop=1e-10)
    slow, quick = (by_step(params.load("cpu"), shapes["smollm2-135m"], m) for m in (REFERENCE, fast))
    assert all(quick[s].seconds < slow[s].seconds / 10 for s in slow)


@pytest.mark.parametrize("profile", list(RECORDED))
def test_estimates_lie_within_30_percent_of_recorded_runs(shapes, profile):
    made = by_step(params.load(profile, PINNED[profile]), shapes["smollm2-135m"])
    ratios = {step: round(made[step].seconds / seconds, 2) for step, seconds in RECORDED[profile].items()}
    assert all(0.7 <= r <= 1.3 for r in ratios.values()), ratios


def test_memory_and_disk_lie_within_30_percent_of_the_recorded_run(shapes):
    made = by_step(params.load("cpu", PINNED["cpu"]), shapes["smollm2-135m"])
    assert made["03_sft"].memory == pytest.approx(2.1e9, rel=0.3)
    assert made["06_leaderboard"].memory == pytest.approx(1.62e9, rel=0.3)
    assert sum(e.disk for e in made.values()) == pytest.approx(1.6e9, rel=0.3)


def test_a_source_nobody_counted_is_guessed_and_says_so(shapes):
    made = by_step(params.load("cpu", "data.sources.sciq.path=someone/answers"), shapes["smollm2-135m"])
    assert "of sciq only guessed" in made["02_datasets"].parts[0][2] and made["03_sft"].seconds > 0


def test_the_dtype_that_is_faster_here_is_named_with_what_to_set():
    lesser, wide = REFERENCE, dataclasses.replace(REFERENCE, bf16=303e9)
    assert check.faster(lesser, "float32") == (
        "float32, which the profile computes in, is 5.0 times as fast here as bfloat16 (bfloat16 20, float32 101 GFLOP/s)"
    )
    told = check.faster(wide, "float32")
    assert told.startswith("bfloat16 is 3.0 times as fast here as float32") and "SET='model.dtype=bfloat16'" in told
    assert "SET='model.dtype=float32'" in check.faster(lesser, "bfloat16")


def test_bfloat16_without_its_units_takes_several_times_as_long(shapes):
    seconds = {
        d: sum(e.seconds for e in by_step(params.load("cpu", f"model.dtype={d}"), shapes["smollm2-135m"]).values())
        for d in ("float32", "bfloat16")
    }
    assert seconds["bfloat16"] > 3 * seconds["float32"]
    wide = dataclasses.replace(REFERENCE, bf16=303e9)
    assert (
        sum(
            e.seconds
            for e in by_step(params.load("cpu", "model.dtype=bfloat16"), shapes["smollm2-135m"], wide).values()
        )
        < seconds["float32"]
    )


def test_the_plan_holds_every_rule_of_the_graph_and_adds_up(shapes, tree):
    """Rules as Snakemake counts them; two jobs that nobody waits for beside them, preflight and the link to all."""
    made = estimates.estimate(params.load("smoke"), shapes["smollm2-135m"], REFERENCE)
    plan = check.plan("smoke", {"estimates": made, "machine": REFERENCE, "dtype": "float32"})
    call = [sys.executable, "-m", "snakemake", "-n", "--cores", "2", "--config", "profile=smoke", "set="]
    shutil.copy(REPOSITORY / "Snakefile", tree)
    done = subprocess.run(call, cwd=tree, capture_output=True, text=True, timeout=100)
    counts = {rule: int(n) for rule, n in re.findall(r"^(\w+) +(\d+)$", done.stdout, re.M)}
    assert {rule: jobs for rule, (_, jobs, _) in plan["rules"].items()} == {
        rule: n for rule, n in counts.items() if rule not in ("all", "preflight", "total")
    }, done.stderr[-2000:]
    assert sum(n * s for of, n, s in plan["rules"].values() if of) == pytest.approx(sum(e.seconds for e in made), abs=2)
    assert plan["promised"] == check.PROMISED["smoke"] and plan["said"][0].startswith("float32, which")
    assert plan["smaller"][0].startswith("04_generate") or plan["smaller"][0].startswith("07_mtbench")
    assert check.plan("a100-7b", {"estimates": made, "machine": REFERENCE, "dtype": "float32"})["promised"] is None


def test_what_the_readme_promises_is_what_a_run_is_held_against():
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert f"{check.PROMISED['cpu']} minutes" in text and f"{check.PROMISED['smoke']} minutes" in text


def test_measured_rates_are_rates(monkeypatch):
    monkeypatch.undo()
    threads = torch.get_num_threads()
    found = machine.measure("cpu", 1, 64, 128)
    assert torch.get_num_threads() == threads
    assert all(v > 0 for v in dataclasses.asdict(found).values() if isinstance(v, float))


# --- checks


def states(checks) -> list[str]:
    return [c.state for c in checks]


def test_packages(tree):
    (tree / "requirements.lock").write_text("# pins\ntorch==2.13.0\nPyYAML==0.0.1\nnot-there==1.0\n")
    (found,) = host.packages()
    assert found.state == "fail" and "not-there" in found.found and "PyYAML" in found.found and "1 of 3" in found.found
    (tree / "requirements.lock").write_text("torch==2.13.0\nPyYAML==0.0.1\n")
    assert states(host.packages()) == ["warn"]
    (tree / "requirements.lock").write_text("torch==2.13.0\n")
    assert states(host.packages()) == ["pass"]
    (tree / "requirements.lock").unlink()
    assert states(host.packages()) == ["warn"]


def test_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert host.gpu().state == "fail" and "PROFILE=cpu" in host.gpu().remedy
    facts = {
        "is_available": lambda: True,
        "device_count": lambda: 2,
        "get_device_name": lambda i: "A100",
        "is_bf16_supported": lambda: True,
    }
    for name, value in facts.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda i: SimpleNamespace(total_memory=40e9))
    assert host.gpu().state == "pass" and "2 × A100, 40 GB" in host.gpu().found
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    assert host.gpu().state == "fail" and "bfloat16" in host.gpu().remedy


def test_kernels_run_for_real():
    assert host.kernels("cpu").state == "pass"


def test_kernels_that_fail_are_told(monkeypatch):
    import bitsandbytes

    monkeypatch.setattr(bitsandbytes.nn.Linear4bit, "forward", lambda self, x: 0 * x)
    assert host.kernels("cpu").state == "fail"
    monkeypatch.setattr(bitsandbytes.nn, "Params4bit", None)
    assert "does not run" in host.kernels("cpu").found


def test_memory_that_does_not_suffice(monkeypatch, shapes):
    p = params.load("a100-7b")
    made = estimates.estimate(p, shapes["llama-2-7b"], A100)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for size, state in ((80e9, "pass"), (30e9, "warn"), (24e9, "fail")):
        monkeypatch.setattr(
            torch.cuda, "get_device_properties", lambda i, size=size: SimpleNamespace(total_memory=size)
        )
        assert host.memory(p, made)[0].state == state
    monkeypatch.setattr(host.psutil, "virtual_memory", lambda: SimpleNamespace(available=1e9))
    assert host.memory(p, made)[1].state == "fail"


def test_a_full_disk(monkeypatch, tree, shapes):
    shape = shapes["smollm2-135m"]
    made = estimates.estimate(params.load("cpu"), shape, REFERENCE)
    need = sum(e.disk for e in made)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tree / "hub"))
    Usage = namedtuple("Usage", "total used free")
    for free, state in ((0.5 * need, "fail"), (1.1 * need, "warn"), (2 * need, "pass")):
        monkeypatch.setattr(shutil, "disk_usage", lambda p, free=free: Usage(0, 0, free))
        checks = host.space("cpu", made, [], shape.total, 0)
        assert max(states(checks), key=["pass", "warn", "fail"].index) == state
        assert state == "pass" or any("S2_CACHE" in c.remedy for c in checks)
    monkeypatch.setattr(shutil, "disk_usage", lambda p: Usage(0, 0, 30e9))  # two decoders of 7B in the hub's cache
    large, enough = [("a/b", True)] * 2, [("a/b", True)]
    assert "fail" in states(host.space("cpu", made, [*large, ("a/c", False)], 7 * 10**9, 0))
    assert "fail" not in states(host.space("cpu", made, enough, 7 * 10**9, 0))
    folder = tree / "artefacts" / "cpu"
    folder.mkdir(parents=True)
    with open(folder / "merged", "wb") as file:  # a finished run needs nothing more
        file.truncate(int(need) + 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda p: Usage(0, 0, 1e6))
    assert set(states(host.space("cpu", made, [], shape.total, 0))) == {"pass"}


def info(*files, gated=False):
    return SimpleNamespace(gated=gated, siblings=[SimpleNamespace(rfilename=f) for f in files])


@pytest.fixture
def repository(monkeypatch):
    """Set what the hub says of any repository: an answer or an exception; `access` is what the token may."""

    def answer(found, allowed=None):
        def say(value):
            def method(*_, **__):
                if isinstance(value, Exception):
                    raise value
                return value

            return method

        for name in ("model_info", "dataset_info"):
            monkeypatch.setattr(huggingface_hub.HfApi, name, say(found))
        monkeypatch.setattr(huggingface_hub.HfApi, "auth_check", say(allowed))

    return answer


def refused(kind):
    return kind("no", response=httpx.Response(403, request=httpx.Request("GET", f"https://x/{SECRET}")))


def test_hub_models(monkeypatch, repository):
    repository(info("model.safetensors"))
    assert access.hub("model", "a/b").state == "pass"
    repository(info("pytorch_model.bin"))
    assert access.hub("model", "a/b").state == "fail" and access.hub("model", "a/b", must=False).state == "warn"
    repository(info("data.parquet"))
    assert access.hub("dataset", "a/b").state == "pass"
    repository(info("model.safetensors", gated="manual"), refused(errors.GatedRepoError))
    found = access.hub("model", "meta-llama/Llama-2-7b-hf")
    assert found.state == "fail" and "no token" in found.found
    assert "HF_TOKEN" in found.remedy and "https://huggingface.co/meta-llama/Llama-2-7b-hf" in found.remedy
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: SECRET)
    found = access.hub("model", "a/b")
    assert found.state == "fail" and "no access" in found.found and SECRET not in str(found)
    repository(info("model.safetensors", gated="manual"))
    assert access.hub("model", "a/b").found == "gated, access granted"
    repository(refused(errors.HfHubHTTPError))
    found = access.hub("model", "a/b")
    assert "status 403" in found.found and "HF_TOKEN" in found.remedy and SECRET not in str(found)


@pytest.mark.parametrize(
    ("error", "word"),
    [(refused(errors.RevisionNotFoundError), "revision"), (refused(errors.RepositoryNotFoundError), "does not exist"),
     (httpx.ConnectError(SECRET), "not reached"), (errors.OfflineModeIsEnabled(SECRET), "not reached"), (errors.HFValidationError(SECRET), "neither")],
)  # fmt: skip
def test_hub_errors_are_named_and_their_text_is_not_shown(repository, monkeypatch, tmp_path, error, word):
    repository(error)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    found = access.hub("model", "a/b", "main")
    assert found.state == "fail" and word in found.found and found.remedy and SECRET not in str(found)
    if word == "not reached":  # what the cache holds will do
        (tmp_path / "models--a--b" / "snapshots" / "1").mkdir(parents=True)
        (tmp_path / "models--a--b" / "snapshots" / "1" / "model.safetensors").touch()
        assert access.hub("model", "a/b").state == "warn"


@pytest.fixture
def endpoint():
    """The judge of the a100 profiles at a local server that gives `reply` (status, body)."""
    reply, asked = {"status": 200, "body": b'{"data": [{"id": "gpt-4"}]}'}, []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, self.headers["Authorization"]))
            self.send_response(reply["status"])
            self.end_headers()
            self.wfile.write(reply["body"])

        def log_message(self, *_):
            pass

    with serving(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as running:
        url = f"http://user:{SECRET}@127.0.0.1:{running.server_port}/v1"
        yield dataclasses.replace(params.load("a100-7b").mtbench.judge, base_url=url), reply, asked


def test_servers(endpoint, monkeypatch):
    judge, reply, asked = endpoint
    assert access.server("judge", judge).state == "pass" and asked[-1][0] == "/v1/models"
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    for status, body, state, word in (
        (401, b"no", "fail", "OPENAI_API_KEY"), (404, b"<html>", "warn", "list"), (200, b"\xff", "warn", "list"),
        (200, b"[]", "warn", "list"), (200, b'{"data": [{"id": "gpt-4o"}]}', "fail", "gpt-4o"),
    ):  # fmt: skip
        reply |= {"status": status, "body": body}
        found = access.server("judge", judge)
        assert (found.state, SECRET in str(found)) == (state, False) and word in f"{found.found} {found.remedy}"
    access.server("judge", dataclasses.replace(judge, base_url=judge.base_url.replace(f"user:{SECRET}@", "")))
    assert asked[-1][1] == f"Bearer {SECRET}"
    monkeypatch.setenv("OPENAI_API_KEY", SECRET + "\n")
    assert access.server("judge", judge).state == "fail" and SECRET not in str(access.server("judge", judge))


def test_a_server_that_is_down_and_a_missing_key():
    judge = params.load("a100-7b").mtbench.judge
    found = access.server("judge", judge)
    assert found.state == "fail" and "OPENAI_API_KEY" in found.remedy
    started = time.monotonic()
    found = access.server("judge", dataclasses.replace(judge, base_url="http://127.0.0.1:9/v1"))
    assert found.state == "fail" and "ConnectError" in found.found and time.monotonic() - started < 5


def test_the_toxicity_model_is_looked_up_under_its_revision(tree, monkeypatch):
    """`id@revision` is one text in the parameters and two on the hub."""
    asked = []
    monkeypatch.setattr(access, "hub", lambda kind, path, revision="", decoder=False: asked.append((path, revision)))
    p = params.load("a100-7b", "s2.toxicity_model=someone/toxic@abc123")
    for what, ask in access.remote(p)[0]:
        if what.startswith("model"):
            ask()
    assert ("someone/toxic", "abc123") in asked and not [path for path, _ in asked if "@" in path]


def test_local_sources(tree):
    p = params.load("cpu")
    (tree / "here.jsonl").write_text("{}\n")
    (tree / "empty.csv").touch()
    for path, state in (("here.jsonl", "pass"), ("gone.jsonl.zst", "fail"), ("empty.csv", "fail"), ("/gone", "fail")):
        source = dataclasses.replace(p.data.sources["sciq"], path=path)
        changed = dataclasses.replace(p, data=dataclasses.replace(p.data, sources={"sciq": source}))
        asks, found, _ = access.remote(changed)
        assert not asks and states(found) == [state]


def test_archives(tree, monkeypatch, tmp_path):
    values = params.flat(params.load("cpu"))
    checks, lacking = access.archives(values)
    assert (states(checks), lacking) == (["pass"], 0)
    assert states(access.archives(values | {"model.base.path": "embedded:smollm"})[0]) == ["fail", "pass"]
    monkeypatch.setenv("S2_CACHE", str(tmp_path / "empty"))
    (found,), lacking = access.archives(values)
    assert lacking == 5 and found.state == "warn" and "make setup" in found.remedy and "5 of 5" in found.found


def test_the_harness_loads_the_data_sets_that_are_checked():
    from pathlib import Path

    import lm_eval

    folder = Path(lm_eval.__file__).parent / "tasks"
    files = [
        "arc/arc_easy.yaml",
        "hellaswag/hellaswag.yaml",
        "mmlu/default/_default_template_yaml",
        "truthfulqa/truthfulqa_mc1.yaml",
    ]
    named = [
        line.split()[1]
        for f in files
        for line in (folder / f).read_text().splitlines()
        if line.startswith("dataset_path:")
    ]
    assert tuple(named) == access.BOARD


def test_a_budget_that_is_too_small(shapes):
    p = params.load("a100-7b", "questions.writer.budget=1.0 mtbench.judge.budget=0.0")
    found = states(check.budgets(estimates.estimate(p, shapes["llama-2-7b"], A100)))
    assert found == ["fail", *["pass"] * 4]  # the judge: ratings, validation set, pairs, panel


def test_the_configuration_alone_is_fetched(monkeypatch, tree, tmp_path, tiny_llama):
    text, asked = tiny_llama().config.to_json_string(), []

    def get(url, **_):
        asked.append(url)
        return httpx.Response(200, text=text, request=httpx.Request("GET", url))

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub, "get_session", lambda: SimpleNamespace(get=get))
    config, source = check.configuration(params.Weights("someone/tiny-for-this-test", "main"))
    assert (config.hidden_size, source) == (64, "its config.json")
    assert [url.endswith("someone/tiny-for-this-test/resolve/main/config.json") for url in asked] == [True]
    (tree / "mine").mkdir()
    (tree / "mine" / "config.json").write_text(text)
    assert check.configuration(params.Weights("mine", ""))[0].hidden_size == 64 and len(asked) == 1
    text = "[]"
    assert check.configuration(params.Weights("someone/tiny-for-this-test", ""))[0] is None


def test_jobs_that_hang_are_given_up():
    started = time.monotonic()
    assert check.together([lambda: 1, lambda: time.sleep(30), lambda: 3], 0.2) == [1, None, 3]
    assert time.monotonic() - started < 5


# --- the whole


@pytest.mark.parametrize("profile", ["cpu", "smoke"])
def test_the_embedded_profiles_pass(profile):
    result = check.collect(profile)
    assert not [c for c in result["checks"] if c.state == "fail" and c.what != "packages"]
    assert len(result["estimates"]) == 7 and result["model"].source == "its config.json"


@pytest.mark.parametrize("profile", ["a100-7b", "a100-13b"])
def test_the_gpu_profiles_fail_quickly_and_clearly_offline(monkeypatch, profile, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: SECRET)
    started = time.monotonic()
    result = check.collect(profile, "mtbench.judge.base_url=http://127.0.0.1:9/v1")
    assert time.monotonic() - started < 15
    failed = {c.what for c in result["checks"] if c.state == "fail"}
    assert {"GPU", "judge", "question writer", "dataset vblagoje/lfqa"} <= failed
    assert {f"model {getattr(params.load(profile).model, m).path}" for m in ("base", "chat")} <= failed
    assert (
        len(result["estimates"]) == 7 and "published sizes" in check.show(result) and SECRET not in check.show(result)
    )


def test_a_base_model_of_unknown_size_leaves_the_checks(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    result = check.collect("a100-7b", "model.base.path=someone/mystery")
    assert result["estimates"] == [] and result["checks"][-1].what == "estimates"
    assert "mystery" in check.show(result)


def test_the_command(tree, shapes, monkeypatch, capsys):
    def run(*arguments) -> tuple[int, str]:
        return main(["preflight", *arguments]), capsys.readouterr().out

    monkeypatch.setattr(host, "packages", list)
    code, text = run("cpu")
    assert code == 0 and text.rstrip().endswith("0 fail") and "03_sft" in text
    assert all(
        timings.estimated("cpu", e.step)
        for e in estimates.estimate(params.load("cpu"), shapes["smollm2-135m"], REFERENCE)
    )
    code, text = run("cpu", "--json")
    held = json.loads(text)
    assert code == 0 and held["estimates"][2]["seconds"] > 0 and held["model"]["layers"] == 30
    code, text = run("cpu", "--set", "sft.max_step=5")
    assert code == 1 and "did you mean 'max_steps'" in text
    code, text = run("cpu", "--set", "mtbench.questions=gone.jsonl")
    assert code == 1 and "gone.jsonl" in text and "07_mtbench" in text
    code, text = run(
        "cpu", "--set", "mtbench.prompts=gone.jsonl mtbench.judge.backend=file mtbench.judge.model=people.csv"
    )
    assert code == 1 and "mtbench.prompts" in text and "ratings people.csv" in text


def test_a_sweep_multiplies_what_its_points_make_anew(shapes, tree):
    """Three seeds of training: sources once, trainings three times, base and chat (two of six models) once."""
    p, changes = params.load("smoke"), "sweep.sft.seed=[42,43,44]"
    once = by_step(p, shapes["smollm2-135m"])
    made = estimates.estimate(p, shapes["smollm2-135m"], REFERENCE)
    found = {e.step: e for e in check.swept(made, "smoke", params.load("smoke", changes), changes)}
    assert p.sft.seed == 42 and len(p.sft.train_sets) == len(p.merge.modes) == 2
    times = {"01_eda": 1, "02_datasets": 1, "03_sft": 3, "04_generate": (2 + 3 * 4) / 6, "05_text_metrics": 3}
    for step, factor in times.items():
        assert found[step].seconds == pytest.approx(factor * once[step].seconds), step
        assert found[step].disk == pytest.approx(factor * once[step].disk) and found[step].memory == once[step].memory
