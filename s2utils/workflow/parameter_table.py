"""docs/parameters.md: key, meaning, limits and values of every parameter, from the sections and the profiles."""

from __future__ import annotations

from collections.abc import Iterator

import yaml

from s2utils.workflow.params import load, profiles, schema
from s2utils.workflow.refusals import inside, wanted

HEAD = """# Parameters

Written by `python -m s2utils params --docs` from the sections in `s2utils/*/parameters.py` and the profiles in
`params/`. No key has a default, and no number is infinite. `python -m s2utils params cpu --set "sft.r=8"` prints
a profile whole, what it extends included.
"""


def page() -> str:
    """The page as Markdown: a table a section, one row a key."""
    top, values = schema(), {name: load(name).model_dump() for name in profiles()}
    head = ["key", "what it is", "limits", *values]
    parts = {"": [HEAD]}
    for key, meaning, limits in _keys(top, ""):
        section = key.partition(".")[0] if "." in key else ""
        if section not in parts:
            parts[section] = [f"\n## {section}\n\n{' '.join(inside(top, section, top)['description'].split())}\n"]
        if len(parts[section]) == 1:
            parts[section] += [_row(head), _row(["---"] * len(head))]
        cells = [_yaml(_at(profile, key.split("."))) for profile in values.values()]
        parts[section].append(_row([f"`{key}`", meaning, limits, *cells]))
    return "\n".join(line for lines in parts.values() for line in lines) + "\n"


def _keys(node: dict, prefix: str) -> Iterator[tuple[str, str, str]]:
    """(dotted key, meaning, limits) of all that a section holds; ``<name>`` stands for names that a profile chooses."""
    for key in node["properties"]:
        value = inside(node, key, schema())
        named = inside(value, "", schema()) if value.get("type") == "object" else {}
        if "properties" in value:
            yield from _keys(value, f"{prefix}{key}.")
        elif "properties" in named:
            yield from _keys(named, f"{prefix}{key}.<name>.")
        else:
            yield f"{prefix}{key}", value["description"], wanted(value)


def _at(values: dict, parts: list[str]) -> object:
    """What stands under a dotted key; a map of names where one part is any name."""
    if not parts:
        return values
    if parts[0] == "<name>":
        return {name: _at(inner, parts[1:]) for name, inner in values.items()}
    return _at(values[parts[0]], parts[1:])


def _yaml(value: object) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, sort_keys=False, width=10**6)
    return text.removesuffix("...\n").strip()


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
