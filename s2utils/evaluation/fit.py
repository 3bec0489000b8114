"""How well a model fits text of each domain: bits a byte, perplexity, Δ between models, loss by position.

A domain's value is a ratio of sums over its documents, each scored by itself (`models.likelihood`); intervals are of
documents drawn anew, widened as their number asks. Two averages over domains stand beside each other: `MACRO`, each
domain alike, as Paloma's, and `POOLED`, each byte alike. Units: bits a byte; perplexity a token; Δ in bits a byte; loss
by position in nats a token.
Traps: perplexity compares models of one tokenizer only; documents that reach a late position are long ones. Sources:
Gao et al. 2021 (The Pile: BPB, Δ); Magnusson et al. 2023 (Paloma: macro average); Jiang et al. 2024 (loss by context).
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from s2utils.data import decontamination
from s2utils.evaluation.parameters import Fit
from s2utils.models import likelihood, loading
from s2utils.stats import intervals, ratios
from s2utils.training import pretraining
from s2utils.workflow.params import ParameterError, Params

MACRO, POOLED = "all domains alike", "all bytes alike"
DOCUMENT = ["domain", "id"]


def chosen(documents: pd.DataFrame, settings: Fit, trained_on: list[str], words: int) -> tuple[pd.DataFrame, pd.Series]:
    """(the first `settings.documents` of each domain, cut to whole words; how many others were left out, by domain).

    `documents` has domain, id, text, which is composed (NFC) and loses the white space around it: tokenizers of some
    models do so, and all are to score the same bytes. One is left out that shares `words` words in a row with what the
    fine-tunes were trained on, and one that is empty.
    """
    seen = decontamination.index({"train": trained_on}, words)
    composed = documents["text"].map(lambda text: unicodedata.normalize("NFC", text).strip())
    texts = composed.map(lambda text: cut(text, settings.max_characters))
    hit = decontamination.hits(texts.tolist(), seen, words)["position"].unique()
    usable = texts.str.strip().ne("") & ~np.isin(np.arange(len(texts)), hit)
    left = documents.assign(text=texts)[usable]
    counts = (~usable).groupby(documents["domain"], sort=False).sum()
    return left.groupby("domain", sort=False).head(settings.documents).reset_index(drop=True), counts


def cut(text: str, characters: int) -> str:
    """The beginning of a text, at most `characters` long, that ends with a whole word where it has several."""
    if len(text) <= characters:
        return text
    start = text[:characters]
    whole = start if text[characters].isspace() else re.sub(r"\S+\Z", "", start)
    return whole.rstrip() or start


def score(
    model: PreTrainedModel, tok: PreTrainedTokenizerBase, documents: pd.DataFrame, settings: Fit, name: str = "fit"
) -> pd.DataFrame:
    """`documents` (domain, id, text) with n_tokens, n_bytes, nats, and losses (nats a token, float32) in place of text.

    `windows` says how long documents were read. Counts are of what was scored. Raises likelihood.BytesError where the
    tokenizer does not give back a text.
    """
    ids = likelihood.encoded(tok, documents["text"].tolist())
    read = windows(model, settings)
    losses = likelihood.losses(model, ids, likelihood.beginning(tok), read, settings.batch_tokens, name)
    n_bytes = [
        len((text if len(row) == len(loss) else tok.decode(row[: len(loss)]).rstrip("\ufffd")).encode())
        for text, row, loss in zip(documents["text"], ids, losses)
    ]
    sums = {"n_tokens": [len(loss) for loss in losses], "nats": [float(loss.sum(dtype=float)) for loss in losses]}
    return documents[DOCUMENT].assign(**sums, n_bytes=n_bytes, losses=losses, windows=read.policy)


def windows(model: PreTrainedModel, settings: Fit) -> likelihood.Windows:
    """Windows of the parameters; where a model has fewer positions, of so many, which overlap by the same share."""
    most = getattr(model.config.get_text_config(decoder=True), "max_position_embeddings", None) or settings.window
    length = min(settings.window, most)
    return likelihood.Windows(length, math.ceil(settings.stride * length / settings.window))


def policies(scores: dict[str, pd.DataFrame]) -> str:
    """How models (id → `score`) read long documents: as the first does, then who does otherwise, and how."""
    read: dict[str, list[str]] = {}
    for name, part in scores.items():
        read.setdefault(part["windows"].iat[0], []).append(name)
    first, *others = read.items()
    return "; ".join([first[0], *(f"{', '.join(names)}: {policy}" for policy, names in others)])


def by_domain(scores: pd.DataFrame, params: Params) -> pd.DataFrame:
    """One row a domain, then MACRO and POOLED: domain, n, n_tokens, n_bytes, bits_per_byte and perplexity, intervals.

    The perplexity of MACRO is e to the mean of the domains' losses, as Paloma's.
    """
    bits, nats, rows = {}, {}, []
    parts = dict(list(scores.groupby("domain", sort=False)))
    for place, (domain, part) in enumerate(parts.items()):
        for found, above, below in ((bits, part["nats"] / math.log(2), "n_bytes"), (nats, part["nats"], "n_tokens")):
            rng = np.random.default_rng([params.seed, place])  # both of a domain draw the same documents
            found[domain] = ratios.resampled(above, part[below], params.text_metrics.resamples, rng)
    for name, domains, part in [*((d, [d], part) for d, part in parts.items()), (MACRO, list(parts), scores)]:
        rows.append(_row(name, part, _mean(bits, domains), _mean(nats, domains), params))
    (value, drawn), a_token = (_pooled(scores, below, params) for below in ("n_bytes", "n_tokens"))
    a_byte = (value / math.log(2), drawn / math.log(2))
    return pd.DataFrame([*rows, _row(POOLED, scores, a_byte, a_token, params)])


def delta(scores: pd.DataFrame, reference: pd.DataFrame, domain: str, params: Params) -> pd.DataFrame:
    """Δ_set of a model against a reference model, by domain: domain, n, delta, delta_ci_low, delta_ci_high.

    (L_set − L_domain) of the model minus the same of the reference, in bits a byte: 0 at `domain` itself; above 0 the
    reference is relatively the better there. Both must have scored the same bytes of the same documents. Raises
    ParameterError where they have not, or where no document is of `domain`.
    """
    both = scores.merge(reference, on=DOCUMENT, suffixes=("", "_reference"), validate="one_to_one")
    if len(both) != len(scores) or len(both) != len(reference) or (both["n_bytes"] != both["n_bytes_reference"]).any():
        raise ParameterError(
            "Δ needs both models' losses on the same bytes of the same documents: score both anew, and with "
            "'fit.stride' above 0 where their tokenizers differ"
        )
    if domain not in set(both["domain"]):
        raise ParameterError(
            f"'fit.reference_domain': no document is of {domain!r}; there are {', '.join(sorted(set(both['domain'])))}"
        )
    apart = both.assign(bits=(both["nats"] - both["nats_reference"]) / math.log(2))
    drawn = {
        name: ratios.resampled(
            part["bits"], part["n_bytes"], params.text_metrics.resamples, np.random.default_rng([params.seed, place])
        )
        for place, (name, part) in enumerate(apart.groupby("domain", sort=False))
    }
    rows = []
    for name, (value, draws) in drawn.items():
        level, draws_of_level = drawn[domain]
        same = name == domain  # drawn together, so that the domain itself is 0 without doubt
        n, n_of_level = ((apart["domain"] == one).sum() for one in (name, domain))
        apart_from_it = (value - level, draws - draws_of_level)
        estimate = (0.0, 0.0, 0.0) if same else _interval(apart_from_it, params, [n, n_of_level])
        rows.append({"domain": name, "n": n} | intervals.columns("delta", estimate))
    return pd.DataFrame(rows)


def by_position(scores: pd.DataFrame, params: Params) -> pd.DataFrame:
    """Loss by place in the document: domain, position (first of the places 0, 1, 2–3, 4–7, …), n, loss, interval.

    `n` counts documents that reach there; the last row of a domain may hold part of its places.
    """
    rows = []
    for domain, part in scores.groupby("domain", sort=False):
        for start, end in places(int(part["n_tokens"].max())):
            inside = [np.asarray(loss[start:end], dtype=float) for loss in part["losses"] if len(loss) > start]
            above, below = [loss.sum() for loss in inside], [len(loss) for loss in inside]
            rng = np.random.default_rng(params.seed)
            drawn = ratios.resampled(above, below, params.text_metrics.resamples, rng)
            estimate = _interval(drawn, params, [len(inside)])
            row = {"domain": domain, "position": start, "n": len(inside)}
            rows.append(row | intervals.columns("loss", estimate))
    return pd.DataFrame(rows)


def samples(scores: pd.DataFrame) -> pd.DataFrame:
    """Bits a byte of every document by itself, as in `sample_scores`: dataset (the domain), question, metric, value."""
    keys = {"dataset": scores["domain"], "question": scores["id"], "metric": "bits_per_byte"}
    return pd.DataFrame(keys).assign(value=scores["nats"] / math.log(2) / scores["n_bytes"])


def of_checkpoints(folder: Path, rows: pd.DataFrame, documents: pd.DataFrame, params: Params) -> pd.DataFrame:
    """`by_domain` of the last checkpoint of every run of `rows` (`pretraining`), with run and seed.

    A document longer than such a model's context is read in windows that overlap by half.
    """
    last, found = rows.sort_values("tokens", kind="stable").groupby("run", sort=False).tail(1).sort_index(), []
    for row in last.itertuples():
        weights = pretraining.weights(folder, row, params)
        device = loading.nearest(params.runtime.device)
        model, tok = loading.full(weights, "float32", device), loading.tokenizer(weights)
        context = model.config.max_position_embeddings
        settings = params.fit.model_copy(update={"window": context, "stride": context // 2})
        found.append(by_domain(score(model, tok, documents, settings, ""), params).assign(run=row.run, seed=row.seed))
    return pd.concat(found, ignore_index=True)


def places(size: int) -> Iterator[tuple[int, int]]:
    """(first, one past the last) of the positions 0, 1, 2–3, 4–7, … of a text of `size` tokens."""
    start, end = 0, 1
    while start < size:
        yield start, end
        start, end = end, 2 * end


def _pooled(scores: pd.DataFrame, below: str, params: Params) -> tuple[float, np.ndarray]:
    """Nats over all documents' `below`; documents are drawn within their domain."""
    rng, sums = np.random.default_rng(params.seed), []
    for _, part in scores.groupby("domain", sort=False):
        places = rng.integers(0, len(part), (params.text_metrics.resamples, len(part)))
        part = part if len(part) > 1 else part.assign(nats=math.nan)  # one document shows no spread
        sums.append([part[column].to_numpy(float)[places].sum(axis=1) for column in ("nats", below)])
    above, total = np.sum(sums, axis=0)
    return float(scores["nats"].sum() / scores[below].sum()), above / total


def _mean(found: dict[str, tuple[float, np.ndarray]], domains: list[str]) -> tuple[float, np.ndarray]:
    values, drawn = zip(*(found[domain] for domain in domains))
    return float(np.mean(values)), np.mean(drawn, axis=0)


def _row(name: str, part: pd.DataFrame, bits: tuple, nats: tuple, params: Params) -> dict:
    counts = {"domain": name, "n": len(part), **{c: int(part[c].sum()) for c in ("n_tokens", "n_bytes")}}
    perplexity = (math.exp(nats[0]), np.exp(nats[1]))
    for metric, found in (("bits_per_byte", bits), ("perplexity", perplexity)):
        counts |= intervals.columns(metric, _interval(found, params, part["domain"].value_counts()))
    return counts


def _interval(found: tuple[float, np.ndarray], params: Params, sizes: Sequence[int]) -> tuple[float, float, float]:
    """Of a value and its draws, from so many documents in each domain."""
    value, drawn = found
    return value, *intervals.percentiles(drawn, params.text_metrics.confidence, sizes)
