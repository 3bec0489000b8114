import copy
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import MixtralConfig, MixtralForCausalLM

from s2utils.training import muon


@given(st.integers(2, 40), st.integers(2, 40), st.integers(0, 99), st.floats(1e-4, 1e4))
def test_a_step_has_singular_values_near_1_and_the_singular_vectors_of_the_matrix(rows, columns, seed, scale):
    rng = torch.Generator().manual_seed(seed)
    least = min(rows, columns)
    u, _, v = torch.linalg.svd(torch.randn(rows, columns, generator=rng), full_matrices=False)
    matrix = scale * (u * torch.linspace(0.1, 1, least)) @ v
    step = muon.orthogonalized(matrix)
    values = torch.linalg.svdvals(step)
    assert step.shape == matrix.shape and values.min() > 0.6 and values.max() < 1.3
    inside = u.T @ step @ v.T  # diagonal where the vectors are the same
    assert torch.allclose(inside, torch.diag(inside.diagonal()), atol=1e-3)


def test_a_matrix_is_stepped_alike_alone_and_with_others_of_its_shape():
    matrices = torch.randn(3, 8, 24, generator=torch.Generator().manual_seed(1))
    together = muon.orthogonalized(matrices)
    assert torch.allclose(together, torch.stack([muon.orthogonalized(m) for m in matrices]), atol=1e-5)
    assert torch.allclose(together.mT, muon.orthogonalized(matrices.mT.contiguous()), atol=1e-5)


def test_without_a_gradient_nothing_moves():
    assert not muon.orthogonalized(torch.zeros(2, 3, 5)).any()
    weight = torch.nn.Parameter(torch.ones(3, 3))
    muon.Muon([weight], lr=0.1).step()
    assert (weight == 1).all()


def test_float32_steps_are_those_of_torch_but_for_the_rounding_of_bfloat16():
    rng = torch.Generator().manual_seed(3)
    start, gradients = torch.randn(12, 5, generator=rng), torch.randn(4, 12, 5, generator=rng)
    ours, theirs = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    pair = muon.Muon([ours], lr=0.1, weight_decay=0.2), torch.optim.Muon([theirs], lr=0.1, weight_decay=0.2)
    for gradient in gradients:
        for weight, optimizer in zip((ours, theirs), pair):
            weight.grad = gradient.clone()
            optimizer.step()
    assert torch.allclose(ours, theirs, atol=0.02) and (ours - start).abs().max() > 0.2


def test_a_convex_problem_is_solved():
    rng = torch.Generator().manual_seed(0)
    inputs, goal = torch.randn(64, 6, generator=rng), torch.randn(4, 6, generator=rng)
    weight = torch.nn.Parameter(torch.zeros(4, 6))
    optimizer = muon.Muon([weight])
    for step in range(300):
        optimizer.param_groups[0]["lr"] = 0.2 * (1 - step / 300)
        optimizer.zero_grad()
        loss = ((inputs @ weight.T - inputs @ goal.T) ** 2).mean()
        loss.backward()
        optimizer.step()
    assert loss < 1e-3 and torch.allclose(weight, goal, atol=0.05)


def test_what_is_stored_goes_on_to_the_same_bytes(tmp_path):
    weights = [torch.nn.Parameter(torch.eye(4)), torch.nn.Parameter(torch.ones(6, 4))]
    optimizer = muon.Muon(weights, weight_decay=0.1)

    def step(weights, optimizer, seed):
        rng = torch.Generator().manual_seed(seed)
        for weight in weights:
            weight.grad = torch.randn(weight.shape, generator=rng)
        optimizer.step()

    step(weights, optimizer, 1)
    torch.save(optimizer.state_dict(), tmp_path / "state.pt")
    others = [torch.nn.Parameter(weight.detach().clone()) for weight in weights]
    other = muon.Muon(others)
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for seed in (2, 3):
        step(weights, optimizer, seed)
        step(others, other, seed)
    assert all(torch.equal(a, b) for a, b in zip(weights, others))
    fresh = muon.Muon([torch.nn.Parameter(w.detach().clone()) for w in weights])
    assert copy.deepcopy(fresh.state_dict())["state"] != other.state_dict()["state"]


def test_only_the_matrices_of_the_layers_are_muons(tiny_llama):
    for tied in (True, False):
        model = tiny_llama(tie_word_embeddings=tied)
        matrices, rest = (o.param_groups[0]["params"] for o in muon.optimizers(model, 0.02, 0.01, 0.0))
        names = {id(weight): name for name, weight in model.named_parameters()}
        assert all(".layers." in names[id(w)] and names[id(w)].endswith("proj.weight") for w in matrices)
        assert len(matrices) == 2 * 7 and len(matrices) + len(rest) == len(names)
        ends = {names[id(w)] for w in rest if "norm" not in names[id(w)]}
        assert ends == {"model.embed_tokens.weight"} | (set() if tied else {"lm_head.weight"})


def test_what_is_no_matrix_is_refused():
    with pytest.raises(ValueError, match=r"\(3,\).*AdamW"):
        muon.Muon([torch.nn.Parameter(torch.ones(3))])


def test_tall_matrices_take_longer_steps():
    steps = {}
    for shape in ((16, 4), (4, 16)):
        weight = torch.nn.Parameter(torch.zeros(shape))
        weight.grad = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        muon.Muon([weight], lr=1.0).step()
        steps[shape] = torch.linalg.svdvals(weight.detach()).mean()
    assert steps[16, 4] / steps[4, 16] == pytest.approx(math.sqrt(4), rel=0.2)


def test_experts_are_stepped_each_as_a_matrix_of_its_own():
    """Two experts whose gate and map up are one parameter, against four matrices apart."""
    rng = torch.Generator().manual_seed(5)
    gradient = torch.randn(2, 2 * 6, 4, generator=rng)
    fused = torch.nn.Parameter(torch.zeros(2, 12, 4))
    apart = [torch.nn.Parameter(torch.zeros(6, 4)) for _ in range(4)]
    pair = muon.Muon([{"params": [fused], "fused": 2}], lr=1.0), muon.Muon(apart, lr=1.0)
    fused.grad = gradient
    for weight, part in zip(apart, gradient.reshape(4, 6, 4)):
        weight.grad = part.clone()
    for optimizer in pair:
        optimizer.step()
    assert torch.allclose(fused.detach().reshape(4, 6, 4), torch.stack([w.detach() for w in apart]), atol=1e-5)


def test_a_mixture_s_experts_are_muons():
    config = MixtralConfig(
        vocab_size=64, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, num_local_experts=3, tie_word_embeddings=True,
    )  # fmt: skip
    model = MixtralForCausalLM(config)
    pair, rest = muon.optimizers(model, 0.02, 0.01, 0.0)
    shapes = {group["fused"]: {tuple(w.shape) for w in group["params"] if w.ndim == 3} for group in pair.param_groups}
    assert shapes == {1: {(3, 16, 24)}, 2: {(3, 48, 16)}}
    assert sum(len(g["params"]) for o in (pair, rest) for g in o.param_groups) == len(list(model.parameters()))
    assert {w.ndim for w in rest.param_groups[0]["params"]} == {1, 2}, "norms and the embedding"
