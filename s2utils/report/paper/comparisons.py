"""What the results compare: fine-tunes with the base, their merges, ours with the published, claims with verdicts.

Verdicts are those of the tables (`*_tests.csv`, `*_paired.csv`); nothing is ranked that they do not tell apart.
"""

from __future__ import annotations

from s2utils.evaluation import metrics
from s2utils.report.paper.markup import Text, escape
from s2utils.report.paper.phrases import merge, named
from s2utils.report.paper.tables_read import Held
from s2utils.results import verdicts
from s2utils.workflow import steps

DECIDED = ("holds", "does not")


def tests_table(name: str) -> str:
    """The table of tests that goes with a table of results."""
    return f"{metrics.TABLES[name].step}_tests"


def paired_table(name: str) -> str:
    """The table of differences between merges that goes with a table of results."""
    return "text_metrics_paired" if metrics.TABLES[name].step == "text_metrics" else f"{name}_paired"


def _tests(held: Held, name: str, metric: str) -> list[dict]:
    """The tests of one metric, named, with the mode of a merge."""
    return [
        row | {"name": _row_name(row), "mode": row["merge_mode"] or "none"}
        for row in held.rows(tests_table(name))
        if row["metric"] == metric
    ]


def _row_name(row: dict) -> Text:
    """What a row is about: model, merge and data set."""
    model = named(row["model"], row["merge_mode"])
    return Text(f"{model} on {escape(row['dataset'])}") if row.get("dataset") else model


def against_base(held: Held, name: str, metric: str, mode: str = "", chat: bool = False, **how) -> Text:
    """What tests say of fine-tunes, or of chat, against the base by one metric, under one merge or all.

    The gap where there is none; "" where nothing was tested. `how` is that of `verdicts.compared`.
    """
    variants = {(model.model, model.merge_mode): model.variant for model in steps.models(held.params)}
    rows = [
        row
        for row in _tests(held, name, metric)
        if row["minus"] == held.params.model.name
        and (variants.get((row["model"], row["mode"])) == "chat") == chat
        and mode in ("", row["mode"])
    ]
    facts = metrics.METRICS[metric]
    told = verdicts.compared(rows, f"+,.{facts.decimals}f", facts.higher, facts.lower, **how) if rows else ""
    return held.gap(tests_table(name)) or Text(told)


def of_merges(held: Held, name: str, columns: list[str]) -> list[dict]:
    """One row per metric with comparisons between the merges of one fine-tune: all, those that are firm, how many
    are too few.

    By tests where they are, else by the intervals of paired differences (`tested` is false).
    """
    found = []
    for metric in columns:
        tests = [row for row in _tests(held, name, metric) if row["minus"] != held.params.model.name]
        if rows := tests or _paired(held, paired_table(name), metric):
            form = f"+,.{metrics.METRICS[metric].decimals}f"
            firm = [
                row | {"told": Text(verdicts.test(row, form))} for row in rows if row["verdict"] == verdicts.DIFFERENT
            ]
            blind = sum(row["verdict"] == verdicts.TOO_FEW for row in rows)
            found.append({"metric": metric, "n": len(rows), "firm": firm, "blind": blind, "tested": bool(tests)})
    return found


def _paired(held: Held, table: str, metric: str) -> list[dict]:
    """The paired differences of one metric, as tests are told."""
    column = f"{metric}_difference"
    return [
        {"name": Text(f"{escape(row['train_set'])}, {merge(row['merge_mode'])}"), "minus_merge_mode": row["minus"]}
        | {f"difference{end}": row[f"{column}{end}"] for end in ("", "_ci_low", "_ci_high")}
        | {count: row[f"{column}_{count}"] for count in ("n", "n_failed")}
        | {"verdict": verdicts.by_interval(row[f"{column}_ci_low"], row[f"{column}_ci_high"])}
        for row in held.rows(table)
        if column in row
    ]


def best(held: Held, name: str, metric: str) -> list[Text] | None:
    """Who is best by the table's own marks and told apart from the runner-up; None where the table has no marks."""
    marked = [row for row in held.rows(name) if row.get(f"{metric}_mark")]
    return [_row_name(row) for row in marked if row[f"{metric}_mark"] == "best"] if marked else None


def model_name(held: Held, id: str) -> Text:
    """A model's name and merge by its id."""
    return next((named(row.model, row.merge_mode) for row in steps.models(held.params) if row.id == id), escape(id))


def claims(held: Held) -> dict | None:
    """The study's claims: how many there are, how many both sides decide and agree on, and those that either decides.

    Also how many have which verdict by side. None where there is a gap.
    """
    frame = held.table("claims")
    if frame is None:
        return None
    sides = frame[["published_verdict", "measured_verdict"]]
    decided = sides.isin(DECIDED)
    both = sides[decided.all(axis=1)]
    return {
        "n": len(frame),
        "published": sides["published_verdict"].value_counts(),
        "measured": sides["measured_verdict"].value_counts(),
        "both": len(both),
        "agree": int((both["published_verdict"] == both["measured_verdict"]).sum()),
        "decided": frame[decided.any(axis=1)].to_dict("records"),
    }
