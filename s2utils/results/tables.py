"""Tables as readers and programs meet them: CSV, Markdown and LaTeX, and beside them what the table is.

`save` writes <name>.csv, .md, .tex and .json; the last holds title, caption, keys, unit of averaging, protocol, the
type of each column, and the notebook cell that made it. `read` gives typed columns back. Every table is wide: keys, n,
then `<metric>`, `<metric>_ci_low`, `<metric>_ci_high`, `<metric>_n_failed`, and where rows were compared
`<metric>_mark` (`best_rows`). Published values join where model, merge mode and data set match. Trap: bold is written
as in Markdown, `**1.00**`, in what readers see.
"""

from __future__ import annotations

import html
import json
import math
import re
from pathlib import Path

import pandas as pd

from s2utils.evaluation import metrics
from s2utils.results import best_rows, layout
from s2utils.results.latex import latex_text
from s2utils.workflow import artefacts, paths, steps
from s2utils.workflow.notebook import Run

MODEL = ["model", "base", "variant", "train_set", "merge_mode"]
KEYS = [*MODEL, "dataset"]
TEXT = {  # columns that are text whatever they hold, where no schema says it: a model may be called "null"
    *KEYS, "minus", "minus_merge_mode", "metric", "verdict", "reason", "claim", "notebook", "other", "set", "split",
}  # fmt: skip
FILES = ("csv", "md", "tex", "json")


def save(
    run: Run,
    frame: pd.DataFrame,
    name: str,
    caption: str = "",
    *,
    keys: list[str] | None = None,
    unit: str = "",
    title: str = "",
    protocol: str = "",
    best: pd.DataFrame | None = None,
    digits: int = 6,
) -> pd.DataFrame:
    """Write a table of `run`, rounded to `digits` decimals; returns what readers see of it.

    `keys` say what a row is about (else all columns of text), `unit` what is averaged, `protocol` how it was measured.
    Title and unit of a table of results are `metrics.TABLES`', which has published values beside its own; `best` are
    the marks of `best_rows.best`. Nothing is written by a run of one model or train set: its rows are part of a table
    only.
    """
    known = metrics.TABLES.get(name)
    frame = frame if best is None else best_rows.marked(frame, best)
    frame = (beside(frame, name) if known and known.published else frame).round(digits)
    theirs = [c for c in frame if c.endswith("_published")]
    compared = known and known.protocol if theirs and frame[theirs].notna().any(axis=None) else ""
    about = {
        "title": title or layout.title(name),
        "unit": unit or (known.unit if known else ""),
        "keys": keys
        or [c for c in frame if is_text(frame[c]) and c not in layout.MEASURED_TEXT and not c.endswith("_mark")],
        "protocol": protocol,
        "caption": " ".join(filter(None, [caption, compared])),
    }
    if run.collects:
        about |= {"made_by": {"notebook": steps.STEPS[run.step].notebook, "cell": _cell(run), "profile": run.profile}}
        write(frame, name, run.tables, about)
    return layout.view(frame, name)


def write(frame: pd.DataFrame, name: str, folder: Path, about: dict, view: pd.DataFrame | None = None) -> None:
    """<name>.csv, .md, .tex and .json in `folder`; `about` is the table's schema but for the types of its columns.

    `view` is what readers see, where that is not `layout.view`.
    """
    view = layout.view(frame, name) if view is None else view
    heading = f"{about['title']}. {about['caption']}".rstrip()
    types = {c: "text" if is_text(frame[c]) else frame[c].dtype.name for c in frame}
    texts = {
        "csv": frame.to_csv(index=False, lineterminator="\n"),
        "md": f"**{about['title']}.** {about['caption']}".rstrip() + f"\n\n{markdown(view)}\n",
        "tex": latex(view, heading, f"tab:{name}"),
        "json": json.dumps(about | {"columns": types}, indent=1, ensure_ascii=False) + "\n",
    }
    for kind, text in texts.items():
        with artefacts.replacing(folder / f"{name}.{kind}") as file:
            file.write(text)


def schema(csv: Path) -> dict:
    """What was written of a table beside it; {} where there is nothing."""
    return artefacts.read_json(csv.with_suffix(".json")) or {}


def read(csv: Path) -> pd.DataFrame:
    """A table with typed columns: by its schema, else text where a cell is no number, and `TEXT` always."""
    types = schema(csv).get("columns", {})
    frame = pd.read_csv(csv, dtype=str, keep_default_na=False)
    for column in frame:
        if types.get(column) != "text" and column not in TEXT and not column.endswith("_mark"):
            frame[column] = _typed(frame[column])
    return frame


def _typed(texts: pd.Series) -> pd.Series:
    """Numbers or truths where every cell is one or empty, else the texts."""
    if len(texts) and texts.isin(["True", "False"]).all():
        return texts == "True"
    numbers = pd.to_numeric(texts.where(~texts.isin(["", "nan", "NaN"])), errors="coerce")
    return numbers if (numbers.notna() | texts.isin(["", "nan", "NaN"])).all() else texts


