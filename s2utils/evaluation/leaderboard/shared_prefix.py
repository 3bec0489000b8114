"""`hf-shared-prefix`: an lm-eval model backend that forwards each token of the requests' prefix tree once.

The (context, continuation) pairs of a call, tokenised and truncated as lm-eval's `hf` does, are merged into one prefix
tree: a context is computed once for its continuations, a few-shot head once for its documents. The tree is walked
depth first in chunks of at most `tokens` nodes, each one row without padding: a mask shows a node its ancestors, its
position is its depth. Between chunks the KV cache keeps the ancestors of the next node, so that all branches read one
cache; the output head runs only where a prediction is asked. Log-likelihoods are in nats.

Trap: a mask of columns cannot say "the last n positions", so sliding windows, ALiBi and recurrent states cannot follow
the tree. A model that has one, or fails the test at first use, is computed by `hf` itself, and a warning says why.
Source: lm-evaluation-harness 0.4.13 (`LM` API); tree attention as in SpecInfer (Miao et al. 2024).

Its own command line: `python -m s2utils.evaluation.leaderboard.shared_prefix run --model hf-shared-prefix --model_args
pretrained=…`.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from lm_eval.api.registry import register_model
from lm_eval.models.huggingface import HFLM
from tqdm import tqdm
from transformers import DynamicCache

from s2utils.models import likelihood
from s2utils.models.likelihood import ROWS

Request = tuple[tuple[str, str] | None, list[int], list[int]]  # (texts, context ids, continuation ids)


@dataclass(frozen=True)
class Tree:
    """Prefix tree of token sequences, nodes numbered depth first; all arrays (N,) unless said."""

    tokens: np.ndarray
    depths: np.ndarray  # position of the token in its sequences
    ends: np.ndarray  # one past the node's last descendant: m is an ancestor of n, or n, where m <= n < ends[m]
    starts: np.ndarray  # (R,) first node of every sequence that is not a prefix of another
    tails: list[np.ndarray]  # for each sequence its last nodes, as many as were asked for


def grow(sequences: Sequence[Sequence[int]], asked: Sequence[int]) -> Tree:
    """Tree of `sequences`; `asked[i]` is the number of last nodes of sequence i to be remembered."""
    tails = [np.empty(0, np.int64)] * len(sequences)
    tokens, depths, starts, closed, size = [], [], [], [], 0
    before, path = np.empty(0, np.int64), np.empty(0, np.int64)
    for i in sorted(range(len(sequences)), key=sequences.__getitem__):
        ids = np.asarray(sequences[i], dtype=np.int64)
        least = min(len(ids), len(before))
        differs = np.flatnonzero(ids[:least] != before[:least])
        shared = differs[0] if len(differs) else least
        if shared < len(ids):
            starts.append(size)
        closed.append((path[shared:], size))
        path = np.concatenate([path[:shared], np.arange(size, size + len(ids) - shared)])
        tokens.append(ids[shared:])
        depths.append(np.arange(shared, len(ids)))
        tails[i] = path[len(ids) - asked[i] :].copy()
        size, before = size + len(ids) - shared, ids
    ends = np.full(size, size)
    for nodes, end in closed:
        ends[nodes] = end
    return Tree(np.concatenate(tokens), np.concatenate(depths), ends, np.array(starts), tails)


def chunks(tree: Tree, tokens: int) -> list[tuple[int, int]]:
    """(first, one past the last) node of every forward pass, at most `tokens` each.

    A branch of more than half a chunk, as a new document is, starts a chunk: the rest of the one before would only be
    masked from it. What lies between two such branches is cut into equal parts.
    """
    size = len(tree.tokens)
    long = np.diff(tree.starts, append=size) > tokens / 2
    groups = np.unique([0, *tree.starts[long], size]).tolist()
    bounds = []
    for first, last in itertools.pairwise(groups):
        parts = math.ceil((last - first) / tokens)
        bounds += [first + (last - first) * part // parts for part in range(parts)]
    return list(itertools.pairwise([*bounds, size]))


@register_model("hf-shared-prefix")
class SharedPrefixLM(HFLM):
    """lm-eval's `hf` with its arguments, and log-likelihoods from the prefix tree.

    `tokens` bounds a forward pass: its logits, its mask (tokens × (longest sequence + tokens)) and its keys and values.
    `batch_size` is left for generation and for models that `hf` computes; no log-likelihood here depends on it.
    """

    def __init__(self, *args, tokens: int | None = None, **kwargs):
        super().__init__(*args, **kwargs)
        if tokens is not None and tokens < 1:
            raise ValueError(f"tokens={tokens}: a forward pass takes at least one token, for example tokens=256")
        self.tokens = tokens or (256 if self.device.type == "cpu" else 2048)
        self.forwarded, self.fallback = 0, ""

    def _loglikelihood_tokens(
        self, requests: list[Request], disable_tqdm: bool = False, override_bs: int | None = None
    ) -> list[tuple[float, bool]]:
        """(log-likelihood, is greedy) of every request, in their order."""
        if not requests:
            return []
        kept = self.max_length + 1  # the last token is predicted, not read
        sequences = [(context + continuation)[-kept:] for _, context, continuation in requests]
        asked = [len(continuation) for _, _, continuation in requests]
        room = likelihood.longest_exact(self.model.config) - max(map(len, sequences))  # for a chunk's path
        self.fallback = self._obstacle(room)
        if self.fallback:
            logging.getLogger(__name__).warning("computed by plain hf, prefixes not shared: %s", self.fallback)
            return super()._loglikelihood_tokens(requests, disable_tqdm, override_bs)
        answers = self._score(sequences, asked, min(self.tokens, room), disable_tqdm)
        for (texts, _, _), answer in zip(requests, answers):
            if texts is not None:  # parts of a rolling request have none
                self.cache_hook.add_partial("loglikelihood", texts, answer)
        return answers

    @torch.no_grad()
    def _score(
        self, sequences: list[list[int]], asked: list[int], tokens: int, disable_tqdm: bool = True
    ) -> list[tuple[float, bool]]:
        """(log-likelihood, is greedy) of the last `asked` tokens of every sequence."""
        tree = grow([ids[:-1] for ids in sequences], asked)
        nodes = np.concatenate(tree.tails)
        order = np.argsort(nodes, kind="stable")
        nodes = nodes[order]
        targets = np.concatenate([ids[-n:] for ids, n in zip(sequences, asked)])
        arrays = (tree.tokens, tree.depths, tree.ends, order, targets)
        ids, depths, ends, order, targets = (torch.from_numpy(array).to(self.device) for array in arrays)
        values, hits = None, torch.empty(len(targets), dtype=torch.bool, device=self.device)
        cache, columns = DynamicCache(), torch.empty(0, dtype=torch.long, device=self.device)
        progress = tqdm(total=len(tree.tokens), unit="token", disable=disable_tqdm or self.rank != 0)
        for first, last in chunks(tree, tokens):
            rows = torch.arange(first, last, device=self.device)
            columns = torch.cat([columns, rows])
            visible = (columns <= rows[:, None]) & (rows[:, None] < ends[columns])  # (rows, columns)
            begin, end = np.searchsorted(nodes, [first, last])
            wanted, back = np.unique(nodes[begin:end] - first, return_inverse=True)
            logits = self._forward(ids[first:last], depths[first:last], visible, cache, wanted)
            for row in range(0, len(wanted), ROWS):
                scores = torch.log_softmax(logits[row : row + ROWS], dim=-1, dtype=self.softmax_dtype).to(self.device)
                if values is None:
                    values = scores.new_empty(len(targets))
                low, high = np.searchsorted(back, [row, row + ROWS])  # wanted rows and nodes rise together
                slots = order[begin + low : begin + high]
                rows_of, target = torch.from_numpy(back[low:high] - row).to(self.device), targets[slots]
                values[slots] = scores[rows_of, target]
                hits[slots] = scores.argmax(-1)[rows_of] == target
            cache, columns = _pruned(cache, columns, ends[columns] > last)
            self.forwarded += last - first
            progress.update(last - first)
        progress.close()
        return [(float(v.sum()), bool(h.all())) for v, h in zip(values.cpu().split(asked), hits.cpu().split(asked))]

    def _forward(self, ids, depths, visible: torch.Tensor, cache: DynamicCache, wanted: np.ndarray) -> torch.Tensor:
        """Logits (W, vocabulary) of the `wanted` rows (W,); keys and values of all rows are added to `cache`."""
        mask = torch.zeros(visible.shape, dtype=self.model.dtype, device=visible.device)
        mask.masked_fill_(~visible, torch.finfo(mask.dtype).min)
        keep = torch.from_numpy(wanted).to(self.device) if len(wanted) else 1  # a head over no rows is not tried
        with torch.autocast(
            self.device.type, dtype=self.mixed_precision_dtype, enabled=self.mixed_precision_dtype is not None
        ):
            return self.model(
                input_ids=ids[None], position_ids=depths[None], attention_mask=mask[None, None],
                past_key_values=cache, use_cache=True, logits_to_keep=keep,
            ).logits[0]  # fmt: skip

    def _obstacle(self, room: float) -> str:
        """Why the tree cannot be used with `room` tokens a chunk; empty if it can."""
        if self.backend != "causal":
            return "the model is not decoder-only"
        if room < min(self.tokens, 64):
            return "requests are longer than what this model attends to in full"
        if getattr(getattr(self, "accelerator", None), "distributed_type", "NO") == "FSDP":
            return "ranks of a sharded model must run the same number of passes"
        return self._failed_check

    @functools.cached_property
    def _failed_check(self) -> str:
        """What goes wrong on a small tree of random tokens, compared with `hf`; empty if nothing does."""
        model = self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model
        missing = {"position_ids", "past_key_values", "logits_to_keep"} - set(
            inspect.signature(model.forward).parameters
        )
        if missing:
            return f"{type(model).__name__} takes no {', '.join(sorted(missing))}"
        draw, size = np.random.default_rng(0), model.get_input_embeddings().num_embeddings
        ids = draw.integers(0, size, 48).tolist()
        shapes = [(0, 16, 0), (0, 16, 16), (0, 8, 28), (0, 12, 36), (4, 12, 40)]  # forks at depths 16, 8, 12 and 0
        requests = [(None, ids[start:fork], ids[own : own + 8]) for start, fork, own in shapes]
        plain = [context + rest for _, context, rest in requests]
        other = [[*s[:-2], (s[-2] + 1) % size, s[-1]] for s in plain]
        asked, halves = [8] * len(plain), (slice(0, None, 2), slice(1, None, 2))
        try:
            ours = self._score(plain, asked, 32)
            theirs = super()._loglikelihood_tokens(requests, disable_tqdm=True, override_bs=1)
            for half in halves:  # exact in any dtype: what happens in other branches must not be felt
                mixed = list(other)
                mixed[half] = plain[half]
                if self._score(mixed, asked, 32)[half] != ours[half]:
                    return "branches of a small tree see each other"
        except Exception as error:  # whatever a model says to an argument it does not know
            return f"{type(error).__name__}: {error}"
        finally:
            self.forwarded = 0
        off = max(abs(a[0] - b[0]) for a, b in zip(ours, theirs))
        exact = self.model.dtype == torch.float32 and self.mixed_precision_dtype is None
        return "" if off <= (1e-3 if exact else 2.0) else f"log-likelihoods of a small tree are {off:.3g} nat off"


def _pruned(cache: DynamicCache, columns: torch.Tensor, keep: torch.Tensor) -> tuple[DynamicCache, torch.Tensor]:
    """Cache and its columns (node numbers) without those that no later node can see."""
    if not keep.any():
        return DynamicCache(), columns[:0]
    index = torch.nonzero(keep)[:, 0]
    for layer in cache.layers:
        layer.keys = layer.keys.index_select(2, index.to(layer.keys.device))
        layer.values = layer.values.index_select(2, index.to(layer.values.device))
    return cache, columns[index]


if __name__ == "__main__":
    from lm_eval.__main__ import cli_evaluate

    cli_evaluate()
