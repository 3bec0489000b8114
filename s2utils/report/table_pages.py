"""A page a table: every value with its interval drawn, measured beside published, and the text to copy.

A cell is {text, sort, …}: `sort` is what its column is sorted by. Positions of a drawn interval are 0–100 over the
column. Trap: some tables have thousands of rows; the page shows the first `MOST` and says so, the file has all.
"""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd

from s2utils.evaluation import metrics
from s2utils.report import web
from s2utils.results import best_rows, claims, formatting, layout, model_claims, tables
from s2utils.text import safe

MOST = 2000  # rows a page shows
COPIED = 1_000_000  # characters; a longer table is linked, not held to be copied
KINDS = {"md": "Markdown", "tex": "LaTeX", "csv": "CSV"}


def write(site: web.Site, name: str, gaps: list[str]) -> dict:
    """Write tables/<name>.html; returns what a list of tables says of it: {name, title, href, rows, files}.

    `gaps` say what is missing.
    """
    csv = site.folder / "tables" / f"{name}.csv"
    frame, about = (tables.read(csv) if csv.is_file() else None), tables.schema(csv)
    theirs = [] if frame is None else [c for c in frame if c.endswith("_published")]
    matched = bool(theirs) and frame[theirs].notna().any(axis=None)
    files = [f"{name}.{kind}" for kind in KINDS if csv.with_suffix(f".{kind}").is_file()]
    values = {
        "title": about.get("title") or layout.title(name),
        "name": name,
        "gaps": gaps,
        "caption": about.get("caption", ""),
        "grid": None if frame is None else grid(frame, name),
        "files": files,
        "maker": _maker(site, about.get("made_by", {})),
        "published": plain(layout.view(tables.published(name), name))
        if name in metrics.STUDY and not matched
        else None,
        "copies": {} if frame is None else copies(csv, frame, name),
        "unreliable": unreliable(frame),
    }
    web.write_page(site, f"tables/{name}.html", "table", values, scripts=("table", "copy"))
    rows = 0 if frame is None else len(frame)
    return {"name": name, "title": values["title"], "href": f"tables/{name}.html", "rows": rows, "files": files}


def _maker(site: web.Site, made_by: dict) -> str:
    """Link, from a page in tables/, to the notebook cell that wrote a table, "" where its page is not there."""
    page = f"html/{made_by.get('notebook', '')}.html"
    there = made_by.get("cell") and (site.folder / page).is_file()
    return f"../{page}#cell-id={made_by['cell']}" if there else ""


def unreliable(frame: pd.DataFrame | None) -> bool:
    """Whether a table holds ratings of a judge that failed its panel, or tells so."""
    held = () if frame is None else [c for c in ("judge_reliability", "verdict") if c in frame]
    return any((frame[c] == "not reliable").any() for c in held)


def grid(frame: pd.DataFrame, name: str) -> dict:
    """{columns: [{label, kind}], rows: [[cell]], total, …}: a table as its page draws it."""
    if name == "claims":
        return plain(claims.shown(frame))
    if name == model_claims.NAME:
        return plain(model_claims.shown(frame))
    parts, cut = layout.of(frame, name), frame.head(MOST)
    columns = [(_column(c, "text"), _texts(cut, c)) for c in parts.keys]
    columns += [(_column(c, "number"), _numbers(cut, c)) for c in parts.counts]
    columns += [(_column(c, "measure"), measured(cut, c)) for c in parts.measures]
    columns += [(_column(c, "number"), _numbers(cut, c)) for c in parts.others]
    columns += [(_column(c, "text"), _texts(cut, c)) for c in parts.verdicts]
    return _grid(columns, len(frame))


def plain(view: pd.DataFrame) -> dict:
    """A table of text that was made for readers already, drawn as it stands."""
    columns = []
    for name in view:
        texts = [str(v) for v in view[name].astype(object).fillna("")]
        leading = [_number(t) for t in texts]
        numeric = any(texts) and not any(t and math.isnan(n) for t, n in zip(texts, leading))
        cells = [{"text": safe.visible(t), "sort": n if numeric else t} for t, n in zip(texts, leading)]
        columns.append((_column(name, "number" if numeric else "text"), cells))
    return _grid(columns, len(view))


def _number(text: str) -> float:
    """The number a text begins with ("7.00 [6.00, 8.00]"), nan where there is none."""
    try:
        return float(text.split()[0])
    except (ValueError, IndexError):
        return math.nan


def _grid(columns: list[tuple[dict, list[dict]]], total: int) -> dict:
    """Columns turned into rows; `drawn`, `marked` and `beside` say what the key below has to explain."""
    cells = [cell for column, cells in columns if column["kind"] == "measure" for cell in cells]
    told = {"drawn": ("drawn",), "marked": ("best", "alike"), "beside": ("published",)}
    return {
        "columns": [column for column, _ in columns],
        "rows": list(zip(*(cells for _, cells in columns))),
        "total": total,
        "by_metric": any(column["label"] == "metric" for column, _ in columns),
        **{name: any(cell[key] for cell in cells for key in keys) for name, keys in told.items()},
    }


