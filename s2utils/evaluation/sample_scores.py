"""Scores of single questions and documents of every evaluation, read from what the notebooks made.

One long frame a table: model, merge_mode, dataset ("" where there is none), metric, group, stratum, question, value,
weight. A row's mean is the mean over its groups (the tasks of an average) of the mean over their strata (MMLU's
subjects) of the mean over questions; weight is a question's share in it. Units are those of the tables. Trap: a failed
question is NaN.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import pandas as pd

from s2utils.evaluation import metrics
from s2utils.evaluation.judge import judgements
from s2utils.stats import stratified
from s2utils.workflow import artefacts, steps
from s2utils.workflow.notebook import Run

STEPS = tuple(dict.fromkeys(table.step for table in metrics.TABLES.values()))
COLUMNS = ["model", "merge_mode", "dataset", "metric", "group", "stratum", "question", "value", "weight"]


def of(run: Run, *wanted: str) -> dict[str, pd.DataFrame]:
    """Table → its long frame, of all steps or the `wanted` ones.

    A step that is not made for all its models is left out.
    """
    found = {}
    for step in wanted or STEPS:
        made = {name: run.artefact(name, step) for name in steps.collected(step, run.params)}
        if made and all(artefact.ready for artefact in made.values()):
            found |= READERS[step](run, {name: artefact.folder for name, artefact in made.items()})
    return found


def _text_metrics(run: Run, folders: dict) -> dict[str, pd.DataFrame]:
    scores = pd.read_parquet(folders[""] / "scores.parquet")
    scores["question"] = scores[["dataset", "source", "id"]].astype(str).agg("/".join, axis=1)
    keys = ["model", "merge_mode", "dataset", "question"]
    tables = [name for name, table in metrics.TABLES.items() if table.step == "text_metrics"]
    return {
        name: _weighted(scores.melt(keys, metrics.columns(name), "metric").assign(group="", stratum=""))
        for name in tables
    }


def _leaderboard(run: Run, folders: dict) -> dict[str, pd.DataFrame]:
    from s2utils.evaluation.leaderboard.evaluate import COLUMNS as TASKS

    frames = []
    for name, folder in folders.items():
        row = steps.model(run.params, name)
        lines = [line for task in TASKS for line in artefacts.read_jsonl(folder / f"{task}.jsonl")]
        part = pd.DataFrame(lines, columns=["task", "subject", "doc_id", "value"]).rename(columns={"task": "group"})
        part["question"] = part[["group", "subject", "doc_id"]].astype(str).agg("/".join, axis=1)
        alike = run.params.leaderboard.protocol == "v1"  # subjects weigh alike, under the other protocol by their size
        part["stratum"] = part["subject"].where((part["group"] == "mmlu") & alike, "")
        part["value"] = 100 * part["value"].round(12)  # rounding in a probability's last digits is no difference
        for model in [row.model] + [f"{row.model}-chat"] * (row.variant == "base" and steps.same_weights(run.params)):
            keyed = part.assign(model=model, merge_mode=row.merge_mode, dataset="")
            frames += [keyed.assign(metric=keyed["group"].map(TASKS)), keyed.assign(metric="average")]
    return {"leaderboard": _weighted(pd.concat(frames, ignore_index=True))}


def _mtbench(run: Run, folders: dict) -> dict[str, pd.DataFrame]:
    from s2utils.evaluation.judge.mtbench import TURNS

    frames = []
    for name, folder in folders.items():
        means = judgements.averaged(judgements.read(folder / "judged.jsonl"), ["rating"], ["question_id", "turn"])
        frames.append(means.assign(id=name, value=means["rating"], metric=means["turn"].map(TURNS)))
    return {"mtbench": _rated(run, pd.concat(frames, ignore_index=True))}


def _judged(run: Run, folders: dict) -> dict[str, pd.DataFrame]:
    rows = judgements.read(folders[""] / "validation.jsonl")
    if rows.empty:
        return {}
    parts = {metric: metric.removeprefix("judge_").replace("rating", "overall") for metric in metrics.columns("judge")}
    means = judgements.averaged(rows, list(parts.values()), ["model", "question_id"])
    means = means.rename(columns={"model": "id", **{part: metric for metric, part in parts.items()}})
    return {"judge": _rated(run, means.melt(["id", "question_id"], list(parts), "metric"))}


def _rated(run: Run, frame: pd.DataFrame) -> pd.DataFrame:
    """The long frame of ratings with id, question_id, metric and value."""
    rows = {row.id: row for row in run.models}
    keyed = frame.assign(**{k: [getattr(rows[id], k) for id in frame["id"]] for k in ("model", "merge_mode")})
    keyed = keyed.assign(dataset="", group="", stratum="", question=frame["question_id"].astype(str))
    return _weighted(keyed)


READERS = {"text_metrics": _text_metrics, "leaderboard": _leaderboard, "mtbench": _mtbench, "judged": _judged}


def _weighted(frame: pd.DataFrame) -> pd.DataFrame:
    row = ["model", "merge_mode", "dataset", "metric"]
    questions = frame.groupby([*row, "group", "stratum"])["value"].transform("size")
    subjects = frame.groupby([*row, "group"])["stratum"].transform("nunique")
    groups = frame.groupby(row)["group"].transform("nunique")
    return frame.assign(weight=1 / (questions * subjects * groups))[COLUMNS]


def rows(frame: pd.DataFrame) -> dict[tuple[str, str, str, str], pd.Series]:
    """(model, merge_mode, dataset, metric) → values, indexed by group, stratum and question."""
    keys = ["model", "merge_mode", "dataset", "metric"]
    indexed = frame.set_index(["group", "stratum", "question"])
    return {key: part["value"] for key, part in indexed.groupby(keys, sort=False)}


def summed(terms: list[tuple[float, pd.Series]], resamples: int, confidence: float, seed: int) -> tuple | None:
    """(value, low, high, n, n_failed) of a weighted sum of rows' means, question by question.

    None where the terms of a group were not asked the same questions. Values are combined within a question before
    anything is drawn, and questions are drawn within their stratum (`strata`). A question that failed under one term
    has failed.
    """
    groups = defaultdict(list)
    for weight, values in terms:
        names = values.index.unique("group")
        for name in names:
            groups[name].append(weight / len(names) * values.xs(name, level="group").sort_index())
    rng, value, drawn, n, failed = np.random.default_rng(seed), 0.0, np.zeros(resamples), 0, 0
    for parts in groups.values():
        if not all(part.index.equals(parts[0].index) for part in parts):
            return None
        apart = sum(parts)
        parts = [values.dropna().to_numpy() for _, values in apart.groupby(level="stratum")]
        mean, means = stratified.resampled(parts, resamples, rng)
        value, drawn, n, failed = value + mean, drawn + means, n + len(apart), failed + int(apart.isna().sum())
    tail = (1 - confidence) / 2
    return (value, *map(float, np.quantile(drawn, [tail, 1 - tail])), n, failed)


def read(made: Path) -> pd.DataFrame:
    """Scores of single questions in a folder of artefacts, of any run: model_id, dataset, metric, question, value.

    A question of the text metrics is known by its source, its id and its own text; documents and questions of the other
    steps carry only a number within what the parameters chose.
    """
    from s2utils.data.mtbench_questions import TURNS
    from s2utils.evaluation.leaderboard.evaluate import COLUMNS as TASKS

    parts, file = [], made / "text_metrics" / "scores.parquet"
    if file.is_file():
        scores = pd.read_parquet(file)
        scores["question"] = scores["source"].astype(str) + "/" + scores["id"].astype(str) + " " + scores["question"]
        scored = [
            c for table in ("rouge", "bertscore", "flesch", "manner") for c in metrics.columns(table) if c in scores
        ]
        parts.append(scores.melt(["model_id", "dataset", "question"], scored, "metric"))
    for file in sorted(made.glob("leaderboard/*/*.jsonl")):
        frame = pd.DataFrame(artefacts.read_jsonl(file))
        if {"doc_id", "subject", "value"} <= set(frame):
            number = frame["subject"].astype(str) + " " + frame["doc_id"].astype(str)
            values = {"question": number, "value": 100 * frame["value"], "metric": TASKS.get(file.stem, file.stem)}
            parts.append(pd.DataFrame(values | {"model_id": file.parent.name, "dataset": ""}))
    for file in sorted(made.glob("mtbench/*/judged.jsonl")):
        frame = pd.DataFrame(artefacts.read_jsonl(file))
        if "rating" in frame:
            frame["rating"] = pd.to_numeric(frame["rating"], errors="coerce")
            means = frame.groupby(["turn", "question_id"])["rating"].mean().rename("value").reset_index()
            means = means.assign(question=means["question_id"].astype(str), metric=means["turn"].map(TURNS), dataset="")
            parts.append(means.assign(model_id=file.parent.name))
    columns = ["model_id", "dataset", "metric", "question", "value"]
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)
