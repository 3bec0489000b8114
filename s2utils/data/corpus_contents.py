"""What a corpus holds: lengths, languages, pronouns, descriptors, toxicity, personal details, repeats, samples.

Every function takes the texts in their order and, where domains are told apart, a frame with one row a text (component,
domain, id). Shares are 0–1 of `n`, the documents (or sentences, paragraphs) that were looked at, `n_hits` of which had
it; the interval is Wilson's, or where the unit is smaller than a document, a bootstrap of whole documents. The domain
"all" pools the documents as they lie there, not weighted as a mix would be. Trap: pronouns and descriptors are English
words; `only` says which texts to look at, and the others are counted in `n_failed`.
Sources: Gao et al. 2020, The Pile; Soldaini et al. 2024, Dolma; Touvron et al. 2023, Llama 2, Tables 9 and 10.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence

import numpy as np
import pandas as pd

from s2utils.data import deduplication
from s2utils.stats import intervals
from s2utils.text import persons, pii
from s2utils.text.safe import visible
from s2utils.text.sentences import sentences
from s2utils.text.toxicity import toxicity
from s2utils.workflow.errors import UserError

CONFIDENCE = 0.95
RESAMPLES = 1000
ALL = "all"  # domains together
TOXIC = 0.5  # probability from which a text counts as toxic, as in Llama 2's corpus
PII_MOST = 5  # details; Dolma drops a document with more
PARAGRAPH = 13  # words; a shorter paragraph that repeats says little (a brace, a heading), as in Paloma
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
UNITS = ("characters", "bytes", "words", "tokens")
SHARE = ["n", "n_hits", "share", "share_ci_low", "share_ci_high"]


def measure(texts: Iterable[str], tokenizer=None, batch: int = 256) -> pd.DataFrame:
    """One row a text: characters, bytes (UTF-8), words (between white space) and, given a tokenizer, tokens.

    `tokenizer` is one of transformers; no special tokens are added, and one that stands in the text is read as plain
    characters. Texts are taken `batch` at a time, so that an iterable is never held whole.
    """
    rows = []
    for some in _batches(texts, batch):
        encoded = [text.encode("utf-8", "replace") for text in some]  # half a surrogate pair is a question mark
        counts = [[len(text), len(raw), len(text.split())] for text, raw in zip(some, encoded)]
        if tokenizer is not None:
            whole = [raw.decode() for raw in encoded]
            ids = tokenizer(whole, add_special_tokens=False, split_special_tokens=True)["input_ids"]
            counts = [[*count, len(tokens)] for count, tokens in zip(counts, ids)]
        rows += counts
    units = UNITS[: 3 + (tokenizer is not None)]
    return pd.DataFrame(rows, columns=units, dtype="int64")


def lengths(documents: pd.DataFrame, seed: int) -> pd.DataFrame:
    """One row a (domain, unit) of what `measure` gives: n, mean with interval, quantiles and the longest."""
    rows = []
    for (domain, part), unit in itertools.product(_domains(documents), UNITS):
        if unit not in part:
            continue
        values = part[unit].to_numpy(float)
        mean = intervals.bootstrap(values, RESAMPLES, CONFIDENCE, seed)
        rows.append((domain, unit, len(values), *mean, *np.quantile(values, QUANTILES), values.max()))
    quantiles = [f"q{round(100 * q):02d}" for q in QUANTILES]
    columns = ["domain", "unit", "n", "mean", "mean_ci_low", "mean_ci_high", *quantiles, "max"]
    return pd.DataFrame(rows, columns=columns)


def languages(codes: Sequence[str], published: pd.DataFrame | None = None) -> pd.DataFrame:
    """One row a language told (see `language.detect`): language, n, n_hits, share with interval, published share.

    The most frequent first. `published` has language and percent; a language of it that nobody told has no hits.
    """
    printed = {} if published is None else dict(zip(published["language"], published["percent"] / 100))
    counts = Counter(codes) + Counter()
    names = sorted({*counts, *printed}, key=lambda name: (-counts[name], -printed.get(name, 0), name))
    rows = [(name, *_share(counts[name], len(codes)), printed.get(name, math.nan)) for name in names]
    return pd.DataFrame(rows, columns=["language", *SHARE, "share_published"])


def pronouns(texts: Iterable[str], published: pd.DataFrame | None = None, only=None) -> pd.DataFrame:
    """As Llama 2's Table 9a: share of documents with any pronoun, and of these with each group's (percentages nest).

    Columns: axis, group, of (whose share it is), n, n_hits, share with interval, n_failed, published. `published` has
    axis, entry ("any", "she", "1st") and percent. `only`: Boolean, whether a text is looked at; all are without.
    """
    looked_at, n_failed = wanted(texts, only)
    printed = {}
    if published is not None:
        printed = {(row.axis, row.entry): row.percent / 100 for row in published.itertuples()}
    words = [word for group in persons.PRONOUNS.values() for word in group]
    found = persons.holds(looked_at, words)
    hits, start = {}, 0
    for name, group in persons.PRONOUNS.items():
        hits[name] = found[:, start : start + len(group)].any(axis=1)
        start += len(group)
    rows = []
    for axis, groups, base in (
        ("gender pronouns", persons.GENDERS, "documents with gender pronouns"),
        ("grammatical person", persons.PERSONS, "documents with pronouns"),
    ):
        any_of_them = np.column_stack([hits[name] for name in groups]).any(axis=1)
        entries = [("any", "all documents", any_of_them.sum(), len(found))]
        entries += [(name, base, hits[name].sum(), any_of_them.sum()) for name in groups]
        for name, of, n_hits, n in entries:
            value = printed.get((axis, name.removesuffix(" person")), math.nan)
            rows.append((axis, name, of, *_share(int(n_hits), int(n)), n_failed, value))
    return pd.DataFrame(rows, columns=["axis", "group", "of", *SHARE, "n_failed", "share_published"])


def demographics(texts: Iterable[str], published: pd.DataFrame | None = None, only=None, top: int = 5) -> pd.DataFrame:
    """As Llama 2's Table 9b: share of documents that name an axis, and of these each of its `top` descriptors' share.

    Columns: axis, descriptor ("any" first), of, n, n_hits, share with interval, n_failed, published. `published` has
    axis, axis_percent_of_documents, descriptor, percent_of_axis_documents. `only` as in `pronouns`.
    """
    looked_at, n_failed = wanted(texts, only)
    printed = {}
    if published is not None:
        printed = {(r.axis, r.descriptor): r.percent_of_axis_documents / 100 for r in published.itertuples()}
        printed |= {(r.axis, "any"): r.axis_percent_of_documents / 100 for r in published.itertuples()}
    found = persons.holds(looked_at, [term for terms in persons.DESCRIPTORS.values() for term in terms])
    rows, start = [], 0
    for axis, terms in persons.DESCRIPTORS.items():
        part = found[:, start : start + len(terms)]
        start += len(terms)
        n = int(part.any(axis=1).sum())
        first = sorted(zip(-part.sum(axis=0), terms))[:top]
        entries = [("any", "all documents", n, len(part))]
        entries += [(term, "documents that name the axis", int(-count), n) for count, term in first if count]
        for name, of, n_hits, base in entries:
            rows.append((axis, name, of, *_share(n_hits, base), n_failed, printed.get((axis, name), math.nan)))
    return pd.DataFrame(rows, columns=["axis", "descriptor", "of", *SHARE, "n_failed", "share_published"])


def content(texts: Iterable[str], model: str, batch: int = 1000) -> pd.DataFrame:
    """One row a text: toxicity (0–1), sentences, toxic_sentences (≥ `TOXIC`), and the details of each kind of `pii`.

    `model` as in `toxicity`. One pass, `batch` texts at a time.
    """
    rows = []
    for some in _batches(texts, batch):
        parts = [sentences(text) for text in some]
        sizes = np.array([len(part) for part in parts])
        toxic = toxicity([sentence for part in parts for sentence in part], model) >= TOXIC
        toxic_sentences = np.bincount(np.repeat(np.arange(len(some)), sizes), weights=toxic, minlength=len(some))
        details = [pii.masked(text)[1] for text in some]
        frame = {"toxicity": toxicity(some, model), "sentences": sizes, "toxic_sentences": toxic_sentences.astype(int)}
        rows.append(pd.DataFrame(frame | {kind: [d[kind] for d in details] for kind in pii.COUNTED}))
    columns = ["toxicity", "sentences", "toxic_sentences", *pii.COUNTED]
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=columns)


def content_shares(documents: pd.DataFrame, seed: int) -> pd.DataFrame:
    """One row a (domain, kind) of a frame with `content`'s columns: n, n_hits, share with interval.

    Kinds: toxic document, toxic sentence, a kind of personal detail, any of them, more than five (Dolma drops these).
    """
    rows = []
    for domain, part in _domains(documents):
        details = part[list(pii.COUNTED)]
        kinds = {"toxic document": part["toxicity"] >= TOXIC}
        kinds |= {kind: details[kind] > 0 for kind in pii.COUNTED}
        kinds |= {"any detail": details.sum(axis=1) > 0, f"more than {PII_MOST}": details.sum(axis=1) > PII_MOST}
        shares = {kind: _share(int(hits.sum()), len(hits)) for kind, hits in kinds.items()}
        shares |= {"toxic sentence": _clustered(part["toxic_sentences"], part["sentences"], seed)}
        rows += [(domain, kind, *share) for kind, share in sorted(shares.items(), key=lambda s: "toxic" not in s[0])]
    return pd.DataFrame(rows, columns=["domain", "kind", *SHARE])


def duplicates(texts: Sequence[str], documents: pd.DataFrame, jaccard: float, seed: int) -> pd.DataFrame:
    """One row a (domain, kind) of what stood earlier in the corpus, in whatever domain: n, n_hits, share with interval.

    Kinds: document (the same text, white space at its ends aside), near document (see `deduplication`; the same ones
    among them), paragraph (a line of 13 words or more).
    """
    seen: set[int] = set()
    seen_paragraphs: set[int] = set()
    rows = []
    for text in texts:
        key = hash(text.strip())
        lines = [hash(line.strip()) for line in text.split("\n") if len(line.split(None, PARAGRAPH)) >= PARAGRAPH]
        before = 0
        for line in lines:
            before += line in seen_paragraphs
            seen_paragraphs.add(line)
        rows.append((key in seen, len(lines), before))
        seen.add(key)
    near, _ = deduplication.near_duplicates(list(texts), jaccard, seed)
    frame = pd.DataFrame(rows, columns=["document", "paragraphs", "repeated"])
    frame = frame.assign(near=near >= 0, domain=documents["domain"].to_numpy())
    table = []
    for domain, part in _domains(frame):
        table.append((domain, "document", *_share(int(part["document"].sum()), len(part))))
        table.append((domain, "near document", *_share(int(part["near"].sum()), len(part))))
        table.append((domain, "paragraph", *_clustered(part["repeated"], part["paragraphs"], seed)))
    return pd.DataFrame(table, columns=["domain", "kind", *SHARE])


def samples(
    texts: Sequence[str],
    documents: pd.DataFrame,
    show: Collection[str],
    toxic,
    seed: int,
    n: int = 2,
    characters: int = 300,
) -> pd.DataFrame:
    """Up to `n` beginnings a domain, drawn by the seed: domain, component, id, text; personal details masked.

    Only of components in `show`, and of no document that `toxic` (Boolean, one a text) marks or that is blank. Mark
    those with a toxic sentence too, for it may stand at the beginning.
    """
    order = np.random.default_rng(seed).permutation(len(documents))
    frame = documents.assign(place=np.arange(len(documents)), toxic=np.asarray(toxic, dtype=bool)).iloc[order]
    blank = [not texts[i].strip() for i in frame["place"]]
    frame = frame[frame["component"].isin(list(show)) & ~frame["toxic"] & ~np.array(blank, dtype=bool)]
    drawn = frame.groupby("domain").head(n).sort_values("domain", kind="stable")
    shown = [beginning(texts[i], characters) for i in drawn["place"]]
    return drawn[["domain", "component", "id"]].assign(text=shown).reset_index(drop=True)


def beginning(text: str, characters: int) -> str:
    """The first words of a text in one line, as many as fit, personal details masked and controls made visible."""
    start = text.strip()[: 10 * characters]  # masks are shorter than what they stand for, and a text may have 100 MB
    line = visible(pii.mask(re.sub(r"\s+", " ", start)))
    if len(line) <= characters and len(start) == len(text.strip()):
        return line
    whole, _, _ = line[:characters].rpartition(" ")
    return f"{whole} …"


def wanted(texts: Iterable[str], only) -> tuple[Iterable[str], int]:
    """(the texts that `only` marks, lazily; how many it does not); all where it is None.

    The texts raise ValueError where they are not as many as `only`.
    """
    if only is None:
        return texts, 0
    only = np.asarray(only, dtype=bool)
    return (text for text, keep in zip(texts, only, strict=True) if keep), int((~only).sum())


def _batches(texts: Iterable[str], size: int) -> Iterator[list[str]]:
    iterator = iter(texts)
    while some := list(itertools.islice(iterator, size)):
        yield some


def _domains(frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """(domain, its rows) in the order of their first document, all of them last."""
    if not len(frame):
        raise UserError("the corpus holds no document: see the counts of what could not be read")
    if frame["domain"].isna().any() or (frame["domain"] == "").any():
        row = frame[frame["domain"].isna() | (frame["domain"] == "")].iloc[0]
        raise UserError(f"document {row.get('id', row.name)} has no domain: give its component one")
    if (frame["domain"] == ALL).any():
        raise UserError(f"a domain is called '{ALL}', which names all domains together: give it another name")
    return [*frame.groupby("domain", sort=False), (ALL, frame)]


def _share(n_hits: int, n: int) -> tuple:
    """`SHARE`'s columns, Wilson; nan where there is nothing to look at."""
    return (n, n_hits, *(intervals.share(n_hits, n, CONFIDENCE) if n else (math.nan,) * 3))


def _clustered(hits: pd.Series, sizes: pd.Series, seed: int) -> tuple:
    """`SHARE`'s columns of units that come in documents."""
    share = intervals.cluster_share(hits, sizes, RESAMPLES, CONFIDENCE, seed)
    return (int(sizes.sum()), int(hits.sum()), *share)
