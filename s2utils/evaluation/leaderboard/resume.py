"""Log-likelihoods of any lm-eval model, kept on disk group by group, so that a killed run goes on where it stopped.

The requests of a call are cut into groups of whole documents, and a group's answers are on disk before the next group
begins. Groups depend on the requests alone: in bf16 the last digits of a score depend on what else is in its batch, so
a resumed run must ask for the same groups to end with the same bytes. Documents that share most of their context (the
shots of an MMLU subject, TruthfulQA's prompt) stay in one group, as a backend may compute what they share once.
"""

from __future__ import annotations

import hashlib
import inspect
import itertools
import json
import os
from pathlib import Path

from tqdm import tqdm

from s2utils.workflow import artefacts

FEW, MANY = 8, 256  # documents of a group: closed after FEW where the next shares little with them, after MANY anyway


class Kept:
    """An lm-eval model that remembers its log-likelihoods in `path`; all else is the model's own."""

    def __init__(self, lm, path: Path):
        self._lm, self._path = lm, path

    def __getattr__(self, name: str):
        return getattr(self._lm, name)

    def loglikelihood(self, requests: list) -> list[tuple[float, bool]]:
        """(log-likelihood, is greedy) of every request, in their order."""
        kept = {row["key"]: row["answers"] for row in artefacts.read_jsonl(self._path)}
        takes = inspect.signature(self._lm.loglikelihood).parameters
        silent = {"disable_tqdm": True} if "disable_tqdm" in takes else {}  # one bar for all groups
        answers = []
        for first, last in tqdm(groups(requests), desc="groups of documents"):
            part = requests[first:last]
            key = hashlib.sha256(json.dumps([request.args for request in part]).encode()).hexdigest()
            if key not in kept:
                given = [(float(value), bool(greedy)) for value, greedy in self._lm.loglikelihood(part, **silent)]
                if len(given) != len(part):
                    raise ValueError(f"the backend answered {len(given)} of {len(part)} requests")
                artefacts.append_jsonl(self._path, [{"key": key, "answers": given}])
                kept[key] = given
            answers += [(value, greedy) for value, greedy in kept[key]]
        return answers


def groups(requests: list) -> list[tuple[int, int]]:
    """(first, one past the last) request of every group; documents are whole and in order."""
    bounds, context, documents, seen = [0], "", 0, 0
    for _, document in itertools.groupby(requests, key=lambda request: (request.task_name, request.doc_id)):
        before, (context, *_), size = context, (document := list(document))[0].args, len(document)
        alike = len(os.path.commonprefix([before, context])) > len(context) / 2
        if documents >= MANY or (documents >= FEW and not alike):
            bounds.append(seen)
            documents = 0
        documents, seen = documents + 1, seen + size
    return list(itertools.pairwise([*bounds, seen])) if seen else []
