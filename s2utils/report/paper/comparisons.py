"""What the results compare: fine-tunes with the base, their merges, ours with the published, claims with verdicts.

Verdicts are those of the tables (`*_tests.csv`, `*_paired.csv`); nothing is ranked that they do not tell apart.
"""

from __future__ import annotations

import math

from s2utils.evaluation import metrics
from s2utils.report.paper.facts import models
from s2utils.report.paper.markup import Text, escape
from s2utils.report.paper.phrases import count, estimate, listed, named, size
from s2utils.report.paper.tables_read import Held
from s2utils.report.paper.views import merge_name, paired_table, two_merges
from s2utils.results import verdicts


def tests_table(name: str) -> str:
    """The table of tests that goes with a table of results."""
    return f"{metrics.TABLES[name].step}_tests"


def tests(held: Held, name: str, metric: str) -> list[dict]:
    """The tests of one metric: its rows with name, mode, variant and against ("base" or "merge")."""
    known, base, found = models(held.params), held.params.model.name, []
    by_row = {(row.model, row.merge_mode): row for row in known.values()}
    for row in held.rows(tests_table(name)) if tests_table(name) in TESTED else ():
        mode, dataset = row.get("merge_mode") or "none", row.get("dataset", "")
        if row["metric"] != metric:
            continue
        model = by_row.get((row["model"], mode))
        found.append(
            row
            | {
                "name": Text(f"{named(row['model'], mode)}{_on(dataset)}"),
                "mode": mode,
                "dataset": dataset,
                "variant": model.variant if model else "",
                "against": "base" if row["minus"] == base else "merge",
            }
        )
    return found


TESTED = ("leaderboard_tests", "text_metrics_tests")


def _compared(rows: list[dict], metric: str, **how) -> Text:
    facts = metrics.METRICS[metric]
    return Text(verdicts.compared(rows, f"+,.{facts.decimals}f", facts.higher, facts.lower, **how))


def against_base(held: Held, name: str, metric: str, mode: str = "", brief: bool = False) -> Text:
    """What tests say of fine-tunes against the base by one metric, under one merge or all.

    The gap where there is none.
    """
    if gap := held.gap(tests_table(name)):
        return Text(gap)
    rows = [r for r in tests(held, name, metric) if r["against"] == "base" and r["variant"] != "chat"]
    rows = [r for r in rows if mode in ("", r["mode"])]
    return _compared(rows, metric, brief=brief) if rows else Text("Not tested against the base.")


def chat_against_base(held: Held, name: str, metric: str) -> Text:
    """The same of the chat model, "" where it was not tested."""
    rows = [r for r in tests(held, name, metric) if r["against"] == "base" and r["variant"] == "chat"]
    return _compared(rows, metric, of="comparison of chat with the base") if rows else Text("")


def model_name(held: Held, id: str) -> Text:
    """A model's name and merge by its id."""
    known = models(held.params).get(id)
    return named(known.model, known.merge_mode) if known else escape(id)


def of_merges(held: Held, name: str, columns: list[str]) -> Text:
    """What is known of the merges of one fine-tune.

    By tests where they are, else by the intervals of paired differences.
    """
    told, alike, gaps, bare, table = [], [], {}, [], paired_table(name)
    for metric in columns:
        rows = [r for r in tests(held, name, metric) if r["against"] == "merge"]
        rows = [r | {"name": Text(f"{r['name']} minus {merge_name(r['minus_merge_mode'])}")} for r in rows]
        if not rows and (gap := held.gap(table)):
            gaps[gap] = None
            continue
        if not rows:
            rows = _paired(held, table, metric)
            bare += [metric] * bool(rows)
        firm = [r for r in rows if r["verdict"] == verdicts.DIFFERENT]
        if firm:
            form = f"+,.{metrics.METRICS[metric].decimals}f"
            which = "; ".join(f"{r['name']} {verdicts.test(r, form)}" for r in firm)
            told.append(
                f"By {said(metric)}: it matters in {count(len(firm))} of {count(len(rows), 'comparison')}: {which}."
            )
        elif rows:
            blind = sum(r["verdict"] == verdicts.TOO_FEW for r in rows)
            few = f", {count(blind)} of them with too few questions for an interval" if blind else ""
            alike.append(Text(f"{said(metric)} ({count(len(rows), 'comparison')}{few})"))
    told += [f"There is no evidence that it does by {listed(alike)}."] if alike else []
    told += ["The verdicts are those of intervals of the paired differences, each by itself."] if bare else []
    return Text(" ".join([*told, *gaps]))


def _paired(held: Held, table: str, metric: str) -> list[dict]:
    """The paired differences of one metric, as tests are told."""
    column, found = f"{metric}_difference", []
    for row in held.rows(table):
        ends = {f"difference{end}": row.get(f"{column}{end}", math.nan) for end in ("", "_ci_low", "_ci_high")}
        counts = {"n": row.get(f"{column}_n", math.nan), "n_failed": row.get(f"{column}_n_failed", 0)}
        verdict = verdicts.by_interval(ends["difference_ci_low"], ends["difference_ci_high"])
        found.append(
            ends | counts | {"name": Text(f"{escape(row['train_set'])}, {two_merges(row)}"), "verdict": verdict}
        )
    return found if any(column in row for row in held.rows(table)) else []


def _on(dataset: str) -> str:
    return f" on {escape(dataset)}" if dataset else ""


def said(metric: str) -> str:
    """A metric's name within a sentence: names keep their capitals, words lose theirs."""
    label = metrics.name(metric)
    is_name = len(label) < 2 or label[1].isupper() or label in ("HellaSwag", "TruthfulQA")
    return label if is_name else label[0].lower() + label[1:]


def leaders(held: Held, name: str, metric: str) -> Text:
    """Who is best by the table's own marks, and told apart from the runner-up; "" where the table has no marks."""
    rows = [r for r in held.rows(name) if r.get(f"{metric}_mark")]
    firm = [r for r in rows if r[f"{metric}_mark"] == "best"]
    where = [Text(f"{named(r['model'], r['merge_mode'])}{_on(r.get('dataset', ''))}") for r in firm]
    if not rows:
        return Text("")
    if not firm:
        return Text(f"By {said(metric)} no model is told apart from the runner-up.")
    return Text(
        f"By {said(metric)} the best model is told apart from the runner-up in {count(len(firm), 'case')}: "
        f"{listed(where)}."
    )


# Claims


def claims(held: Held) -> dict | None:
    """The study's claims: how many each side bears out, and those that either side decides.

    None where there is a gap.
    """
    rows = held.rows("claims")
    if not rows:
        return None
    counts = {
        side: {
            v: sum(r[f"{side}_verdict"] == v for r in rows) for v in ("holds", "does not", "can't tell", "not measured")
        }
        for side in ("published", "measured")
    }
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
    if math.isnan(row.get(f"{side}_value", math.nan)):
        return ""
    ends = {
        "d": row[f"{side}_value"],
        "d_ci_low": row.get(f"{side}_ci_low", math.nan),
        "d_ci_high": row.get(f"{side}_ci_high", math.nan),
    }
    return f" ({estimate(ends, 'd', 3, signed=True)}, {size(row, f'{side}_n', f'{side}_n_failed')})"
