"""A page a table: every value with its interval drawn, measured beside published, and the text to copy.

A cell is {text, sort, …}: `sort` is what its column is sorted by. Positions of a drawn interval are 0–100 over the
column. Trap: some tables have thousands of rows; the page shows the first `MOST` and says so, the file has all.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pandas as pd

from s2utils.report import web
from s2utils.results import claims, layout, tables
from s2utils.text import safe
from s2utils.workflow import paths

MOST = 2000  # rows a page shows
COPIED = 1_000_000  # characters; a longer table is linked, not held to be copied
KINDS = {"md": "Markdown", "tex": "LaTeX", "csv": "CSV"}


def write(site: web.Site, name: str, gaps: list[str], cells: dict[str, str]) -> dict:
    """Write tables/<name>.html; returns what a list of tables says of it: {name, title, href, rows, files}.

    `gaps` say what is missing, `cells` link a table to the notebook cell that made it.
    """
    csv = site.folder / "tables" / f"{name}.csv"
    frame = read(csv) if csv.is_file() else None
    theirs = [] if frame is None else [c for c in frame if c.endswith("_published")]
    matched = bool(theirs) and frame[theirs].notna().any(axis=None)
    files = [f"{name}.{kind}" for kind in KINDS if csv.with_suffix(f".{kind}").is_file()]
    values = {
        "title": layout.title(name), "name": name, "gaps": gaps, "caption": layout.caption(csv),
        "grid": None if frame is None else grid(frame, name), "files": files, "maker": cells.get(name, ""),
        "published": plain(tables.shown(tables.published(name), name)) if name in tables.METRICS and not matched else None,
        "copies": {} if frame is None else copies(csv, frame, name), "unreliable": unreliable(frame),
    }  # fmt: skip
    web.write_page(site, f"tables/{name}.html", "table", values, scripts=("table", "copy"))
    rows = 0 if frame is None else len(frame)
    return {"name": name, "title": values["title"], "href": f"tables/{name}.html", "rows": rows, "files": files}


def unreliable(frame: pd.DataFrame | None) -> bool:
    """Whether a table holds ratings of a judge that failed its panel, or tells so."""
    held = () if frame is None else [c for c in ("judge_reliability", "verdict") if c in frame]
    return any((frame[c] == "not reliable").any() for c in held)


def read(csv: Path) -> pd.DataFrame:
    """A table as its page needs it; the claims' numbers ("05", "1a") are text."""
    return pd.read_csv(csv, dtype={"claim": str, "notebook": str}) if csv.stem == "claims" else tables.read_table(csv)


def grid(frame: pd.DataFrame, name: str) -> dict:
    """{columns: [{label, kind}], rows: [[cell]], total, …}: a table as its page draws it."""
    if name == "claims":
        return plain(claims.shown(frame))
    held, cut = layout.layout(frame, name), frame.head(MOST)
    said = [c for c in held.keys if c in layout.SAID]  # stands behind the numbers it is said of
    columns = [(_column(c, "text"), [_text(v) for v in cut[c]]) for c in held.keys if c not in said]
    columns += [(_column(c, "number"), _numbers(cut, c)) for c in held.counts]
    columns += [(_column(c, "measure"), measured(cut, c, name)) for c in held.measures]
    columns += [(_column(c, "number"), _numbers(cut, c)) for c in held.others]
    columns += [(_column(c, "text"), [_text(v) for v in cut[c]]) for c in said]
    return _grid(columns, len(frame))


def plain(view: pd.DataFrame) -> dict:
    """A table of text that was made for readers already, drawn as it stands."""
    columns = []
    for name in view:
        texts = ["" if v is None or v != v else str(v) for v in view[name]]
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
        "columns": [column for column, _ in columns], "rows": list(zip(*(cells for _, cells in columns))), "total": total,
        "by_metric": any(column["label"] == "metric" for column, _ in columns),
        **{name: any(cell[key] for cell in cells for key in keys) for name, keys in told.items()},
    }  # fmt: skip


def _column(name: str, kind: str) -> dict:
    return {"label": layout.words(name), "kind": kind}


def _text(value: object) -> dict:
    shown = (
        ""
        if value is None or value != value
        else {True: "yes", False: "no"}.get(value, value)
        if isinstance(value, bool)
        else value
    )
    return {"text": safe.visible(shown), "sort": str(shown)}


def _numbers(frame: pd.DataFrame, column: str) -> list[dict]:
    """Cells of a plain number; a p-value keeps its leading digits."""
    if pd.api.types.is_bool_dtype(frame[column]):
        return [_text(bool(v)) for v in frame[column]]
    form = ".3g" if column == "p" or column.startswith("p_") else f",.{layout.digits(frame, column)}f"
    return [{"text": "" if math.isnan(v) else f"{v:{form}}", "sort": v} for v in frame[column].astype(float)]


