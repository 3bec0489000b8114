"""The study's claims (`published_claims`): what its own tables say of them, and what ours say.

A value is what the claim says is larger minus what it says is smaller, in the metric's units: above 0 is as claimed. A
claim of several comparisons ("the best") is as strong as its weakest, which is the one shown. A claim holds where every
interval lies above 0, does not where one lies below, and cannot be told otherwise. Of many intervals one lies below by
chance, so for "does not" each is widened as Bonferroni asks (Student's t); for "holds", where all must agree, none
needs be. Published means have no interval; on a scale with two ends n answers cannot spread more than if each were at
an end, so there the Wilson interval of a share bounds it. Reading ease, grade and BERTScore have no such ends: nothing
can be told. Ours are taken question by question where those are at hand (`sample_scores`), and their interval is
"paired". Trap: any other is "combined" from its parts as if they were independent (MOVER, Zou & Donner 2008). Models
that answered the same questions are not, so it is too wide rather than too narrow.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from scipy import stats

from s2utils.data.parameters import ROLES
from s2utils.evaluation import metrics, sample_scores
from s2utils.results import formatting, tables
from s2utils.results.published_claims import CLAIMS, SETS, TUNED, Claim
from s2utils.stats import intervals
from s2utils.workflow import steps
from s2utils.workflow.notebook import Run
from s2utils.workflow.params import Params

HOLDS, DOES_NOT, CANNOT_TELL, NOT_MEASURED = "holds", "does not", "can't tell", "not measured"
NOTEBOOKS = {name: steps.STEPS[metrics.TABLES[name].step].notebook[:2] for name in metrics.STUDY}
CONFIDENCE = 0.95
PUBLISHED_N = {
    "arc_acc_norm": 1172, "hellaswag_acc_norm": 10042, "mmlu_acc": 14042, "truthfulqa_mc2": 817, "average": 26073,
    "rouge": 100, "bertscore": 100, "flesch": 100, "mtbench": 30, "judge": 100,
}  # fmt: skip
MMLU = 9528  # 57² / Σ 1/nᵢ: the mean of 57 subjects weighs them alike, so it is as sure as this many documents


class Difference(NamedTuple):
    """One comparison: its value and interval, n and failures.

    Paired: the questions of all its tasks, and those that failed under any term. Combined: the smallest n of its parts
    and the sum of their failures.
    """

    comparison: str = ""
    value: float = math.nan
    ci_low: float = math.nan
    ci_high: float = math.nan
    n: float = math.nan
    n_failed: float = math.nan
    interval: str = ""  # "paired" | "combined" | "rounding" and so on, "" without one


def published() -> dict[str, pd.DataFrame]:
    """The study's tables with our column names, n, and the intervals that their scales allow."""
    found = {name: tables.published(name) for name in metrics.STUDY}
    for name, frame in found.items():
        printed = [m for m in metrics.of(name) if m.column != "average" and frame[m.column].notna().any()]
        for metric, (low, high) in ((m.column, m.ends) for m in printed):
            frame[f"{metric}_n"] = n = PUBLISHED_N.get(metric, PUBLISHED_N.get(name))
            n = MMLU if metric == "mmlu_acc" else n
            ends = [
                intervals.share((v - low) / (high - low) * n, n, CONFIDENCE)[1:]
                for v in frame[metric]
                if not math.isnan(low)
            ]
            for side, column in enumerate((f"{metric}_ci_low", f"{metric}_ci_high")):
                frame[column] = [low + (high - low) * e[side] for e in ends] or math.nan
        if name == "leaderboard":
            columns = [[m.column, f"{m.column}_ci_low", f"{m.column}_ci_high"] for m in printed]
            rows = [intervals.average([tuple(row[c]) for c in columns]) for _, row in frame.iterrows()]
            frame[["average_ci_low", "average_ci_high"]] = [row[1:] for row in rows]
            frame["average_n"] = PUBLISHED_N["average"]
    return found


def measured(folder: Path) -> dict[str, pd.DataFrame]:
    """Our tables, and those of paired differences between merges, as far as `folder` has them."""
    files = {name: folder / f"{name}.csv" for table in metrics.STUDY for name in (table, f"{table}_paired")}
    return {name: tables.read(file) for name, file in files.items() if file.is_file()}


