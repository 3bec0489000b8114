"""Judgements: a judge is asked, its replies are read, and none is lost.

A reply without a clear verdict is asked for it once more, for the verdict alone; what is still not clear has failed and
stays as a row. A judge is a model (`llm`), or a file of human ratings, which is looked up and not asked. Trap: a judge
asked several times at temperature 0 repeats itself; the spread of its repeats is then no measure of doubt.
"""

from __future__ import annotations

import functools
import math
from pathlib import Path

import pandas as pd

from s2utils.data import records
from s2utils.data.values import identifier, number
from s2utils.evaluation.judge import judge_prompts
from s2utils.evaluation.judge.readings import missing, reading
from s2utils.evaluation.judge.replies import DIMENSIONS
from s2utils.models import llm
from s2utils.models.parameters import Endpoint
from s2utils.workflow import artefacts, paths
from s2utils.workflow.params import ParameterError

STATES = ("clear", "repaired", "failed")
KEYS = ("question_id", "turn", "model")  # what is judged


def collect(
    endpoint: Endpoint,
    kind: str,
    items: list[dict],
    cache: Path,
    *,
    seed: int,
    label: str,
    repeats: int = 1,
    local: llm.Local | None = None,
) -> list[dict]:
    """One row an item and repeat: the item without its chat, kind, judge, repeat, values, state, reply, again, error.

    `items` hold KEYS and `chat`; `kind` is one of `judge_prompts.FORMS`. Values that are not clear are nan or "".
    `local` holds the weights of a local judge.
    """
    rows = []
    for repeat in range(repeats if endpoint.backend != "file" else 1):
        if endpoint.backend == "file":
            replies = _looked_up(endpoint, kind, items)
        else:
            title = f"{label}, repeat {repeat + 1}" if repeat else label
            replies = _asked(endpoint, kind, [i["chat"] for i in items], cache, seed + repeat, title, local)
        about = {"kind": kind, "judge": endpoint.model, "repeat": repeat}
        rows += [{k: v for k, v in i.items() if k != "chat"} | about | r for i, r in zip(items, replies, strict=True)]
    return rows


def _asked(
    endpoint: Endpoint, kind: str, chats: list[list[dict]], cache: Path, seed: int, label: str, local: llm.Local | None
) -> list[dict]:
    """Ask, and ask once more where nothing came, or nothing clear."""
    ask = functools.partial(llm.ask, endpoint, cache=cache, seed=seed, local=local)
    replies = ask(chats, label=label)
    if any(reply["error"] for reply in replies):
        replies = ask(chats, label=f"{label}, what came broken")
    rows = []
    for reply in replies:
        values = reading(kind, reply["text"]).values
        state = "failed" if missing(values) else "clear"
        rows.append({**values, "state": state, "reply": reply["text"], "again": "", "error": reply["error"]})
    unclear = [i for i, row in enumerate(rows) if row["state"] == "failed" and not row["error"]]
    chats = [judge_prompts.again(kind, chats[i], rows[i]["reply"]) for i in unclear]
    for i, reply in zip(unclear, ask(chats, label=f"{label}, again") if chats else []):
        values = reading(kind, reply["text"]).values
        if missing(values):  # a whole second reply is one opinion
            values = {name: values[name] if missing({name: rows[i][name]}) else rows[i][name] for name in values}
        state = "failed" if missing(values) else "repaired"
        rows[i] |= {**values, "state": state, "again": reply["text"], "error": reply["error"]}
    return rows


def _looked_up(endpoint: Endpoint, kind: str, items: list[dict]) -> list[dict]:
    """The ratings of a file for the items; those it does not hold have failed."""
    names = {"single": ["rating"], "rubric": list(DIMENSIONS)}[kind]
    ratings = humans(paths.root() / endpoint.model).rename(columns={} if kind == "single" else {"rating": "overall"})
    means = ratings.groupby(list(KEYS))[[name for name in names if name in ratings]].mean().to_dict("index")
    rows = []
    for item in items:
        mean = means.get((identifier(item["question_id"]), item["turn"], item["model"]))
        values = dict.fromkeys(names, math.nan) | (mean or {})
        state = "failed" if math.isnan(values[names[-1]]) else "clear"
        rows.append(
            values | {"state": state, "reply": "", "again": "", "error": "not in the file" if mean is None else ""}
        )
    return rows


