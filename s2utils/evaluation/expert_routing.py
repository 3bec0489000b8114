"""Which experts a mixture sends the tokens of each domain to: its choices, read from any checkpoint of transformers.

`routed` keeps, of the first, middle and last layer, every token's probabilities of the router; all tables are made of
these (`stats.routing`). A token is sent to k experts, so shares are of *assignments*, and an even router gives each
expert 1/E of them. Intervals are of documents drawn anew. Trap: early transformers 5 gave probabilities as
`router_logits`, whose softmax is nearly even, so that all that is told here would be wrong: rows that sum to 1 raise.
Sources: Jiang and others 2024 (Mixtral, section 5: layers 0, 15, 31 on the Pile's validation set); Muennighoff and
others 2024 (OLMoE, section 5).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from s2utils.models import likelihood, loading
from s2utils.stats import routing
from s2utils.training import mixtures, pretraining
from s2utils.workflow import progress
from s2utils.workflow.errors import UserError
from s2utils.workflow.params import Params

ALL = "all domains"  # in place of a domain
PLACES = ("first", "middle", "last")
KEYS = ["model", "layer", "place"]


class RoutingError(UserError, ValueError):
    """A model whose routing cannot be read."""


def layers_shown(n: int) -> dict[str, int]:
    """{place: layer} of n layers: first, middle, last; of Mixtral's 32 those of its paper, 0, 15 and 31."""
    return dict(zip(PLACES, (0, (n - 1) // 2, n - 1)))


def routed(
    model: PreTrainedModel, tok: PreTrainedTokenizerBase, documents: pd.DataFrame, most: int, name: str
) -> pd.DataFrame:
    """One row a document (domain, id, text) and layer, of its first `most` tokens.

    Columns: model (`name`), layer (from 0), place (first, middle, last), domain, id, top_k, ids (T,) of its tokens, and
    probabilities (T·E,) float32 of the router before the choice.
    """
    begin, rows = likelihood.beginning(tok), []
    encoded = likelihood.encoded(tok, documents["text"].tolist())
    read = progress.bar(zip(documents.itertuples(), encoded), total=len(encoded), desc=name, unit="document")
    for document, ids in read:
        every = router_logits(model, [begin, *ids[:most]])
        for place, layer in layers_shown(len(every)).items():
            probabilities = every[layer][1:].softmax(-1)  # the token in front is none of the document
            facts = {"model": name, "layer": layer, "place": place, "domain": document.domain, "id": document.id}
            facts |= {"top_k": model.config.num_experts_per_tok, "ids": np.array(ids[:most], np.int32)}
            rows.append(facts | {"probabilities": probabilities.flatten().cpu().numpy()})
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


def of_checkpoints(folder: Path, rows: pd.DataFrame, documents: pd.DataFrame, params: Params) -> pd.DataFrame:
    """`routed` at every checkpoint of the mixtures of the first seed that were trained here, with tokens seen.

    `rows` as `mixtures.make_mixtures` gives them, in `folder`.
    """
    names = {run: model for model, run in mixtures.BUDGETS[mixtures.STEPS].items() if model in mixtures.MIXTURES}
    found = []
    for row in rows[rows["seed"] == params.mixtures.seeds[0]].itertuples():
        if (name := names.get(row.run.rpartition("-")[0])) is None:
            continue
        weights = pretraining.weights(folder, row, params)
        model, tok = loading.full(weights, "float32", params.runtime.device), loading.tokenizer(weights)
        part = routed(model, tok, documents, params.expert_routing.tokens, name)
        found.append(part.assign(trained=row.tokens))
    return pd.concat(found, ignore_index=True)


def last(frame: pd.DataFrame) -> pd.DataFrame:
    """Of every model its last checkpoint; a published one has no other."""
    return frame[frame["trained"] == frame.groupby("model")["trained"].transform("max")]


def shares(frame: pd.DataFrame, params: Params) -> pd.DataFrame:
    """One row a model, layer, domain, choice (first, second, any) and expert; see `routing.shares`."""
    return _by_domain(frame, lambda choices, documents, n: routing.shares(choices, documents, n, params))


def repeats(frame: pd.DataFrame, params: Params) -> pd.DataFrame:
    """One row a model, layer, domain and kind (first, any), with the nulls; see `routing.repeats`."""
    return _by_domain(frame, lambda choices, documents, n: routing.repeats(choices, documents, n, params))


def co_activation(frame: pd.DataFrame, params: Params) -> pd.DataFrame:
    """One row a model, layer and pair of experts, over all domains; see `routing.co_activation`."""

    def pairs(choices: np.ndarray, documents: np.ndarray, n: int) -> pd.DataFrame:
        return routing.co_activation(choices, documents, n, params)

    return _by_domain(frame.assign(domain=ALL), pairs).drop(columns="domain")


def entropy(frame: pd.DataFrame, params: Params) -> pd.DataFrame:
    """One row a model, checkpoint (tokens seen) and layer: n, n_documents and entropy in bits, over all domains."""
    rows = []
    for keys, part in frame.groupby([*KEYS, "trained"], sort=False):
        probabilities, _, documents = stacked(part)
        rows.append(dict(zip([*KEYS, "tokens"], keys)) | routing.entropy(probabilities, documents, params))
    return pd.DataFrame(rows)


def stacked(part: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(probabilities (T, E), choices (T, k) best first, number of each token's document (T,)) of rows of one layer."""
    sizes = part["ids"].map(len).to_numpy()
    probabilities = np.concatenate(part["probabilities"].tolist()).reshape(sizes.sum(), -1)
    choices = np.argsort(-probabilities, axis=1, kind="stable")[:, : part["top_k"].iat[0]]
    return probabilities, choices, np.repeat(np.arange(len(part)), sizes)


def _by_domain(frame: pd.DataFrame, measured: Callable) -> pd.DataFrame:
    """What `measured` makes of (choices, documents, n_experts) of each model, layer and domain."""
    keys, found = [*KEYS, "domain"], []
    groups = list(frame.groupby(keys, sort=False))
    for values, part in progress.bar(groups, desc="routing", unit="domain"):
        probabilities, choices, documents = stacked(part)
        table = measured(choices, documents, probabilities.shape[1])
        found.append(pd.DataFrame([values] * len(table), columns=keys).join(table))
    return pd.concat(found, ignore_index=True)
