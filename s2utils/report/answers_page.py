"""The answers, to be read: every model's answer to a question side by side, with reference, metrics and judge.

Reads artefacts/<profile>/text_metrics/scores.parquet, mtbench/<model>/judged.jsonl and judged/validation.jsonl, as far
as they are there. The data stands in the page as JSON and reaches the reader as text only (static/answers.js). Metrics
keep the units of their tables. Trap: a rating that a judge did not give is missing, not 0.
"""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd

from s2utils.data import mtbench_questions
from s2utils.evaluation import metrics
from s2utils.report import web
from s2utils.results import layout
from s2utils.workflow import artefacts, paths, steps
from s2utils.workflow.params import Params

RATING = "judge_rating"
FIRST = (  # shown on every answer; the others on demand
    "flesch_reading_ease", "flesch_kincaid_grade", "rouge_l_f1", "bertscore_f1", "reference_cosine", "answer_words",
    RATING,
)  # fmt: skip
NO_METRIC = {
    "dataset", "source", "id", "question", "reference", "text", "n_tokens", "ended", "looping", "model_id", "model",
    "base", "variant", "train_set", "merge_mode", "reasoned",
}  # fmt: skip
CUT, LOOPS, EMPTY = 1, 2, 4  # flags of an answer
SIMPLE, SECOND = "MT(S)-bench, turn 1", "MT(S)-bench, turn 2"


def held(profile: str) -> bool:
    """Whether there are answers to show."""
    folder = paths.artefacts(profile)
    return (folder / "text_metrics" / "scores.parquet").is_file() or any(folder.glob("mtbench/*/judged.jsonl"))


def write(site: web.Site, profile: str, params: Params) -> Path:
    """Write answers.html."""
    data = collect(profile, params)
    values = {"title": "Answers", "data": data, "n": len(data["questions"]), "models": len(data["models"])}
    return web.write_page(site, "answers.html", "answers", values, scripts=("answers",))


def collect(profile: str, params: Params) -> dict:
    """What the page shows: models, metrics, sets, and a question each with an answer (or null) per model.

    An answer is {t: text, f: flags, m: values in the order of metrics}, and j: what judges said, where they were asked.
    """
    models = steps.models(params)
    place = {row.id: i for i, row in enumerate(models)}
    questions = _scored(paths.artefacts(profile) / "text_metrics" / "scores.parquet", place)
    _add_validation(paths.artefacts(profile) / "judged" / "validation.jsonl", questions, place, params.data.union)
    questions += _turns(paths.artefacts(profile) / "mtbench", place, params.mtbench.questions)
    found = {m for q in questions for a in q["answers"] if a for m in a["m"]}
    order = [c for c in dict.fromkeys([*FIRST, *metrics.METRICS]) if c in found]
    columns = [*order, *sorted(found - set(order))]
    for answer in (a for q in questions for a in q["answers"] if a):
        answer["m"] = [answer["m"].get(column) for column in columns]
    return {
        "models": [
            {"id": r.id, "label": r.model, "mode": r.merge_mode.replace("none", ""), "variant": r.variant}
            for r in models
        ],
        "metrics": [_metric(column) for column in columns],
        "sets": list(dict.fromkeys(q["set"] for q in questions)),
        "questions": questions,
    }


def _metric(column: str) -> dict:
    """What the page says of a metric; one that is not of the study is shown as it is."""
    facts = metrics.METRICS.get(column) or metrics.Metric(
        column, layout.words(column), "", "", better=0, sample_decimals=3
    )
    digits = facts.decimals - 1 if facts.sample_decimals is None else facts.sample_decimals
    shown = column in FIRST
    return {"key": column, "label": facts.full_name, "digits": digits, "better": facts.better, "shown": shown}


def _scored(file: Path, place: dict[str, int]) -> list[dict]:
    """Questions of the text metrics, in the order they were asked."""
    if not file.is_file():
        return []
    frame = pd.read_parquet(file)
    columns = [c for c in frame if c not in NO_METRIC and pd.api.types.is_numeric_dtype(frame[c])]
    found: dict[tuple, dict] = {}
    for row in frame.to_dict("records"):
        if row["model_id"] not in place:
            continue
        id = f"{row['source']}/{row['id']}"
        blank = _question(row["dataset"], id, row["question"], len(place), row["reference"])
        question = found.setdefault((row["dataset"], row["source"], row["id"]), blank)
        flags = CUT * (not row["ended"]) + LOOPS * bool(row["looping"]) + EMPTY * (not row["text"].strip())
        values = {m: round(float(row[m]), 5) for m in columns if math.isfinite(row[m])}
        question["answers"][place[row["model_id"]]] = {"t": row["text"], "f": flags, "m": values}
    return list(found.values())


def _question(name: str, id: str, text: str, models: int, reference: str = "", before: str = "") -> dict:
    return {"set": name, "id": id, "q": text, "ref": reference, "before": before, "answers": [None] * models}


def _turns(folder: Path, place: dict[str, int], file: str) -> list[dict]:
    """Both turns of every question of MT(S)-bench, each a question of its own."""
    known = mtbench_questions.questions(file) if (paths.root() / file).is_file() else []
    asked = {str(question["question_id"]): question for question in known}
    found: dict[tuple, dict] = {}
    for id, i in place.items():
        for row in artefacts.read_jsonl(folder / id / "judged.jsonl"):
            number, turn = str(row["question_id"]), int(row["turn"])
            texts = asked.get(number, {}).get("turns", [f"question {number}", f"question {number}, second turn"])
            points = (asked.get(number, {}).get("must_hold") or [[], []])[turn - 1]
            name, before = (SECOND, texts[0]) if turn == 2 else (SIMPLE, "")
            blank = _question(name, number, texts[turn - 1], len(place), "\n".join(points), before)
            question = found.setdefault((turn, number), blank)
            answer = question["answers"][i]
            if answer is None:
                flags = CUT * (not row["ended"]) + EMPTY * (not row["text"].strip())
                answer = question["answers"][i] = {"t": row["text"], "f": flags, "m": {}, "j": []}
            _judged(answer, row)
    return [found[key] for key in sorted(found, key=lambda k: k[0])]


def _judged(answer: dict, row: dict) -> None:
    """Add one judgement; the answer's rating is the mean of those that were given."""
    said = [text for text in (row.get("reply"), row.get("again")) if text and text.strip()]
    values = {key: row[key] for key in row if key in DIMENSIONS and _rated(row[key])}
    rating = row.get("rating", row.get("overall"))  # as it was read when it was made
    judgement = {"who": row.get("judge", ""), "r": rating if _rated(rating) else None, "said": said, "d": values}
    answer.setdefault("j", []).append(judgement | {"e": row.get("error") or ""})
    given = [j["r"] for j in answer["j"] if j["r"] is not None]
    if given:
        answer["m"][RATING] = round(sum(given) / len(given), 4)


DIMENSIONS = ("simplicity", "helpfulness", "relevance", "accuracy", "depth", "safety")


def _rated(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _add_validation(file: Path, questions: list[dict], place: dict[str, int], union: str) -> None:
    """Add the judge's rubric to the answers of the validation set it rated."""
    known = {q["id"].partition("/")[2]: q for q in questions if q["set"] == union}
    for row in artefacts.read_jsonl(file):
        question, i = known.get(str(row["question_id"])), place.get(row["model"])
        if question and i is not None and question["answers"][i]:
            _judged(question["answers"][i], row)
