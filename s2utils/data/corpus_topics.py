"""Topics of each domain by online LDA, and how well one domain's topic model explains another's documents.

English texts; words of three letters or more without stop words; one vocabulary for all domains, so that their models
can be compared. Coherence is UMass (0 at best, further below it the less a topic's first words stand together). The
log-perplexity is of documents held out of every model, by completion: a document's topics are inferred from every
second of its words, and the others are scored, −log p a word in nats; knowing nothing scores the logarithm of the
vocabulary. The Pile took gensim's variational bound instead, which says 16 nats and more of any word that a domain
never had, so that most models would be worse than knowing nothing. Trap: code has few kinds of words and is explained
well by many, so look at `excess`, what another domain's model costs on the same documents.
Sources: Hoffman et al. 2010 (online LDA); Mimno et al. 2011 (UMass); Wallach et al. 2009 (completion); Gao et al. 2020.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from s2utils.data.corpus_contents import CONFIDENCE, RESAMPLES
from s2utils.data.eda import STOPWORDS
from s2utils.stats import intervals
from s2utils.workflow.errors import UserError

MOST = 2000  # documents of a domain that are looked at, drawn by the seed
HELD_OUT = 0.2  # of these, but no more than 200
FEWEST = 10  # documents of a domain that can be modelled
CHUNK, UPDATES = 256, 10  # documents an update of a model, and how many updates it shall have
WORDS = 10  # of a topic that are told, and from which its coherence is
_WORD = re.compile(r"[a-z]{3,}")
_STOP = frozenset(STOPWORDS)

Bag = list[tuple[int, int]]  # (word, how often), one a document


def words(text: str) -> list[str]:
    """Words of a text for the topics: in small letters, a–z alone, three or more, no stop words."""
    return [word for word in _WORD.findall(text.lower()) if word not in _STOP]


def topics(
    texts: Sequence[str], documents: pd.DataFrame, n_topics: int, seed: int, only=None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(topics of every domain, how every domain's model explains every domain).

    The first has one row a (domain, topic): n (documents the model saw), share (mean share of a document, with
    interval), coherence, words; topics by their share, largest first. The second one row a (trained_on, domain): n
    (documents held out), n_failed (those without two words of the vocabulary), n_words, log_perplexity and excess over
    the domain's own model on the same documents, with intervals over documents; `worst` marks the other domain that a
    model explains worst. Domains of fewer than 10 such documents are left out. `only`: Boolean, whether a text is
    looked at (English). Raises UserError where no domain is left.
    """
    from gensim.models import LdaModel

    trained, held, n_failed, vocabulary = _split(texts, documents, seed, only)
    models, rows = {}, []
    for domain, bags in trained.items():
        passes = min(10, max(2, math.ceil(UPDATES * CHUNK / len(bags))))
        settings = {"num_topics": n_topics, "chunksize": CHUNK, "passes": passes, "random_state": seed}
        models[domain] = LdaModel(bags, id2word=vocabulary, eval_every=None, **settings)
        rows += _topics_of(domain, models[domain], bags, seed)
    columns = ["domain", "topic", "n", "share", "share_ci_low", "share_ci_high", "coherence", "words"]
    return pd.DataFrame(rows, columns=columns), _explained(models, held, n_failed, seed)


def log_likelihoods(model, bags: list[Bag]) -> tuple[np.ndarray, np.ndarray]:
    """(log p of the scored words of each document under an LDA model, in nats; how many they are), (len(bags),) each.

    Scored is every second kind of word, given topics inferred from the others; both at their posterior means.
    """
    gamma, _ = model.inference([bag[::2] for bag in bags])
    theta = gamma / gamma.sum(axis=1, keepdims=True)  # (documents, topics)
    beta = model.get_topics()  # (topics, words)
    sums, sizes = np.zeros(len(bags)), np.zeros(len(bags), dtype=np.int64)
    for i, bag in enumerate(bags):
        ids, counts = np.array(bag[1::2], dtype=np.int64).reshape(-1, 2).T
        sums[i], sizes[i] = counts @ np.log(theta[i] @ beta[:, ids]), counts.sum()
    return sums, sizes


