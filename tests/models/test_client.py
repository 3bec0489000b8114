import inspect
import subprocess
import sys
import time

import pytest
import tenacity
from conftest import REPOSITORY, serving
from openai_server import KEY, Server, completion

from s2utils.models import client, generation
from s2utils.workflow import artefacts


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("TEST_KEY", KEY)
    monkeypatch.setattr(client, "WAIT", tenacity.wait_fixed(0.01))
    with serving(Server()) as running:
        running.retry_after = ""
        yield running


SETTINGS = {"seed": "42/tiny", "batch_size": 4, "concurrency": 2, "max_new_tokens": 8, "key_env": "TEST_KEY"}


def ask(server, prompts, **changes) -> list[dict]:
    """All answers, batches joined."""
    return [
        row
        for batch in generation.served_completions(server.url, "tiny", prompts, **SETTINGS | changes)
        for row in batch
    ]


def test_answers_come_in_order_and_batches(server):
    server.slow = 0.1  # long enough for two to meet on a busy machine
    batches = list(generation.served_completions(server.url, "tiny", [f"q{i}" for i in range(10)], **SETTINGS))
    assert [len(batch) for batch in batches] == [4, 4, 2]
    assert [row["text"] for batch in batches for row in batch] == [f"echo: q{i}" for i in range(10)]
    assert batches[0][0] == {"text": "echo: q0", "n_tokens": 3, "ended": True}
    assert server.most == 2


def test_what_is_sent(server):
    ask(server, [[1, 15, 9], "plain"], temperature=0.6, top_p=0.9, repetition_penalty=1.2, stop=["###"], concurrency=1)
    first, second = server.seen
    assert first["path"] == "/v1/completions" and first["authorization"] == f"Bearer {KEY}"
    wanted = {"model": "tiny", "prompt": [1, 15, 9], "max_tokens": 8, "temperature": 0.6, "top_p": 0.9, "top_k": -1}
    assert {k: first[k] for k in wanted} == wanted
    assert (first["repetition_penalty"], first["stop"], second["prompt"]) == (1.2, ["###"], "plain")


def test_a_prompts_seed_hangs_on_its_place_and_the_runs_seed(server):
    ask(server, [f"q{i}" for i in range(4)], concurrency=1)
    ask(server, [f"q{i}" for i in range(4)], batch_size=2, skip=2, concurrency=1)
    ask(server, ["q0"], seed="43/tiny")
    seeds = [body["seed"] for body in server.seen]
    assert len(set(seeds[:4])) == 4 and seeds[4:6] == seeds[2:4] and seeds[6] not in seeds[:6]


def test_it_takes_what_the_local_one_takes():
    functions = (generation.completions, client.completions, generation.served_completions)
    local, carrying, ours = (dict(inspect.signature(f).parameters) for f in functions)
    ours = carrying | ours
    assert set(local) - set(ours) == {"tok"}  # base_url and model stand where weights and tokenizer do
    assert all(ours[name].default == local[name].default for name in set(local) & set(ours) - {"model", "prompts"})


def test_an_answer_cut_at_the_limit_did_not_end(server):
    server.script = [(200, completion("half", "length", 8))]
    assert ask(server, ["q"]) == [{"text": "half", "n_tokens": 8, "ended": False}]


def test_a_passing_failure_is_asked_again(server):
    server.script = [(status, None) for status in (429, 500, 503, 429, 500)]
    assert ask(server, ["q"])[0]["text"] == "echo: q" and len(server.seen) == 6


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ((200, completion("x", None)), "finish_reason is None, so nobody knows whether the answer is whole"),
        ((200, completion("x", "abort")), "finish_reason is 'abort'"),
        ((200, completion("x", "length", 9)), "9 tokens where at most 8 were asked for: it does not honour max_tokens"),
        ((200, completion("x", "length", 5)), "cut after 5 of 8 tokens: its context is too short"),
        ((200, completion("x", tokens=None)), "no count of its tokens"),
        ((200, completion(None)), "holds no text"),
        ((200, {"choices": []}), ""),
        ((200, b"<html>"), ""),
        ((400, {"error": {"message": "context length is 512"}}), "BadRequestError.*context length is 512"),
        ((404, None), "NotFoundError"),
    ],
)
def test_a_reply_that_breaks_a_promise_stops_the_run(server, reply, message):
    server.script = [reply]
    with pytest.raises(client.ServerError, match=rf"(?s)^tiny at http://127.0.0.1:\d+/v1, prompt 0: .*{message}"):
        ask(server, ["q"])
    assert len(server.seen) == 1


