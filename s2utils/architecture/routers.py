"""Routers through the years, on one block: y = x + Σ Gᵢ(x)·expertᵢ(x), where only the gate G differs.

- `one_out`: a stochastic selector of one expert; experts compete, −log Σ pᵢ·exp(−½|d − oᵢ|²) (Jacobs and others 1991);
- `dense`: all experts, by a softmax (Eigen and others 2013);
- `noisy_top_k`: Softmax(TopK(x·Wg + noise·softplus(x·Wn))), with losses of importance and load (Shazeer 2017);
- `switch`: the best expert times its probability, and room for so many tokens only (Fedus and others 2022);
- `top_2`: Softmax(TopK), as Mixtral (Jiang and others 2024), with the Switch loss.

Each learns the same small task (`task`): synthetic clusters of unequal size, each with a map of its own, so that there
is something to specialise in and a router that balances pays for it. A token that no expert has room for passes by the
residual. Trap: the task is made for experts; it tells how routers behave, not whether experts are worth having.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import pandas as pd
import torch
from torch import nn
from torch.nn.functional import one_hot, softplus

from s2utils.architecture import experts

N_EXPERTS, CLUSTERS, HIDDEN, INNER = 8, 8, 16, 16
BATCH, RATE = 128, 3e-3
BALANCE = 0.01  # weight of Switch's loss, as published; also of top-2's
IMPORTANCE = LOAD = 0.1  # weights of Shazeer's, as published for language models
CAPACITY = 1.25  # tokens an expert takes, in even shares
SPREAD = 0.4  # of a cluster around its middle, whose coordinates have 1


class Routed(NamedTuple):
    """What a router makes of a batch."""

    gates: torch.Tensor  # (T, E), 0 where an expert does not get the token
    wanted: torch.Tensor  # (T, E), the same before capacity
    balance_loss: torch.Tensor | float = 0.0


def one_out(layer: Block, hidden: torch.Tensor) -> Routed:
    """One expert a token, drawn by its probability; the best one when not training."""
    gates = layer.logits(hidden).softmax(-1)
    drawn = torch.multinomial(gates, 1)[:, 0] if layer.training else gates.argmax(-1)
    gates = one_hot(drawn, N_EXPERTS).to(hidden.dtype)
    return Routed(gates, gates)


def dense(layer: Block, hidden: torch.Tensor) -> Routed:
    """All experts."""
    gates = layer.logits(hidden).softmax(-1)
    return Routed(gates, gates)


def noisy_top_k(layer: Block, hidden: torch.Tensor, k: int = 2) -> Routed:
    """The k experts of the best noisy logits; coefficients of variation of importance and load, squared, as loss."""
    clean, width = layer.logits(hidden), softplus(layer.noise(hidden)) + 1e-2
    noisy = clean + torch.randn_like(clean) * width if layer.training else clean
    gates = scattered(*experts.top_k(noisy, k))
    load = chances(clean, noisy, width, k).sum(0)
    return Routed(gates, gates, IMPORTANCE * variation(gates.sum(0)) + LOAD * variation(load))


def switch(layer: Block, hidden: torch.Tensor) -> Routed:
    """The best expert times its probability; an expert takes `CAPACITY` even shares of a batch, the first to come."""
    logits = layer.logits(hidden)
    wanted = scattered(*logits.softmax(-1).topk(1, dim=-1))
    room = math.ceil(CAPACITY * len(hidden) / N_EXPERTS)
    place = (wanted > 0).cumsum(0)  # of a token in its expert's queue
    return Routed(wanted * (place <= room), wanted, BALANCE * experts.balance_loss(logits, 1))


def top_2(layer: Block, hidden: torch.Tensor) -> Routed:
    """The two best experts, by a softmax of the two."""
    logits = layer.logits(hidden)
    gates = scattered(*experts.top_k(logits, 2))
    return Routed(gates, gates, BALANCE * experts.balance_loss(logits, 2))


ROUTERS: dict[str, Callable[[Block, torch.Tensor], Routed]] = {
    "one-out selector (1991)": one_out,
    "dense mixture (2013)": dense,
    "noisy top-2 (2017)": noisy_top_k,
    "top-1 with capacity (2022)": switch,
    "top-2 (2024)": top_2,
}


def scattered(weights: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Gates (T, E) with the weights (T, k) at their experts (T, k) and 0 elsewhere."""
    return weights.new_zeros(len(weights), N_EXPERTS).scatter(1, index, weights)


def chances(clean: torch.Tensor, noisy: torch.Tensor, width: torch.Tensor, k: int) -> torch.Tensor:
    """Probability (T, E) that an expert is among the k best if its noise alone were drawn anew, with a gradient."""
    best = noisy.topk(k + 1, dim=-1).values
    among = noisy >= best[:, k - 1 : k]
    needed = torch.where(among, best[:, k:], best[:, k - 1 : k])  # the k-th best of the others
    return torch.special.ndtr((clean - needed) / width)


