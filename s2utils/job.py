"""Make one artefact of the graph in a terminal, without a notebook: what has no page of its own to show.

    python -m s2utils make merged cpu SmolLM2-135M-sciq.bf16 SmolLM2-135M-sciq.dequantized
    python -m s2utils make judged cpu

A notebook calls the same functions, and finds what was made here.
"""

from __future__ import annotations

from s2utils.workflow import steps
from s2utils.workflow.notebook import Run
from s2utils.workflow.params import ParameterError, load, nearest, parse_set

STEPS = ("filtered", "merged", "membership", "judged")


def make(step: str, run: Run, name: str) -> None:
    """The artefact that `step` makes for `name` (a shard, a model; "" where it makes one), unless it is there."""
    if step == "filtered":
        from s2utils.data import shards

        shards.make(run.params, run.profile, int(name))
        return
    import torch

    torch.set_num_threads(run.params.runtime.threads)
    if step == "merged":
        from s2utils.training import merging

        merging.make(run, steps.model(run.params, name))
    elif step == "membership":
        from s2utils.evaluation import membership_inference

        membership_inference.make(run)
    elif step == "judged":
        from s2utils.evaluation.judge import judge_run

        judge_run.make(run)


def run(step: str, profile: str, wanted: list[str], overrides: str = "") -> None:
    """Make what is `wanted` of a step, [] where it makes one thing; ParameterError where it has no such thing."""
    if step not in STEPS:
        raise ParameterError(f"no job makes '{step}'{nearest(step, STEPS)}")
    changes = parse_set(overrides)
    params = load(profile, changes)
    known = steps.names(step, params)
    for name in wanted or [""]:
        if name not in known:
            raise ParameterError(f"{step} has no '{name}'; it has {', '.join(known) or 'nothing'}")
    for name in wanted or [""]:
        make(step, Run(step, profile, params, changes), name)
