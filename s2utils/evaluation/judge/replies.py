"""The judge's own words in its reply: without reasoning and quotations, tables and JSON as lines of "name: value".

Traps: a judge quotes the answer, which may hold "[[10]]"; JSON writes its names in quotation marks, which are then no
quotation; a reply may be one quotation as a whole.
"""

from __future__ import annotations

import json
import re

from s2utils.data.values import FAILED_CALL
from s2utils.text import reasoning

DIMENSIONS = ("simplicity", "helpfulness", "relevance", "accuracy", "depth", "safety", "overall")
QUOTED = "\ufffc"  # stands where a quotation stood
_QUOTATIONS = (
    r"```(?:\w+\n)?(.*?)(?:```|\Z)",
    r"`([^`]*)`",
    r'(?<!\w)"([^"]*)"',
    r"“([^“”]*)”",
    r"„([^„“”]*)[“”]",
    r"«([^«»]*)»",
    r"(?<!\w)'((?:[^'\n]|(?<=\w)'(?=\w))*)'(?!\w)",
    r"‘((?:[^‘’]|(?<=\w)’(?=\w))*)’",
    r"^[ \t]*>([^\n]*)$",
)
_QUOTATION = re.compile("|".join(_QUOTATIONS), re.MULTILINE | re.DOTALL)
_NAMED = re.compile(rf"\W*(?:rating|score|verdict|winner|{'|'.join(DIMENSIONS)})\b", re.IGNORECASE)
_FULL_WIDTH = {wide: wide - 0xFEE0 for wide in range(0xFF01, 0xFF5F)} | {0x3000: 0x20, 0x3010: 0x5B, 0x3011: 0x5D}


def plain(reply: str) -> tuple[str, str]:
    """(the judge's own words, "") or ("", why there are none)."""
    text, thought = reasoning.without(reply)
    text = text.strip()
    if text == FAILED_CALL:
        return "", "failed call"
    if not text:
        return "", "cut inside reasoning" if thought else "empty"
    text = text.translate(_FULL_WIDTH)
    whole = _QUOTATION.match(text)
    if whole and whole.end() == len(text):
        text = whole[whole.lastindex].strip()
    text = _QUOTATION.sub(_mark, _without_json(text))
    text = re.sub(r"[*_#`~\\]", "", text)
    text = re.sub(r"[^\S\n]+", " ", text)
    return "\n".join(_without_tables(text)).strip(), ""


def _mark(quotation: re.Match) -> str:
    """QUOTED, and the full stop that a quotation ends a sentence with."""
    stop = quotation[0][-2:-1]
    return QUOTED + (stop if stop in ".!?" else "")


def _without_json(text: str) -> str:
    """An object that begins a line, or a fenced block of code, as lines; an object in an object by its score."""
    start, end = re.search(r"^(?:```\w*\s*)?\{", text, re.MULTILINE), text.rfind("}") + 1
    if not start:
        return text
    try:
        pairs = json.loads(text[start.end() - 1 : end], object_pairs_hook=tuple)  # keeps a name that is there twice
    except (ValueError, RecursionError):
        return text
    lines = []
    for name, value in pairs:
        if isinstance(value, tuple):
            value = dict(value).get("rating", dict(value).get("score", ""))
        cell = str(value)
        lines.append(f"{name}: {cell if re.fullmatch('.{1,20}', cell) else QUOTED}")
    return "\n".join([text[: start.start()], *lines, text[end:].removeprefix("\n```")])


def _without_tables(text: str) -> list[str]:
    """The lines of a text; for a row of a Markdown table a line "name: cell" for each cell, names down or across."""
    lines, names = [], []
    for line in text.split("\n"):
        cells = [cell.strip() for cell in line.strip(" |").split("|")]
        named = [bool(_NAMED.match(cell)) for cell in cells]
        if len(cells) == 1:
            names = []
            lines.append(line)
        elif sum(named) > 1:
            names = cells
        elif any(named):
            first = named.index(True)
            lines += [f"{cells[first]}: {cell}" for cell in cells[first + 1 :]]
        elif len(names) == len(cells):
            lines += [f"{name}: {cell}" for name, cell in zip(names, cells)]
    return lines
