import json
import random

import pandas as pd
import pytest

from s2utils.data import benchmarks
from s2utils.evaluation.leaderboard import evaluate, protocols
from s2utils.models import loading, special_tokens
from s2utils.models.parameters import Weights
from s2utils.workflow import params
from s2utils.workflow.params import ParameterError

SMALL = {
    "limit": dict.fromkeys(evaluate.TASKS, 2),
    "shots": {"arc": 2, "hellaswag": 1, "mmlu": 1},
    "mmlu_subjects": 2,
}


@pytest.fixture
def cpu():
    return params.load("cpu")


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """The first documents of every set, as preparing all of HellaSwag takes seconds."""
    read = benchmarks.read
    monkeypatch.setattr(benchmarks, "read", lambda path: (whole := read(path)).select(range(min(len(whole), 60))))


@pytest.fixture
def small(tiny_base):
    """The cpu profile over a tiny random model and a few documents; takes more of the leaderboard's parameters."""

    def load(**more):
        model = {"base": {"path": str(tiny_base)}, "dtype": "float32"}
        return params.load("cpu", {"model": model, "leaderboard": SMALL | more})

    return load


class Stub:
    rank, world_size = 0, 1

    def loglikelihood(self, requests):
        random.seed(1)
        return [(-random.random() * len(request.args[1]), False) for request in requests]


def frame(**tasks: dict[str, list[float]]) -> pd.DataFrame:
    """Documents: task → subject → values."""
    rows = [
        (t, s, i, v) for t, subjects in tasks.items() for s, values in subjects.items() for i, v in enumerate(values)
    ]
    return pd.DataFrame(rows, columns=["task", "subject", "doc_id", "value"])


SCORES = {
    "arc": {"a": [1, 0]},
    "hellaswag": {"h": [1]},
    "truthfulqa": {"t": [0.25, 0.75]},
    "mmlu": {"x": [1] * 3, "y": [0]},
}


def test_truthfulqa_has_true_and_false_answers():
    data = benchmarks.truthfulqa()
    assert len(data) == 299
    for row in data.select(range(20)):
        labels = row["mc2_targets"]["labels"]
        assert {0, 1} == set(labels) and len(labels) == len(row["mc2_targets"]["choices"])


def test_summary_is_in_percent_and_mmlu_is_the_mean_of_its_subjects(cpu):
    row = evaluate.summary(frame(**SCORES), cpu)
    assert row["arc_acc_norm"] == 50 and row["hellaswag_acc_norm"] == 100 and row["truthfulqa_mc2"] == 50
    assert row["mmlu_acc"] == 50  # unweighted: by documents it would be 75
    assert row["average"] == pytest.approx(62.5)
    assert row["average_ci_low"] < 62.5 < row["average_ci_high"] and row["n"] == 9
    assert row["hellaswag_acc_norm_ci_low"] < 100 == row["hellaswag_acc_norm_ci_high"]


def test_under_harness_mmlu_and_its_interval_are_weighted_by_size():
    p = params.load("cpu", "leaderboard.protocol=harness")
    row = evaluate.summary(frame(**SCORES), p)
    assert row["mmlu_acc"] == 75 and row["average"] == pytest.approx(68.75) and row["arc_acc_norm"] == 50
    one = evaluate.summary(frame(**SCORES | {"mmlu": {"x": [1, 1, 1, 0]}}), p)
    alike = frame(**SCORES | {"mmlu": {"x": [1, 1], "y": [1, 0]}})
    equal, v1 = (evaluate.summary(alike, profile) for profile in (p, params.load("cpu")))
    assert one["mmlu_acc"] == equal["mmlu_acc"] == 75 and one["mmlu_acc_ci_low"] < row["mmlu_acc_ci_low"] + 20
    columns = [name for name in equal if name.startswith("mmlu")]
    assert [equal[name] for name in columns] == pytest.approx([v1[name] for name in columns])


def test_standard_errors_are_those_of_the_harness(cpu, tmp_path):
    p = params.load("cpu", {"leaderboard": {"limit": dict.fromkeys(evaluate.TASKS, 5), "mmlu_subjects": 3}})
    row = evaluate.summary(evaluate.evaluate(Stub(), p, tmp_path, "stub"), p)
    theirs = json.loads((tmp_path / "results.json").read_text())["results"]
    for task, name in protocols.TASKS.items():
        metric = evaluate.METRIC[task]
        assert row[evaluate.COLUMNS[task]] == pytest.approx(100 * theirs[name][f"{metric},none"])
        assert row[f"{evaluate.COLUMNS[task]}_stderr"] == pytest.approx(100 * theirs[name][f"{metric}_stderr,none"])


