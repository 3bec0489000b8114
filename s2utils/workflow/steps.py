"""The study's steps and models: what each step makes an artefact for, what that stands on, and its identity.

The identity of an artefact is a hash over the parameters it reads, the model it is of, the code that makes it (the
helper modules, and the notebook cells tagged ``makes-<step>``) and the identities of what it is made from. It needs no
artefact on disk, so the graph and the notebooks always agree on it. Which steps there are, the notebooks say: `STEPS`
is name → `declared.Step`, read when it is first asked for.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from s2utils.workflow import artefacts, code, declared, paths
from s2utils.workflow.limits import Section
from s2utils.workflow.params import ParameterError, Params, flat, load, nearest

UNREAD = (  # by what is made: which sets are trained and who watches leaves an adapter as it is; roles are for claims
    "sft.train_sets", "sft.report_to", "data.roles",
    "fit.models",  # each is part of what is made of it (`made_as`), and of no other
)  # fmt: skip


def __getattr__(name: str) -> dict[str, declared.Step]:
    if name == "STEPS":
        return declared.steps()
    raise AttributeError(name)


@dataclass(frozen=True)
class ModelRow:
    """One model, as a row of the tables, and how it is got and asked; what follows its merge mode is no column.

    `loading.full` sees from a folder whether it holds a model or an adapter beside its base.
    """

    id: str  # folder and file name
    model: str
    base: str
    variant: str  # its kind: "base" | "chat" | "sft", or one of a later part, as "published" beside the study's
    train_set: str = ""  # "" where it was published
    merge_mode: str = "none"  # "none" where nothing was merged
    made_by: str = ""  # step whose artefact is its weights; "" where they were published
    published: str = "base"  # which published model it is or stands on: "base" | "chat", or a name in `fit.models`
    prompt: str = "base"  # whose prompt it is asked with, as `loading.prompt` calls them: "base" | "chat" | "sft"
    part: str = "study"  # of the house whose tables hold it


def models(
    params: Params, parts: Collection[str] | None = ("study",), train_sets: list[str] | None = None
) -> list[ModelRow]:
    """Base, chat, and every train set under every merge, in the order of the tables; then those `beside` them.

    Of the study; `parts` names others, None is all. `train_sets` may stand in for those of the profile.
    """
    name = params.model.name
    rows = [
        ModelRow(name, name, name, "base"),
        ModelRow(f"{name}-chat", f"{name}-chat", name, "chat", published="chat", prompt="chat"),
    ]
    others = [ModelRow(other, other, other, "published", published=other, part="models") for other in beside(params)]
    for train_set in params.sft.train_sets if train_sets is None else train_sets:
        for mode in params.merge.modes:
            model = f"{name}-{train_set}"
            rows.append(
                ModelRow(f"{model}.{mode}", model, name, "sft", train_set, mode, made_by="merged", prompt="sft")
            )
    return [row for row in rows + others if parts is None or row.part in parts]


def model(params: Params, id: str) -> ModelRow:
    """The row with this id; KeyError names the known ones."""
    known = {row.id: row for row in models(params, None)}
    if id not in known:
        raise KeyError(f"no model '{id}' in this profile; known: {', '.join(known)}")
    return known[id]


def beside(params: Params) -> dict[str, Section]:
    """Name → weights of the published models beside the study's: `fit.models` but for its own base and chat."""
    own = (params.model.base, params.model.chat)
    return {name: weights for name, weights in params.fit.models.items() if weights not in own}


def published(params: Params, row: ModelRow) -> Section:
    """The published weights that a model is or stands on."""
    return {**beside(params), "base": params.model.base, "chat": params.model.chat}[row.published]


def made_as(params: Params, row: ModelRow) -> dict[str, str]:
    """What of a row decides on what is made of it: all but the part whose tables hold it.

    Of a model beside the study's its weights too; those of base and chat are parameters that steps read.
    """
    facts = {field: value for field, value in dataclasses.asdict(row).items() if field != "part"}
    return facts | _with_contents(flat(published(params, row), "weights") if row.published in beside(params) else {})


def same_weights(params: Params) -> bool:
    """Whether base and chat are the same weights under two prompts."""
    return params.model.base == params.model.chat


def settings(step: str, params: Params) -> dict[str, object]:
    """Dotted parameter → value, for every parameter `step` reads itself; a file's hash beside its path."""
    wanted = declared.steps()[step].parameters

    def under(key: str, sections: Collection[str]) -> bool:
        return any(f"{key}.".startswith(f"{section}.") for section in sections)

    values = {k: v for k, v in flat(params).items() if under(k, wanted) and not under(k, UNREAD)}
    return _with_contents(values)


def _with_contents(values: dict[str, object]) -> dict[str, object]:
    """Parameters, and of those that name a local file or folder a hash of it."""
    top, texts = paths.root(), {k: v for k, v in values.items() if v and isinstance(v, str)}
    held = {k: top / text for k, text in texts.items() if not text.startswith("embedded:")}
    # Path.exists raises where a prompt is longer than a file's name may be
    return values | {f"{k}.content": _content(path) for k, path in held.items() if os.path.exists(path)}


def _content(path: Path) -> str:
    """Hash of a local file; of a folder (dumps of many GB, weights) the names, sizes and times of its files."""
    if path.is_file():
        facts = path.stat()
        return _hashed(path, facts.st_size, facts.st_mtime_ns)
    files = ((p, p.stat()) for p in sorted(path.rglob("*")) if p.is_file())
    listed = [(str(p.relative_to(path)), facts.st_size, facts.st_mtime_ns) for p, facts in files]
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()


