"""Score answers, and ratings, made elsewhere, beside the study's published values. No model answers anything here.

    python -m s2utils audit --predictions folder [--references file] [--judgements file]
    python -m s2utils audit --answers model_answer/ --judgements gpt-4_single.jsonl --questions question.jsonl

Protocols, and whose reference: see `scoring_protocols`. What a difference to the published value is made of: see
`protocol_effects`. Trap: the study's readability is reproduced by Pyphen only; its BERTScore needs roberta-large, layer
17.
"""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from s2utils.data import records, values
from s2utils.data.values import Note
from s2utils.evaluation import external_answers, scoring_protocols
from s2utils.evaluation.external_answers import NUMBERS, PROMPTS, QUESTIONS, PredictionsError
from s2utils.evaluation.judge import fastchat
from s2utils.evaluation.judge.readings import rating
from s2utils.report import audit_page
from s2utils.results import fastchat_tables, layout, protocol_effects
from s2utils.text import alphabet
from s2utils.workflow import paths
from s2utils.workflow.params import ParameterError, Params, load

PUBLISHED = (
    "Published: the revision's. Protocol study: prompt and answer; answer: the answer alone. Reference other: another "
    "question's."
)
NO_REPLIES = (*NUMBERS, *QUESTIONS, *PROMPTS, "question_id", "category", "turn")  # columns beside a judge's replies


def readability(answers: pd.DataFrame, params: Params) -> pd.DataFrame:
    """Reading ease and grade, both protocols and back ends; an answer without a word has failed."""
    return protocol_effects.table(answers, "flesch", scoring_protocols.readability(answers), params)


def overlap(answers: pd.DataFrame, params: Params) -> tuple[pd.DataFrame, pd.DataFrame, str]:
    """(ROUGE, BERTScore, what the encoder is) against `reference`; answers without one have failed.

    ROUGE of an empty answer is 0; its BERTScore is not defined.
    """
    from s2utils.evaluation import bertscore

    settings = params.text_metrics
    answers = answers.assign(other=scoring_protocols.other_references(answers))
    scored, facts = scoring_protocols.bertscore(answers, params)
    same = settings.bertscore.path.rpartition("/")[2] == "roberta-large" and settings.bertscore_layer == 17
    told = f"Encoder {facts['bertscore_hash']}; {bertscore.told(facts)}" + (
        "" if same else " Published: roberta-large, layer 17, whose values cannot be compared with these."
    )
    found = protocol_effects.table(answers, "rouge", scoring_protocols.rouge(answers, params), params)
    return found, protocol_effects.table(answers, "bertscore", scored, params, compare=same), told


def ratings(file: Path, params: Params, notes: list[Note] | None = None) -> pd.DataFrame:
    """One row per column of judge's replies: n, n_failed, judge_rating (the mean) and interval.

    The published means may rest on a parser that took one character after "[[" and dropped what it could not read:
    `judge_rating_effect_parser` is what ours changes.
    """
    notes = [] if notes is None else notes
    held = records.read(file, "ratings", notes)
    judged = [c for c in held.columns if c.strip().lower() not in NO_REPLIES]
    if not judged:
        raise PredictionsError(
            f"{file}: no column of replies among {records.listed(held.columns)}; one a model is wanted"
        )
    theirs, table = protocol_effects.published("ratings"), []
    for column in judged:
        read = [values.reply(row[column]) for row in held.rows]
        notes += [
            Note("ratings", file.name, number, column, how, reply is not None)
            for number, (reply, how) in zip(held.numbers, read)
            if how
        ]
        replies = [reply or "" for reply, _ in read]
        rated = pd.Series([rating(reply) for reply in replies], dtype=float)
        one = pd.Series([float(m[1]) for m in (re.search(r"\[\[(\d)", reply) for reply in replies) if m], dtype=float)
        paper = external_answers.published_model(column)
        row = {"model": column, "n": len(replies), "n_failed": int(rated.isna().sum())}
        row |= layout.measured(rated, "judge_rating", params)
        row |= protocol_effects.beside("judge_rating", row["judge_rating"], theirs.get((paper, ""), {}))
        row["judge_rating_effect_parser"] = row["judge_rating"] - one.mean()
        row["judge_rating_effect_rest"] = one.mean() - row["judge_rating_published"]
        table.append(row | {"published_model": paper if row["judge_rating_reproduced"] else ""})
    if all(row["n_failed"] == row["n"] for row in table):
        raise PredictionsError(f"{file}: no rating in any of the columns {records.listed(judged)}")
    return pd.DataFrame(table).round(6)


