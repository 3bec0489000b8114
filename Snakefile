# The one graph of the study: a rule a notebook. Run by `make reproduce`, or
#   snakemake --cores 2 --config profile=cpu
# An executed notebook is kept under artefacts/<profile>/notebooks/, also when it failed.
# `.done` files say what Snakemake has run; what an artefact was made from is in its manifest.json.
import json, os, shlex

os.environ.setdefault("PYTHONPATH", os.getcwd())
from s2utils import params as parameters, paths, steps

PROFILE = config.get("profile", "cpu")
CHANGES = parameters.parse_set(str(config.get("set", "") or ""))
P = parameters.load(PROFILE, CHANGES)
A, R = f"artefacts/{PROFILE}", f"reports/{PROFILE}"
MODELS = [row.id for row in steps.models(P)]
SCORED = [m for m in MODELS if not (steps.same_weights(P) and m == f"{P.model.name}-chat")]
GPU = 1 if P.runtime.device == "cuda" else 0
LOOK = steps.module_digest(("tables", "figures", "intervals", "claims")) + steps.files_digest("reports/published/**/*.csv")


def mb(cpu, gpu):
    """Memory a job takes in MB, on the cpu profiles and on a GPU; a retry asks for as much again.

    On a GPU: weights of 13 billion parameters (26 GB) pass through memory when they are loaded whole, merged or saved.
    """
    return lambda wildcards, attempt: attempt * (gpu if GPU else cpu)


def minutes(gpu):
    """The longest a job may take on a cluster: generous for 13B, an hour on the cpu profiles; a retry has as much again."""
    return lambda wildcards, attempt: attempt * (gpu if GPU else 60)


def settings(step, notebook=True, inherited=False):
    """What a rule depends on, as flat text: a change reruns it, and Snakemake prints what changed.

    `inherited` adds what the steps before it depend on, for rules that ignore the times of their inputs.
    """
    values = steps.lineage(step, P) if inherited else steps.settings(step, P) | {"code": steps.code_digest(step)}
    if notebook:  # the run that readers see: its tables and figures
        values = values | steps.settings("text_metrics", P) | {"notebook": steps.notebook_digest(step), "look": LOOK}
    own = [f"{k}={v}" for k, v in values.items()]
    return [text.replace("{", "‹").replace("}", "›") for text in own]  # braces would be read as wildcards


def papermill(step, name="", **choices):
    """Command line that runs a step's notebook under this profile, and marks it done if it succeeds."""
    notebook = steps.STEPS[step].notebook
    given = " ".join(f"-p {k} {shlex.quote(str(v))}" for k, v in choices.items())
    changed = "-y " + shlex.quote(json.dumps({"overrides": CHANGES})).replace("{", "{{").replace("}", "}}") if CHANGES else ""
    return (f"papermill --cwd . --progress-bar --kernel python3 -p profile {PROFILE} {given} {changed} "
            f"notebooks/{notebook}.ipynb {{log.notebook}} > {{log.text}} 2>&1 "
            f"|| {{{{ tail -n 40 {{log.text}} >&2; exit 1; }}}}; touch {{output}}")


def logs(step, name=""):
    stem = steps.STEPS[step].notebook + (f".{name}" if name else "")
    return {"notebook": f"{A}/notebooks/{stem}.ipynb", "text": f"{A}/notebooks/{stem}.log"}


wildcard_constraints:
    train_set="[^/]+",
    model="[^/]+",


localrules: all


rule all:
    input:
        f"{R}/index.html",


rule eda:
    output: f"{A}/eda/.done"
    params: *settings("eda")
    threads: P.runtime.threads
    benchmark: f"{A}/benchmarks/01_eda.tsv"
    resources: gpu=GPU, mem_mb=mb(1000, 16000), runtime=minutes(120)
    log: **logs("eda")
    shell: papermill("eda")


rule filter_one:  # a share of the sources; worth its start only where there are several
    output: f"{A}/filtered/{{shard}}/.done"
    params: *settings("filtered", notebook=False)
    threads: P.runtime.threads
    resources: mem_mb=mb(1000, 6000), runtime=minutes(240)
    benchmark: f"{A}/benchmarks/02_datasets.{{shard}}.tsv"
    log: text=f"{A}/notebooks/02_datasets.{{shard}}.log"
    shell:
        f"python -m s2utils.shards {PROFILE} {{wildcards.shard}} --set {shlex.quote(str(config.get('set', '') or ''))} > {{log.text}} 2>&1 "
        "|| {{ tail -n 40 {log.text} >&2; exit 1; }}; touch {output}"


rule datasets:
    input: [f"{A}/filtered/{shard}/.done" for shard in range(P.data.shards) if P.data.shards > 1]
    output: f"{A}/data/.done"
    params: *settings("data")
    threads: P.runtime.threads
    resources: gpu=GPU, mem_mb=mb(1500, 32000), runtime=minutes(720)
    benchmark: f"{A}/benchmarks/02_datasets.tsv"
    log: **logs("data")
    shell: papermill("data")


rule sft_one:
    input: rules.datasets.output
    output: f"{A}/sft/{{train_set}}/.done"
    params: *settings("sft", notebook=False)
    threads: P.runtime.threads
    resources: gpu=GPU, mem_mb=mb(3200, 48000), runtime=minutes(1440)
    priority: 10
    benchmark: f"{A}/benchmarks/03_sft.{{train_set}}.tsv"
    log: **logs("sft", "{train_set}")
    shell: papermill("sft", train_set="{wildcards.train_set}")


