"""What every notebook says of itself, in its own metadata under `s2`: its steps, and the question that readers ask.

A step is a row of the graph: what it reads, which parameters and modules make its artefact, one artefact per what, and
what its jobs need. Identities, the Snakefile, the maps of both READMEs and the report's order derive from it. Notebooks
count in the order of their names, steps in the order in which they stand. Trap: Jupyter sorts the keys of metadata, so
what has an order is a list.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from s2utils.workflow.params import ParameterError, nearest
from s2utils.workflow.paths import root

# a text of words, as it stands in the metadata: one line of JSON, where a list would take a line a word
Words = Annotated[
    tuple[str, ...], BeforeValidator(lambda value: tuple(value.split()) if isinstance(value, str) else value)
]


class Declared(BaseModel):
    """Plain values that cannot be changed; a key that is not known is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Step(Declared):
    """One row of the graph."""

    name: str
    notebook: str  # the stem of its file
    part: str  # of the notebook
    # what makes its artefact: its identity
    parameters: Words  # dotted names or sections
    modules: Words = ()  # below s2utils, their imports followed; with that of `made_by`
    reads: Words = ()  # steps; "weights" stands for the step that makes those of a model
    each: Literal["", "shard", "train_set", "model", "weights"] = ""  # one artefact per what; weights: a model it makes
    parts: Words = ("study",)  # of the models that it asks or collects
    once_a_weight: bool = False  # collected once for two models that are the same weights under two prompts
    # how it is made
    made_by: str = Field("", pattern=r"^([\w.]+:\w+)?$")  # module:function below s2utils; "" where the notebook runs
    together: Literal["", "train_set"] = ""  # one job makes all that stand on one of these
    jobs_from: int = 1  # so many artefacts are jobs of their own; fewer are made by the notebook that reads them
    choices: dict[str, str] = {}  # of the notebook, where they are not the name that the artefact is for
    label: str = ""  # what its logs and benchmarks are called behind the notebook, where it is not the name
    # what readers see
    collects: bool = False  # its run, over all names, is the one that readers see
    shows: Words = ()  # further steps of its notebook that this run shows
    compares: Words = ()  # steps whose tables it compares over the points of a sweep
    tables: Words = ()  # that this run writes into reports/<profile>/tables
    # what a job needs
    cpu_mb: int = 0  # memory on a profile for a CPU
    gpu_mb: int = 0  # memory of the host on a profile for a GPU
    gpu_minutes: int = 0  # the longest it may take there; an hour elsewhere
    gpu: bool = True  # computes on the GPU of such a profile
    endpoints: Words = ()  # parameters that name servers: the GPU is needed only where one of them is local
    one_thread: bool = False  # not runtime.threads of the profile
    priority: int = 0

    @property
    def code(self) -> tuple[str, ...]:
        """Modules that make its artefact."""
        maker = self.made_by.partition(":")[0]
        return self.modules if not maker or maker in self.modules else (*self.modules, maker)

    @property
    def wildcard(self) -> str:
        """What the name of a job is called: "train_set", "model", "shard"; "" where one job makes it."""
        return self.together or {"weights": "model"}.get(self.each, self.each)

    @property
    def run(self) -> str:
        """Its jobs, as their logs and benchmarks are called below `artefacts`: 03_sft.{train_set}, 05_text_metrics."""
        own = f"{{{self.wildcard}}}" if self.each else "" if self.collects else self.name
        return ".".join(filter(None, (self.notebook, self.label or own)))


class Notebook(Declared):
    """One notebook."""

    name: str  # the stem of its file
    part: str  # "study": notebooks that `make study` runs
    question: str  # that it asks
    result: str  # what it makes, in the map of the README
    figure: str = ""  # that stands for it on the map; "" where none does
    picture: str = ""  # what that shows, for those who do not see it
    steps: tuple[Step, ...]


def notebooks() -> tuple[Notebook, ...]:
    """Every notebook of the repository, in order; ParameterError says which declaration is wrong, and how."""
    return _notebooks(root())


def steps() -> dict[str, Step]:
    """Name → step, in the order of the notebooks."""
    return _steps(root())


@functools.cache
def _notebooks(folder: Path) -> tuple[Notebook, ...]:
    found = (_read(path) for path in sorted((folder / "notebooks").glob("*.ipynb")))
    return tuple(notebook for notebook in found if notebook)


@functools.cache
def _steps(folder: Path) -> dict[str, Step]:
    known: dict[str, Step] = {}
    for notebook in _notebooks(folder):
        for step in notebook.steps:
            if step.name in known:
                place, other = _place(notebook.name, step.name), known[step.name].notebook
                raise ParameterError(f"{place}: {other} has this step too")
            known[step.name] = step
    for step in known.values():
        for other in {*step.reads, *step.shows, *step.compares} - {"weights"}:
            place = _place(step.notebook, step.name)
            if other not in known:
                raise ParameterError(f"{place}: no step '{other}'{nearest(other, known)}")
            if known[other].notebook > step.notebook:
                raise ParameterError(f"{place}: it waits for '{other}' of a later notebook, {known[other].notebook}")
    return known


def _read(path: Path) -> Notebook | None:
    """The declaration of one notebook; None where it has none: a draft is no part of the house."""
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))["metadata"].get("s2")
        if facts is None:
            return None
        own = {"notebook": path.stem, "part": facts["part"]}
        return Notebook(**facts | {"name": path.stem, "steps": tuple(own | step for step in facts["steps"])})
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        if not isinstance(error, ValidationError):
            raise ParameterError(f"{_place(path.stem)}: not in its form ({error!r}), see docs/extending.md") from error
        first = error.errors()[0]
        where = [str(part) for part in first["loc"]]
        step = facts["steps"][first["loc"][1]].get("name", where[1]) if where[0] == "steps" and len(where) > 1 else ""
        hint = nearest(where[-1], Step.model_fields if step else Notebook.model_fields)
        hint = hint if first["type"] == "extra_forbidden" else ""
        raise ParameterError(f"{_place(path.stem, step)}: '{where[-1]}': {first['msg']}{hint}") from error


def _place(notebook: str, step: str = "") -> str:
    return f"notebooks/{notebook}.ipynb, metadata s2{f', step {step}' if step else ''}"
