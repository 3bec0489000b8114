"""MT(S)-bench: two-turn questions, their answers, and a judge's ratings of each turn.

What the judge is asked and how it is read is in `judges`, the asking in `judgements`. Trap: a small judge gives any
number at all, so its ratings carry no weight; `panel` says whether a judge's do.
"""

from __future__ import annotations

import functools
import json
import random
from pathlib import Path

import pandas as pd

from s2utils import fastchat, generate, intervals, judgements, judges, models, paths
from s2utils.params import MtBench, ParameterError, Params
from s2utils.steps import ModelRow

TURNS = {1: "single_turn_rating", 2: "multi_turn_rating"}  # columns of the tables


def questions(settings: MtBench, seed: int) -> list[dict]:
    """Questions {question_id, category, turns: [two], must_hold, reference}; a seeded sample of `n`, spread over categories.

    Reads our own file or MT-bench's (same keys, no must_hold, references of some). `reference` holds a text a turn, "" for
    none, or is empty. Raises ParameterError naming file and line.
    """
    path = paths.root() / settings.questions
    if not path.is_file():
        raise ParameterError(f"mtbench.questions: there is no file {settings.questions}")
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            turns = row["turns"]
            if len(turns) != 2 or not all(isinstance(t, str) and t.strip() for t in turns):
                raise ValueError("turns must be two texts")
            keys = {"question_id": row["question_id"], "category": row["category"], "turns": turns}
            reference = row.get("reference", [])
            if reference and (len(reference) != 2 or not all(isinstance(r, str) for r in reference)):
                raise ValueError("reference must be two texts")
            rows.append(keys | {"must_hold": row.get("must_hold", [[], []]), "reference": reference})
        except (ValueError, KeyError, TypeError) as error:
            raise ParameterError(f"{settings.questions}, line {number}: {type(error).__name__}: {error}") from error
    known = {row["category"] for row in rows}
    if unknown := [c for c in settings.categories if c not in known]:
        raise ParameterError(
            f"mtbench.categories: {unknown[0]!r} is not in {settings.questions}; it has {', '.join(sorted(known))}"
        )
    rows = [row for row in rows if not settings.categories or row["category"] in settings.categories]
    if not settings.n or settings.n >= len(rows):
        return rows
    shuffled = random.Random(seed).sample(rows, len(rows))
    place: dict[str, int] = {}
    ranked = []
    for row in shuffled:  # the i-th of each category before the i+1-th of any
        place[row["category"]] = place.get(row["category"], -1) + 1
        ranked.append((place[row["category"]], len(ranked), row))
    return sorted((r for _, _, r in sorted(ranked, key=lambda x: x[:2])[: settings.n]), key=lambda r: r["question_id"])


def answer(network, tok, questions: list[dict], row: ModelRow, params: Params, folder: Path) -> list[list[dict]]:
    """[answers to turn 1, answers to turn 2], kept in turn_1.jsonl and turn_2.jsonl of `folder`.

    The second turn sees the first with the model's own answer, uncut. Merges of one model draw the same random numbers.
    """
    sampling = {k: getattr(params.generate, k) for k in ("batch_size", "temperature", "top_p", "repetition_penalty")}
    turns: list[list[dict]] = []
    for turn in (1, 2):
        said = [[q["turns"][0]] for q in questions]
        if turn == 2:
            said = [[*s, a["text"], q["turns"][1]] for s, a, q in zip(said, turns[0], questions)]
        prompts = models.encoded([models.prompt(s, row.variant, tok, params.model) for s in said], tok, row.variant)
        rows = [{"question_id": q["question_id"], "category": q["category"], "turn": turn} for q in questions]
        make = functools.partial(
            generate.completions, network, tok, prompts, seed=f"{params.seed}/{row.model}/{turn}",
            max_new_tokens=params.mtbench.max_new_tokens, label=f"{row.id} turn {turn}", **sampling,
        )  # fmt: skip
        kept = folder / f"turn_{turn}.jsonl"
        turns.append(generate.answer_all(kept, rows, sampling["batch_size"], lambda skip, make=make: make(skip=skip)))
    return turns


def items(questions: list[dict], answers: list[list[dict]], row: ModelRow, settings: MtBench) -> list[dict]:
    """What the judge is asked of one model: question by question, both turns, as `judgements.collect` wants it."""
    templates = templates_of(settings)
    found = []
    for question, first, second in zip(questions, *answers, strict=True):
        said = [first["text"], second["text"]]
        for turn, answer in ((1, first), (2, second)):
            chat = judges.turn_chat(question, said, turn, templates, settings.reasons, settings.guided)
            found.append(answer | {"model": row.id, "turn": turn, "chat": chat})
    return found


def templates_of(settings: MtBench) -> dict:
    """FastChat's prompts where a file of them is named, else {}: ours."""
    return fastchat.prompts(paths.root() / settings.prompts) if settings.prompts else {}


def summary(judged: pd.DataFrame, params: Params) -> dict:
    """One model's row: n questions, then single- and multi-turn means with intervals, failures and spread of repeats.

    `judged` has a row per question, turn and repeat. A turn whose every repeat failed has failed; the spread is the mean
    standard deviation of a turn's repeats, nan where each was asked once.
    """
    once = judged[judged["repeat"] == 0]
    row = {"n": once["question_id"].nunique(), "n_cut": int((~once["ended"]).sum())}
    means = judgements.averaged(judged, ["rating"], ["question_id", "turn"])
    for turn, column in TURNS.items():
        row |= _mean(means[means["turn"] == turn], "rating", column, params)
    return row


def rubric_summary(rows: pd.DataFrame, params: Params) -> dict:
    """One model's row of the judged validation set: n answers, then each dimension as in `summary`; overall is judge_rating."""
    once = rows[rows["repeat"] == 0]
    row = {"n": len(once), "n_cut": int((~once["ended"]).sum())}
    means = judgements.averaged(rows, list(judges.DIMENSIONS), ["question_id"])
    for name in ("overall", *judges.DIMENSIONS[:-1]):
        row |= _mean(means, name, "judge_rating" if name == "overall" else f"judge_{name}", params)
    return row


def _mean(means: pd.DataFrame, value: str, column: str, params: Params) -> dict:
    settings = params.text_metrics
    mean, low, high = intervals.bootstrap(means[value], settings.resamples, settings.confidence, params.seed)
    return {
        column: mean,
        f"{column}_ci_low": low,
        f"{column}_ci_high": high,
        f"{column}_n_failed": int(means[value].isna().sum()),
        f"{column}_spread": means[f"{value}_spread"].mean(),
    }
