"""Make one artefact of the graph in a terminal, without a notebook: what has no page of its own to show.

    python -m s2utils.job merged cpu SmolLM2-135M-sciq.bf16 SmolLM2-135M-sciq.dequantized
    python -m s2utils.job judged cpu

A notebook calls the same functions, and finds what was made here.
"""

from __future__ import annotations

import argparse
import sys

from s2utils.workflow import steps
from s2utils.workflow.errors import UserError
from s2utils.workflow.notebook import Run
from s2utils.workflow.params import ParameterError, load, parse_set

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


def main(arguments: list[str] | None = None) -> int:
    """Make it; with the remedy on the error stream 2 where the parameters cannot be used, 1 where it fails."""
    parser = argparse.ArgumentParser(prog="python -m s2utils.job", description=__doc__.split("\n")[0])
    parser.add_argument("step", choices=STEPS)
    parser.add_argument("profile")
    parser.add_argument("name", nargs="*", help="a shard's number, or ids of fine-tunes under a merge")
    parser.add_argument("--set", default="", help="overrides, as SET= of make")
    chosen = parser.parse_args(arguments)
    try:
        changes = parse_set(chosen.set)
        params = load(chosen.profile, changes)
        known, names = steps.names(chosen.step, params), chosen.name or [""]
        for name in names:
            if name not in known:
                parser.error(f"{chosen.step} has no '{name}'; it has {', '.join(known) or 'nothing'}")
        for name in names:
            make(chosen.step, Run(chosen.step, chosen.profile, params, changes), name)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, ParameterError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
