"""Score answers, and ratings, made elsewhere, beside the study's published values. No model answers anything here.

    python -m s2utils.audit --predictions folder [--references file] [--judgements file]

Protocols: `study` scores the prompt with the answer (and, for overlap, with the reference), as the published values do;
`answer` the answer alone. What a difference to the published value is made of: see `effects`.
Trap: the study's readability is reproduced by Pyphen only; its BERTScore needs roberta-large, layer 17.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

import pandas as pd

from s2utils import artefacts, effects, intervals, paths, predictions, shell, table_pages, tables
from s2utils.effects import METRICS
from s2utils.params import ParameterError, Params, load
from s2utils.predictions import PredictionsError
from s2utils.readability import BACKENDS, flesch

TITLES = {
    "flesch": "Readability of the answers",
    "rouge": "ROUGE F1 of the answers",
    "bertscore": "BERTScore of the answers",
    "ratings": "Judge's ratings",
}


def readability(answers: pd.DataFrame, params: Params) -> pd.DataFrame:
    """Reading ease and grade, both protocols and back ends; an answer without a word has failed."""
    texts = {"study": answers["whole"].fillna(""), "answer": answers["answer"]}
    ways = {
        (protocol, backend, "none"): pd.DataFrame(
            [flesch(t, backend) for t in said], columns=list(METRICS["flesch"]), index=answers.index
        )
        for protocol, said in texts.items()
        for backend in BACKENDS
    }
    return effects.table(answers, "flesch", ways, params)


def overlap(answers: pd.DataFrame, params: Params) -> tuple[pd.DataFrame, pd.DataFrame, str]:
    """(ROUGE, BERTScore, what the encoder is) against `reference`; answers without one have failed.

    ROUGE of an empty answer is 0; its BERTScore is not defined.
    """
    from s2utils import text_metrics

    settings = params.text_metrics
    own = answers["reference"]
    held = own.dropna()
    group = answers.groupby(["file", "model", "dataset"]).ngroup()
    other = held.groupby(group).transform(lambda r: r.shift(-1).fillna(r.iloc[0] if len(r) > 1 else None))
    texts = {  # protocol, whose reference: the two texts that are compared
        ("study", "own"): (answers["whole"], answers["prompt"] + own),
        ("answer", "own"): (answers["answer"], own),
        ("answer", "other question"): (answers["answer"], other),
    }
    pairs = {key: pd.DataFrame(dict(zip(("said", "wanted"), two))).dropna() for key, two in texts.items()}

    def aligned(scored: pd.DataFrame, pair: pd.DataFrame, name: str) -> pd.DataFrame:
        scored.index = pair.index
        return scored.reindex(index=answers.index, columns=METRICS[name]).astype(float)

    rouge = {}
    for (protocol, whose), pair in pairs.items():
        for stemmed in (False, True) if (protocol, whose) == ("answer", "own") else (False,):
            way = (protocol, "rouge_score, stemmed" if stemmed else "rouge_score", whose)
            rouge[way] = aligned(text_metrics.rouge(*(list(pair[c]) for c in pair), stemmed), pair, "rouge")
    every = pd.concat(pairs)  # one call: the encoder is loaded once
    bert, facts = text_metrics.bertscore(
        *(list(every[c]) for c in every), settings.bertscore, settings.bertscore_layer, params.runtime.device
    )
    encoder, start, scored = facts["bertscore_hash"], 0, {}
    for (protocol, whose), pair in pairs.items():
        part = bert.iloc[start : start + len(pair)].copy()
        scored[protocol, encoder, whose] = aligned(part, pair, "bertscore")
        start += len(pair)
    same = settings.bertscore.path.rpartition("/")[2] == "roberta-large" and settings.bertscore_layer == 17
    told = f"Encoder {encoder}; {facts['bertscore_texts_cut']} texts over 512 tokens." + (
        "" if same else " Published: roberta-large, layer 17, whose values cannot be compared with these."
    )
    found = effects.table(answers, "rouge", rouge, params)
    return found, effects.table(answers, "bertscore", scored, params, compare=same), told


def ratings(file: Path, params: Params) -> pd.DataFrame:
    """One row per column of judge's replies: n, n_failed, mean and interval.

    The published means may rest on a parser that took one character after "[[" and dropped what it could not read:
    `mean_effect_parser` is what ours changes.
    """
    from s2utils.mtbench import rating

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


def write(frame: pd.DataFrame, name: str, caption: str, folder: Path) -> None:
    """<name>.csv, .md and .txt (the caption) into `folder`, and the table to the terminal."""
    view = effects.shown(frame, name)
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
                 "view": effects.shown(pd.read_csv(csv_file, keep_default_na=False, na_values=""), name), "files": [f"{name}.csv", f"{name}.md"]}
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
    parser.add_argument("--judgements", type=Path, help="CSV of a judge's replies, one column a model")
    parser.add_argument("--profile", default="cpu", help="whose encoder, resamples, confidence and seed to take")
    parser.add_argument("--set", default="", help="changed parameters, as in make reproduce")
    given = parser.parse_args(arguments)
    if not (given.predictions or given.judgements):
        parser.error("nothing to score: PREDICTIONS=<folder> or JUDGEMENTS=<csv>")
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
    shares = "Published: the revision's. Protocol study: prompt and answer; answer: the answer alone."
    if given.predictions:
        answers, others = predictions.read(given.predictions)
        counts = answers.groupby(["file", "column"], sort=False).size()
        print("\n".join(f"{file}: {n} answers, from column {column!r}" for (file, column), n in counts.items()))
        print("".join(f"{name}: not read, for its name is not {predictions.NAME}\n" for name in others), end="")
        caption = f"{len(answers)} answers of {len(counts)} files, {level} {shares}"
        made["flesch"] = (readability(answers, params), caption)
        found, several = predictions.references(given.references) if given.references else ({}, 0)
        known = answers["question"].map(lambda q: found.get(predictions.plain(q)) if isinstance(q, str) else None)
        answers["reference"] = known.astype("str").fillna(answers["reference"])
        held = int(answers["reference"].notna().sum())
        if given.references or held:
            print(f"{held} of {len(answers)} answers have a reference")
        if held:
            note = f" {held} have a reference" + (f" ({several} questions had several: the first)." if several else ".")
            rouge, bert, encoder = overlap(answers, params)
            made |= {"rouge": (rouge, f"{caption}{note}"), "bertscore": (bert, f"{caption}{note} {encoder}")}
    if given.judgements:
        made["ratings"] = (ratings(given.judgements, params), f"{level} Replies without one clear rating have failed.")
    for name in ("flesch", "rouge", "bertscore") if given.predictions else ():  # those of other files must not stay
        for old in (folder / "tables").glob(f"{name}.*"):
            old.unlink()
    for name, (frame, caption) in made.items():
        write(frame, name, caption, folder / "tables")
    print(f"\nWritten: {page(folder).relative_to(paths.root())} and the tables beside it.")


if __name__ == "__main__":
    sys.exit(main())
