"""Loss by position under windows and scaled positions, within the trained length and beyond it.

Every token is predicted from all before it, or from those in a window. Positions are left as they are, or scaled by
`factor` as transformers' `rope_parameters` name it: linear (all positions divided), dynamic (the base grows with the
text once that is longer than the trained length, NTK), yarn (slow frequencies divided, fast ones kept). Nothing is
trained for it, and frequencies are no weights, so a model is scaled by replacing them (`scaled`): what this costs is
seen within the trained length, what it gains beyond. Units: nats a token; intervals of documents drawn anew. Trap: only
documents that are long enough are read, so all positions are of the same documents and compare. Sources: Chen and
others 2023 (linear interpolation); Peng and others 2023 (YaRN); Jiang and others 2024 (Mixtral's loss by context).

    python -m s2utils make long_context cpu
"""

from __future__ import annotations

import contextlib
import copy
import gc
from collections.abc import Iterator

import numpy as np
import pandas as pd
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from s2utils.architecture import shapes
from s2utils.evaluation import attention_windows, fit, passkey
from s2utils.models import loading
from s2utils.stats import intervals
from s2utils.workflow import artefacts
from s2utils.workflow.notebook import Run
from s2utils.workflow.params import Params

PLAIN = "as trained"  # of positions


def make(run: Run) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(answers as `passkey.ask`, losses as `table`) of every model of `long_context.models`, unless that is done."""
    made, p = run.artefact(step="long_context"), run.params
    positions, answers = (made.folder / f"{name}.parquet" for name in ("positions", "answers"))
    if not made.ready:
        held_out = pd.read_parquet(run.require("corpus").folder / "held_out.parquet")
        with made.making():
            losses, asked = [], []
            for name, weights in p.long_context.models.items():
                model, tok = loading.full(weights, p.model.dtype, p.runtime.device), loading.tokenizer(weights)
                losses.append(table(model, tok, held_out, p, name, p.long_context.tokens))
                asked += passkey.ask(model, tok, p.passkey, p.seed, made.folder / f"{name}.jsonl", name)
                del model
                gc.collect()
            for file, frame in ((positions, pd.concat(losses)), (answers, pd.DataFrame(asked))):
                with artefacts.replacing(file, "wb") as out:
                    frame.to_parquet(out, index=False)
    return pd.read_parquet(answers), pd.read_parquet(positions)


def table(
    model: PreTrainedModel, tok: PreTrainedTokenizerBase, held_out: pd.DataFrame, params: Params, name: str, tokens: int
) -> pd.DataFrame:
    """One row a variant and position: model, trained, own_window, window, positions, position, n, loss, its interval.

    `position` is the first of 0, 1, 2–3, 4–7, …; `held_out` has domain, id, text, of which `tokens` are read.
    """
    given, found = params.long_context, []
    texts = attention_windows.chosen(held_out, tok, given.documents, tokens, "long_context.tokens or .factor")
    ids = attention_windows.rows(texts, tok, model.device)
    trained, own = model.config.max_position_embeddings, passkey.own_window(model)
    for rope in (PLAIN, *given.ropes):
        with scaled(model, rope, given.factor):
            for window in (passkey.NO_WINDOW, *given.windows) if rope == PLAIN else (passkey.NO_WINDOW,):
                losses = attention_windows.losses(model, ids, window or own or None)  # (documents, T)
                facts = {"model": name, "trained": trained, "own_window": own, "window": window, "positions": rope}
                found += [facts | row for row in _by_position(losses, params)]
    return pd.DataFrame(found)


@contextlib.contextmanager
def scaled(model: PreTrainedModel, rope: str, factor: float) -> Iterator[PreTrainedModel]:
    """The model with positions scaled, as they were again at the end; `PLAIN` leaves them."""
    own = model.base_model.rotary_emb
    if rope != PLAIN:
        config = copy.deepcopy(model.config)
        length = {"original_max_position_embeddings": config.max_position_embeddings} if rope == "yarn" else {}
        config.head_dim = shapes.head_dim(config)
        config.rope_parameters = dict(config.rope_parameters) | {"rope_type": rope, "factor": float(factor)} | length
        model.base_model.rotary_emb = type(own)(config=config).to(model.device)
    try:
        yield model
    finally:
        model.base_model.rotary_emb = own


def _by_position(losses: np.ndarray, params: Params) -> Iterator[dict]:
    for start, end in fit.places(losses.shape[1]):
        estimate = intervals.mean(losses[:, start:end].mean(axis=1), params, few=True)
        yield {"position": start, "n": len(losses)} | intervals.columns("loss", estimate)
