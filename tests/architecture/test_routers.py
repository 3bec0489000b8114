"""Routers: what each does to gates at its limits, and that all learn the task."""

import math

import pandas as pd
import pytest
import torch

from s2utils.architecture import routers
from s2utils.architecture.routers import BATCH, CLUSTERS, HIDDEN, N_EXPERTS


def block(router, favourite: int | None = None) -> routers.Block:
    """A block whose router is even, or sends every point of positive sum to one expert."""
    torch.manual_seed(0)
    made = routers.Block(router)
    torch.nn.init.zeros_(made.logits.weight)
    torch.nn.init.zeros_(made.noise.weight)
    if favourite is not None:
        made.logits.weight.data[favourite] = 10.0
    return made


POINTS = torch.rand(BATCH, HIDDEN, generator=torch.Generator().manual_seed(0)) + 0.1


def test_capacity_drops_what_one_expert_cannot_take():
    routed = block(routers.switch, favourite=3)(POINTS)[1]
    room = math.ceil(routers.CAPACITY * BATCH / N_EXPERTS)
    taken = routed.gates.sum(1) > 0
    assert taken[:room].all() and not taken[room:].any(), "the first to come"
    assert (routed.wanted[:, 3] > 0).all()
    assert routed.balance_loss.item() == pytest.approx(routers.BALANCE * N_EXPERTS, rel=1e-4)


def test_a_dropped_token_passes_by():
    layer = block(routers.switch, favourite=0)
    output, routed = layer(POINTS)
    dropped = routed.gates.sum(1) == 0
    assert dropped.any() and torch.equal(output[dropped], POINTS[dropped])
    assert not torch.equal(output[~dropped], POINTS[~dropped])


@pytest.mark.parametrize(("router", "chosen"), [
    (routers.one_out, 1), (routers.dense, N_EXPERTS), (routers.noisy_top_k, 2), (routers.switch, 1), (routers.top_2, 2),
])  # fmt: skip
def test_how_many_experts_a_token_wants(router, chosen):
    layer = routers.Block(router)
    wanted = layer(POINTS)[1].wanted
    assert ((wanted > 0).sum(1) == chosen).all()
    if router is not routers.switch:
        torch.testing.assert_close(wanted.sum(1), torch.ones(BATCH))


def test_the_selector_draws_by_probability_and_takes_the_best_when_used():
    layer = block(routers.one_out)
    layer.logits.weight.data[0] = 1.0
    hidden = torch.ones(4000, HIDDEN) * math.log(7) / HIDDEN  # the first has 7 of 14 parts
    assert layer(hidden)[1].gates[:, 0].mean() == pytest.approx(0.5, abs=0.03)
    layer.eval()
    assert (layer(hidden)[1].gates[:, 0] == 1).all()


def test_the_load_of_a_noisy_expert_is_how_often_new_noise_chooses_it():
    torch.manual_seed(0)
    clean, width = torch.randn(6, 5), torch.rand(6, 5) + 0.2
    noisy = clean + width * torch.randn(6, 5)
    chances = routers.chances(clean, noisy, width, 2)
    for token, expert in ((0, 0), (2, 3), (5, 4)):
        again = noisy[token].repeat(20_000, 1)
        again[:, expert] = clean[token, expert] + width[token, expert] * torch.randn(20_000)
        often = (again.topk(2).indices == expert).any(1).float().mean()
        assert chances[token, expert] == pytest.approx(float(often), abs=0.02)


def test_losses_of_importance_and_load_are_least_where_all_experts_get_as_much():
    assert routers.variation(torch.ones(8)) == 0
    assert routers.variation(torch.eye(8)[0]) == pytest.approx(7), "one of eight gets all"
    layer = block(routers.noisy_top_k)
    even = layer(POINTS)[1].balance_loss
    assert block(routers.noisy_top_k, favourite=0)(POINTS)[1].balance_loss > even + 0.05
    even.backward()
    assert layer.noise.weight.grad.abs().sum() > 0, "the noise learns from the load"


def test_the_selector_learns_from_the_expert_that_fits():
    layer = block(routers.one_out)
    outputs = layer.outputs(POINTS).detach()
    layer.loss(POINTS, POINTS + outputs[5]).backward()
    gradient = layer.logits.weight.grad @ POINTS.mean(0)
    assert gradient.argmin() == 5, "the fifth is to be more likely"


def test_points_of_the_task_come_from_clusters_of_unequal_size():
    draw = routers.task(0)
    hidden, target = draw(4000)
    assert hidden.shape == target.shape == (4000, HIDDEN) and ((target - hidden).abs() < 1).all()
    source = torch.Generator().manual_seed(0)
    middles = torch.randn(CLUSTERS, HIDDEN, generator=source)
    share = torch.cdist(hidden, middles).argmin(1).bincount(minlength=CLUSTERS) / 4000
    assert share[0] / share[-1] == pytest.approx(CLUSTERS, rel=0.25)


def test_every_router_learns_the_same_task_and_only_capacity_drops():
    frame = routers.trained([0], 60, 512)
    pd.testing.assert_frame_equal(frame, routers.trained([0], 60, 512))
    assert frame["router"].tolist() == list(routers.ROUTERS) and frame["loss"].between(0, 0.95).all()
    assert frame["balance"].between(1 / N_EXPERTS, 1 + 1e-6).all()
    drops = frame["router"].str.contains("capacity")
    assert (frame["tokens_dropped"][drops] > 0).all() and (frame["tokens_dropped"][~drops] == 0).all()