def variation(amounts: torch.Tensor) -> torch.Tensor:
    """(Standard deviation / mean)² of amounts (E,): 0 where all are alike."""
    return amounts.var(correction=0) / amounts.mean().square()


class Block(nn.Module):
    """Gate and experts; at this size all experts are computed, and gates of 0 leave out what is not chosen."""

    def __init__(self, router: Callable[[Block, torch.Tensor], Routed]) -> None:
        super().__init__()
        self.router = router
        self.logits = nn.Linear(HIDDEN, N_EXPERTS, bias=False)
        self.noise = nn.Linear(HIDDEN, N_EXPERTS, bias=False)  # of the noisy router only
        self.experts = experts.Experts(N_EXPERTS, HIDDEN, INNER)

    def forward(self, hidden: torch.Tensor) -> tuple[torch.Tensor, Routed]:
        """(y, what was routed) of hidden (T, H)."""
        routed = self.router(self, hidden)
        return hidden + torch.einsum("te,eth->th", routed.gates, self.outputs(hidden)), routed

    def outputs(self, hidden: torch.Tensor) -> torch.Tensor:
        """All experts' (E, T, H)."""
        return experts.every_expert(hidden, self.experts.gate_up_proj, self.experts.down_proj)

    def loss(self, hidden: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """What is trained: the squared error and the router's own loss; experts that compete for `one_out`."""
        if self.router is one_out:
            distances = (target - hidden - self.outputs(hidden)).square().sum(-1)  # (E, T)
            return -(self.logits(hidden).log_softmax(-1).T - distances / 2).logsumexp(0).mean()
        output, routed = self(hidden)
        return (output - target).square().sum(-1).mean() / 2 + routed.balance_loss


def task(seed: int) -> Callable[[int], tuple[torch.Tensor, torch.Tensor]]:
    """A function that draws n pairs (x, d) (n, H): d = x + tanh(x·A) with an A of x's cluster.

    The largest cluster has `CLUSTERS` times as many points as the smallest (1/rank).
    """
    source = torch.Generator().manual_seed(seed)
    middles = torch.randn(CLUSTERS, HIDDEN, generator=source)
    maps = torch.randn(CLUSTERS, HIDDEN, HIDDEN, generator=source) / HIDDEN**0.5
    shares = 1 / torch.arange(1, CLUSTERS + 1)

    def draw(n: int) -> tuple[torch.Tensor, torch.Tensor]:
        cluster = torch.multinomial(shares, n, replacement=True, generator=source)
        points = middles[cluster] + SPREAD * torch.randn(n, HIDDEN, generator=source)
        return points, points + torch.einsum("nh,nhk->nk", points, maps[cluster]).tanh()

    return draw


def evaluated(layer: Block, hidden: torch.Tensor, target: torch.Tensor) -> dict[str, float]:
    """tokens_dropped, balance and loss on points that were not trained on, batches as large as in training.

    loss: squared error over that of leaving x as it is, 1 for no experts; balance: exp(entropy of the experts' shares
    of wanted gates) / E, 1 where all get as much and 1/E where one gets all.
    """
    layer.eval()
    with torch.no_grad():
        parts = [layer(part) for part in hidden.split(BATCH)]
    output = torch.cat([part for part, _ in parts])
    gates, wanted = (torch.cat([routed[i] for _, routed in parts]) for i in (0, 1))
    share = wanted.sum(0) / wanted.sum()
    return {
        "tokens_dropped": float((gates.sum(1) == 0).float().mean()),
        "balance": float(torch.special.entr(share).sum().exp()) / N_EXPERTS,
        "loss": float((output - target).square().sum() / (hidden - target).square().sum()),
    }


def trained(seeds: Sequence[int], steps: int, held_out: int = 4096) -> pd.DataFrame:
    """One row a router and seed: router, experts (computed a token when used), seed, tokens_dropped, balance, loss.

    A seed is one task and one start, the same for all routers; `steps` batches of `BATCH` new points each.
    """
    rows = []
    for seed in seeds:
        draw = task(seed)
        unseen, batches = draw(held_out), [draw(BATCH) for _ in range(steps)]
        for name, router in ROUTERS.items():
            torch.manual_seed(seed)
            layer = Block(router)
            nn.init.zeros_(layer.noise.weight)
            optimizer = torch.optim.Adam(layer.parameters(), RATE, fused=True)
            for hidden, target in batches:
                optimizer.zero_grad()
                layer.loss(hidden, target).backward()
                optimizer.step()
            n_experts = {one_out: 1, switch: 1, dense: N_EXPERTS}.get(router, 2)
            rows.append({"router": name, "experts": n_experts, "seed": seed} | evaluated(layer, *unseen))
    return pd.DataFrame(rows)
