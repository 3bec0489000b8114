import pytest
import torch

from s2utils.training import distributed


def test_a_process_that_was_started_alone_is_the_first_of_one(monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    distributed.join("cpu")
    assert not torch.distributed.is_initialized()
    assert (distributed.count(), distributed.first(), distributed.everyone({"a": 1})) == (1, True, [{"a": 1}])
    distributed.leave()


@pytest.mark.parametrize(
    ("kind", "rank", "wanted"),
    [("cpu", None, "cpu"), ("cpu", "1", "cpu"), ("cuda", None, "cuda:0"), ("cuda", "3", "cuda:3")],
)
def test_the_device_of_a_process(monkeypatch, kind, rank, wanted):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    if rank:
        monkeypatch.setenv("LOCAL_RANK", rank)
    assert distributed.own_device(kind) == wanted


@pytest.mark.parametrize(
    ("visible", "place", "wanted"),
    [("", 0, ["0"]), ("", 2, ["2"]), ("4,5,6", 1, ["5"]), ("GPU-ab12,GPU-cd34", 1, ["GPU-cd34"])],
)
def test_the_gpu_whose_energy_counts_is_the_drivers(monkeypatch, visible, place, wanted):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: place)
    assert distributed.own_gpu() == wanted


def test_without_a_gpu_there_is_none_to_count(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert distributed.own_gpu() is None


@pytest.mark.parametrize(
    ("value", "wanted"), [(None, False), ("", False), ("false", False), ("true", True), ("True", True)]
)
def test_accelerates_launcher_says_whether_the_model_is_sharded(monkeypatch, value, wanted):
    monkeypatch.delenv("ACCELERATE_USE_FSDP", raising=False)
    if value is not None:
        monkeypatch.setenv("ACCELERATE_USE_FSDP", value)
    assert distributed.sharded() is wanted
