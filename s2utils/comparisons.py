"""What the results compare: fine-tunes with the base, their merges, ours with the published, claims with verdicts.

Verdicts are those of the tables (`*_tests.csv`, `*_paired.csv`); nothing is ranked that they do not tell apart.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import pandas as pd

from s2utils import tables
from s2utils.facts import models
from s2utils.held import Held
from s2utils.sentences import MERGES, by_interval, compared, count, estimate, listed, merges, named, number, size
from s2utils.typeset import Text, escape

TESTS = {"leaderboard": "leaderboard_tests"} | dict.fromkeys(
    ("rouge", "bertscore", "flesch", "manner"), "text_metrics_tests"
)
PAIRED = {"leaderboard": "leaderboard_paired", "mtbench": "mtbench_paired", "judge": "judge_paired"}
JUDGED = {
    "judge_rating": "Overall", "judge_simplicity": "Simplicity", "judge_helpfulness": "Helpfulness",
    "judge_relevance": "Relevance", "judge_accuracy": "Accuracy", "judge_depth": "Depth", "judge_safety": "Safety",
}  # fmt: skip
MANNER = ["answer_words", "distinct_2", "within_limits", "toxic", "reference_cosine"]
METRICS = {"judge": list(JUDGED), "manner": MANNER} | {name: list(columns) for name, columns in tables.METRICS.items()}
LABELS = JUDGED | {
    "toxic": "share of toxic answers", "within_limits": "share within the limits", "answer_words": "words an answer",
    "distinct_2": "distinct two-word phrases", "reference_cosine": "nearness to the human answer",
} | tables.LABELS  # fmt: skip
DIGITS = {"judge": 2, "manner": 2} | tables.DECIMALS
BETTER = {  # metric → what a higher and a lower value is, in words
    "flesch_reading_ease": ("easier to read", "harder to read"), "flesch_kincaid_grade": ("of a higher grade", "of a lower grade"),
    "rouge_l_f1": ("nearer to the human answers", "further from the human answers"),
    "bertscore_f1": ("nearer to the human answers", "further from the human answers"),
    "toxic": ("more often toxic", "less often toxic"),
}  # fmt: skip


def tests(held: Held, name: str, metric: str) -> list[dict]:
    """The tests of one metric: rows with name, model, mode, variant, against ("base" or "merge"), and the test's columns."""
    known, base, found = models(held.params), held.params.model.name, []
    for row in held.rows(TESTS.get(name, name)) if TESTS.get(name) else ():
        mode = row.get("merge_mode", "none") or "none"
        id = row["model"] if mode == "none" else f"{row['model']}.{mode}"
        model, dataset = known.get(id), row.get("dataset", "")
        if row["metric"] != metric:
            continue
        told = named(model.model, model.merge_mode) if model else named(row["model"], mode)
        found.append(row | {
            "name": Text(f"{told}{_on(dataset)}"), "mode": model.merge_mode if model else mode, "dataset": dataset,
            "variant": model.variant if model else "", "against": "base" if row["minus"] == base else "merge",
        })  # fmt: skip
    return found


def against_base(held: Held, name: str, metric: str, mode: str = "") -> Text:
    """What tests say of fine-tunes against the base by one metric, under one merge or all; the gap where there is none."""
    if gap := held.gap(TESTS[name]):
        return Text(gap)
    rows = [r for r in tests(held, name, metric) if r["against"] == "base" and r["variant"] != "chat"]
    rows = [r for r in rows if mode in ("", r["mode"])]
    if not rows:
        return Text("This was not tested against the base.")
    return compared(rows, *BETTER.get(metric, ("higher", "lower")), DIGITS[name])


def chat_against_base(held: Held, name: str, metric: str) -> Text:
    """The same of the chat model, "" where it was not tested."""
    rows = [r for r in tests(held, name, metric) if r["against"] == "base" and r["variant"] == "chat"]
    return compared(rows, "higher", "lower", DIGITS[name], "comparison of chat with the base") if rows else Text("")


