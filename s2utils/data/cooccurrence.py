"""Which words stand beside words for a gender, a religion or a race, and how pleasant they are.

The score of The Pile, of a word beside a term: (share of the term's sentences that hold the word − the same share of
sentences with another term of its axis) × √(sentences of the axis that hold the word). Above 0 the word leans to the
term; he and she, two terms, have opposite scores. The words are adjectives and adverbs by a rule of spelling, for no
tagger is at hand: they end in -ly, -ous, -ful, -less, -ive, -able, -ible or -ical and are no exception, or stand in a
closed list of common ones. Neighbours' sentiment is the mean valence (−4 to 4) of all words of a term's sentences that
VADER's lexicon knows; the paper took SentiWordNet's. Trap: the score grows with the number of sentences, so it compares
words of one corpus, never corpora. English texts.
Sources: Gao et al. 2020, The Pile; Hutto & Gilbert 2014, VADER.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable

import numpy as np
import pandas as pd
from scipy import sparse

from s2utils.data.corpus_contents import CONFIDENCE, RESAMPLES, wanted
from s2utils.stats import intervals
from s2utils.text import persons
from s2utils.text.sentences import sentences

_PEOPLE = "people person man men woman women american americans".split()
AXES = {  # axis → term → words that name it; black and white mostly mean something else, so they stand before people
    "gender": {"he": persons.GENDERS["he"], "she": persons.GENDERS["she"]},
    "religion": {
        "atheist": ("atheist", "atheists", "atheism"),
        "buddhist": ("buddhist", "buddhists", "buddhism"),
        "christian": ("christian", "christians", "christianity"),
        "hindu": ("hindu", "hindus", "hinduism"),
        "jewish": ("jewish", "jew", "jews", "judaism"),
        "muslim": ("muslim", "muslims", "islam", "islamic"),
    },
    "race": {
        "asian": ("asian", "asians"),
        "black": ("african american", "african americans", *(f"black {word}" for word in _PEOPLE)),
        "hispanic": ("hispanic", "hispanics", "latino", "latinos", "latina", "latinas"),
        "indigenous": ("indigenous", "native american", "native americans"),
        "white": ("caucasian", "caucasians", *(f"white {word}" for word in _PEOPLE)),
    },
}
ENDINGS = ("ly", "ous", "ful", "less", "ive", "able", "ible", "ical")
SHORTEST = 5  # letters of a word that is told by its ending
FEWEST = 3  # sentences with word and term; of fewer no score is told
_EXCEPTIONS = frozenset(
    "anomaly apply archive arrive assembly automotive believe belly bible bully butterfly cable chemical comply "
    "crucible deceive derive detective disable drive enable executive family forgive handful imply italy jelly live "
    "locomotive monopoly multiply musical nevertheless nonetheless objective olive perceive receive regardless "
    "relative rely reply representative revive sally strive supply survive syllable table timetable unless variable "
    "vegetable".split()
)
COMMON = frozenset(
    "afraid again alive alone always ancient angry anxious arrogant aware away bad beautiful big bitter bold brave "
    "bright busy calm cheap clean clever cold common confident cool correct crazy criminal cruel dark dead deep "
    "different difficult dirty dominant dry early easy elegant evil extreme fair false famous fast fat fierce foolish "
    "free frequent fresh gentle good great guilty handsome happy hard healthy heavy high holy honest hot huge humble "
    "hungry ignorant ill important independent innocent intelligent junior kind large late later lazy legal little "
    "lonely long loud low loyal mad married mental mere military modern moral nervous never new nice noble normal "
    "often old open patient personal pleasant poor popular pregnant pretty private proud public pure quick quiet rare "
    "ready real rich royal rude sad safe senior serious sexual sharp short shy sick silent simple sincere single slim "
    "slow small smart soft soon special strange strict strong stupid sweet tall tender thin tired together tough "
    "traditional true ugly unhappy violent warm weak well wet wicked wide wild wise wrong young".split()
)
_TERMS = {phrase: (axis, term) for axis, terms in AXES.items() for term, phrases in terms.items() for phrase in phrases}
_NAMES = [(axis, term) for axis, terms in AXES.items() for term in terms]  # the columns of a matrix of terms
_FORM = re.compile(rf"\b(?:{'|'.join(sorted(map(re.escape, _TERMS), key=len, reverse=True))})\b")


@functools.lru_cache(maxsize=200_000)
def describes(word: str) -> bool:
    """Whether a word in small letters counts as an adjective or adverb, by the rule above."""
    if word in COMMON:
        return True
    return len(word) >= SHORTEST and word.endswith(ENDINGS) and word not in _EXCEPTIONS and word.isalpha()


def cooccurrence(texts: Iterable[str], seed: int, only=None, top: int = 15) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(words that lean most to each term, sentiment of each term's neighbours), intervals over documents.

    The first has up to `top` rows a (axis, term) with a score above 0: word, n (sentences of the axis that hold it),
    n_beside (those with the term, three at least), score with interval. The second has one row a (axis, term): n
    (sentences), n_words (of VADER's lexicon in them, the term's own left out), sentiment with interval, nan where there
    is none. `only`: Boolean, whether a text is looked at (English); the others are counted in n_failed.
    """
    looked_at, n_failed = wanted(texts, only)
    documents, terms, beside, words, valence = _read(looked_at)
    leaning = _leaning(documents, terms, beside, words, seed, top)
    rows = []
    for column, (axis, term) in enumerate(_NAMES):
        inside = terms[:, [column]]
        sums, counts = (documents @ (inside.multiply(valence[:, [i]])) for i in (0, 1))
        counts = counts.toarray().ravel()
        mean = intervals.ratio(sums.toarray().ravel(), counts, RESAMPLES, CONFIDENCE, seed)
        rows.append((axis, term, int(inside.sum()), int(counts.sum()), *mean, n_failed))
    names = ["axis", "term", "n", "n_words", "sentiment", "sentiment_ci_low", "sentiment_ci_high", "n_failed"]
    return leaning.assign(n_failed=n_failed), pd.DataFrame(rows, columns=names)


