"""Log-likelihoods of whole documents: the loss of every token, in nats, and what it is in bits a byte.

Each document is scored by itself, never concatenated, and after one token of the model's own (BOS, else EOS), so that
its first token has a loss too. A document longer than the model's window is read as `Windows` say. Windows are packed
into passes of at most `tokens` tokens without padding: a mask keeps them apart, and positions begin anew in each. The
output head and the softmax run on `ROWS` positions at a time, so that memory never holds tokens × vocabulary; what a
model does to its logits after the head (a scale, a cap) its own forward does there.

Trap: bits a byte compare tokenizers only where the tokens give back the text's bytes; `encoded` raises where they do
not. Sources: Gao et al. 2021 (The Pile: BPB = (L_T/L_B)·ℓ/ln 2, documents by themselves); lm-evaluation-harness 0.4.13
(rolling windows: disjoint, the last one filled up with context).
"""

from __future__ import annotations

import itertools
import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from tqdm.auto import tqdm
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from s2utils.workflow.errors import UserError

ROWS = 128  # of logits whose softmax is taken at once


class BytesError(UserError, ValueError):
    """A tokenizer that cannot give back a text's bytes, so that bits a byte would lie."""


@dataclass(frozen=True)
class Windows:
    """How a document is read that is longer than a window of `length` tokens (the token before it counts as one).

    `stride` 0: its first window alone, what lies beyond is not scored. Else windows advance by `stride` tokens, and of
    each only what is new is scored, after the `length - stride` before it; `stride == length` has disjoint windows.
    """

    length: int
    stride: int

    def __post_init__(self) -> None:
        if not (self.length > 0 and 0 <= self.stride <= self.length):
            raise ValueError(f"stride must be 0 to the window's length {self.length}, not {self.stride}")

    @property
    def policy(self) -> str:
        """What a table says of it."""
        if not self.stride:
            return f"first window of {self.length:,} tokens"
        return f"windows of {self.length:,} tokens, stride {self.stride:,}"

    def over(self, size: int) -> Iterator[tuple[int, int, int]]:
        """(first token read, first scored, one past the last) of every window over `size` tokens after one of its own.

        Places are in the sequence with that token in front, so token i of the document is predicted from ..i.
        """
        start = 0
        while start < size:
            end = min(self.length if not start else start + self.stride, size)
            yield max(0, end - self.length), start, end
            if not self.stride:
                return
            start = end


@dataclass(frozen=True)
class Window:
    """Tokens of a document that are read at once, from `begin`, and those whose loss is taken, from `start` to `end`.

    Places count the token in front of the document, so the token at `start` of the document is predicted from what
    stands before it.
    """

    document: int
    begin: int
    start: int
    end: int

    @property
    def size(self) -> int:
        """How many tokens are read."""
        return self.end - self.begin


def log_probabilities(logits: torch.Tensor, targets: torch.Tensor, dtype=torch.float32) -> torch.Tensor:
    """Log-probabilities in nats (R,) of `targets` (R,) under `logits` (R, vocabulary); softmax in `dtype`."""
    return torch.log_softmax(logits, dim=-1, dtype=dtype).gather(-1, targets[:, None])[:, 0]


def longest_exact(config: PretrainedConfig) -> float:
    """Number of positions up to which attention is plain: no window is full and no rotary frequency has changed."""
    values = config.get_text_config(decoder=True).to_dict()
    limits = [
        value
        for key, value in values.items()
        if ("window" in key or "chunk" in key) and "layers" not in key and type(value) is int and value > 0
    ]
    rotary = values.get("rope_parameters") or values.get("rope_scaling") or {}
    if "dynamic" in str(rotary) or "longrope" in str(rotary):
        original = rotary.get("original_max_position_embeddings") or values.get("original_max_position_embeddings")
        limits.append(original or values["max_position_embeddings"])
    return min(limits, default=math.inf)


