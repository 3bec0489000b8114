"""The tables of notebooks in README.md and notebooks/README.md, written from what the notebooks declare.

python -m s2utils maps            rewrites them between their marks; `make format` calls it
python -m s2utils maps --check    1 where one is not as it would be written
"""

from __future__ import annotations

from s2utils.workflow import artefacts, declared
from s2utils.workflow.errors import UserError
from s2utils.workflow.paths import root

START, END = "<!-- notebooks: python -m s2utils maps -->\n", "<!-- end of notebooks -->\n"


def readme(notebook: declared.Notebook) -> str:
    """A notebook's row in README.md."""
    return f"| [{notebook.name}](notebooks/{notebook.name}.ipynb) | {notebook.question} | {notebook.result} |"


def pictured(notebook: declared.Notebook) -> str:
    """A notebook's row in notebooks/README.md."""
    name = notebook.name
    shown = f'<img src="thumbnails/{name}.png" width="180" alt="{notebook.picture}">' if notebook.figure else ""
    return f"| {shown} | [{name}]({name}.ipynb) | {notebook.question} |"


MAPS = {  # file → head of the table, and how a row is written
    "README.md": ("| notebook | question | makes |\n|---|---|---|", readme),
    "notebooks/README.md": ("| | notebook | what it asks |\n|---|---|---|", pictured),
}


def written(file: str, text: str) -> str:
    """`text` of `file` with its table as it should be; UserError where it has no place for one."""
    head, row = MAPS[file]
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not end:
        raise UserError(f"{file} has no lines {START.strip()} and {END.strip()} around its table of notebooks")
    table = "\n".join([head, *map(row, declared.notebooks())])
    return f"{before}{start}\n{table}\n\n{end}{after}"


def write(check: bool = False) -> None:
    """Write both tables; with `check` nothing is written, and a UserError names those that are not current."""
    texts = {file: (root() / file).read_text(encoding="utf-8") for file in MAPS}
    stale = [file for file, text in texts.items() if written(file, text) != text]
    if stale and check:
        raise UserError(f"{', '.join(stale)}: not what the notebooks declare; `make format` writes the tables")
    for file in stale:
        with artefacts.replacing(root() / file) as opened:
            opened.write(written(file, texts[file]))
