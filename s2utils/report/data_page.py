"""The data, to be looked at: what each rule cost, examples kept and dropped by reason, sets, and the data card.

Reads artefacts/<profile>/data/ as 02 left it. Traps: texts come from strangers, so examples stay behind a click; at
full size the rejected records do not fit into memory, so they are read in batches.
"""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
from markupsafe import Markup
from nbconvert.filters import markdown2html

from s2utils.data import cards
from s2utils.report import notebook_pages, table_pages, web
from s2utils.text import safe
from s2utils.workflow import paths
from s2utils.workflow.params import Params

EXAMPLES = 8  # of each reason and source
SHOWN = 1200  # characters of a text
FIELDS = ["dataset", "id", "question", "answer", "fre", "fkg", "dropped"]


def held(profile: str) -> bool:
    """Whether 02 has run."""
    return (paths.artefacts(profile) / "data" / "funnel.csv").is_file()


def write(site: web.Site, profile: str, params: Params) -> Path:
    """Write data.html."""
    folder = paths.artefacts(profile) / "data"
    funnel = pd.read_csv(folder / "funnel.csv", keep_default_na=False)
    values = {
        "title": "Data",
        "table": (site.folder / "tables" / "funnel.csv").is_file(),
        "funnels": [_funnel(name, part) for name, part in funnel.groupby("dataset", sort=False)],
        "groups": examples(folder, funnel, params.seed),
        "sets": _sets(folder / "sizes.csv"),
        "card": _card(folder / "README.md"),
    }
    return web.write_page(site, "data.html", "data", values, scripts=("table",))


def _funnel(name: str, part: pd.DataFrame) -> dict:
    """One source: each reason with n, share of what was read, and where its bar ends, 0–100."""
    counts = dict(zip(part["reason"], part["n"].astype(int)))
    read = max(counts.get("read", 0), 1)
    rows = [
        {
            "reason": reason,
            "n": f"{n:,}",
            "share": f"{n / read:.1%}",
            "bar": round(100 * n / read, 2),
            "kept": reason == "read" or reason.startswith("kept"),
        }
        for reason, n in counts.items()
    ]
    return {"name": name, "rows": rows, "read": f"{read:,}", "kept": f"{counts.get('kept', 0):,}"}


def examples(folder: Path, funnel: pd.DataFrame, seed: int) -> list[dict]:
    """Groups of seeded examples, one a source and reason, the kept first: {dataset, reason, n, kept, items}."""
    picked = None
    if (folder / "rejected.parquet").is_file():
        for batch in pq.ParquetFile(folder / "rejected.parquet").iter_batches(columns=FIELDS, batch_size=50_000):
            picked = cards.pick(batch.to_pandas(), picked, EXAMPLES, seed)
    elif (folder / "examples.csv").is_file():
        picked = pd.read_csv(folder / "examples.csv", keep_default_na=False)
    if (folder / "train.parquet").is_file():
        for batch in pq.ParquetFile(folder / "train.parquet").iter_batches(columns=FIELDS[:-1], batch_size=50_000):
            picked = cards.pick(batch.to_pandas().assign(dropped="kept"), picked, EXAMPLES, seed)
    if picked is None:
        return []
    counts = {(r.dataset, r.reason): int(r.n) for r in funnel.itertuples()}
    order = {key: i for i, key in enumerate(counts)}
    groups = [
        {
            "dataset": name,
            "reason": reason,
            "n": f"{counts[name, reason]:,}" if (name, reason) in counts else "",
            "kept": reason == "kept",
            "items": [_item(row) for row in rows.to_dict("records")],
        }
        for (name, reason), rows in picked.groupby(["dataset", "dropped"], sort=False)
    ]
    return sorted(
        groups, key=lambda g: (not g["kept"], order.get((g["dataset"], g["reason"]), len(order)), g["reason"])
    )


def _item(row: dict) -> dict:
    """One record as text, cut to a length that can be read, with its readability where it was measured."""
    found = {field: _clipped(row[field]) for field in ("question", "answer")}
    measured = pd.to_numeric(pd.Series([row["fre"], row["fkg"]]), errors="coerce")
    scores = f"reading ease {measured[0]:.1f}, grade {measured[1]:.1f}" if measured.notna().all() else ""
    return found | {"id": safe.visible(row["id"]), "scores": scores}


def _clipped(value: object) -> str:
    text = value if isinstance(value, str) else ""
    return safe.visible(text if len(text) <= SHOWN else f"{text[:SHOWN]} … ({len(text):,} characters)")


def _sets(file: Path) -> dict | None:
    """Rows in each set and split."""
    if not file.is_file():
        return None
    sizes = pd.read_csv(file, keep_default_na=False)
    view = sizes.pivot_table(
        index=["dataset", "set"], columns="split", values="n", aggfunc="sum", fill_value=0, sort=False
    )
    return table_pages.plain(view.reset_index())


def _card(file: Path) -> Markup:
    """The data card as HTML, its header left out; "" without one."""
    if not file.is_file():
        return Markup("")
    text = re.sub(r"\A---\n.*?\n---\n", "", file.read_text(encoding="utf-8"), flags=re.DOTALL)
    return Markup(notebook_pages.clean(markdown2html(re.sub(r"^#", "###", text, flags=re.MULTILINE))))
