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
import json
from dataclasses import dataclass
from pathlib import Path

from s2utils import artefacts
from s2utils.params import Params, flat, load
from s2utils.paths import root


@dataclass(frozen=True)
class Step:
    """One row of the graph."""

    notebook: str
    sections: tuple[str, ...]  # parameters it reads
    modules: tuple[str, ...]  # helper modules that make its artefact (their imports are followed)


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
    for k in ("questions", "categories", "n", "max_new_tokens", "prompts", "reasons", "guided", "repeats", "judge")
)
STEPS = {
    "eda": Step(
        "01_eda",
        ("seed", "data.sources", "s2", "eda", "model.base", "sft.max_length"),
        ("sources", "filters", "readability", "toxicity", "describe", "models"),
    ),
    "filtered": Step(
        "02_datasets",
        ("seed", "data.sources", "data.shards", "data.keep_rejected", *RECORD_RULES),
        ("sources", "filters", "shards"),
    ),
    "data": Step(
        "02_datasets",
        ("seed", "data", "s2", "questions", "leaderboard.source", "mtbench.questions"),
        ("shards", "corpus", "sets", "questions", "splits", "cards"),
    ),
    "sft": Step("03_sft", ("seed", "runtime", "model", "sft"), ("train",)),
    "merged": Step("04_generate", ("model",), ("merged",)),
    "answers": Step("04_generate", ("seed", "runtime", "model", *ANSWERING), ("generate", "serve", "models")),
    "divergence": Step(
        "04_generate",
        ("seed", "runtime", "model", "merge", "sft.eval_rows", "sft.max_length", "sft.batch_size"),
        ("divergence",),
    ),
    "text_metrics": Step(
        "05_text_metrics",
        ("seed", "model", "text_metrics", *MANNER),
        ("text_metrics", "scoring", "bertscore", "loops"),
    ),
    "membership": Step(
        "05_text_metrics", ("seed", "runtime", "model", "membership", "generate.sample_seed"), ("membership",)
    ),
    "leaderboard": Step("06_leaderboard", ("seed", "runtime", "model", *SCORING), ("leaderboard", "models")),
    "protocols": Step("06_leaderboard", ("seed", "runtime", "model", "leaderboard"), ("leaderboard", "models")),
    "mtbench": Step("07_mtbench", ("seed", "runtime", "model", *SAMPLING, *RATING), ("mtbench",)),
    "judged": Step("07_mtbench", ("seed", "text_metrics.resamples", "text_metrics.confidence", "mtbench"), ("judged",)),
    "sweep": Step("08_sweep", ("sweep",), ("sweep",)),
}
UNREAD = ("sft.train_sets", "sft.report_to")  # which sets are trained and who watches leaves an adapter as it is


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
    values = {k: v for k, v in values.items() if k not in UNREAD}
    held = {k: root() / v for k, v in values.items() if isinstance(v, str) and v and not v.startswith("embedded:")}
    return values | {f"{k}.content": _content(path) for k, path in held.items() if path.exists()}


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
    notebook = json.loads((root() / "notebooks" / f"{STEPS[step].notebook}.ipynb").read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        if f"makes-{step}" in cell["metadata"].get("tags", []):
            parts.append(_plain("".join(cell["source"])))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


@functools.lru_cache
def module_digest(modules: tuple[str, ...]) -> str:
    """Hash of helper modules and all they import."""
    parts = [_plain(path.read_text(encoding="utf-8")) for path in _module_files(modules)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


@functools.lru_cache
def files_digest(pattern: str) -> str:
    """Hash of the files that match `pattern`, below the root."""
    files = sorted(root().glob(pattern))
    return hashlib.sha256("".join(artefacts.sha256(f) for f in files).encode()).hexdigest()[:16]


@functools.lru_cache
def notebook_digest(step: str) -> str:
    """Hash of a notebook's cells, outputs left out: an edit reruns the notebook."""
    notebook = json.loads((root() / "notebooks" / f"{STEPS[step].notebook}.ipynb").read_text(encoding="utf-8"))
    return hashlib.sha256("\0".join("".join(c["source"]) for c in notebook["cells"]).encode()).hexdigest()[:16]


# they decide where things lie, what a card and a bar say of them, not what they hold
PLUMBING = {"params", "paths", "artefacts", "steps", "notebook", "publish", "progress"}


def _module_files(modules: tuple[str, ...]) -> list:
    """Files of `modules` and of every helper module they import, sorted; plumbing left out."""
    folder, seen, todo = root() / "s2utils", set(PLUMBING), list(modules)
    while todo:
        name = todo.pop()
        path = folder / f"{name}.py"
        if name in seen or not path.is_file():
            continue
        seen.add(name)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("s2utils"):
                tail = node.module.removeprefix("s2utils").lstrip(".")
                todo += [tail] if tail else [alias.name for alias in node.names]
    return [folder / f"{name}.py" for name in sorted(seen - PLUMBING)]


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