@pytest.mark.parametrize("protocol", ["v1", "harness"])
def test_results_are_in_the_harness_format_and_name_no_machine_and_no_time(protocol, tmp_path):
    p = params.load("cpu", {"leaderboard": SMALL | {"protocol": protocol}})
    found = evaluate.evaluate(Stub(), p, tmp_path / "one", "stub")
    evaluate.evaluate(Stub(), p, tmp_path / "two", "stub")
    text = (tmp_path / "one/results.json").read_text()
    assert text == (tmp_path / "two/results.json").read_text()
    here = str(evaluate.__file__).rpartition("/s2utils")[0]
    for hidden in (here, "site-packages", "0x", "date", "custom_dataset"):
        assert hidden not in text, hidden
    results = json.loads(text)
    assert {
        "results", "groups", "group_subtasks", "configs", "versions", "n-shot", "higher_is_better", "n-samples",
        "config", "task_hashes", "model_name", "lm_eval_version",
    } <= set(results)  # fmt: skip
    assert results["n-shot"]["arc_challenge"] == 2
    assert results["n-samples"]["arc_challenge"] == {"original": 60, "effective": 2}
    assert results["configs"]["arc_challenge"]["dataset_path"] == "embedded:arc"
    assert results["versions"]["hellaswag"] == 1.0
    assert results["groups"]["mmlu"]["acc,none"] == pytest.approx(found.loc[found["task"] == "mmlu", "value"].mean())
    assert results["config"]["protocol"] == protocol
    assert results["config"]["fewshot_seed"] == {"v1": 42, "harness": 1234}[protocol]


@pytest.mark.slow
def test_the_other_protocol_takes_the_first_of_the_same_documents(cpu, tmp_path):
    other = evaluate.other(cpu)
    assert other.leaderboard.protocol == "harness"
    assert other.leaderboard.limit == cpu.leaderboard.compared.limit != cpu.leaderboard.limit
    assert evaluate.other(params.load("cpu", "leaderboard.protocol=harness")).leaderboard.protocol == "v1"
    fewer = evaluate.other(params.load("cpu", "leaderboard.limit.arc=1 leaderboard.mmlu_subjects=1")).leaderboard
    assert fewer.limit["arc"] == 1 and fewer.mmlu_subjects == 1
    assert evaluate.other(params.load("a100-7b")).leaderboard.mmlu_subjects == 0
    known = evaluate.evaluate(Stub(), cpu, tmp_path / "own", "stub")
    few = evaluate.evaluate(Stub(), other, tmp_path / "other", "stub")
    keys = ["task", "subject", "doc_id"]
    assert set(map(tuple, few[keys].values)) < set(map(tuple, known[keys].values)) and len(few) == 11
    both = known.merge(few, on=keys)
    same = (both["prompt_x"] == both["prompt_y"]).groupby(both["task"]).mean()
    assert same.to_dict() == {"arc": 0, "hellaswag": 0, "mmlu": 1, "truthfulqa": 1}  # other shots, or the same prompt


def test_every_row_keeps_what_the_score_was_made_of(small, tmp_path):
    found = evaluate.evaluate(Stub(), small(), tmp_path, "stub")
    assert list(found) == ["task", "subject", "doc_id", "value", "prompt", "log_likelihoods", "greedy"]
    assert found.groupby("task").size().to_dict() == {"arc": 2, "hellaswag": 2, "mmlu": 4, "truthfulqa": 2}
    assert all(len(row.log_likelihoods) == len(row.greedy) > 1 for row in found.itertuples())
    assert {path.name for path in tmp_path.iterdir()} == {*(f"{t}.jsonl" for t in evaluate.TASKS), "results.json"}
    pd.testing.assert_frame_equal(found, evaluate.evaluate(None, small(), tmp_path, "stub"))  # from disk


# Backends


def test_hf_itself_gives_the_same_scores(small, tmp_path):
    ours, hf = small(), small(backend="hf", batch_size=2)
    found = {}
    for p in (ours, hf):
        lm = evaluate.backend(p.model.base, "tiny", p)
        found[p.leaderboard.backend] = evaluate.evaluate(lm, p, tmp_path / p.leaderboard.backend, "tiny")
    assert type(lm).__name__ == "HFLM"
    one, other = found["hf-shared-prefix"], found["hf"]
    assert one["doc_id"].tolist() == other["doc_id"].tolist() and one["greedy"].tolist() == other["greedy"].tolist()
    for a, b in zip(one["log_likelihoods"], other["log_likelihoods"]):
        assert a == pytest.approx(b, abs=1e-3)
    recorded = json.loads((tmp_path / "hf/results.json").read_text())
    assert recorded["config"]["model"] == "hf" and recorded["config"]["batch_size"] == 2


