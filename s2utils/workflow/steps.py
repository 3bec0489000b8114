"""The study's steps: which notebook makes what, from which parameters, code and earlier steps.

The identity of an artefact is a hash over the parameter sections it reads, the code that makes it
(the helper modules, and the notebook cells tagged ``makes-<step>``) and the identities of what it
is made from. It needs no artefact on disk, so the graph and the notebooks always agree on it.
Comments, docstrings and formatting are not part of it.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import json
import os
from dataclasses import dataclass
from pathlib import Path

from s2utils.workflow import artefacts
from s2utils.workflow.params import Params, flat, load
from s2utils.workflow.paths import root


@dataclass(frozen=True)
class Step:
    """One row of the graph."""

    notebook: str
    sections: tuple[str, ...]  # parameters it reads
    modules: tuple[str, ...]  # helper modules that make its artefact (their imports are followed)
    shown: bool = False  # its rule runs the notebook that readers see


RECORD_RULES = tuple(
    f"s2.{k}"
    for k in ("steps", "readability", "fre_min", "fkg_max", "min_words", "paragraph_words", "max_words", "language")
)
SAMPLING = tuple(f"generate.{k}" for k in ("batch_size", "temperature", "top_p", "repetition_penalty"))
ANSWERING = (*SAMPLING, "generate.n", "generate.sample_seed", "generate.max_new_tokens", "generate.backend")
SCORING = tuple(
    f"leaderboard.{k}"
    for k in ("protocol", "source", "shots", "limit", "mmlu_subjects", "backend", "backend_args", "batch_size")
)
LIMITS = tuple(f"s2.{k}" for k in ("readability", "fre_min", "fkg_max", "toxicity_model", "toxicity_max"))
MANNER = (*LIMITS, "data.embedder", "data.embedder_tokens")
RATING = tuple(
    f"mtbench.{k}"
    for k in "questions references categories n max_new_tokens prompts reasons guided repeats judge".split()
)
STEPS = {
    "eda": Step(
        "01_eda",
        ("seed", "data.sources", "s2", "eda", "model.base", "sft.max_length"),
        ("data.sources", "data.filters", "text.readability", "text.toxicity", "data.eda", "models.loading"),
        shown=True,
    ),
    "filtered": Step(
        "02_datasets",
        ("seed", "data.sources", "data.shards", "data.keep_rejected", *RECORD_RULES),
        ("data.sources", "data.filters", "data.shards"),
    ),
    "data": Step(
        "02_datasets",
        ("seed", "data", "s2", "questions", "leaderboard.source", "mtbench.questions"),
        (
            "data.shards",
            "data.corpus_filters",
            "data.preference_sets",
            "data.question_writer",
            "data.splits",
            "data.cards",
        ),
        shown=True,
    ),
    "sft": Step("03_sft", ("seed", "runtime", "model", "sft"), ("training.sft",), shown=True),
    "merged": Step("04_generate", ("model",), ("training.merging",)),
    "answers": Step(
        "04_generate", ("seed", "runtime", "model", *ANSWERING), ("models.generation", "models.loading"), shown=True
    ),
    "divergence": Step(
        "04_generate",
        ("seed", "runtime", "model", "merge", "sft.eval_rows", "sft.max_length", "sft.per_device_train_batch_size"),
        ("training.merge_fidelity",),
    ),
    "text_metrics": Step(
        "05_text_metrics",
        ("seed", "model", "text_metrics", *MANNER),
        ("evaluation.text_metrics", "evaluation.scoring_protocols", "evaluation.bertscore", "text.repetition"),
        shown=True,
    ),
    "membership": Step(
        "05_text_metrics",
        ("seed", "runtime", "model", "membership", "generate.sample_seed"),
        ("evaluation.membership_inference",),
    ),
    "leaderboard": Step(
        "06_leaderboard",
        ("seed", "runtime", "model", *SCORING),
        ("evaluation.leaderboard.evaluate", "models.loading"),
        shown=True,
    ),
    "protocols": Step(
        "06_leaderboard",
        ("seed", "runtime", "model", "leaderboard"),
        ("evaluation.leaderboard.evaluate", "models.loading"),
    ),
    "mtbench": Step(
        "07_mtbench", ("seed", "runtime", "model", *SAMPLING, *RATING), ("evaluation.judge.mtbench",), shown=True
    ),
    "judged": Step(
        "07_mtbench",
        ("seed", "text_metrics.resamples", "text_metrics.confidence", "mtbench"),
        ("evaluation.judge.judge_run",),
    ),
    "sweep": Step("08_sweep", ("sweep",), ("results.sweep",), shown=True),
}
UNREAD = (  # by what is made: which sets are trained and who watches leaves an adapter as it is; roles are for claims
    "sft.train_sets", "sft.report_to", "data.roles",
)  # fmt: skip


# Outside of every identity, with all that only they import. They decide where things lie and what a card or a bar says of
# them, or carry a question to a server and its reply back
PLUMBING = (
    "workflow.errors",
    "workflow.params",
    "workflow.overrides",
    "workflow.paths",
    "workflow.artefacts",
    "workflow.steps",
    "workflow.notebook",
    "training.publish",
    "workflow.progress",
    "models.client",
)
WATCHING = (  # look on while something is made: outside of the artefact, inside of the notebook that shows it
    "training.callbacks",
    "training.failures",
)


@dataclass(frozen=True)
class ModelRow:
    """One model of the study, as a row of its tables."""

    id: str  # folder and file name
    model: str
    base: str
    variant: str  # "base" | "chat" | "sft"
    train_set: str  # "" for base and chat
    merge_mode: str  # "none" for base and chat


def models(params: Params) -> list[ModelRow]:
    """Base, chat, and every train set under every merge, in the order of the tables."""
    name = params.model.name
    rows = [
        ModelRow(name, name, name, "base", "", "none"),
        ModelRow(f"{name}-chat", f"{name}-chat", name, "chat", "", "none"),
    ]
    for train_set in params.sft.train_sets:
        for mode in params.merge.modes:
            model = f"{name}-{train_set}"
            rows.append(ModelRow(f"{model}.{mode}", model, name, "sft", train_set, mode))
    return rows


def model(params: Params, id: str) -> ModelRow:
    """The row with this id; KeyError names the known ones."""
    known = {row.id: row for row in models(params)}
    if id not in known:
        raise KeyError(f"no model '{id}' in this profile; known: {', '.join(known)}")
    return known[id]


def same_weights(params: Params) -> bool:
    """Whether base and chat are the same weights under two prompts."""
    return params.model.base == params.model.chat


def settings(step: str, params: Params) -> dict[str, object]:
    """Dotted parameter → value, for every parameter `step` reads itself; a file's hash beside its path."""
    wanted = STEPS[step].sections
    values = {k: v for k, v in flat(params).items() if any(k == w or k.startswith(f"{w}.") for w in wanted)}
    values = {k: v for k, v in values.items() if not any(k == u or k.startswith(f"{u}.") for u in UNREAD)}
    held = {k: root() / v for k, v in values.items() if isinstance(v, str) and v and not v.startswith("embedded:")}
    # Path.exists raises where a prompt is longer than a file's name may be
    return values | {f"{k}.content": _content(path) for k, path in held.items() if os.path.exists(path)}


