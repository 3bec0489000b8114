"""Answers made elsewhere, read into one frame: one row per answer, none lost, none made up.

CSV as the study released them (a numbered column, and a column "0" of prompt and answer in one text), or CSV, JSON and
Parquet with named columns (ANSWERS, QUESTIONS, PROMPTS, REFERENCES; `model` and `dataset` where the file's name does not
say them); what a value may be, see `values`. Trap: an empty cell is an empty answer and the text "NA" is an answer; pandas
would read both as missing. Missing is only what has a note: no value, NaN, a failed call, an object of unknown form.
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

    `path` is a folder or one file. `column` is where the answers stood, `whole` prompt and answer as one text. Missing are
    `question`, `prompt`, `whole`, `reference` where the file does not tell them, and `answer` (and `whole`) where none could
    be read: `notes` says why. Raises PredictionsError.
    """
    if not path.exists():
        raise PredictionsError(f"there is no folder or file {path}")
    every = sorted([*path.iterdir(), *path.glob("*/answers.jsonl")]) if path.is_dir() else [path]
    files = [f for f in every if f.is_file()]
    chosen = [f for f in files if f.suffix in records.LINES or f.stem.endswith("_predictions")]
    chosen = chosen if path.is_dir() else files
    if not chosen:
        raise PredictionsError(f"{path} holds no file named {NAME} and no .jsonl file")
    frames = [one(file, notes) for file in chosen]
    return pd.concat(frames, ignore_index=True), [f.name for f in files if f not in chosen]


def one(file: Path, notes: list[Note] | None = None) -> pd.DataFrame:
    """The answers of one file, as in `read`."""
    held = _Columns(file, "predictions", notes)
    answer = held.first(ANSWERS)
    known = (*NUMBERS, *PROMPTS, *QUESTIONS, *REFERENCES)
    others = [name for lower, name in held.names.items() if lower not in known]
    if answer is None and len(others) == 1 and any(PROMPT.match(values.text(r[others[0]])[0] or "") for r in held.rows):
        answer = others[0]  # only answers of this study hold its prompt
    if answer is None:
        raise PredictionsError(
            f"{file}: no column of answers among {records.listed(held.columns)}; name it one of {', '.join(ANSWERS)}"
        )
    parts = ["question", "prompt", "answer", "whole", "reference"]
    found = pd.DataFrame(_parts(held, answer), columns=parts, dtype="str")
    for at, (column, given) in enumerate(zip(("model", "dataset"), named(file))):
        name = held.first((column,))
        names = [values.identifier(row[name]) or given for row in held.rows] if name else [given] * len(found)
        if not all(names):
            raise PredictionsError(f"{file}: which {column}? name the file {NAME}, or give it a column {column!r}")
        found.insert(at, column, names)
    found.insert(0, "file", file.name)
    found["column"] = answer
    return found


class _Columns:
    """The rows of a file, its columns found by name in whatever case, and notes of what was no plain text in them."""

    def __init__(self, file: Path, part: str, notes: list[Note] | None):
        self.part, self.file, self.notes = part, file.name, [] if notes is None else notes
        try:
            held = records.read(file, part, self.notes)
        except records.RecordsError as error:
            raise PredictionsError(str(error)) from error
        self.rows, self.columns, self.numbers = held.rows, held.columns, held.numbers
        self.names = {c.strip().lower(): c for c in held.columns}

    def first(self, names: tuple[str, ...]) -> str | None:
        """The column that has the first of `names` there is."""
        return next((self.names[n] for n in names if n in self.names), None)

    def told(self, name: str | None, read=values.text) -> list[tuple[str | None, str]]:
        """What `read` makes of a column, row for row, and noted; (None, "") everywhere without a column."""
        found = [(None, "") if name is None else read(row[name]) for row in self.rows]
        for number, (text, how) in zip(self.numbers, found):
            self.note(number, name, text, how)
        return found

    def note(self, number: int, name: str | None, text: str | None, how: str) -> None:
        """A note of one value, where there is something to say."""
        if how:
            self.notes.append(Note(self.part, self.file, number, name or "", how, read=text is not None))


def _parts(held: _Columns, answer: str) -> list[tuple]:
    """(question, prompt, answer, whole, reference) of every row of one file."""
    prompt = held.first(PROMPTS)
    prompts, questions = held.told(prompt, values.question), held.told(held.first(QUESTIONS), values.question)
    humans, read = held.told(held.first(REFERENCES)), [values.text(row[answer]) for row in held.rows]
    begun = [PROMPT.match(text or "") for text, _ in read]
    prompted, parts = any(begun), []
    for i, ((text, how), start) in enumerate(zip(read, begun)):
        row, asked, before, human = held.rows[i], questions[i][0], prompts[i][0], humans[i][0]
        if prompt and values.asked(row[prompt]) is not None:  # how the model saw these messages is not known
            asked, before = asked or before, None
        said, thought = text, ""
        if start:
            before, said = start[0], text[start.end() :]
        elif text and before and text.startswith(before):
            said = text[len(before) :]
        elif prompted and text is not None:
            before, said = text, ""  # the other rows carry their prompt: this one was cut before its answer began
        else:
            asked = asked or values.asked(row[answer])
            before = before or (TEMPLATE.format(question=asked) if asked else None)
        if said is not None:
            said, thought = values.answer(said)
        held.note(held.numbers[i], answer, said, "; ".join(filter(None, (how, thought))))
        if asked is None and before and (found := PROMPT.match(before)):
            asked = found[1]
        whole = None if before is None or said is None else before + said
        human = human if human and human.strip() else None
        parts.append((asked.strip() if asked else None, before, said, whole, human))
    return parts


def references(file: Path, notes: list[Note] | None = None) -> tuple[dict[str, str], int]:
    """({question as `plain` has it: its human answer}, questions that came with several: the first is taken)."""
    held = _Columns(file, "references", notes)
    asked = (*QUESTIONS, *PROMPTS)
    question, human = held.first(asked), held.first(HUMAN)
    if question is None or human is None:
        raise PredictionsError(
            f"{file}: references need a question ({', '.join(asked)}) and an answer ({', '.join(HUMAN)}); "
            f"its columns are {records.listed(held.columns)}"
        )
    found: dict[str, str] = {}
    several = set()
    for (text, _), (said, how) in zip(held.told(question, values.question), held.told(human)):
        prompt = PROMPT.match(text or "")
        key = plain(prompt[1] if prompt else text or "")
        if key and said and said.strip() and (found.setdefault(key, said) != said or how == values.SEVERAL):
            several.add(key)
    return found, len(several)


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
