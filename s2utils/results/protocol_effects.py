"""A measured mean beside the study's published value, and what their difference is made of.

A difference is the sum of its effects, each the change of the mean when one choice is switched, in this order: the
prompt left out, another back end (syllable counter, stemmer), another question's reference (what overlap is there by
chance), and the rest: other answers, or fewer references, than the study's. `switched` asks the same of any answers,
one choice at a time. Units are the metric's own. Trap: an effect is of the answers that could be scored; look at
`n_failed` before reading it.
"""

from __future__ import annotations

import csv
import math

import pandas as pd

from s2utils.evaluation import external_answers, metrics
from s2utils.evaluation.scoring_protocols import Way
from s2utils.results import formatting, layout
from s2utils.workflow import paths
from s2utils.workflow.params import Params

METRICS = {name: metrics.columns(name) for name in ("flesch", "rouge", "bertscore")} | {"ratings": ["judge_rating"]}
EFFECTS = ("prompt", "backend", "reference", "rest")


def published(name: str) -> dict[tuple[str, str], dict[str, str]]:
    """{(model, dataset): row} of a table of the revision, as printed, for its digits; dataset is "" in the judge's."""
    path = paths.root() / "reports" / "published" / "revised" / f"{'judge' if name == 'ratings' else name}.csv"
    with open(path, encoding="utf-8", newline="") as file:
        return {(row["model"], row.get("dataset", "")): row for row in csv.DictReader(file)}


def table(
    answers: pd.DataFrame, name: str, ways: dict[Way, pd.DataFrame], params: Params, compare=True
) -> pd.DataFrame:
    """The table `name`: rows of every file, model and data set, one a way of scoring.

    `ways` has a frame a way, row for row the `answers`, NaN where one failed. Without `compare` published values
    stand beside, but nothing is subtracted from them.
    """
    theirs, rows = published(name), []
    for (file, model, dataset), part in answers.groupby(["file", "model", "dataset"], sort=False):
        paper = external_answers.published_model(model)
        printed = theirs.get((paper, external_answers.DATASETS.get(dataset.lower(), dataset)), {})
        keys = {"model": model, "dataset": dataset}
        scores = {way: frame.loc[part.index] for way, frame in ways.items()}
        found = summary(keys, scores, name, printed, params, compare)
        rows += [row | {"published_model": paper if printed else "", "file": file} for row in found]
    frame = pd.DataFrame(rows).round(6)
    return frame.drop(columns="reference") if name == "flesch" else frame


def summary(
    keys: dict, scores: dict[Way, pd.DataFrame], name: str, printed: dict[str, str], params: Params, compare: bool
) -> list[dict]:
    """Rows of one model and data set, one a way of scoring; the first way is the study's.

    `scores` has one frame a way, a row per answer, NaN where it failed; `printed` the published row, {} without one.
    """
    rows = []
    first = next(iter(scores))
    means = {way: frame.mean() for way, frame in scores.items()}
    for way, frame in scores.items():
        protocol, backend, reference = way
        row = keys | dict(zip(("protocol", "backend", "reference"), way)) | {"n": len(frame)}
        steps = [first, (protocol, *first[1:]), (protocol, backend, first[2]), way]
        for metric in METRICS[name]:
            row |= layout.measured(frame[metric], metric, params)
            row[f"{metric}_n_failed"] = int(frame[metric].isna().sum())
            at = [means[step][metric] if step in means else math.nan for step in steps]
            row |= beside(metric, row[metric], printed, compare) | {
                f"{metric}_effect_{e}": after - before for e, before, after in zip(EFFECTS, at, at[1:])
            }
            row[f"{metric}_effect_rest"] = at[0] - row[f"{metric}_published"] if compare else math.nan
        rows.append(row)
    return rows


SWITCHES = {"rouge": ("prompt", "stemmer", "reference"), "flesch": ("prompt", "syllables", "reference")}
CLEAN = {"rouge": ("answer", "rouge_score", "own"), "flesch": ("answer", "cmudict", "none")}


