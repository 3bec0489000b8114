"""Before a long run: what is missing, and what the run will take. Seconds, no weights, no money.

A check passes, warns or fails with its remedy; `python -m s2utils preflight a100-7b` ends with 1 if one fails.
Network checks (`access`) run side by side and are given up after `PATIENCE` seconds, so that it also ends offline.
Trap: a busy machine measures as a slow one, and its hours come out longer.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.pool import ThreadPool
from pathlib import Path

import huggingface_hub
import pandas as pd
from huggingface_hub.utils import build_hf_headers
from transformers import AutoConfig

from s2utils.evaluation.judge import judgements, mtbench
from s2utils.models.parameters import Weights
from s2utils.preflight import access, assumptions, host, machine
from s2utils.preflight.estimates import Estimate, estimate, swept
from s2utils.preflight.finding import Check, Finding, Row, enough, examined
from s2utils.workflow import artefacts, notebook, paths, steps, timings
from s2utils.workflow.params import ParameterError, Params, flat, load

PATIENCE = 9.0  # seconds for all that asks the network
PROMISED = {"cpu": 25, "smoke": 7}  # minutes of `make reproduce` on two cores, as the README has them
SMALLER = {  # notebook → what makes it shorter
    "02_datasets": "data.train_max, fewer questions to write",
    "03_sft": "sft.max_steps, or fewer sft.train_sets",
    "04_generate": "generate.n, generate.max_new_tokens, or fewer merge.modes",
    "06_leaderboard": "leaderboard.limit.arc and .hellaswag, leaderboard.mmlu_subjects",
    "07_mtbench": "mtbench.n, mtbench.max_new_tokens, mtbench.panel.questions=0",
    "09_corpus": "corpus.components.<name>.max_documents",
    "10_fit": "fit.documents, fit.max_characters, ladder.bytes, ladder.ablation.bytes",
    "11_attention": "attention_heads.steps, attention_windows.tokens, architecture.bytes, or fewer architecture.seeds",
    "12_experts": "mixtures.bytes, fewer mixtures.seeds, passkey.lengths, passkey.n",
}


def configuration(weights: Weights):
    """Transformers configuration of a model, of the hub config.json alone; raises whatever reading it raises."""
    name, revision = weights.path.removeprefix("embedded:"), weights.revision or None
    embeds = weights.path.startswith("embedded:")
    file = (paths.cache() / "models" if embeds else paths.root()) / name / "config.json"
    if not (embeds or file.is_file()):
        file = huggingface_hub.try_to_load_from_cache(name, "config.json", revision=revision)
    if isinstance(file, (str, Path)):
        return AutoConfig.for_model(**json.loads(Path(file).read_text(encoding="utf-8")))
    # not hf_hub_download, which tries for half a minute
    url, headers = huggingface_hub.hf_hub_url(name, "config.json", revision=revision), build_hf_headers()
    reply = huggingface_hub.get_session().get(url, headers=headers, timeout=5, follow_redirects=True)
    return AutoConfig.for_model(**reply.raise_for_status().json())


def sizes(name: str, path: str, config) -> machine.Shape:
    """A model's sizes, without a configuration those that are published; a Finding why there are none."""
    unread = "its config.json could not be read"
    source = "its config.json" if config else f"published sizes; {unread}"
    try:
        return machine.shape(config or machine.known(path), name, source)
    except Exception as error:  # no sizes, or an architecture without decoder, or none that transformers knows
        why = type(error).__name__ if config else unread
        raise Finding(f"the sizes of {path} are unknown ({why})", access.HUB, "warn") from None


def beside(params: Params, configs: list, model: machine.Shape) -> tuple[list[machine.Shape], list[Check]]:
    """(sizes of models beside the study's, the base's where none are known; what warns of that)."""
    shapes, warnings = [], []
    for (name, weights), config in zip(steps.beside(params).items(), configs):
        try:
            shapes.append(sizes(name, weights.path, config))
        except Finding as finding:
            shapes.append(dataclasses.replace(model, name=name))
            said = f"{finding}: counted as large as {model.name}"
            warnings.append(Check("warn", f"sizes of {name}", said, access.HUB))
    return shapes, warnings