def test_a_lasting_outage_stops_with_its_reason_and_without_the_key(server):
    server.script = [(500, None)] * 6
    with pytest.raises(client.ServerError, match="InternalServerError") as caught:
        ask(server, ["q"])
    assert len(server.seen) == 6 and KEY not in str(caught.value)


def test_no_server_is_an_error_with_the_remedy(server):
    server.shutdown()
    server.server_close()
    with pytest.raises(
        client.ServerError, match=r"no list of models from http.*cluster/README.md.*generate.backend=local"
    ):
        ask(server, ["q"])


def test_another_model_is_an_error_with_the_names(server):
    with pytest.raises(client.ServerError, match="serves tiny, not 'other': start it with --served-model-name other"):
        list(generation.served_completions(server.url, "other", ["q"], **SETTINGS))
    assert not server.seen


def test_a_penalty_that_the_server_may_ignore_is_refused(server):
    server.cards[0]["owned_by"] = "llamacpp"
    with pytest.raises(client.ServerError, match=r"owned_by 'llamacpp'\) may ignore generate.repetition_penalty=1.2"):
        ask(server, ["q"], repetition_penalty=1.2)
    assert not server.seen and ask(server, ["q"])[0]["ended"]


def test_the_record_says_what_is_served_and_that_nobody_checked(server):
    assert client.served(server.url, "tiny", "TEST_KEY") == {
        "base_url": server.url, "model": "tiny", "root": "/weights/tiny", "owned_by": "vllm", "max_model_len": 512,
        "weights": "as the server says, not verified",
    }  # fmt: skip


def test_an_error_stops_the_requests_that_wait(server):
    server.script, server.slow = [(400, None)], 0.05
    with pytest.raises(client.ServerError):
        ask(server, [f"q{i}" for i in range(200)], batch_size=200)
    time.sleep(0.3)
    assert len(server.seen) < 20


RUN = """
import sys
from pathlib import Path
from s2utils.models import generation
url, path = sys.argv[1:]
rows = [{"id": i} for i in range(20)]
settings = {"seed": "s", "batch_size": 4, "concurrency": 2, "max_new_tokens": 8, "label": None}
prompts = [f"q{i}" for i in range(20)]
served = generation.served_completions
generation.answer_all(Path(path), rows, 4, lambda skip: served(url, "tiny", prompts, skip=skip, **settings))
"""


@pytest.mark.slow
def test_a_killed_run_goes_on_and_asks_for_nothing_that_it_kept(server, tmp_path):
    """SIGKILL in the middle; only the batch under way is asked again, and the answers are those of a whole run."""
    server.slow = 0.1
    path = tmp_path / "answers.jsonl"
    command = [sys.executable, "-c", RUN, server.url, str(path)]
    process = subprocess.Popen(command, cwd=REPOSITORY)
    deadline = time.time() + 60
    while len(artefacts.read_jsonl(path)) < 8 and time.time() < deadline:
        time.sleep(0.02)
    process.kill()
    process.wait()
    time.sleep(0.3)
    kept, asked = artefacts.read_jsonl(path), len(server.seen)
    assert 8 <= len(kept) < 20 and asked - len(kept) <= 4
    server.slow = 0.0
    subprocess.run(command, cwd=REPOSITORY, check=True, timeout=60)
    assert {body["prompt"] for body in server.seen[asked:]} == {f"q{i}" for i in range(len(kept), 20)}
    assert len(server.seen) - asked == 20 - len(kept)
    seeds = {}
    for body in server.seen:
        assert seeds.setdefault(body["prompt"], body["seed"]) == body["seed"]
    assert [row["text"] for row in artefacts.read_jsonl(path)] == [f"echo: q{i}" for i in range(20)]
    subprocess.run(command, cwd=REPOSITORY, check=True, timeout=60)
    assert len(server.seen) - asked == 20 - len(kept)
