"""Scores of single questions and documents of every evaluation, read from what the notebooks made: the one frame of
them, of which means, tests, marks, claims and comparisons of runs are made.

One row per sample and metric: the model's keys, dataset ("" where there is none), metric, question, value; weight, its
share in the row's mean, which is that over its groups (the tasks of an average) of the mean over their strata (MMLU's
subjects) of the mean over questions; and as far as a step knows them turn, ended and looping of the answer, and spread,
the standard deviation of a rating's repeats. Units are those of the tables. Trap: a question that failed is NaN.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from pathlib import Path

import numpy as np
import pandas as pd

from s2utils.evaluation import metrics
from s2utils.evaluation.judge import judgements
from s2utils.stats import intervals, stratified
from s2utils.workflow import steps
from s2utils.workflow.notebook import Run
from s2utils.workflow.params import Params

ROW = ["model", "base", "variant", "train_set", "merge_mode", "dataset"]
COLUMNS = [*ROW, "metric", "group", "stratum", "question", "value", "weight"]
KNOWN = ["turn", "ended", "looping", "spread"]  # by some steps


def of(run: Run, *wanted: str) -> dict[str, pd.DataFrame]:
    """Table → its frame, of all steps or the `wanted` ones, and of the models that the run is about.

    A step that is not made for all of these is left out.
    """
    found = {}
    rows = pd.DataFrame(map(dataclasses.asdict, steps.models(run.params, None))).rename(columns={"id": "model_id"})
    for step in wanted or READERS:
        made = [run.artefact(n, step) for n in (steps.collected(step, run.params) if run.collects else run.names)]
        if not made or not all(artefact.ready for artefact in made):
            continue
        frame = pd.concat([READERS[step](artefact.folder) for artefact in made], ignore_index=True)
        if frame.empty:
            continue
        frame = _averaged_tasks(frame, run.params) if step == "leaderboard" else frame
        frame = frame.merge(rows[["model_id", *ROW[:-1]]], on="model_id")
        table = frame["metric"].map(lambda metric: metrics.METRICS[metric].table)
        found |= {name: _weighted(part) for name, part in frame.groupby(table, sort=False)}
    return found


def read(made: Path) -> pd.DataFrame:
    """The same of any run, from its folder of artefacts alone: model_id, dataset, metric, question, value.

    A question of the text metrics is known by its source, its id and its own text; documents and questions of the other
    steps carry only a number within what the parameters chose.
    """
    files = {"text_metrics": "scores.parquet", "leaderboard": "*/arc.jsonl", "mtbench": "*/judged.jsonl"}
    files |= {"fit": "*/documents.parquet"}
    parts = [READERS[step](file.parent) for step, name in files.items() for file in sorted(made.glob(f"{step}/{name}"))]
    columns = ["model_id", "dataset", "metric", "question", "value"]
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


def _text_metrics(folder: Path) -> pd.DataFrame:
    scores = pd.read_parquet(folder / "scores.parquet")
    place = scores[["dataset", "source", "id"]].astype(str).agg("/".join, axis=1)
    scores = scores.assign(question=place + " " + scores["question"], group="", stratum="", turn=1)
    keys = ["model_id", "dataset", "question", "group", "stratum", *scores.columns.intersection(KNOWN)]
    return scores.melt(keys, [column for column in metrics.METRICS if column in scores], "metric")


def _leaderboard(folder: Path) -> pd.DataFrame:
    from s2utils.evaluation.leaderboard import evaluate

    frame = evaluate.documents(folder)[["task", "subject", "doc_id", "value"]]
    return frame.assign(
        model_id=folder.name,
        dataset="",
        metric=frame["task"].map(evaluate.COLUMNS),
        group=frame["task"],
        stratum=frame["subject"].where(frame["task"] == "mmlu", ""),
        question=frame[["task", "subject", "doc_id"]].astype(str).agg("/".join, axis=1),
        value=100 * frame["value"].round(12),  # rounding in a probability's last digits is no difference
    )


def _fit(folder: Path) -> pd.DataFrame:
    from s2utils.evaluation import fit

    samples = fit.samples(pd.read_parquet(folder / "documents.parquet"))
    return samples.assign(model_id=folder.name, group="", stratum="")


def _averaged_tasks(frame: pd.DataFrame, params: Params) -> pd.DataFrame:
    """The leaderboard's documents under their task and again under the average; base and chat may be one model."""
    name = params.model.name
    if params.leaderboard.protocol != "v1":  # subjects weigh by their size
        frame = frame.assign(stratum="")
    if steps.same_weights(params):
        base = frame["model_id"] == name
        frame = pd.concat([frame[base], frame[base].assign(model_id=f"{name}-chat"), frame[~base]])
    return pd.concat([frame, frame.assign(metric="average")], ignore_index=True)