def _column(name: str, kind: str) -> dict:
    return {"label": layout.words(name), "kind": kind}


def _texts(frame: pd.DataFrame, column: str) -> list[dict]:
    """Cells of a column of text; a metric by its name, a truth as yes or no."""
    named = {True: "yes", False: "no"} if frame[column].dtype == bool else {}
    texts = [
        metrics.name(v) if column == "metric" else str(named.get(v, v)) for v in frame[column].astype(object).fillna("")
    ]
    return [{"text": safe.visible(text), "sort": text} for text in texts]


def _numbers(frame: pd.DataFrame, column: str) -> list[dict]:
    """Cells of a plain number."""
    if frame[column].dtype == bool:
        return _texts(frame, column)
    form = layout.number_format(frame, column)
    return [
        {"text": "" if math.isnan(v) else formatting.number(v, form), "sort": v} for v in frame[column].astype(float)
    ]


def measured(frame: pd.DataFrame, column: str) -> list[dict]:
    """Cells of a measure: its value, mark, interval, failures, published value and difference, and where to draw them.

    A column that holds several metrics has a scale, and decimals, for each.
    """
    if "metric" not in frame or not len(frame):
        return _measured(frame, column, layout.decimals(frame, column))
    cells: dict[int, dict] = {}
    for metric, rows in frame.reset_index(drop=True).groupby("metric", sort=False, dropna=False).groups.items():
        part = frame.iloc[rows]
        cells |= dict(
            zip(rows, _measured(part, column, layout.decimals(part, metric if metric in metrics.METRICS else column)))
        )
    return [cells[i] for i in range(len(frame))]


def _measured(frame: pd.DataFrame, column: str, digits: int) -> list[dict]:
    low_high = layout.ends(frame, column) or ["", ""]
    tails = ("_published", "_n_failed", "_n", "_n_changed")
    parts = [_values(frame, c) for c in (column, *low_high, *(f"{column}{tail}" for tail in tails))]
    marks = frame[f"{column}_mark"] if f"{column}_mark" in frame else [""] * len(frame)
    known = [value for part in parts[:4] for value in part if not math.isnan(value)]
    low, high = (min(known), max(known)) if known else (0, 0)
    mixed = low_high[0] == "ci_low"  # a column "value" holds things of several kinds, which share no scale
    signed = column.endswith("difference")
    form, zero = formatting.decimals(digits, signed), 0.0 if signed and low <= 0 <= high else math.nan

    def at(value: float) -> float | None:
        return None if math.isnan(value) else 50.0 if high == low else round(2 + 96 * (value - low) / (high - low), 2)

    cells = []
    for value, start, end, theirs, failed, n, changed, mark in zip(*parts, marks):
        drawn = {"value": at(value), "low": at(start), "high": at(end), "published": at(theirs), "zero": at(zero)}
        known = not math.isnan(theirs)
        cells.append(
            {
                "text": formatting.number(value, form),
                "sort": value,
                "best": mark == best_rows.BEST,
                "alike": mark == best_rows.ALIKE,
                "interval": "" if math.isnan(start) else f"[{start:{form}}, {end:{form}}]",
                "failed": 0 if math.isnan(failed) else int(failed),
                "changed": "" if math.isnan(n + changed) else f"{changed:.0f} of {n:.0f} changed",
                "published": f"{theirs:.{digits}f}" if known else "",
                "difference": f"{value - theirs:+.{digits}f}" if known and not math.isnan(value) else "",
                "drawn": None if mixed or math.isnan(value) else drawn,
            }
        )
    return cells


def _values(frame: pd.DataFrame, column: str) -> list[float]:
    return frame[column].astype(float).tolist() if column in frame else [math.nan] * len(frame)


def copies(csv: Path, frame: pd.DataFrame, name: str) -> dict[str, str]:
    """Format → the table as text in it, made from the CSV file where it has no other; none of a long one."""
    files = {label: csv.with_suffix(f".{kind}") for kind, label in KINDS.items()}
    texts = {label: file.read_text(encoding="utf-8") for label, file in files.items() if file.is_file()}
    if len(texts) < len(KINDS):
        view = layout.view(frame, name)
        made = {
            "Markdown": tables.markdown(view) + "\n",
            "LaTeX": tables.latex(view, layout.title(name), f"tab:{name}"),
        }
        texts = {label: (made | texts)[label] for label in KINDS.values()}
    return texts if sum(map(len, texts.values())) < COPIED else {}
