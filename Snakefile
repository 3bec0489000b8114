# The one graph of the study: a rule a notebook. Run by `make reproduce`, or
#   snakemake --cores 2 --config profile=cpu
# An executed notebook is kept under artefacts/<profile>/notebooks/, also when it failed.
# `.done` files say what Snakemake has run; what an artefact was made from is in its manifest.json.
import functools, json, os, re, shlex

os.environ.setdefault("PYTHONPATH", os.getcwd())
from s2utils.workflow import params as parameters, steps

PROFILE = str(config.get("profile", "cpu"))
SET = str(config.get("set", "") or "")
CHANGES = parameters.parse_set(SET)
P = parameters.load(PROFILE, CHANGES)
POINTS = parameters.points(PROFILE, P)  # of a sweep: each is a profile too, such as cpu@sft.seed=2
A = "artefacts/{profile}"
GPU = 1 if P.runtime.device == "cuda" else 0
# variables that hold keys, whatever they are called
REDACTED = "--names " + ",".join(sorted({"HF_TOKEN"} | {v for k, v in parameters.flat(P).items() if k.endswith(".key_env") and v}))
PUBLISHED = steps.files_digest("reports/published/**/*.csv")


def mb(cpu, gpu):
    """Memory a job takes in MB, on the cpu profiles and on a GPU; a retry asks for as much again.

    On a GPU: weights of 13 billion parameters (26 GB) pass through memory when they are loaded whole, merged or saved.
    """
    return lambda wildcards, attempt: attempt * (gpu if GPU else cpu)


def minutes(gpu):
    """The longest a job may take on a cluster: generous for 13B, an hour on the cpu profiles; a retry has as much again."""
    return lambda wildcards, attempt: attempt * (gpu if GPU else 60)


@functools.cache
def of(profile):
    """Parameters of the profile, or of one point of its sweep."""
    return parameters.load(profile, CHANGES)


@functools.cache
def values_of(step, profile, notebook):
    values = steps.settings(step, of(profile)) | {"code": steps.code_digest(step)}
    if notebook:  # the run that readers see: its tables and figures
        values = values | steps.settings("text_metrics", of(profile)) | {"notebook": steps.notebook_digest(step), "published": PUBLISHED}
    return values


def settings(step, notebook=True):
    """What a rule depends on, as flat text: a change reruns it, and Snakemake prints what changed."""
    def one(key):
        return lambda wildcards: f"{key}={values_of(step, wildcards.profile, notebook).get(key)}"

    return [one(key) for key in values_of(step, PROFILE, notebook)]


def done(step, profile, name=""):
    """The file that says that an artefact is made; points of a sweep share what is the same."""
    home = steps.home(step, profile, CHANGES, name)
    return f"artefacts/{home}/{step}/{name}/.done" if name else f"artefacts/{home}/{step}/.done"


def all_of(step, profile, names=None):
    return [done(step, profile, name) for name in (names or steps.names(step, of(profile)))]


def papermill(step, name="", **choices):
    """Command line that runs a step's notebook under this profile, and marks it done if it succeeds.

    Choices are quoted by Snakemake (:q), and reach the notebook as texts (-r): with -p a set called 12 would be a number.
    """
    notebook = steps.STEPS[step].notebook
    given = " ".join(f"-r {k} {v}" for k, v in choices.items())
    changed = "-y " + quoted(json.dumps({"overrides": CHANGES})) if CHANGES else ""
    return logged(f"python -m s2utils notebook --cwd . --progress-bar --kernel python3 -r profile {{wildcards.profile:q}} {given} {changed} "
                  f"notebooks/{notebook}.ipynb {{log.notebook:q}}", "{log.text:q} {log.notebook:q}")


def quoted(text):
    """`text` as one word of a command that Snakemake formats."""
    return shlex.quote(text).replace("{", "{{").replace("}", "}}")


def logged(command, written="{log.text:q}", failed="tail -n 40 {log.text:q}"):
    """`command` with its output and its bars in the log, whose end `failed` shows; no secret stays in what it wrote.

    `s2utils run` shows that end itself, above the lines that move.
    """
    return (f": > {{log.text:q}}; S2_LOG={{log.text:q}} {command} >> {{log.text:q}} 2>&1 && ended=0 || ended=1; python -m s2utils redact {REDACTED} {written}; "
            "[ $ended = 0 ] || {{ [ -n \"${{S2_TERMINAL:-}}\" ] || " + failed + " >&2; exit 1; }}; touch {output:q}")