def _read(texts: Iterable[str]) -> tuple:
    """(documents, terms, words, the words' names, valence) of all sentences that hold a term, as sparse matrices.

    documents has one row a document with such a sentence and one column a sentence; the others have one row a sentence:
    the terms and the describing words that it holds, the sum and number of its words that the lexicon knows.
    """
    lexicon, columns, vocabulary = _lexicon(), {name: i for i, name in enumerate(_NAMES)}, {}
    cells: dict[str, list[tuple[int, int]]] = {"documents": [], "terms": [], "words": []}
    n, n_documents, valence = 0, 0, []
    for text in texts:
        lowered, before = text.lower(), n
        for sentence in sentences(lowered) if _FORM.search(lowered) else ():
            here = {columns[_TERMS[phrase]] for phrase in _FORM.findall(sentence)}
            if not here:
                continue
            rest = persons.WORD.findall(_FORM.sub(" ", sentence))
            known = [lexicon[word] for word in rest if word in lexicon]
            valence.append((sum(known), len(known)))
            cells["documents"].append((n_documents, n))
            cells["terms"] += [(n, column) for column in here]
            described = {vocabulary.setdefault(word, len(vocabulary)) for word in rest if describes(word)}
            cells["words"] += [(n, column) for column in described]
            n += 1
        n_documents += n > before
    shapes = {"documents": (n_documents, n), "terms": (n, len(_NAMES)), "words": (n, len(vocabulary))}
    matrices = []
    for name, shape in shapes.items():
        rows, places = np.array(cells[name], dtype=np.int64).reshape(-1, 2).T
        matrices.append(sparse.csr_array((np.ones(len(rows)), (rows, places)), shape=shape))
    return *matrices, list(vocabulary), sparse.csr_array(np.array(valence, dtype=float).reshape(-1, 2))


def _leaning(documents, terms, beside, words: list[str], seed: int, top: int) -> pd.DataFrame:
    """The first table of `cooccurrence`. All but the words' names are sparse matrices."""
    axes = np.array([axis for axis, _ in _NAMES])
    around = terms @ np.equal.outer(axes, axes).astype(float)  # terms of the axis that a sentence holds
    others, either = (sparse.csr_array(matrix > 0, dtype=float) for matrix in (around - terms, around))
    both, both_other, n = ((matrix.T @ beside).toarray() for matrix in (terms, others, either))  # (terms, words)
    with np.errstate(invalid="ignore", divide="ignore"):  # where a term or its others are never named
        score = _score(both, _total(terms)[:, None], both_other, _total(others)[:, None], n)
    pairs = []
    for i in range(len(_NAMES)):
        leaning = np.flatnonzero((score[i] > 0) & np.isfinite(score[i]) & (both[i] >= FEWEST))
        pairs += [(i, w) for w in sorted(leaning, key=lambda w: (-score[i, w], words[w]))[:top]]
    ends = _intervals(documents, (terms, others, either), beside, pairs, seed)
    rows = [
        (*_NAMES[i], words[w], int(n[i, w]), int(both[i, w]), score[i, w], low, high)
        for (i, w), (low, high) in zip(pairs, ends)
    ]
    columns = ["axis", "term", "word", "n", "n_beside", "score", "score_ci_low", "score_ci_high"]
    return pd.DataFrame(rows, columns=columns)


def _score(both, inside, both_other, other, n):
    """The Pile's score of words beside a term, from numbers of sentences."""
    return (both / inside - both_other / other) * np.sqrt(n)


def _total(matrix) -> np.ndarray:
    """Sums of the columns."""
    return np.asarray(matrix.sum(axis=0)).ravel()


def _intervals(documents, about: tuple, beside, pairs: list[tuple[int, int]], seed: int) -> np.ndarray:
    """Low and high end of the score of every (term, word) when whole documents are drawn anew, (pairs, 2)."""
    if not pairs:
        return np.empty((0, 2))
    mine, columns = (list(ids) for ids in zip(*pairs))
    held = [documents @ beside[:, columns].multiply(matrix[:, mine]) for matrix in about]  # (documents, pairs)
    totals = [documents @ matrix for matrix in about[:2]]  # (documents, terms)
    rng, n, drawn = np.random.default_rng(seed), documents.shape[0], []
    for start in range(0, RESAMPLES, 100):
        weights = rng.multinomial(n, np.full(n, 1 / n), size=min(100, RESAMPLES - start)).astype(float)
        both, both_other, either = (weights @ matrix for matrix in held)
        inside, other = ((weights @ matrix)[:, mine] for matrix in totals)
        with np.errstate(invalid="ignore", divide="ignore"):  # a draw without one of the terms says nothing
            drawn.append(_score(both, inside, both_other, other, either))
    tail = (1 - CONFIDENCE) / 2
    return np.nanquantile(np.concatenate(drawn), [tail, 1 - tail], axis=0).T


@functools.cache
def _lexicon() -> dict[str, float]:
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    return SentimentIntensityAnalyzer().lexicon
