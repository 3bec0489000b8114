"""MT(S)-bench: two-turn questions, their answers, and a judge's ratings of each turn.

What the judge is asked is in `judge_prompts`, the asking in `judgements`. Trap: a small judge gives any number at all,
so its ratings carry no weight; `reliability` says whether a judge's do.
"""

from __future__ import annotations

import collections
import functools
import itertools
import random
from pathlib import Path

from s2utils.data import mtbench_questions
from s2utils.data.mtbench_questions import TURNS
from s2utils.evaluation.judge import fastchat, judge_prompts
from s2utils.evaluation.parameters import MtBench
from s2utils.models import generation, loading
from s2utils.workflow import paths
from s2utils.workflow.params import ParameterError, Params
from s2utils.workflow.steps import ModelRow


def questions(settings: MtBench, seed: int) -> list[dict]:
    """Questions {question_id, category, turns: [two], must_hold, reference}; a seeded sample, spread over categories.

    Reads our own file or MT-bench's. `reference` holds a text a turn, "" for none, or is empty: the questions' own, or
    where `references` names FastChat's file, those of that file alone. Raises ParameterError naming file and line.
    """
    rows = mtbench_questions.questions(settings.questions)
    if settings.references:
        by_id = mtbench_questions.references(settings.references)
        if not any(str(row["question_id"]) in by_id for row in rows):
            raise ParameterError(
                f"mtbench.references: {settings.references} answers no question of {settings.questions}; its ids are "
                f"{', '.join(list(by_id)[:5])} …"
            )
        rows = [row | {"reference": by_id.get(str(row["question_id"]), [])} for row in rows]
    known = {row["category"] for row in rows}
    if unknown := [c for c in settings.categories if c not in known]:
        raise ParameterError(
            f"mtbench.categories: {unknown[0]!r} is not in {settings.questions}; it has {', '.join(sorted(known))}"
        )
    rows = [row for row in rows if not settings.categories or row["category"] in settings.categories]
    if not settings.n or settings.n >= len(rows):
        return rows
    shuffled, place = random.Random(seed).sample(rows, len(rows)), collections.defaultdict(itertools.count)
    ranked = sorted(shuffled, key=lambda row: next(place[row["category"]]))  # the i-th of each before the i+1-th of any
    taken = {row["question_id"] for row in ranked[: settings.n]}
    return [row for row in rows if row["question_id"] in taken]


def beside(questions: list[dict], settings: MtBench) -> str:
    """Whose reference answers the judge sees, and beside how many of the turns, for a caption.

    FastChat's prompts show one for math, reasoning and coding only, and never one of the second turn without the first.
    """
    if settings.judge.backend == "file":
        return "turns for people, who may have seen reference answers"
    templates, reasons = templates_of(settings), settings.reasons
    blind, guided = (
        [judge_prompts.turn_chat(q, ["", ""], turn, templates, reasons, shown) for q in questions for turn in TURNS]
        for shown in (False, settings.guided)
    )
    n = sum(with_reference != without for with_reference, without in zip(guided, blind))
    whose = settings.references or f"{settings.questions} itself"
    return f"{n} of {len(blind)} turns beside a reference answer" + (f" of {whose}" if n else "")


def answer(network, tok, questions: list[dict], row: ModelRow, params: Params, folder: Path) -> list[list[dict]]:
    """[answers to turn 1, answers to turn 2], kept in turn_1.jsonl and turn_2.jsonl of `folder`.

    The second turn sees the first with the model's own answer, uncut. Merges of one model draw the same random numbers.
    """
    sampling = {k: getattr(params.generate, k) for k in ("batch_size", "temperature", "top_p", "repetition_penalty")}
    answered: list[list[dict]] = []
    for turn in (1, 2):
        chats = [[q["turns"][0]] for q in questions]
        if turn == 2:
            chats = [[*chat, a["text"], q["turns"][1]] for chat, a, q in zip(chats, answered[0], questions)]
        texts = [loading.prompt(chat, row.prompt, tok, params.model) for chat in chats]
        prompts = loading.encoded(texts, tok, row.prompt)
        rows = [{"question_id": q["question_id"], "category": q["category"], "turn": turn} for q in questions]
        make = functools.partial(
            generation.completions, network, tok, prompts, seed=f"{params.seed}/{row.model}/{turn}",
            max_new_tokens=params.mtbench.max_new_tokens, label=f"{row.id} turn {turn}", **sampling,
        )  # fmt: skip
        file = folder / f"turn_{turn}.jsonl"
        answers = generation.answer_all(file, rows, sampling["batch_size"], lambda skip, make=make: make(skip=skip))
        answered.append(answers)
    return answered


def items(questions: list[dict], answers: list[list[dict]], row: ModelRow, settings: MtBench) -> list[dict]:
    """What the judge is asked of one model: question by question, both turns, as `judgements.collect` wants it."""
    templates, asked = templates_of(settings), []
    for question, *both in zip(questions, *answers, strict=True):
        texts = [answer["text"] for answer in both]
        for turn, answer in enumerate(both, start=1):
            chat = judge_prompts.turn_chat(question, texts, turn, templates, settings.reasons, settings.guided)
            asked.append(answer | {"model": row.id, "turn": turn, "chat": chat})
    return asked


def templates_of(settings: MtBench) -> dict:
    """FastChat's prompts where a file of them is named, else {}: ours."""
    return fastchat.prompts(paths.root() / settings.prompts) if settings.prompts else {}