def audit(
    predictions: Path | None,
    references: Path | None,
    judgements: Path | None,
    answers: Path | None,
    questions: Path | None,
    profile: str = "cpu",
    overrides: str = "",
) -> None:
    """Score what is given and write its page; everything is computed before anything is written."""
    if not (predictions or judgements or answers):
        raise ParameterError("nothing to score: PREDICTIONS=<folder>, ANSWERS=<folder> or JUDGEMENTS=<file>")
    if references and not predictions:
        raise ParameterError("REFERENCES=<file> needs PREDICTIONS=<folder>")
    params, folder = load(profile, overrides), paths.reports("audit")
    settings, made, notes = params.text_metrics, {}, []
    level = f"{settings.confidence:.0%} percentile bootstrap over answers, {settings.resamples:,} resamples."
    if predictions:
        made |= _predicted(predictions, references, params, level, notes)
    known = fastchat.categories(questions) if questions else {}
    if answers:
        found = fastchat.answers(answers, notes)
        caption = f"{len(found)} answers, {level} The answer alone."
        made["mtbench_flesch"] = (fastchat_tables.readable(found, known, params), caption)
    if judgements:
        made |= _judged(judgements, known, params, level, notes)
    written = audit_page.replace(folder, made, notes)
    print(f"\nWritten: {written.relative_to(paths.root())} and the tables beside it.")


def _predicted(path: Path, beside: Path | None, params: Params, level: str, notes: list[Note]) -> dict:
    """Tables of predictions: readability, and overlap where there are references."""
    answers, others = external_answers.read(path, notes)
    counts = answers.groupby(["file", "column"], sort=False).size()
    print("\n".join(f"{file}: {n} answers, from column {column!r}" for (file, column), n in counts.items()))
    print("".join(f"{name}: not read, for its name is not {external_answers.NAME}\n" for name in others), end="")
    caption = f"{len(answers)} answers of {len(counts)} files, {level} {PUBLISHED}"
    made = {
        "flesch": (readability(answers, params), caption + alphabet.note(answers["answer"].dropna(), "readability"))
    }
    found, several = external_answers.references(beside, notes) if beside else ({}, 0)
    known = answers["question"].map(lambda q: found.get(external_answers.plain(q)) if isinstance(q, str) else None)
    answers["reference"] = known.astype("str").fillna(answers["reference"])
    held = int(answers["reference"].notna().sum())
    if beside or held:
        print(f"{held} of {len(answers)} answers have a reference")
    if held:
        note = f" {held} have a reference" + (f" ({several} questions had several: the first)." if several else ".")
        rouge, bert, encoder = overlap(answers, params)
        foreign = alphabet.note(answers["reference"].dropna(), "ROUGE")
        made |= {"rouge": (rouge, f"{caption}{note}{foreign}"), "bertscore": (bert, f"{caption}{note} {encoder}")}
    return made


def _judged(file: Path, known: dict[str, str], params: Params, level: str, notes: list[Note]) -> dict:
    """Tables of judgements, FastChat's or others with one row each; or of replies, one column a model."""
    columns = records.read(file).columns
    if not fastchat.is_long(columns) and (file.suffix not in records.JSON or "question_id" not in columns):
        return {"ratings": (ratings(file, params, notes), f"{level} Replies without one clear rating have failed.")}
    rated, pair = fastchat.judgements(file, notes)
    note = f"{level} Failed: no clear rating. In the file: plain mean of its own scores, failures (0, -1) left out."
    note += " Published: GPT-4, 30 questions." + (
        " The file holds first turns only." if set(rated["turn"]) == {1} else ""
    )
    made = {}
    if len(rated):
        made["mtbench"] = (fastchat_tables.rated(rated, known, params), f"{len(rated)} judgements, {note}")
    if len(pair):
        note = f"{len(pair)} pairs, {level} A verdict that flips with the order is a tie."
        made["mtbench_pairs"] = (fastchat_tables.compared(pair, params), note)
    return made