def humans(file: Path) -> pd.DataFrame:
    """One row per rating of a file of people's ratings: question_id, turn, model, rater, rating, dimensions.

    The file is one that `records` reads. Several rows of one answer need a column `rater` that tells them apart. Raises
    ParameterError naming file and row.
    """
    try:
        table = records.read(file)
    except records.RecordsError as error:
        raise ParameterError(str(error)) from error
    columns = table.columns
    if absent := [c for c in (*KEYS, "rating") if c not in columns]:
        raise ParameterError(f"{file}: no column {absent[0]!r} among {', '.join(columns)}; ratings need it")
    names = ["rating", *(d for d in DIMENSIONS if d in columns and d != "overall")]
    ratings, seen = [], {}
    for place, row in zip(table.numbers, table.rows):
        where = f"{file}, row {place}"
        if number(row["turn"]) not in (1, 2):
            raise ParameterError(f"{where}: turn must be 1 or 2, not {row['turn']!r:.80}")
        rating = {"question_id": identifier(row["question_id"]), "turn": int(number(row["turn"]))}
        rating |= {name: identifier(row.get(name)) for name in ("model", "rater")}
        if not rating["question_id"] or not rating["model"]:
            raise ParameterError(f"{where}: question_id and model must not be empty")
        for name in names:
            rating[name] = number(row[name])
            if not 1 <= rating[name] <= 10 and (name == "rating" or identifier(row[name])):
                raise ParameterError(f"{where}: {name} must be a number from 1 to 10, not {row[name]!r:.80}")
        before = seen.setdefault(tuple(rating[k] for k in (*KEYS, "rater")), place)
        if before != place:
            raise ParameterError(f"{where} rates what row {before} rates; a column 'rater' tells several people apart")
        ratings.append(rating)
    return pd.DataFrame(ratings)


def write(path: Path, rows: list[dict]) -> None:
    """Rows as JSONL, whole or not at all."""
    with artefacts.replacing(path) as file:
        pd.DataFrame(rows).to_json(file, orient="records", lines=True, force_ascii=False)


def read(path: Path) -> pd.DataFrame:
    """Rows of `write`; ratings are numbers, nan where there was none."""
    frame = pd.DataFrame(artefacts.read_jsonl(path))
    for name in ("rating", *DIMENSIONS):
        if name in frame:
            frame[name] = frame[name].astype(float)
    return frame


def counts(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per kind and judge: asked, and of these clear at once, clear when asked again, failed."""
    groups = rows.groupby(["kind", "judge"], sort=False)["state"]
    counted = groups.value_counts().unstack(fill_value=0).reindex(columns=list(STATES), fill_value=0)
    counted.insert(0, "asked", groups.size())
    return counted.reset_index()


def failures(rows: pd.DataFrame, by: tuple[str, ...] = ("kind", "judge")) -> pd.DataFrame:
    """One row per kind, judge and reason why first replies were not clear: how many, and of these repaired, failed."""
    unclear = rows[rows["state"] != "clear"]
    reasons = [reading(r.kind, r.reply).failure if r.reply else r.error or "empty" for r in unclear.itertuples()]
    states = {state: unclear["state"] == state for state in ("repaired", "failed")}
    table = unclear[list(by)].assign(reason=reasons, not_clear=1, **states)
    return table.groupby([*by, "reason"], sort=False).sum().astype(int).reset_index()


def averaged(rows: pd.DataFrame, values: list[str], by: list[str]) -> pd.DataFrame:
    """One row per thing judged, in order: the mean of its repeats, `<value>_spread` their standard deviation."""
    groups = rows.groupby(by, sort=False, dropna=False)[values]
    return groups.mean().join(groups.std().add_suffix("_spread")).reset_index()