def measured(frame: pd.DataFrame, metric: str, name: str = "") -> list[dict]:
    """Cells of a measure: its value, mark, interval, failures, published value and difference, and where to draw them.

    A column that holds several metrics has a scale, and decimals, for each.
    """
    if "metric" not in frame or not len(frame):
        return _measured(frame, metric, name)
    cells: dict[int, dict] = {}
    for rows in frame.reset_index(drop=True).groupby("metric", sort=False, dropna=False).groups.values():
        cells |= dict(zip(rows, _measured(frame.iloc[rows], metric, name)))
    return [cells[i] for i in range(len(frame))]


def _measured(frame: pd.DataFrame, metric: str, name: str) -> list[dict]:
    digits = layout.digits(frame, metric, name)
    low_high = layout.ends(frame, metric) or ["", ""]
    tails = ("_published", "_n_failed", "_n", "_n_changed")
    parts = [_values(frame, c) for c in (metric, *low_high, *(f"{metric}{tail}" for tail in tails))]
    marks = frame[f"{metric}_mark"] if f"{metric}_mark" in frame else [""] * len(frame)
    known = [v for part in parts[:4] for v in part if v == v]
    low, high = (min(known), max(known)) if known else (0, 0)
    mixed = low_high[0] == "ci_low"  # a column "value" holds things of several kinds, which share no scale

    def at(value: float) -> float | None:
        return None if value != value else 50.0 if high == low else round(2 + 96 * (value - low) / (high - low), 2)

    cells = []
    for value, start, end, theirs, failed, n, changed, mark in zip(*parts, marks):
        sign = "+" if metric.endswith("difference") else ""
        cells.append(
            {
                "text": "–" if value != value else f"{value:{sign}.{digits}f}", "sort": value,
                "best": mark == "best", "alike": str(mark).endswith("not told apart"),
                "interval": "" if start != start else f"{start:{sign}.{digits}f} to {end:{sign}.{digits}f}",
                "failed": int(failed) if failed == failed else 0,
                "changed": "" if n != n or changed != changed else f"{changed:.0f} of {n:.0f} changed",
                "published": "" if theirs != theirs else f"{theirs:.{digits}f}",
                "difference": "" if theirs != theirs or value != value else f"{value - theirs:+.{digits}f}",
                "drawn": None if mixed or value != value else {"value": at(value), "low": at(start), "high": at(end), "published": at(theirs), "zero": at(0.0) if sign and low <= 0 <= high else None},
            }
        )  # fmt: skip
    return cells


def _values(frame: pd.DataFrame, column: str) -> list[float]:
    return frame[column].astype(float).tolist() if column in frame else [math.nan] * len(frame)


def copies(csv: Path, frame: pd.DataFrame, name: str) -> dict[str, str]:
    """Format → the table as text in it, made from the CSV file where it has no other."""
    found = {
        label: csv.with_suffix(f".{kind}").read_text(encoding="utf-8")
        for kind, label in KINDS.items()
        if csv.with_suffix(f".{kind}").is_file()
    }
    if len(found) < len(KINDS):
        view = frame.rename(columns=layout.words).astype(object).where(frame.notna().to_numpy(), "")
        found.setdefault("Markdown", tables.markdown(view) + "\n")
        found.setdefault("LaTeX", tables.latex(view, layout.title(name), f"tab:{name}"))
    return {label: found[label] for label in KINDS.values()} if sum(map(len, found.values())) < COPIED else {}


def makers(profile: str) -> dict[str, str]:
    """Table → link, from a page in tables/, to the notebook cell that wrote it, for those that a notebook wrote."""
    names = sorted(file.stem for file in (paths.reports(profile) / "tables").glob("*.csv"))
    found: dict[str, str] = {}
    for file in sorted((paths.artefacts(profile) / "notebooks").glob("[0-9][0-9]_*.ipynb")):
        if "." in file.stem or not (paths.reports(profile) / "html" / f"{file.stem}.html").is_file():
            continue
        for cell in json.loads(file.read_text(encoding="utf-8"))["cells"]:
            wanted = _written("".join(cell["source"])) if cell["cell_type"] == "code" else []
            for name in names:
                if any(re.fullmatch(pattern, name) for pattern in wanted):
                    found.setdefault(name, f"../html/{file.stem}.html#cell-id={cell['id']}")
    return found


def _written(source: str) -> list[str]:
    """Patterns of the tables that a cell writes: `run.tables / "name.csv"`, perhaps an f-string, or `tables.write`."""
    named = re.findall(r'run\.tables / f?"([\w{}]+)\.csv"', source)
    if "tables.write(" in source:
        named += re.findall(r'"(\w+)"', source)
    return [re.sub(r"{\w*}", r"\\w+", name) for name in named]
