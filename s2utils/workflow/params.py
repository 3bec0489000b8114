"""Parameters of a run: one YAML a profile, loaded into the sections that the rooms declare, refused early and clearly.

A section stands in the ``parameters`` module of its room and is found there: a new one needs its model and its values
in the base profile, nothing else. A profile is complete, or extends one that is and holds what differs: no value is a
default that a reader of ``params/`` cannot see. ``python -m s2utils params cpu`` prints all of them.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import itertools
import math
import pkgutil
import re
from typing import Any

import yaml
from pydantic import Field, ValidationError

import s2utils
from s2utils.workflow.errors import ParameterError
from s2utils.workflow.limits import FilledLine, Key, Section, Seed, nearest, shown
from s2utils.workflow.overrides import flat, is_word, merged, parse_set, plain, read, without_null
from s2utils.workflow.paths import root
from s2utils.workflow.refusals import instead, refusal

POINTS = 1000  # of a sweep


def _rooms() -> list[type[Section]]:
    """`Parameters` of every room that has them; one that extends another's stands before it."""
    modules = [f"{room.name}.parameters" for room in pkgutil.iter_modules(s2utils.__path__, "s2utils.") if room.ispkg]
    found = [importlib.import_module(name).Parameters for name in modules if importlib.util.find_spec(name)]
    return sorted(found, key=lambda parameters: -len(parameters.__mro__))


class Params(*_rooms()):
    """Everything a run depends on."""

    study: FilledLine = Field(description="profiles of one study may be joined in one report")
    seed: Seed = Field(description="of samples, splits and intervals; `sft.seed` is that of training")
    sweep: dict[Key, list[Any]] = Field(description="dotted parameter → values; every combination of them is run")


def profiles() -> list[str]:
    """Names of the profiles in ``params/``."""
    return sorted(p.stem for p in (root() / "params").glob("*.yaml") if p.is_file())


def load(profile: str, overrides: dict | str | None = None) -> Params:
    """Load ``params/<profile>.yaml``, what it extends below it, with `overrides` applied, and check every value.

    `overrides` is a nested dict ({"sft": {"max_steps": 5}}) or text ("sft.max_steps=5 seed=1"); an empty map in it
    empties what it names. One point of a sweep is a profile too: ``cpu@sft.seed=2,sft.r=8``. Raises ParameterError, one
    line, before anything runs.
    """
    name, at, point = profile.partition("@") if isinstance(profile, str) else (profile, "", "")
    file = f"params/{name}.yaml" if isinstance(name, str) else "a file of params/"
    if name not in profiles():
        raise ParameterError(f"there is no profile {shown(name)} ({shown(file)[1:-1]}){nearest(name, profiles())}")
    if at and not re.fullmatch(r"[\w.+-]+=[\w.+-]+(,[\w.+-]+=[\w.+-]+)*", point):
        form = f"{name}@section.key=value,section.key=value"
        raise ParameterError(f"{shown(profile)} is no point of a sweep: write {form}")
    if isinstance(overrides, str):
        overrides = parse_set(overrides)
    elif overrides is not None and not isinstance(overrides, dict):
        form = {"sft": {"max_steps": 5}}
        raise ParameterError(f"overrides must be a section of keys, such as {form}, not {shown(overrides)}")
    changes = merged(overrides or {}, parse_set(point.replace(",", " ")) | {"sweep": {}} if point else {})
    try:
        below = _layers(name)
        values = merged(without_null(functools.reduce(merged, [values for _, values in reversed(below)])), changes)
        if values.get("sweep") and isinstance(values["sweep"], dict):
            values["sweep"] = flat(values["sweep"])  # sweep.sft.seed=[1,2] says the same as {sft.seed: [1, 2]}
        try:
            params = Params.model_validate(values)
        except ValidationError as error:
            raise ParameterError(refusal(error, [(file, changes), *below], schema())) from error
        for other in points(profile, params):
            if other != profile:  # a value that cannot be used is refused before the first run
                load(other, overrides)
    except RecursionError as error:
        raise ParameterError(f"{file}: a value lies in others without end, or in itself") from error
    return params


_read = functools.lru_cache(maxsize=16)(read)  # of a profile: a sweep reads it for every point, and none changes it


def _layers(name: str, above: tuple[str, ...] = ()) -> list[tuple[str, dict]]:
    """(file, values) of a profile and of what it extends; `above` are those that extend it."""
    file = f"params/{name}.yaml"
    try:
        values = _read((root() / file).read_text(encoding="utf-8-sig"), file)
    except UnicodeDecodeError as error:
        raise ParameterError(f"{file} is not UTF-8 (byte {error.start + 1}): save it as UTF-8") from error
    except OSError as error:
        raise ParameterError(f"{file} cannot be read: {error.strerror}") from error
    if not isinstance(values, dict):
        raise ParameterError(f"{file} must hold keys and values")
    own = {key: value for key, value in values.items() if key != "extends"}
    if "extends" not in values:
        return [(file, own)]
    parent, chain = values["extends"], (*above, name)
    if parent in chain:
        raise ParameterError(f"{file}: 'extends' goes in a circle: {' → '.join((*chain, parent))}")
    if parent not in profiles():
        raise ParameterError(f"{file}: 'extends' is {shown(parent)}, which is no profile{nearest(parent, profiles())}")
    return [(file, own), *_layers(parent, chain)]


@functools.cache
def schema() -> dict:
    """JSON schema of all parameters."""
    return Params.model_json_schema()


def points(profile: str, params: Params) -> dict[str, dict[str, object]]:
    """Profile → {parameter: value} of every combination that ``sweep`` spans; {} without one.

    A value that the profile has anyway leaves the name, so that what the profile made is not made again.
    """
    present, file = flat(params), f"params/{profile}.yaml"
    for key, values in params.sweep.items():
        if key not in present or isinstance(present[key], (list, dict)):
            hint = instead(key, key, present)
            raise ParameterError(f"{file}: 'sweep.{key}' is no single value of this profile{hint}")
        repeated = any(value in values[:i] for i, value in enumerate(values))
        if not values or repeated or not all(map(is_word, values)):
            form = "a list of different numbers or plain words"
            raise ParameterError(f"{file}: 'sweep.{key}' must be {form}, not {shown(values)}")
    count = math.prod(map(len, params.sweep.values()))
    if count > POINTS:
        raise ParameterError(f"{file}: 'sweep' spans {count:,} combinations, {POINTS:,} at most: name fewer values")
    combinations = {}
    for values in itertools.product(*params.sweep.values()) if params.sweep else ():
        chosen = dict(zip(params.sweep, values))
        changed = [f"{key}={plain(value)}" for key, value in chosen.items() if value != present[key]]
        combinations[f"{profile}@{','.join(changed)}" if changed else profile] = chosen
    return combinations


def resolved(profile: str, overrides: dict | str | None = None) -> str:
    """Every parameter of a profile with its value, as YAML that is a profile itself."""
    values = load(profile, overrides).model_dump()
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120)
