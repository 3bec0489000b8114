"""The whole study, small and real: run twice (once killed in the middle), then looked at."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import nbformat
import pandas as pd
import pytest

from s2utils.results import tables
from s2utils.workflow import steps
from s2utils.workflow.params import load

ROOT = Path(__file__).resolve().parents[1]
TABLES = {
    "leaderboard": ["average", "arc_acc_norm", "hellaswag_acc_norm", "mmlu_acc", "truthfulqa_mc2"],
    "rouge": ["rouge_1_f1", "rouge_2_f1", "rouge_l_f1", "rouge_lsum_f1"],
    "bertscore": ["bertscore_precision", "bertscore_recall", "bertscore_f1"],
    "flesch": ["flesch_reading_ease", "flesch_kincaid_grade"],
    "mtbench": ["single_turn_rating", "multi_turn_rating"],
    "judge": [
        f"judge_{d}" for d in ("rating", "simplicity", "helpfulness", "relevance", "accuracy", "depth", "safety")
    ],
}
pytestmark = pytest.mark.slow


def copy_of_repository(folder: Path) -> Path:
    """The files that git would give a fresh clone, without git."""
    for name in ("Snakefile", "pyproject.toml", "notebooks", "params", "s2utils"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints"))
        else:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, folder / name)
    shutil.copytree(ROOT / "reports" / "published", folder / "reports" / "published")
    return folder


def environment(root: Path) -> dict:
    tools = str(Path(sys.executable).parent)
    return os.environ | {
        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}", "S2_ROOT": str(root), "PYTHONPATH": str(root),
        "HF_HUB_OFFLINE": "1",
    }  # fmt: skip


def snakemake(root: Path, *arguments: str, changes: str = "") -> list[str]:
    return [
        "snakemake", "--cores", "2", "--resources", "mem_mb=5600", "gpu=1", "--rerun-triggers", "mtime", "params",
        "input",
        "--rerun-incomplete", "--nolock", "--scheduler", "greedy", "--config", "profile=smoke", f"set={changes}",
        *arguments,
    ]  # fmt: skip


def run(root: Path, command: list[str], folder: str = ".", timeout: int = 900) -> subprocess.CompletedProcess:
    return subprocess.run(
        command, cwd=root / folder, env=environment(root), capture_output=True, text=True, timeout=timeout
    )


def test_six_tables_with_intervals_and_failures(study):
    for name, metrics in TABLES.items():
        table = pd.read_csv(study / f"reports/smoke/tables/{name}.csv", keep_default_na=False)
        wanted = ["model", "base", "variant", "train_set", "merge_mode", "n"]
        wanted += [f"{m}{tail}" for m in metrics for tail in ("", "_ci_low", "_ci_high", "_n_failed")]
        assert not [c for c in wanted if c not in table.columns], name
        assert set(table["merge_mode"]) == {"none", "bf16", "dequantized"}
        assert {"SmolLM2-135M", "SmolLM2-135M-chat", "SmolLM2-135M-sciq-wikilead"} <= set(table["model"])
        assert (table["n"].astype(int) > 0).all()
        for kind in ("md", "tex"):
            assert (study / f"reports/smoke/tables/{name}.{kind}").stat().st_size > 200


REPORTED = {"claims", "model_claims"}  # tables that the report makes


def test_beside_every_table_stands_what_it_is_and_the_cell_that_made_it(study):
    """Keys that tell every row, types that are true, and the id of a cell of the notebook that wrote it."""
    files = sorted((study / "reports/smoke/tables").glob("*.csv"))
    assert len(files) > 35
    for file in files:
        about, frame = json.loads(file.with_suffix(".json").read_text(encoding="utf-8")), tables.read(file)
        assert about["title"] and about["unit"] and list(about["columns"]) == list(frame), file.stem
        assert not frame.duplicated(about["keys"]).any(), f"{file.stem}: {about['keys']} do not tell its rows"
        if file.stem in REPORTED:
            continue
        made_by = about["made_by"]
        cells = json.loads((study / f"notebooks/{made_by['notebook']}.ipynb").read_text(encoding="utf-8"))["cells"]
        assert "save_table" in next("".join(c["source"]) for c in cells if c["id"] == made_by["cell"]), file.stem


def test_every_table_is_one_that_a_notebook_declares(study):
    """Some are for other profiles: without votes or subreddits there are no tables of them."""
    there = {p.stem for p in (study / "reports/smoke/tables").glob("*.csv")} - REPORTED
    assert there == {t for step in steps.shown_of(sweep=False) for t in step.tables} - {"eda_votes", "eda_subreddits"}


def test_failed_plus_parsed_judgements_are_all_judgements(study):
    table = pd.read_csv(study / "reports/smoke/tables/mtbench.csv")
    for row in table.itertuples():
        name = (
            row.model
            if row.merge_mode == "none" or row.merge_mode != row.merge_mode
            else f"{row.model}.{row.merge_mode}"
        )
        judged = (study / f"artefacts/smoke/mtbench/{name}/judged.jsonl").read_text().splitlines()
        assert len(judged) == 2 * row.n


def test_the_judge_is_tested_and_no_judgement_is_lost(study):
    """A judge of 135 million parameters is not reliable, and the tables say so in red."""
    folder = study / "reports/smoke/tables"
    counts = pd.read_csv(folder / "judge_counts.csv")
    assert (counts[["clear", "repaired", "failed"]].sum(axis=1) == counts["asked"]).all()
    assert {"MT(S)-bench", "validation", "pairs", "controls"} == set(counts["part"])
    why = pd.read_csv(folder / "judge_failures.csv")
    assert why["reason"].notna().all() and why[["repaired", "failed"]].sum().equals(
        counts[["repaired", "failed"]].sum()
    )
    checks = pd.read_csv(folder / "judge_panel.csv", keep_default_na=False)
    assert {"single", "rubric", "pair"} == set(checks["kind"]) and (checks["passed"] == "no").any()
    for name in ("mtbench", "judge", "judge_pairs"):
        assert set(pd.read_csv(folder / f"{name}.csv")["judge_reliability"]) == {"not reliable"}, name
    for name in ("mtbench", "judge"):
        assert "THE JUDGE FAILED" in json.loads((folder / f"{name}.json").read_text())["caption"]
    assert 'class="alarm"' in (study / "reports/smoke/html/07_mtbench.html").read_text()


def test_readers_are_told_what_the_text_metrics_are(study):
    folder = study / "reports/smoke/tables"
    for name in ("rouge", "bertscore", "flesch"):
        table = pd.read_csv(folder / f"{name}.csv", keep_default_na=False)
        for metric in TABLES[name]:
            told = table[table[f"{metric}_mark"] != ""]
            assert set(told[f"{metric}_mark"]) <= {"best", "best, not told apart"} and told["dataset"].is_unique
        caption = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))["caption"]
        assert "protocol answer" in caption and "Bold: best of its column" in caption
    moved = pd.read_csv(folder / "protocols_text.csv")
    assert set(moved["choice"]) == {"prompt", "stemmer", "reference", "syllables"}
    moved = moved[moved["n_failed"] == 0]  # else the means are over other answers than the difference
    assert len(moved) > 30 and (moved["effect"] - (moved["switched"] - moved["value"])).abs().max() < 1e-5
    seen = pd.read_csv(folder / "membership.csv")
    assert set(seen["test"]) == {"min_k", "order", "order_control", "order_apart"} and (seen["n"] == 2).all()
    assert "paired" in set(pd.read_csv(folder / "claims.csv")["measured_interval"])


PAIRED = {
    "text_metrics_paired": ["rouge_l_f1", "bertscore_f1", *TABLES["flesch"]],
    "leaderboard_paired": TABLES["leaderboard"],
    "mtbench_paired": TABLES["mtbench"],
    "judge_paired": ["judge_rating"],
    "merge_paired": ["kl", "loss", "agreement"],
    "answers_paired": ["n_tokens", "ended"],
}


@pytest.mark.parametrize("name", PAIRED)
def test_every_evaluation_compares_the_merges(study, name):
    pairs = pd.read_csv(study / f"reports/smoke/tables/{name}.csv", keep_default_na=False)
    assert set(pairs["train_set"]) == {"sciq", "sciq-wikilead"}
    assert ((pairs["merge_mode"] == "dequantized") & (pairs["minus"] == "bf16")).sum() == 2
    compared = {}
    for metric in PAIRED[name]:
        counts = pairs[[f"{metric}_difference_n", f"{metric}_difference_n_failed"]].astype(int)
        compared[metric] = counts.sum(axis=1)
        assert {f"{metric}_difference{end}" for end in ("", "_ci_low", "_ci_high")} <= set(pairs)
    n = pairs["n"].astype(int)
    if name == "leaderboard_paired":  # a task holds its own documents, the average those of all
        assert (compared.pop("average") == n).all()
        compared = {"all tasks": sum(compared.values())}
    assert all((count == n).all() for count in compared.values())


def test_the_leaderboards_differences_are_those_of_its_table(study):
    pairs = pd.read_csv(study / "reports/smoke/tables/leaderboard_paired.csv").set_index("train_set")
    table = pd.read_csv(study / "reports/smoke/tables/leaderboard.csv", keep_default_na=False)
    for train_set, row in pairs.iterrows():
        merges = table[table["train_set"] == train_set].set_index("merge_mode")
        for metric in TABLES["leaderboard"]:
            apart = float(merges.at["dequantized", metric]) - float(merges.at["bf16", metric])
            assert row[f"{metric}_difference"] == pytest.approx(apart, abs=1e-5)


def test_models_are_tested_against_the_base_and_merges_against_each_other(study):
    found = pd.read_csv(study / "reports/smoke/tables/leaderboard_tests.csv", keep_default_na=False)
    table = pd.read_csv(study / "reports/smoke/tables/leaderboard.csv", keep_default_na=False)
    tuned = table[table["train_set"] != ""]
    assert len(found) == len(TABLES["leaderboard"]) * (len(tuned) + tuned["train_set"].nunique())
    assert (found["minus"] == "SmolLM2-135M").sum() == len(TABLES["leaderboard"]) * len(tuned)
    value = table.set_index(["model", "merge_mode"])
    for row in found.itertuples():
        apart = (
            value.at[(row.model, row.merge_mode), row.metric] - value.at[(row.minus, row.minus_merge_mode), row.metric]
        )
        assert row.difference == pytest.approx(apart, abs=1e-5) and float(row.p_holm) >= float(row.p)
        assert row.n == value.at[(row.model, row.merge_mode), "n" if row.metric == "average" else f"{row.metric}_n"]
    assert set(found["verdict"]) <= {"different", "no evidence"}


def test_both_protocols_are_shown_for_the_base(study):
    found = pd.read_csv(study / "reports/smoke/tables/protocols.csv")
    assert set(found["metric"]) == set(TABLES["leaderboard"]) and (found["n"] > 0).all()
    assert (found["harness"] - found["v1"]).tolist() == pytest.approx(found["difference"].tolist(), abs=1e-4)
    assert "Protocol v1" in json.loads((study / "reports/smoke/tables/leaderboard.json").read_text())["caption"]


SHOTS = load("smoke").leaderboard.shots


def test_every_model_keeps_results_in_the_harness_format(study):
    table = pd.read_csv(study / "reports/smoke/tables/leaderboard.csv", keep_default_na=False)
    for row in table[table["variant"] != "chat"].itertuples():
        id = row.model if row.merge_mode == "none" else f"{row.model}.{row.merge_mode}"
        results = json.loads((study / f"artefacts/smoke/leaderboard/{id}/results.json").read_text())
        assert 100 * results["results"]["arc_challenge"]["acc_norm,none"] == pytest.approx(row.arc_acc_norm)
        assert 100 * results["groups"]["mmlu"]["acc,none"] == pytest.approx(row.mmlu_acc)
        assert results["model_name"] == id and results["n-shot"]["hellaswag"] == SHOTS["hellaswag"]


def test_a_merged_model_can_be_published_as_it_lies(study):
    command = [
        sys.executable,
        "-m",
        "s2utils",
        "publish",
        "artefacts/smoke/merged/SmolLM2-135M-sciq.dequantized",
        "me/name",
        "--named",
        "sciq",
    ]
    done = run(study, command)
    assert done.returncode == 0 and "Nothing was pushed" in done.stdout, done.stderr[-2000:]
    assert "merged (dequantized)" in done.stdout and "model.safetensors" in done.stdout


def test_funnel_adds_up(study):
    funnel = pd.read_csv(study / "reports/smoke/tables/funnel.csv")
    for _, part in funnel.groupby("dataset"):
        counts = part.set_index("reason")["n"]
        assert counts["read"] == counts.drop("read").sum()


def test_figures_in_three_formats_with_alt_text(study):
    stems = {p.stem for p in (study / "reports/smoke/figures").glob("*.png")}
    assert {
        "funnel",
        "sft_loss",
        *(f"eda_{name}" for name in ("lengths", "readability", "limits", "share_kept", "vocabulary", "terms")),
        "density_flesch_reading_ease",
        "leaderboard_average",
        "mtbench",
    } <= stems
    for stem in stems:
        for kind in ("svg", "pdf", "txt"):
            assert (study / f"reports/smoke/figures/{stem}.{kind}").stat().st_size > 0, stem


def test_executed_notebooks_hold_no_error_and_name_the_profile(study):
    executed = sorted((study / "artefacts/smoke/notebooks").glob("*.ipynb"))
    assert {p.name.split(".")[0] for p in executed} == {step.notebook for step in steps.shown_of(sweep=False)}
    for path in executed:
        notebook = nbformat.read(path, 4)
        assert not [o for c in notebook.cells for o in c.get("outputs", []) if o.output_type == "error"], path.name


class Links(HTMLParser):
    def __init__(self):
        super().__init__()
        self.links, self.ids, self.loaded = [], set(), []

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.ids |= {values[k] for k in ("id", "name") if values.get(k)}
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])
        if tag in ("img", "script", "link", "iframe") and (values.get("src") or values.get("href")):
            self.loaded.append(values.get("src") or values.get("href"))


def test_report_links_resolve_and_nothing_is_loaded_from_outside(study):
    report = study / "reports/smoke"
    pages = sorted(report.rglob("*.html"))
    assert len(pages) > 40 and {"answers", "data", "figures", "provenance"} <= {p.stem for p in pages}
    for page in pages:
        parser = Links()
        parser.feed(page.read_text(encoding="utf-8"))
        assert not [u for u in parser.loaded if not u.startswith("data:")], page.name
        for link in parser.links:
            target, _, anchor = link.partition("#")
            if re.match(r"[a-z]+:", target):
                continue
            assert not target or (page.parent / unquote(target)).exists(), f"{page.name}: {link}"
            assert target or not anchor or {anchor, unquote(anchor)} & parser.ids, f"{page.name}: {link}"


def test_provenance_names_what_made_the_numbers(study):
    facts = json.loads((study / "reports/smoke/provenance.json").read_text())
    assert facts["profile"] == "smoke" and facts["seeds"]["seed"] == 42
    assert facts["commit"]["id"] == "unknown"  # a copy without git metadata
    assert facts["versions"]["torch"].startswith("2.13.0")
    assert any(a["step"] == "sft" and a["sha256"] and a["versions"] for a in facts["artefacts"])
    assert len(facts["notebooks"]) >= 7


def test_preflight_ran_first_and_passed(study):
    text = (study / "artefacts/smoke/preflight/checks.txt").read_text()
    assert ", 0 fail" in text and "Estimates for SmolLM2-135M" in text


def test_rerun_does_nothing_quickly(study):
    started = time.time()
    done = run(study, snakemake(study))
    assert done.returncode == 0 and "Nothing to be done" in done.stderr + done.stdout, done.stderr[-2000:]
    assert time.time() - started < 15


def test_changed_parameter_reruns_what_depends_on_it_and_says_why(study):
    done = run(study, snakemake(study, "-n", changes="generate.temperature=0.7"))
    text = done.stdout + done.stderr
    planned = set(re.findall(r"(?:local)?rule (\w+):", text))
    assert {"answers_one", "answers", "text_metrics", "mtbench_one", "report"} <= planned
    assert not planned & {"eda", "data", "sft_one", "sft", "leaderboard_one"}
    assert "generate.temperature=0.7" in text


def test_a_changed_training_reaches_every_table_in_one_run(study):
    """Every rule behind the adapter is planned at once; base and chat stay as they are."""
    done = run(study, snakemake(study, "-n", changes="sft.r=3 leaderboard.batch_size=3"))
    counts = dict(re.findall(r"^(\w+) +(\d+)$", done.stdout, re.M))
    assert done.returncode == 0 and not {"eda", "data", "filtered_one"} & set(counts)
    assert [counts[r] for r in ("sft_one", "merged_one", "answers_one", "mtbench_one")] == ["2", "2", "4", "4"]
    assert counts["leaderboard_one"] == "5" and {"leaderboard", "mtbench", "text_metrics", "report"} <= set(counts)


def test_override_on_papermills_command_line(study, tmp_path):
    """-y 'overrides: …' reaches the run, and an artefact made with other parameters is not taken."""
    output = tmp_path / "03.ipynb"
    notebook = study / "notebooks/03_sft.ipynb"
    command = ["papermill", str(notebook), str(output), "-p", "profile", "smoke", "-p", "train_set", "sciq"]
    done = run(study, [*command, "-y", "overrides: {seed: 7}"], folder="notebooks")
    assert done.returncode and "was made with other parameters" in done.stderr and "02_datasets" in done.stderr
    assert output.is_file(), "a failed run's notebook is kept"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["-p", "profil", "smoke"], "unknown parameter 'profil'; did you mean 'profile'?"),
        (["-p", "profile", "smokey"], "there is no profile 'smokey'"),
        (
            ["-p", "profile", "smoke", "-y", "overrides: {sft: {max_step: 5}}"],
            "unknown parameter 'sft.max_step'; did you mean 'max_steps'?",
        ),
        (
            ["-p", "profile", "smoke", "-p", "train_set", "sciqq"],
            "train_set 'sciqq' is not in profile smoke; did you mean 'sciq'?",
        ),
    ],
)
def test_notebooks_refuse_what_they_do_not_know(study, tmp_path, given, message):
    done = run(study, ["papermill", "notebooks/03_sft.ipynb", str(tmp_path / "out.ipynb"), *given])
    assert done.returncode and message in done.stderr, done.stderr[-1500:]


def test_notebook_runs_from_its_own_folder(study, tmp_path):
    """As "Run all" in JupyterLab does: working directory notebooks/, finished artefacts are used."""
    done = run(
        study,
        ["papermill", "05_text_metrics.ipynb", str(tmp_path / "05.ipynb"), "-p", "profile", "smoke"],
        folder="notebooks",
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_sweep_over_seeds_trains_what_is_new_and_compares(study, tmp_path):
    study = shutil.copytree(study, tmp_path / "repository", symlinks=True)  # its tables hold fewer models
    changes = "sft.train_sets=[sciq] merge.modes=[bf16] sweep.sft.seed=[42,43]"
    before = (study / "artefacts/smoke/sft/sciq/manifest.json").read_bytes()
    done = run(study, snakemake(study, "--", "artefacts/smoke/sweep/.done", changes=changes))
    assert done.returncode == 0, done.stderr[-4000:]
    assert (study / "artefacts/smoke/sft/sciq/manifest.json").read_bytes() == before, "seed 42 was trained again"
    assert sorted(p.name for p in (study / "artefacts/smoke@sft.seed=43").iterdir()) == [
        "answers", "benchmarks", "cache", "judged", "leaderboard", "merged", "mtbench", "notebooks", "sft",
        "text_metrics",
    ]  # fmt: skip
    table = pd.read_csv(study / "reports/smoke/tables/sweep.csv")
    assert set(table["table"]) == {*TABLES, "sft"} and (table["seeds"] == 2).all()
    tuned = table[(table["table"] == "sft") & (table["metric"] == "eval_loss_after")].iloc[0]
    assert tuned["seed_min"] < tuned["value"] < tuned["seed_max"] and tuned["seed_sd"] > 0
    assert (table.loc[table["variant"] == "base", "seed_sd"].dropna() == 0).all()  # empty: nothing was rated
    assert table.loc[table["variant"] == "sft", "above_base"].dropna().between(0, 2).all()
    assert (study / "reports/smoke/figures/sweep.png").is_file()


ONE = "sft.train_sets=[sciq] merge.modes=[bf16]"  # one fine-tune, the same as the whole study's
MADE = {  # what is made for it, and files that hold no time
    "sft/sciq": ("adapter_model.safetensors", "adapter_config.json", "samples.jsonl"),
    "merged/SmolLM2-135M-sciq.bf16": ("model.safetensors", "changes.json"),
    "answers/SmolLM2-135M-sciq.bf16": ("answers.jsonl",),
    "leaderboard/SmolLM2-135M-sciq.bf16": (
        "arc.jsonl",
        "hellaswag.jsonl",
        "mmlu.jsonl",
        "truthfulqa.jsonl",
        "results.json",
    ),
    "mtbench/SmolLM2-135M-sciq.bf16": ("turn_1.jsonl", "turn_2.jsonl", "judged.jsonl"),
}


def test_killed_run_resumes_to_the_same_bytes(study, tmp_path_factory):
    """SIGKILL in the middle of training, and again while the model is asked; what comes out is the first run's."""
    root = copy_of_repository(tmp_path_factory.mktemp("killed") / "repository")
    for made in (".snakemake", "artefacts/smoke/filtered", "artefacts/smoke/data"):  # of the run without a kill
        shutil.copytree(study / made, root / made)
    command = snakemake(root, "preflight=0", "--", *(f"artefacts/smoke/{made}/.done" for made in MADE), changes=ONE)
    for sign in ("sft/sciq/log.jsonl", "mtbench/SmolLM2-135M-sciq.bf16/turn_1.jsonl"):
        process = subprocess.Popen(
            command, cwd=root, env=environment(root), start_new_session=True, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.time() + 300
        while not (root / "artefacts/smoke" / sign).exists() and time.time() < deadline and process.poll() is None:
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        folder = (root / "artefacts/smoke" / sign).parent
        assert (folder / Path(sign).name).is_file(), f"{sign} never came"
        assert not (folder / "manifest.json").is_file(), "the run was killed too late to test anything"
        time.sleep(3)  # kernels notice that their parent is gone
    done = run(root, command)
    assert done.returncode == 0, done.stderr[-4000:]
    for made, files in MADE.items():
        for name in files:
            ours, first = (r / "artefacts/smoke" / made / name for r in (root, study))
            assert ours.read_bytes() == first.read_bytes(), f"{made}/{name} differs"


OTHER = """
import json, sys
from pathlib import Path
import torch
from s2utils.evaluation.leaderboard import evaluate as leaderboard
from s2utils.models import llm, loading as models
from s2utils.data import question_writer as questions, splits
from s2utils.training import sft as train
from s2utils.workflow.params import load
torch.set_num_threads(1)
study, folder = map(Path, sys.argv[1:])
p = load("smoke")
data = study / "artefacts/smoke/data"
train.run(p, data, "sciq", folder)
base = leaderboard.backend(p.model.base, p.model.name, p)
leaderboard.evaluate(base, p, folder, p.model.name)
texts = splits.read(data, "train", "wikilead", p.data.union)["answer"].tolist()[:8]
writer = p.questions.writer
chats = [questions.chat(questions.FIRST, text) for text in texts]
replies = llm.ask(writer, chats, folder / "questions.jsonl", seed=p.seed, local=llm.local(writer, p))
print(torch.backends.cpu.get_cpu_capability())
"""


def capability(lesser: bool) -> dict:
    """Variables under which torch, oneDNN and MKL compute as a processor with AVX2 alone, or with less than that."""
    found = ("avx2", "AVX2", "AVX2") if lesser else ("default", "SSE41", "SSE4_2")
    return dict(zip(("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS"), found))


def test_another_processor_gives_the_same_results(study, tmp_path):
    """Losses and log-likelihoods within 1e-3, accuracies and greedy text equal, where another kind of unit computes."""
    import torch

    mine = torch.backends.cpu.get_cpu_capability()
    if mine not in ("AVX512", "AVX2"):
        pytest.skip(f"units of {mine} have no lesser ones that can be asked for")
    other = capability(lesser=mine == "AVX512")
    done = subprocess.run(
        [sys.executable, "-c", OTHER, study, tmp_path], cwd=study, env=environment(study) | other, capture_output=True,
        text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split()[-1] == {"AVX512": "AVX2", "AVX2": "DEFAULT"}[mine]

    def rows(path: Path) -> list[dict]:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]

    first = study / "artefacts/smoke/sft/sciq"
    for name in ("loss", "eval_loss", "grad_norm"):
        ours, theirs = ([row[name] for row in rows(f / "log.jsonl") if name in row] for f in (tmp_path, first))
        assert ours == pytest.approx(theirs, abs=1e-3) and len(ours) >= 2, name
    assert [r["text"] for r in rows(tmp_path / "samples.jsonl")] == [r["text"] for r in rows(first / "samples.jsonl")]

    first = study / "artefacts/smoke/leaderboard/SmolLM2-135M"
    tasks = sorted(f.name for f in first.glob("*.jsonl") if f.name != "answers.jsonl")
    assert len(tasks) == 4 and tasks == sorted(f.name for f in tmp_path.glob("*.jsonl") if f.name in tasks)
    for name in tasks:
        for ours, theirs in zip(rows(tmp_path / name), rows(first / name), strict=True):
            assert ours["log_likelihoods"] == pytest.approx(theirs["log_likelihoods"], abs=1e-3), name
            assert ours["greedy"] == theirs["greedy"] and ours["prompt"] == theirs["prompt"]
            if not name.startswith("truthfulqa"):  # mc2 is a share of probability
                assert ours["value"] == theirs["value"], name

    written = {r["id"]: r["text"] for r in rows(study / "artefacts/smoke/cache/questions.jsonl")}
    again = rows(tmp_path / "questions.jsonl")
    known = [r for r in again if r["id"] in written]
    assert len(known) >= 4 and all(r["text"] == written[r["id"]] for r in known)