def _split(texts: Sequence[str], documents: pd.DataFrame, seed: int, only) -> tuple:
    """(bags that each domain's model sees, bags held out of it, how many had no word, the vocabulary of all)."""
    from gensim.corpora import Dictionary

    wanted = np.ones(len(texts), dtype=bool) if only is None else np.asarray(only, dtype=bool)
    draw, vocabulary, seen, held = np.random.default_rng(seed), Dictionary(), {}, {}
    places = pd.Series(np.arange(len(texts)))[wanted].groupby(documents["domain"].to_numpy()[wanted], sort=False)
    for domain, part in places:
        chosen = [words(texts[i]) for i in draw.permutation(part.to_numpy())[:MOST]]
        if len(chosen) >= FEWEST:
            cut = min(200, round(HELD_OUT * len(chosen)))
            held[domain], seen[domain] = chosen[:cut], chosen[cut:]
            vocabulary.add_documents(seen[domain])
    vocabulary.filter_extremes(no_below=min(5, 1 + len(texts) // 100), no_above=0.5, keep_n=20_000)
    trained = {domain: [bag for text in part if (bag := vocabulary.doc2bow(text))] for domain, part in seen.items()}
    left = {d: [bag for text in part if len(bag := vocabulary.doc2bow(text)) > 1] for d, part in held.items()}
    usable = [domain for domain in trained if len(trained[domain]) + len(left[domain]) >= FEWEST and left[domain]]
    if not usable:
        raise UserError(f"topics: no domain has {FEWEST} English documents with words that several share: give more")
    n_failed = {domain: len(held[domain]) - len(left[domain]) for domain in usable}
    return {d: trained[d] for d in usable}, {d: left[d] for d in usable}, n_failed, vocabulary


def _topics_of(domain: str, model, bags: list[Bag], seed: int) -> list[tuple]:
    from gensim.models import CoherenceModel

    gamma, _ = model.inference(bags)
    shares = gamma / gamma.sum(axis=1, keepdims=True)  # (documents, topics)
    coherence = CoherenceModel(model=model, corpus=bags, coherence="u_mass", topn=WORDS, processes=1)
    rows = []
    for topic, value in enumerate(coherence.get_coherence_per_topic()):
        share = intervals.bootstrap(shares[:, topic], RESAMPLES, CONFIDENCE, seed)
        first = " ".join(word for word, _ in model.show_topic(topic, WORDS))
        rows.append((domain, topic, len(bags), *share, float(value), first))
    return sorted(rows, key=lambda row: -row[3])


def _explained(models: dict, held: dict[str, list[Bag]], n_failed: dict[str, int], seed: int) -> pd.DataFrame:
    settings = {"resamples": RESAMPLES, "confidence": CONFIDENCE, "seed": seed}
    rows = []
    for domain, bags in held.items():
        own, sizes = log_likelihoods(models[domain], bags)
        for trained_on, model in models.items():
            found = own if trained_on == domain else log_likelihoods(model, bags)[0]
            log_perplexity = intervals.ratio(-found, sizes, **settings)
            excess = intervals.ratio(own - found, sizes, **settings)
            counts = (len(bags), n_failed[domain], int(sizes.sum()))
            rows.append((trained_on, domain, *counts, *log_perplexity, *excess))
    values = [f"{name}{end}" for name in ("log_perplexity", "excess") for end in ("", "_ci_low", "_ci_high")]
    table = pd.DataFrame(rows, columns=["trained_on", "domain", "n", "n_failed", "n_words", *values])
    others = table["log_perplexity"].where(table["trained_on"] != table["domain"])
    table["worst"] = others.eq(others.groupby(table["trained_on"]).transform("max"))
    return table.sort_values("trained_on", kind="stable", key=lambda c: c.map(list(models).index), ignore_index=True)
