"""Before a long run: what is missing, and what the run will take. Seconds, no weights, no money.

A check passes, warns or fails with its remedy; `python -m s2utils preflight a100-7b` ends with 1 if one fails.
Network checks (`access`) run side by side and are given up after `PATIENCE` seconds, so that it also ends offline.
Trap: a busy machine measures as a slow one, and its hours come out longer.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
from huggingface_hub.utils import build_hf_headers
from transformers import AutoConfig

from s2utils.evaluation.judge import judgements, mtbench
from s2utils.preflight import access, host, machine
from s2utils.preflight.access import Check
from s2utils.preflight.estimates import START, Estimate, estimate
from s2utils.workflow import artefacts, notebook, paths, steps, timings
from s2utils.workflow.params import ParameterError, Params, Weights, flat, load, parse_set, points

PATIENCE = 9.0  # seconds for all that asks the network


def configuration(weights: Weights):
    """(transformers configuration or None, where it is from); of a hub model only config.json is fetched."""
    name, revision = weights.path.removeprefix("embedded:"), weights.revision or None
    embeds = weights.path.startswith("embedded:")
    file = (paths.cache() / "models" if embeds else paths.root()) / name / "config.json"
    if embeds and not file.is_file():
        return machine.known(name), "published sizes; the model is not in the cache yet"
    try:
        if not file.is_file():
            file = huggingface_hub.try_to_load_from_cache(name, "config.json", revision=revision)
        if isinstance(file, (str, Path)):
            held = json.loads(Path(file).read_text(encoding="utf-8"))
        else:  # not hf_hub_download, which tries for half a minute
            url, headers = huggingface_hub.hf_hub_url(name, "config.json", revision=revision), build_hf_headers()
            reply = huggingface_hub.get_session().get(url, headers=headers, timeout=5, follow_redirects=True)
            held = reply.raise_for_status().json()
        return AutoConfig.for_model(**held), "its config.json"
    except Exception:  # the check of the repository says what is wrong
        return machine.known(name), "published sizes; its config.json could not be read"


def sizes(params: Params, config, source: str) -> machine.Shape | Check:
    """The base model's sizes, or why there are none."""
    if config is not None:
        try:
            return machine.shape(config, params.model.name, source)
        except Exception as error:  # an architecture without decoder, or none that transformers knows
            source = type(error).__name__
    return Check("warn", "estimates", f"the sizes of {params.model.base.path} are unknown ({source})", access.HUB)


def together(jobs: list[Callable], seconds: float) -> list:
    """What the jobs return, None for those that take longer; nobody waits for them at the end."""
    results: list = [None] * len(jobs)

    def run(i: int) -> None:
        results[i] = jobs[i]()

    threads = [threading.Thread(target=run, args=(i,), daemon=True) for i in range(len(jobs))]
    end = time.monotonic() + seconds
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    return list(results)


def rates(params: Params, model: machine.Shape) -> machine.Machine:
    """Rates of this machine; without the GPU that is asked for, an A100 by its data sheet."""
    import torch

    device, threads = params.runtime.device, params.runtime.threads
    if device == "cuda" and not torch.cuda.is_available():
        return dataclasses.replace(machine.A100, loop=machine.loop())
    return machine.measure(device, threads, model.hidden, model.intermediate)


def swept(estimates: list[Estimate], profile: str, params: Params, overrides: dict | str | None) -> list[Estimate]:
    """Multiply every step by how often a sweep runs it anew; its points share what their values do not reach."""
    changes = parse_set(overrides) if isinstance(overrides, str) else overrides or {}
    spans = {profile, *points(profile, params)}
    for e in estimates:
        step = steps.shown(e.step)
        names = steps.names(step, params)
        runs = {(steps.home(step, point, changes, name), name) for point in spans for name in names}
        times = len(runs) / len(names)
        if times > 1:
            e.parts = [(rule, s * times, f"{formula} × {times:.2g} for the sweep") for rule, s, formula in e.parts]
            e.rules = {rule: round(n * times) for rule, n in e.rules.items()}
            e.disk, e.dollars = e.disk * times, e.dollars * times
    return estimates


