"""What a judge is asked beside MT(S)-bench's ratings: the validation set, pairs, and the panel that tests the judge.

One job, for all models: the judge is loaded once. The notebook calls `make`, and the graph runs it before the tables:

    python -m s2utils.job judged cpu
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pandas as pd

from s2utils.evaluation.judge import judge_prompts, judgements, mtbench, pairwise, reliability
from s2utils.models import llm
from s2utils.workflow import artefacts, paths
from s2utils.workflow.notebook import Run
from s2utils.workflow.params import Endpoint, ParameterError, Params

NAMES = ("validation", "pairs", "controls", "agreement")  # <name>.jsonl, one row per judgement


def make(run: Run) -> Path:
    """Ask what is missing; returns the folder with <NAMES>.jsonl and panel.csv."""
    made, p = run.artefact("", "judged"), run.params
    if made.ready:
        return made.folder
    answers = {r.id: artefacts.read_jsonl(run.require("answers", r.id).folder / "answers.jsonl") for r in run.models}
    answers = {id: [a for a in rows if a["dataset"] == p.data.union] for id, rows in answers.items()}
    rated = {r.id: judgements.read(run.require("mtbench", r.id).folder / "judged.jsonl") for r in run.models}
    if p.mtbench.judge.backend == "file" and all(f["rating"].isna().all() for f in rated.values()):
        raise ParameterError(f"{p.mtbench.judge.model} rates none of these models' answers: {', '.join(rated)}")
    with made.making(judge=p.mtbench.judge.model):
        ask = _Asker(p, paths.artefacts(run.profile) / "cache" / "judge.jsonl")
        rows = dict.fromkeys(NAMES, ())
        rows["validation"] = _validation(ask, answers)
        templates = mtbench.templates_of(p.mtbench)
        if p.mtbench.judge.backend != "file":  # a file of ratings can be looked up, not asked
            rows["pairs"] = _pairs(ask, rated, run, templates)
            rows["controls"] = _controls(ask, next(iter(answers.values())), templates)
        rows["agreement"], checks = _agreement(ask, rated, rows["validation"], templates)
        frame = pd.DataFrame([*_panel(rows, p), *checks], columns=reliability.COLUMNS)
        for name in NAMES:
            judgements.write(made.folder / f"{name}.jsonl", list(rows[name]))
        with artefacts.replacing(made.folder / "panel.csv") as file:
            frame.round(6).to_csv(file, index=False, lineterminator="\n")
    return made.folder


@dataclasses.dataclass
class _Asker:
    """Who asks: parameters and the cache; the weights of a local judge are loaded once."""

    params: Params
    cache: Path
    known: dict[llm.Local | None, llm.Local | None] = dataclasses.field(default_factory=dict)

    def __call__(
        self, kind: str, items: list[dict], label: str, endpoint: Endpoint | None = None, repeats: int = 1
    ) -> list[dict]:
        if not items:
            return []
        endpoint = endpoint or self.params.mtbench.judge
        local = llm.local(endpoint, self.params)
        local = self.known.setdefault(local, local)
        return judgements.collect(
            endpoint, kind, items, self.cache, seed=self.params.seed, label=label, repeats=repeats, local=local
        )


def _validation(ask: _Asker, answers: dict[str, list[dict]]) -> list[dict]:
    s, items = ask.params.mtbench, []
    for id, rows in answers.items():
        for row in rows[: s.validation]:
            chat = judge_prompts.rubric_chat(
                row["question"], row["text"], row["reference"] if s.guided else "", s.reasons
            )
            items.append({"question_id": row["id"], "turn": 1, "model": id, "ended": row["ended"], "chat": chat})
    return ask("rubric", items, "validation set", repeats=s.repeats)


def _pairs(ask: _Asker, rated: dict[str, pd.DataFrame], run: Run, templates: dict) -> list[dict]:
    """Every fine-tune against the base, on the first turn of the first questions."""
    s, items = ask.params.mtbench, []
    questions = mtbench.questions(s, ask.params.seed)[: s.pairs]
    said = {id: _texts(frame) for id, frame in rated.items()}
    base = next(r.id for r in run.models if r.variant == "base")
    for row in run.models:
        for q in questions if row.made_by else ():
            two = said[row.id][q["question_id"]], said[base][q["question_id"]]
            items += pairwise.items(q, 1, row.id, base, *two, s, templates, s.guided)
    return ask("pair", items, "pairs")


def _texts(frame: pd.DataFrame) -> dict:
    """{question_id: [answer to turn 1, to turn 2]}"""
    once = frame[frame["repeat"] == 0].pivot(index="question_id", columns="turn", values="text")
    return {id: list(texts) for id, texts in zip(once.index, once[[1, 2]].to_numpy().tolist())}


def _controls(ask: _Asker, asked: list[dict], templates: dict) -> list[dict]:
    s = ask.params.mtbench
    rows = reliability.controls(asked, s.panel.questions, ask.params.seed)
    warm = dataclasses.replace(s.judge, temperature=s.panel.temperature) if s.panel.repeats > 1 else s.judge
    found = []
    for kind, judge, repeats in (("single", warm, s.panel.repeats), ("rubric", s.judge, 1)):
        if kind == "rubric" and not s.validation:
            continue
        found += ask(kind, reliability.items(rows, kind, s, templates), f"controls, {kind}", judge, repeats)
    return found + ask("pair", reliability.couples(rows, s, templates), "controls, pairs")


def _agreement(
    ask: _Asker, rated: dict[str, pd.DataFrame], validation: list[dict], templates: dict
) -> tuple[list[dict], list[dict]]:
    """(ratings by every other judge, checks): a model rates the panel's questions, a file all that it holds."""
    s, rows, checks = ask.params.mtbench, [], []
    ours = {"single": pd.concat(rated.values()), "rubric": pd.DataFrame(validation)}
    few = mtbench.questions(s, ask.params.seed)[: s.panel.questions]
    for judge in s.other_judges:
        for kind, value in (("single", "rating"), ("rubric", "overall")):
            mine = ours[kind]
            if judge.backend == "file":
                items = mine[list(judgements.KEYS)].drop_duplicates().to_dict("records") if len(mine) else []
            else:
                items = (
                    [i for id, f in rated.items() for i in _rerated(id, f, few, s, templates)]
                    if kind == "single"
                    else []
                )
            theirs = ask(kind, items, f"{judge.model}, {kind}", judge)
            found = pd.DataFrame(theirs)
            if len(found) and found[value].notna().any():
                held = found[["question_id", "model"]].drop_duplicates() if judge.backend != "file" else None
                mine = mine if held is None else mine.merge(held)
                checks += reliability.agreement(mine, found, value, ask.params)
                rows += theirs
    return rows, checks


def _rerated(id: str, frame: pd.DataFrame, questions: list[dict], s, templates: dict) -> list[dict]:
    said = _texts(frame)
    return [
        {"question_id": q["question_id"], "turn": turn, "model": id,
         "chat": judge_prompts.turn_chat(q, said[q["question_id"]], turn, templates, s.reasons, s.guided)}
        for q in questions for turn in (1, 2)
    ]  # fmt: skip


def _panel(rows: dict, params: Params) -> list[dict]:
    """The checks of the first judge."""
    frame, checks = pd.DataFrame(rows["controls"]), []
    for kind in ("single", "rubric"):
        if len(frame) and (frame["kind"] == kind).any():
            checks += reliability.rated(frame[frame["kind"] == kind], params)
    if len(frame):
        both = [frame[frame["kind"] == "pair"], pd.DataFrame(rows["pairs"])]
        checks += reliability.compared(pd.concat(both, ignore_index=True), params)
    return checks
