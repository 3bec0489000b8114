"""FastChat's files of MT-bench, and tables of judgements by others: read as they are, no row lost.

Formats: judge_prompts.jsonl (name, type, system_prompt, prompt_template), model_answer/<model>.jsonl (question_id,
model_id, choices[0].turns), model_judgment/<judge>_single.jsonl (question_id, model, judge, judgment, score, turn) and
…_pair.jsonl (model_1, model_2, g1_winner, g2_winner); the last two also as CSV, COLUMNS says by which names. Trap: a
score of -1, and a winner "error", are judgements that failed; averages that drop them, or count them, are both wrong.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from pathlib import Path

import pandas as pd

from s2utils.data import records, values
from s2utils.data.streams import writable
from s2utils.data.values import Note
from s2utils.evaluation.judge.readings import rating
from s2utils.workflow.params import ParameterError

NAMES = (  # prompts that a study of two turns needs
    "single-v1", "single-math-v1", "single-v1-multi-turn", "single-math-v1-multi-turn",
    "pair-v2", "pair-math-v1", "pair-v2-multi-turn", "pair-math-v1-multi-turn",
)  # fmt: skip
FIELDS = {  # what a template may hold
    "question", "question_1", "question_2", "answer", "answer_1", "answer_2", "ref_answer_1", "ref_answer_2",
    *(f"answer_{side}{turn}" for side in "ab" for turn in ("", "_1", "_2")),
}  # fmt: skip


class FastChatError(ParameterError):
    """A file of FastChat that cannot be used; the message names it, the line or row, and the remedy."""


def lines(path: Path, part: str = "", notes: list[Note] | None = None) -> list[tuple[int, dict]]:
    """(number, object) of every row: JSON lines, one JSON array, or CSV; `notes` hears of a strange encoding."""
    if not path.is_file():
        raise FastChatError(f"there is no file {path}")
    try:
        table = records.read(path, part, notes)
    except records.RecordsError as error:
        raise FastChatError(str(error)) from error
    return list(zip(table.numbers, table.rows))


def _at(path: Path, number: int) -> str:
    return f"{path}, {'line' if path.suffix in records.LINES else 'row'} {number}"


def _lacks(row: dict, path: Path, number: int, key: str) -> FastChatError:
    return FastChatError(f"{_at(path, number)}: {key!r} is missing or of another type: {row.get(key)!r:.80}")


def _wants(row: dict, path: Path, number: int, **kinds: type) -> list:
    """The named values of a row, of the types that are wanted."""
    for key, kind in kinds.items():
        if not isinstance(row.get(key), kind):
            raise _lacks(row, path, number, key)
    return [row[key] for key in kinds]


def _named(row: dict, path: Path, number: int, key: str) -> str:
    """An id or a model's name as text."""
    if name := values.identifier(row.get(key)):
        return name
    raise _lacks(row, path, number, key)


def prompts(path: Path) -> dict[str, dict[str, str]]:
    """{name: {system_prompt, prompt_template}} of a file of judge's prompts that holds at least NAMES."""
    known = {}
    for number, row in lines(path):
        name, system, template = _wants(row, path, number, name=str, system_prompt=str, prompt_template=str)
        if unknown := set(re.findall(r"\{(\w+)\}", template)) - FIELDS:
            raise FastChatError(f"{_at(path, number)}: nothing is known to stand for {{{sorted(unknown)[0]}}}")
        known[name] = {"system_prompt": system, "prompt_template": template}
    if absent := [name for name in NAMES if name not in known]:
        raise FastChatError(f"{path} has no prompt {absent[0]!r}; it has {', '.join(known)}")
    return known


def answers(path: Path, notes: list[Note] | None = None) -> pd.DataFrame:
    """One row per answer to a turn: question_id, model, turn (1, 2), answer; of one file, or all .jsonl in a folder.

    An answer that could not be read, or whose call failed, is missing; `notes` says why.
    """
    files = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
    if not files:
        raise FastChatError(f"{path} holds no .jsonl file")
    rows, seen, notes = [], {}, [] if notes is None else notes
    for file in files:
        for number, row in lines(file, "answers", notes):
            where = _at(file, number)
            model, choices = _wants(row, file, number, model_id=str, choices=list)
            turns = choices[0].get("turns") if choices and isinstance(choices[0], dict) else None
            if not isinstance(turns, list) or not turns:
                raise FastChatError(f"{where}: choices[0].turns must be a list of texts")
            keys = {"question_id": _named(row, file, number, "question_id"), "model": writable(model)}
            before = seen.setdefault(tuple(keys.values()), where)
            if before != where:
                raise FastChatError(f"{where}: {model} answered question {keys['question_id']} before, in {before}")
            if len(choices) > 1:
                notes.append(Note("answers", file.name, number, "choices", "several choices: the first is taken", True))
            for turn, value in enumerate(turns, start=1):
                text, how = values.answer(value)
                if how:
                    key = f"choices[0].turns[{turn - 1}]"
                    notes.append(Note("answers", file.name, number, key, how, text is not None))
                rows.append(keys | {"turn": turn, "answer": text})
    return pd.DataFrame(rows).astype({"answer": "str"})