def _content(path: Path) -> str:
    """Hash of a local file; of a folder (dumps of many GB, weights) the names, sizes and times of its files."""
    if path.is_file():
        facts = path.stat()
        return _hashed(path, facts.st_size, facts.st_mtime_ns)
    listed = [
        (str(p.relative_to(path)), p.stat().st_size, p.stat().st_mtime_ns)
        for p in sorted(path.rglob("*"))
        if p.is_file()
    ]
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()


@functools.lru_cache(maxsize=1024)
def _hashed(path: Path, size: int, modified: int) -> str:
    return artefacts.sha256(path)


def upstream(step: str, params: Params, name: str = "") -> list[tuple[str, str]]:
    """(step, name) of the artefacts that `step` reads for `name`."""
    match step:
        case "eda" | "filtered" | "protocols" | "sweep":  # protocols: of the base model
            return []
        case "data":
            return [("filtered", str(shard)) for shard in range(params.data.shards)]
        case "sft" | "membership":
            return [("data", "")]
        case "answers":
            return [("data", ""), *upstream("leaderboard", params, name)]
        case "merged":
            return [("sft", model(params, name).train_set)]
        case "divergence":  # a train set under all its merges
            rows = [row for row in models(params) if row.train_set == name]
            return [("data", ""), ("sft", name), *(("merged", row.id) for row in rows)]
        case "leaderboard" | "mtbench":  # base and chat need nothing of ours
            return [("merged", name)] if model(params, name).train_set else []
        case "text_metrics":
            return [("answers", row.id) for row in models(params)]
        case "judged":
            return [(made, row.id) for row in models(params) for made in ("answers", "mtbench")]
    raise KeyError(step)


