import dataclasses
import random

import datasets
import pandas as pd
import pytest

from s2utils import embedded, leaderboard, params


@pytest.fixture
def cpu():
    return params.load("cpu")


def texts(config: dict, split: str) -> set[str]:
    frame = pd.read_parquet(config["dataset_kwargs"]["data_files"][split])
    return {str(v) for v in frame[next(c for c in ("question", "ctx") if c in frame)]}


@pytest.mark.slow
@pytest.mark.parametrize("task", ["arc", "hellaswag"])
def test_shots_never_come_from_a_scored_document(cpu, task, tmp_path):
    config = leaderboard.task_configs(cpu.leaderboard, task, 42, tmp_path)[0]
    shots, scored = leaderboard.OWN_SPLITS[task]
    frames = [
        pd.read_parquet(config["dataset_kwargs"]["data_files"][s]).astype(str).agg("|".join, axis=1)
        for s in (shots, scored)
    ]
    assert len(frames[1]) == cpu.leaderboard.limit[task]
    assert not set(frames[0]) & set(frames[1])
    assert config["num_fewshot"] == cpu.leaderboard.shots[task]


def test_mmlu_takes_a_seeded_sample_of_subjects(tree, tmp_path):
    settings = params.load("cpu", "leaderboard.mmlu_subjects=10").leaderboard
    names = [
        [c["task"] for c in leaderboard.task_configs(settings, "mmlu", seed, tmp_path / str(seed))]
        for seed in (1, 1, 2)
    ]
    assert names[0] == names[1] != names[2] and len(names[0]) == 10


def test_the_hub_takes_the_harness_tasks_whole():
    settings = params.load("a100-7b").leaderboard
    assert leaderboard.task_configs(settings, "arc", 42, None) == [{"task": "arc_challenge", "num_fewshot": 25}]
    mmlu = leaderboard.task_configs(settings, "mmlu", 42, None)
    assert len(mmlu) == 57 and all(c["num_fewshot"] == 5 for c in mmlu)
    assert leaderboard.task_configs(settings, "truthfulqa", 42, None)[0]["task"] == "truthfulqa_mc2"


def test_truthfulqa_has_true_and_false_answers():
    data = leaderboard.truthfulqa()
    assert len(data) == 299
    for row in data.select(range(20)):
        labels = row["mc2_targets"]["labels"]
        assert {0, 1} == set(labels) and len(labels) == len(row["mc2_targets"]["choices"])


@pytest.mark.slow
def test_hellaswag_equals_the_harness_own_golden_result(tmp_path):
    """The harness's version test: documents shuffled by 42, then seeded random answers to the requests in order."""
    import lm_eval
    from lm_eval.api.model import LM

    class Stub(LM):
        generate_until = loglikelihood_rolling = None

        def loglikelihood(self, requests):
            random.seed(42)
            return [(-random.random(), False) for _ in requests]

    data = datasets.Dataset.from_file(str(embedded.resolve("hellaswag")))
    order = list(range(len(data)))
    random.Random(42).shuffle(order)
    config = leaderboard._local(
        "hellaswag", 0, tmp_path, {"train": data.select(range(1)), "validation": data.select(order)}
    )
    tasks = [{"group": "golden", "task": [config]}]
    results = lm_eval.simple_evaluate(model=Stub(), tasks=tasks, bootstrap_iters=0, log_samples=False)["results"]
    found = next(values for name, values in results.items() if name.endswith("hellaswag"))
    assert found["acc,none"] == 0.24965146385182235
    assert found["acc_norm,none"] == 0.24756024696275641


def test_summary_is_in_percent_and_mmlu_is_the_mean_of_its_subjects(cpu):
    rows = [
        ("arc", "a", 1),
        ("arc", "a", 0),
        ("hellaswag", "h", 1),
        ("truthfulqa", "t", 0.25),
        ("truthfulqa", "t", 0.75),
    ]
    rows += [("mmlu", "x", 1)] * 3 + [("mmlu", "y", 0)]
    row = leaderboard.summary(pd.DataFrame(rows, columns=["task", "subject", "value"]), cpu)
    assert row["arc_acc_norm"] == 50 and row["hellaswag_acc_norm"] == 100 and row["truthfulqa_mc2"] == 50
    assert row["mmlu_acc"] == 50  # unweighted: by documents it would be 75
    assert row["average"] == pytest.approx(62.5)
    assert row["average_ci_low"] < 62.5 < row["average_ci_high"] and row["n"] == 9
    assert row["hellaswag_acc_norm_ci_low"] < 100 == row["hellaswag_acc_norm_ci_high"]


@pytest.mark.slow
def test_scores_equal_the_harness_on_its_own(cpu, tmp_path):
    """Our sample through our call, and the same sample through lm-eval alone, give the same values."""
    import lm_eval
    from lm_eval.models.huggingface import HFLM

    from s2utils import models

    small = dataclasses.replace(
        cpu, leaderboard=dataclasses.replace(cpu.leaderboard, limit=dict.fromkeys(leaderboard.TASKS, 1), shots=dict(arc=2, hellaswag=1, mmlu=1, truthfulqa=0), mmlu_subjects=1)
    )  # fmt: skip
    network, tok = models.full(cpu.model.base, "float32"), models.tokenizer(cpu.model.base)
    ours = leaderboard.evaluate(network, tok, small, tmp_path / "ours")
    again = leaderboard.evaluate(network, tok, small, tmp_path / "ours")  # from disk
    pd.testing.assert_frame_equal(ours, again)
    configs = leaderboard.task_configs(small.leaderboard, "truthfulqa", small.seed, tmp_path / "documents")
    theirs = lm_eval.simple_evaluate(
        model=HFLM(pretrained=network, tokenizer=tok, batch_size=1, add_bos_token=False),
        tasks=[{"group": "g", "task": configs}], bootstrap_iters=0,
    )  # fmt: skip
    value = next(iter(theirs["samples"].values()))[0]["acc"]
    assert ours.loc[ours["task"] == "truthfulqa", "value"].item() == pytest.approx(value, abs=1e-5)
