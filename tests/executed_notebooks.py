"""Executed notebooks compared: two runs of the same notebook, parameters and inputs must be equal after `normalised`.

It takes out what no two runs share, and nothing else: times (papermill's record, with its paths), durations (the
sentence on what the notebook takes here), cell ids (papermill's injected cell has a new one), how a stream was cut into
pieces, addresses of objects, and the random names that pandas gives to styled tables.
"""

from __future__ import annotations

import re

import nbformat
from nbformat import NotebookNode

DURATION = re.compile(
    r"(Took|Takes about) [^\n]*? here(,[^\n]*?)? \([^\n)]*\)\.|Not run here yet; `make preflight[^\n]*\."
)
ADDRESS = re.compile(r"\bat 0x[0-9a-f]+")
STYLED = re.compile(r"\bT_([0-9a-f]{5})(?=[_\" ])")


def normalised(notebook: NotebookNode) -> NotebookNode:
    """A copy without what differs from run to run; see the module."""
    made = nbformat.from_dict(notebook)
    made.metadata.pop("papermill", None)
    for number, cell in enumerate(made.cells):
        cell.id = f"cell-{number}"
        for record in ("papermill", "execution"):
            cell.metadata.pop(record, None)
        if cell.cell_type == "code":
            cell.outputs = [_settled(output) for output in _joined(cell.outputs)]
    return made


def _joined(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Outputs with neighbouring pieces of a stream as one."""
    kept: list[NotebookNode] = []
    for output in outputs:
        if output.output_type == "stream" and kept and kept[-1].get("name") == output.name:
            kept[-1].text += output.text
        else:
            kept.append(nbformat.from_dict(output))
    return kept


def _settled(value):
    """`value` with durations, addresses and random names replaced in every text."""
    if isinstance(value, str):
        value = ADDRESS.sub("at ‹address›", DURATION.sub("‹duration›", value))
        names = {name: i for i, name in enumerate(dict.fromkeys(STYLED.findall(value)))}
        return STYLED.sub(lambda found: f"T_‹{names[found[1]]}›", value)
    if isinstance(value, dict):
        return NotebookNode({key: _settled(inner) for key, inner in value.items()})
    return [_settled(inner) for inner in value] if isinstance(value, list) else value
