"""Score answers, and ratings, made elsewhere, beside the study's published values. No model answers anything here.

    python -m s2utils.audit --predictions folder [--references file] [--judgements file]
    python -m s2utils.audit --answers model_answer/ --judgements gpt-4_single.jsonl --questions question.jsonl

Protocols, and whose reference: see `scoring`. What a difference to the published value is made of: see `effects`.
Trap: the study's readability is reproduced by Pyphen only; its BERTScore needs roberta-large, layer 17.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

import pandas as pd

from s2utils import (
    alphabet,
    artefacts,
    effects,
    fastchat,
    fastchat_tables,
    intervals,
    paths,
    predictions,
    scoring,
    shell,
    table_pages,
    tables,
)  # fmt: skip
from s2utils.effects import METRICS
from s2utils.params import ParameterError, Params, load
from s2utils.predictions import PredictionsError

TITLES = {
    "flesch": "Readability of the answers",
    "rouge": "ROUGE F1 of the answers",
    "bertscore": "BERTScore of the answers",
    "ratings": "Judge's ratings",
    "mtbench": "MT-bench, judge's ratings a turn",
    "mtbench_flesch": "Readability of MT-bench's answers, a turn",
    "mtbench_pairs": "MT-bench, pairs in both orders",
}


def readability(answers: pd.DataFrame, params: Params) -> pd.DataFrame:
    """Reading ease and grade, both protocols and back ends; an answer without a word has failed."""
    ways = {way: frame.set_axis(list(METRICS["flesch"]), axis=1) for way, frame in scoring.readability(answers).items()}
    return effects.table(answers, "flesch", ways, params)


def overlap(answers: pd.DataFrame, params: Params) -> tuple[pd.DataFrame, pd.DataFrame, str]:
    """(ROUGE, BERTScore, what the encoder is) against `reference`; answers without one have failed.

    ROUGE of an empty answer is 0; its BERTScore is not defined.
    """
    from s2utils import bertscore

    settings = params.text_metrics
    answers = answers.assign(other=scoring.other_references(answers))
    scored, facts = scoring.bertscore(answers, params)
    same = settings.bertscore.path.rpartition("/")[2] == "roberta-large" and settings.bertscore_layer == 17
    told = f"Encoder {facts['bertscore_hash']}; {bertscore.told(facts)}" + (
        "" if same else " Published: roberta-large, layer 17, whose values cannot be compared with these."
    )
    found = effects.table(answers, "rouge", scoring.rouge(answers, params), params)
    return found, effects.table(answers, "bertscore", scored, params, compare=same), told


def ratings(file: Path, params: Params) -> pd.DataFrame:
    """One row per column of judge's replies: n, n_failed, mean and interval.

    The published means may rest on a parser that took one character after "[[" and dropped what it could not read:
    `mean_effect_parser` is what ours changes.
    """
    from s2utils.judges import rating

    rows, columns = predictions.raw(file)
    judged = [c for c in columns if c.strip().lower() not in predictions.NUMBERS]
    if not judged:
        raise PredictionsError(
            f"{file}: no column of replies among {', '.join(map(repr, columns))}; one a model is wanted"
        )
    theirs, settings, table = effects.published("ratings"), params.text_metrics, []
    for column in judged:
        replies = [row[column] for row in rows]
        values = pd.Series([rating(reply) for reply in replies], dtype=float)
        estimate = intervals.bootstrap(values, settings.resamples, settings.confidence, params.seed)
        one = pd.Series([float(m[1]) for m in (re.search(r"\[\[(\d)", reply) for reply in replies) if m], dtype=float)
        paper = predictions.published_model(column)
        row = {"model": column, "n": len(replies), "n_failed": int(values.isna().sum())}
        row |= dict(zip(("mean", "mean_ci_low", "mean_ci_high"), estimate))
        row |= effects.beside("mean", estimate[0], theirs.get((paper, ""), {}))
        row["mean_effect_parser"] = estimate[0] - one.mean()
        row["mean_effect_rest"] = one.mean() - row["mean_published"]
        table.append(row | {"published_model": paper if row["mean_reproduced"] else ""})
    if all(row["n_failed"] == row["n"] for row in table):
        raise PredictionsError(f"{file}: no rating in any of the columns {', '.join(map(repr, judged))}")
    return pd.DataFrame(table).round(6)


def shown(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """A table as readers see it."""
    return fastchat_tables.shown(frame, name) if name.startswith("mtbench") else effects.shown(frame, name)


def write(frame: pd.DataFrame, name: str, caption: str, folder: Path) -> None:
    """<name>.csv, .md and .txt (the caption) into `folder`, and the table to the terminal."""
    view = shown(frame, name)
    with artefacts.replacing(folder / f"{name}.csv") as file:
        frame.to_csv(file, index=False, lineterminator="\n")
    with artefacts.replacing(folder / f"{name}.md") as file:
        file.write(f"**{TITLES[name]}.** {caption}\n\n{tables.markdown(view)}\n")
    with artefacts.replacing(folder / f"{name}.txt") as file:
        file.write(caption + "\n")
    print(f"\n{TITLES[name]}. {caption}\n{view.to_string(index=False)}")


def page(folder: Path) -> Path:
    """index.html of the tables that are in `folder`/tables."""
    found = []
    for name in TITLES:
        csv_file = folder / "tables" / f"{name}.csv"
        if csv_file.is_file():
            text = csv_file.with_suffix(".txt").read_text(encoding="utf-8").strip()
            found.append(
                {"name": name, "title": TITLES[name], "gaps": [], "caption": text, "published": None,
                 "view": shown(pd.read_csv(csv_file, keep_default_na=False, na_values=""), name), "files": [f"{name}.csv", f"{name}.md"]}
            )  # fmt: skip
    values = {
        "title": "Answers made elsewhere",
        "tables": [table | {"grid": table_pages.plain(table["view"])} for table in found],
    }
    return shell.write_page(shell.Site(folder, "audit"), "index.html", "audit", values, scripts=("table",))


def main(arguments: list[str] | None = None) -> int:
    """Entry point; 2 where a file cannot be used."""
    parser = argparse.ArgumentParser(prog="make audit", description="Score answers and ratings made elsewhere.")
    parser.add_argument("--predictions", type=Path, help=f"folder of {predictions.NAME} or JSONL, or one such file")
    parser.add_argument("--references", type=Path, help="CSV or JSONL of questions and human answers")
    parser.add_argument(
        "--judgements", type=Path, help="CSV of a judge's replies, one column a model, or FastChat's JSONL"
    )
    parser.add_argument("--answers", type=Path, help="FastChat's model_answer folder, or one of its files")
    parser.add_argument("--questions", type=Path, help="MT-bench's questions: tells which are of MT(S)-bench")
    parser.add_argument("--profile", default="cpu", help="whose encoder, resamples, confidence and seed to take")
    parser.add_argument("--set", default="", help="changed parameters, as in make reproduce")
    given = parser.parse_args(arguments)
    if not (given.predictions or given.judgements or given.answers):
        parser.error("nothing to score: PREDICTIONS=<folder>, ANSWERS=<folder> or JUDGEMENTS=<file>")
    if given.references and not given.predictions:
        parser.error("REFERENCES=<file> needs PREDICTIONS=<folder>")
    try:
        _run(given, load(given.profile, given.set), paths.reports("audit"))
    except (PredictionsError, ParameterError) as error:
        print(f"make audit: {error}", file=sys.stderr)
        return 2
    return 0


def _run(given: argparse.Namespace, params: Params, folder: Path) -> None:
    settings, made = params.text_metrics, {}
    level = f"{settings.confidence:.0%} percentile bootstrap over answers, {settings.resamples:,} resamples."
    shares = "Published: the revision's. Protocol study: prompt and answer; answer: the answer alone. Reference other: another question's."
    if given.predictions:
        answers, others = predictions.read(given.predictions)
        counts = answers.groupby(["file", "column"], sort=False).size()
        print("\n".join(f"{file}: {n} answers, from column {column!r}" for (file, column), n in counts.items()))
        print("".join(f"{name}: not read, for its name is not {predictions.NAME}\n" for name in others), end="")
        caption = f"{len(answers)} answers of {len(counts)} files, {level} {shares}"
        made["flesch"] = (readability(answers, params), caption + alphabet.note(answers["answer"], "readability"))
        found, several = predictions.references(given.references) if given.references else ({}, 0)
        known = answers["question"].map(lambda q: found.get(predictions.plain(q)) if isinstance(q, str) else None)
        answers["reference"] = known.astype("str").fillna(answers["reference"])
        held = int(answers["reference"].notna().sum())
        if given.references or held:
            print(f"{held} of {len(answers)} answers have a reference")
        if held:
            note = f" {held} have a reference" + (f" ({several} questions had several: the first)." if several else ".")
            rouge, bert, encoder = overlap(answers, params)
            foreign = alphabet.note(answers["reference"].dropna(), "ROUGE")
            made |= {"rouge": (rouge, f"{caption}{note}{foreign}"), "bertscore": (bert, f"{caption}{note} {encoder}")}
    known = fastchat.categories(given.questions) if given.questions else {}
    if given.answers:
        found = fastchat.answers(given.answers)
        made["mtbench_flesch"] = (
            fastchat_tables.readable(found, known, params),
            f"{len(found)} answers, {level} The answer alone.",
        )
    if given.judgements and given.judgements.suffix == ".jsonl":
        rated, pair = fastchat.judgements(given.judgements)
        note = f"{level} Failed: no clear rating. In the file: its own scores, failures (-1) left out. Published: GPT-4, 30 questions."
        if len(rated):
            made["mtbench"] = (fastchat_tables.rated(rated, known, params), f"{len(rated)} judgements, {note}")
        if len(pair):
            note = f"{len(pair)} pairs, {level} A verdict that flips with the order is a tie."
            made["mtbench_pairs"] = (fastchat_tables.compared(pair, params), note)
    elif given.judgements:
        made["ratings"] = (ratings(given.judgements, params), f"{level} Replies without one clear rating have failed.")
    stale = ["flesch", "rouge", "bertscore"] if given.predictions else []
    stale += ["mtbench_flesch"] if given.answers else []
    for name in (
        *stale,
        *(("mtbench", "mtbench_pairs") if "mtbench" in made or "mtbench_pairs" in made else ()),
    ):  # of other files
        for old in (folder / "tables").glob(f"{name}.*"):
            old.unlink()
    for name, (frame, caption) in made.items():
        write(frame, name, caption, folder / "tables")
    print(f"\nWritten: {page(folder).relative_to(paths.root())} and the tables beside it.")


if __name__ == "__main__":
    sys.exit(main())
