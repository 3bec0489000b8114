# The one graph of the study: a rule or two for every step that a notebook declares. Run by `make reproduce`, or
#   snakemake --cores 2 --config profile=cpu
# An executed notebook is kept under artefacts/<profile>/notebooks/, also when it failed.
# `.done` files say what Snakemake has run; what an artefact was made from is in its manifest.json.
import os, re, shlex

os.environ.setdefault("PYTHONPATH", os.getcwd())
from s2utils.workflow import code, params as parameters, rules as made, steps

PROFILE = str(config.get("profile", "cpu"))
SET = str(config.get("set", "") or "")
RULES = made.Rules(PROFILE, SET)
P, A = RULES.params, made.FOLDER
SHOWN = steps.shown_of(str(config.get("part", "")), sweep=bool(RULES.points))  # whose runs the report holds
CHECKED = [f"artefacts/{PROFILE}/preflight/.done"] if str(config.get("preflight", 1)) != "0" else []


def asks(parameter):
    """Whether it asks something of the machine, which preflight checks."""
    return parameter.split(".")[0] not in ("s2", "eda", "text_metrics", "sweep")


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
    params: *[f"{k}={v}".replace("{", "‹").replace("}", "›") for k, v in parameters.flat(P).items() if asks(k)]
    priority: 100
    # alone on a laptop: it measures the machine
    threads: P.runtime.threads if RULES.gpu else min(workflow.cores or 1, os.cpu_count())
    resources: **RULES.limits(1500, 8000, 15)
    benchmark: f"artefacts/{PROFILE}/benchmarks/00_preflight.tsv"
    log: text=f"artefacts/{PROFILE}/preflight/checks.txt"
    shell:
        RULES.logged(f"python -m s2utils preflight {shlex.quote(PROFILE)} --set {made.quoted(SET)}",
            failed="{{ cat {log.text:q}; echo 'The checks above stop the run; PREFLIGHT=0 goes on without them.'; }}")


def declare(step):  # a function: a job asks for its command when it runs, and a loop's `step` is the last one by then
    alone = step.collects and not step.each  # the run that makes the artefact is the one that readers see

    rule:
        name: f"{step.name}_one" if step.each else step.name
        input: RULES.inputs(step, alone)
        output: RULES.outputs(step)
        params: *RULES.settings(step, alone)
        threads: 1 if step.one_thread else P.runtime.threads
        priority: step.priority
        resources: **RULES.needs(step)
        benchmark: f"{A}/benchmarks/{step.run}.tsv"
        log: **RULES.log(step, step.run)
        shell: RULES.command(step)

    if step.collects and step.each:

        rule:
            name: step.name
            input: RULES.inputs(step, True)
            output: f"{A}/{step.name}/.done"
            params: *RULES.settings(step, True)
            benchmark: f"{A}/benchmarks/{step.notebook}.tsv"
            log: **RULES.log(step, step.notebook)
            shell: RULES.papermill(step.notebook, {})


for step in steps.STEPS.values():
    declare(step)


rule report:
    input: [f"artefacts/{PROFILE}/{step.name}/.done" for step in SHOWN]
    output: f"reports/{PROFILE}/index.html"
    params:
        code=code.module_digest(("report.build",)),
        look=code.files_digest("s2utils/report/static/*"),
        prose=code.module_digest(("report.paper.render",)) + code.files_digest("s2utils/report/paper/*.md"),
    log: text=f"artefacts/{PROFILE}/notebooks/report.log"
    shell:
        RULES.logged(f"python -m s2utils report --record {shlex.quote(PROFILE)}" + (f" --set {made.quoted(SET)}" if SET else ""),
            written=f"reports/{shlex.quote(PROFILE)} {{log.text:q}}")
