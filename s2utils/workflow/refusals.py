"""Why a profile is refused, in one line: file, key, what must stand there, and what stands there.

What a value must be is worded from the JSON schema of the parameters, in which every limit stands that pydantic knows.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

from pydantic import ValidationError

from s2utils.workflow.limits import nearest, shown

RENAMED = {  # keys of earlier versions → what trl, peft and transformers call them
    "sft.alpha": "sft.lora_alpha", "sft.dropout": "sft.lora_dropout", "sft.epochs": "sft.num_train_epochs",
    "sft.batch_size": "sft.per_device_train_batch_size", "sft.accumulation": "sft.gradient_accumulation_steps",
    "sft.optimizer": "sft.optim", "sft.warmup": "sft.warmup_steps", "sft.patience": "sft.early_stopping_patience",
}  # fmt: skip
GONE = {  # keys of earlier versions → why there is none now
    "membership.batch_size": "texts share passes without padding, so leave it out",
}
RANK = {"extra_forbidden": 0, "invalid_key": 0, "missing": 1}  # unknown keys, missing ones, then values
BOUNDS = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "up to", "exclusiveMaximum": "below"}

_TYPES = {"integer": "int", "number": "float", "string": "str", "boolean": "bool", "object": "a section of keys"}


def wanted(node: dict) -> str:
    """What a value must be, in words, from its JSON schema."""
    if choices := _choices(node):
        return f"one of {', '.join(choices)}"
    if node.get("type") == "array":
        more = [words for limit, words in (("minItems", "not empty"), ("uniqueItems", "none twice")) if limit in node]
        return ", ".join([f"a list, each {wanted(node['items'])}", *more])
    words = node.get("form") or _TYPES.get(node.get("type"), "any value")
    bounds = [f"{word} {node[bound]:,}" for bound, word in BOUNDS.items() if bound in node]
    return f"{' '.join([words, *bounds])}{', not empty' if 'minProperties' in node else ''}"


def _choices(node: dict) -> list[str]:
    return [str(choice) for choice in node.get("enum", [node["const"]] if "const" in node else [])]


def inside(node: dict, key: str | int, schema: dict) -> dict:
    """The schema of what `node` holds under a key or at a place, references resolved; {} where it says nothing."""
    known = node.get("properties", {}) | node.get("patternProperties", {})
    below = known.get(key) or node.get("items") or node.get("additionalProperties") or next(iter(known.values()), {})
    return schema["$defs"][below["$ref"].rpartition("/")[2]] | below if "$ref" in below else below


def refusal(error: ValidationError, layers: list[tuple[str, dict]], schema: dict) -> str:
    """The first thing to mend; `layers` are (file, values), the one with the last word first."""
    faults = sorted(error.errors(include_url=False), key=lambda fault: RANK.get(fault["type"], len(RANK)))
    kind, value, place = faults[0]["type"], faults[0]["input"], faults[0]["loc"]
    key_is_wrong = place[-1:] == ("[key]",)
    place = place[:-2] if key_is_wrong else place
    own = layers[0][0]
    file = own if kind == "missing" else next((file for file, values in layers if _holds(values, place)), own)
    key, last = _dotted(place), place[-1] if place else ""
    if kind in ("extra_forbidden", "invalid_key"):
        section = functools.reduce(lambda node, part: inside(node, part, schema), place[:-1], schema)
        name = shown(key) if isinstance(last, str) else f"{last} in {shown(_dotted(place[:-1]) or 'the profile')}"
        return f"{file}: unknown parameter {name}{instead(key, last, section['properties'])}"
    if kind == "missing":
        first, *more = [shown(_dotted(fault["loc"])) for fault in faults if fault["type"] == "missing"]
        return f"{file}: {first} is missing{'; also ' if more else ''}{', '.join(more)}"
    if kind == "value_error":
        return f"{file}: {f'{shown(key)} ' if place else ''}{faults[0]['ctx']['error']}"
    node = functools.reduce(lambda node, part: inside(node, part, schema), place, schema)
    if key_is_wrong:
        names = node.get("propertyNames", {"type": "string"})
        return f"{file}: a key of {shown(key)} must be {wanted(names)}, not {shown(value)}{_hint(value, 'string')}"
    if kind == "literal_error":
        return f"{file}: {shown(key)} is {shown(value)}{nearest(value, _choices(node))}"
    return f"{file}: {shown(key)} must be {wanted(node)}, not {shown(value)}{_hint(value, node.get('type'))}"


def instead(key: str, last: object, known: Iterable[str]) -> str:
    """What to write in the place of a key that is not known; `last` is its part behind the last dot."""
    if key in GONE:
        return f": it is gone, for {GONE[key]}"
    return f": it is called '{RENAMED[key]}' now" if key in RENAMED else nearest(last, known)


def _dotted(place: tuple[str | int, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).removeprefix(".")


def _holds(values: object, place: tuple[str | int, ...]) -> bool:
    """Whether values reach so far; what lies in a list came with it."""
    for part in place:
        if isinstance(values, dict):
            if part not in values:
                return False
            values = values[part]
    return bool(place)


def _hint(value: object, type_: str | None) -> str:
    """How to write what YAML took for text or for a number."""
    if type_ == "string" and isinstance(value, (bool, int, float)):
        return " (text stands in quotes)"
    try:
        number = float(value) if isinstance(value, str) and type_ in ("integer", "number") else None
    except ValueError:
        number = None
    if number is None:
        return ""
    mantissa, _, exponent = value.lower().partition("e")
    if exponent and "." not in mantissa:
        return f" (YAML reads it as text; write {shown(f'{mantissa}.0e{exponent}')[1:-1]})"
    return f" (write it without quotes: {number:g})"