def switched(answers: pd.DataFrame, name: str, ways: dict[Way, pd.DataFrame], params: Params) -> pd.DataFrame:
    """One row per data set, metric and choice of the study: how far it alone moves the value of these answers.

    `answers` has dataset and question (a name), and its index is that of the frames in `ways`, as `scoring` makes them.
    From the answer alone, its own reference, CMU's syllables and no stemmer, one choice is switched: prompt, syllables
    (Pyphen), stemmer, reference (another data set's). value and switched are means over the answers that both could
    score; effect is their difference, with a bootstrap interval over n questions, whose answers by several models
    are averaged first. n_failed counts answers.
    """
    rows = []
    clean = CLEAN.get(name) or ("answer", next(iter(ways))[1], "own")
    for way, frame in ways.items():
        moved = [place for place in range(3) if way[place] != clean[place]]
        if len(moved) != 1:
            continue
        row = {"choice": SWITCHES.get(name, SWITCHES["rouge"])[moved[0]], "from": clean[moved[0]], "to": way[moved[0]]}
        for metric in frame:
            for dataset, part in answers.groupby("dataset", sort=False):
                two = pd.DataFrame({"value": ways[clean][metric], "switched": frame[metric]}).loc[part.index]
                both = two.dropna()
                apart = (both["switched"] - both["value"]).groupby(part["question"]).mean()
                counts = {"n": len(apart), "n_answers": len(two), "n_failed": len(two) - len(both)}
                effect = both.mean().to_dict() | layout.measured(apart, "effect", params)
                rows.append({"dataset": dataset, "metric": metric} | row | counts | effect)
    return pd.DataFrame(rows)


def switches(found: pd.DataFrame) -> pd.DataFrame:
    """`switched` as readers see it: one row per data set and metric, a column a choice, "+8.5 [+7.9, +9.1]"."""
    texts = [formatting.of_row(row, "effect", "+.3g") for row in found.to_dict("records")]
    keys = ["dataset", "metric", "choice"]
    view = found[keys].assign(text=texts).set_index(keys)["text"].unstack("choice")
    order = list(dict.fromkeys(zip(found["dataset"], found["metric"])))
    return view.reindex(index=order, columns=list(dict.fromkeys(found["choice"]))).fillna("").reset_index()


def beside(metric: str, value: float, printed: dict[str, str], compare: bool = True) -> dict:
    """<metric>_published, _difference, and _reproduced: whether the value rounds to what is printed (yes, no or "")."""
    text = printed.get(metrics.METRICS[metric].published, "")
    theirs = float(text or "nan")
    step = 10.0 ** -len(text.partition(".")[2])
    same = "yes" if abs(value - theirs) <= step / 2 + 1e-9 else "no"
    return {
        f"{metric}_published": theirs,
        f"{metric}_difference": value - theirs if compare else math.nan,
        f"{metric}_reproduced": same if text and compare else "",
    }


def shown(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """A table as readers see it.

    "value [low, high] (k failed)", and the published value with the difference's parts.
    """
    view = frame[[c for c in ("dataset", "model", "protocol", "backend", "reference", "n") if c in frame]].copy()
    for metric in METRICS[name]:
        given = frame.rename(columns={"n_failed": f"{metric}_n_failed"})
        facts = metrics.METRICS[metric]
        label, digits = (facts.full_name, 2) if name == "ratings" else (facts.label, 4)
        view[label] = layout.cells(given, metric, digits)
        if frame[f"{metric}_published"].notna().any():
            view[f"{label}, published"] = [_explained(row, metric, digits) for row in frame.to_dict("records")]
    return view


def _explained(row: dict, metric: str, digits: int) -> str:
    """A published value and what the difference to it is made of, or that it is reproduced."""
    if math.isnan(row[f"{metric}_published"]):
        return ""
    text, start = formatting.number(row[f"{metric}_published"], f".{digits}f"), f"{metric}_effect_"
    if math.isnan(row[f"{metric}_difference"]):
        return text
    effects = {c.removeprefix(start): v for c, v in row.items() if c.startswith(start) and not math.isnan(v)}
    told = ", ".join(f"{name} {v:+.{digits}f}" for name, v in effects.items() if round(v, digits))
    return f"{text} ({told or ('reproduced' if row[f'{metric}_reproduced'] == 'yes' else 'no difference')})"
