"""Hashes of code: what helper modules, all that they import, and the cells of a notebook do, without how they look.

Comments, docstrings and formatting are not part of it. Each is the first 16 hex digits of a SHA-256.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import json
from pathlib import Path

from s2utils.workflow import artefacts
from s2utils.workflow.paths import root

# Outside of every identity, with all that only they import. They decide where things lie and what a card or a bar says
# of them, or carry a question to a server and its reply back
PLUMBING = (
    "workflow.errors", "workflow.params", "workflow.overrides", "workflow.paths", "workflow.artefacts", "workflow.code",
    "workflow.declared", "workflow.steps", "workflow.notebook", "workflow.progress", "training.publish",
    "models.client",
)  # fmt: skip
# looks on while something is made: outside of the artefact, inside of the notebook that shows it
WATCHING = ("training.callbacks", "training.failures")


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
def notebook_digest(notebook: str) -> str:
    """Hash of a notebook's cells without outputs, and of the modules that they import: an edit reruns the notebook."""
    found = _cells(notebook)
    code = "\n".join(source for kind, source, _ in found if kind == "code")
    parts = [source for _, source, _ in found] + [module_digest(tuple(_imported(code)), PLUMBING)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


@functools.lru_cache
def step_digest(step: str, notebook: str, names: tuple[str, ...]) -> str:
    """Hash of the code that makes a step's artefact: the modules `names`, and the cells tagged ``makes-<step>``."""
    tagged = [source for _, source, tags in _cells(notebook) if f"makes-{step}" in tags]
    return hashlib.sha256("\n".join([module_digest(names), *map(_plain, tagged)]).encode()).hexdigest()[:16]


def _cells(notebook: str) -> list[tuple[str, str, list[str]]]:
    """(kind, source, tags) of the cells of a notebook."""
    content = json.loads((root() / "notebooks" / f"{notebook}.ipynb").read_text(encoding="utf-8"))
    return [(c["cell_type"], "".join(c["source"]), c["metadata"].get("tags", [])) for c in content["cells"]]


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
        documented = isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        if documented and ast.get_docstring(node, clean=False) is not None:
            del node.body[0]
    return ast.dump(tree)
