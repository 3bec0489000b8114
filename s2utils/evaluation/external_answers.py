"""Answers made elsewhere, read into one frame: one row per answer, none lost, none made up.

CSV as the study released them (a numbered column, and a column "0" of prompt and answer in one text), or CSV, JSON and
Parquet with named columns (ANSWERS, QUESTIONS, PROMPTS, REFERENCES; `model` and `dataset` where the file's name does
not say them); what a value may be, see `values`. Trap: an empty cell is an empty answer and the text "NA" is an answer;
pandas would read both as missing. Missing is only what has a note: no value, NaN, a failed call, an object of unknown
form.
"""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import pandas as pd

from s2utils.data import records, values
from s2utils.data.records import PROMPT
from s2utils.data.values import Note
from s2utils.workflow.params import ParameterError

ANSWERS = (
    "prediction", "predictions", "0", "completion", "generated_text", "generation", "output", "response", "text",
    "answer", "answers", "choices", "messages", "conversations",
)  # fmt: skip
PROMPTS = ("prompt",)
QUESTIONS = ("question", "instruction", "title_body", "input")
REFERENCES = ("reference", "references", "target", "label", "gold", "ground_truth", "human_answer")
# in a file of references an answer is the human one
HUMAN = (*REFERENCES, "answer", "answers", "text", "trunc_text", "output")
NUMBERS = ("", "unnamed: 0", "index", "id")
TEMPLATE = "### Human: {question}\n ### Assistant: "  # the study's
NAME = "<model>_<dataset>_predictions.csv"

# data sets as file names and columns may call them → as the published tables do
DATASETS = {
    "eli5": "ELI5", "wiki": "wiki", "full": "full", "simple_wiki": "wiki", "simple-wiki": "wiki", "simplewiki": "wiki",
    "eli5_category": "ELI5",
}  # fmt: skip
_RUN = ("hf", "chat", "sft", "ds", "r", "alpha", "qlora", "merged", "full", "dequantized")  # in names of its models
_SAME = str.maketrans(  # signs that editors put for each other
    dict.fromkeys("‘’ʼ′`´", "'") | dict.fromkeys("“”„«»", '"') | dict.fromkeys("‐‑‒–—−", "-")
)


class PredictionsError(ParameterError):
    """A file that cannot be read as answers; the message names it, what it holds and the remedy."""


def read(path: Path, notes: list[Note] | None = None) -> tuple[pd.DataFrame, list[str]]:
    """(one row per answer: file, model, dataset, question, prompt, answer, whole, reference, column; files left out).

    `path` is a folder or one file. `column` is where the answers stood, `whole` prompt and answer as one text. Missing
    are `question`, `prompt`, `whole`, `reference` where the file does not tell them, and `answer` (and `whole`) where
    none could be read: `notes` says why. Raises PredictionsError.
    """
    if not path.exists():
        raise PredictionsError(f"there is no folder or file {path}")
    listed = sorted([*path.iterdir(), *path.glob("*/answers.jsonl")]) if path.is_dir() else [path]
    files = [file for file in listed if file.is_file()]
    chosen = [file for file in files if file.suffix in records.LINES or file.stem.endswith("_predictions")]
    chosen = chosen if path.is_dir() else files
    if not chosen:
        raise PredictionsError(f"{path} holds no file named {NAME} and no .jsonl file")
    frames = [of_file(file, notes) for file in chosen]
    return pd.concat(frames, ignore_index=True), [file.name for file in files if file not in chosen]


def of_file(file: Path, notes: list[Note] | None = None) -> pd.DataFrame:
    """The answers of one file, as in `read`."""
    table = _Columns(file, "predictions", notes)
    answer = table.first(ANSWERS)
    known = (*NUMBERS, *PROMPTS, *QUESTIONS, *REFERENCES)
    others = [name for lower, name in table.names.items() if lower not in known]
    if answer is None and len(others) == 1:
        texts = (values.text(row[others[0]])[0] for row in table.rows)
        if any(PROMPT.match(text or "") for text in texts):  # only answers of this study hold its prompt
            answer = others[0]
    if answer is None:
        raise PredictionsError(
            f"{file}: no column of answers among {records.listed(table.columns)}; name it one of {', '.join(ANSWERS)}"
        )
    parts = ["question", "prompt", "answer", "whole", "reference"]
    answers = pd.DataFrame(_parts(table, answer), columns=parts, dtype="str")
    for place, (column, given) in enumerate(zip(("model", "dataset"), named(file))):
        own = table.first((column,))
        names = [values.identifier(row[own]) or given for row in table.rows] if own else [given] * len(answers)
        if not all(names):
            raise PredictionsError(f"{file}: which {column}? name the file {NAME}, or give it a column {column!r}")
        answers.insert(place, column, names)
    answers.insert(0, "file", file.name)
    return answers.assign(column=answer)