def together(jobs: list[Callable], seconds: float) -> Callable[[], list]:
    """Start all jobs; returns what waits for their results, None for those that fail or take longer: they are left."""
    pool, end = ThreadPool(len(jobs)), time.monotonic() + seconds  # its threads die with the program
    pending = [pool.apply_async(job) for job in jobs]

    def wait() -> list:
        for result in pending:
            result.wait(max(0.0, end - time.monotonic()))
        return [result.get() if result.ready() and result.successful() else None for result in pending]

    return wait


def rates(params: Params, model: machine.Shape) -> machine.Machine:
    """Rates of this machine; without the GPU that is asked for, an A100 by its data sheet."""
    import torch

    device, threads = params.runtime.device, params.runtime.threads
    if device == "cuda" and not torch.cuda.is_available():
        return dataclasses.replace(machine.A100, loop=machine.loop())
    return machine.measure(device, threads, model.hidden, model.intermediate)


def inputs(params: Params) -> list[Row]:
    """Files of MT(S)-bench that may be of no use: questions, prompts, ratings."""
    bench = params.mtbench
    reads = {
        "mtbench.questions": partial(mtbench.questions, bench, params.seed),
        "mtbench.prompts": partial(mtbench.templates_of, bench),
    }
    for judge in (bench.judge, *bench.other_judges):
        if judge.backend == "file":
            reads[f"ratings {judge.model}"] = partial(judgements.humans, paths.root() / judge.model)
    return [Row(what, read, "correct the file or its name") for what, read in reads.items()]


def budgets(estimates: list[Estimate]) -> list[Row]:
    """What asking servers will cost against the budget of a job."""
    rows, remedy = [], "raise its budget, or take fewer records"
    for who, endpoint, dollars in itertools.chain.from_iterable(e.asked for e in estimates):
        most = endpoint.budget or math.inf
        text = f"{dollars:.2f} dollars a job, {f'budget {most:g}' if endpoint.budget else 'no budget set'}"
        rows.append(Row(f"{who} budget", partial(enough, text, dollars, most, most), remedy))
    return rows


def collect(profile: str, overrides: dict | str | None = None) -> dict:
    """{checks, estimates, machine, model, dtype} of a profile; checks alone where its parameters do not load."""
    notebook.environment()
    try:
        params = load(profile, overrides)
    except ParameterError as error:
        return {"checks": [Check("fail", "parameters", str(error), "correct params/ or --set")], "estimates": []}
    device, base, others = params.runtime.device, params.model.base, steps.beside(params)
    reach = access.reach(params)
    configurations = [partial(configuration, weights) for weights in (base, *others.values())]
    answers = together([*configurations, *(partial(examined, row) for row in reach.asks)], PATIENCE)
    loaded = f"params/{profile}.yaml" + (", changed by --set" if overrides else "")
    rows = [Row("parameters", lambda: loaded), Row("packages", host.packages)]
    checks = list(map(examined, [*rows, *([Row("GPU", host.gpu)] if device == "cuda" else [])]))
    kernels = [] if checks[2:] and checks[2].state == "fail" else [Row("4-bit kernels", partial(host.kernels, device))]
    stored, lacking = access.archives(flat(params))  # the checks of this machine go on while the network is asked
    checks += map(examined, [*kernels, *stored, *reach.files])
    checks += (check for check in map(examined, inputs(params)) if check.state == "fail")
    config, *replies = answers()
    configs, replies = replies[: len(others)], replies[len(others) :]
    silent = f"no answer in {PATIENCE:.0f} s"
    checks += (reply or Check("fail", row.what, silent, access.HUB) for row, reply in zip(reach.asks, replies))
    try:
        model = sizes(params.model.name, base.path, config)
    except Finding as finding:
        return {"checks": [*checks, Check("warn", "estimates", str(finding), access.HUB)], "estimates": []}
    measured, (shapes, unknown) = rates(params, model), beside(params, configs, model)
    estimates = swept(estimate(params, model, measured, shapes), profile, params, overrides)
    weigh = {weights.path: shape.total for weights, shape in zip(others.values(), shapes)}
    needs = host.space(profile, estimates, reach.downloads, model.total, len(lacking), weigh)
    checks += unknown
    checks += map(examined, [*host.memory(device, estimates), *needs, *budgets(estimates)])
    return {"checks": checks, "estimates": estimates, "machine": measured, "model": model, "dtype": params.model.dtype}


