"""Statistics of routing: who gets the tokens, how often neighbours share an expert, which experts go together.

`choices` is (T, k): the experts of each token, best first, k different ones; `documents` (T,) says whose token it is,
tokens of a document in a run and in order. Shares are 0–1, with intervals over documents (whole ones are drawn).
Repeats from a token to its successor stand beside three nulls: choices that are uniform (first: 1/E; any:
1 − C(E−k,k)/C(E,k)), and choices as frequent as these but without order (first: Σp²; any: 1 − Σ q(S)·q(T) over sets S
and T that share none), as frequent in all documents together and in each alone: documents that differ repeat above the
former with no order in them. Trap: the line of even shares is k/E of tokens and 1/E of assignments; here of the
latter.
Source: Jiang et al. 2024 (Mixtral), section 5.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from s2utils.stats import intervals
from s2utils.workflow.params import Params

CHUNK = 2048  # sets whose overlap with all others is looked up at a time


def shares(choices: np.ndarray, documents: np.ndarray, n_experts: int, params: Params) -> pd.DataFrame:
    """One row a choice (first, second, any) and expert: n (tokens), n_documents, share of assignments with interval."""
    ranks = {"first": choices[:, :1], "second": choices[:, 1:2], "any": choices}
    names, place = np.unique(documents, return_inverse=True)
    rows = []
    for choice, index in ranks.items():
        if index.shape[1] == 0:  # of one expert a token
            continue
        cells = (place[:, None] * n_experts + index).ravel()
        hits = np.bincount(cells, minlength=len(names) * n_experts).reshape(len(names), n_experts)
        for expert, estimate in enumerate(_estimates(hits, hits.sum(axis=1), len(index), params)):
            rows.append({"expert": expert, "choice": choice} | estimate)
    return pd.DataFrame(rows)


def repeats(choices: np.ndarray, documents: np.ndarray, n_experts: int, params: Params) -> pd.DataFrame:
    """A row each for `first` (same best expert as the token before) and `any` (one of k in common), with the nulls.

    n is pairs of neighbours within a document. NaN where no document has two tokens.
    """
    inside = documents[1:] == documents[:-1]
    before, after = choices[:-1][inside], choices[1:][inside]
    pairs = by_document(np.ones(len(before)), documents[1:][inside])
    same = {
        "first": before[:, 0] == after[:, 0],
        "any": (before[:, :, None] == after[:, None, :]).any(axis=(1, 2)),
    }
    rows = []
    for kind, hit in same.items():
        k = 1 if kind == "first" else choices.shape[1]
        estimate = _estimate("repeats", by_document(hit, documents[1:][inside]), pairs, len(before), params)
        nulls = {
            "uniform_null": uniform_null(n_experts, k),
            "marginal_null": marginal_null(choices[:, :k], n_experts),
            "document_null": document_null(choices[:, :k], documents, n_experts),
        }
        rows.append({"kind": kind} | estimate | nulls)
    return pd.DataFrame(rows)


def uniform_null(n_experts: int, k: int) -> float:
    """Chance that two tokens share an expert if each draws k of E at random: 1 − C(E−k,k)/C(E,k), 1/E for one."""
    return 1 - math.comb(n_experts - k, k) / math.comb(n_experts, k)


def marginal_null(choices: np.ndarray, n_experts: int) -> float:
    """Chance that two tokens drawn from these (T, k), with replacement, share an expert: frequencies alone."""
    sets, counts = np.unique(np.sort(choices, axis=1), axis=0, return_counts=True)
    member = np.zeros((len(sets), n_experts), dtype=np.float32)
    np.put_along_axis(member, sets, 1, axis=1)
    q = counts / counts.sum()
    apart = 0.0
    for start in range(0, len(sets), CHUNK):
        rows = slice(start, start + CHUNK)
        apart += float(q[rows] @ ((member[rows] @ member.T) == 0) @ q)
    return 1 - apart


def document_null(choices: np.ndarray, documents: np.ndarray, n_experts: int) -> float:
    """Chance that neighbours share an expert if each document's tokens (T, k) stood in any order: its own frequencies.

    Documents weigh by their pairs of neighbours, as in `repeats`; NaN where none has two tokens.
    """
    names, place, sizes = np.unique(documents, return_inverse=True, return_counts=True)
    shared = 0.0
    for document in np.flatnonzero(sizes > 1):
        # a token shares with itself, and is not its own neighbour
        shared += sizes[document] * marginal_null(choices[place == document], n_experts) - 1
    pairs = (sizes - 1).sum()
    return float(shared / pairs) if pairs else math.nan


def co_activation(choices: np.ndarray, documents: np.ndarray, n_experts: int, params: Params) -> pd.DataFrame:
    """One row a pair of experts: n, share of tokens that choose both, its interval, and both nulls.

    uniform_null is C(E−2,k−2)/C(E,k); marginal_null what their own shares give if they did not know of each other.
    """
    k = choices.shape[1]
    member = np.zeros((len(choices), n_experts), dtype=np.float32)
    np.put_along_axis(member, choices, 1, axis=1)
    names, place, sizes = np.unique(documents, return_inverse=True, return_counts=True)
    upper = np.triu_indices(n_experts, 1)
    tokens = [member[place == document] for document in range(len(names))]
    both = np.stack([(own.T @ own)[upper] for own in tokens])  # (documents, pairs)
    by_chance = k * (k - 1) / (n_experts * (n_experts - 1)) if n_experts > 1 else math.nan
    frequent = member.mean(axis=0, dtype=float)
    weight = np.outer(frequent, frequent)[upper]
    scale = math.comb(k, 2) / weight.sum() if weight.sum() else math.nan  # shares of all pairs sum to C(k, 2)
    estimates = _estimates(both, sizes, len(choices), params)
    return pd.DataFrame([
        {"expert": one, "other": other} | estimate | {"uniform_null": by_chance, "marginal_null": alike}
        for one, other, estimate, alike in zip(*upper, estimates, weight * scale)
    ])  # fmt: skip


def entropy(probabilities: np.ndarray, documents: np.ndarray, params: Params) -> dict[str, float]:
    """Mean entropy of a token's router in bits: n (tokens), n_documents, entropy with interval.

    `probabilities` (T, E), rows sum to 1 (router logits do not). log₂ E bits: it does not choose; 0: it is sure.
    ValueError for rows that do not sum to 1.
    """
    if not np.allclose(probabilities.sum(axis=1), 1, atol=1e-3):
        raise ValueError("rows do not sum to 1: these are logits; take their softmax first")
    logs = np.log2(probabilities, where=probabilities > 0, out=np.zeros_like(probabilities))
    bits = by_document(-(probabilities * logs).sum(axis=1), documents)
    sizes = by_document(np.ones(len(documents)), documents)
    given = params.text_metrics
    estimate = intervals.ratio(bits, sizes, given.resamples, given.confidence, params.seed, few=True)
    return {"n": len(documents), "n_documents": len(sizes)} | intervals.columns("entropy", estimate)


def experts_needed(choices: np.ndarray, documents: np.ndarray, batch_size: int, draws: int, seed: int) -> float:
    """Mean count of different experts that a batch of tokens, each of another document, needs.

    As in decoding, where a batch holds one token a sequence. ValueError where there are fewer documents.
    """
    names, starts, sizes = np.unique(documents, return_index=True, return_counts=True)
    if batch_size > len(names):
        raise ValueError(f"a batch of {batch_size} needs as many documents, there are {len(names)}")
    rng = np.random.default_rng(seed)
    needed = []
    for _ in range(draws):
        chosen = rng.choice(len(names), batch_size, replace=False)
        tokens = starts[chosen] + rng.integers(0, sizes[chosen])
        needed.append(len(np.unique(choices[tokens])))
    return float(np.mean(needed))


def by_document(values: np.ndarray, documents: np.ndarray) -> np.ndarray:
    """Sum of values (T,) of each document, in order of the documents' names."""
    _, place = np.unique(documents, return_inverse=True)
    return np.bincount(place, weights=values)


def _estimate(name: str, hits: np.ndarray, sizes: np.ndarray, n: int, params: Params) -> dict[str, float]:
    """n, n_documents, and a share with its interval over documents."""
    settings = params.text_metrics
    found = intervals.cluster_share(hits, sizes, settings.resamples, settings.confidence, params.seed, few=True)
    return {"n": n, "n_documents": len(sizes)} | intervals.columns(name, found)


def _estimates(hits: np.ndarray, sizes: np.ndarray, n: int, params: Params) -> list[dict[str, float]]:
    """`_estimate` of the share in every column of hits (documents, m), with the same draws."""
    given = params.text_metrics
    found = intervals.cluster_shares(hits, sizes, given.resamples, given.confidence, params.seed, few=True)
    return [{"n": n, "n_documents": len(sizes)} | intervals.columns("share", each) for each in found]
