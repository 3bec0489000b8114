"""Answers made elsewhere, read into one frame: one row per answer, none lost, none made up.

CSV as the study released them (a numbered column, and a column "0" of prompt and answer in one text), or CSV and JSONL
with named columns (ANSWERS, QUESTIONS, PROMPTS, REFERENCES; `model` and `dataset` where the file's name does not say
them). Trap: an empty cell is an empty answer and the text "NA" is an answer; pandas would read both as missing.
"""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pandas as pd

ANSWERS = (
    "prediction", "predictions", "0", "completion", "generated_text", "generation", "output", "response", "text",
    "answer", "answers",
)  # fmt: skip
PROMPTS = ("prompt",)
QUESTIONS = ("question", "instruction", "title_body", "input")
REFERENCES = ("reference", "references", "target", "label", "gold", "ground_truth", "human_answer")
HUMAN = (*REFERENCES, "answer", "answers", "text", "trunc_text")  # in a file of references an answer is the human one
NUMBERS = ("", "unnamed: 0", "index", "id")
TEMPLATE = "### Human: {question}\n ### Assistant: "  # the study's
NAME = "<model>_<dataset>_predictions.csv"

# data sets as file names and columns may call them → as the published tables do
DATASETS = {
    "eli5": "ELI5", "wiki": "wiki", "full": "full", "simple_wiki": "wiki", "simple-wiki": "wiki", "simplewiki": "wiki",
    "eli5_category": "ELI5",
}  # fmt: skip
_RUN = ("hf", "chat", "sft", "ds", "r", "alpha", "qlora", "merged", "full", "dequantized")  # in names of its models
_PROMPT = re.compile(r"\A\s*(?:### Human:|(?:<s>\s*)?\[INST\])(.*?)(?:### Assistant:|\[/INST\]) ?", re.DOTALL)


class PredictionsError(ValueError):
    """A file that cannot be read as answers; the message names it, what it holds and the remedy."""


def read(path: Path) -> tuple[pd.DataFrame, list[str]]:
    """(one row per answer: file, model, dataset, question, prompt, answer, whole, reference, column; files left out).

    `path` is a folder or one file. `column` is where the answers stood, `whole` prompt and answer as one text; it, `question`, `prompt` and `reference`
    are missing where the file does not tell them. Raises PredictionsError.
    """
    if not path.exists():
        raise PredictionsError(f"there is no folder or file {path}")
    every = sorted([*path.iterdir(), *path.glob("*/answers.jsonl")]) if path.is_dir() else [path]
    files = [f for f in every if f.is_file()]
    chosen = [f for f in files if f.suffix == ".jsonl" or f.stem.endswith("_predictions")] if path.is_dir() else files
    if not chosen:
        raise PredictionsError(f"{path} holds no file named {NAME} and no .jsonl file")
    return pd.concat([one(file) for file in chosen], ignore_index=True), [f.name for f in files if f not in chosen]


def one(file: Path) -> pd.DataFrame:
    """The answers of one file, as in `read`."""
    rows, columns = raw(file)
    held = {c.strip().lower(): c for c in columns}
    answer = next((held[c] for c in ANSWERS if c in held), None)
    others = [c for c in columns if c.strip().lower() not in (*NUMBERS, *PROMPTS, *QUESTIONS, *REFERENCES)]
    if answer is None and len(others) == 1 and any(_PROMPT.match(row[others[0]]) for row in rows):
        answer = others[0]  # only answers of this study hold its prompt
    if answer is None:
        raise PredictionsError(
            f"{file}: no column of answers among {', '.join(map(repr, columns)) or 'none'}; name it one of {', '.join(ANSWERS)}"
        )
    model, dataset = named(file)
    parts = ["question", "prompt", "answer", "whole", "reference"]
    found = pd.DataFrame(_parts(rows, answer, held), columns=parts, dtype="str")
    for at, (column, given) in enumerate((("model", model), ("dataset", dataset))):
        values = [row[held[column]].strip() or given for row in rows] if column in held else [given] * len(rows)
        if not all(values):
            raise PredictionsError(f"{file}: which {column}? name the file {NAME}, or give it a column {column!r}")
        found.insert(at, column, values)
    found.insert(0, "file", file.name)
    found["column"] = answer
    return found


def _parts(rows: list[dict], answer: str, held: dict[str, str]) -> list[tuple]:
    """(question, prompt, answer, whole, reference) of every row of one file."""
    prompt, question, reference = (
        next((held[c] for c in names if c in held), None) for names in (PROMPTS, QUESTIONS, REFERENCES)
    )
    begun = [_PROMPT.match(row[answer]) for row in rows]
    parts = []
    for row, start in zip(rows, begun):
        text, asked = row[answer], row[question] if question else None
        before = row[prompt] if prompt else None
        if start:
            before, said = start[0], text[start.end() :]
        elif before and text.startswith(before):
            said = text[len(before) :]
        elif any(begun):  # the other rows carry their prompt: this one was cut before its answer began
            before, said = text, ""
        else:
            before = before or (TEMPLATE.format(question=asked) if asked else None)
            said = text
        if asked is None and before and (found := _PROMPT.match(before)):
            asked = found[1]
        human = row[reference] if reference and row[reference].strip() else None
        whole = None if before is None else text if text.startswith(before) else before + said
        parts.append((asked.strip() if asked else None, before, said, whole, human))
    return parts


