"""Files of two-turn questions, and of reference answers to them: read whole, or refused by file, line and reason.

Questions are JSONL of question_id, category, turns and perhaps reference, as MT-bench's; ours say with must_hold what a
good answer holds. Reference answers are FastChat's reference_answer/<model>.jsonl: question_id, choices[0].turns. Trap:
MT-bench's questions carry references of their own, which are other texts than FastChat's, and none for 5 of the 60
turns that FastChat judges beside one.
"""

from __future__ import annotations

import json

from s2utils.data.records import RecordsError, json_lines
from s2utils.data.values import FAILED_CALL
from s2utils.workflow.params import ParameterError, shown
from s2utils.workflow.paths import root

TURNS = {1: "single_turn_rating", 2: "multi_turn_rating"}  # turn → column of its ratings


def lines(name: str, key: str) -> list[tuple[int, dict]]:
    """(number, object) of every line of the JSONL file `name`, from the root; `key` is the parameter that names it."""
    try:
        data = (root() / name).read_bytes()
    except (OSError, ValueError) as error:
        raise ParameterError(f"{key}: there is no file {name} that can be read") from error
    rows = []
    try:
        for number, row in json_lines(data.decode("utf-8-sig"), name):
            if not isinstance(row, dict):
                raise ParameterError(f"{name}, line {number}, must be an object of names and values, one a line")
            json.dumps(row, ensure_ascii=False).encode()
            rows.append((number, row))
    except UnicodeDecodeError as error:
        number = data[: error.start].count(b"\n") + 1
        raise ParameterError(f"{name}, line {number}, is not UTF-8: save the file as UTF-8") from error
    except UnicodeEncodeError as error:  # half a surrogate pair
        raise ParameterError(f"{name}, line {number}, is not JSON of whole characters: {error}") from error
    except RecordsError as error:
        raise ParameterError(str(error)) from error
    if not rows:
        raise ParameterError(f"{key}: {name} holds no rows")
    return rows


def questions(name: str) -> list[dict]:
    """Rows {question_id, category, turns: [two], must_hold, reference} of a file of questions, in its order.

    must_hold has a list of points a turn; reference a text a turn, "" for none, or is empty.
    """
    rows, seen = [], {}
    for number, row in lines(name, "mtbench.questions"):
        where = f"{name}, line {number}"
        question = {"question_id": _identity(row, where, seen, number), "category": row.get("category")}
        if not isinstance(question["category"], str) or not question["category"].strip():
            raise ParameterError(f"{where}: 'category' must be a text, not {shown(question['category'])}")
        question["turns"] = _two(row.get("turns"), "turns", where)
        question["must_hold"] = points = row.get("must_hold") or [[], []]
        if not are(points, list) or not all(are(of_turn, str, None) for of_turn in points):
            raise ParameterError(f"{where}: 'must_hold' must be two lists of texts, not {shown(points)}")
        question["reference"] = _two(row["reference"], "reference", where, empty=True) if row.get("reference") else []
        rows.append(question)
    return rows


def references(name: str) -> dict[str, list[str]]:
    """{question_id as text: reference answers to its two turns} of FastChat's file of one model's answers."""
    answers, seen = {}, {}
    for number, row in lines(name, "mtbench.references"):
        where = f"{name}, line {number}"
        identity = str(_identity(row, where, seen, number))
        choice = row["choices"][0] if isinstance(row.get("choices"), list) and row["choices"] else None
        if not isinstance(choice, dict):
            raise ParameterError(f"{where}: 'choices' must hold an answer, as FastChat's reference_answer/gpt-4.jsonl")
        answers[identity] = _two(choice.get("turns"), "choices[0].turns", where)
        if FAILED_CALL in answers[identity]:
            failed = f"{FAILED_CALL} is a call of FastChat that failed, no reference"
            raise ParameterError(f"{where}: {failed}: take the line out")
    return answers


def _identity(row: dict, where: str, seen: dict[str, int], number: int) -> int | str:
    """The question's id, which stands once in a file; `seen` keeps the line of each."""
    value = row.get("question_id")
    if isinstance(value, bool) or not isinstance(value, (int, str)) or not str(value).strip():
        raise ParameterError(f"{where}: 'question_id' must be a whole number or a text, not {shown(value)}")
    if str(value) in seen:
        raise ParameterError(f"{where}: 'question_id' {shown(value)} stands in line {seen[str(value)]} already")
    seen[str(value)] = number
    return value


def are(value: object, kind: type, count: int | None = 2) -> bool:
    """Whether `value` is a list of so many of a kind; None is any number."""
    return isinstance(value, list) and len(value) == (count or len(value)) and all(isinstance(v, kind) for v in value)


def _two(value: object, key: str, where: str, empty: bool = False) -> list[str]:
    """Two texts; "" is one only where `empty` says so."""
    if not are(value, str) or not (empty or all(text.strip() for text in value)):
        raise ParameterError(f"{where}: '{key}' must be two texts, not {shown(value)}")
    return value
