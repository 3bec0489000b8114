"""Snakemake in a terminal that a person can read: one line a job, what runs now with its bar, and when it will be done.

    python -m s2utils run --cores 2 --config profile=cpu …      everything after it goes to Snakemake

Snakemake's own blocks go to its log, which the last line names. Without a terminal, lines are plain and there is
nothing that moves; under CI only the start, what failed and the end are said. Times are wall clock; the estimates are
preflight's. Where a program listens (`progress.EVENTS`) a line is JSON: {said} or {job, ended, total}. A dry run (-n)
is Snakemake's own. Trap: Snakemake says that jobs start before it says which they are, so a job's time counts from the
record that names it; on a cluster that is when it was handed in.
"""

from __future__ import annotations

import datetime
import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text
from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

from s2utils.workflow import params, progress, steps, timings

LATE = 3  # times what the README promises: said before the first job
TAIL = 40  # lines of a failed job's log


@dataclass
class Job:
    """One job of the graph."""

    name: str  # as its log is called: 03_sft.sciq
    rule: str
    log: Path | None
    estimate: float | None = None  # seconds
    started: float = 0.0  # of time.time()
    took: float | None = None
    failed: bool = False


class LogHandler(LogHandlerBase):
    """What Snakemake tells of a run, as lines; a plugin of Snakemake's, registered by `run`."""

    profile, cores = "cpu", 1  # of the run; set by `run`
    writes_to_stream, writes_to_file = True, False
    has_filter, has_formatter, needs_rulegraph = True, True, False

    def __post_init__(self) -> None:
        self.console = Console(highlight=False)
        self.console.soft_wrap = not self.console.is_terminal  # a file has no edge to break lines at
        self.events = bool(os.environ.pop(progress.EVENTS, ""))  # not those of a job
        self.quiet = self.events or bool(os.environ.get("CI"))
        self.jobs: dict[int, Job] = {}
        self.left: dict[str, int] = {}  # rule → jobs that have not ended
        self.total, self.ended, self.begun = 0, 0, time.time()
        self.promise_said, self.closed = False, False
        moves = self.console.is_terminal and not self.console.is_dumb_terminal and not self.quiet
        self.live = (
            Live(get_renderable=self.now, console=self.console, refresh_per_second=2, transient=True) if moves else None
        )

    def emit(self, record) -> None:
        """Show one record; a fault in showing must not end the run."""
        try:
            self.take(record)
        except Exception:
            self.handleError(record)

    def take(self, record) -> None:
        """Follow one record of Snakemake's."""
        match getattr(record, "event", None):
            case LogEvent.RUN_INFO:
                self.left = {rule: n for rule, n in record.stats.items() if rule not in ("total", "all")}
                self.total = sum(self.left.values())
                self.say(f"{self.total} jobs of the profile {self.profile}, on {self.cores} cores")
                self.say(f"{'':<11}{row('job', 'took', 'estimated')}", quiet=True)
                if self.live:
                    self.live.start()
                if "preflight" not in self.left:
                    self.promise()
            case LogEvent.JOB_INFO if record.rule_name != "all":
                log = next((Path(f) for f in record.log or () if str(f).endswith((".log", ".txt"))), None)
                name = log.stem if log and log.suffix == ".log" else record.rule_name
                point = log.parts[1] if log and len(log.parts) > 1 else self.profile
                name += f" ({point.partition('@')[2]})" if point != self.profile else ""
                self.jobs[record.jobid] = Job(name, record.rule_name, log, self.estimate(record.rule_name), time.time())
                self.tell(job=name, ended=self.ended, total=self.total)
            case LogEvent.JOB_FINISHED if (job := self.jobs.get(record.job_id)) and job.took is None:
                self.end(job)
                self.tell(ended=self.ended, total=self.total)
                self.say(f"{self.ended:>3} of {self.total:<3} {row(job.name, job.took, job.estimate)}", quiet=True)
                if job.rule == "preflight":
                    self.promise()
            case LogEvent.JOB_ERROR if job := self.jobs.get(record.jobid):
                self.end(job, failed=True)
                self.say(f"failed: {job.name}", "red")
                if job.log:
                    self.say(said(job))
            case LogEvent.ERROR if record.exception != "RuleException":  # that is of a job, whose log says more
                self.unless_failed(record)
            case None if record.levelno >= 30:  # warnings and errors that are no event
                self.unless_failed(record)

    def unless_failed(self, record) -> None:
        """A warning or error of Snakemake's, which after a failed job only repeats that one failed."""
        if not any(job.failed for job in self.jobs.values()):
            self.say(record.getMessage(), "yellow")

    def end(self, job: Job, failed: bool = False) -> None:
        """Count a job as ended."""
        job.took, job.failed = time.time() - job.started, failed
        self.ended += not failed
        self.left[job.rule] = self.left.get(job.rule, 1) - 1

    @property
    def rules(self) -> dict[str, tuple]:
        """Rule → (notebook, jobs, seconds of one), by the last preflight."""
        return timings.plan(self.profile).get("rules", {})

    def estimate(self, rule: str) -> float | None:
        """Seconds of one job of a rule."""
        return self.rules.get(rule, (0, 0, None))[2]

    def promise(self) -> None:
        """Say once what the run will take, and what to set where that is far more than was promised."""
        plan = timings.plan(self.profile)
        if self.promise_said or not plan:
            return
        self.promise_said, promised = True, plan["promised"]
        self.say(f"about {timings.shown(self.remaining())} here: {'; '.join(plan['said'])}")
        whole = sum(jobs * each for _, jobs, each in plan["rules"].values()) / self.cores
        if promised and whole > LATE * promised * 60 * 2 / max(2, self.cores):
            self.say(
                f"That is more than {LATE} times the {promised} minutes that the README says of two cores. For a "
                f"shorter run, with SET='…': {'; '.join(plan['smaller'])}. Or PROFILE=smoke. Ctrl-C stops; what is "
                "made is kept.",
                "yellow",
            )

    def remaining(self) -> float:
        """Seconds until the end, by estimates, on all cores, mended by how those before came out."""
        known = [j for j in self.jobs.values() if j.took and j.estimate and not j.failed]
        pace = sum(j.took for j in known) / sum(j.estimate for j in known) if len(known) > 2 else 1.0
        left = sum(n * (self.estimate(rule) or 0) for rule, n in self.left.items())
        left -= sum(min(time.time() - j.started, j.estimate or 0) for j in self.jobs.values() if j.took is None)
        return max(0.0, left * pace / max(1, self.cores))

    def now(self) -> Group:
        """The lines that move: a line a running job, and one for the whole."""
        lines, width = [], self.console.width
        for job in [job for job in list(self.jobs.values()) if job.took is None]:  # a thread of its own shows them
            said = progress.last(job.log) if job.log else ""
            spent = clock(time.time() - job.started) + (f" of {clock(job.estimate)}" if job.estimate else "")
            lines.append(f"  {job.name}  {spent}  {said}")
        left, at = self.remaining(), ""
        if self.rules.keys() & self.left:
            end = datetime.datetime.now() + datetime.timedelta(seconds=left)
            at = f" · about {timings.shown(left)} left, done at {end:%H:%M}"
        lines.append(f"{self.ended} of {self.total} done · {clock(time.time() - self.begun)}{at}")
        texts = [Text(line[: width - 1], no_wrap=True, overflow="ellipsis") for line in lines]
        texts[-1].style = "bold"
        return Group(*texts)

    def say(self, text: str, style: str = "", quiet: bool = False) -> None:
        """One line that stays; `quiet` ones are left out under CI."""
        if quiet and self.quiet:
            return
        if self.events:
            self.tell(said=text)
        else:
            self.console.print(Text(text, style=style))

    def tell(self, **facts: str | int) -> None:
        """One event, for a program that reads them."""
        if self.events:
            print(json.dumps(facts), file=self.console.file, flush=True)

    def close(self) -> None:
        """The end of the run: what it took, job by job beside the estimate.

        Called twice, by Snakemake and by logging.
        """
        if self.closed:
            return
        self.closed = True
        if self.live and self.live.is_started:
            self.live.stop()
        ended = [j for j in self.jobs.values() if j.took is not None]
        if not self.total:
            self.say("Nothing to do: every result is there, made with these parameters and this code.")
        elif ended:
            if not self.quiet:
                self.say("\n" + "\n".join(table(ended)))
            failed = [j.name for j in ended if j.failed]
            spent = f"{self.ended} of {self.total} jobs in {timings.shown(time.time() - self.begun)}"
            self.say(spent + (f"; failed: {', '.join(failed)}" if failed else ""), "red" if failed else "bold")
        super().close()


