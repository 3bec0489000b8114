"""What a run holds of each single question: every model's value by every metric, for comparing runs.

Units are those of the tables. Trap: documents of the leaderboard and questions of MT(S)-bench carry only a number within
what the parameters chose, so two runs hold the same ones only where those parameters are equal.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from s2utils.workflow import artefacts

TEXT = ["rouge_l_f1", "bertscore_f1", "flesch_reading_ease", "flesch_kincaid_grade"]
KEYS = ["table", "metric", "dataset", "model"]
NUMBERED = {"leaderboard": ("leaderboard.", "seed"), "mtbench": ("mtbench.questions",)}  # what chooses their questions
MANNER = ("leaderboard.batch_size",)


def read(made: Path) -> pd.DataFrame:
    """One row per model, question and metric of the artefacts in `made`: KEYS, question, value; perhaps none."""
    parts = [*_text(made / "text_metrics" / "scores.parquet")]
    for file in sorted(made.glob("leaderboard/*/*.jsonl")):
        frame = pd.DataFrame(artefacts.read_jsonl(file))
        if {"doc_id", "subject", "value"} <= set(frame):
            question = frame["subject"].astype(str) + " " + frame["doc_id"].astype(str)
            parts.append(_part("leaderboard", file.stem, "", file.parent.name, question, 100 * frame["value"]))
    for file in sorted(made.glob("mtbench/*/judged.jsonl")):
        frame = pd.DataFrame(artefacts.read_jsonl(file))
        if "rating" in frame:
            frame["rating"] = pd.to_numeric(frame["rating"], errors="coerce")
            for turn, rows in frame.groupby("turn"):
                rated = rows.groupby("question_id")["rating"].mean().reset_index()
                question = rated["question_id"].astype(str)
                parts.append(_part("mtbench", f"rating, turn {turn}", "", file.parent.name, question, rated["rating"]))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=[*KEYS, "question", "value"])


def _text(file: Path) -> list[pd.DataFrame]:
    """The text metrics; a question is known by its source, its id and its own text."""
    if not file.is_file():
        return []
    frame = pd.read_parquet(file)
    question = frame["source"].astype(str) + "/" + frame["id"].astype(str) + " " + frame["question"]
    return [
        _part("text_metrics", metric, frame["dataset"], frame["model_id"], question, frame[metric])
        for metric in TEXT
        if metric in frame
    ]


def _part(table: str, metric: str, dataset: object, model: object, question: pd.Series, value: pd.Series):
    facts = {"table": table, "metric": metric, "dataset": dataset, "model": model, "question": question}
    return pd.DataFrame(facts | {"value": value.astype(float)})


def shared(one: pd.DataFrame, other: pd.DataFrame, parameters: tuple[dict, dict]) -> tuple[pd.DataFrame, list[str]]:
    """(rows that both runs hold, value_a and value_b; tables left out because their questions need not be the same)."""
    left = [
        table
        for table, prefixes in NUMBERED.items()
        if (one["table"] == table).any() and len({_chosen(values, prefixes) for values in parameters}) > 1
    ]
    both = one.merge(other, on=[*KEYS, "question"], suffixes=("_a", "_b"))
    return both[~both["table"].isin(left)], left


def _chosen(values: dict, prefixes: tuple[str, ...]) -> str:
    return str(sorted((k, str(v)) for k, v in values.items() if k.startswith(prefixes) and k not in MANNER))