def budgets(estimates: list[Estimate]) -> list[Check]:
    """What asking servers will cost against the budget of a job."""
    checks = []
    for who, endpoint, dollars in (asked for e in estimates for asked in e.asked):
        text = f"{dollars:.2f} dollars a job, " + (
            f"budget {endpoint.budget:g}" if endpoint.budget else "no budget set"
        )
        over = dollars > endpoint.budget > 0
        remedy = "raise its budget, or take fewer records" if over else ""
        checks.append(Check("fail" if over else "pass", f"{who} budget", text, remedy))
    return checks


def collect(profile: str, overrides: dict | str | None = None) -> dict:
    """{checks, estimates, machine, model} of a profile; checks only where its parameters do not load."""
    notebook.environment()
    try:
        params = load(profile, overrides)
    except ParameterError as error:
        return {"checks": [Check("fail", "parameters", str(error), "correct params/ or --set")], "estimates": []}
    changed = f"params/{profile}.yaml" + (", changed by --set" if overrides else "")
    checks = [Check("pass", "parameters", changed), *host.packages()]
    asks, near, downloads = access.remote(params)
    jobs = [lambda: configuration(params.model.base), *(job for _, job in asks)]
    answers: list = []
    asking = threading.Thread(target=lambda: answers.extend(together(jobs, PATIENCE)), daemon=True)
    asking.start()  # the checks of this machine go on meanwhile
    checks += [host.gpu()] if params.runtime.device == "cuda" else []
    checks += [host.kernels(params.runtime.device)] if checks[-1].what != "GPU" or checks[-1].state == "pass" else []
    stored, lacking = access.archives(flat(params))
    checks += [*stored, *near]
    bench = params.mtbench
    files = {
        "mtbench.questions": lambda: mtbench.questions(bench, params.seed),
        "mtbench.prompts": lambda: mtbench.templates_of(bench),
    }
    for judge in (j for j in (bench.judge, *bench.other_judges) if j.backend == "file"):
        files[f"ratings {judge.model}"] = functools.partial(judgements.humans, paths.root() / judge.model)
    for what, look in files.items():
        try:
            look()
        except ParameterError as error:
            checks.append(Check("fail", what, str(error), "correct the file or its name"))
    asking.join()
    for (what, _), answer in zip(asks, answers[1:]):
        checks.append(answer or Check("fail", what, f"no answer in {PATIENCE:.0f} s", access.HUB))
    known = machine.known(params.model.base.path), "published sizes; the hub did not answer in time"
    model = sizes(params, *(answers[0] or known))
    if isinstance(model, Check):
        return {"checks": [*checks, model], "estimates": []}
    measured = rates(params, model)
    estimates = swept(estimate(params, model, measured), profile, params, overrides)
    checks += host.memory(params, estimates)
    checks += host.space(profile, estimates, downloads, model.total, lacking)
    checks += budgets(estimates)
    return {"checks": checks, "estimates": estimates, "machine": measured, "model": model, "dtype": params.model.dtype}


def faster(m: machine.Machine, dtype: str) -> str:
    """Which of bfloat16 and float32 this machine multiplies faster, by how much, and what to set."""
    rates = {"bfloat16": m.bf16, "float32": m.f32}
    best, other = sorted(rates, key=rates.get, reverse=True)
    times = f"{rates[best] / rates[other]:.1f} times as fast here"
    measured = ", ".join(f"{name} {rate / 1e9:,.0f}" for name, rate in rates.items()) + " GFLOP/s"
    if dtype == best:
        return f"{best}, which the profile computes in, is {times} as {other} ({measured})"
    return (
        f"{best} is {times} as {dtype}, which the profile computes in ({measured}): "
        f"SET='model.dtype={best}' takes it, and moves last digits"
    )


def plan(profile: str, result: dict) -> dict:
    """What the run will take, for those that show it: {rules, promised, said, smaller}.

    rules: rule of the graph → [its notebook, jobs, seconds of one]; promised: minutes on two cores by the README, None
    where it says nothing; said: sentences; smaller: what to set for a shorter run, the greatest share first.
    """
    rules = {r: [e.step, n, round(s, 1)] for e in result["estimates"] for r, (n, s) in e.each.items()}
    rules["report"] = ["", 1, START["report"] * result["machine"].loop / machine.REFERENCE.loop]
    slowest = sorted((e for e in result["estimates"] if e.step in SMALLER), key=lambda e: -e.seconds)
    return {
        "rules": rules,
        "promised": PROMISED.get(profile.partition("@")[0]),
        "said": [faster(result["machine"], result["dtype"])],
        "smaller": [f"{e.step} ({timings.shown(e.seconds)}): {SMALLER[e.step]}" for e in slowest[:3]],
    }