def references(file: Path) -> tuple[dict[str, str], int]:
    """({question as `plain` has it: its human answer}, questions that came with several: the first is taken)."""
    rows, columns = raw(file)
    held = {c.strip().lower(): c for c in columns}
    asked = (*QUESTIONS, *PROMPTS)
    question, human = (next((held[c] for c in names if c in held), None) for names in (asked, HUMAN))
    if question is None or human is None:
        raise PredictionsError(
            f"{file}: references need a question ({', '.join(asked)}) and an answer ({', '.join(HUMAN)}); "
            f"its columns are {', '.join(map(repr, columns)) or 'none'}"
        )
    found: dict[str, str] = {}
    several = set()
    for row in rows:
        prompt = _PROMPT.match(row[question])
        key = plain(prompt[1] if prompt else row[question])
        if key and row[human].strip() and found.setdefault(key, row[human]) != row[human]:
            several.add(key)
    return found, len(several)


def plain(question: str) -> str:
    """A question without differences in case and white space."""
    return " ".join(question.casefold().split())


def named(file: Path) -> tuple[str, str]:
    """(model, dataset) from a file's name; "" for what it does not tell.

    Model names may hold underscores, so a known data set is looked for first, then the last one divides.
    """
    stem = file.stem
    if not stem.endswith("_predictions"):
        return (file.parent.name if stem == "answers" else stem) if file.suffix == ".jsonl" else "", ""
    stem = stem.removesuffix("_predictions")
    for dataset in sorted(DATASETS, key=len, reverse=True):
        if stem.lower().endswith(f"_{dataset}") and len(stem) > len(dataset) + 1:
            return stem[: -len(dataset) - 1], stem[-len(dataset) :]
    model, _, dataset = stem.rpartition("_")
    return model, dataset


def published_model(name: str) -> str:
    """A model's name in the published tables ("Llama-2-7b-ELI5-wiki"), "" where a word tells of another model or run."""
    words = {w for w in re.split(r"[^a-z0-9]+", name.lower().replace("wiki65k", "wiki")) if w and not w.isdigit()}
    sizes = words & {"7b", "13b"}
    if "llama" not in words or len(sizes) != 1 or words - sizes - {"llama", "eli5", "cleaned", "wiki", *_RUN}:
        return ""
    size = sizes.pop()
    if "chat" in words:
        return f"Llama-2-{size}-chat"
    parts = ["ELI5"] * ("eli5" in words) + ["Cleaned"] * ("cleaned" in words) + ["wiki"] * ("wiki" in words)
    return "-".join([f"Llama-2-{size}", *parts])


def raw(file: Path) -> tuple[list[dict[str, str]], list[str]]:
    """(rows as text, column names) of a CSV or JSONL file."""
    try:
        rows, columns = (_jsonl if file.suffix == ".jsonl" else _csv)(file)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PredictionsError(f"{file} cannot be read: {error}; UTF-8 CSV or JSONL is wanted") from error
    if not rows:
        raise PredictionsError(f"{file} holds no rows")
    return rows, columns


def _csv(file: Path) -> tuple[list[dict[str, str]], list[str]]:
    csv.field_size_limit(2**31 - 1)
    with open(file, encoding="utf-8-sig", newline="") as opened:
        reader = csv.reader(opened, strict=True)
        lines = [(reader.line_num, line) for line in reader if line]
    if not lines:
        return [], []
    head = lines[0][1]
    if any(_PROMPT.match(cell) for cell in head):  # no header: its first row is an answer
        head = ["" if cell.isdigit() else "0" if _PROMPT.match(cell) else f"column {i}" for i, cell in enumerate(head)]
    else:
        lines = lines[1:]
    if doubled := [c for c in dict.fromkeys(head) if head.count(c) > 1]:
        raise PredictionsError(f"{file}: column {doubled[0]!r} stands {head.count(doubled[0])} times")
    for number, line in lines:
        if len(line) != len(head):
            raise PredictionsError(
                f"{file}, line {number}: {len(line)} cells where the header has {len(head)}: {', '.join(map(repr, head))}"
            )
    return [dict(zip(head, line)) for _, line in lines], head


def _jsonl(file: Path) -> tuple[list[dict[str, str]], list[str]]:
    rows = []
    for number, line in enumerate(file.read_text(encoding="utf-8-sig").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise PredictionsError(f"{file}, line {number} is not JSON: {error}") from error
        if not isinstance(row, dict):
            raise PredictionsError(f"{file}, line {number} must be an object of names and values")
        rows.append({k: "" if v is None else v if isinstance(v, str) else json.dumps(v) for k, v in row.items()})
    columns = list(dict.fromkeys(k for row in rows for k in row))
    return [{c: row.get(c, "") for c in columns} for row in rows], columns