def table(
    theirs: dict[str, pd.DataFrame],
    ours: dict[str, pd.DataFrame],
    params: Params,
    questions: dict[str, pd.DataFrame] | None = None,
) -> pd.DataFrame:
    """One row per claim: published and measured value, interval, n and verdict.

    `theirs` and `ours` are the tables as `published` and `measured` give them, `questions` ours by question, as
    `sample_scores.of` reads them, as far as they are at hand. What stands for the study's sets is `stands`. A claim of
    one size is measured on a base of that size; 7B stands for every other size.
    """
    size = "13b" if "13b" in params.model.name.lower() else "7b"
    theirs, ours = ({name: f.to_dict("records") for name, f in side.items()} for side in (theirs, ours))
    by_question = {name: sample_scores.rows(frame) for name, frame in (questions or {}).items()}
    same = {role: role for role in (*TUNED, *SETS, "ELI5-Cleaned", "ELI5-Cleaned-wiki")}
    rows = []
    for claim in CLAIMS:
        row = {"claim": claim.id, "notebook": NOTEBOOKS[claim.table], "statement": claim.statement}
        row |= _judged(claim, theirs, {}, params, f"Llama-2-{claim.size}", same, {}, "published")
        roles, lacking = stands(params)
        if size != claim.size and claim.table in ("leaderboard", "judge"):
            lacking = dict.fromkeys(("base", "chat", *same), f"it is about a model of {claim.size.upper()}") | lacking
        rows.append(row | _judged(claim, ours, by_question, params, params.model.name, roles, lacking, "measured"))
    return pd.DataFrame(rows).round(6)


def stands(params: Params) -> tuple[dict[str, str], dict[str, str]]:
    """({name of the study: ours} of train sets and data sets, {name: why nothing stands for it}).

    Sources as `data.roles` says; the union only where it holds nothing else.
    """
    roles, lacking = {}, {}
    for role in ROLES:
        if role in params.data.roles:
            roles[role] = params.data.roles[role]
        else:
            lacking[role] = f"no source stands for {role} (data.roles)"
    others = [name for name in params.data.sources if name not in roles.values()]
    union = {"full": params.data.union, "ELI5-wiki": params.train_set_name(params.data.union)}
    if others:
        lacking |= dict.fromkeys(union, f"{params.data.union} also holds {', '.join(others)}")
    elif lacking:
        lacking |= dict.fromkeys(union, next(iter(lacking.values())))
    else:
        roles |= union
    return roles, lacking


def _judged(
    claim: Claim, found: dict, asked: dict, params: Params, base: str, roles: dict, lacking: dict, side: str
) -> dict:
    """The weakest comparison of a claim in the tables `found`, what is missing, and the verdict over all.

    Keys begin with `side`; `roles` and `lacking` as `stands` gives them.
    """
    each = [_difference(claim, terms, found, asked, params, base, roles, lacking) for terms in claim.comparisons]
    level = CONFIDENCE if side == "published" else params.text_metrics.confidence
    return judged(each, side, level, claim.margin)


def judged(each: list[Difference | str], side: str, level: float, margin: float = 0.0, fewest: int = 0) -> dict:
    """The weakest of comparisons, what is missing (a text in place of one), and the verdict over all at `level`.

    Each is above 0 as claimed, or within ±`margin`; of fewer than `fewest` units nothing is told. Keys begin with
    `side`, "published" or "measured", such as `measured_verdict`.
    """
    missing = "; ".join(dict.fromkeys(d for d in each if isinstance(d, str)))
    wide = [] if missing else [_widened(d, len(each), level) for d in each]
    if missing or not each:
        weakest, told = Difference(), CANNOT_TELL if side == "published" else NOT_MEASURED
    elif margin:
        weakest = max(each, key=lambda d: abs(d.value))
        inside = all(-margin < d.ci_low and d.ci_high < margin for d in each)
        outside = any(low > margin or high < -margin for low, high in wide)
        told = HOLDS if inside else DOES_NOT if outside else CANNOT_TELL
    else:
        weakest = min(each, key=lambda d: d.value)
        against = any(high < 0 for _, high in wide)
        told = HOLDS if all(d.ci_low > 0 for d in each) else DOES_NOT if against else CANNOT_TELL
    if not missing and any(d.n < fewest for d in each):
        told = CANNOT_TELL
    values = {f"{side}_{key}": value for key, value in weakest._asdict().items()}
    return values | {f"{side}_verdict": told, f"{side}_missing": missing}


