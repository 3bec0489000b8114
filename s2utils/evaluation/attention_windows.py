"""What a model loses when its attention sees a window only, how far change still travels, and what caches hold.

The model is not trained for the window: it is the same weights under another mask (`architecture.cache.windowed`). A
window W counts the token itself and, where the first tokens are kept (sinks), those too, so that W is what a cache
holds either way. Loss: nats a token over all tokens of a text, each document after one token of the model's own;
intervals are of documents drawn anew, widened as they are few. Reach: a token is exchanged, and the states of later
tokens are looked at layer by layer: none beyond l(W − 1) + 1 can differ after l layers, and what differs by less than
`FELT` is not much. Trap: bytes are of the memory that a cache keeps alive: a slice of a longer tensor keeps all of it.
Sources: Jiang et al. 2023 (Mistral 7B); Xiao et al. 2023 (attention sinks).
"""

from __future__ import annotations

import itertools
import time
import unicodedata
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pandas as pd
import torch
from transformers import Cache, DynamicCache, PreTrainedModel, PreTrainedTokenizerBase, StaticCache

from s2utils.architecture import cache
from s2utils.models import likelihood, loading
from s2utils.stats import intervals
from s2utils.workflow import progress
from s2utils.workflow.errors import ParameterError
from s2utils.workflow.notebook import Run
from s2utils.workflow.params import Params

FELT = 0.01  # of a state's length
NO_WINDOW = 0  # in the tables
TURNS = 6  # windows of text that `exactness` reads
TABLES = ("attention_window", "attention_reach", "cache", "cache_exact")


def make(run: Run) -> dict[str, pd.DataFrame]:
    """The tables by name, measured unless that is done: attention_window, attention_reach, cache, cache_exact."""
    made, p = run.artefact(step="windows"), run.params
    if not made.ready:
        given = p.attention_windows
        held_out = pd.read_parquet(run.require("corpus").folder / "held_out.parquet")
        tok, model = loading.tokenizer(given.model), loading.full(given.model, p.model.dtype, p.runtime.device)
        ids = rows(chosen(held_out, tok, given.documents, given.tokens), tok, model.device)
        with made.making():
            found = {"attention_window": by_window(model, ids, p)}
            moved = change(model, ids, given.reach_window)
            found["attention_reach"] = reach(moved, given.reach_window, p)
            found["cache"] = caches(cache.as_mistral(model, given.cache_window), ids[:1], p)
            found["cache_exact"] = exactness(model, ids[:1], given.reach_window)
            for name, frame in found.items():
                frame.to_parquet(made.folder / f"{name}.parquet", index=False)
    return {name: pd.read_parquet(made.folder / f"{name}.parquet") for name in TABLES}


def chosen(
    held_out: pd.DataFrame, tok: PreTrainedTokenizerBase, documents: int, tokens: int,
    lower: str = "attention_windows.tokens",
) -> pd.DataFrame:  # fmt: skip
    """The texts to read: domain, id, tokens (list of so many), of documents that have so many.

    The first of each domain, then the second, until there are `documents`, or all that there are; `held_out` has
    domain, id, text. ParameterError, which says what to `lower`, where there is none.
    """
    kept = []
    order = held_out.assign(turn=held_out.groupby("domain", sort=False).cumcount()).sort_values("turn", kind="stable")
    for row in order[order["text"].str.len() >= tokens].itertuples():
        text = unicodedata.normalize("NFC", row.text).strip()  # as some tokenizers do anyway
        ids = likelihood.encoded(tok, [text[: 20 * tokens].strip()])[0][:tokens]
        if len(ids) == tokens:
            kept.append({"domain": row.domain, "id": row.id, "tokens": ids})
        if len(kept) == documents:
            break
    if not kept:
        raise ParameterError(f"no held-out document has {tokens:,} tokens: lower {lower}")
    return pd.DataFrame(kept)


def rows(documents: pd.DataFrame, tok: PreTrainedTokenizerBase, device: torch.device | str = "cpu") -> torch.Tensor:
    """Token ids (B, T + 1) of `chosen`, each after the token that stands before a document."""
    start = likelihood.beginning(tok)
    return torch.tensor([[start, *ids] for ids in documents["tokens"]], device=device)


