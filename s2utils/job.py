"""Make what one step makes, for some of its names or for all, in a terminal and without a notebook.

    python -m s2utils make merged cpu SmolLM2-135M-sciq.bf16 SmolLM2-135M-sciq.dequantized
    python -m s2utils make merged cpu sciq        all merges of a train set
    python -m s2utils make judged cpu

The step names the function that makes it (`made_by` in its notebook's metadata). The notebook calls the same one, and
finds what was made here.
"""

from __future__ import annotations

import importlib

from s2utils.workflow import steps
from s2utils.workflow.notebook import Run
from s2utils.workflow.params import ParameterError, Params, load, nearest, parse_set


def make(run: Run, names: list[str]) -> None:
    """The artefacts that the run's step makes for `names` ([""] where it makes one), unless they are there."""
    step = steps.STEPS[run.step]
    if step.gpu:
        import torch

        torch.set_num_threads(run.params.runtime.threads)
    module, _, function = step.made_by.partition(":")
    maker = getattr(importlib.import_module(f"s2utils.{module}"), function)
    for name in names:
        maker(run, *([name] if step.each else []))


def names_of(step: str, profile: str, params: Params, choices: list[str]) -> list[str]:
    """What `step` makes for `choices` (names, train sets; none: all); ParameterError where no function makes that."""
    known = [name for name, declared in steps.STEPS.items() if declared.made_by]
    if step not in steps.STEPS:
        raise ParameterError(f"there is no step '{step}'{nearest(step, known)}")
    if step not in known:
        raise ParameterError(f"{step} is made by its notebook: make {steps.STEPS[step].notebook} PROFILE={profile}")
    names = steps.names(step, params)
    for choice in choices:
        if not steps.chosen(step, params, [choice]):
            has = ", ".join(filter(None, names)) or "one artefact, without a name"
            raise ParameterError(f"{step} has no '{choice}'; it has {has}")
    return steps.chosen(step, params, choices) if choices else names


def run(step: str, profile: str, choices: list[str], overrides: str = "") -> None:
    """Make what `step` makes for `choices`, all where there are none."""
    changes = parse_set(overrides)
    params = load(profile, changes)
    names = names_of(step, profile, params, choices)
    make(Run(step, profile, params, changes), names)
