"""Two reports compared: what changed in the parameters and in every table, and what of it is more than chance.

Where both runs hold the same questions and models, each answer's value under A is subtracted from that under B, with a
permutation test (`intervals`), corrected by Holm over all comparisons of a metric. Differences are B minus A in the
units of the tables. Trap: two runs of one profile draw other random numbers once a parameter has changed, so single
answers differ though nothing got better; only the mean can be read.

    python -m s2utils compare cpu smoke
    python -m s2utils compare reports/cpu /elsewhere/reports/cpu
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pandas as pd

from s2utils.evaluation import metrics, sample_scores
from s2utils.report import table_pages, web
from s2utils.results import formatting, layout, paired_tests, verdicts
from s2utils.results import tables as result_tables
from s2utils.stats import intervals
from s2utils.workflow import artefacts, paths
from s2utils.workflow.params import ParameterError

RESAMPLES, CONFIDENCE, SEED = 2000, 0.95, 0
KEYS = ["metric", "dataset", "model"]
COUNTS = ("both", "changed", "only A", "only B")  # rows
# what chooses the questions of a step, but for how many are asked at a time: they are known by numbers only
NUMBERED = {"leaderboard": ("leaderboard.", "seed"), "mtbench": ("mtbench.questions",)}
MANNER = ("leaderboard.batch_size",)


@dataclass(frozen=True)
class Side:
    """One of the two reports: its name, its folder, the folder of its artefacts (perhaps not there), its record."""

    name: str
    report: Path
    made: Path
    record: dict


def side(given: str) -> Side:
    """A profile's report, or one in another folder; ParameterError where there are no tables."""
    path = Path(given)
    report = path.resolve() if path.is_dir() and (path / "tables").is_dir() else paths.reports(given)
    if not any((report / "tables").glob("*.csv")):
        raise ParameterError(
            f"{given or 'nothing given'}: no report with tables; give a profile that was run, or the path of a "
            "report's folder"
        )
    record = artefacts.read_json(report / "provenance.json") or {}
    return Side(report.name, report, report.parents[1] / "artefacts" / report.name, record)


def parameters(a: Side, b: Side) -> pd.DataFrame:
    """One row per parameter, version or commit that differs: kind, name, A, B; "–" where a side has none."""
    rows = []
    for kind in ("parameters", "versions", "hardware", "commit"):
        one, other = a.record.get(kind, {}), b.record.get(kind, {})
        for key in dict.fromkeys([*one, *other]):
            if one.get(key) != other.get(key):
                rows.append({"kind": kind, "name": key, "A": str(one.get(key, "–")), "B": str(other.get(key, "–"))})
    return pd.DataFrame(rows, columns=["kind", "name", "A", "B"])


def tables(a: Side, b: Side) -> pd.DataFrame:
    """One row per table: rows in both, of these changed, rows in one only, and the largest change of a measure."""
    names = sorted({f.stem for s in (a, b) for f in (s.report / "tables").glob("*.csv")})
    rows = []
    for name in names:
        files = [s.report / "tables" / f"{name}.csv" for s in (a, b)]
        if not all(f.is_file() for f in files):
            side = "A" if files[0].is_file() else "B"
            rows.append({"table": name} | dict.fromkeys(COUNTS, 0) | {"largest": f"only in {side}"})
        else:
            rows.append({"table": name} | _changes(*map(result_tables.read, files), name))
    return pd.DataFrame(rows, columns=["table", *COUNTS, "largest"])


def _changes(one: pd.DataFrame, other: pd.DataFrame, name: str) -> dict:
    """What changed between two versions of one table, row by row of the same keys."""
    held = layout.of(one, name)
    keys = ["claim"] if name == "claims" else [k for k in held.keys if k in other]
    keys = keys or list(one.columns[:1])
    measures = [c for c in (held.measures or held.others) if c in other and pd.api.types.is_numeric_dtype(one[c])]
    sides = [f.assign(**{"": f.groupby(keys, dropna=False).cumcount()}).set_index([*keys, ""]) for f in (one, other)]
    both = sides[0].index.intersection(sides[1].index)
    shared = [c for c in sides[0] if c in sides[1]]
    left, right = (s.loc[both, shared].astype(object).where(lambda f: f.notna(), None) for s in sides)
    changed = (left.ne(right) & ~(left.isna() & right.isna())).any(axis=1) if len(both) else pd.Series(dtype=bool)
    counts = dict(zip(COUNTS, (len(both), int(changed.sum()), len(one) - len(both), len(other) - len(both))))
    apart = (
        (sides[1].loc[both, measures] - sides[0].loc[both, measures]).abs()
        if len(both) and measures
        else pd.DataFrame()
    )
    if apart.empty or not apart.max().max() > 0:
        return counts | {"largest": "–"}
    relative = apart / sides[0].loc[both, measures].abs().max().replace(0, 1)
    column = relative.max().idxmax()
    row = relative[column].fillna(-1).to_numpy().argmax()
    values = [s.loc[both, column].iloc[row] for s in sides]
    where = " · ".join(str(k) for k in both[row][:-1] if k not in ("", "none"))
    return counts | {"largest": f"{layout.words(column)}: {values[0]:.4g} → {values[1]:.4g} ({where})"}