def losses(model: PreTrainedModel, ids: torch.Tensor, window: int | None, sinks: int = 0) -> np.ndarray:
    """Nats (B, T) of each token of texts (B, T + 1) after the first, one text at a time."""
    found = []
    for row in ids:
        logits = cache.windowed(model, row[None, :-1], window, sinks).logits[0]
        found.append(-likelihood.log_probabilities(logits, row[1:]).cpu().numpy())
    return np.stack(found)


def by_window(model: PreTrainedModel, ids: torch.Tensor, params: Params) -> pd.DataFrame:
    """One row a window, without sinks and with: window (0: none), sinks, n documents, loss and added, with intervals.

    `loss` in nats a token; `added` is the loss above that without a window, document by document.
    """
    given = params.attention_windows
    asked = [(window, sinks) for window in sorted(given.windows, reverse=True) for sinks in (0, given.sinks)]
    whole = losses(model, ids, None).mean(axis=1)  # (B,): documents are of one length, so a mean of means is a ratio
    found = [_window(NO_WINDOW, 0, whole, whole, params)]
    for window, sinks in progress.bar(asked, desc="windows", unit="window"):
        found.append(_window(window, sinks, losses(model, ids, window, sinks).mean(axis=1), whole, params))
    return pd.DataFrame(found)


def _window(window: int, sinks: int, loss: np.ndarray, whole: np.ndarray, params: Params) -> dict:
    facts = {"window": window, "sinks": sinks, "n": len(loss)} | intervals.mean_columns("loss", loss, params, few=True)
    return facts | intervals.columns("added", intervals.mean(loss - whole, params, few=True))