def test_arguments_reach_the_backend_and_bos_follows_the_protocol(small):
    lm = evaluate.backend(small().model.base, "tiny", small(backend_args="tokens=99,max_length=123"))
    assert lm.tokens == 99 and lm.max_length == 123 and lm.add_bos_token is False
    ids = lm.tok_encode("Why is rain?")
    lm = evaluate.backend(small().model.base, "tiny", small(protocol="harness"))
    assert special_tokens.begins(lm.tokenizer) and lm.add_bos_token is None
    assert lm.tok_encode("Why is rain?") == [lm.tokenizer.bos_token_id, *ids]


def test_other_backends_load_the_model_they_are_told(small, monkeypatch):
    given = {}

    class Served:
        def __init__(self, pretrained, add_bos_token=None, batch_size=1, **more):
            given.update(more, pretrained=pretrained, bos=add_bos_token, batch_size=batch_size)

    from lm_eval.api import registry

    monkeypatch.setattr(registry, "get_model", lambda name: Served if name == "vllm" else None)
    p = small(backend="vllm", backend_args="pretrained={path},revision={revision},served={name}")
    evaluate.backend(p.model.base, "tiny.bf16", p)
    own = {"pretrained": p.model.base.path, "revision": "main", "served": "tiny.bf16"}
    assert given == own | {"bos": False, "batch_size": 4}
    evaluate.backend(Weights(path="me/hub", revision="abc"), "x", p)
    assert given["pretrained"] == "me/hub" and given["revision"] == "abc"


def test_a_backend_that_cannot_leave_out_bos_is_refused_under_v1(small):
    p = small(backend="dummy", backend_args="model={name}")
    with pytest.raises(ParameterError, match="'dummy' cannot be told so: use leaderboard.protocol=harness"):
        evaluate.backend(p.model.base, "tiny", p)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("leaderboard.backend=hff", "did you mean 'hf'"),
        ("leaderboard.backend=vlm leaderboard.backend_args=pretrained={path}", "did you mean 'vllm'"),
        ("leaderboard.backend=hf-shared", "did you mean 'hf-shared-prefix'"),
        ("leaderboard.backend=vllm", "must say with {path} or {name}"),
        ("leaderboard.backend=hf leaderboard.backend_args=pretrained=gpt2", "is given each model"),
        ("leaderboard.backend_args=trust_remote_code=True", "must not hold trust_remote_code"),
        ("leaderboard.protocol=v2", "did you mean 'v1'"),
        ("leaderboard.shots.truthfulqa=6", "six pairs of its own"),
        ("leaderboard.limit.arc=-1", "must be int from 0"),
        ("leaderboard.compared.limit.arc=-1", "'leaderboard.compared.limit.arc' must be int from 0"),
        ("leaderboard.compared.mmlu_subjects=-1", "must be int from 0"),
    ],
)
def test_what_cannot_be_used_is_refused_early(override, message):
    with pytest.raises(ParameterError) as error:
        params.load("cpu", override)
    assert message in str(error.value)


@pytest.mark.slow
def test_scores_equal_the_harness_on_its_own(cpu, tmp_path):
    """Our documents through our call and backend, and lm-eval's own evaluation and `hf`, give the same values."""
    import lm_eval
    from lm_eval.models.huggingface import HFLM

    p = params.load("cpu", {"model": {"dtype": "float32"}, "leaderboard": SMALL})
    ours = evaluate.evaluate(evaluate.backend(p.model.base, "base", p), p, tmp_path, "base")
    tasks, places = protocols.load(p.leaderboard, p.seed)
    network, tok = loading.full(p.model.base, "float32"), loading.tokenizer(p.model.base)
    lm = HFLM(pretrained=network, tokenizer=tok, batch_size=1, add_bos_token=False)
    theirs = lm_eval.evaluate(lm, tasks, bootstrap_iters=0)["samples"]
    for name, (task, numbers, _) in places.items():
        mine = ours[ours["subject"] == name].set_index("doc_id")
        for number, sample in zip(numbers, theirs[name]):
            assert mine.at[number, "value"] == pytest.approx(sample[evaluate.METRIC[task]], abs=1e-5)