def of_merges(held: Held, name: str, metrics: list[str]) -> Text:
    """What is known of the merges of one fine-tune: by tests where they are, else by the intervals of paired differences."""
    told, alike, gaps, bare, table = [], [], {}, [], PAIRED.get(name, "text_metrics_paired")
    for metric in metrics:
        rows = [r for r in tests(held, name, metric) if r["against"] == "merge"]
        rows = [r | {"name": Text(f"{r['name']} minus {_other(held, r)}")} for r in rows]
        if not rows and (gap := held.gap(table)):
            gaps[gap] = None
            continue
        if not rows:
            rows = _paired(held, table, metric)
            bare += [metric] * bool(rows)
        if any(r["verdict"] == "different" for r in rows):
            told.append(f"By {LABELS[metric]}: {merges(rows, DIGITS[name])}")
        elif rows:
            blind = sum(r["verdict"] == "too few" for r in rows)
            few = f", {count(blind)} of them with too few questions for an interval" if blind else ""
            alike.append(Text(f"{LABELS[metric]} ({count(len(rows), 'comparison')}{few})"))
    told += [f"There is no evidence that it does by {listed(alike)}."] if alike else []
    told += ["The verdicts are those of intervals of the paired differences, each by itself."] if bare else []
    return Text(" ".join([*told, *gaps]))


def _paired(held: Held, table: str, metric: str) -> list[dict]:
    """The paired differences of one metric, as tests are told."""
    column, found = f"{metric}_difference", []
    for row in held.rows(table):
        ends = {f"difference{end}": row.get(f"{column}{end}", math.nan) for end in ("", "_ci_low", "_ci_high")}
        counts = {"n": row.get(f"{column}_n", math.nan), "n_failed": row.get(f"{column}_n_failed", 0)}
        verdict = by_interval(ends["difference_ci_low"], ends["difference_ci_high"])
        found.append(ends | counts | {"name": Text(f"{escape(row['train_set'])}, {_two(row)}"), "verdict": verdict})
    return found if any(column in row for row in held.rows(table)) else []


def _other(held: Held, row: dict) -> Text:
    other = models(held.params).get(row["minus"])
    return _merge(other.merge_mode if other else row.get("minus_merge_mode", "") or row["minus"])


def _on(dataset: str) -> str:
    return f" on {escape(dataset)}" if dataset else ""


def _merge(mode: str) -> Text:
    return escape(MERGES.get(mode) or mode)


# Tables as they are shown


def modes(held: Held, name: str) -> list[tuple[str, str]]:
    """(merge mode, its name) of the fine-tunes in a table, the careful one first."""
    found = dict.fromkeys(r["merge_mode"] for r in held.rows(name) if r["merge_mode"] not in ("", "none"))
    first = [m for m in ("dequantized", "bf16", "adapter") if m in found]
    return [(m, MERGES.get(m, m)) for m in [*first, *(m for m in found if m not in first)]]


def view(held: Held, name: str, mode: str = "", metrics: list[str] | None = None) -> pd.DataFrame:
    """Rows of the base, chat and the fine-tunes under one merge, each metric with its interval and failures."""
    frame = held.table(name)
    frame = frame[frame["merge_mode"].isin(["", "none", mode])].reset_index(drop=True) if mode else frame
    rows, shown = frame.to_dict("records"), pd.DataFrame(index=frame.index)
    if "dataset" in frame:
        shown["data set"] = frame["dataset"]
    shown["model"] = _cells(r["model"] if mode else named(r["model"], r["merge_mode"]) for r in rows)
    for column, label in (("n", "n"), ("n_cut", "cut"), ("n_looping", "loops")):
        if column in frame:
            shown[label] = _cells(number(v, 0) for v in frame[column])
    for metric in (m for m in metrics or METRICS[name] if m in frame):
        shown[LABELS[metric]] = _cells(_cell(r, metric, DIGITS[name]) for r in rows)
    return shown


def _cells(texts: Iterable[str]) -> pd.Series:
    """A column whose cells stay the texts that they are, marked up or not."""
    return pd.Series(list(texts), dtype=object)


def pairs(held: Held, name: str, metrics: list[str]) -> pd.DataFrame | None:
    """The paired differences between merges as a table to show; None where there is a gap."""
    frame = held.table(PAIRED.get(name, "text_metrics_paired"))
    known = [m for m in metrics if frame is not None and f"{m}_difference_n" in frame]
    if not known:
        return None
    rows = frame.to_dict("records")
    shown = pd.DataFrame({"train set": frame["train_set"], "difference": _cells(_two(r) for r in rows)})
    for m in known:
        label = f"{m}_difference"
        shown[LABELS[m]] = _cells(
            Text(f"{_bare(r, label, DIGITS[name], signed=True)} ({size(r, f'{label}_n', f'{label}_n_failed')})")
            for r in rows
        )
    return shown