def logs(step, name=""):
    stem = steps.STEPS[step].notebook + (f".{name}" if name else "")
    return {"notebook": f"{A}/notebooks/{stem}.ipynb", "text": f"{A}/notebooks/{stem}.log"}


UNCHECKED = ("s2", "eda", "text_metrics", "sweep")  # sections that ask nothing of the machine
CHECKED = [f"artefacts/{PROFILE}/preflight/.done"] if str(config.get("preflight", 1)) != "0" else []


wildcard_constraints:
    profile=re.escape(PROFILE.partition("@")[0]) + "(@[^/]+)?",
    train_set="[^/]+",
    model="[^/]+",
    shard="[0-9]+",


localrules: all


rule all:
    input: f"reports/{PROFILE}/index.html", CHECKED


rule preflight:  # what is missing shows before the first hour: where a check fails, no other job starts
    output: f"artefacts/{PROFILE}/preflight/.done"
    params: *[f"{k}={v}".replace("{", "‹").replace("}", "›") for k, v in parameters.flat(P).items() if k.split(".")[0] not in UNCHECKED]
    priority: 100
    threads: P.runtime.threads if GPU else min(workflow.cores or 1, os.cpu_count())  # alone on a laptop: it measures the machine
    resources: gpu=GPU, mem_mb=mb(1500, 8000), runtime=minutes(15)
    benchmark: f"artefacts/{PROFILE}/benchmarks/00_preflight.tsv"
    log: text=f"artefacts/{PROFILE}/preflight/checks.txt"
    shell:
        logged(f"python -m s2utils preflight {shlex.quote(PROFILE)} --set {quoted(SET)}",
            failed="{{ cat {log.text:q}; echo 'The checks above stop the run; PREFLIGHT=0 goes on without them.'; }}")


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
    shell: logged(f"python -m s2utils make filtered {{wildcards.profile:q}} {{wildcards.shard}} --set {quoted(SET)}")


def filtered(wildcards):
    """Shards are jobs of their own. A single one is made by the notebook, once for all points of a sweep."""
    names, profile = steps.names("filtered", of(wildcards.profile)), wildcards.profile
    if len(names) > 1:
        return all_of("filtered", profile)
    home = steps.home("filtered", profile, CHANGES, names[0])
    return [f"artefacts/{home}/data/.done"] if home != profile else []


rule datasets:
    input: filtered
    output: f"{A}/data/.done"
    params: *settings("data")
    threads: P.runtime.threads
    resources: gpu=GPU, mem_mb=mb(1500, 32000), runtime=minutes(720)
    benchmark: f"{A}/benchmarks/02_datasets.tsv"
    log: **logs("data")
    shell: papermill("data")


rule sft_one:
    input: lambda wildcards: done("data", wildcards.profile)
    output: f"{A}/sft/{{train_set}}/.done"
    params: *settings("sft", notebook=False)
    threads: P.runtime.threads
    resources: gpu=GPU, mem_mb=mb(3200, 48000), runtime=minutes(1440)
    priority: 10
    benchmark: f"{A}/benchmarks/03_sft.{{train_set}}.tsv"
    log: **logs("sft", "{train_set}")
    shell: papermill("sft", train_set="{wildcards.train_set:q}")


rule sft:
    input: lambda wildcards: all_of("sft", wildcards.profile)
    output: f"{A}/sft/.done"
    params: *settings("sft")
    benchmark: f"{A}/benchmarks/03_sft.tsv"
    log: **logs("sft")
    shell: papermill("sft")


