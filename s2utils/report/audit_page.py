"""Tables and page of an audit, put in the place of the last ones at once: what fails leaves those as they were.

An audit of predictions replaces the tables of predictions, and so on; the others stay, with what was not read for them.
Trap: the folder is swapped for a new one, so nothing else should live in it.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd

from s2utils.data import spreadsheet, values
from s2utils.data.values import Note
from s2utils.report import table_pages, web
from s2utils.results import fastchat_tables, protocol_effects, tables
from s2utils.workflow import artefacts

TITLES = {
    "flesch": "Readability of the answers",
    "rouge": "ROUGE F1 of the answers",
    "bertscore": "BERTScore of the answers",
    "ratings": "Judge's ratings",
    "mtbench": "MT-bench, judge's ratings a turn",
    "mtbench_flesch": "Readability of MT-bench's answers, a turn",
    "mtbench_pairs": "MT-bench, pairs in both orders",
    "unread": "What was not read as it stands",
}
INPUTS = {  # tables that are made together → what notes call their inputs
    ("flesch", "rouge", "bertscore"): ("predictions", "references"),
    ("ratings",): ("ratings",),
    ("mtbench", "mtbench_pairs"): ("judgements",),
    ("mtbench_flesch",): ("answers",),
}
UNREAD = (
    "Values that are no plain text, counted. What was read (yes) is in the scores; an answer that was not has failed."
)


def replace(folder: Path, made: dict[str, tuple[pd.DataFrame, str]], notes: list[Note]) -> Path:
    """Put the tables in `made` (frame, caption) and a page of all into `folder`, whole or not at all.

    Returns the page.
    """
    with artefacts.replacing_folder(folder) as new:
        if folder.is_dir():
            shutil.copytree(folder, new, dirs_exist_ok=True)
        again = [names for names in INPUTS if set(names) & set(made)]
        unread = _unread(new, {part for names in again for part in INPUTS[names]}, notes)
        for name in [*(name for names in again for name in names), "unread"]:
            _remove(new, name)
        for name, (frame, caption) in (made | ({"unread": (unread, UNREAD)} if len(unread) else {})).items():
            _write(frame, name, caption, new / "tables")
        _page(new)
    return folder / "index.html"


def _unread(folder: Path, parts: set[str], notes: list[Note]) -> pd.DataFrame:
    """What was not read of these `parts`, and what an earlier audit did not read of others."""
    found, before = pd.DataFrame(values.counted(notes)), folder / "tables" / "unread.csv"
    try:
        earlier = spreadsheet.read(before)
        return pd.concat([earlier[~earlier["part"].isin(parts)], found], ignore_index=True)
    except (OSError, LookupError, ValueError):
        return found


def _shown(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """A table as readers see it."""
    if name == "unread":
        return frame
    return fastchat_tables.shown(frame, name) if name.startswith("mtbench") else protocol_effects.shown(frame, name)


def _write(frame: pd.DataFrame, name: str, caption: str, folder: Path) -> None:
    """<name>.csv, .md and .txt (the caption) into `folder`, and the table to the terminal."""
    view = _shown(frame, name)
    with artefacts.replacing(folder / f"{name}.csv") as file:
        spreadsheet.write(frame, file)
    with artefacts.replacing(folder / f"{name}.md") as file:
        file.write(f"**{TITLES[name]}.** {caption}\n\n{tables.markdown(view)}\n")
    with artefacts.replacing(folder / f"{name}.txt") as file:
        file.write(caption + "\n")
    print(f"\n{TITLES[name]}. {caption}\n{view.to_string(index=False)}")


def _page(folder: Path) -> None:
    """index.html of the tables that are in `folder`/tables; one that cannot be read is taken away, and said."""
    found = []
    for name in TITLES:
        csv = folder / "tables" / f"{name}.csv"
        if not csv.is_file():
            continue
        try:
            caption, frame = csv.with_suffix(".txt").read_text(encoding="utf-8").strip(), spreadsheet.read(csv)
            if frame.empty:
                raise ValueError("it holds no rows")
            grid = table_pages.plain(_shown(frame, name))
        except (OSError, LookupError, TypeError, ValueError) as error:
            print(f"{name}.csv of an earlier audit cannot be read ({error!r:.80}); it is taken away")
            _remove(folder, name)
            continue
        files = [f"{name}.csv", f"{name}.md"]
        found.append({"name": name, "title": TITLES[name], "caption": caption, "grid": grid, "files": files})
    about = {"title": "Answers made elsewhere", "tables": found}
    web.write_page(web.Site(folder, "audit"), "index.html", "audit", about, scripts=("table",))


def _remove(folder: Path, name: str) -> None:
    for old in (folder / "tables").glob(f"{name}.*"):
        old.unlink()
