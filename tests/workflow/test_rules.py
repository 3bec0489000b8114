"""What a job of the graph reads, makes and may take, for wildcards as Snakemake gives them."""

import dataclasses

import pytest
from snakemake.iocontainers import Wildcards

from s2utils.workflow import steps
from s2utils.workflow.rules import Rules, quoted

BASE, CHAT, TUNED = "SmolLM2-135M", "SmolLM2-135M-chat", "SmolLM2-135M-sciq.bf16"


def read(rules: Rules, step: str, collecting: bool = False, **wildcards: str) -> list[str]:
    """Files that a job reads, below artefacts/, without `.done`."""
    given = Wildcards(fromdict={"profile": rules.profile} | wildcards)
    files = rules.inputs(steps.STEPS[step], collecting)(given)
    return [file.removeprefix("artefacts/").removesuffix("/.done") for file in files]


@pytest.fixture
def smoke(tree) -> Rules:
    return Rules("smoke")


def test_a_job_reads_what_its_artefact_stands_on(smoke):
    assert read(smoke, "data", True) == ["smoke/filtered/0", "smoke/filtered/1"] and read(smoke, "eda", True) == []
    assert read(smoke, "sft", train_set="sciq") == ["smoke/data"]
    assert read(smoke, "merged", train_set="sciq") == ["smoke/sft/sciq"]
    assert read(smoke, "answers", model=BASE) == ["smoke/data"]
    assert read(smoke, "answers", model=TUNED) == ["smoke/data", f"smoke/merged/{TUNED}"]
    merges = [f"smoke/merged/SmolLM2-135M-sciq.{mode}" for mode in ("bf16", "dequantized")]
    assert read(smoke, "divergence", train_set="sciq") == ["smoke/data", "smoke/sft/sciq", *merges]


def test_a_run_for_readers_reads_all_that_it_shows(smoke):
    models = [row.id for row in steps.models(smoke.params)]
    assert read(smoke, "mtbench", True) == [*(f"smoke/mtbench/{id}" for id in models), "smoke/judged"]
    assert read(smoke, "text_metrics", True) == [*(f"smoke/answers/{id}" for id in models), "smoke/membership"]
    assert read(smoke, "sft", True) == ["smoke/sft/sciq", "smoke/sft/sciq-wikilead"]


def test_two_models_that_are_the_same_weights_are_scored_once(smoke):
    scored = [f"smoke/leaderboard/{row.id}" for row in steps.models(smoke.params) if row.id != CHAT]
    assert read(smoke, "leaderboard", True) == [*scored, "smoke/protocols"]
    assert "a100-7b/leaderboard/Llama-2-7b-chat" in read(Rules("a100-7b"), "leaderboard", True)


def test_a_single_shard_is_made_by_who_reads_it_once_for_all_points(tree):
    rules = Rules("smoke", "data.shards=1 sweep.data.train_max=[5,6]")
    assert read(rules, "data", True) == []
    assert read(rules, "data", True, profile="smoke@data.train_max=5") == ["smoke/data"]


def test_a_sweep_reads_the_tables_of_every_point(tree):
    files = read(Rules("smoke", "sweep.sft.seed=[42,43]"), "sweep", True)
    assert files[:4] == ["smoke/sft", "smoke/text_metrics", "smoke/leaderboard", "smoke/mtbench"]
    assert files[4:] == [f"smoke@sft.seed=43/{step}" for step in ("sft", "text_metrics", "leaderboard", "mtbench")]


def test_one_job_makes_all_merges_of_a_train_set(smoke):
    made = [f"artefacts/{{profile}}/merged/{BASE}-{{train_set}}.{mode}/.done" for mode in ("bf16", "dequantized")]
    assert smoke.outputs(steps.STEPS["merged"]) == made
    assert smoke.outputs(steps.STEPS["answers"]) == ["artefacts/{profile}/answers/{model}/.done"]
    assert smoke.outputs(steps.STEPS["eda"]) == ["artefacts/{profile}/eda/.done"]


def taken(rules: Rules, step: str, attempt: int = 1) -> tuple:
    """(GPUs, MB, minutes) that a job may take."""
    needs = rules.needs(steps.STEPS[step])
    return needs["gpu"], needs["mem_mb"](None, attempt), needs["runtime"](None, attempt)


def test_a_job_takes_little_on_a_cpu_and_more_at_each_attempt(smoke):
    assert taken(smoke, "sft") == (0, 3200, 60) and taken(smoke, "sft", 2) == (0, 6400, 120)
    gpu = Rules("a100-7b")
    assert taken(gpu, "sft") == (1, 48000, 1440) and taken(gpu, "sft", 3) == (1, 144000, 4320)
    assert taken(gpu, "merged") == (1, 48000, 240) and taken(gpu, "filtered") == (0, 6000, 240)
    assert taken(Rules("a100-7b", "merge.modes=[bf16]"), "merged") == (1, 48000, 120)
    assert gpu.needs(steps.STEPS["sweep"]) == {}


@pytest.mark.parametrize(("changes", "gpus"), [("", 0), ("mtbench.judge.backend=local", 1)])
def test_a_judge_takes_the_gpu_where_it_is_a_model_of_ours(tree, changes, gpus):
    assert taken(Rules("a100-7b", changes), "judged")[0] == gpus


def test_how_a_model_is_asked_is_what_its_jobs_depend_on(smoke, monkeypatch):
    def depends() -> list[str]:
        given = Wildcards(fromdict={"profile": "smoke", "model": BASE})
        return [str(value(given)) for value in smoke.settings(steps.STEPS["answers"], False)]

    before, rows = depends(), steps.models(smoke.params)
    monkeypatch.setattr(steps, "models", lambda *_, **__: [dataclasses.replace(rows[0], part="later"), *rows[1:]])
    assert depends() == before
    monkeypatch.setattr(steps, "models", lambda *_, **__: [dataclasses.replace(rows[0], prompt="chat"), *rows[1:]])
    assert len(set(depends()) - set(before)) == 1


def test_a_text_is_one_word_of_a_command_that_snakemake_formats():
    assert quoted("it's {x}") == "'it'\"'\"'s {{x}}'" and quoted("") == "''"