rule merge_one:  # a train set under all its merges: a start costs as much as a small merge
    input: lambda wildcards: done("sft", wildcards.profile, wildcards.train_set)
    output: [f"{A}/merged/{P.model.name}-{{train_set}}.{mode}/.done" for mode in P.merge.modes]
    params: *settings("merged", notebook=False)
    threads: P.runtime.threads
    resources: gpu=GPU, mem_mb=mb(1500, 48000), runtime=minutes(120 * len(P.merge.modes))
    priority: 10
    benchmark: f"{A}/benchmarks/04_generate.merges-{{train_set}}.tsv"
    log: text=f"{A}/notebooks/04_generate.merges-{{train_set}}.log"
    shell: logged(f"python -m s2utils make merged {{wildcards.profile:q}} {' '.join(shlex.quote(P.model.name) + '-{wildcards.train_set:q}.' + mode for mode in P.merge.modes)} --set {quoted(SET)}")


def merged(profile, model):
    """What is read of the steps before by those that load a model: base and chat need nothing of ours."""
    return [done("merged", profile, model)] if steps.model(of(profile), model).train_set else []


rule generate_one:
    input: lambda wildcards: [done("data", wildcards.profile), *merged(wildcards.profile, wildcards.model)]
    output: f"{A}/answers/{{model}}/.done"
    params: *settings("answers", notebook=False)
    threads: P.runtime.threads
    resources: gpu=GPU, mem_mb=mb(2200, 64000), runtime=minutes(240)
    priority: 7  # the judge of all answers waits for it, the leaderboard fills the other cores
    benchmark: f"{A}/benchmarks/04_generate.{{model}}.tsv"
    log: **logs("answers", "{model}")
    shell: papermill("answers", model="{wildcards.model:q}")


def all_merges(wildcards):
    rows = [row.id for row in steps.models(of(wildcards.profile)) if row.train_set == wildcards.train_set]
    return [done("data", wildcards.profile), *(done("merged", wildcards.profile, id) for id in rows)]


rule divergence_one:
    input: all_merges
    output: f"{A}/divergence/{{train_set}}/.done"
    params: *settings("divergence", notebook=False)
    threads: P.runtime.threads
    resources: gpu=GPU, mem_mb=mb(2600, 64000), runtime=minutes(120)
    benchmark: f"{A}/benchmarks/04_generate.merges-of-{{train_set}}.tsv"
    log: **logs("divergence", "merges-of-{train_set}")
    shell: papermill("divergence", train_set="{wildcards.train_set:q}")


rule generate:
    input:
        lambda wildcards: all_of("answers", wildcards.profile),
        lambda wildcards: all_of("divergence", wildcards.profile),
    output: f"{A}/answers/.done"
    params: *settings("answers")
    benchmark: f"{A}/benchmarks/04_generate.tsv"
    log: **logs("answers")
    shell: papermill("answers")


rule membership:  # asks the base model only
    input: lambda wildcards: done("data", wildcards.profile)
    output: f"{A}/membership/.done"
    params: *settings("membership", notebook=False)
    threads: P.runtime.threads
    resources: gpu=GPU, mem_mb=mb(2200, 64000), runtime=minutes(120)
    benchmark: f"{A}/benchmarks/05_text_metrics.membership.tsv"
    log: text=f"{A}/notebooks/05_text_metrics.membership.log"
    shell: logged(f"python -m s2utils make membership {{wildcards.profile:q}} --set {quoted(SET)}")


rule text_metrics:
    input:
        lambda wildcards: all_of("answers", wildcards.profile),
        lambda wildcards: done("membership", wildcards.profile),
    output: f"{A}/text_metrics/.done"
    params: *settings("text_metrics")
    resources: gpu=GPU, mem_mb=mb(1000, 16000), runtime=minutes(120)
    benchmark: f"{A}/benchmarks/05_text_metrics.tsv"
    log: **logs("text_metrics")
    shell: papermill("text_metrics")


rule leaderboard_one:
    input: lambda wildcards: merged(wildcards.profile, wildcards.model)
    output: f"{A}/leaderboard/{{model}}/.done"
    params: *settings("leaderboard", notebook=False)
    threads: P.runtime.threads
    resources: gpu=GPU, mem_mb=mb(2200, 64000), runtime=minutes(1440)
    benchmark: f"{A}/benchmarks/06_leaderboard.{{model}}.tsv"
    log: **logs("leaderboard", "{model}")
    shell: papermill("leaderboard", model="{wildcards.model:q}")


