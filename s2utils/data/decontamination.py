"""Training texts that repeat an evaluation set: runs of n words (lower case, no punctuation) both have.

A document of an evaluation set is its question or context and all its choices. One shorter than n words
counts as a single run if it has `SHORTEST` words or more; a shorter one is left out, as it would match
everyday phrases. Trap: a set is looked for whole, not only the documents a profile scores, and a long
document may be found by a boilerplate run ("which of the following …"), so look at `run` before blaming.
Source: Brown et al. 2020, appendix C (13-grams).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator

import datasets
import pandas as pd

from s2utils.data import benchmarks, mtbench_questions
from s2utils.text.readability import words
from s2utils.workflow import packaged
from s2utils.workflow.params import Params

SHORTEST = 8
HUB = {  # path, configuration, split: as in the harness's task files
    "arc": ("allenai/ai2_arc", "ARC-Challenge", "test"),
    "hellaswag": ("Rowan/hellaswag", None, "validation"),
    "mmlu": ("cais/mmlu", "all", "test"),
    "truthfulqa": ("truthfulqa/truthful_qa", "multiple_choice", "validation"),
}
_BRACKETS = re.compile(r"\[[^\[\]]*\]")  # [header], [step]: marks of WikiHow pages in HellaSwag


def evaluation_sets(params: Params) -> dict[str, list[str]]:
    """Texts of ARC, HellaSwag, MMLU, TruthfulQA and the two-turn questions, one a document, in their order.

    Raises OSError where a hub set cannot be loaded, embedded.FetchError where an archive cannot be had.
    """
    rows = _hub if params.leaderboard.source == "hub" else _embedded
    sets = {name: [_document(name, row) for row in rows(name)] for name in HUB}
    return sets | {"mtbench": [" ".join(row["turns"]) for row in mtbench_questions.questions(params.mtbench.questions)]}


def index(sets: dict[str, list[str]], n: int) -> dict[str, tuple[str, int]]:
    """Run of words → (set, document number) of the first document that holds it.

    Two million runs (the four sets, n = 13) take about 0.4 GB. Raises ValueError where n is not above 0.
    """
    if n < 1:
        raise ValueError(f"n must be above 0, not {n}")
    places: dict[str, tuple[str, int]] = {}
    for name, documents in sets.items():
        for number, document in enumerate(documents):
            bare = words(document.lower())
            if len(bare) >= min(n, SHORTEST):
                for run in _runs(bare, min(n, len(bare))):
                    places.setdefault(run, (name, number))
    return places


def hits(texts: list[str], index: dict[str, tuple[str, int]], n: int) -> pd.DataFrame:
    """One row per (text, set, document) that share a run: position, set, document, run (the first one).

    `n` must be the index's. A run that several documents hold counts for the first of them. Give all texts
    at once: the whole index is read at each call.
    """
    search = searcher(index, n)
    rows = [(position, *place, run) for position, text in enumerate(texts) for place, run in search(text)]
    return pd.DataFrame(rows, columns=["position", "set", "document", "run"])


def searcher(index: dict[str, tuple[str, int]], n: int) -> Callable[[str], Iterator[tuple[tuple[str, int], str]]]:
    """A function from a text to the ((set, document), first run) that it shares with each; reads the index once."""
    short: dict[str, list[int]] = {}  # first words of a document under n words → lengths of such documents
    for run in index:
        if (length := run.count(" ") + 1) < n:
            short.setdefault(" ".join(run.split(" ")[:SHORTEST]), []).append(length)

    def search(text: str) -> Iterator[tuple[tuple[str, int], str]]:
        bare, seen = words(text.lower()), set()
        for run in itertools.chain(_runs(bare, n), _short_runs(bare, short)):
            place = index.get(run)
            if place and place not in seen:
                seen.add(place)
                yield place, run

    return search


def _runs(bare: list[str], n: int) -> Iterator[str]:
    return (" ".join(bare[i : i + n]) for i in range(len(bare) - n + 1))


def _short_runs(bare: list[str], short: dict[str, list[int]]) -> Iterator[str]:
    """Runs as long as a short document that begins with the same words."""
    for i, first in enumerate(_runs(bare, SHORTEST) if short else ()):
        for length in short.get(first, ()):
            if i + length <= len(bare):
                yield " ".join(bare[i : i + length])


def _embedded(name: str) -> Iterable[dict]:
    """Rows of an embedded set, whole, in the hub's form."""
    if name == "truthfulqa":
        return benchmarks.truthfulqa()
    path = packaged.resolve(name)
    files = sorted(path.glob("*/test/*.arrow")) if name == "mmlu" else [path]
    return itertools.chain.from_iterable(datasets.Dataset.from_file(str(file)) for file in files)


def _hub(name: str) -> Iterable[dict]:
    path, config, split = HUB[name]
    return datasets.load_dataset(path, config, split=split)


def _document(name: str, row: dict) -> str:
    """Question or context, and the choices, of one row."""
    if name == "hellaswag":
        return _BRACKETS.sub(" ", " ".join([row["ctx"], *row["endings"]]))
    if name == "truthfulqa":
        return " ".join([row["question"], *row["mc2_targets"]["choices"]])
    choices = row["choices"]["text"] if name == "arc" else row["choices"]
    return " ".join([row["question"], *choices])
