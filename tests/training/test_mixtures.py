"""Mixtures and their dense counterparts: one function when upcycled, equal budgets, resumed to the same bytes."""

import functools

import pytest
import torch
from tiny_ladder import EVEN, TEXTS, tokenizer
from tiny_ladder import ladder as tiny

from s2utils.architecture import shapes
from s2utils.training import ladder, mixtures, pretraining
from s2utils.training.parameters import Mixtures

GIVEN = pretraining.Material(TEXTS, {k: v[:4] for k, v in TEXTS.items()}, EVEN, tokenizer())


def settings(**changes) -> Mixtures:
    """Parameters of a mixture that trains in a second."""
    given = {
        "parameters": 20_000, "num_local_experts": 4, "num_experts_per_tok": 2, "router_aux_loss_coef": 0.01,
        "experts_implementation": "eager", "bytes": 6_000, "upcycle_at": 640, "checkpoints": [1280], "seeds": [1],
    }  # fmt: skip
    return Mixtures(**given | changes)


def built(variant: str, given: Mixtures | None = None):
    """A model with new weights."""
    torch.manual_seed(3)
    run = ladder.Run("", 20_000, {}, 0, (), 0, variant)
    return mixtures.build(given or settings(), run, 512, 16).eval()


@pytest.mark.parametrize("implementation", ["eager", "grouped_mm"])
@pytest.mark.parametrize("k", [1, 2, 4])
def test_an_upcycled_mixture_is_the_same_function(implementation, k):
    given = settings(experts_implementation=implementation, num_experts_per_tok=k)
    dense = built(mixtures.DENSE)
    mixture = mixtures.upcycle(dense, built(mixtures.UPCYCLED, given))
    ids = torch.randint(512, (2, 16))
    with torch.no_grad():
        assert torch.allclose(dense(input_ids=ids).logits, mixture(input_ids=ids).logits, atol=1e-5)
        mixture.model.layers[0].mlp.experts.down_proj[0] *= -1  # one expert alone, which some token meets
        assert not torch.allclose(dense(input_ids=ids).logits, mixture(input_ids=ids).logits, atol=1e-5)


def test_a_dense_model_of_another_width_is_not_taken():
    with pytest.raises(ValueError, match="do not fit"):
        mixtures.upcycle(built(mixtures.WIDE), built(mixtures.UPCYCLED))


def test_parameters_are_those_of_the_shapes_and_the_wide_model_has_a_mixture_s_active_ones():
    for variant in (mixtures.DENSE, mixtures.WIDE, mixtures.SCRATCH):
        model = built(variant)
        embedding = model.get_input_embeddings().weight.numel()
        assert ladder.outside_embedding(model) + embedding == shapes.total_parameters(model.config)
        assert ladder.active_parameters(model) + embedding == shapes.active_parameters(model.config)
    wide, mixture = built(mixtures.WIDE), built(mixtures.SCRATCH)
    routers = sum(layer.mlp.gate.weight.numel() for layer in mixture.model.layers)
    assert ladder.active_parameters(mixture) == ladder.active_parameters(wide) + routers


@functools.cache
def rows(folder):
    """Everything trained once."""
    return mixtures.train(GIVEN, settings(), tiny(), folder)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixtures")
    return folder, rows(folder)


def test_budgets_are_equal(trained):
    _, made = trained
    ends = made.groupby("run").tail(1).set_index("run")
    steps = [f"{run}-1" for run in mixtures.BUDGETS[mixtures.STEPS].values()]
    assert ends.loc[steps, "tokens"].nunique() == 1
    for mixture, budget in mixtures.FLOP.items():
        flop = ends.loc[[f"{run}-1" for run in mixtures.BUDGETS[budget].values()], "flop_all"]
        assert flop.max() / flop.min() < 1.05, mixture
    assert {f"{run}-1" for runs in mixtures.BUDGETS.values() for run in runs.values()} == set(ends.index)


def test_an_upcycled_model_goes_on_where_the_dense_one_stood_and_its_flop_are_of_both_parts(trained):
    _, made = trained
    upcycled, scratch = (made[made["run"] == f"{name}-1"] for name in ("upcycled", "scratch"))
    start = made[made["run"] == "dense-1"].iloc[0]
    assert start["tokens"] == 640 and (upcycled["tokens"] > 640).all()
    cost = {v: mixtures.flop(settings(), tiny(), v) for v in (mixtures.DENSE, mixtures.SCRATCH)}
    end = upcycled.iloc[-1]
    for kind in ("flop", "flop_all"):
        apart = cost[mixtures.DENSE][kind] * 640 + cost[mixtures.SCRATCH][kind] * (end["tokens"] - 640)
        assert end[kind] == apart < scratch.iloc[-1][kind]
    assert upcycled["loss"].iloc[0] < start["loss"], "it has what the dense model had learnt"


def test_a_killed_run_goes_on_to_the_same_rows(trained, tmp_path, monkeypatch):
    save, calls = ladder.keep, []

    def dying(*given):
        save(*given)
        calls.append(given)
        if len(calls) == 6:
            raise KeyboardInterrupt

    monkeypatch.setattr(ladder, "keep", dying)
    with pytest.raises(KeyboardInterrupt):
        mixtures.train(GIVEN, settings(), tiny(), tmp_path)
    monkeypatch.setattr(ladder, "keep", save)
    assert mixtures.train(GIVEN, settings(), tiny(), tmp_path).equals(trained[1])


def test_a_balance_loss_is_trained_on_by_layer_and_not_in_the_held_out_loss():
    blocks = pretraining.ladder.packing.pack(TEXTS, EVEN, 2_000, tokenizer(), 16, 1)
    found = {}
    for share in (0.0, 5.0):
        model = built(mixtures.SCRATCH, settings(router_aux_loss_coef=share))
        loss = ladder._backward(model, blocks.ids[:8], 4)
        gates = torch.stack([layer.mlp.gate.weight.grad.norm() for layer in model.model.layers])
        found[share] = loss, ladder.held_out_loss(model, blocks, 4)[0], gates
    assert found[0.0][1] == found[5.0][1]
    assert 5 * 2 * 0.95 < found[5.0][0] - found[0.0][0] < 5 * 4, "k where experts work alike, E at most"
    assert (found[5.0][2] > 2 * found[0.0][2]).all(), "in every layer"


def test_a_token_cannot_meet_more_experts_than_there_are():
    with pytest.raises(ValueError, match="num_experts_per_tok"):
        settings(num_local_experts=2, num_experts_per_tok=3)


def test_a_dense_model_begun_anew_is_what_an_upcycled_one_began_as(trained):
    """Both stood where the dense model did, and only one of them had its momenta go on."""
    _, made = trained
    dense, again = (made[made["run"] == f"{name}-1"].iloc[-1] for name in ("dense", "restarted"))
    assert again["tokens"] == dense["tokens"] and again["flop_all"] == dense["flop_all"]
    assert again["parameters"] == dense["parameters"] and again["loss"] != dense["loss"]
