"""Steps that compare records, or judge many at once: duplicates, contamination, votes, toxicity.

Each works on a frame of measured records (see `filters.measure`), marks in place why rows are dropped, and
returns what a reader may want to see of it. `s2.corpus_steps` and `s2.sft_steps` list them in order.
Trap: only rows still kept are looked at, so the order decides which reason a row gets.
"""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pandas as pd

from s2utils.data import decontamination as overlap
from s2utils.data import deduplication
from s2utils.text.toxicity import toxicity as toxic
from s2utils.workflow.params import Params

_EDIT = re.compile(r"\bedit(?:ed)?\s*\d*\s*:", re.IGNORECASE)


def drop(frame: pd.DataFrame, rows: pd.Index | np.ndarray, reason: str) -> None:
    """Mark the rows with these indices that are still kept as dropped for `reason`, in place."""
    frame.loc[frame.index.isin(rows) & (frame["dropped"] == ""), "dropped"] = reason


def kept(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows still kept."""
    return frame[frame["dropped"] == ""]


def duplicates(frame: pd.DataFrame, params: Params) -> None:
    """Drop repeated answers of a data set, keeping the first; case does not count."""
    left = kept(frame)
    again = left.assign(folded=left["answer"].str.casefold()).duplicated(["dataset", "folded"])
    drop(frame, left.index[again], "duplicate answer")


def near_duplicates(frame: pd.DataFrame, params: Params) -> pd.DataFrame:
    """Drop answers that nearly repeat an earlier one (Jaccard of word 3-grams); returns id, of, similarity."""
    left, limit = kept(frame), params.s2.near_duplicate
    of, similarity = deduplication.near_duplicates(left["answer"].tolist(), limit, params.seed)
    copies = of >= 0
    drop(frame, left.index[copies], f"near-duplicate answer ({limit:g})")
    ids = left["id"].to_numpy()
    return pd.DataFrame({"id": ids[copies], "of": ids[of[copies]], "similarity": similarity[copies]})


def contamination(frame: pd.DataFrame, params: Params) -> pd.DataFrame:
    """Drop records that share a run of words with an evaluation set; returns dataset, id, set, document, run."""
    left, n = kept(frame), params.s2.contamination_words
    index = overlap.index(overlap.evaluation_sets(params), n)
    hits = overlap.hits((left["question"] + "\n" + left["answer"]).tolist(), index, n)
    rows = left.iloc[hits.pop("position").to_numpy(dtype=int)]
    drop(frame, rows.index, f"{n} words of an evaluation set")
    return pd.concat([rows[["dataset", "id"]].reset_index(drop=True), hits], axis=1)


def votes(frame: pd.DataFrame, params: Params) -> None:
    """Drop answers with too few votes; records without votes stay."""
    few = (pd.to_numeric(frame["score"]) < params.s2.score_min).fillna(False)
    drop(frame, frame.index[few], f"under {params.s2.score_min} votes")


def toxicity(frame: pd.DataFrame, params: Params) -> None:
    """Drop answers with a toxicity label over the limit; only answers still kept are scored."""
    left = kept(frame)
    scores, limit = toxic(left["answer"].tolist(), params.s2.toxicity_model), params.s2.toxicity_max
    drop(frame, left.index[scores > limit], f"toxicity over {limit:g}")


def edit_tail(frame: pd.DataFrame, params: Params) -> None:
    """Drop answers that end in "Edit: …" notes (the study's "cleaned" variant)."""
    drop(frame, frame.index[frame["answer"].str.contains(_EDIT)], 'ends in an "Edit:" note')


STEPS = {f.__name__: f for f in (duplicates, near_duplicates, contamination, votes, toxicity, edit_tail)}


def run(names: list[str], frame: pd.DataFrame, params: Params, only: pd.Series | None = None) -> dict:
    """Run the named steps on `frame`, or on the rows of `only`; returns the frame that a step has to show, by name."""
    part = frame if only is None else frame[only].copy()
    tables = {name: STEPS[name](part, params) for name in names}
    frame.loc[part.index, "dropped"] = part["dropped"]
    return {name: table for name, table in tables.items() if table is not None}


def drop_beyond(frame: pd.DataFrame, dataset: str, params: Params) -> None:
    """Keep a seeded sample of a data set's rows for fine-tuning, where `data.train_max` asks for one.

    A fifth more than the splits need are kept: written questions fail, and neighbours leak.
    """
    data = params.data
    keep = (data.train_max + data.validation[dataset] + data.test[dataset]) * 6 // 5
    left = kept(frame)[lambda f: (f["dataset"] == dataset) & (f["set"] == "sft")].index.to_numpy(copy=True)
    if data.train_max:
        drop(frame, np.random.default_rng(params.seed).permutation(left)[keep:], "not needed: data.train_max")


def funnel(dataset: str, before: Counter, frame: pd.DataFrame) -> pd.DataFrame:
    """One row per reason: dataset, reason, n. `before` counts what fell before `frame` was made, by reason.

    The kept ones stand last, by set. kept + dropped = read is asserted.
    """
    part = frame[frame["dataset"] == dataset]
    names = {"sft": "kept", "rm": "kept for reward modelling"}
    counts = Counter(before) + Counter(part["dropped"].where(part["dropped"] != "", part["set"].map(names)))
    read = sum(before.values()) + len(part)
    assert sum(counts.values()) == read, "a record was lost"
    kept_sft, kept_rm = (counts.pop(name, 0) for name in names.values())
    last = ([(names["rm"], kept_rm)] if kept_rm else []) + [(names["sft"], kept_sft)]
    rows = [("read", read), *counts.most_common(), *last]
    return pd.DataFrame([{"dataset": dataset, "reason": reason, "n": n} for reason, n in rows])