def scored(wildcards):
    """Every model, but for a chat model with the weights of the base: it repeats its row."""
    p = of(wildcards.profile)
    twin = f"{p.model.name}-chat" if steps.same_weights(p) else ""
    return all_of("leaderboard", wildcards.profile, [name for name in steps.names("leaderboard", p) if name != twin])


rule protocols:  # the base model under the other protocol
    output: f"{A}/protocols/.done"
    params: *settings("protocols", notebook=False)
    threads: P.runtime.threads
    resources: gpu=GPU, mem_mb=mb(2200, 64000), runtime=minutes(240)
    priority: 5  # it waits for nothing, and at the end would run alone
    benchmark: f"{A}/benchmarks/06_leaderboard.protocols.tsv"
    log: **logs("protocols", "protocols")
    shell: papermill("protocols", model="protocols")


rule leaderboard:
    input:
        scored,
        lambda wildcards: done("protocols", wildcards.profile),
    output: f"{A}/leaderboard/.done"
    params: *settings("leaderboard")
    benchmark: f"{A}/benchmarks/06_leaderboard.tsv"
    log: **logs("leaderboard")
    shell: papermill("leaderboard")


rule mtbench_one:
    input: lambda wildcards: merged(wildcards.profile, wildcards.model)
    output: f"{A}/mtbench/{{model}}/.done"
    params: *settings("mtbench", notebook=False)
    threads: P.runtime.threads
    resources: gpu=GPU, mem_mb=mb(2200, 64000), runtime=minutes(240)
    priority: 7  # the judge of all answers waits for it, the leaderboard fills the other cores
    benchmark: f"{A}/benchmarks/07_mtbench.{{model}}.tsv"
    log: **logs("mtbench", "{model}")
    shell: papermill("mtbench", model="{wildcards.model:q}")


def asked(wildcards):
    return [*all_of("answers", wildcards.profile), *all_of("mtbench", wildcards.profile)]


rule judged:  # the validation set, pairs, and the panel that tests the judge: one job, for the judge is loaded once
    input: asked
    output: f"{A}/judged/.done"
    params: *settings("judged", notebook=False)
    threads: P.runtime.threads
    resources: gpu=GPU if "local" in (P.mtbench.judge.backend, *(j.backend for j in P.mtbench.other_judges)) else 0, mem_mb=mb(2200, 48000), runtime=minutes(240)
    priority: 8
    benchmark: f"{A}/benchmarks/07_mtbench.judged.tsv"
    log: text=f"{A}/notebooks/07_mtbench.judged.log"
    shell: logged(f"python -m s2utils make judged {{wildcards.profile:q}} --set {quoted(SET)}")


rule mtbench:
    input: lambda wildcards: [*all_of("mtbench", wildcards.profile), done("judged", wildcards.profile)]
    output: f"{A}/mtbench/.done"
    params: *settings("mtbench")
    benchmark: f"{A}/benchmarks/07_mtbench.tsv"
    log: **logs("mtbench")
    shell: papermill("mtbench")


rule sweep:  # every point's tables, compared
    input: [done(step, point) for point in POINTS for step in ("sft", "text_metrics", "leaderboard", "mtbench")]
    output: f"{A}/sweep/.done"
    params: *settings("sweep")
    benchmark: f"{A}/benchmarks/08_sweep.tsv"
    log: **logs("sweep")
    shell: papermill("sweep")


rule report:
    input:
        [f"artefacts/{PROFILE}/{step}/.done" for step in ("eda", "data", "sft", "answers", "text_metrics", "leaderboard", "mtbench")],
        [f"artefacts/{PROFILE}/sweep/.done"] if POINTS else [],
    output: f"reports/{PROFILE}/index.html"
    params:
        code=steps.module_digest(("report.build",)),
        look=steps.files_digest("s2utils/report/static/*"),
        prose=steps.module_digest(("report.paper.render",)) + steps.files_digest("s2utils/report/paper/*.md"),
    log: text=f"artefacts/{PROFILE}/notebooks/report.log"
    shell: logged("python -m s2utils report --record " + shlex.quote(PROFILE) + (" --set " + quoted(SET) if SET else ""), "reports/" + shlex.quote(PROFILE) + " {log.text:q}")
