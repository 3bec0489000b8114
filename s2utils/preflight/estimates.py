"""What a run will take: hours, memory and disk of every step, from shapes and a measured machine.

Nothing is loaded. Every estimate carries its formula with the numbers put in (docs/preflight.md explains them).
Times are seconds, sizes bytes. Rates are measured (`machine.measure`), what they cannot know is in `assumptions`. The
shares of the CPU were set on a recorded run of the cpu profile (LOG.md), so there an estimate lies within 30 %; those
of the GPU are from published figures, and no GPU has tested them.
Trap: a sweep runs a step anew only where its values reach it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from s2utils.models.parameters import Endpoint
from s2utils.preflight import assumptions as assumed
from s2utils.preflight import formulas
from s2utils.preflight.machine import Costs, Machine, Shape
from s2utils.workflow import steps
from s2utils.workflow.params import Params, parse_set, points


@dataclass
class Estimate:
    """One notebook: all its jobs one after another, peak bytes of the largest job, bytes it leaves on disk."""

    step: str
    rules: dict[str, int]  # rule of the graph → its jobs
    memory: float = 0.0
    disk: float = 0.0
    dollars: float = 0.0
    asked: list[tuple[str, Endpoint, float]] = field(default_factory=list)  # (who, endpoint, dollars of one job)
    parts: list[tuple[str, float, str]] = field(default_factory=list)  # (rule, seconds of all its jobs, formula)
    sizes: list[str] = field(default_factory=list)  # formulas of memory and disk
    host: float = 0.0  # bytes beside the GPU; without one all memory is the host's

    @property
    def seconds(self) -> float:
        """Sum of the parts."""
        return sum(seconds for _, seconds, _ in self.parts)

    @property
    def jobs(self) -> int:
        """All jobs."""
        return sum(self.rules.values())

    @property
    def each(self) -> dict[str, tuple[int, float]]:
        """Rule → (jobs, seconds of one of them); they are taken to be alike."""
        return {rule: (n, sum(s for r, s, _ in self.parts if r == rule) / n) for rule, n in self.rules.items() if n}

    def takes(self, rule: str, *factors: tuple[float, str]) -> None:
        """Add what all jobs of a rule take for one thing: seconds are the product of the factors (number, words)."""
        formula = " × ".join(f"{format(n, ',.0f' if n >= 10 else '.3g')} {words}" for n, words in factors)
        self.parts.append((rule, math.prod(number for number, _ in factors), formula))

    def holds(self, size: float, formula: str) -> None:
        """Add what the largest job holds in memory."""
        self.memory += size
        self.sizes.append(f"{formula}: {size / 1e9:.2f}")


class Texts(NamedTuple):
    """What is known of a source."""

    rows: int
    kept: int  # rows left for fine-tuning
    answer: int  # mean characters
    question: int
    known: bool


def texts(params: Params) -> dict[str, Texts]:
    """What is known of each source, cut to what the parameters read and keep."""
    cut, data = {}, params.data
    for name, source in data.sources.items():
        full, kept, *lengths = assumed.TEXTS.get(source.path, assumed.UNKNOWN)
        rows = min(full, source.max_records or full)
        kept = kept * rows // full
        if data.train_max:  # a fifth more than needed is kept, as 02_datasets does
            kept = min(kept, (data.train_max + data.validation[name] + data.test[name]) * 6 // 5)
        cut[name] = Texts(rows, kept, *lengths, known=source.path in assumed.TEXTS)
    return cut


def jobs(rule: str, params: Params) -> int:
    """How many jobs the graph has of a rule; one whose name ends in `_one` has one for each artefact of its step."""
    step = steps.STEPS[rule.removesuffix("_one")]
    if not rule.endswith("_one"):
        return 1
    made = len(steps.collected(step.name, params))
    if made < step.jobs_from:  # the notebook makes them itself
        return 0
    return len(params.sft.train_sets) if step.together else made


def estimate(params: Params, model: Shape, machine: Machine, beside: Sequence[Shape] = ()) -> list[Estimate]:
    """One estimate a notebook, in the order of the study; `beside` are sizes of models beside the study's."""
    c, known, rules = Costs(params, model, machine, beside), texts(params), defaultdict(dict)
    process, estimates = assumed.PROCESS[machine.device], []
    for rule in assumed.RULES:
        if n := jobs(rule, params):
            rules[steps.STEPS[rule.removesuffix("_one")].notebook][rule] = n
    for notebook, take in formulas.NOTEBOOKS.items():
        e = Estimate(notebook, rules[notebook], memory=process, sizes=[f"process {process / 1e9:.1f}"])
        take(c, known, e)
        for rule, n in e.rules.items():
            e.takes(rule, (n, f"jobs {rule}"), (assumed.RULES[rule] * c.python, "s to start and end"))
        loaded = 2 * assumed.PROCESS["cpu"] + model.total * c.width * (e.jobs > 1)
        e.host = e.memory if machine.device == "cpu" else loaded
        estimates.append(e)
    return estimates


def swept(estimates: list[Estimate], profile: str, params: Params, overrides: dict | str | None) -> list[Estimate]:
    """Multiply every step by how often a sweep runs it anew; its points share what their values do not reach."""
    changes = parse_set(overrides) if isinstance(overrides, str) else overrides or {}
    spans = {profile, *points(profile, params)}
    for e in estimates:
        step = steps.shown(e.step)
        names = steps.names(step, params)
        times = len({(steps.home(step, point, changes, n), n) for point in spans for n in names}) / len(names)
        if times > 1:
            e.parts = [(rule, s * times, f"{formula} × {times:.2g} for the sweep") for rule, s, formula in e.parts]
            e.rules = {rule: round(n * times) for rule, n in e.rules.items()}
            e.disk, e.dollars = e.disk * times, e.dollars * times
    return estimates
