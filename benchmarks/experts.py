"""A layer of experts: `architecture.experts` against transformers' MixtralSparseMoeBlock, same weights.

Float32, one thread. Peers by transformers' own names: `eager`, a loop over experts, and `grouped_mm`. Its `batched_mm`
copies an expert's weights for every token, so it is timed at few tokens (once measured: 6.6 times our time at 16, of a
narrow layer). Outputs, and the hidden states' gradients, must be equal within 1e-5. ours and peer: processor
milliseconds of a forward pass, and of forward and backward, the best of many in turn. Shapes: `laptop`, an eighth of
Mixtral's in each direction, and `narrow`, of a model that was trained on a laptop.

`matrices` is the limit: what the experts' products alone take at the machine's best, rows gathered and nothing added
up. `limit` is the peer's time over that, the ratio which no arrangement of the same products passes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import measure
import torch
from torch.nn.functional import linear
from transformers import MixtralConfig
from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock

from s2utils.architecture import experts

SHAPES = {"laptop": (512, 1792), "narrow": (128, 448)}  # hidden, inner
N_EXPERTS, CHOSEN = 8, 2
TOKENS = (256, 2048)
SLOW_TOKENS = 16  # of batched_mm
PEERS = ("eager", "grouped_mm")
CLOSE = 1e-5


def theirs(implementation: str, hidden: int, inner: int) -> MixtralSparseMoeBlock:
    """A block of transformers' with seeded weights."""
    config = MixtralConfig(
        hidden_size=hidden, intermediate_size=inner, num_local_experts=N_EXPERTS, num_experts_per_tok=CHOSEN
    )
    config._experts_implementation = implementation
    block = MixtralSparseMoeBlock(config)
    torch.manual_seed(0)
    for weight in block.parameters():
        torch.nn.init.normal_(weight, std=0.02)
    return block


def forward(layer: torch.nn.Module, hidden: torch.Tensor) -> torch.Tensor:
    """The layer's output."""
    with torch.no_grad():
        return layer(hidden)


def both(layer: torch.nn.Module, hidden: torch.Tensor) -> torch.Tensor:
    """Gradient of the hidden states; those of the weights are made too."""
    layer.zero_grad(set_to_none=True)
    given = hidden.clone().requires_grad_()
    layer(given).square().mean().backward()
    return given.grad


def products(block: MixtralSparseMoeBlock, hidden: torch.Tensor) -> Callable[[], None]:
    """The matrix products of a forward pass, on rows that are already sorted."""
    with torch.no_grad():
        index = block.gate(hidden[0])[2]
    rows = [hidden[0, (index == i).any(-1)] for i in range(N_EXPERTS)]
    inner = [torch.randn(len(row), block.experts.intermediate_dim) for row in rows]

    def multiply() -> None:
        with torch.no_grad():
            for row, wide, w13, w2 in zip(rows, inner, block.experts.gate_up_proj, block.experts.down_proj):
                linear(row, w13)
                linear(wide, w2)

    return multiply


def timed(sides: dict[str, Callable], repeats: int) -> dict[str, float]:
    """Best processor milliseconds of each, in turn, so that what else the machine does meets all alike."""
    best = dict.fromkeys(sides, float("inf"))
    for _ in range(repeats):
        for name, side in sides.items():
            started = time.process_time()
            side()
            best[name] = min(best[name], 1000 * (time.process_time() - started))
    return best


def rows_of(shape: str, n_tokens: int, repeats: int) -> list[dict]:
    """Rows of one shape and number of tokens: forward against each peer, then forward and backward."""
    layers = {name: theirs(name, *SHAPES[shape]) for name in PEERS}
    layers["ours"] = experts.TopKLayer(N_EXPERTS, CHOSEN, *SHAPES[shape])
    layers["ours"].load_state_dict(layers["eager"].state_dict())
    hidden = torch.randn(1, n_tokens, SHAPES[shape][0], generator=torch.Generator().manual_seed(1))
    found = []
    for passes in (forward, both):
        outputs = {name: passes(layer, hidden) for name, layer in layers.items()}
        sides = {name: partial(passes, layer, hidden) for name, layer in layers.items()}
        if passes is forward:
            sides["matrices"] = products(layers["eager"], hidden)
        best = timed(sides, repeats)
        for peer in PEERS:
            off = float((outputs["ours"] - outputs[peer]).abs().max())
            if off > CLOSE:
                raise SystemExit(f"outputs differ by {off:.1e} from {peer}")
            limit = round(best[peer] / best["matrices"], 3) if "matrices" in best else None
            found.append(measure.row(
                f"{shape}, {n_tokens:,} tokens, {passes.__name__}, {peer}", unit="processor ms",
                ours=round(best["ours"], 2), peer=round(best[peer], 2), ratio=round(best[peer] / best["ours"], 3),
                n=n_tokens, limit=limit, largest_difference=off, matrices=best.get("matrices"),
            ))  # fmt: skip
    return found


def batched(shape: str) -> dict:
    """The row of `batched_mm`, at few tokens."""
    peer, ours = theirs("batched_mm", *SHAPES[shape]), experts.TopKLayer(N_EXPERTS, CHOSEN, *SHAPES[shape])
    ours.load_state_dict(peer.state_dict())
    hidden = torch.randn(1, SLOW_TOKENS, SHAPES[shape][0])
    off = max(float((passes(ours, hidden) - passes(peer, hidden)).abs().max()) for passes in (forward, both))
    if off > CLOSE:
        raise SystemExit(f"outputs differ by {off:.1e} from batched_mm")
    best = timed({"ours": partial(both, ours, hidden), "peer": partial(both, peer, hidden)}, 3)
    return measure.row(
        f"{shape}, {SLOW_TOKENS} tokens, both, batched_mm", unit="processor ms", ours=round(best["ours"], 2),
        peer=round(best["peer"], 2), ratio=round(best["peer"] / best["ours"], 2), n=SLOW_TOKENS, largest_difference=off,
    )  # fmt: skip


def main() -> None:
    """Run and write benchmarks/results/experts.json."""
    options = measure.arguments(__doc__).parse_args()
    torch.set_num_threads(1)
    repeats = 7 if options.quick else 40
    rows = [row for shape in SHAPES for n in TOKENS for row in rows_of(shape, n, repeats)]
    measure.write("experts", [*rows, batched("narrow")], options.quick)


if __name__ == "__main__":
    main()