def clock(seconds: float) -> str:
    """1:05 or 1:02:05."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"


def row(name: str, took: float | str, estimate: float | str | None) -> str:
    """A job with what it took beside what was estimated, in 68 columns."""
    times = [value if isinstance(value, str) else "–" if value is None else clock(value) for value in (took, estimate)]
    return f"{name:<50} {times[0]:>7} {times[1]:>9}"


def table(jobs: list[Job]) -> list[str]:
    """One line a job, in the order of the study, and the sums."""
    lines = [row("job", "took", "estimated")]
    ordered = sorted(jobs, key=lambda job: (job.name[:2].isdigit(), job.name))
    lines += [row(job.name, job.took, job.estimate) for job in ordered]
    known = sum(job.estimate for job in jobs if job.estimate)
    return [*lines, row("all, one after another", sum(job.took for job in jobs), known or None)]


def said(job: Job) -> str:
    """The end of a failed job's log; of preflight the checks, without the estimates that follow, and how to go on."""
    try:
        text = progress.settled(job.log.read_text(encoding="utf-8", errors="replace")).rstrip()
    except OSError:
        text = "(it wrote none)"
    if job.rule == "preflight":
        told = text.partition("\nEstimates for ")[0]
        return f"{told}\nThe checks above stop the run; PREFLIGHT=0 goes on without them."
    return "\n".join([*text.split("\n")[-TAIL:], f"(the end of {job.log})"])


def run(given: list[str]) -> None:
    """Run Snakemake with these arguments; ends with its status, or with 2 where the parameters cannot be used."""
    config = dict(a.split("=", 1) for a in given if a.startswith(("profile=", "set=", "part=")))
    profile = config.get("profile", "cpu")
    params.load(profile, config.get("set", ""))  # the Snakefile would say so too, at the end of a stack trace
    steps.shown_of(config.get("part", ""))
    from snakemake import cli
    from snakemake_interface_logger_plugins.registry import LoggerPluginRegistry

    sys.argv[0] = "snakemake"
    if {"-n", "--dry-run", "--dryrun", "--help", "-h"} & set(given):
        cli.main(given)
    LogHandler.profile = profile
    cores = given[given.index("--cores") + 1] if "--cores" in given else ""
    LogHandler.cores = int(cores) if cores.isdigit() else os.cpu_count() or 1
    LoggerPluginRegistry().register_plugin("snakemake_logger_plugin_s2", sys.modules[__name__])
    os.environ["S2_TERMINAL"] = "1"  # jobs leave it to us to show the end of their logs
    try:
        cli.main(["--logger", "s2", *given])
    except SystemExit as ended:
        logs = sorted(Path(".snakemake/log").glob("*.log"), key=lambda f: f.stat().st_mtime)
        if logs:
            print(f"Snakemake's own account of it: {logs[-1]}")
        raise ended