def key(step: str, params: Params, name: str = "") -> str:
    """Identity of the artefact `step` makes for `name`; 16 hex digits."""
    facts = {
        "step": step,
        "name": name,
        "settings": settings(step, params),
        "code": code_digest(step),
        "upstream": [key(s, params, n) for s, n in upstream(step, params, name)],
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def names(step: str, params: Params) -> list[str]:
    """What a step makes an artefact for: train sets, models, or "" where it makes one."""
    if step in ("sft", "divergence"):
        return params.sft.train_sets
    if step in ("merged", "answers", "leaderboard", "mtbench"):
        return [row.id for row in models(params) if row.train_set or step != "merged"]
    return [str(shard) for shard in range(params.data.shards)] if step == "filtered" else [""]


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


@functools.cache
def _identity(step: str, profile: str, overrides: str, name: str) -> tuple | None:
    """What must be equal for two profiles to share an artefact or a table; None where a profile has no such model."""
    params = load(profile, json.loads(overrides))
    if name:
        return (key(step, params, name),) if name in names(step, params) else None
    made = [(n, key(step, params, n)) for n in names(step, params)]
    made += [("judged", key("judged", params))] if step == "mtbench" else []  # its notebook shows both
    table = (params.text_metrics.resamples, params.text_metrics.confidence, params.seed)  # make its intervals
    return (*made, *(table if made[0][0] else ()))


@functools.lru_cache
def code_digest(step: str) -> str:
    """Hash of the code that makes a step's artefact, without comments and docstrings."""
    parts = [module_digest(STEPS[step].modules)]
    parts += [_plain(source) for _, source, tags in _cells(step) if f"makes-{step}" in tags]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


@functools.lru_cache
def module_digest(names: tuple[str, ...], outside: tuple[str, ...] = (*PLUMBING, *WATCHING)) -> str:
    """Hash of helper modules and all they import, as `modules` lists them."""
    parts = [_plain(path.read_text(encoding="utf-8")) for path in modules(names, outside).values()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


@functools.lru_cache
def files_digest(pattern: str) -> str:
    """Hash of the files that match `pattern`, below the root."""
    files = sorted(root().glob(pattern))
    return hashlib.sha256("".join(artefacts.sha256(f) for f in files).encode()).hexdigest()[:16]


@functools.lru_cache
def notebook_digest(step: str) -> str:
    """Hash of a notebook's cells, outputs left out, and of the modules that they import: an edit reruns the notebook."""
    cells = _cells(step)
    code = "\n".join(source for kind, source, _ in cells if kind == "code")
    parts = [source for _, source, _ in cells] + [module_digest(tuple(_imported(code)), PLUMBING)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _cells(step: str) -> list[tuple[str, str, list[str]]]:
    """(kind, source, tags) of the cells of a step's notebook."""
    notebook = json.loads((root() / "notebooks" / f"{STEPS[step].notebook}.ipynb").read_text(encoding="utf-8"))
    return [(c["cell_type"], "".join(c["source"]), c["metadata"].get("tags", [])) for c in notebook["cells"]]


def modules(names: tuple[str, ...], outside: tuple[str, ...] = (*PLUMBING, *WATCHING)) -> dict[str, Path]:
    """Name → file of helper modules and of every module of ours that they import, but for those `outside`; sorted.

    Names are dotted below s2utils. ImportError where one is not there: what falls out of an identity in silence would
    leave stale artefacts in use.
    """
    found: dict[str, Path] = {}
    todo = [(name, "the graph") for name in names]
    while todo:
        name, asker = todo.pop()
        # a parameter's value is in the identity, what it may be is not
        if name in found or name in outside or name.endswith(".parameters"):
            continue
        if (file := _file(name)) is None:
            raise ImportError(f"{asker} imports s2utils.{name}, and there is no such module", name=f"s2utils.{name}")
        found[name] = file
        package = f"s2utils.{name}" if file.name == "__init__.py" else f"s2utils.{name}".rpartition(".")[0]
        said = str(file.relative_to(root()))
        todo += [(other, said) for other in _imported(file.read_text(encoding="utf-8"), package)]
    return dict(sorted(found.items()))


def _file(name: str) -> Path | None:
    """The file of a module of ours, its __init__ of a package; None where there is none."""
    place = root().joinpath("s2utils", *name.split("."))
    return next((f for f in (place.with_suffix(".py"), place / "__init__.py") if f.is_file()), None)


def _imported(code: str, package: str = "s2utils") -> list[str]:
    """Names of the modules of ours that code of `package` imports anywhere; one of their names stands for them."""
    found = []
    for source, name in _imports(code, package):
        inner = f"{source}.{name}"
        found.append(inner if name and (source == "s2utils" or _file(inner.partition(".")[2])) else source)
    return [name.partition(".")[2] for name in found if name.startswith("s2utils.")]


@functools.cache
def _imports(code: str, package: str) -> list[tuple[str, str]]:
    """(module, name taken from it or "") of every import in code of `package`, dots of relative ones resolved."""
    found = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            found += [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            source = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            found += [(source, alias.name) for alias in node.names]
    return found


@functools.cache
def _plain(source: str) -> str:
    """Source as its syntax tree, docstrings removed."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if (
            isinstance(body, list)
            and body
            and isinstance(body[0], ast.Expr)
            and isinstance(body[0].value, ast.Constant)
        ):
            node.body = body[1:]
    return ast.dump(tree)


def shown(notebook: str) -> str:
    """The step behind `make <notebook>`: the one whose rule runs it for readers. KeyError names the known ones."""
    known = {step.notebook: name for name, step in STEPS.items() if step.shown}
    if notebook not in known:
        raise KeyError(
            f"no step runs notebooks/{' '.join(notebook.split())}.ipynb; steps run {', '.join(known)} (docs/extending.md)"
        )
    return known[notebook]