@functools.lru_cache(maxsize=1024)
def _hashed(path: Path, size: int, modified: int) -> str:
    return artefacts.sha256(path)


def names(
    step: str, params: Params, parts: Collection[str] | None = None, train_sets: list[str] | None = None
) -> list[str]:
    """What a step makes an artefact for: train sets, shards, models of all or some parts, or "" where it makes one."""
    match declared.steps()[step].each:
        case "shard":
            return [str(shard) for shard in range(params.data.shards)]
        case "train_set":
            return params.sft.train_sets
        case "model":
            return [row.id for row in models(params, parts, train_sets)]
        case "weights":
            return [row.id for row in models(params, parts, train_sets) if row.made_by == step]
    return [""]


def collected(step: str, params: Params, parts: Collection[str] = ()) -> list[str]:
    """The `names` that a run over all of them reads: of the step's parts of the house, or of those that are given."""
    known = declared.steps()[step]
    twin = f"{params.model.name}-chat" if known.once_a_weight and same_weights(params) else None
    return [name for name in names(step, params, parts or known.parts) if name != twin]


def chosen(step: str, params: Params, choices: list[str]) -> list[str]:
    """Those of a step's `names` that are among `choices`, or of the step's parts and stand on a train set that is."""
    of = {row.id: row.train_set for row in models(params, declared.steps()[step].parts)}
    return [name for name in names(step, params) if {name, of.get(name)} & {*choices}]


def upstream(step: str, params: Params, name: str = "") -> list[tuple[str, str]]:
    """(step, name) of the artefacts that `step` reads for `name`."""
    known, found = declared.steps(), []
    each = known[step].each
    row = model(params, name) if each in ("model", "weights") else None
    for read in known[step].reads:
        if read == "weights":
            found += [(row.made_by, name)] if row.made_by else []
        elif not each or not known[read].each:  # one artefact, or one of all
            found += [(read, other) for other in collected(read, params, known[step].parts)]
        elif row:
            found.append((read, row.train_set if known[read].each == "train_set" else name))
        else:
            found += [(read, other) for other in chosen(read, params, [name])]
    return found


def key(step: str, params: Params, name: str = "") -> str:
    """Identity of the artefact `step` makes for `name`; 16 hex digits."""
    facts = {
        "step": step,
        "name": name,
        "settings": settings(step, params),
        "code": code_digest(step),
        "upstream": [key(s, params, n) for s, n in upstream(step, params, name)],
    }
    if declared.steps()[step].each in ("model", "weights"):
        facts["model"] = made_as(params, model(params, name))
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def code_digest(step: str) -> str:
    """Hash of the code that makes a step's artefact."""
    known = declared.steps()[step]
    return code.step_digest(step, known.notebook, known.code)


def home(step: str, profile: str, overrides: dict, name: str = "") -> str:
    """The profile in whose folder an artefact lies: that with the fewest changes which makes the same one.

    A point of a sweep (``cpu@sft.seed=2``) shares with the profile itself all that the change does not reach, and with
    other points what the rest of their changes does not reach. Without a name: the table of all that a step makes.
    """
    base, _, point = profile.partition("@")
    changes, home = json.dumps(overrides, sort_keys=True), profile
    kept = point.split(",") if point else []
    for change in list(kept):
        fewer = [c for c in kept if c != change]
        other = f"{base}@{','.join(fewer)}" if fewer else base
        if _identity(step, other, changes, name) == _identity(step, profile, changes, name):
            kept, home = fewer, other
    return home


def folder(step: str, profile: str, overrides: dict, name: str = "") -> Path:
    """Where an artefact lies."""
    return paths.artefacts(home(step, profile, overrides, name)) / step / name


@functools.cache
def _identity(step: str, profile: str, overrides: str, name: str) -> tuple | None:
    """What must be equal for two profiles to share an artefact or a table; None where a profile has no such model."""
    params, known = load(profile, json.loads(overrides)), declared.steps()[step]
    if name:
        return (key(step, params, name),) if name in names(step, params) else None
    made = [(s, n, key(s, params, n)) for s in (step, *known.shows) for n in collected(s, params)]
    table = (params.text_metrics.resamples, params.text_metrics.confidence, params.seed)  # make its intervals
    return (*made, *(table if known.each else ()))


def shown_of(part: str = "", sweep: bool = True) -> list[declared.Step]:
    """Steps whose runs readers see, of one `part` of the house or of all; without a `sweep` none that compares one."""
    known = list(dict.fromkeys(step.part for step in declared.steps().values()))
    if part not in ("", *known):
        raise ParameterError(f"there is no part '{part}'{nearest(part, known)}")
    shows = [step for step in declared.steps().values() if step.collects and part in ("", step.part)]
    return [step for step in shows if sweep or not step.compares]


def shown(notebook: str) -> str:
    """The step behind `make <notebook>`: the one whose rule runs it for readers. KeyError names the known ones."""
    known = {step.notebook: name for name, step in declared.steps().items() if step.collects}
    if notebook not in known:
        raise KeyError(
            f"no step runs notebooks/{' '.join(notebook.split())}.ipynb; steps run {', '.join(known)} "
            "(docs/extending.md)"
        )
    return known[notebook]
