"""The checks of notebooks 10 and 11 hold on a processor against itself, and see what is wrong."""

import numpy as np
import pytest
from transformers import LlamaForCausalLM

from s2utils.architecture import heads
from s2utils.evaluation import expert_routing
from s2utils.models import likelihood
from s2utils.models.parameters import Weights
from s2utils.preflight import gpu_check, gpu_fit
from s2utils.preflight.finding import Finding
from s2utils.training import muon


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Weights:
    return Weights(path=str(gpu_check.small(tmp_path_factory.mktemp("weights") / "small")), revision="")


def test_a_processor_has_its_own_losses(base, tmp_path):
    assert ", 0.0e+00 nat apart at most; bf16: their mean " in gpu_fit.documents(base, "cpu", tmp_path)


def test_losses_that_are_off_do_not_hold(base, tmp_path, monkeypatch):
    losses, calls = likelihood.losses, []

    def shifted(*given):
        calls.append(given)
        rows = losses(*given)
        return [
            row + np.float32(2e-3 * (len(calls) == 2)) for row in rows
        ]  # the whole of the device's, not its warm-up

    monkeypatch.setattr(likelihood, "losses", shifted)
    with pytest.raises(Finding, match="2.0e-03 nat apart"):
        gpu_fit.documents(base, "cpu", tmp_path)


def test_a_model_from_nothing_learns(tmp_path):
    assert "held-out loss" in gpu_fit.from_nothing(None, "cpu", tmp_path)


def test_one_that_takes_no_steps_does_not_hold(tmp_path, monkeypatch):
    monkeypatch.setattr(muon.Muon, "step", lambda self, closure=None: None)
    monkeypatch.setattr(muon.AdamW, "step", lambda self, closure=None: None)
    with pytest.raises(Finding, match="held-out loss"):
        gpu_fit.from_nothing(None, "cpu", tmp_path)


def test_shared_heads_are_those_of_the_processor_and_copies_that_are_none_do_not_hold(tmp_path, monkeypatch):
    assert "times as fast as copied ones" in gpu_fit.shared_heads(None, "cpu", tmp_path)
    monkeypatch.setattr(heads, "with_kv_heads", lambda network, n: LlamaForCausalLM(network.config).eval())
    with pytest.raises(Finding, match="apart at most"):
        gpu_fit.shared_heads(None, "cpu", tmp_path)


def test_an_upcycled_mixture_learns_and_one_whose_router_is_other_does_not_hold(tmp_path, monkeypatch):
    assert "routers 0.0e+00 apart at most" in gpu_fit.upcycled(None, "cpu", tmp_path)
    read, calls = expert_routing.router_logits, []

    def shifted(*given):
        calls.append(given)
        return [logits + 0.1 * len(calls) for logits in read(*given)]

    monkeypatch.setattr(expert_routing, "router_logits", shifted)
    with pytest.raises(Finding, match="routers 1.0e-01 apart"):
        gpu_fit.upcycled(None, "cpu", tmp_path)