rule sft:
    input: expand(f"{A}/sft/{{train_set}}/.done", train_set=P.sft.train_sets)
    output: f"{A}/sft/.done"
    params: *settings("sft")
    benchmark: f"{A}/benchmarks/03_sft.tsv"
    resources: gpu=GPU
    log: **logs("sft")
    shell: papermill("sft")


def adapter_of(wildcards):
    train_set = steps.model(P, wildcards.model).train_set
    return [rules.datasets.output[0]] + ([f"{A}/sft/{train_set}/.done"] if train_set else [])


rule generate_one:
    input: adapter_of
    output: f"{A}/answers/{{model}}/.done"
    params: *settings("answers", notebook=False), *settings("merged", notebook=False)
    threads: P.runtime.threads
    resources: gpu=GPU, mem_mb=mb(2200, 64000), runtime=minutes(240)
    benchmark: f"{A}/benchmarks/04_generate.{{model}}.tsv"
    log: **logs("answers", "{model}")
    shell: papermill("answers", model="{wildcards.model}")


def all_merges(wildcards):
    """The rules that merge a train set. Their answers are not read, so other answers rerun nothing (`ancient`)."""
    rows = [row for row in steps.models(P) if row.train_set == wildcards.train_set]
    return rules.datasets.output + [ancient(f"{A}/answers/{row.id}/.done") for row in rows]


rule divergence_one:
    input: all_merges
    output: f"{A}/divergence/{{train_set}}/.done"
    params: *settings("divergence", notebook=False, inherited=True)
    threads: P.runtime.threads
    resources: gpu=GPU, mem_mb=mb(2600, 64000), runtime=minutes(120)
    benchmark: f"{A}/benchmarks/04_generate.merges-of-{{train_set}}.tsv"
    log: **logs("divergence", "merges-of-{train_set}")
    shell: papermill("divergence", train_set="{wildcards.train_set}")


rule generate:
    input:
        expand(f"{A}/answers/{{model}}/.done", model=MODELS),
        expand(f"{A}/divergence/{{train_set}}/.done", train_set=P.sft.train_sets),
    output: f"{A}/answers/.done"
    params: *settings("answers")
    benchmark: f"{A}/benchmarks/04_generate.tsv"
    resources: gpu=GPU
    log: **logs("answers")
    shell: papermill("answers")


rule text_metrics:
    input: expand(f"{A}/answers/{{model}}/.done", model=MODELS)
    output: f"{A}/text_metrics/.done"
    params: *settings("text_metrics")
    resources: gpu=GPU, mem_mb=mb(1000, 16000), runtime=minutes(120)
    benchmark: f"{A}/benchmarks/05_text_metrics.tsv"
    log: **logs("text_metrics")
    shell: papermill("text_metrics")


def merged_model(wildcards):
    """The rule that also merges. Only its model is read, so other answers alone rerun nothing (`ancient`).

    Base and chat need nothing of ours and are scored while data is still made.
    """
    return ancient(f"{A}/answers/{wildcards.model}/.done") if steps.model(P, wildcards.model).train_set else []


rule leaderboard_one:
    input: merged_model
    output: f"{A}/leaderboard/{{model}}/.done"
    params: *settings("leaderboard", notebook=False, inherited=True)
    threads: P.runtime.threads
    resources: gpu=GPU, mem_mb=mb(2200, 64000), runtime=minutes(1440)
    benchmark: f"{A}/benchmarks/06_leaderboard.{{model}}.tsv"
    log: **logs("leaderboard", "{model}")
    shell: papermill("leaderboard", model="{wildcards.model}")


rule leaderboard:
    input: expand(f"{A}/leaderboard/{{model}}/.done", model=SCORED)
    output: f"{A}/leaderboard/.done"
    params: *settings("leaderboard")
    benchmark: f"{A}/benchmarks/06_leaderboard.tsv"
    resources: gpu=GPU
    log: **logs("leaderboard")
    shell: papermill("leaderboard")


rule mtbench_one:
    input: merged_model
    output: f"{A}/mtbench/{{model}}/.done"
    params: *settings("mtbench", notebook=False, inherited=True)
    threads: P.runtime.threads
    resources: gpu=GPU, mem_mb=mb(2200, 64000), runtime=minutes(240)
    benchmark: f"{A}/benchmarks/07_mtbench.{{model}}.tsv"
    log: **logs("mtbench", "{model}")
    shell: papermill("mtbench", model="{wildcards.model}")


rule mtbench:
    input: expand(f"{A}/mtbench/{{model}}/.done", model=MODELS)
    output: f"{A}/mtbench/.done"
    params: *settings("mtbench")
    benchmark: f"{A}/benchmarks/07_mtbench.tsv"
    resources: gpu=GPU
    log: **logs("mtbench")
    shell: papermill("mtbench")


rule report:
    input:
        rules.eda.output, rules.datasets.output, rules.sft.output, rules.generate.output,
        rules.text_metrics.output, rules.leaderboard.output, rules.mtbench.output,
    output: f"{R}/index.html"
    params:
        code=steps.module_digest(("report",)),
        look=steps.files_digest("s2utils/report.*"),
    shell: "python -m s2utils.report --record " + shlex.quote(PROFILE) + (" --set " + shlex.quote(str(config.get("set"))) if CHANGES else "")
