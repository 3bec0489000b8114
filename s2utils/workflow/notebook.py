"""What every notebook does first: resolve the parameters, say what runs where, find its folders."""

from __future__ import annotations

import ast
import importlib.metadata
import logging
import os
import platform
import warnings
from dataclasses import dataclass, field
from pathlib import Path

from s2utils.workflow import artefacts, paths, steps, timings
from s2utils.workflow.overrides import typed
from s2utils.workflow.params import ParameterError, Params, load, nearest, shown

PACKAGES = (  # that can move a number
    "torch", "transformers", "peft", "bitsandbytes", "datasets", "trl", "lm_eval", "bert-score", "rouge_score",
    "textstat", "pandas", "accelerate", "codecarbon",
)  # fmt: skip


@dataclass(frozen=True)
class Artefact:
    """The folder a step fills for one name, and its identity."""

    folder: Path
    key: str

    @property
    def ready(self) -> bool:
        """Whether it is complete and made with these parameters."""
        return artefacts.ready(self.folder, self.key)

    def making(self, **facts):
        """Context in which the artefact is made; see `artefacts.making`."""
        return artefacts.making(self.folder, self.key, {"versions": versions(), "device": device(), **facts})

    @property
    def manifest(self) -> dict:
        """Its record, {} before it is complete."""
        return artefacts.read_json(self.folder / "manifest.json") or {}


@dataclass(frozen=True)
class Run:
    """One run of one step under resolved parameters."""

    step: str
    profile: str
    params: Params
    overrides: dict = field(default_factory=dict)
    choices: dict = field(default_factory=dict)  # the notebook's further parameters: one model, one train set, "all"

    @property
    def tables(self) -> Path:
        """Folder of the tables that readers see."""
        return paths.reports(self.profile) / "tables"

    @property
    def figures(self) -> Path:
        """Folder of the figures."""
        return paths.reports(self.profile) / "figures"

    @property
    def models(self) -> list[steps.ModelRow]:
        """Every model that this step asks or collects; those of the study where a report asks, which is no step."""
        return steps.models(self.params, steps.STEPS[self.step].parts if self.step in steps.STEPS else ("study",))

    @property
    def collects(self) -> bool:
        """Whether this run is about all that the step makes: only then do readers see its tables."""
        return not self.chosen

    @property
    def chosen(self) -> list:
        """Choices other than "all"."""
        return [choice for choice in self.choices.values() if choice != "all"]

    def save_table(self, frame, name: str, caption: str = "", *, rows: int = 0, **about):
        """Write a table as readers and programs meet it (`results.tables.save`); what it returns shows it.

        `rows` are the first ones that are shown, 0 for all.
        """
        from IPython.display import HTML

        from s2utils.results import tables  # a run's tables are a room above: what a notebook says in one line

        return HTML(tables.to_html(tables.save(self, frame, name, caption, **about), rows, name))

    def artefact(self, name: str = "", step: str = "") -> Artefact:
        """The artefact this step (or another) makes for `name`."""
        step = step or self.step
        folder = steps.folder(step, self.profile, self.overrides, name)
        return Artefact(folder, steps.key(step, self.params, name))

    def require(self, step: str, name: str = "") -> Artefact:
        """An earlier step's finished artefact; MissingArtefact says which notebook makes it."""
        wanted = self.artefact(name, step)
        notebook, folder = steps.STEPS[step].notebook, wanted.folder
        command = f"make {notebook} PROFILE={self.profile}{typed(self.overrides)}"
        artefacts.require(folder, wanted.key, notebook, command, folder.relative_to(paths.root()))
        return wanted

    def weights(self, row: steps.ModelRow):
        """Weights of a model: those that its step has made, or published ones; MissingArtefact as `require`."""
        if row.made_by:
            made = {"path": str(self.require(row.made_by, row.id).folder), "revision": ""}
            return self.params.model.base.model_copy(update=made)
        return steps.published(self.params, row)

    @property
    def names(self) -> list[str]:
        """Those of the step's artefacts that this run is about."""
        if self.chosen:
            return steps.chosen(self.step, self.params, self.chosen)
        return steps.names(self.step, self.params, steps.STEPS[self.step].parts)

    def run_upstream(self) -> None:
        """Make what this run reads and what is not there yet, through the graph; then run the stopped cell again."""
        from s2utils.workflow import graph

        targets = graph.missing(self.step, self.profile, self.params, self.overrides, self.names)
        if targets:
            graph.run(self.profile, self.overrides, targets)
        print("All that this notebook reads is there: run the cell that stopped again, and go on.")


