"""Parameters as text: the YAML of a profile, and ``SET='sft.max_steps=5 seed=1'`` of a command, there and back.

Trap: YAML reads ``1e-4`` as text; write ``1.0e-4``.
"""

from __future__ import annotations

import json
import re

import yaml
from pydantic import BaseModel

from s2utils.workflow.errors import ParameterError
from s2utils.workflow.limits import shown


class _Loader(yaml.SafeLoader):
    """YAML in which no key stands twice: the first one would be lost without a word."""

    def construct_mapping(self, node, deep=False):
        """A map, or ParameterError naming the key and its line."""
        seen = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if key.tag != "tag:yaml.org,2002:merge" and isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise ParameterError(f"line {key.start_mark.line + 1}: the key {shown(key.value)} stands twice")
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def read(text: str, where: str) -> object:
    """YAML as plain values; ParameterError, which `where` begins, for what is none."""
    try:
        return yaml.load(text, Loader=_Loader)
    except ParameterError as error:
        raise ParameterError(f"{where}, {error}") from error
    except RecursionError:
        raise
    except Exception as error:  # PyYAML lets pass what it meets: a ValueError of 2023-99-99, a KeyError of !!bool x
        raise ParameterError(f"{where} is not valid YAML: {' '.join(str(error).split())}") from error


def parse_set(text: str) -> dict:
    """Nested overrides from ``"sft.max_steps=5 generate.n=10"``; values are YAML."""
    changes: dict = {}
    for item in text.split():
        key, equals, value = item.partition("=")
        if not equals or not all(key.split(".")):
            raise ParameterError(f"cannot read {shown(item)}: write section.key=value")
        *parents, last = key.split(".")
        node = changes
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise ParameterError(f"cannot read {shown(item)}: {shown(parent)} has a value already")
        if last in node:
            raise ParameterError(f"cannot read {shown(item)}: {shown(key)} has a value already")
        try:
            node[last] = read(value, f"cannot read {shown(item)}: its value")
        except RecursionError as error:
            raise ParameterError(f"cannot read {shown(item)}: a value lies in others without end") from error
    return changes


def written(changes: dict) -> str:
    """Nested overrides as the text that `parse_set` reads: one line, a blank between two values and nowhere else."""
    return " ".join(f"{key}={one_word(value)}" for key, value in flat(changes).items()) if changes else ""


def typed(changes: dict) -> str:
    """Overrides as they are typed behind a command of make (" SET='seed=1'"), "" without any."""
    return " SET='" + written(changes).replace("'", "'\\''") + "'" if changes else ""


def one_word(value: object) -> str:
    """YAML of a value without white space, and with floats that stay floats."""
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(one_word, value))}]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{one_word(str(k))}:{one_word(v)}" for k, v in value.items()) + "}"
    if isinstance(value, float):
        return plain(value)
    text = json.dumps(value, ensure_ascii=False)
    return re.sub(r"\s", lambda blank: f"\\u{ord(blank[0]):04x}", text)


def plain(value: object) -> str:
    """A value as YAML reads it back: 1e-05 is text there, 1.0e-05 is not."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return re.sub(r"^(-?\d+)e", r"\1.0e", text) if isinstance(value, float) else text


def is_word(value: object) -> bool:
    """Whether a value can stand in the name of a folder, and is read back from there as it was."""
    try:
        return bool(re.fullmatch(r"[\w.+-]{1,80}", plain(value))) and read(plain(value), "") == value
    except ValueError:  # a word such as 2023-99-99; an integer of thousands of digits
        return False


def flat(value: object, prefix: str = "") -> dict[str, object]:
    """Dotted key → plain value for any parameters, in the order of their fields."""
    if isinstance(value, list) and value and isinstance(value[0], BaseModel):
        value = {str(i): inner for i, inner in enumerate(value)}
    if isinstance(value, BaseModel) or (isinstance(value, dict) and value):
        rows: dict[str, object] = {}
        for key, inner in dict(value).items():
            rows |= flat(inner, f"{prefix}.{key}" if prefix else str(key))
        return rows
    return {prefix: value}


def merged(values: dict, changes: dict) -> dict:
    """`values` with nested `changes`; an empty map empties what it names."""
    result = dict(values)
    for key, change in changes.items():
        old = result.get(key)
        nested = isinstance(old, dict) and isinstance(change, dict) and change
        result[key] = merged(old, change) if nested else change
    return result


def without_null(values: object) -> object:
    """Values without those that are null: how a profile takes away a name of what it extends."""
    if not isinstance(values, dict):
        return values
    return {key: without_null(value) for key, value in values.items() if value is not None}