def is_text(values: pd.Series) -> bool:
    """Whether a column holds text: neither numbers nor truths."""
    return not (pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values))


def _cell(run: Run) -> str:
    """Id of the notebook cell that is running, "" outside of one or where it was edited since it was saved."""
    try:
        source = get_ipython().user_ns["In"][-1].strip()
    except (NameError, KeyError, IndexError):
        return ""
    notebook = paths.root() / "notebooks" / f"{steps.STEPS[run.step].notebook}.ipynb"
    cells = (artefacts.read_json(notebook) or {}).get("cells", [])
    return next((cell["id"] for cell in cells if "".join(cell["source"]).strip() == source), "")


def published(name: str) -> pd.DataFrame:
    """A table of the paper, with our column names, nan where it has none.

    `merge_mode` is "none" where nothing was merged.
    """
    frame = pd.read_csv(
        paths.root() / "reports" / "published" / f"{metrics.TABLES[name].published}.csv", keep_default_na=False
    )
    frame["merge_mode"] = frame["merge_mode"].replace("", "none")
    frame = frame.rename(columns={metric.published: metric.column for metric in metrics.of(name) if metric.published})
    return frame.assign(**{column: math.nan for column in metrics.columns(name) if column not in frame})


def beside(measured: pd.DataFrame, name: str) -> pd.DataFrame:
    """`measured` with a column `<metric>_published` each, empty where the paper has no such row."""
    paper = published(name)
    on = [k for k in ("model", "merge_mode", "dataset") if k in measured and k in paper]
    return measured.merge(paper[on + metrics.columns(name)], on=on, how="left", suffixes=("", "_published"))


BOLD = re.compile(r"\*\*(-?[\d.]+)\*\*")  # of a number only, so that no name can ask for it


def bold(escaped: str, start: str, end: str) -> str:
    """Text that is escaped already, with `start` and `end` around what is bold."""
    return BOLD.sub(lambda found: f"{start}{found[1]}{end}", escaped)


def markdown(view: pd.DataFrame) -> str:
    """GitHub table; pipes and HTML in cells are escaped, bold numbers stay so."""
    rows = [view.columns, ["---"] * len(view.columns), *view.astype(str).itertuples(index=False)]
    return "\n".join(
        "| " + " | ".join(html.escape(str(c), quote=False).replace("|", "\\|").replace("\n", " ") for c in r) + " |"
        for r in rows
    )


CELL = re.compile(r"^(\S+) (\[[^\]]*\])(?: (\(.*\)))?$")  # a value, its interval, what failed


def to_html(view: pd.DataFrame, rows: int = 0, name: str = "") -> str:
    """The table for a notebook: under a value its interval, small and in one line; all text is escaped.

    With `rows` only so many, and a line that says where all of table `name` are. Under each of two models that are
    compared stands its merge, for columns of their own would not fit there.
    """
    texts = view.astype(str).to_dict("list")
    merges = {"model": "merge mode", "minus": "minus merge mode"} if "minus merge mode" in view else {}
    beneath = {model: ["" if mode == "none" else mode for mode in texts.pop(merges[model])] for model in merges}

    def cell(column: str, row: int) -> str:
        text = html.escape(texts[column][row])
        kind = "" if re.match(r"[-+−]?\d|\*\*|[–<]|$", text) else ' class="text"'
        parts = CELL.match(text)
        text, *small = (
            parts.groups() if parts else (text, html.escape(beneath[column][row]) if column in beneath else "")
        )
        small = "".join(f"<br><small>{part}</small>" for part in small if part).replace(" ", "\u00a0")
        return f"<td{kind}>{bold(text, '<strong>', '</strong>')}{small}</td>"

    head = "".join(f"<th>{html.escape(str(column))}</th>" for column in texts)
    n = min(rows or len(view), len(view))
    body = "\n".join(f"<tr>{''.join(cell(column, row) for column in texts)}</tr>" for row in range(n))
    rest = f"<p>The first {n} of {len(view):,} rows; all are in tables/{html.escape(name)}.csv.</p>"
    table = f'<table class="results"><thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table>'
    return table + rest * (n < len(view))


def latex(view: pd.DataFrame, caption: str, label: str) -> str:
    """A booktabs table in a float."""
    rows = view.astype(str).itertuples(index=False)
    body = [" & ".join(bold(latex_text(cell), r"\textbf{", "}") for cell in row) + r" \\" for row in rows]
    left = sum(c in ("dataset", "model", "merge mode") for c in view.columns)
    return "\n".join(
        [r"\begin{table}", r"\centering\small", rf"\caption{{{latex_text(caption)}}}", rf"\label{{{label}}}",
         rf"\begin{{tabular}}{{{'l' * left}{'r' * (len(view.columns) - left)}}}", r"\toprule",
         " & ".join(map(latex_text, view.columns)) + r" \\", r"\midrule", *body, r"\bottomrule", r"\end{tabular}",
         r"\end{table}", ""]
    )  # fmt: skip