def change(model: PreTrainedModel, ids: torch.Tensor, window: int, place: int = 1) -> np.ndarray:
    """How far states move when the token at `place` is another: ‖difference‖ / ‖state‖, (layers + 1, B, T).

    After 0, 1, … layers; the last ones after the final norm. The other token is the one half the vocabulary away.
    """
    moved = []
    for row in ids[:, None]:  # one text at a time: all layers' states are held
        other = row.clone()
        other[:, place] = (row[:, place] + model.config.vocab_size // 2) % model.config.vocab_size
        before, after = (
            torch.cat(cache.windowed(model.base_model, text, window, output_hidden_states=True).hidden_states)
            for text in (row, other)
        )
        moved.append(((after - before).norm(dim=-1) / before.norm(dim=-1)).float().cpu().numpy())
    return np.stack(moved, axis=1)


def reach(moved: np.ndarray, window: int, params: Params, place: int = 1) -> pd.DataFrame:
    """One row a layer: window, layer, bound, n, reached (mean of documents, with its interval), felt, of `change`.

    In tokens, the changed one counted: `reached` is the farthest token that differs at all, `felt` by `FELT` or more;
    `bound` is l(W − 1) + 1, or what the texts are long.
    """
    found = []
    for layer, part in enumerate(moved):
        bound = min(layer * (window - 1) + 1, part.shape[1] - place)
        spread = {
            name: intervals.mean_columns(name, _farthest(part[:, place:] > least), params, few=True)
            for name, least in (("reached", 0), ("felt", FELT))
        }
        row = {"window": window, "layer": layer, "bound": bound, "n": len(part)}
        found.append(row | spread["reached"] | spread["felt"])
    return pd.DataFrame(found)


def _farthest(hit: np.ndarray) -> np.ndarray:
    """1 + the last place of each row (B, T) that is hit; 0 where none is."""
    return np.where(hit.any(axis=1), hit.shape[1] - hit[:, ::-1].argmax(axis=1), 0)


KINDS: dict[str, Callable] = {  # (model, its window, most tokens) → an empty cache
    "rolling buffer": lambda model, window, most: cache.RollingBuffer(
        model.config, 1, window, dtype=model.dtype, device=model.device
    ),
    "dynamic": lambda model, window, most: DynamicCache(),
    "dynamic, with config": lambda model, window, most: DynamicCache(config=model.config),
    "static": lambda model, window, most: StaticCache(config=model.config, max_cache_len=most),
}


@torch.no_grad()
def extend(model: PreTrainedModel, kept: cache.RollingBuffer | Cache, ids: torch.Tensor) -> torch.Tensor:
    """Logits (B, T, vocabulary) of new tokens (B, T), which a cache of ours or of transformers then holds."""
    if isinstance(kept, cache.RollingBuffer):
        return cache.extend(model, kept, ids)
    return model(input_ids=ids, past_key_values=kept, use_cache=True).logits


def held_bytes(kept: cache.RollingBuffer | Cache) -> int:
    """Bytes that a cache's keys and values keep alive, those of longer tensors that they are slices of too."""
    if isinstance(kept, cache.RollingBuffer):
        return kept.nbytes
    return sum(part.untyped_storage().nbytes() for layer in kept.layers for part in (layer.keys, layer.values))


def caches(model: PreTrainedModel, ids: torch.Tensor, params: Params) -> pd.DataFrame:
    """One row a kind, context and chunk: what a cache holds after so many tokens of one text, and how fast it goes on.

    `model` is one of Mistral's class whose window is set, `ids` (1, T). Columns: kind, context, chunk, window, bytes,
    peak_bytes (since the text began), slots (bytes over those of one token), n steps, tokens_per_second of these and
    its interval, max_difference of a logit from the whole text under the window's mask, of all tokens so far.
    """
    given, window = params.attention_windows, model.config.sliding_window
    whole = cache.windowed(model, ids, window).logits
    token = 2 * model.config.num_hidden_layers * model.config.num_key_value_heads * model.config.head_dim
    token *= whole.element_size()
    found = []
    for chunk in progress.bar(given.chunks, desc="caches", unit="chunk"):
        stores = {kind: empty(model, window, ids.shape[1]) for kind, empty in KINDS.items()}
        peak, off = dict.fromkeys(KINDS, 0), dict.fromkeys(KINDS, 0.0)
        for context, sizes in _plan(given.contexts, chunk, given.steps):
            rates = {kind: [] for kind in KINDS}
            for (start, size), (kind, kept) in itertools.product(sizes, stores.items()):  # in turn: noise meets all
                began = time.perf_counter()
                logits = extend(model, kept, ids[:, start : start + size])
                logits[0, -1].argmax().item()  # the next token, for which a GPU is waited for
                rates[kind] += [1 / (time.perf_counter() - began)] if start >= context else []
                off[kind] = max(off[kind], float((logits - whole[:, start : start + size]).abs().max()))
                peak[kind] = max(peak[kind], held_bytes(kept))
            for kind, kept in stores.items():
                row = {"kind": kind, "context": context, "chunk": chunk, "window": window, "bytes": held_bytes(kept)}
                row |= {"peak_bytes": peak[kind], "slots": row["bytes"] / token, "n": len(rates[kind])}
                row |= intervals.columns("tokens_per_second", intervals.mean(rates[kind], params, few=True))
                found.append(row | {"max_difference": off[kind]})
    return pd.DataFrame(found)


def _plan(contexts: Sequence[int], chunk: int, steps: int) -> Iterator[tuple[int, list[tuple[int, int]]]]:
    """(context, [(start, size) of what is read]): chunks up to each context, then `steps` single tokens."""
    done = 0
    for context in contexts:
        sizes = [(start, min(chunk, context - start)) for start in range(done, context, chunk)]
        yield context, sizes + [(context + step, 1) for step in range(steps)]
        done = context + steps


def exactness(model: PreTrainedModel, ids: torch.Tensor, window: int) -> pd.DataFrame:
    """One row a chunk (a token, W, and more than W): window, chunk, dtype, tokens, max_difference of a logit.

    The rolling buffer against transformers' own mask, far beyond W; on a CPU in float64, which `model` then is, for
    the rounding of float32 alone moves logits of a deep model by more than 1e-4 under any cache.
    """
    model = model.double() if model.device.type == "cpu" else model
    mistral, text = cache.as_mistral(model, window), ids[:1, : TURNS * window]
    with torch.no_grad():
        whole = mistral(input_ids=text, use_cache=False).logits
    found = []
    for chunk in (1, window, TURNS // 2 * window + 1):
        buffer = cache.RollingBuffer(mistral.config, 1, window, dtype=mistral.dtype, device=mistral.device)
        lengths = torch.tensor([text.shape[1]], device=text.device)
        logits = torch.cat(list(cache.read(mistral, buffer, text, lengths, chunk)), dim=1)
        row = {"window": window, "chunk": chunk, "dtype": str(mistral.dtype).removeprefix("torch.")}
        found.append(row | {"tokens": text.shape[1], "max_difference": float((logits - whole).abs().max())})
    return pd.DataFrame(found)