def shared(one: pd.DataFrame, other: pd.DataFrame, parameters: tuple[dict, dict]) -> tuple[pd.DataFrame, list[str]]:
    """(scores of questions that both runs hold, value_a and value_b; steps whose questions need not be the same)."""
    one, other = (frame.rename(columns={"model_id": "model"}) for frame in (one, other))
    step = {metric.column: metrics.TABLES[metric.table].step for metric in metrics.METRICS.values()}
    there = set(one["metric"].map(step))
    left = [
        name
        for name, prefixes in NUMBERED.items()
        if name in there and len({_chosen(values, prefixes) for values in parameters}) > 1
    ]
    both = one.merge(other, on=[*KEYS, "question"], suffixes=("_a", "_b"))
    return both[~both["metric"].map(step).isin(left)], left


def _chosen(values: dict, prefixes: tuple[str, ...]) -> str:
    return str(sorted((k, str(v)) for k, v in values.items() if k.startswith(prefixes) and k not in MANNER))


def paired(both: pd.DataFrame) -> pd.DataFrame:
    """One row per KEYS of the questions that both runs hold: n, B − A with its interval, p_holm, d_z, verdict."""
    both = both.assign(difference=both["value_b"] - both["value_a"])
    found = []
    for _, part in both.groupby("metric", sort=False):
        apart = {key: rows["difference"].to_numpy() for key, rows in part.groupby(KEYS, sort=False)}
        frame = intervals.compared(apart, RESAMPLES, CONFIDENCE, SEED)
        keys = pd.DataFrame(frame.pop("comparison").tolist(), columns=KEYS, index=frame.index)
        same = [not np.nan_to_num(values).any() for values in apart.values()]
        verdict = ["the same" if s else verdicts.by_p(p, 1 - CONFIDENCE) for s, p in zip(same, frame["p_holm"])]
        found.append(keys.join(frame).assign(verdict=verdict))
    columns = [*KEYS, "n", "n_failed", *paired_tests.DIFFERENCE, "p", "p_holm", "d_z", "verdict"]
    return pd.concat(found, ignore_index=True)[columns] if found else pd.DataFrame(columns=columns)


def write(a: Side, b: Side) -> tuple[Path, list[str]]:
    """Write reports/compare/<A>..<B>.html; returns its path and the summary, a line each."""
    changed, told = parameters(a, b), tables(a, b)
    values = tuple(s.record.get("parameters", {}) for s in (a, b))
    both, left = shared(sample_scores.read(a.made), sample_scores.read(b.made), values)
    tests = paired(both)
    lines = summary(changed, told, tests, left)
    name = f"{a.name}..{b.name}.html".replace("/", "_")
    held = [s for s in (a, b) if s.report.parent == paths.reports("") and (s.report / "index.html").is_file()]
    links = [(f"Report of {s.name}", f"../{quote(s.name)}/index.html") for s in held]
    site = web.Site(paths.reports("compare"), f"{a.name} and {b.name}", links=list(dict.fromkeys(links)), home=name)
    values = {
        "title": f"{a.name} → {b.name}",
        "a": a,
        "b": b,
        "lines": lines,
        "parameters": table_pages.plain(changed),
        "tables": table_pages.plain(told),
        "tests": table_pages.grid(tests, "") if len(tests) else None,
    }
    return web.write_page(site, name, "compare", values, scripts=("table",)), lines


def summary(changed: pd.DataFrame, told: pd.DataFrame, tests: pd.DataFrame, left: list[str]) -> list[str]:
    """What the comparison says, in a few lines."""
    settings = changed[changed["kind"] == "parameters"]
    shown = ", ".join(f"{r['name']} {r['A']} → {r['B']}" for r in settings.head(5).to_dict("records"))
    more = f" and {len(settings) - 5} more" if len(settings) > 5 else ""
    lines = [f"Parameters: {len(settings)} differ{f': {shown}{more}' if shown else ''}."]
    moved = told[told["changed"] > 0]
    lines.append(
        f"Tables: {len(moved)} of {len(told)} differ in rows that both "
        f"hold{': ' if len(moved) else ''}{', '.join(moved['table'])}."
    )
    lines += [f"Not paired: {name}, whose questions were chosen by other parameters." for name in left]
    if not len(tests):
        return [*lines, "Same questions: none were found in both runs, so nothing was tested."]
    counts = tests["verdict"].value_counts()
    said = ", ".join(f"{counts[v]} {v}" for v in ("different", "no evidence", "the same") if v in counts)
    lines.append(f"Same questions: of {len(tests)} paired comparisons (Holm-corrected), {said}.")
    for row in tests[tests["verdict"] == "different"].head(10).to_dict("records"):
        where = " on ".join(filter(None, (row["model"], row["dataset"])))
        lines.append(
            f"  {where}: {metrics.name(row['metric'])} {formatting.of_row(row, 'difference', '+.3g')}, p "
            f"{row['p_holm']:.2g}, n {row['n']}"
        )
    return lines


def compare(a: str, b: str) -> None:
    """Compare two reports, by profile or folder: write the page and print the summary."""
    try:
        page, lines = write(side(a), side(b))
    except OSError as error:
        raise ParameterError(str(error)) from error
    print("\n".join([str(page), *lines]))