class _Columns:
    """The rows of a file, its columns found by name in whatever case, and notes of what was no plain text in them."""

    def __init__(self, file: Path, part: str, notes: list[Note] | None):
        self.part, self.file, self.notes = part, file.name, [] if notes is None else notes
        try:
            table = records.read(file, part, self.notes)
        except records.RecordsError as error:
            raise PredictionsError(str(error)) from error
        self.rows, self.columns, self.numbers = table.rows, table.columns, table.numbers
        self.names = {c.strip().lower(): c for c in table.columns}

    def first(self, names: tuple[str, ...]) -> str | None:
        """The column that has the first of `names` there is."""
        return next((self.names[n] for n in names if n in self.names), None)

    def texts(self, name: str | None, read=values.text) -> list[tuple[str | None, str]]:
        """What `read` makes of a column, row for row, and noted; (None, "") everywhere without a column."""
        texts = [(None, "") if name is None else read(row[name]) for row in self.rows]
        for number, (text, how) in zip(self.numbers, texts):
            self.note(number, name, text, how)
        return texts

    def note(self, number: int, name: str | None, text: str | None, how: str) -> None:
        """A note of one value, where there is something to say."""
        if how:
            self.notes.append(Note(self.part, self.file, number, name or "", how, read=text is not None))


def _parts(table: _Columns, answer: str) -> list[tuple]:
    """(question, prompt, answer, whole, reference) of every row of one file."""
    prompt_column = table.first(PROMPTS)
    prompts, questions = (table.texts(name, values.question) for name in (prompt_column, table.first(QUESTIONS)))
    references, texts = table.texts(table.first(REFERENCES)), [values.text(row[answer]) for row in table.rows]
    starts = [PROMPT.match(text or "") for text, _ in texts]
    prompted, parts = any(starts), []
    for i, ((text, how), start) in enumerate(zip(texts, starts)):
        row, question, prompt, reference = table.rows[i], questions[i][0], prompts[i][0], references[i][0]
        if prompt_column and values.asked(row[prompt_column]) is not None:  # how the model saw these is not known
            question, prompt = question or prompt, None
        said, thought = text, ""
        if start:
            prompt, said = start[0], text[start.end() :]
        elif text and prompt and text.startswith(prompt):
            said = text[len(prompt) :]
        elif prompted and text is not None:
            prompt, said = text, ""  # the other rows carry their prompt: this one was cut before its answer began
        else:
            question = question or values.asked(row[answer])
            prompt = prompt or (TEMPLATE.format(question=question) if question else None)
        if said is not None:
            said, thought = values.answer(said)
        table.note(table.numbers[i], answer, said, "; ".join(filter(None, (how, thought))))
        if question is None and prompt and (match := PROMPT.match(prompt)):
            question = match[1]
        whole = None if prompt is None or said is None else prompt + said
        reference = reference if reference and reference.strip() else None
        parts.append((question.strip() if question else None, prompt, said, whole, reference))
    return parts


def references(file: Path, notes: list[Note] | None = None) -> tuple[dict[str, str], int]:
    """({question as `plain` has it: its human answer}, questions that came with several: the first is taken)."""
    table, asked = _Columns(file, "references", notes), (*QUESTIONS, *PROMPTS)
    question, human = table.first(asked), table.first(HUMAN)
    if question is None or human is None:
        raise PredictionsError(
            f"{file}: references need a question ({', '.join(asked)}) and an answer ({', '.join(HUMAN)}); "
            f"its columns are {records.listed(table.columns)}"
        )
    answers: dict[str, str] = {}
    several = set()
    for (text, _), (answer, how) in zip(table.texts(question, values.question), table.texts(human)):
        prompt = PROMPT.match(text or "")
        key = plain(prompt[1] if prompt else text or "")
        if key and answer and answer.strip() and (answers.setdefault(key, answer) != answer or how == values.SEVERAL):
            several.add(key)
    return answers, len(several)


def plain(question: str) -> str:
    """A question without differences in case, white space, Unicode form, and signs that editors put for each other."""
    seen = "".join(c for c in question if unicodedata.category(c) != "Cf")  # soft hyphens, marks of direction
    same = unicodedata.normalize("NFKC", seen.translate(_SAME).casefold())
    return " ".join(unicodedata.normalize("NFKC", same.translate(_SAME).casefold()).split())


def named(file: Path) -> tuple[str, str]:
    """(model, dataset) from a file's name; "" for what it does not tell.

    Model names may hold underscores, so a known data set is looked for first, then the last one divides.
    """
    stem = file.stem
    if not stem.endswith("_predictions"):
        return (file.parent.name if stem == "answers" else stem) if file.suffix in records.JSON else "", ""
    stem = stem.removesuffix("_predictions")
    for dataset in sorted(DATASETS, key=len, reverse=True):
        if stem.lower().endswith(f"_{dataset}") and len(stem) > len(dataset) + 1:
            return stem[: -len(dataset) - 1], stem[-len(dataset) :]
    model, _, dataset = stem.rpartition("_")
    return model, dataset


def published_model(name: str) -> str:
    """A model's name in the published tables ("Llama-2-7b-ELI5-wiki"), "" where a word tells of another model."""
    words = {w for w in re.split(r"[^a-z0-9]+", name.lower().replace("wiki65k", "wiki")) if w and not w.isdigit()}
    sizes = words & {"7b", "13b"}
    if "llama" not in words or len(sizes) != 1 or words - sizes - {"llama", "eli5", "cleaned", "wiki", *_RUN}:
        return ""
    size = sizes.pop()
    if "chat" in words:
        return f"Llama-2-{size}-chat"
    parts = ["ELI5"] * ("eli5" in words) + ["Cleaned"] * ("cleaned" in words) + ["wiki"] * ("wiki" in words)
    return "-".join([f"Llama-2-{size}", *parts])
