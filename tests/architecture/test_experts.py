"""Experts: equal to transformers' block, gradients included, and a balance loss that sees each layer."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import MixtralConfig
from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock, load_balancing_loss_func

from s2utils.architecture import experts

HIDDEN, INNER = 12, 20


def block(n_experts: int, k: int, kind: str = "eager") -> MixtralSparseMoeBlock:
    """transformers' own with weights drawn anew."""
    config = MixtralConfig(
        hidden_size=HIDDEN, intermediate_size=INNER, num_local_experts=n_experts, num_experts_per_tok=k
    )
    config._experts_implementation = kind
    made = MixtralSparseMoeBlock(config)
    for weight in made.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return made


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 9), st.integers(1, 40), st.data())
def test_output_and_gradients_are_those_of_transformers(n_experts, n_tokens, data):
    k = data.draw(st.integers(1, n_experts))
    torch.manual_seed(0)
    theirs, ours = block(n_experts, k), experts.TopKLayer(n_experts, k, HIDDEN, INNER)
    ours.load_state_dict(theirs.state_dict())
    hidden = torch.randn(1, n_tokens, HIDDEN)
    found = []
    for layer in (ours, theirs):
        given_ = hidden.clone().requires_grad_()
        output = layer(given_)
        output.square().sum().backward()
        found.append([output.detach(), given_.grad, *(weight.grad for _, weight in sorted(layer.named_parameters()))])
    for mine, other in zip(*found, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-5)


def test_a_token_by_hand():
    torch.manual_seed(0)
    layer = experts.TopKLayer(4, 2, HIDDEN, INNER)
    token = torch.randn(1, HIDDEN)
    logits = layer.gate(token)[0]
    first, second = logits.argsort(descending=True)[:2]
    share = torch.sigmoid(logits[first] - logits[second])  # a softmax of two
    outputs = experts.every_expert(token, layer.experts.gate_up_proj, layer.experts.down_proj)[:, 0]
    torch.testing.assert_close(layer(token)[0], share * outputs[first] + (1 - share) * outputs[second])


def test_softmax_of_the_best_is_the_softmax_of_all_made_to_sum_to_1():
    logits = torch.randn(50, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    weights, index = experts.top_k(logits, 3)
    of_all = logits.softmax(-1).gather(1, index)
    torch.testing.assert_close(weights, of_all / of_all.sum(-1, keepdim=True))
    assert (weights.diff(dim=-1) <= 0).all(), "best first"


def test_all_experts_are_a_dense_mixture():
    torch.manual_seed(0)
    layer, hidden = experts.TopKLayer(5, 5, HIDDEN, INNER), torch.randn(7, HIDDEN)
    outputs = experts.every_expert(hidden, layer.experts.gate_up_proj, layer.experts.down_proj)
    torch.testing.assert_close(layer(hidden), torch.einsum("te,eth->th", layer.gate(hidden).softmax(-1), outputs))


def test_gradients_by_differences():
    torch.manual_seed(0)
    hidden, gate_up, down = torch.randn(6, 3), torch.randn(4, 4, 3), torch.randn(4, 3, 2)
    index = torch.tensor([[0, 1], [1, 0], [3, 0], [0, 3], [1, 3], [0, 1]])  # nobody chooses the third
    inputs = [t.double().requires_grad_() for t in (hidden, torch.rand(6, 2), gate_up, down)]
    assert torch.autograd.gradcheck(
        lambda rows, weights, w13, w2: experts.ChosenExperts.apply(rows, weights, index, w13, w2), inputs
    )


def layer_logits(*favourites: int, n_experts: int = 4, tokens: int = 16) -> tuple[torch.Tensor, ...]:
    """A layer for each favourite, to which it sends nearly everything."""
    return tuple(10 * torch.eye(n_experts)[i].repeat(tokens, 1) for i in favourites)


def test_layers_that_collapse_to_different_experts_look_balanced_when_pooled():
    logits = layer_logits(0, 1, 2, 3)
    assert experts.balance_losses(logits, 1) == pytest.approx([4] * 4, rel=1e-3), "the worst of four experts"
    assert load_balancing_loss_func(logits, 4, 1) == pytest.approx(1, rel=1e-3), "as if nothing were wrong"


@given(st.integers(2, 8), st.data())
def test_one_layer_has_the_loss_of_transformers_between_its_limits(n_experts, data):
    k = data.draw(st.integers(1, n_experts))
    logits = torch.randn(30, n_experts, generator=torch.Generator().manual_seed(data.draw(st.integers(0, 99))))
    loss = experts.balance_loss(logits, k)
    torch.testing.assert_close(loss, load_balancing_loss_func((logits,), n_experts, k))
    assert 0 < loss <= n_experts + 1e-5
    everyone = torch.eye(n_experts).repeat(3, 1)  # each expert is the favourite of as many tokens
    assert experts.balance_loss(everyone, 1) == pytest.approx(1)
