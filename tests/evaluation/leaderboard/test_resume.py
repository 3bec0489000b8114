import os
import random
import signal

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lm_eval.api.instance import Instance

from s2utils.data import benchmarks
from s2utils.evaluation.leaderboard import evaluate, resume
from s2utils.workflow import artefacts, params


def made(contexts: list[str], task: str = "t", choices: int = 2, start: int = 0) -> list[Instance]:
    """Requests of one document a context."""
    return [
        Instance("loglikelihood", {}, (context, f" {c}"), c, (task, doc_id, 1))
        for doc_id, context in enumerate(contexts, start)
        for c in range(choices)
    ]


class Model:
    """Its answers depend on all that is asked with them, as in bf16; it stops after `calls`."""

    def __init__(self, calls: int = 99):
        self.calls, self.asked = calls, []

    def loglikelihood(self, requests):
        if len(self.asked) == self.calls:
            raise KeyboardInterrupt
        self.asked.append(len(requests))
        noise = random.Random(repr([r.args for r in requests]))
        return [(-noise.random(), noise.random() < 0.5) for _ in requests]


alone = [f"{n} question" * 20 for n in range(20)]
subject = ["the shots of a subject " * 20 + f"question {n}" for n in range(30)]


def test_unlike_documents_are_answered_eight_at_a_time_and_those_with_shared_shots_together():
    assert resume.groups(made(alone)) == [(0, 16), (16, 32), (32, 40)]
    assert resume.groups(made(subject)) == [(0, 60)]
    both = made(alone[:8], "a") + made(subject, "b") + made(alone[:3], "c")
    assert resume.groups(both) == [(0, 16), (16, 76), (76, 82)]
    long = resume.groups(made(["the same shots " * 9 + str(n) for n in range(600)]))
    assert [(b - a) // 2 for a, b in long] == [256, 256, 88] and resume.groups([]) == []


@given(st.lists(st.tuples(st.sampled_from(["", "x", "head " * 9, "other " * 9]), st.integers(1, 4)), max_size=60))
def test_groups_hold_every_document_whole_and_once(documents):
    requests = [
        Instance("loglikelihood", {}, (context + str(i), " c"), c, ("t", i, 1))
        for i, (context, choices) in enumerate(documents)
        for c in range(choices)
    ]
    found = resume.groups(requests)
    assert [n for first, last in found for n in range(first, last)] == list(range(len(requests)))
    ends = {i for i in range(1, len(requests)) if requests[i].doc_id != requests[i - 1].doc_id} | {0, len(requests)}
    assert {n for pair in found for n in pair} <= ends


@pytest.mark.parametrize("calls", [0, 1, 2])
def test_a_run_stopped_anywhere_ends_with_the_same_answers_and_asks_nothing_twice(tmp_path, calls):
    requests = made(alone) + made(subject, "mmlu")
    whole = resume.Kept(Model(), tmp_path / "whole.jsonl").loglikelihood(requests)
    first, again = Model(calls), Model()
    with pytest.raises(KeyboardInterrupt):
        resume.Kept(first, tmp_path / "kept.jsonl").loglikelihood(requests)
    with open(tmp_path / "kept.jsonl", "a") as file:
        file.write('{"key": "torn')  # what a kill leaves of the group it was writing
    found = resume.Kept(again, tmp_path / "kept.jsonl").loglikelihood(requests)
    assert found == whole and len(first.asked) + len(again.asked) == 3
    assert (tmp_path / "kept.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_everything_else_is_the_models_own_and_short_answers_are_refused(tmp_path):
    class Half(Model):
        rank = 3

        def loglikelihood(self, requests, disable_tqdm=False):
            assert disable_tqdm
            return super().loglikelihood(requests)[1:]

    kept = resume.Kept(Half(), tmp_path / "kept.jsonl")
    assert kept.rank == 3
    with pytest.raises(ValueError, match="answered 3 of 4 requests"):
        kept.loglikelihood(made(["a", "b"]))
    assert artefacts.read_jsonl(tmp_path / "kept.jsonl") == []


def test_a_leaderboard_killed_between_its_documents_ends_with_the_same_bytes(tmp_path, tiny_base, monkeypatch):
    changes = {
        "model": {"base": {"path": str(tiny_base)}, "dtype": "bfloat16"},
        "leaderboard": {
            "limit": {"arc": 12, "hellaswag": 3, "mmlu": 2, "truthfulqa": 3}, "mmlu_subjects": 2,
            "shots": {"arc": 1, "hellaswag": 1, "mmlu": 1},
        },
    }  # fmt: skip
    p, read = params.load("smoke", changes), benchmarks.read
    monkeypatch.setattr(benchmarks, "read", lambda path: (whole := read(path)).select(range(min(len(whole), 100))))
    lm = evaluate.backend(p.model.base, "base", p)
    answer, asked = lm.loglikelihood, []

    def counted(requests, disable_tqdm):
        asked.append(len(requests))
        return answer(requests, disable_tqdm=disable_tqdm)

    lm.loglikelihood = counted
    whole = evaluate.evaluate(lm, p, tmp_path / "whole", "base")
    groups = len(asked)
    if (child := os.fork()) == 0:  # a process of its own, as the kill ends it

        def killed(requests, disable_tqdm):
            if len(asked) > groups:
                os.kill(os.getpid(), signal.SIGKILL)
            return counted(requests, disable_tqdm)

        lm.loglikelihood = killed
        evaluate.evaluate(lm, p, tmp_path / "killed", "base")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert [path.name for path in (tmp_path / "killed").iterdir()] == ["answers.jsonl"]
    asked.clear()
    pd.testing.assert_frame_equal(evaluate.evaluate(lm, p, tmp_path / "killed", "base"), whole)
    assert len(asked) == groups - 1 > 0  # the one that was answered is not asked again
    files = {path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()}
    assert {path.name: path.read_bytes() for path in (tmp_path / "killed").iterdir()} == files
    assert set(files) == {"arc.jsonl", "hellaswag.jsonl", "mmlu.jsonl", "truthfulqa.jsonl", "results.json"}