def _widened(d: Difference, comparisons: int, confidence: float) -> tuple[float, float]:
    """The interval of one of so many comparisons at a confidence that holds for all of them together.

    One without n is of rounding, which does not grow by chance.
    """
    if math.isnan(d.n):
        return d.ci_low, d.ci_high
    one, all_ = stats.t.ppf([1 - (1 - confidence) / 2, 1 - (1 - confidence) / (2 * comparisons)], max(d.n - 1, 1))
    return d.value - (d.value - d.ci_low) * all_ / one, d.value + (d.ci_high - d.value) * all_ / one


def _difference(
    claim: Claim, terms: tuple, found: dict, asked: dict, params: Params, base: str, roles: dict, lacking: dict
) -> Difference | str:
    """A sum of terms with its interval; where a part is not there, what is missing."""
    parts, compared, single = [], {}, []
    for weight, role, metric, dataset in terms:
        name, _, mode = role.partition("@")
        if why := lacking.get(name) or lacking.get(dataset):
            return why
        if name not in ("base", "chat", *roles):
            return f"no train set stands for {name}"
        if claim.table not in found:
            return f"the table {claim.table} is not there yet (notebook {NOTEBOOKS[claim.table]})"
        model = base if name == "base" else f"{base}-chat" if name == "chat" else f"{base}-{roles[name]}"
        cell = _cell(found[claim.table], model, mode or claim.mode, bool(mode), metric, roles.get(dataset))
        if cell is None:
            of = [f"{model}{f' ({mode})' if mode else ''}", *([roles[dataset]] if dataset else [])]
            return f"{claim.table} has no {metric} of {', '.join(of)}"
        *numbers, merged = cell
        parts.append((weight, *numbers))
        single.append((weight, asked.get(claim.table, {}).get((model, merged, roles.get(dataset) or "", metric))))
        compared[f"{model} ({mode})" if mode else model] = None
    value = sum(w * v for w, v, *_ in parts)
    down = math.sqrt(sum((v - low if w > 0 else high - v) ** 2 * w * w for w, v, low, high, *_ in parts))
    up = math.sqrt(sum((high - v if w > 0 else v - low) ** 2 * w * w for w, v, low, high, *_ in parts))
    n, failed = min(part[4] for part in parts), sum(part[5] for part in parts)
    ends, kind = (value, value - down, value + up, n, failed), "combined"
    if paired := _by_question(single, params) or _paired(claim, terms, found, roles, n, failed):
        ends, kind = paired, "paired"
    named = " − ".join(dict.fromkeys(metrics.METRICS[metric].label for _, _, metric, _ in terms))
    where = f", {roles[terms[0][3]]}" if terms[0][3] else ""
    return Difference(f"{' − '.join(compared)}: {named}{where}", *ends, kind if ends[1] == ends[1] else "")


def _by_question(single: list[tuple], params: Params) -> tuple | None:
    """(value, low, high, n, n_failed), where every term has its questions."""
    settings = params.text_metrics
    if not single or any(values is None for _, values in single):
        return None
    return sample_scores.summed(single, settings.resamples, settings.confidence, params.seed)


def _cell(rows: list[dict], model: str, mode: str, exact: bool, metric: str, dataset: str | None) -> tuple | None:
    """(value, low, high, n, failed, merge mode) of one row.

    Of several merges `mode`, or the first where it need not be `exact`.
    """
    rows = [r for r in rows if r["model"] == model and (dataset is None or r["dataset"] == dataset)]
    rows = [r for r in rows if r["merge_mode"] == mode] or ([] if exact else rows)
    if not rows:
        return None
    keys = (metric, f"{metric}_ci_low", f"{metric}_ci_high", f"{metric}_n" if f"{metric}_n" in rows[0] else "n")
    found = [float(rows[0].get(key, math.nan)) for key in (*keys, f"{metric}_n_failed")]
    return None if math.isnan(found[0]) else (*found, rows[0]["merge_mode"])


