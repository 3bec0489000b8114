"""The graph on a cluster: a one-node Slurm of plain processes, and training in several processes."""

import getpass
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest
import yaml
from datatrove.executor import SlurmPipelineExecutor
from safetensors.torch import load_file
from test_study import copy_of_repository, environment, run

from s2utils.data import corpus_pipeline
from s2utils.workflow.params import load, parse_set

ROOT = Path(__file__).resolve().parents[1]
PROFILE = ("--profile", "cluster/slurm")
pytestmark = pytest.mark.slow


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Slurm:
    """A controller, a node with sixteen cores and a GPU that it only claims to have, and their key service.

    Everything lies in one short folder (a socket's path may have 107 characters) and runs as this user.
    """

    def __init__(self, folder: Path):
        self.folder, self.running = folder, []
        self.host = socket.gethostname().split(".")[0]
        srun = shutil.which("srun")
        path = f"{folder}/bin{os.pathsep}{os.environ['PATH']}"
        self.variables = {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": path}
        for name in ("state", "spool", "bin"):
            (folder / name).mkdir()
        (folder / "munge.key").write_bytes(os.urandom(64))
        (folder / "munge.key").chmod(0o600)
        (folder / "gres.conf").write_text("Name=gpu File=/dev/null\n")
        (folder / "slurm.conf").write_text(self.settings())
        # Snakemake's job step drops every SLURM_ variable before it calls srun, and with it where our cluster is
        (folder / "bin/srun").write_text(f'#!/bin/sh\nSLURM_CONF={folder}/slurm.conf exec {srun} "$@"\n')
        (folder / "bin/srun").chmod(0o755)

    def settings(self) -> str:
        user, folder = getpass.getuser(), self.folder
        return f"""ClusterName=test
SlurmctldHost={self.host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
SlurmctldPort={free_port()}
SlurmdPort={free_port()}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
MpiDefault=none
MailProg=/bin/true
PlugStackConfig=/dev/null
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/jobs.txt
GresTypes=gpu
NodeName={self.host} NodeAddr=127.0.0.1 CPUs=16 RealMemory=200000 Gres=gpu:1 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""

    def start(self) -> None:
        """Start the three services; RuntimeError with their logs where the node does not come up."""
        folder = self.folder
        kept = {"key": ".key", "pid": "d.pid", "log": "d.log", "seed": ".seed"}
        files = [f"--{kind}-file={folder}/munge{name}" for kind, name in kept.items()]
        for name, options in {
            "munged": ["--foreground", "--force", f"--socket={folder}/munge.socket", *files],
            "slurmctld": ["-D", "-f", folder / "slurm.conf"],
            "slurmd": ["-D", "-f", folder / "slurm.conf", "-N", self.host],
        }.items():
            with (folder / f"{name}.out").open("w") as out:
                call = [program(name), *map(str, options)]
                started = {"env": os.environ | self.variables, "stdout": out, "stderr": out}
                self.running.append(subprocess.Popen(call, start_new_session=True, **started))
            deadline = time.time() + 10
            while name == "munged" and not (folder / "munge.socket").exists() and time.time() < deadline:
                time.sleep(0.1)
        deadline = time.time() + 30
        while time.time() < deadline and all(process.poll() is None for process in self.running):
            if "idle" in self.ask("sinfo", "--noheader", "--format=%T"):
                return
            time.sleep(0.5)
        said = "\n".join(f"{p.name}: {p.read_text()[-500:]}" for p in folder.glob("*.out"))
        raise RuntimeError(f"Slurm's node did not come up:\n{said}")

    def ask(self, *command: str) -> str:
        own = os.environ | self.variables
        return subprocess.run(command, env=own, capture_output=True, text=True, timeout=30).stdout

    def jobs(self) -> list[dict]:
        """One dict a finished job, as Slurm wrote it down."""
        listing = self.folder / "jobs.txt"
        lines = listing.read_text().splitlines() if listing.is_file() else []
        return [dict(re.findall(r"(\w+)=(\S*)", line)) for line in lines]

    def stop(self) -> None:
        self.ask("scancel", "--user", getpass.getuser())
        for process in reversed(self.running):
            process.terminate()
        for process in self.running:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def program(name: str) -> str | None:
    """Path of a service; they lie outside of a user's PATH."""
    return shutil.which(name, path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin")


@pytest.fixture(scope="module")
def slurm():
    missing = [name for name in ("munged", "slurmctld", "slurmd", "sbatch", "srun") if not program(name)]
    if missing:
        assert not os.environ.get("CI"), "CI must have Slurm (slurm-wlm, munge)"
        pytest.skip(f"no Slurm on this machine: {', '.join(missing)} (Debian: slurm-wlm, munge)")
    folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
    folder.chmod(0o755)
    cluster = Slurm(folder)
    try:
        try:
            cluster.start()
        except RuntimeError as error:
            assert not os.environ.get("CI"), error
            pytest.skip(str(error))
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    folder = copy_of_repository(tmp_path_factory.mktemp("cluster") / "repository")
    shutil.copytree(ROOT / "cluster", folder / "cluster")
    return folder


def submit(root: Path, slurm: Slurm, *arguments: str, profile: str = "smoke"):
    """Run the graph with the repository's profile for Slurm, looking after the jobs sooner: 8 s, then 10 more each."""
    command = [
        "snakemake", *PROFILE, "--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "8",
        "--latency-wait", "5", "--config", f"profile={profile}", "set=", *arguments,
    ]  # fmt: skip
    ours = environment(root) | slurm.variables
    ours["PATH"] = f"{slurm.folder}/bin{os.pathsep}{environment(root)['PATH']}"
    return subprocess.run(command, cwd=root, env=ours, capture_output=True, text=True, timeout=400)


def test_the_fan_out_of_training_as_slurm_jobs_makes_the_same_adapters(root, study, slurm):
    targets = [f"artefacts/smoke/sft/{name}/.done" for name in ("sciq", "sciq-wikilead")]
    for made in (".snakemake", "artefacts/smoke/filtered", "artefacts/smoke/data"):  # the data of a run without Slurm
        shutil.copytree(study / made, root / made)
    done = submit(root, slurm, "--", *targets)
    assert done.returncode == 0, done.stderr[-4000:]

    jobs = slurm.jobs()
    print("\n".join(f"{j['JobId']} {j['JobState']} {j['Tres']} {j['StartTime']} {j['EndTime']}" for j in jobs))
    assert [j["JobState"] for j in jobs] == ["COMPLETED"] * 2 and {j["NodeList"] for j in jobs} == {slurm.host}
    assert all(j["Tres"].startswith("cpu=1,mem=3200M") and j["TimeLimit"] == "60" for j in jobs)
    assert max(j["StartTime"] for j in jobs) < min(j["EndTime"] for j in jobs), "the jobs did not run side by side"
    assert {j["JobId"] for j in jobs} == set(re.findall(r"submitted with SLURM jobid (\d+)", done.stdout + done.stderr))
    adapters = sorted((root / "artefacts/smoke/sft").glob("*/adapter_model.safetensors"))
    assert len(adapters) == 2
    for adapter in adapters:
        first = study / "artefacts/smoke/sft" / adapter.parent.name / adapter.name
        assert adapter.read_bytes() == first.read_bytes(), adapter.parent.name


def test_a_corpus_filtered_by_two_slurm_tasks_has_the_bytes_of_one(slurm, tmp_path, monkeypatch):
    """Each stage an array of jobs that waits for the one before it, as the pipeline's docstring says."""
    params = load("cpu")
    parables = params.corpus.components["parables"]
    components = {  # two blocks of documents, and in the second some of the first again
        "parables": parables.model_copy(update={"max_documents": 0}),
        "again": parables.model_copy(update={"max_documents": 60}),
    }
    limits = params.corpus.pipeline.model_copy(update={"web": ["parables"], "minhash_buckets": 2})
    given = ({"none": ["which of the many small stones does the grey heron choose"]}, params.s2.toxicity_model, 7)
    one, two = tmp_path / "one", tmp_path / "two"
    funnel = corpus_pipeline.run(one, components, limits.model_copy(update={"tasks": 1}), *given)
    dropped = funnel[(funnel["step"] == "duplicates") & (funnel["reason"] != "kept")]
    assert dropped["n"].sum() > 0, "nothing is told of copies in another task"

    for name, value in (environment(ROOT) | slurm.variables | {"PYTHONPATH": str(ROOT)}).items():
        monkeypatch.setenv(name, value)
    before, last = len(slurm.jobs()), None
    for stage in corpus_pipeline.stages(two / "work", components, limits.model_copy(update={"tasks": 2}), *given):
        last = SlurmPipelineExecutor(
            stage.blocks, tasks=stage.tasks, time="10", partition="main", qos="", requeue=False, depends=last,
            job_name=stage.name, logging_dir=str(stage.logs),
        )  # fmt: skip
    last.run()
    deadline = time.time() + 300
    while slurm.ask("squeue", "--noheader").strip() and time.time() < deadline:
        time.sleep(1)
    said = "".join(path.read_text()[-800:] for path in sorted(two.glob("work/logs/*/slurm_logs/*_*.out")))
    jobs = slurm.jobs()[before:]
    assert {job["JobState"] for job in jobs} == {"COMPLETED"} and time.time() < deadline, said[-6000:]
    assert len([job for job in jobs if job["Name"] == "filter"]) >= 2
    assert len(list((two / "work/filtered").glob("*.parquet"))) == 2
    corpus_pipeline.finish(two, components, limits, given[-1])
    shutil.rmtree(two / "work")
    first, second = (
        {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
        for folder in (one, two)
    )
    assert first == second and len(first) >= 2


@pytest.mark.parametrize("attempt", [1, 2])
def test_every_rule_says_what_it_needs_and_a_retry_asks_for_more(root, attempt):
    """Planned only, so without Slurm."""
    command = ["snakemake", "-n", *PROFILE, "--attempt", str(attempt), "--config", "profile=a100-7b", "set="]
    done = run(root, command)
    assert done.returncode == 0, done.stderr[-2000:]
    found = re.findall(r"rule (\w+):\n(?:    .*\n)*?    resources: (.*)", done.stdout + done.stderr)
    planned = {rule: dict(part.split("=", 1) for part in text.split(", ")) for rule, text in found}
    needs = {rule: (r.get("gpu", "0"), int(r["mem_mb"]), int(r["runtime"])) for rule, r in planned.items()}
    assert needs["sft_one"] == ("1", 48000 * attempt, 1440 * attempt)
    assert needs["filtered_one"] == ("0", 6000 * attempt, 240 * attempt)
    assert needs["report"] == ("0", 4000, 60)
    heavy = {rule: need for rule, need in needs.items() if rule.endswith("_one")}
    assert len(heavy) >= 5 and all(mb > 4000 and minutes > 60 for _, mb, minutes in heavy.values())


def test_a_job_of_the_study_asks_for_its_gpu(root, slurm):
    """The node's GPU is not there, so the notebook refuses; Slurm has granted it all the same."""
    before = len(slurm.jobs())
    done = submit(root, slurm, "--retries", "0", "--", "artefacts/a100-7b/eda/.done", profile="a100-7b")
    (job,) = slurm.jobs()[before:]
    assert (job["JobState"], job["TimeLimit"]) == ("FAILED", "120") and job["Tres"].startswith("cpu=8,mem=16000M")
    assert "TresPerJob=gres:gpu:1" in slurm.ask("scontrol", "show", "job", job["JobId"])
    said = (root / "artefacts/a100-7b/notebooks/01_eda.log").read_text()
    assert done.returncode and "runtime.device is cuda and no GPU is visible" in said


CHANGES = (
    "model.base.path=tiny sft.train_sets=[sciq] sft.max_steps=6 sft.evaluations=3 sft.gradient_accumulation_steps=4 "
    "sft.lora_dropout=0.0 sft.learning_rate=1.0e-3 sft.eval_rows=8 sft.early_stopping_patience=0"
)
DATA = """
import sys
from conftest import write_rows
from s2utils.workflow import notebook
from s2utils.workflow.params import load
data = notebook.Run("data", "smoke", load("smoke", sys.argv[1])).artefact()
with data.making():
    write_rows(data.folder, train=24, validation=8)
"""


@pytest.fixture
def small(tiny_base, tmp_path) -> Path:
    """A copy of the repository with a tiny base and a few rows, as 02 leaves them."""
    folder = copy_of_repository(tmp_path / "repository")
    shutil.copytree(tiny_base, folder / "tiny")
    command = [sys.executable, "-c", DATA, CHANGES]
    own = environment(folder) | {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT / "tests")])}
    done = subprocess.run(command, cwd=folder, env=own, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


def launch(root: Path, processes: int, changes: str = CHANGES) -> subprocess.Popen:
    """Train sciq in one process, or in several by torchrun (`accelerate launch --cpu` would start only one)."""
    several = ["torch.distributed.run", "--standalone", f"--nproc_per_node={processes}", "-m"] if processes > 1 else []
    command = [sys.executable, "-m", *several, "s2utils", "sft", "smoke", "sciq", "--set", changes]
    with open(root / "launched.txt", "w") as out:
        own = environment(root)
        return subprocess.Popen(command, cwd=root, env=own, stdout=out, stderr=out, start_new_session=True)


def trained(root: Path, processes: int, name: str) -> Path:
    """Folder of the adapter that so many processes made, put aside under `name`."""
    process = launch(root, processes)
    assert process.wait(200) == 0, (root / "launched.txt").read_text()[-3000:]
    return (root / "artefacts/smoke/sft/sciq").rename(root / name)


def logged(folder: Path, name: str) -> list[float]:
    """Every logged value of a kind, in order."""
    return [row[name] for row in map(json.loads, (folder / "log.jsonl").read_text().splitlines()) if name in row]


def test_the_notebook_one_process_and_two_make_the_same_adapter(small, tmp_path):
    """Eight rows a step over two epochs: 4 batches of 2 rows in one process, 2 in each of two."""
    papermill = ["papermill", "notebooks/03_sft.ipynb", str(tmp_path / "03.ipynb"), "-p", "profile", "smoke"]
    papermill += ["-p", "train_set", "sciq", "-y", json.dumps({"overrides": parse_set(CHANGES)})]
    done = run(small, papermill)
    assert done.returncode == 0, done.stderr[-3000:]
    notebook = (small / "artefacts/smoke/sft/sciq").rename(small / "notebook")
    one, two = trained(small, 1, "one"), trained(small, 2, "two")

    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert (notebook / name).read_bytes() == (one / name).read_bytes(), name
    records = [json.loads((folder / "manifest.json").read_text()) for folder in (notebook, one, two)]
    assert len({r["key"] for r in records}) == 1 and len({frozenset(r["files"]) for r in records}) == 1
    first, second = (json.loads((folder / "result.json").read_text()) for folder in (one, two))
    assert (first["processes"], second["processes"]) == (1, 2)
    same = ("tokens", "steps", "epochs", "train_rows", "eval_rows", "rows_masked")
    assert {k: first[k] for k in same} == {k: second[k] for k in same} and first["tokens"] > 500
    for name, n in {"loss": 6, "eval_loss": 5, "grad_norm": 6}.items():
        assert len(logged(one, name)) == n and logged(two, name) == pytest.approx(logged(one, name), abs=1e-3), name
    assert logged(one, "loss")[-1] < logged(one, "loss")[0] - 0.05, "nothing was learnt"
    assert first["eval_loss_after"] == pytest.approx(second["eval_loss_after"], abs=1e-3)

    two.rename(small / "artefacts/smoke/sft/sciq")  # the notebook takes it as it is
    manifest = (small / "artefacts/smoke/sft/sciq/manifest.json").read_bytes()
    done = run(small, papermill)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (small / "artefacts/smoke/sft/sciq/manifest.json").read_bytes() == manifest


def kill_at_a_checkpoint(process: subprocess.Popen, folder: Path) -> None:
    """SIGKILL to a launcher and to all that it started, once a checkpoint is whole; each has its own group."""
    deadline = time.time() + 120
    while not list(folder.glob("checkpoint-*/whole.json")) and process.poll() is None and time.time() < deadline:
        time.sleep(0.01)
    family = psutil.Process(process.pid).children(recursive=True)
    for one in (process, *family):
        one.kill()
    process.wait()
    psutil.wait_procs(family)
    assert list(folder.glob("checkpoint-*/whole.json")) and not list(folder.glob("adapter_model*")), "killed too late"


def test_two_killed_processes_go_on_to_the_same_adapter(small):
    whole = trained(small, 2, "whole")
    folder = small / "artefacts/smoke/sft/sciq"
    kill_at_a_checkpoint(launch(small, 2), folder)
    assert list(folder.glob("checkpoint-*/rng_state_1.pth")) and not (folder / "manifest.json").exists()
    cut = trained(small, 2, "cut")
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert (whole / name).read_bytes() == (cut / name).read_bytes(), name
    assert len(logged(cut, "loss")) >= 6 and not list(cut.glob("checkpoint-*"))


@pytest.mark.parametrize(
    ("processes", "changes", "message"),
    [
        (2, "sft.gradient_accumulation_steps=3", "is 3 and 2 processes share it: make it a multiple of 2"),
        (1, "sft.max_step=3", "unknown parameter 'sft.max_step'; did you mean 'max_steps'?"),
        (1, "data.train_max=7", "was made with other parameters or code"),
        (1, "runtime.device=cuda", "runtime.device is cuda and no GPU is visible"),
    ],
)
def test_the_launched_training_says_what_is_wrong(small, processes, changes, message):
    others = [change for change in CHANGES.split() if change.partition("=")[0] != changes.partition("=")[0]]
    process = launch(small, processes, " ".join([*others, changes]))
    said = process.wait(100), (small / "launched.txt").read_text()
    assert said[0] and message in said[1] and "s2utils/training/sft.py" not in said[1], said[1][-2000:]


SHARDED = """
import contextlib, json, sys
from pathlib import Path
import torch
from accelerate import PartialState
from accelerate.utils import DistributedType
from torch import distributed
from torch.distributed.fsdp._flat_param import FlatParamHandle
distributed.init_process_group("gloo")
# accelerate shards on GPUs only: it is told that these processes have some, and that theirs is the CPU
PartialState._prepare_backend = lambda self, *given: ("gloo", DistributedType.MULTI_GPU)
PartialState.set_device = lambda self: setattr(self, "device", torch.device("cpu"))
FlatParamHandle.to_cpu = lambda self: contextlib.nullcontext()  # a full state is there already
from s2utils.training import distributed, sft as train
from s2utils.workflow.params import load
distributed.check_sharding = lambda params: None
folder, changes = sys.argv[1:]
torch.set_num_threads(1)
params = load("smoke", changes)
train.run(params, Path("artefacts/smoke/data"), "sciq", Path(folder))
"""


@pytest.fixture
def shard(small):
    """Start a training in two processes over which the model is split, by the settings of cluster/."""
    settings = yaml.safe_load((ROOT / "cluster/fsdp-qlora.yaml").read_text())["fsdp_config"]
    variables = {key.upper(): str(value) for key, value in settings.items()}
    variables |= {"ACCELERATE_USE_FSDP": "true", "FSDP_SYNC_MODULE_STATES": "false"}  # it asks for a GPU at once
    (small / "sharded.py").write_text(SHARDED)

    def start(folder: Path) -> subprocess.Popen:
        folder.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "sharded.py"]
        with open(small / "launched.txt", "w") as out:
            command += [folder, f"{CHANGES} sft.samples=0"]
            own = environment(small) | variables
            return subprocess.Popen(command, cwd=small, env=own, stdout=out, stderr=out, start_new_session=True)

    return start