def encoded(tok: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """Tokens of each text, no special ones; what looks like one is the characters it is.

    Raises BytesError where they do not decode to the text again, or it has no bytes: the text's number (from 0), the
    character where it differs, and what to do.
    """
    for number, text in enumerate(texts):
        if half := re.search("[\ud800-\udfff]", text):
            raise BytesError(
                f"text {number}, character {half.start()}: half a surrogate pair has no UTF-8 bytes; leave the text out"
            )
    ids = tok(list(texts), add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]
    for number, (text, row) in enumerate(zip(texts, ids)):
        if (back := tok.decode(row, clean_up_tokenization_spaces=False)) != text:
            at = len(os.path.commonprefix([text, back]))
            raise BytesError(
                f"text {number}: the tokenizer {tok.name_or_path or type(tok).__name__} does not give back its bytes "
                f"(character {at}: {text[at : at + 20]!r} comes back as {back[at : at + 20]!r}), so bits a byte would "
                "be of another text: take a tokenizer that does not normalise, or normalise the texts first"
            )
    return ids


def beginning(tok: PreTrainedTokenizerBase) -> int:
    """The token that stands before a document: BOS, or EOS where there is none, as lm-eval takes it."""
    token = tok.bos_token_id if tok.bos_token_id is not None else tok.eos_token_id
    if token is None:
        raise ValueError(f"the tokenizer {tok.name_or_path} has neither BOS nor EOS to stand before a document")
    return token


def bits_per_byte(nats: float, n_bytes: int) -> float:
    """(L_T/L_B)·ℓ/ln 2 of a text's summed loss in nats over its bytes; NaN without bytes."""
    return nats / n_bytes / math.log(2) if n_bytes else math.nan


@torch.inference_mode()
def losses(
    model: PreTrainedModel,
    documents: Sequence[Sequence[int]],
    first: int | Sequence[int],
    windows: Windows,
    tokens: int = 512,
    progress: str = "",
) -> list[np.ndarray]:
    """Loss of every scored token of every document, in nats; each float32 (T,), T at most the document's tokens.

    `documents` are token ids, `first` stands before each: one for all, or one a document. `tokens` bounds a pass,
    unless a single window is longer. What a model says does not depend on it: one that windows in a pass would disturb
    gets a window a pass.
    """
    jobs = [Window(i, *places) for i, ids in enumerate(documents) for places in windows.over(len(ids))]
    ends = {job.document: job.end for job in jobs}  # of its last window
    scored = [np.empty(ends.get(i, 0), np.float32) for i in range(len(documents))]
    before = [first] * len(documents) if isinstance(first, int) else first
    share_a_pass, body, head = _halves(model)
    bar = tqdm(total=sum(job.size for job in jobs), unit="token", disable=not progress, desc=progress or None)
    for pack in packed(jobs, tokens if share_a_pass else 1):
        read = [[before[job.document], *documents[job.document]][job.begin : job.end] for job in pack]
        targets = [documents[job.document][job.start : job.end] for job in pack]
        wanted = np.concatenate([np.arange(job.begin, job.end) >= job.start for job in pack])
        states = body(*_row(read, model.device))[0][torch.from_numpy(wanted).to(model.device)]
        known = torch.tensor(list(itertools.chain(*targets)), device=model.device)
        found = torch.empty(len(known), device=model.device)  # small ones between large ones would keep these
        for i in range(0, len(known), ROWS):
            found[i : i + ROWS] = log_probabilities(head(states[i : i + ROWS]), known[i : i + ROWS])
        values = np.split(-found.cpu().numpy(), np.cumsum([len(part) for part in targets])[:-1])
        for job, part in zip(pack, values):
            scored[job.document][job.start : job.end] = part
        bar.update(len(wanted))
    bar.close()
    return scored


def packed(jobs: Sequence[Window], tokens: int) -> Iterator[list[Window]]:
    """Windows in passes of at most `tokens` tokens, each filled up with the longest that still fit; longest first."""
    left = sorted(jobs, key=lambda job: (-job.size, job.document, job.begin))
    while left:
        room, taken, later = tokens, [], []
        for job in left:
            fits = not taken or job.size <= room
            (taken if fits else later).append(job)
            room -= job.size if fits else 0
        yield taken
        left = later


def _row(parts: list[list[int]], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and positions (1, T) of windows in one row; transformers keeps apart what begins at position 0 anew."""
    places = itertools.chain.from_iterable(range(len(part)) for part in parts)
    ids = torch.tensor([list(itertools.chain.from_iterable(parts))], device=device)
    return ids, torch.tensor([list(places)], device=device)


def _halves(model: PreTrainedModel) -> tuple[bool, Callable, Callable]:
    """(whether windows share a pass, ids and positions → last states (1, T, width), states (R, width) → logits).

    The quickest halves that have the logits of the model's own forward. Where none have them (its forward does more
    than call `base_model` and a head), the states are its logits, as long as a window.
    """
    model = model.get_base_model() if hasattr(model, "get_base_model") else model

    def packing(ids: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        return model.base_model(input_ids=ids, position_ids=places, use_cache=False).last_hidden_state

    def alone(ids: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        return model.base_model(input_ids=ids, use_cache=False).last_hidden_state

    heads = (model.get_output_embeddings(), partial(_logits_of, model))
    for share_a_pass, body in ((True, packing), (False, alone)):
        for head in heads:
            if _agree(model, body, head, share_a_pass):
                return share_a_pass, body, head
    return False, lambda ids, places: model(input_ids=ids, use_cache=False).logits, lambda logits: logits


def _logits_of(model: PreTrainedModel, states: torch.Tensor) -> torch.Tensor:
    """Logits (R, vocabulary) that the model's own forward makes of last hidden states (R, width)."""

    def put(module, given, output):
        output.last_hidden_state = states[None]
        return output

    hook = model.base_model.register_forward_hook(put)
    try:
        return model(input_ids=torch.zeros(1, 1, dtype=torch.long, device=states.device), use_cache=False).logits[0]
    finally:
        hook.remove()


def _agree(model: PreTrainedModel, body: Callable, head: Callable, together: bool) -> bool:
    """Whether three short windows, `together` in a row or each by itself, have the logits of the model's own forward.

    They have not where it takes no positions, mixes positions by a state, or scales its logits after the head.
    """
    draw, size = np.random.default_rng(0), model.get_input_embeddings().num_embeddings
    parts = [draw.integers(0, size, length).tolist() for length in (9, 5, 12)]
    try:
        read = [parts] if together else [[part] for part in parts]
        found = torch.cat([head(body(*_row(row, model.device))[0]) for row in read]).float()
    except (TypeError, AttributeError, ValueError):  # whatever a model says to an argument it does not know
        return False
    own = torch.cat([model(input_ids=_row([part], model.device)[0], use_cache=False).logits[0] for part in parts])
    if found.shape != own.shape:
        return False
    apart = (found.log_softmax(-1) - own.float().log_softmax(-1)).abs().max()
    return bool(apart <= (1e-3 if model.dtype == torch.float32 else 1.0))