def _mtbench(folder: Path) -> pd.DataFrame:
    from s2utils.evaluation.judge.mtbench import TURNS

    rows = judgements.read(folder / "judged.jsonl").assign(model=folder.name)
    frame = _rated(rows, {"rating": ""})
    return frame.assign(metric=frame["turn"].map(TURNS))


def _judged(folder: Path) -> pd.DataFrame:
    rows = judgements.read(folder / "validation.jsonl")
    parts = {metric.removeprefix("judge_").replace("rating", "overall"): metric for metric in metrics.columns("judge")}
    return rows if rows.empty else _rated(rows, parts)


def _rated(rows: pd.DataFrame, parts: dict[str, str]) -> pd.DataFrame:
    """Judgements, their repeats averaged; `parts` are their values and which metric each is."""
    by = ["model", "question_id", *rows.columns.intersection(["turn", "ended"])]
    means = judgements.averaged(rows, list(parts), by)
    means = means.rename(columns={"model": "model_id"}).assign(
        dataset="", group="", stratum="", question=means["question_id"].astype(str)
    )
    return pd.concat(
        means.assign(metric=metric, value=means[part], spread=means[f"{part}_spread"]) for part, metric in parts.items()
    )


READERS = {
    "leaderboard": _leaderboard, "text_metrics": _text_metrics, "mtbench": _mtbench, "judged": _judged, "fit": _fit,
}  # fmt: skip


def _weighted(frame: pd.DataFrame) -> pd.DataFrame:
    row = ["model", "merge_mode", "dataset", "metric"]
    questions = frame.groupby([*row, "group", "stratum"])["value"].transform("size")
    subjects = frame.groupby([*row, "group"])["stratum"].transform("nunique")
    groups = frame.groupby(row)["group"].transform("nunique")
    frame = frame.assign(weight=1 / (questions * subjects * groups))
    return frame[[*COLUMNS, *frame.columns.intersection(KNOWN)]].reset_index(drop=True)


def summary(frame: pd.DataFrame, params: Params) -> pd.DataFrame:
    """A table of answers and their mean scores: a row per ROW (without data sets where there are none).

    n questions; answers that were cut, and where that is known that loop, and that are finished, which is neither; each
    metric's mean with interval and failures, and `<metric>_finished`, its mean over finished answers alone, or
    `<metric>_spread`, the mean standard deviation of its repeats, nan where the judge was asked once.
    """
    rows = []
    for keys, part in frame.groupby(ROW, sort=False):
        answers = part.drop_duplicates(["question", "turn"])
        row = dict(zip(ROW, keys)) | {"n": part["question"].nunique(), "n_cut": int((~answers["ended"]).sum())}
        if "looping" in frame:
            finished = part["ended"] & ~part["looping"]
            row |= {"n_looping": int(answers["looping"].sum()), "n_finished": int(finished[answers.index].sum())}
        for metric, samples in part.groupby("metric", sort=False):
            row |= intervals.mean_columns(metric, samples["value"], params)
            if "looping" in frame:
                row[f"{metric}_finished"] = samples.loc[finished, "value"].mean()
            else:
                row[f"{metric}_spread"] = samples["spread"].mean()
        rows.append(row)
    table = pd.DataFrame(rows)
    if not frame["dataset"].any():
        return table.drop(columns="dataset")
    order = {"key": lambda column: column.map(params.datasets.index), "kind": "stable", "ignore_index": True}
    return table.sort_values("dataset", **order)


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
        mean, means = stratified.resampled(stratified.parts(apart, "stratum"), resamples, rng)
        value, drawn, n, failed = value + mean, drawn + means, n + len(apart), failed + int(apart.isna().sum())
    return (value, *intervals.percentiles(drawn, confidence), n, failed)
