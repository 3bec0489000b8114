"""What a judge is asked beside MT(S)-bench's ratings: the validation set, pairs, and the panel that tests the judge.

One job, for all models: the judge is loaded once. The notebook calls `make`, and the graph runs it before the tables:

    python -m s2utils make judged cpu
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from s2utils.evaluation.judge import judge_prompts, judgements, mtbench, pairwise, reliability
from s2utils.models import llm
from s2utils.models.parameters import Endpoint
from s2utils.workflow import artefacts, paths
from s2utils.workflow.notebook import Run
from s2utils.workflow.params import ParameterError, Params

NAMES = ("validation", "pairs", "controls", "agreement")  # <name>.jsonl, one row per judgement


def make(run: Run) -> Path:
    """Ask what is missing; returns the folder with <NAMES>.jsonl and panel.csv."""
    judged, params = run.artefact("", "judged"), run.params
    if judged.ready:
        return judged.folder
    judge, union = params.mtbench.judge, params.data.union
    folders = {row.id: run.require("answers", row.id).folder for row in run.models}
    answers = {id: artefacts.read_jsonl(folder / "answers.jsonl") for id, folder in folders.items()}
    answers = {id: [answer for answer in rows if answer["dataset"] == union] for id, rows in answers.items()}
    rated = {r.id: judgements.read(run.require("mtbench", r.id).folder / "judged.jsonl") for r in run.models}
    if judge.backend == "file" and all(frame["rating"].isna().all() for frame in rated.values()):
        raise ParameterError(f"{judge.model} rates none of these models' answers: {', '.join(rated)}")
    with judged.making(judge=judge.model):
        asker = _Asker(params, paths.artefacts(run.profile) / "cache" / "judge.jsonl")
        rows = dict.fromkeys(NAMES, []) | {"validation": asker.validation(answers)}
        if judge.backend != "file":  # a file of ratings can be looked up, not asked
            rows["pairs"] = asker.pairs(rated, run)
            rows["controls"] = asker.controls(next(iter(answers.values())))
        rows["agreement"], agreement = asker.agreement(rated, rows["validation"])
        panel = pd.DataFrame([*_panel(rows, params), *agreement], columns=reliability.COLUMNS)
        for name in NAMES:
            judgements.write(judged.folder / f"{name}.jsonl", rows[name])
        with artefacts.replacing(judged.folder / "panel.csv") as file:
            panel.round(6).to_csv(file, index=False, lineterminator="\n")
    return judged.folder


class _Asker:
    """Asks the judges of a study; the weights of a local judge are loaded once."""

    def __init__(self, params: Params, cache: Path):
        self.params, self.settings, self.cache = params, params.mtbench, cache
        self.templates, self.local = mtbench.templates_of(params.mtbench), {}

    def ask(
        self, kind: str, items: list[dict], label: str, endpoint: Endpoint | None = None, repeats: int = 1
    ) -> list[dict]:
        """The judgements of `items` by `endpoint`, the first judge without one."""
        if not items:
            return []
        endpoint = endpoint or self.settings.judge
        local = llm.local(endpoint, self.params)
        asking = {"seed": self.params.seed, "repeats": repeats, "local": self.local.setdefault(local, local)}
        return judgements.collect(endpoint, kind, items, self.cache, label=label, **asking)

    def validation(self, answers: dict[str, list[dict]]) -> list[dict]:
        """Every model's first answers to the validation set, by the rubric."""
        settings, items = self.settings, []
        for id, rows in answers.items():
            for row in rows[: settings.validation]:
                reference = row["reference"] if settings.guided else ""
                chat = judge_prompts.rubric_chat(row["question"], row["text"], reference, settings.reasons)
                items.append({"question_id": row["id"], "turn": 1, "model": id, "ended": row["ended"], "chat": chat})
        return self.ask("rubric", items, "validation set", repeats=settings.repeats)

    def pairs(self, rated: dict[str, pd.DataFrame], run: Run) -> list[dict]:
        """Every fine-tune against the base, on the first turn of the first questions."""
        settings, items = self.settings, []
        questions = mtbench.questions(settings, self.params.seed)[: settings.pairs]
        texts = {id: _texts(frame) for id, frame in rated.items()}
        base = next(row.id for row in run.models if row.variant == "base")
        for row in run.models:
            for question in questions if row.made_by else ():
                both = texts[row.id][question["question_id"]], texts[base][question["question_id"]]
                items += pairwise.items(question, 1, row.id, base, *both, settings, self.templates, settings.guided)
        return self.ask("pair", items, "pairs")

    def controls(self, answers: list[dict]) -> list[dict]:
        """Answers of known worth: rated several times, by the rubric, and in pairs."""
        settings, panel = self.settings, self.settings.panel
        rows = reliability.controls(answers, panel.questions, self.params.seed)
        warm = settings.judge.model_copy(update={"temperature": panel.temperature})
        single, rubric = (reliability.items(rows, kind, settings, self.templates) for kind in ("single", "rubric"))
        judge = warm if panel.repeats > 1 else settings.judge
        judged = self.ask("single", single, "controls, single", judge, panel.repeats)
        if settings.validation:
            judged += self.ask("rubric", rubric, "controls, rubric")
        return judged + self.ask("pair", reliability.couples(rows, settings, self.templates), "controls, pairs")

    def agreement(self, rated: dict[str, pd.DataFrame], validation: list[dict]) -> tuple[list[dict], list[dict]]:
        """(ratings by every other judge, checks): a model rates the panel's questions, a file all that it holds."""
        rows, checks = [], []
        ours = {"single": pd.concat(rated.values()), "rubric": pd.DataFrame(validation)}
        for judge in self.settings.other_judges:
            for kind, value in (("single", "rating"), ("rubric", "overall")):
                mine, items = ours[kind], []
                if judge.backend != "file":
                    items = self.rerated(rated) if kind == "single" else []
                elif len(mine):
                    items = mine[list(judgements.KEYS)].drop_duplicates().to_dict("records")
                theirs = self.ask(kind, items, f"{judge.model}, {kind}", judge)
                frame = pd.DataFrame(theirs)
                if len(frame) and frame[value].notna().any():
                    if judge.backend != "file":
                        mine = mine.merge(frame[["question_id", "model"]].drop_duplicates())
                    checks += reliability.agreement(mine, frame, value, self.params)
                    rows += theirs
        return rows, checks

    def rerated(self, rated: dict[str, pd.DataFrame]) -> list[dict]:
        """Both turns of the panel's questions by every model, for a second opinion."""
        settings, items = self.settings, []
        questions = mtbench.questions(settings, self.params.seed)[: settings.panel.questions]
        for id, frame in rated.items():
            texts = _texts(frame)
            for question in questions:
                number = question["question_id"]
                for turn in (1, 2):
                    chat = judge_prompts.turn_chat(
                        question, texts[number], turn, self.templates, settings.reasons, settings.guided
                    )
                    items.append({"question_id": number, "turn": turn, "model": id, "chat": chat})
        return items


def _texts(frame: pd.DataFrame) -> dict:
    """{question_id: [answer to turn 1, to turn 2]}"""
    once = frame[frame["repeat"] == 0].pivot(index="question_id", columns="turn", values="text")
    return {id: list(texts) for id, texts in zip(once.index, once[[1, 2]].to_numpy().tolist())}


def _panel(rows: dict[str, list[dict]], params: Params) -> list[dict]:
    """The checks of the first judge."""
    controls, checks = pd.DataFrame(rows["controls"]), []
    if controls.empty:
        return []
    for kind in ("single", "rubric"):
        if len(of_kind := controls[controls["kind"] == kind]):
            checks += reliability.rated(of_kind, params)
    pairs = [controls[controls["kind"] == "pair"], pd.DataFrame(rows["pairs"])]
    return checks + reliability.compared(pd.concat(pairs, ignore_index=True), params)