def faster(m: machine.Machine, dtype: str) -> str:
    """Which of bfloat16 and float32 this machine multiplies faster, by how much, and what to set."""
    rates = {"bfloat16": m.bf16, "float32": m.f32}
    best, other = sorted(rates, key=rates.get, reverse=True)
    times = f"{rates[best] / rates[other]:.1f} times as fast here"
    measured = ", ".join(f"{name} {rate / 1e9:,.0f}" for name, rate in rates.items()) + " GFLOP/s"
    if dtype == best:
        return f"{best}, which the profile computes in, is {times} as {other} ({measured})"
    said = f"{best} is {times} as {dtype}, which the profile computes in ({measured})"
    return f"{said}: SET='model.dtype={best}' takes it, and moves last digits"


def plan(profile: str, result: dict) -> dict:
    """What the run will take, for those that show it: {rules, promised, said, smaller}.

    rules: rule of the graph → [its notebook, jobs, seconds of one]; promised: minutes on two cores by the README, None
    where it says nothing; said: sentences; smaller: what to set for a shorter run, the greatest share first.
    """
    rules = {r: [e.step, n, round(s, 1)] for e in result["estimates"] for r, (n, s) in e.each.items()}
    rules["report"] = ["", 1, assumptions.REPORT * result["machine"].loop / machine.REFERENCE.loop]
    slowest = sorted((e for e in result["estimates"] if e.step in SMALLER), key=lambda e: -e.seconds)
    return {
        "rules": rules,
        "promised": PROMISED.get(profile.partition("@")[0]),
        "said": [faster(result["machine"], result["dtype"])],
        "smaller": [f"{e.step} ({timings.shown(e.seconds)}): {SMALLER[e.step]}" for e in slowest[:3]],
    }


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
            table(result["estimates"], on_gpu=r.device == "cuda"),
            "\nHours are of all jobs one after another. How they come about (docs/preflight.md):",
        ]
    for e in result["estimates"]:
        lines.append(f"{e.step}  GB: {' + '.join(e.sizes)}")
        lines += [f"{s:>12,.0f} s  {formula}" for _, s, formula in e.parts]
    counts = ", ".join(f"{sum(c.state == s for c in result['checks'])} {s}" for s in ("pass", "warn", "fail"))
    return "\n".join([*lines, "", counts])


def table(estimates: list[Estimate], on_gpu: bool) -> str:
    """One line a step and one for all: sums of jobs, hours, disk and dollars, the largest of the memories."""
    frame = pd.DataFrame(
        {
            "step": e.step, "jobs": e.jobs, "hours": e.seconds / 3600, "GPU-h": e.seconds / 3600 * on_gpu,
            "GB, one job": e.memory / 1e9, "host GB": e.host / 1e9, "disk GB": e.disk / 1e9, "dollars": e.dollars,
        }
        for e in estimates
    )  # fmt: skip
    whole = frame.drop(columns="step").sum().to_dict() | frame[["GB, one job", "host GB"]].max().to_dict()
    frame.loc[len(frame)] = {"step": "all"} | whole
    return frame.astype({"jobs": int}).to_string(index=False, col_space=12, float_format="{:.2f}".format)


def preflight(profile: str, overrides: str = "", as_json: bool = False) -> int:
    """Print the tables; 1 if a check fails."""
    result = collect(profile, overrides)
    if result["estimates"]:  # what notebooks then say of themselves, and the terminal of the run
        file = paths.artefacts(profile) / "preflight" / timings.ESTIMATES
        artefacts.write_json(file, plan(profile, result))
    plain = result | {"checks": [check._asdict() for check in result["checks"]]}
    print(json.dumps(plain, indent=1, ensure_ascii=False, default=_plain) if as_json else show(result))
    return int(any(c.state == "fail" for c in result["checks"]))


def _plain(row: object) -> dict:
    """A row as plain values; of an estimate its sum too, and not whom it asks."""
    values = {k: v for k, v in vars(row).items() if k != "asked"}
    return values | ({"seconds": row.seconds} if isinstance(row, Estimate) else {})
