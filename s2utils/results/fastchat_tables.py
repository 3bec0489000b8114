"""Tables of a run of FastChat that was made elsewhere: ratings and readability a turn, pairs; nothing is asked here.

Published values are those of MT(S)-bench: the writing, STEM and humanities questions, which a file of questions tells.
Traps: the mean of FastChat's scores leaves failures (-1) out; ours does as well, and says how many. A turn that no row
of a judge is of was not judged; it has not failed.
"""

from __future__ import annotations

import math

import pandas as pd

from s2utils.data.mtbench_questions import TURNS
from s2utils.evaluation import external_answers, metrics
from s2utils.evaluation.judge import pairwise
from s2utils.evaluation.judge.fastchat import FastChatError
from s2utils.results import formatting, layout, tables
from s2utils.text.readability import BACKENDS, flesch
from s2utils.workflow.params import Params

STUDY = ("writing", "stem", "humanities")  # categories of MT(S)-bench
FLESCH = metrics.columns("flesch")


def _parts(rows: pd.DataFrame, known: dict[str, str]) -> dict[str, pd.DataFrame]:
    """All rows, and those of MT(S)-bench's categories where a file of questions tells them."""
    if known and (strange := sorted(set(rows["question_id"]) - set(known))):
        raise FastChatError(f"the file of questions has no question {strange[0]} ({len(strange)} in all are not in it)")
    own = rows[rows["question_id"].map(known).isin(STUDY)] if known else rows.iloc[:0]
    return {"all": rows} | ({", ".join(STUDY): own} if len(own) else {})


def rated(rows: pd.DataFrame, known: dict[str, str], params: Params) -> pd.DataFrame:
    """One row per judge, model and set of questions: n, then each turn's mean, interval, failures, and published value.

    Several judgements of one turn by one judge are repeats and are averaged. `<turn>_file` is the plain mean of all the
    file's scores, as FastChat takes it. `known` is what `categories` gives; published values are those of MT(S)-bench.
    """
    found = []
    paper = tables.published("mtbench").set_index(["model", "merge_mode"])
    judged = rows.groupby("judge")["turn"].unique()
    for name, part in _parts(rows, known).items():
        for (judge, model), mine in part.groupby(["judge", "model"], sort=False):
            row = {"model": model, "judge": judge, "questions": name, "n": mine["question_id"].nunique()}
            mode = next((m for m in ("dequantized", "bf16") if m in model.lower()), "none")
            theirs = (external_answers.published_model(model), mode)
            for turn, column in TURNS.items():
                own = mine[mine["turn"] == turn]
                held = own.groupby("question_id", sort=False)["rating"].mean()
                row |= layout.measured(held, column, params)
                row[f"{column}_n_failed"] = row["n"] - int(held.notna().sum()) if turn in judged[judge] else 0
                row[f"{column}_file"] = own["score"].mean()
                row[f"{column}_published"] = paper[column].get(theirs, math.nan) if name != "all" else math.nan
            found.append(row)
    return pd.DataFrame(found).round(6)


def readable(rows: pd.DataFrame, known: dict[str, str], params: Params) -> pd.DataFrame:
    """One row per model, set of questions, turn and back end.

    N, reading ease and grade, intervals, answers without a word.
    """
    found = []
    for backend in BACKENDS:
        texts = rows["answer"].fillna("")
        scored = pd.DataFrame([flesch(t, backend) for t in texts], columns=FLESCH, index=rows.index)
        for name, part in _parts(rows, known).items():
            for (model, turn), mine in part.groupby(["model", "turn"], sort=False):
                row = {"model": model, "questions": name, "turn": turn, "backend": backend, "n": len(mine)}
                for metric in FLESCH:
                    values = scored.loc[mine.index, metric].astype(float)
                    row |= layout.measured(values, metric, params) | {f"{metric}_n_failed": int(values.isna().sum())}
                found.append(row)
    return pd.DataFrame(found).round(6)


def compared(rows: pd.DataFrame, params: Params) -> pd.DataFrame:
    """Judgements of pairs as `pairs.summary` counts them: model is model_1, other is model_2."""
    keys = rows.rename(columns={"model_1": "model", "model_2": "other"})
    said = {"g1": {"model_1": "A", "model_2": "B"}, "g2": {"model_1": "B", "model_2": "A"}}
    games = [
        keys.assign(place=place, verdict=keys[g].map(lambda w, g=g: said[g].get(w, w)))
        for g, place in (("g1", "first"), ("g2", "second"))
    ]
    both = pd.concat(games, ignore_index=True)
    if (twice := both.duplicated([*pairwise.BY, "judge", "place"])).any():
        first = both[twice].iloc[0]
        raise FastChatError(
            f"{first['model']} and {first['other']} were judged several times by {first['judge'] or 'one judge'} on "
            f"question {first['question_id']}, turn {first['turn']}; keep one judgement of each"
        )
    parts = [
        pairwise.summary(pairwise.outcomes(part), params).assign(judge=judge)
        for judge, part in both.groupby("judge", sort=False)
    ]
    return pd.concat(parts, ignore_index=True).round(6)


def shown(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """A table as readers see it: one cell a metric."""
    if name == "mtbench_pairs":
        return frame.round(2)
    view = frame[[c for c in ("model", "judge", "questions", "turn", "backend", "n") if c in frame]].copy()
    for column in TURNS.values() if name == "mtbench" else FLESCH:
        label = metrics.METRICS[column].label
        view[label] = layout.cells(frame, column)
        for tail, said in (("file", "in the file"), ("published", "published")):
            if (other := f"{column}_{tail}") in frame and frame[other].notna().any():
                texts = [formatting.number(value) for value in frame[other]]
                view[f"{label}, {said}"] = ["" if text == formatting.MISSING else text for text in texts]
    return view
