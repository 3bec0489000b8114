"""What the rules of the Snakefile are made of: files, dependencies, needs and command of every declared step.

`{profile}` and the other wildcards are Snakemake's: a point of a sweep is a profile too (cpu@sft.seed=2), and shares
with the others what is the same. Commands are texts that Snakemake formats; it quotes what ends in `:q`.
"""

from __future__ import annotations

import functools
import json
import shlex
from collections.abc import Callable, Iterator

from s2utils.workflow import code, steps
from s2utils.workflow.declared import Step
from s2utils.workflow.params import Params, flat, load, parse_set, points

FOLDER = "artefacts/{profile}"


def mark(profile: str, step: str, name: str = "") -> str:
    """The file that says that an artefact is made, or the table of all."""
    return "/".join(filter(None, ("artefacts", profile, step, name, ".done")))


class Rules:
    """The rules of one profile under the overrides `changes`, a text as SET= of make."""

    def __init__(self, profile: str, changes: str = "") -> None:
        self.profile, self.set, self.changes = profile, changes, parse_set(changes)
        self.of: Callable[[str], Params] = functools.cache(lambda name: load(name, self.changes))  # a point's too
        self.params = self.of(profile)
        self.points = points(profile, self.params)
        self.gpu = self.params.runtime.device == "cuda"
        self.values = functools.cache(self._values)

    # what a job reads, and what makes it run again

    def done(self, step: str, profile: str, name: str = "") -> str:
        """Its `mark`; points of a sweep share what is alike."""
        return mark(steps.home(step, profile, self.changes, name), step, name)

    def inputs(self, step: Step, collecting: bool) -> Callable[..., list[str]]:
        """Files that a job reads; a run that readers see (`collecting`) also reads all that it shows or compares."""

        def files(wildcards) -> list[str]:
            profile, found = wildcards.profile, []
            if collecting and step.each:
                found += self._all(step.name, profile)
            else:
                for name in self._made(step, wildcards):
                    found += self._read(step, profile, name)
            if collecting:
                found += [file for other in step.shows for file in self._all(other, profile)]
                found += [self.done(other, point) for point in self.points for other in step.compares]
            return list(dict.fromkeys(found))

        return files

    def _made(self, step: Step, wildcards) -> list[str]:
        """Names of the artefacts that a job makes."""
        return steps.chosen(step.name, self.of(wildcards.profile), [wildcards[step.wildcard]]) if step.each else [""]

    def _all(self, step: str, profile: str) -> list[str]:
        return [self.done(step, profile, name) for name in steps.collected(step, self.of(profile))]

    def _read(self, step: Step, profile: str, name: str) -> Iterator[str]:
        """What is too little for jobs of its own the reader makes itself, once for all points of a sweep."""
        params = self.of(profile)
        for other, part in steps.upstream(step.name, params, name):
            if len(steps.names(other, params)) >= steps.STEPS[other].jobs_from:
                yield self.done(other, profile, part)
            elif (home := steps.home(other, profile, self.changes, part)) != profile:
                yield mark(home, step.name)

    def settings(self, step: Step, collecting: bool) -> list[Callable[..., str]]:
        """What a job depends on, as flat text: a change reruns it, and Snakemake prints what changed."""

        def value(key: str) -> Callable[..., str]:
            return lambda wildcards: f"{key}={self.values(step.name, wildcards.profile, collecting).get(key)}"

        def models(wildcards) -> list[str]:
            params = self.of(wildcards.profile)
            return [str(steps.made_as(params, steps.model(params, name))) for name in self._made(step, wildcards)]

        found = [value(key) for key in self.values(step.name, self.profile, collecting)]
        return [*found, models] if step.each in ("model", "weights") and not collecting else found

    def _values(self, step: str, profile: str, collecting: bool) -> dict[str, object]:
        params = self.of(profile)
        values = steps.settings(step, params) | {"code": steps.code_digest(step)}
        if collecting:  # the run that readers see: its tables and figures
            values |= steps.settings("text_metrics", params)
            values |= {"notebook": code.notebook_digest(steps.STEPS[step].notebook)}
            values |= {"published": code.files_digest("reports/published/**/*.csv")}
        return values

    # what a job makes and takes

    def outputs(self, step: Step) -> list[str]:
        """Files that say that what one job makes is made."""
        names = [f"{{{step.wildcard}}}" if step.each else ""]
        if step.together:
            names = steps.names(step.name, self.params, train_sets=["{train_set}"])
        return [mark("{profile}", step.name, name) for name in names]

    def needs(self, step: Step) -> dict[str, object]:
        """Memory, time and GPU; {} where a job takes no more than any."""
        if not step.cpu_mb:
            return {}
        backends = [v for k, v in flat(self.params).items() if k.startswith(step.endpoints) and k.endswith(".backend")]
        gpu = step.gpu and (not step.endpoints or "local" in backends)
        return self.limits(step.cpu_mb, step.gpu_mb, step.gpu_minutes * len(self.outputs(step)), gpu)

    def limits(self, cpu_mb: int, gpu_mb: int, gpu_minutes: int, gpu: bool = True) -> dict[str, object]:
        """What a job may take: an hour on the cpu profiles, on a GPU enough for 13B; a retry may take as much again.

        Weights of 13 billion parameters (26 GB) pass through memory when they are loaded whole, merged or saved.
        """
        mb, minutes = (gpu_mb, gpu_minutes) if self.gpu else (cpu_mb, 60)
        return {
            "gpu": int(gpu and self.gpu),
            "mem_mb": lambda wildcards, attempt: attempt * mb,
            "runtime": lambda wildcards, attempt: attempt * minutes,
        }

    # how it is made

    def log(self, step: Step, run: str) -> dict[str, str]:
        """Where a job writes: the executed notebook, and what it said."""
        executed = {} if step.made_by and run == step.run else {"notebook": f"{FOLDER}/notebooks/{run}.ipynb"}
        return executed | {"text": f"{FOLDER}/notebooks/{run}.log"}

    def command(self, step: Step) -> str:
        """Command line that makes what one job makes, and marks it as done if it succeeds."""
        name = f"{{wildcards.{step.wildcard}:q}}" if step.each else ""
        if step.made_by:
            changes = quoted(self.set)
            return self.logged(f"python -m s2utils make {step.name} {{wildcards.profile:q}} {name} --set {changes}")
        return self.papermill(step.notebook, step.choices or ({step.wildcard: name} if step.each else {}))

    def papermill(self, notebook: str, choices: dict[str, str]) -> str:
        """Command line that runs a notebook. Choices reach it as texts (-r): -p makes a set called 12 a number."""
        given = "".join(f" -r {k} {v}" for k, v in choices.items())
        changes = " -y " + quoted(json.dumps({"overrides": self.changes})) if self.changes else ""
        return self.logged(
            "python -m s2utils notebook --cwd . --progress-bar --kernel python3 "
            f"-r profile {{wildcards.profile:q}}{given}{changes} notebooks/{notebook}.ipynb {{log.notebook:q}}",
            written="{log.text:q} {log.notebook:q}",
        )

    def logged(self, call: str, written: str = "{log.text:q}", failed: str = "tail -n 40 {log.text:q}") -> str:
        """`call` with its output and its bars in the log, whose end `failed` shows; no secret stays in what it wrote.

        `s2utils.workflow.terminal` shows that end itself, above the lines that move.
        """
        secret = {v for k, v in flat(self.params).items() if k.endswith(".key_env") and v}  # variables that hold keys
        names = ",".join(sorted({"HF_TOKEN"} | secret))
        return (
            f": > {{log.text:q}}; S2_LOG={{log.text:q}} {call} >> {{log.text:q}} 2>&1 && ended=0 || ended=1; "
            f"python -m s2utils redact --names {names} {written}; "
            f'[ $ended = 0 ] || {{{{ [ -n "${{{{S2_TERMINAL:-}}}}" ] || {failed} >&2; exit 1; }}}}; touch {{output:q}}'
        )


def quoted(text: str) -> str:
    """`text` as one word of a command that Snakemake formats."""
    return shlex.quote(text).replace("{", "{{").replace("}", "}}")
