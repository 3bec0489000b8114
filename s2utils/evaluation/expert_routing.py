"""Which experts a mixture sends the tokens of each domain to: its choices, read from any checkpoint of transformers.

`routed` keeps, of the first, middle and last layer, the experts of every token with their weights, and the router's
entropy; tables are made of that. A token is sent to k experts, so shares are of *assignments*, k a token, and an even
router gives each expert 1/E of them; first and second choice are told apart too. Repeats are told from one token to the
next of a document. Intervals are of documents drawn anew. Trap: early transformers 5 gave probabilities as
`router_logits`, whose softmax is nearly even, so that weights and entropy would be wrong: rows that sum to 1 raise.
Sources: Jiang and others 2024 (Mixtral, section 5: layers 0, 15, 31; the Pile's validation set); OLMoE's analysis.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from s2utils.models import likelihood
from s2utils.workflow import progress
from s2utils.workflow.errors import UserError

PLACES = ("first", "middle", "last")


class RoutingError(UserError, ValueError):
    """A model whose routing cannot be read."""


def layers_shown(n: int) -> dict[str, int]:
    """{place: layer} of n layers: first, middle, last; of Mixtral's 32 those of its paper, 0, 15 and 31."""
    return dict(zip(PLACES, (0, (n - 1) // 2, n - 1)))


def routed(
    model: PreTrainedModel, tok: PreTrainedTokenizerBase, documents: pd.DataFrame, most: int, name: str = ""
) -> pd.DataFrame:
    """One row a document (domain, id, text) and layer, of its first `most` tokens.

    Columns: domain, id, place, layer, n_experts, tokens (T,) int32, experts (T·k,) int16, best first, weights (T·k,)
    float32 as the experts' outputs are weighed, and entropy (T,) in nats of the router before the choice.
    """
    texts, rows = documents["text"].tolist(), []
    ids = [row[: most - 1] for row in likelihood.encoded(tok, texts)]
    begin = likelihood.beginning(tok)
    bar = progress.bar(zip(documents.itertuples(), ids), total=len(ids), desc=name, unit="document", disable=not name)
    for document, tokens in bar:
        every = router_logits(model, [begin, *tokens])
        for place, layer in layers_shown(len(every)).items():
            probabilities = every[layer][1:].softmax(-1)  # what begins a document is no token of it
            facts = {"domain": document.domain, "id": document.id, "place": place, "layer": layer}
            rows.append(facts | {"tokens": np.array(tokens, np.int32)} | _choices(probabilities, model.config))
    return pd.DataFrame(rows)


@torch.inference_mode()
def router_logits(model: PreTrainedModel, ids: list[int]) -> list[torch.Tensor]:
    """Logits (T, E) in float32 of every layer's router for one sequence; RoutingError where the model has none."""
    try:
        output = model(input_ids=torch.tensor([ids], device=model.device), use_cache=False, output_router_logits=True)
        layers = [layer.float() for layer in output.router_logits]
    except (AttributeError, TypeError) as error:
        raise RoutingError(f"{type(model).__name__} is no mixture of experts whose router can be read") from error
    if any(torch.allclose(layer.sum(-1), torch.ones(len(layer), device=layer.device), atol=1e-3) for layer in layers):
        raise RoutingError("router_logits sum to 1 in each row, so they are probabilities: take another transformers")
    return layers


def _choices(probabilities: torch.Tensor, config) -> dict:
    """What of one layer is kept, from probabilities (T, E)."""
    weights, experts = probabilities.topk(config.num_experts_per_tok, dim=-1)
    if getattr(config, "norm_topk_prob", True):  # Mixtral always does
        weights = weights / weights.sum(-1, keepdim=True)
    return {
        "n_experts": probabilities.shape[-1], "experts": experts.flatten().cpu().numpy().astype(np.int16),
        "weights": weights.flatten().cpu().numpy(), "entropy": torch.special.entr(probabilities).sum(-1).cpu().numpy(),
    }  # fmt: skip