COLUMNS = {  # of judgements, and what tables of others call them
    "question_id": ("question_id", "question", "id"), "turn": ("turn",), "judge": ("judge", "judge_model"),
    "model": ("model", "model_id", "model_name"), "score": ("score", "rating", "overall"),
    "judgment": ("judgment", "judgement", "reply", "response", "output"),
    **{name: (name,) for name in ("model_1", "model_2", "g1_winner", "g2_winner")},
}  # fmt: skip
WINNERS = ("model_1", "model_2", "tie")


def is_long(columns: list[str]) -> bool:
    """Whether columns are those of one row a judgement; else each may be a model's."""
    names = {c.strip().lower() for c in columns}
    judged = {*COLUMNS["score"], *COLUMNS["judgment"]}
    return {"model_1", "model_2"} <= names or bool(names & {*COLUMNS["model"]} and names & judged)


def judgements(path: Path, notes: list[Note] | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(ratings, pairs) of a file: question_id, turn, judge, and model, rating, score or model_1, model_2, g1, g2.

    `score` is the file's, `rating` what our parser reads in the judgement, the score where the file does not keep it.
    Both are nan where the judgement failed: FastChat writes -1 there, others 0. `g1` and `g2` are "model_1", "model_2",
    "tie", or "" where it failed; `notes` says what did. A judge is its model: FastChat's prompts have names by turn and
    category.
    """
    singles, pairs, notes, numbered = [], [], [] if notes is None else notes, Counter()
    rows = lines(path, "judgements", notes)
    names = {c.strip().lower(): c for c in rows[0][1]}
    columns = {key: next((names[n] for n in known if n in names), None) for key, known in COLUMNS.items()}
    for number, whole in rows:
        row = {key: whole[name] for key, name in columns.items() if name is not None}
        turn = values.number(row.get("turn", 1))
        if turn not in (1, 2):
            raise FastChatError(f"{_at(path, number)}: 'turn' must be 1 or 2, not {row['turn']!r:.80}")
        is_pair = columns["model"] is None or values.identifier(row.get("model_1")) != ""
        models = [_named(row, path, number, name) for name in (("model_1", "model_2") if is_pair else ("model",))]
        keys = {"turn": int(turn), "judge": _judge(row.get("judge"))}
        place = (*keys.values(), *models)
        numbered[place] += 1  # where the file does not number its questions
        unnumbered = columns["question_id"] is None
        id = str(numbered[place]) if unnumbered else _named(row, path, number, "question_id")
        keys = {"question_id": id, **keys}
        if is_pair:
            games = {}
            for game in ("g1", "g2"):
                winner = row.get(f"{game}_winner")
                games[game] = winner if winner in WINNERS else ""
                if not games[game]:
                    reason = f"no winner: {winner!r:.40}"
                    notes.append(Note("judgements", path.name, number, f"{game}_winner", reason))
            pairs.append(keys | dict(zip(("model_1", "model_2"), models)) | games)
        else:
            score, rated, reason = _rated(row)
            if reason:
                key = columns["score"] or columns["judgment"] or ""
                notes.append(Note("judgements", path.name, number, key, reason, not math.isnan(rated)))
            singles.append(keys | {"model": models[0], "score": score, "rating": rated})
    return (
        pd.DataFrame(singles, columns=["question_id", "turn", "judge", "model", "score", "rating"]),
        pd.DataFrame(pairs, columns=["question_id", "turn", "judge", "model_1", "model_2", "g1", "g2"]),
    )


def _rated(row: dict) -> tuple[float, float, str]:
    """(the file's score, our rating, why there is none, or how the judgement was read) of one judgement."""
    given, (text, how) = row.get("score"), values.reply(row.get("judgment"))
    score = values.number(given)
    if not math.isnan(score) and not 1 <= score <= 10:
        return math.nan, math.nan, f"score {score:g}, not 1–10"
    if text is None and math.isnan(score) and isinstance(given, str):
        text, how = given, ""  # a table may keep its replies as ratings
    if not (text or "").strip():
        return score, score, "neither a judgement nor a score" if math.isnan(score) else ""
    value = rating(text)
    return score, value, "no clear rating in the judgement" if math.isnan(value) else how


def _judge(value: object) -> str:
    """The judge's model; FastChat names its prompt beside it, ["gpt-4", "single-v1"], in a CSV as text."""
    if isinstance(value, str) and (both := re.match(r"""[\[(]\s*(["'])(.+?)\1""", value.strip())):
        return both[2]
    return values.identifier(value[0] if isinstance(value, list) and value else value)


def categories(path: Path) -> dict[str, str]:
    """{question_id: category} of a file of questions."""
    return {
        _named(row, path, number, "question_id"): _wants(row, path, number, category=str)[0]
        for number, row in lines(path)
    }
