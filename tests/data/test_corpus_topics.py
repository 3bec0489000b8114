import math

import numpy as np
import pandas as pd
import pytest

from s2utils.data import corpus_topics
from s2utils.data.corpus_topics import log_likelihoods, topics, words
from s2utils.workflow.errors import UserError

COOKING = "bread butter flour oven sugar pepper onion garlic soup cake".split()
SAILING = "ship anchor harbour storm sail captain wave island compass rope".split()
MARKET = "bread butter ship captain price money trade coin seller buyer".split()  # has words of both


def texts(vocabulary: list[str], n: int, seed: int) -> list[str]:
    draw = np.random.default_rng(seed).integers(len(vocabulary), size=(n, 12))
    return [" ".join(vocabulary[i] for i in row) for row in draw]


@pytest.fixture(scope="module")
def corpus() -> tuple[list[str], pd.DataFrame]:
    parts = {"cooking": texts(COOKING, 200, 0), "sailing": texts(SAILING, 200, 1), "market": texts(MARKET, 200, 2)}
    parts["few"] = texts(COOKING, corpus_topics.FEWEST - 1, 3)
    parts["odd"] = ["", "zzz"] * 10
    parts["cooking"][:2] = ["", "and the of"]
    rows = [(domain, text) for domain, part in parts.items() for text in part]
    return [text for _, text in rows], pd.DataFrame({"domain": [domain for domain, _ in rows]})


def test_words_are_small_long_and_no_stop_words():
    assert words("The Oven's 3 ovens, an über-OVEN!") == ["oven", "ovens", "ber", "oven"]
    assert words("") == []


@pytest.fixture(scope="module")
def tables(corpus):
    return topics(*corpus, n_topics=2, seed=0)


def test_every_topic_of_a_domain_is_made_of_its_words(tables):
    table, explained = tables
    failed = explained.set_index("domain")["n_failed"]["cooking"].iloc[0]
    assert table["n"].tolist() == [158 + failed] * 2 + [160] * 4  # a fifth is held out, and two of cooking have no word
    assert table["domain"].tolist() == ["cooking"] * 2 + ["sailing"] * 2 + ["market"] * 2
    for vocabulary, domain in ((COOKING, "cooking"), (SAILING, "sailing")):
        part = table[table["domain"] == domain]
        assert set(part["words"].iloc[0].split()[:5]) <= set(vocabulary)
        assert part["share"].sum() == pytest.approx(1, abs=1e-5) and part["share"].is_monotonic_decreasing
        assert (part["share_ci_low"] <= part["share"]).all() and (part["share"] <= part["share_ci_high"]).all()


def test_another_domain_is_explained_the_worse_the_fewer_words_are_shared(tables, corpus):
    _, table = tables
    assert len(table) == 9 and not table.duplicated(["trained_on", "domain"]).any()
    cell = table.set_index(["trained_on", "domain"])
    for domain in ("cooking", "sailing", "market"):
        assert cell.loc[(domain, domain), ["excess", "excess_ci_low", "excess_ci_high"]].tolist() == [0, 0, 0]
        own = cell.loc[(domain, domain), "log_perplexity"]
        assert own == pytest.approx(math.log(10), abs=0.2)  # ten words a domain, all as frequent
    for domain, other in (("cooking", "sailing"), ("sailing", "cooking")):
        assert cell.loc[(domain, other), "excess_ci_low"] > cell.loc[(domain, "market"), "excess_ci_high"] > 0
        assert cell.loc[(domain, other), "worst"] and not cell.loc[(domain, "market"), "worst"]
    assert table.groupby("trained_on")["worst"].sum().eq(1).all()
    assert (table["n"] + table["n_failed"] == 40).all() and (table["n_words"] > 0).all()


def test_the_seed_decides_and_only_the_wanted_texts_are_read(corpus, tables):
    again = topics(*corpus, n_topics=2, seed=0)
    assert all(a.equals(b) for a, b in zip(tables, again))
    only = (corpus[1]["domain"] != "market").to_numpy()
    table, _ = topics(*corpus, n_topics=2, seed=0, only=only)
    assert set(table["domain"]) == {"cooking", "sailing"}


def test_no_domain_to_model_is_an_error():
    frame = pd.DataFrame({"domain": ["a"] * 30})
    for given in (["zzz and the"] * 30, [""] * 30, texts(COOKING, 9, 0) + [""] * 21):
        only = None if given[0] != texts(COOKING, 9, 0)[0] else np.arange(30) < 9
        with pytest.raises(UserError, match="no domain has 10 English documents"):
            topics(given, frame, n_topics=2, seed=0, only=only)


class Model:
    """A topic model that is known: topics are rows, words columns."""

    def __init__(self, topics):
        self.topics = np.array(topics, dtype=float)

    def get_topics(self):
        return self.topics

    def inference(self, bags):
        return np.ones((len(bags), len(self.topics))), None


def test_knowing_nothing_scores_the_logarithm_of_the_vocabulary():
    bags = [[(0, 1), (1, 2), (2, 5), (3, 1)], [(2, 7), (3, 1)]]
    sums, sizes = log_likelihoods(Model([[0.25] * 4] * 3), bags)
    assert sizes.tolist() == [3, 1] and -sums / sizes == pytest.approx([math.log(4)] * 2)


def test_a_mixture_of_topics_by_hand():
    sums, _ = log_likelihoods(Model([[0.8, 0.2], [0.4, 0.6]]), [[(0, 1), (1, 3)]])
    assert sums == pytest.approx([3 * math.log(0.4)])
