"""FastChat's files of MT-bench: judge's prompts, model answers, judgements; read as they are, no row lost.

Formats: judge_prompts.jsonl (name, type, system_prompt, prompt_template), model_answer/<model>.jsonl (question_id,
model_id, choices[0].turns), model_judgment/<judge>_single.jsonl (question_id, model, judge, judgment, score, turn) and
…_pair.jsonl (model_1, model_2, g1_winner, g2_winner). Trap: a score of -1, and a winner "error", are judgements that
failed; averages that drop them, or count them, are both wrong.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pandas as pd

from s2utils.judges import rating
from s2utils.params import ParameterError

NAMES = (  # prompts that a study of two turns needs
    "single-v1", "single-math-v1", "single-v1-multi-turn", "single-math-v1-multi-turn",
    "pair-v2", "pair-math-v1", "pair-v2-multi-turn", "pair-math-v1-multi-turn",
)  # fmt: skip
FIELDS = {  # what a template may hold
    "question", "question_1", "question_2", "answer", "answer_1", "answer_2", "ref_answer_1", "ref_answer_2",
    *(f"answer_{side}{turn}" for side in "ab" for turn in ("", "_1", "_2")),
}  # fmt: skip


class FastChatError(ParameterError):
    """A file of FastChat that cannot be used; the message names it, the line and the remedy."""


def lines(path: Path) -> list[tuple[int, dict]]:
    """(number, object) of every line of a JSONL file."""
    if not path.is_file():
        raise FastChatError(f"there is no file {path}")
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise FastChatError(f"{path}, line {number} is not JSON: {error}") from error
        if not isinstance(row, dict):
            raise FastChatError(f"{path}, line {number} must be an object of names and values")
        found.append((number, row))
    if not found:
        raise FastChatError(f"{path} holds no rows")
    return found


def _wants(row: dict, path: Path, number: int, **kinds: type | tuple) -> list:
    """The named values of a row, of the types that are wanted."""
    for key, kind in kinds.items():
        if not isinstance(row.get(key), kind) or isinstance(row[key], bool):
            raise FastChatError(f"{path}, line {number}: {key!r} is missing or of another type: {row.get(key)!r:.80}")
    return [row[key] for key in kinds]


def prompts(path: Path) -> dict[str, dict[str, str]]:
    """{name: {system_prompt, prompt_template}} of a file of judge's prompts that holds at least NAMES."""
    found = {}
    for number, row in lines(path):
        name, system, template = _wants(row, path, number, name=str, system_prompt=str, prompt_template=str)
        if unknown := set(re.findall(r"\{(\w+)\}", template)) - FIELDS:
            raise FastChatError(f"{path}, line {number}: nothing is known to stand for {{{sorted(unknown)[0]}}}")
        found[name] = {"system_prompt": system, "prompt_template": template}
    if absent := [name for name in NAMES if name not in found]:
        raise FastChatError(f"{path} has no prompt {absent[0]!r}; it has {', '.join(found)}")
    return found


def answers(path: Path) -> pd.DataFrame:
    """One row per answer to a turn: question_id, model, turn (1, 2), answer; of one file, or all .jsonl in a folder."""
    files = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
    if not files:
        raise FastChatError(f"{path} holds no .jsonl file")
    rows, seen = [], {}
    for file in files:
        for number, row in lines(file):
            question, model, choices = _wants(row, file, number, question_id=(int, str), model_id=str, choices=list)
            turns = choices[0].get("turns") if choices and isinstance(choices[0], dict) else None
            if not isinstance(turns, list) or not turns or not all(isinstance(t, str) for t in turns):
                raise FastChatError(f"{file}, line {number}: choices[0].turns must be a list of texts")
            before = seen.setdefault((model, str(question)), f"{file}, line {number}")
            if before != f"{file}, line {number}":
                raise FastChatError(f"{file}, line {number}: {model} answered question {question} before, in {before}")
            keys = {"question_id": str(question), "model": model}
            rows += [keys | {"turn": turn, "answer": text} for turn, text in enumerate(turns, start=1)]
    return pd.DataFrame(rows)


def judgements(path: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(ratings, pairs) of a file: question_id, turn, judge, and model, rating, score or model_1, model_2, g1, g2.

    `score` is the file's, nan where it is -1; `rating` is what our parser reads in the judgement, the score where the
    file does not keep it. `g1` and `g2` are "model_1", "model_2", "tie", or "" for an error.
    """
    singles, pairs = [], []
    for number, row in lines(path):
        question, turn = _wants(row, path, number, question_id=(int, str), turn=int)
        if turn not in (1, 2):
            raise FastChatError(f"{path}, line {number}: 'turn' must be 1 or 2, not {turn}")
        judge = row.get("judge")
        judge = " ".join(map(str, judge)) if isinstance(judge, list) else str(judge or "")
        keys = {"question_id": str(question), "turn": turn, "judge": judge}
        if "model" in row:
            model, score = _wants(row, path, number, model=str, score=(int, float))
            if not (score == -1 or 1 <= score <= 10):
                raise FastChatError(f"{path}, line {number}: 'score' must lie between 1 and 10, or be -1, not {score}")
            score = math.nan if score == -1 else float(score)
            said = row.get("judgment")
            read = rating(said) if isinstance(said, str) and said.strip() else score
            singles.append(keys | {"model": model, "score": score, "rating": read})
        else:
            one, two, g1, g2 = _wants(row, path, number, model_1=str, model_2=str, g1_winner=str, g2_winner=str)
            for winner in (g1, g2):
                if winner not in ("model_1", "model_2", "tie", "error"):
                    raise FastChatError(f"{path}, line {number}: a winner must be model_1, model_2, tie or error")
            games = {"g1": g1.replace("error", ""), "g2": g2.replace("error", "")}
            pairs.append(keys | {"model_1": one, "model_2": two, **games})
    return (
        pd.DataFrame(singles, columns=["question_id", "turn", "judge", "model", "score", "rating"]),
        pd.DataFrame(pairs, columns=["question_id", "turn", "judge", "model_1", "model_2", "g1", "g2"]),
    )


def categories(path: Path) -> dict[str, str]:
    """{question_id: category} of a file of questions."""
    rows = [_wants(row, path, number, question_id=(int, str), category=str) for number, row in lines(path)]
    return {str(id): category for id, category in rows}
