"""Losses of arms by length, and what may be said of a difference."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from s2utils.architecture.decoder import Config, Decoder
from s2utils.evaluation import architecture_losses
from s2utils.training.architecture_arms import BASELINE, CHANGES, CHOICES
from s2utils.training.packing import Blocks
from s2utils.workflow.params import load

SIZES = {
    "vocab_size": 61, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 8,
}  # fmt: skip


def blocks(n: int = 3, length: int = 32) -> Blocks:
    ids = np.random.default_rng(1).integers(0, 61, (n, length + 1)).astype(np.uint16)
    return Blocks(ids, np.full(n, length), pd.DataFrame())


def test_a_model_that_knows_nothing_loses_log_v_at_every_length():
    model = Decoder(Config(**SIZES))
    torch.nn.init.zeros_(model.embed_tokens.weight)
    for length in (8, 16, 32):
        nats = architecture_losses.losses(model, blocks(), length)
        assert nats == pytest.approx([32 * math.log(61)] * 3, rel=1e-5)


def test_every_length_scores_the_same_tokens_and_looks_back_no_further():
    torch.manual_seed(1)
    model, given = Decoder(Config(**SIZES)), blocks()
    pieces = given.ids[:, :-1].reshape(-1, 8)
    with torch.no_grad():
        logits = model(torch.from_numpy(pieces.astype(np.int64))).logits.log_softmax(-1)
    targets = torch.from_numpy(given.ids[:, 1:].reshape(-1, 8).astype(np.int64))
    nats = -logits.gather(-1, targets[..., None]).view(3, 32).sum(1)
    assert architecture_losses.losses(model, given, 8) == pytest.approx(nats.tolist(), rel=1e-5)
    with pytest.raises(ValueError, match="pieces of 12 tokens do not fill a block of 32"):
        architecture_losses.losses(model, given, 12)


def test_passes_are_timed_and_leave_no_gradients():
    model = Decoder(Config(**SIZES))
    times = architecture_losses.forward_times(model, 16, 64)
    assert len(times) == architecture_losses.PASSES and min(times) > 0
    assert all(weight.grad is None for weight in model.parameters())


def wide(values: list[list[float]]) -> pd.DataFrame:
    return pd.DataFrame(values, index=["base", "b", "c"][: len(values)])


def test_two_arms_are_the_paired_t_test():
    values = np.random.default_rng(1).normal(size=(2, 6)) + [[0], [1]]
    found = architecture_losses.against(wide(values.tolist()), "base", 0.95).loc["b"]
    theirs = stats.ttest_rel(values[1], values[0])
    low, high = theirs.confidence_interval(0.95)
    assert found["p"] == pytest.approx(theirs.pvalue) and found["n"] == 6
    assert (found["difference_ci_low"], found["difference_ci_high"]) == pytest.approx((low, high))


def test_what_a_seed_does_to_all_arms_is_no_difference_between_them():
    values = np.random.default_rng(1).normal(size=(3, 3))
    shifted = values + [10, -20, 5]
    one, other = (architecture_losses.against(wide(v.tolist()), "base", 0.95) for v in (values, shifted))
    assert np.allclose(one["difference"] - other["difference"], one["difference"].iat[0] - other["difference"].iat[0])
    assert np.allclose(one["difference_ci_high"] - one["difference"], other["difference_ci_high"] - other["difference"])


def test_one_seed_tells_nothing():
    found = architecture_losses.against(wide([[1.0], [2.0], [3.0]]), "base", 0.95)
    assert found["difference"].tolist() == [1, 2] and found[["difference_ci_low", "p"]].isna().all(axis=None)


@given(st.lists(st.lists(st.floats(1, 9), min_size=2, max_size=2), min_size=3, max_size=3))
def test_an_interval_holds_its_difference(values):
    found = architecture_losses.against(wide(values), "base", 0.95)
    assert (found["difference_ci_low"] <= found["difference"]).all()
    assert (found["difference"] <= found["difference_ci_high"]).all() and found["p"].between(0, 1).all()


def frame(losses: dict[str, list[float]], length: int) -> pd.DataFrame:
    rows = [
        {"arm": arm, "seed": seed, "parameters": 10, "length": length, "n": 4, "loss": loss, "loss_ci_low": loss,
         "loss_ci_high": loss}
        for arm in CHANGES for seed, loss in enumerate(losses.get(arm, losses[BASELINE]), start=1)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_a_verdict_is_given_where_the_difference_is_larger_than_the_spread():
    p = load("smoke")
    losses = {BASELINE: [3.0, 3.01], "gelu": [3.5, 3.512], "mqa": [2.0, 2.008], "gqa": [3.005, 3.001]}
    found = frame(losses, p.ladder.context)
    told = architecture_losses.verdicts(found, p).set_index("variant")
    assert told.loc[["GeLU", "MQA", "GQA", "LayerNorm"], "verdict"].tolist() == ["worse", "better"] + ["can't tell"] * 2
    assert told.at["GeLU", "difference"] == pytest.approx(0.501)
    assert len(told) == sum(len(variants) - 1 for variants in CHOICES.values())
    table = architecture_losses.by_choice(found, p.ladder.context)
    assert (
        len(table) == 2 * sum(map(len, CHOICES.values())) and not table.duplicated(["choice", "variant", "seed"]).any()
    )