def test_a_model_split_over_two_processes_trains_like_a_whole_one(small, shard):
    """FSDP over the 4-bit weights; the adapter is saved whole."""
    one = trained(small, 1, "one")
    whole = small / "sharded"
    process = shard(whole)
    assert process.wait(200) == 0, (small / "launched.txt").read_text()[-3000:]
    for name in ("loss", "eval_loss", "grad_norm"):
        assert logged(whole, name) == pytest.approx(logged(one, name), abs=1e-3), name
    ours, theirs = (load_file(folder / "adapter_model.safetensors") for folder in (one, whole))
    assert set(ours) == set(theirs)
    change = sum(w.norm() ** 2 for k, w in ours.items() if "lora_B" in k) ** 0.5
    assert sum((ours[k] - theirs[k].float()).norm() ** 2 for k in ours if "lora_B" in k) ** 0.5 < 0.1 * change
    assert not list(whole.glob("checkpoint-*"))


def test_the_command_for_a_sharded_base_is_one_that_accelerate_and_training_take():
    from accelerate.commands.launch import launch_command_parser

    from s2utils.training import distributed, sft

    text = (ROOT / "cluster/README.md").read_text(encoding="utf-8").replace("\\\n", " ")
    (line,) = re.findall(r"^accelerate launch (.*)$", text, re.MULTILINE)
    given = launch_command_parser().parse_args(shlex.split(line))
    assert given.module and given.training_script == "s2utils" and (ROOT / given.config_file).is_file()
    verb, profile, train_set, option, changes = given.training_script_args
    params = load(profile, changes)
    assert option == "--set" and train_set in params.sft.train_sets
    distributed.check_sharding(params)
    before = load(profile).sft
    assert sft.share(params.sft, given.num_processes) * given.num_processes == params.sft.gradient_accumulation_steps
    batch, wanted = (s.per_device_train_batch_size * s.gradient_accumulation_steps for s in (params.sft, before))
    assert batch == wanted


def test_accelerate_reads_the_settings_for_a_sharded_base(monkeypatch):
    """Its launcher hands them on as variables. Training cannot be tried here.

    On a CPU accelerate falls back to whole copies.
    """
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.utils import FullyShardedDataParallelPlugin

    settings = load_config_from_file(str(ROOT / "cluster/fsdp-qlora.yaml"))  # raises at a key that it does not know
    assert (settings.distributed_type, settings.mixed_precision, settings.use_cpu) == ("FSDP", "bf16", False)
    for key, value in settings.fsdp_config.items():
        monkeypatch.setenv(key.upper(), str(value))
    monkeypatch.setenv("FSDP_SYNC_MODULE_STATES", "false")  # these two ask for a GPU at once
    monkeypatch.setenv("FSDP_CPU_RAM_EFFICIENT_LOADING", "false")
    plugin = FullyShardedDataParallelPlugin()
    assert (plugin.sharding_strategy.name, plugin.state_dict_type.name) == ("FULL_SHARD", "FULL_STATE_DICT")
    assert plugin.fsdp_version == 1 and not plugin.use_orig_params and not plugin.cpu_offload.offload_params
