"""What a model is trained on from nothing: documents drawn from domains by weight, packed into blocks of tokens.

A mix is {domain: weight}; weights are shares of the *bytes*, so that two mixes of one budget hold equally much text
whatever their tokenizer makes of it. Each domain gives its documents in a seeded order, all of them before one comes
again, and the next document comes from the domain that is furthest behind its share. Documents stand one after the
other, `DOCUMENT` before each, cut into blocks without regard to their ends (Brown and others 2020); blocks are then
put in a seeded order, so that any part of them holds the mix. Traps: a document can attend to the end of the one before
it; a domain smaller than its share is seen several times, which `epochs` tells.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from transformers import PreTrainedTokenizerBase

from s2utils.training import byte_bpe
from s2utils.workflow.errors import ParameterError

PIECE = 4000  # characters; longer documents are cut, so that a small budget holds more than two of them


class Blocks(NamedTuple):
    """Packed tokens, and where they are from."""

    ids: np.ndarray  # (n, context + 1) uint16; the last of a row is the first of the row that followed it in the text
    bytes: np.ndarray  # (n,) UTF-8 bytes that the tokens predicted in each row stand for
    domains: pd.DataFrame  # one row a domain: weight, documents, bytes, epochs, empty (documents without text)


def hold_out(texts: Mapping[str, Sequence[str]], n_bytes: int, seed: int) -> tuple[dict, dict]:
    """({domain: the other documents}, {domain: whole documents of `n_bytes` or a little more}), seeded.

    A copy of a document that is held out is in neither (The Pile's exact removal). ParameterError where a domain has
    too little text to leave any.
    """
    rest, held_out = {}, {}
    for domain, documents in texts.items():
        order, size, chosen = _generator(seed, domain).permutation(len(documents)), 0, set()
        while size < n_bytes and len(chosen) < len(documents):
            chosen.add(place := int(order[len(chosen)]))
            size += len(documents[place].encode())
        held_out[domain] = [documents[i] for i in sorted(chosen)]
        known = set(held_out[domain])
        rest[domain] = [document for document in documents if document not in known]
        if not any(rest[domain]):
            raise ParameterError(
                f"{domain}: {n_bytes:,} bytes held out leave nothing to train on: hold out less, or give more documents"
            )
    return rest, held_out


def pack(
    texts: Mapping[str, Sequence[str]],
    weights: Mapping[str, float],
    n_bytes: int,
    tok: PreTrainedTokenizerBase,
    context: int,
    seed: int,
) -> Blocks:
    """Blocks of `n_bytes` of text drawn by `weights`; the last tokens, fewer than `context`, are left out.

    ParameterError where weights do not sum to 1, a domain has no text, or the text fills no block.
    """
    drawn = _Drawn(texts, _checked(weights, texts), seed)
    begin, streams, batch = tok.convert_tokens_to_ids(byte_bpe.DOCUMENT), [], []
    for piece in drawn.pieces(n_bytes):
        batch.append(piece)
        if len(batch) == byte_bpe.AT_A_TIME:
            streams.append(_stream(batch, tok, begin))
            batch = []
    stream = np.concatenate([*streams, _stream(batch, tok, begin)])
    n = (len(stream) - 1) // context
    if n < 1:
        raise ParameterError(f"{n_bytes:,} bytes are {len(stream):,} tokens, no block of {context:,}: take more bytes")
    ids = np.lib.stride_tricks.sliding_window_view(stream, context + 1)[: n * context : context]
    ids = ids[np.random.default_rng(seed).permutation(n)]
    sizes = byte_bpe.token_bytes(tok)
    return Blocks(ids, np.array([sizes[row[1:]].sum() for row in ids]), drawn.record())


def _generator(seed: int, domain: str) -> np.random.Generator:
    """A domain's own, so that it gives the same documents in every mix."""
    return np.random.default_rng([seed, zlib.crc32(domain.encode())])


def _checked(weights: Mapping[str, float], texts: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """Weights above 0; ParameterError for what cannot be drawn by."""
    for domain, weight in weights.items():
        if not (math.isfinite(weight) and weight >= 0):
            raise ParameterError(f"the weight of {domain} is {weight}: give a share of the bytes, 0 to 1")
    if abs(math.fsum(weights.values()) - 1) > 1e-6:
        raise ParameterError(
            f"the weights {dict(weights)} sum to {math.fsum(weights.values()):g}, not 1: divide by that"
        )
    kept = {domain: weight for domain, weight in weights.items() if weight}
    for domain in kept:
        if not any(texts.get(domain, ())):
            raise ParameterError(
                f"the mix takes {domain}, of which there is no text: {', '.join(texts) or 'none'} is there"
            )
    return kept


def _stream(pieces: list[str], tok: PreTrainedTokenizerBase, begin: int) -> np.ndarray:
    """Tokens of pieces one after the other, `begin` before each."""
    rows = byte_bpe.ids(pieces, tok)
    return np.array([token for row in rows for token in (begin, *row)], dtype=np.uint16)


class _Drawn:
    """Pieces drawn from domains, and the count of what was."""

    def __init__(self, texts: Mapping[str, Sequence[str]], weights: dict[str, float], seed: int):
        self.texts, self.weights, self.seed = texts, weights, seed
        self.documents, self.bytes, self.empty = (dict.fromkeys(weights, 0) for _ in range(3))

    def pieces(self, n_bytes: int) -> Iterator[str]:
        """Pieces of `n_bytes` together; the last is cut, at most three bytes short where a character would be."""
        sources = {domain: self._of_domain(domain) for domain in self.weights}
        left = n_bytes
        while left > 0:
            domain = min(self.weights, key=lambda d: self.bytes[d] / self.weights[d])
            data = next(sources[domain]).encode()
            piece = data[:left].decode(errors="ignore")
            if not piece:
                return
            self.bytes[domain] += min(len(data), left)
            left -= len(data)
            yield piece

    def _of_domain(self, domain: str) -> Iterator[str]:
        """Its documents in a new order each time round, those longer than `PIECE` in parts that end with a line."""
        documents, rng = self.texts[domain], _generator(self.seed, domain)
        while True:
            for place in rng.permutation(len(documents)):
                text = documents[int(place)]
                self.documents[domain] += 1
                self.empty[domain] += not text
                while text:
                    end = len(text) if len(text) <= PIECE else text.rfind("\n", PIECE // 2, PIECE) + 1 or PIECE
                    yield text[:end]
                    text = text[end:]

    def record(self) -> pd.DataFrame:
        """See `Blocks.domains`."""
        rows = [
            (d, w, self.documents[d], self.bytes[d], self.documents[d] / len(self.texts[d]), self.empty[d])
            for d, w in self.weights.items()
        ]
        return pd.DataFrame(rows, columns=["domain", "weight", "documents", "bytes", "epochs", "empty"])
