"""Every check of this machine, with what is wrong put in."""

import shutil
from collections import namedtuple
from functools import partial
from types import SimpleNamespace

import bitsandbytes
import pytest
import torch
from huggingface_hub import constants

from s2utils.preflight import host
from s2utils.preflight.estimates import Estimate
from s2utils.preflight.finding import Finding, Row, examined


@pytest.mark.parametrize(
    ("lock", "state", "said"),
    [("# pins\ntorch==2.13.0\nPyYAML==0.0.1\nnot-there==1.0\n", "fail", ["not-there", "PyYAML", ", 1 of 3 packages"]),
     ("torch==2.13.0\nPyYAML==0.0.1\n", "warn", ["PyYAML", "not 0.0.1"]), ("torch==2.13.0\n", "pass", ["1 of 1"]),
     ("typing_extensions==0.1\n", "warn", ["typing_extensions"]), (None, "warn", ["no requirements.lock"])],
)  # fmt: skip
def test_packages(tree, lock, state, said):
    if lock is not None:
        (tree / "requirements.lock").write_text(lock)
    check = examined(Row("packages", host.packages))
    assert check.state == state and all(word in check.found for word in said), check
    assert bool(check.remedy) == (state == "fail" or bool(lock and state == "warn"))


def test_no_more_packages_are_named_than_asked_for(tree):
    (tree / "requirements.lock").write_text("".join(f"gone-{i}==1\n" for i in range(9)))
    few, every = (examined(Row("packages", partial(host.packages, most))).found for most in (5, None))
    assert few.count("gone-") == 5 and every.count("gone-") == 9


def see(monkeypatch, **changed) -> None:
    """A GPU, or what `changed` says of it."""
    facts = {"is_available": True, "device_count": 2, "get_device_name": "A100", "is_bf16_supported": True}
    facts["get_device_properties"] = SimpleNamespace(total_memory=40e9)
    for name, value in (facts | changed).items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, value=value: value)


@pytest.mark.parametrize(
    ("facts", "state", "said"),
    [({}, "pass", "2 × A100, 40 GB"), ({"is_available": False}, "fail", "PROFILE=cpu"),
     ({"is_bf16_supported": False}, "fail", "bfloat16")],
)  # fmt: skip
def test_gpu(monkeypatch, facts, state, said):
    see(monkeypatch, **facts)
    check = examined(Row("GPU", host.gpu))
    assert check.state == state and said in check.found + check.remedy


def test_kernels_run_for_real():
    assert "gradients live" in host.kernels("cpu")


@pytest.mark.parametrize(
    ("place", "name", "value", "said"),
    [(bitsandbytes.nn.Linear4bit, "forward", lambda self, x: 0 * x, "wrong result (off by 100%)"),
     (bitsandbytes.nn.Linear4bit, "forward", lambda self, x: 9 * x, "wrong result"),
     (bitsandbytes.nn.Linear4bit, "forward", lambda self, x: x.detach() @ self.weight_.T + 0 * x, "no gradient"),
     (bitsandbytes.nn, "Params4bit", None, "does not run on cpu (TypeError)")],
)  # fmt: skip
def test_kernels_that_fail_are_told(monkeypatch, place, name, value, said):
    weight = torch.sin(torch.arange(64 * 64).float()).reshape(64, 64).bfloat16()
    monkeypatch.setattr(bitsandbytes.nn.Linear4bit, "weight_", weight, raising=False)  # right numbers, and no gradient
    monkeypatch.setattr(place, name, value)
    with pytest.raises(Finding) as failed:
        host.kernels("cpu")
    assert said in str(failed.value) and failed.value.remedy


@pytest.mark.parametrize(("size", "state"), [(80e9, "pass"), (30e9, "warn"), (24e9, "fail")])
def test_memory_that_does_not_suffice(monkeypatch, size, state):
    jobs = [Estimate("a", {}, memory=28e9, host=2e9), Estimate("b", {}, memory=20e9, host=20e9)]
    see(monkeypatch, get_device_properties=SimpleNamespace(total_memory=size))
    monkeypatch.setattr(host.psutil, "virtual_memory", lambda: SimpleNamespace(available=21e9))
    gpu, rest = map(examined, host.memory("cuda", jobs))
    assert gpu.state == state and "a needs 28.0 GB" in gpu.found and bool(gpu.remedy) == (state != "pass")
    assert rest.state == "warn" and "b needs 20.0 GB" in rest.found and rest.remedy == "a machine with more memory"
    (rest,) = map(examined, host.memory("cpu", jobs))
    assert "sft.per_device_train_batch_size" in rest.remedy


@pytest.fixture
def free(monkeypatch, tree):
    """Say how much is free on the only disk."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tree / "hub"))
    monkeypatch.setenv("S2_CACHE", str(tree / "cache"))
    Usage = namedtuple("Usage", "total used free")
    return lambda size: monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, size))


@pytest.mark.parametrize(
    ("there", "downloads", "lacking", "state", "needed"),
    [(5e9, [], 0, "fail", 10), (11e9, [], 0, "warn", 10), (20e9, [], 0, "pass", 10), (26e9, [True], 0, "warn", 24),
     (30e9, [True, True], 0, "fail", 38), (30e9, [True, False], 0, "warn", 25.5), (30e9, [], 5, "pass", 12)],
)  # fmt: skip
def test_a_full_disk(free, there, downloads, lacking, state, needed):
    """Artefacts of 10 GB, decoders of 7 billion weights in the hub's cache, archives."""
    free(there)
    estimates = [Estimate("a", {}, disk=4e9), Estimate("b", {}, disk=6e9)]
    given = [("a/b", decoder) for decoder in downloads]
    (check,) = map(examined, host.space("cpu", estimates, given, 7 * 10**9, lacking))
    assert check.state == state and f"{needed:.1f}" in check.found, check
    assert ("S2_CACHE" in check.remedy) == (state != "pass")


def test_a_decoder_of_known_size_takes_that(free):
    free(100e9)
    given = [("base", True), ("small", True), ("set", False)]
    (check,) = map(examined, host.space("cpu", [], given, 7 * 10**9, 0, {"small": 10**9}))
    assert "17.5 GB needed (artefacts 0.0, hub cache 17.5" in check.found


def test_a_finished_run_needs_nothing_more(free, tree):
    free(1e6)
    folder = tree / "artefacts" / "cpu"
    folder.mkdir(parents=True)
    with open(folder / "merged", "wb") as file:
        file.truncate(10**9)
    assert [row.check() for row in host.space("cpu", [Estimate("a", {}, disk=1e9)], [], 0, 0)]