_runs: list[Run] = []  # what this kernel has started


def run_upstream() -> None:
    """Make what the notebook reads and what is not there yet; see `Run.run_upstream`."""
    if not _runs:
        raise ParameterError("no run has started in this kernel: run the notebook's first cells")
    _runs[-1].run_upstream()


def start(step: str, profile: str, overrides: dict | None = None, **choices: object) -> Run:
    """Resolve the parameters of `step`, refuse unknown ones and what the profile does not make, and show what runs
    where.

    `choices` are the notebook's further parameters (one model, one train set). A GPU that the profile asks for may be
    missing where nothing is left to make: with every choice "all", which collects (`models.usable` refuses to make what
    is not there), or when the step's only artefact is ready.
    """
    import torch
    from IPython.display import Markdown, display

    _refuse_unknown({"profile", "overrides", *choices})
    run = Run(step, profile, load(profile, overrides), overrides or {}, choices)
    _refuse_unmade(run)
    _runs[:] = [run]
    on_gpu = run.params.runtime.device == "cuda"
    blind = on_gpu and not torch.cuda.is_available()
    if blind and not (run.collects if choices else steps.STEPS[step].compares or run.artefact().ready):
        raise ParameterError(f"params/{profile}.yaml: runtime.device is cuda and no GPU is visible; use PROFILE=cpu")
    torch.set_num_threads(run.params.runtime.threads)
    values = {k: str(v).replace("\n", "\\n") for k, v in steps.settings(step, run.params).items()}  # one line a row
    rows = "\n".join(f"| `{k}` | `{v}` |" for k, v in values.items())
    where = (device() if on_gpu else processor()) + (" · no GPU, so this run only collects" if blind else "")
    chosen = "".join(f" · {k} {v}" for k, v in choices.items())
    cost = timings.sentence(profile, steps.STEPS[step].notebook, run.chosen)
    packages = ", ".join(f"{name} {version}" for name, version in versions().items())
    display(
        Markdown(
            f"**Profile {profile}{chosen}** · {where} · {run.params.runtime.threads} thread(s) · "
            f"Python {platform.python_version()} · {packages}\n\n{cost}.\n\n"
            f"<details><summary>Parameters</summary>\n\n| parameter | value |\n|---|---|\n{rows}\n\n</details>"
        )
    )
    return run


def device() -> str:
    """The machine that computes."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else processor()


def processor() -> str:
    """The kind of processor."""
    return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Version of every package that can move a number."""
    return {name: importlib.metadata.version(name) for name in PACKAGES}


def _refuse_unknown(known: set[str]) -> None:
    """Papermill only warns about a parameter the notebook does not have; we refuse it."""
    try:
        cells = get_ipython().user_ns.get("In", [])
    except NameError:
        return
    for cell in cells:
        if not cell.lstrip().startswith("# Parameters"):
            continue
        for node in ast.parse(cell).body:
            for target in node.targets if isinstance(node, ast.Assign) else []:
                if target.id not in known:
                    raise ParameterError(f"unknown parameter '{target.id}'{nearest(target.id, known)}")


def _refuse_unmade(run: Run) -> None:
    """One line where a choice names no model or train set of the profile."""
    known = {"model": [row.id for row in steps.models(run.params, None)], "train_set": [*run.params.sft.train_sets]}
    for step in steps.STEPS.values():
        for name, choice in step.choices.items() if step.notebook == steps.STEPS[run.step].notebook else ():
            known.setdefault(name, []).append(choice)
    for name, chosen in run.choices.items():
        if name in known and chosen not in ("all", *known[name]):
            hint = nearest(chosen, known[name])
            raise ParameterError(f"{name} {shown(chosen)} is not in profile {run.profile}{hint}")


def environment() -> None:
    """Settings that must be made before torch and the hub libraries load."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_DATASETS_CACHE", str(paths.cache() / "datasets"))
    os.environ.setdefault("DO_NOT_TRACK", "1")
    # bitsandbytes warns that an optional kernel is not fetched from the hub; we do not run code from there
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    # told to those who write the libraries, not to those who read a notebook; the lock pins what they are about
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers|trl|peft|torch")
    warnings.filterwarnings("ignore", message="Could not find a config file in embedded:")


environment()
