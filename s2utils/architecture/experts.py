"""A layer of experts: a router sends each token to k of E small SwiGLU networks and adds up what they return.

G = Softmax(TopK(x·Wg)), an expert is w2(SiLU(w1 x)·w3 x), the layer Σᵢ Gᵢ·expertᵢ(x). transformers takes the softmax of
all, keeps k and divides by their sum: the same number in exact arithmetic. Weights have the names and layout of its
`MixtralSparseMoeBlock`, w1 above w3 in `gate_up_proj`, so that a state dict of one loads into the other. Tokens are
sorted by expert, and each expert multiplies its own once: what it costs is what is chosen, and the gradient of all
experts is written once. Trap: transformers' balance loss pools the tokens of all layers, where layers that send
everything to different experts cancel; `balance_losses` keeps them apart.
Source: Jiang et al. 2024 (Mixtral), section 2.1; Fedus et al. 2022 (Switch), equations 4–6.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.functional import linear, one_hot, silu


def top_k(logits: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Softmax(TopK(logits)) of the router's logits (T, E): weights (T, k) that sum to 1, experts (T, k), best first."""
    best, index = logits.topk(k, dim=-1)
    return best.softmax(dim=-1), index


def swiglu(rows: torch.Tensor, gate_up: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
    """One expert of rows (N, H): w2(SiLU(w1 x)·w3 x), with w1 above w3 in gate_up (2·I, H) and w2 = down (H, I)."""
    gate, up = linear(rows, gate_up).chunk(2, dim=-1)  # (N, I) each
    return linear(silu(gate) * up, down)


class ChosenExperts(torch.autograd.Function):
    """Σ of the chosen experts' outputs, each times its weight: (T, H) of hidden (T, H), weights (T, k), index (T, k).

    gate_up is (E, 2·I, H), down (E, H, I). PyTorch's own gradient of gate_up[i] is as large as all experts, for each of
    them; here each expert writes its part. On a GPU the experts' counts are waited for.
    """

    @staticmethod
    @torch.amp.custom_fwd(device_type="cuda", cast_inputs=torch.bfloat16)
    def forward(ctx, hidden, weights, index, gate_up, down):
        """The sum; what an expert projects is kept for its gradient."""
        order = index.flatten().argsort(stable=True)  # (T·k,) places in `index`, sorted by expert
        counts = index.flatten().bincount(minlength=len(gate_up)).tolist()
        tokens, sorted_weights = order // index.shape[1], weights.flatten()[order, None]
        total, inner = torch.zeros_like(hidden), []
        for token, weight, w13, w2 in zip(tokens.split(counts), sorted_weights.split(counts), gate_up, down):
            row, (w1, w3) = hidden.index_select(0, token), w13.chunk(2)
            gate, up = linear(row, w1), linear(row, w3)  # (n, I) each
            total.index_add_(0, token, linear(silu(gate).mul_(up), w2).mul_(weight))
            inner += [gate, up] if any(ctx.needs_input_grad) else []
        ctx.save_for_backward(hidden, gate_up, down, order, tokens, sorted_weights, *inner)
        ctx.counts = counts
        return total

    @staticmethod
    @torch.amp.custom_bwd(device_type="cuda")
    def backward(ctx, grad_total):
        """Gradients of hidden, weights, gate_up and down, from that of the sum (T, H)."""
        hidden, gate_up, down, order, tokens, sorted_weights, *inner = ctx.saved_tensors
        grad_hidden, grad_weights = torch.zeros_like(hidden), []
        grad_gate_up, grad_down = torch.empty_like(gate_up), torch.empty_like(down)
        parts = tokens.split(ctx.counts), sorted_weights.split(ctx.counts), inner[::2], inner[1::2]
        for token, weight, gate, up, w13, w2, grad_w13, grad_w2 in zip(*parts, gate_up, down, grad_gate_up, grad_down):
            row, grad = hidden.index_select(0, token), grad_total.index_select(0, token)
            (w1, w3), (grad_w1, grad_w3), active = w13.chunk(2), grad_w13.chunk(2), silu(gate)
            product, grad_product = active * up, grad @ w2
            grad_weights.append((product * grad_product).sum(dim=-1))
            torch.mm(grad.T, product.mul_(weight), out=grad_w2)
            grad_product.mul_(weight)
            grad_gate = torch.ops.aten.silu_backward(grad_product * up, gate)
            grad_up = grad_product.mul_(active)
            torch.mm(grad_gate.T, row, out=grad_w1)
            torch.mm(grad_up.T, row, out=grad_w3)
            grad_hidden.index_add_(0, token, (grad_gate @ w1).addmm_(grad_up, w3))
        grad_weights = torch.cat(grad_weights)[order.argsort()].view(len(hidden), -1)
        return grad_hidden, grad_weights, None, grad_gate_up, grad_down


def every_expert(hidden: torch.Tensor, gate_up: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
    """Outputs (E, T, H) of all experts for all tokens (T, H): what a dense mixture computes."""
    gate, up = (hidden @ gate_up.mT).chunk(2, dim=-1)  # (E, T, I) each
    return (silu(gate) * up) @ down.mT


class Experts(nn.Module):
    """The weights of E SwiGLU experts, drawn as `nn.Linear` draws them."""

    def __init__(self, n_experts: int, hidden_size: int, intermediate_size: int) -> None:
        super().__init__()
        self.gate_up_proj = nn.Parameter(torch.empty(n_experts, 2 * intermediate_size, hidden_size))
        self.down_proj = nn.Parameter(torch.empty(n_experts, hidden_size, intermediate_size))
        for weight in self.parameters():
            nn.init.uniform_(weight, -(weight.shape[-1] ** -0.5), weight.shape[-1] ** -0.5)

    def forward(self, hidden: torch.Tensor, weights: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """`ChosenExperts` of these: (T, H) of hidden (T, H), with weights and index (T, k) as `top_k` gives them."""
        return ChosenExperts.apply(hidden, weights, index, self.gate_up_proj, self.down_proj)


class TopKLayer(nn.Module):
    """Router and experts of one layer, as Mixtral's; loads the state dict of transformers' block."""

    def __init__(self, n_experts: int, k: int, hidden_size: int, intermediate_size: int) -> None:
        super().__init__()
        self.k = k
        self.gate = nn.Linear(hidden_size, n_experts, bias=False)
        self.experts = Experts(n_experts, hidden_size, intermediate_size)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:  # (B, T, H) → (B, T, H)
        """The layer's output for hidden states (…, H)."""
        rows = hidden.reshape(-1, hidden.shape[-1])
        return self.experts(rows, *top_k(self.gate(rows), self.k)).view_as(hidden)


def balance_loss(logits: torch.Tensor, k: int) -> torch.Tensor:
    """E·Σᵢ fᵢ·Pᵢ of one layer's router logits (T, E): k where tokens are spread evenly, at most E.

    fᵢ is the share of tokens that choose expert i (k of them in all), Pᵢ its mean probability before the choice.
    """
    n_experts = logits.shape[-1]
    chosen = one_hot(logits.topk(k, dim=-1).indices, n_experts).sum(dim=1)  # (T, E)
    return n_experts * (chosen.float().mean(dim=0) * logits.softmax(dim=-1).mean(dim=0)).sum()


def balance_losses(logits: Sequence[torch.Tensor], k: int) -> torch.Tensor:
    """`balance_loss` of each layer, (layers,): their mean trains every layer's router to balance."""
    return torch.stack([balance_loss(layer, k) for layer in logits])