def _two(row: dict) -> Text:
    return Text(f"{_merge(row['merge_mode'])} minus {_merge(row['minus'])}")


def _bare(row: dict, metric: str, digits: int, signed: bool = False) -> str:
    return estimate(row, metric, digits, signed).replace(" (no interval)", "")


def _cell(row: dict, metric: str, digits: int) -> Text:
    """A value with its interval, its mark and its failures, as it stands in a table."""
    failed = row.get(f"{metric}_n_failed", 0)
    mark = {"best": "best", "best, not told apart": "†"}.get(row.get(f"{metric}_mark", ""), "")
    text = _bare(row, metric, digits)
    if mark:
        value, space, rest = text.partition(" ")
        text = f"{f'**{value}**' if mark == 'best' else value + mark}{space}{rest}"
    return Text(text + (f" ({number(failed, 0)} failed)" if failed and failed > 0 else ""))


def published(held: Held, name: str) -> dict | None:
    """The rows that the paper has too: a table "ours (published)", how many values, how many inside our interval."""
    frame = held.table(name)
    known = [m for m in METRICS[name] if f"{m}_published" in (frame if frame is not None else ())]
    rows = [r for r in held.rows(name) if any(r[f"{m}_published"] == r[f"{m}_published"] for m in known)]
    if not rows:
        return None
    values = [(r, m) for r in rows for m in known if r[f"{m}_published"] == r[f"{m}_published"]]
    inside = sum(r[f"{m}_ci_low"] <= r[f"{m}_published"] <= r[f"{m}_ci_high"] for r, m in values if f"{m}_ci_low" in r)
    shown = pd.DataFrame({"model": _cells(named(r["model"], r["merge_mode"]) for r in rows)})
    if "dataset" in frame:
        shown.insert(0, "data set", [r["dataset"] for r in rows])
    for m in known:
        shown[LABELS[m]] = _cells(
            Text(f"{number(r[m], DIGITS[name])} ({number(r[f'{m}_published'], DIGITS[name])})") for r in rows
        )
    return {"view": shown, "n": len(values), "inside": inside}


def leaders(held: Held, name: str, metric: str) -> Text:
    """Who is best by the table's own marks, and told apart from the runner-up; "" where the table has no marks."""
    rows = [r for r in held.rows(name) if r.get(f"{metric}_mark")]
    firm = [r for r in rows if r[f"{metric}_mark"] == "best"]
    where = [Text(f"{named(r['model'], r['merge_mode'])}{_on(r.get('dataset', ''))}") for r in firm]
    if not rows:
        return Text("")
    if not firm:
        return Text(f"By {LABELS[metric]} no model is told apart from the runner-up.")
    return Text(
        f"By {LABELS[metric]} the best model is told apart from the runner-up in {count(len(firm), 'case')}: {listed(where)}."
    )


# Claims


def claims(held: Held) -> dict | None:
    """The study's claims: how many each side bears out, and those that either side decides; None where there is a gap."""
    rows = held.rows("claims")
    if not rows:
        return None
    counts = {side: {v: sum(r[f"{side}_verdict"] == v for r in rows) for v in ("holds", "does not", "can't tell", "not measured")}
              for side in ("published", "measured")}  # fmt: skip
    decided = [
        {"id": escape(r["claim"]), "statement": escape(r["statement"])}
        | {side: Text(f"{escape(r[f'{side}_verdict'])}{_size(r, side)}") for side in ("published", "measured")}
        for r in rows
        if {r["published_verdict"], r["measured_verdict"]} & {"holds", "does not"}
    ]
    both = [
        r
        for r in rows
        if r["published_verdict"] in ("holds", "does not") and r["measured_verdict"] in ("holds", "does not")
    ]
    agree = sum(r["published_verdict"] == r["measured_verdict"] for r in both)
    return {"n": len(rows), "counts": counts, "decided": decided, "both": len(both), "agree": agree}


def _size(row: dict, side: str) -> str:
    """(+1.2 [+0.4, +2.0], n = 100) of a claim's weakest comparison."""
    if f"{side}_value" not in row or row[f"{side}_value"] != row[f"{side}_value"]:
        return ""
    ends = {
        "d": row[f"{side}_value"],
        "d_ci_low": row.get(f"{side}_ci_low", math.nan),
        "d_ci_high": row.get(f"{side}_ci_high", math.nan),
    }
    return f" ({estimate(ends, 'd', 3, signed=True)}, {size(row, f'{side}_n', f'{side}_n_failed')})"