PROMISED = {"cpu": 15, "smoke": 6}  # minutes of `make reproduce` on two cores, as the README has them
SMALLER = {  # notebook → what makes it shorter
    "02_datasets": "data.train_max, fewer questions to write",
    "03_sft": "sft.max_steps, or fewer sft.train_sets",
    "04_generate": "generate.n, generate.max_new_tokens, or fewer merge.modes",
    "06_leaderboard": "leaderboard.limit.arc and .hellaswag, leaderboard.mmlu_subjects",
    "07_mtbench": "mtbench.n, mtbench.max_new_tokens, mtbench.panel.questions=0",
}
HEAD = ("step", "jobs", "hours", "GPU-h", "GB, one job", "host GB", "disk GB", "dollars")


def show(result: dict) -> str:
    """The two tables as text."""
    wide, lines = max(len(c.what) for c in result["checks"]), []
    for c, after in itertools.zip_longest(result["checks"], result["checks"][1:]):
        lines.append(f"{c.state}  {c.what:<{wide}}  {c.found}")
        if c.remedy and not (after and after.remedy == c.remedy):  # once for neighbours that share it
            lines.append(f"{'':<{wide + 6}}  → {c.remedy}")
    if result["estimates"]:
        m, r = result["model"], result["machine"]
        lines += [
            f"\nEstimates for {m.name}, {m.total:,} parameters N ({m.source}), on {r.device} ({r.what}: "
            f"{r.bf16 / 1e9:,.0f} GFLOP/s bf16, {r.f32 / 1e9:,.0f} f32, {r.copy / 1e9:,.0f} GB/s, "
            f"{r.fresh / 1e9:,.1f} GB/s into new memory); {faster(r, result['dtype'])}\n",
            *table(result["estimates"], on_gpu=r.device == "cuda"),
            "\nHours are of all jobs one after another. How they come about (docs/preflight.md):",
        ]
        for e in result["estimates"]:
            lines += [f"{e.step}  GB: {' + '.join(e.sizes)}"] + [
                f"{s:>12,.0f} s  {formula}" for _, s, formula in e.parts
            ]
    counts = ", ".join(f"{sum(c.state == s for c in result['checks'])} {s}" for s in ("pass", "warn", "fail"))
    return "\n".join([*lines, "", counts])


def table(estimates: list[Estimate], on_gpu: bool) -> list[str]:
    """One line a step and one for all: sums of jobs, hours, disk and dollars, the largest of the memories."""
    rows = []
    for e in estimates:
        hours = e.seconds / 3600
        rows.append((e.jobs, hours, hours * on_gpu, e.memory / 1e9, e.host / 1e9, e.disk / 1e9, e.dollars))
    rows.append(tuple(rule(column) for rule, column in zip((sum, sum, sum, max, max, sum, sum), zip(*rows))))
    lines = [f"{HEAD[0]:<16}" + "".join(f"{name:>13}" for name in HEAD[1:])]
    for name, (jobs, *numbers) in zip([*(e.step for e in estimates), "all"], rows):
        lines.append(f"{name:<16}{jobs:>13}" + "".join(f"{n:>13.2f}" for n in numbers))
    return lines


def preflight(profile: str, overrides: str = "", as_json: bool = False) -> int:
    """Print the tables; 1 if a check fails."""
    result = collect(profile, overrides)
    if result["estimates"]:  # what notebooks then say of themselves, and the terminal of the run
        file = paths.artefacts(profile) / "preflight" / timings.ESTIMATES
        artefacts.write_json(file, plan(profile, result))
    plain = {
        k: [_plain(v) for v in part] if isinstance(part, list) else _plain(part)
        for k, part in result.items()
        if k != "dtype"
    }
    print(json.dumps(plain, indent=1, ensure_ascii=False) if as_json else show(result))
    return int(any(c.state == "fail" for c in result["checks"]))


def _plain(value: object) -> dict:
    """A row as plain values, with the sums that it computes."""
    rows = dataclasses.asdict(value)
    rows.pop("asked", None)
    return rows | ({"seconds": value.seconds, "host": value.host} if isinstance(value, Estimate) else {})