def _paired(claim: Claim, terms: tuple, found: dict, roles: dict, n: float, failed: float) -> tuple | None:
    """As `_by_question`, of two merges of one fine-tune, where a table of their differences is there."""
    (name, _, mode), (other, _, minus) = terms[0][1].partition("@"), terms[-1][1].partition("@")
    column = f"{terms[0][2]}_difference"
    if len(terms) != 2 or name != other or not mode or mode == minus:
        return None
    for row in found.get(f"{claim.table}_paired", []):
        if row["train_set"] == roles.get(name) and {row["merge_mode"], row["minus"]} == {mode, minus} and column in row:
            sign = 1 if row["merge_mode"] == mode else -1
            ends = [sign * row[f"{column}{end}"] for end in ("", "_ci_low", "_ci_high")]
            return ends[0], *sorted(ends[1:]), n, failed
    return None


def shown(frame: pd.DataFrame, notebook: str = "") -> pd.DataFrame:
    """The claims of one notebook ("05"), or all, as readers see them."""
    rows = frame[frame["notebook"] == notebook] if notebook else frame
    view = rows[["claim", "statement"]].copy()
    for side in ("published", "measured"):
        view[f"{side} numbers"] = rows[f"{side}_verdict"]
        view[f"{side} difference"] = [_text(row, side) for row in rows.to_dict("records")]
    return view


def _text(row: dict, side: str) -> str:
    """A side's weakest comparison: "+1.2 [+0.4, +2.0] (n = 100, paired)", or what is missing."""
    if math.isnan(row[f"{side}_value"]):
        return row[f"{side}_missing"] or formatting.MISSING
    failed = row[f"{side}_n_failed"]
    notes = [] if math.isnan(row[f"{side}_n"]) else [f"n = {row[f'{side}_n']:.0f}"]
    notes += [f"{failed:.0f} failed"] if failed > 0 else []
    notes += [row["measured_interval"]] if side == "measured" and row["measured_interval"] else []
    ends = (row[f"{side}_{key}"] for key in ("value", "ci_low", "ci_high"))
    return formatting.with_interval(*ends, "+.3g") + (f" ({', '.join(notes)})" if notes else "")


def caption(profile: str, params: Params) -> str:
    """What stands for what, in words."""
    roles, _ = stands(params)
    stood = ", ".join(f"{theirs} is {roles[theirs]}" for theirs in SETS if roles.get(theirs, theirs) != theirs)
    small = ", a very small model: these prove the pipeline, not the question" if params.study == "embedded" else ""
    return (
        f"Profile {profile}{f': {stood}' if stood else ''}; measured on {params.model.name}{small}. Differences, "
        "above 0 as claimed; of several comparisons the weakest (claims.csv names it), with its own interval; “does "
        "not” asks for one that lies on the other side when widened for their number (Bonferroni). Measured: paired "
        f"intervals are of differences taken question by question ({params.text_metrics.confidence:.0%} bootstrap "
        "over questions, on the leaderboard within tasks and subjects); combined ones come from the tables' "
        "intervals, where questions are not at hand. Published ones are bounds, where the scale has two ends. "
        "Combined intervals and bounds are too wide rather than too narrow."
    )


def section(run: Run, notebook: str) -> str:
    """The claims that one notebook ("05") measures, as Markdown."""
    made = [table.step for table in metrics.TABLES.values() if NOTEBOOKS.get(table.name) == notebook]
    questions = sample_scores.of(run, *dict.fromkeys(made))
    frame = table(published(), measured(run.tables), run.params, questions)
    return f"{caption(run.profile, run.params)}\n\n{tables.markdown(shown(frame, notebook))}"


def write(profile: str, params: Params, overrides: dict | None = None) -> pd.DataFrame:
    """claims.csv and its Markdown, LaTeX and schema beside the profile's tables; returns the frame."""
    run = Run("report", profile, params, overrides or {})
    frame = table(published(), measured(run.tables), params, sample_scores.of(run))
    about = {"title": "The study's claims", "caption": caption(profile, params), "keys": ["claim"], "unit": "question"}
    tables.write(frame, "claims", run.tables, about, shown(frame))
    return frame
