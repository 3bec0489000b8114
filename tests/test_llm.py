import dataclasses
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from s2utils import artefacts, llm
from s2utils.params import Endpoint, ParameterError

KEY = "sk-test-0123456789"


class Server(ThreadingHTTPServer):
    """An OpenAI-compatible server on this machine: `script` says how it answers, `seen` what it was asked."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: list = []  # (status, body) taken one a request; afterwards it echoes
        self.seen: list[dict] = []
        self.lock = threading.Lock()


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.seen.append(body | {"path": self.path, "authorization": self.headers["Authorization"]})
            status, reply = self.server.script.pop(0) if self.server.script else (200, None)
        if reply is None:
            reply = (
                completion(f"echo: {body['messages'][-1]['content']}")
                if status == 200
                else {"error": {"message": "trouble"}}
            )
        data = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if status >= 400:
            self.send_header("Retry-After", "0")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


def completion(text, reason: str = "stop") -> dict:
    """A reply as the protocol has it."""
    choice = {"index": 0, "finish_reason": reason, "message": {"role": "assistant", "content": text}}
    return {"id": "c", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("TEST_KEY", KEY)
    running = Server()
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield running
    running.shutdown()
    running.server_close()


@pytest.fixture
def endpoint(server) -> Endpoint:
    url = f"http://127.0.0.1:{server.server_port}/v1"
    return Endpoint(
        "openai", "gpt-test", "", url, "TEST_KEY", concurrency=3, batch_size=1, max_new_tokens=17, temperature=0.5
    )


def chats(*texts: str) -> list[list[dict]]:
    """One chat a text."""
    return [[{"role": "user", "content": text}] for text in texts]


def test_replies_come_back_in_order(server, endpoint, tmp_path):
    replies = llm.ask(endpoint, chats(*(f"q{i}" for i in range(9))), tmp_path / "c.jsonl", seed=3)
    assert [r["text"] for r in replies] == [f"echo: q{i}" for i in range(9)]
    assert all(r["ended"] and r["error"] == "" for r in replies)
    first = server.seen[0]
    assert first["path"] == "/v1/chat/completions" and first["authorization"] == f"Bearer {KEY}"
    assert (first["model"], first["temperature"], first["max_tokens"], first["seed"]) == ("gpt-test", 0.5, 17, 3)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_passing_failure_is_asked_again(server, endpoint, tmp_path, status):
    server.script = [(status, None), (status, None)]
    replies = llm.ask(endpoint, chats("q"), tmp_path / "c.jsonl", seed=1)
    assert replies[0]["text"] == "echo: q" and len(server.seen) == 3


def test_nothing_is_asked_twice(server, endpoint, tmp_path):
    cache = tmp_path / "deep" / "c.jsonl"
    first = llm.ask(endpoint, chats("a", "b", "a"), cache, seed=1)
    assert len(server.seen) == 2 and first[0] == first[2]
    assert llm.ask(endpoint, chats("b", "a"), cache, seed=1) == [first[1], first[0]]
    assert len(server.seen) == 2
    llm.ask(endpoint, chats("a", "c"), cache, seed=1)
    assert [s["messages"][0]["content"] for s in server.seen[2:]] == ["c"]


@pytest.mark.parametrize(
    "change", [{"model": "other"}, {"temperature": 0.6}, {"max_new_tokens": 18}, {"revision": "r"}]
)
def test_other_settings_are_another_question(server, endpoint, tmp_path, change):
    llm.ask(endpoint, chats("a"), tmp_path / "c.jsonl", seed=1)
    llm.ask(dataclasses.replace(endpoint, **change), chats("a"), tmp_path / "c.jsonl", seed=1)
    llm.ask(endpoint, chats("a"), tmp_path / "c.jsonl", seed=2)
    assert len(server.seen) == 3


def test_how_many_at_once_is_not_another_question(server, endpoint, tmp_path):
    llm.ask(endpoint, chats("a"), tmp_path / "c.jsonl", seed=1)
    llm.ask(dataclasses.replace(endpoint, concurrency=1, batch_size=9), chats("a"), tmp_path / "c.jsonl", seed=1)
    assert len(server.seen) == 1


def test_a_lasting_outage_stops_with_its_reason_and_is_asked_again_next_time(server, endpoint, tmp_path):
    server.script = [(500, None)] * 6
    cache = tmp_path / "c.jsonl"
    with pytest.raises(
        llm.ServerError, match=r"1 of 1 requests .* failed six times \(InternalServerError\).*run again"
    ):
        llm.ask(endpoint, chats("q"), cache, seed=1)
    assert len(server.seen) == 6
    assert llm.ask(endpoint, chats("q"), cache, seed=1)[0]["text"] == "echo: q"
    assert llm.ask(endpoint, chats("q"), cache, seed=1)[0]["text"] == "echo: q"
    assert len(server.seen) == 7


@pytest.mark.parametrize(
    "odd",
    [
        (400, None),
        (200, b"<html>not JSON</html>"),
        (200, {"error": {"message": "overloaded"}}),
        (200, {"choices": []}),
        (200, {"choices": None}),
        (200, {"choices": [{"index": 0, "finish_reason": "stop"}]}),
        (200, []),
    ],
)
def test_an_odd_reply_is_one_failure_and_the_others_go_on(server, endpoint, tmp_path, odd):
    server.script = [odd]
    replies = llm.ask(dataclasses.replace(endpoint, concurrency=1), chats("a", "b"), tmp_path / "c.jsonl", seed=1)
    assert [r["text"] for r in replies] == ["", "echo: b"]
    assert replies[0]["error"] and not replies[1]["error"]


def test_a_reply_without_text_is_empty_and_a_cut_one_did_not_end(server, endpoint, tmp_path):
    server.script = [(200, completion(None)), (200, completion("half", "length"))]
    replies = llm.ask(dataclasses.replace(endpoint, concurrency=1), chats("a", "b"), tmp_path / "c.jsonl", seed=1)
    assert [(r["text"], r["ended"], r["error"]) for r in replies] == [("", True, ""), ("half", False, "")]


@pytest.mark.parametrize("status", [401, 403, 404])
def test_what_every_request_would_meet_stops_the_run(server, endpoint, tmp_path, status):
    import openai

    server.script = [(status, None)] * 9
    with pytest.raises(openai.APIStatusError):
        llm.ask(dataclasses.replace(endpoint, concurrency=1), chats("a", "b"), tmp_path / "c.jsonl", seed=1)


def test_what_was_answered_before_a_stop_is_kept(server, endpoint, tmp_path):
    import openai

    server.script = [(200, None), (401, None), (401, None)]
    narrow = dataclasses.replace(endpoint, concurrency=1)
    with pytest.raises(openai.AuthenticationError):
        llm.ask(narrow, chats("a", "b", "c"), tmp_path / "c.jsonl", seed=1)
    assert [r["text"] for r in artefacts.read_jsonl(tmp_path / "c.jsonl")] == ["echo: a"]


def test_a_torn_cache_asks_only_for_what_was_lost(server, endpoint, tmp_path):
    cache = tmp_path / "c.jsonl"
    llm.ask(dataclasses.replace(endpoint, concurrency=1), chats("a", "b"), cache, seed=1)
    cache.write_bytes(cache.read_bytes()[:-9])
    assert [r["text"] for r in llm.ask(endpoint, chats("a", "b"), cache, seed=1)] == ["echo: a", "echo: b"]
    assert len(server.seen) == 3


def test_a_missing_key_is_named_with_the_remedy(endpoint, tmp_path, monkeypatch):
    monkeypatch.delenv("TEST_KEY")
    with pytest.raises(ParameterError, match="gpt-test needs a key: set TEST_KEY in the environment"):
        llm.ask(dataclasses.replace(endpoint, base_url=""), chats("a"), tmp_path / "c.jsonl", seed=1)


def test_a_server_of_ones_own_needs_no_key(server, endpoint, tmp_path, monkeypatch):
    monkeypatch.delenv("TEST_KEY")
    assert llm.ask(endpoint, chats("a"), tmp_path / "c.jsonl", seed=1)[0]["text"] == "echo: a"


def test_the_key_is_written_nowhere(server, endpoint, tmp_path, capfd):
    server.script = [(400, {"error": {"message": f"bad key {KEY}"}})]
    llm.ask(endpoint, chats("a", "b"), tmp_path / "c.jsonl", seed=1)
    written = [p.read_text() for p in tmp_path.rglob("*") if p.is_file()]
    assert len(written) == 1 and KEY not in written[0]
    assert KEY not in "".join(capfd.readouterr())


def test_local_weights_are_asked_in_their_chat_template(llama2, tiny_llama, tmp_path):
    from s2utils import models

    model, tok = tiny_llama(vocab_size=len(llama2)), models.prepared(llama2)
    local = Endpoint("local", "tiny", "", "", "", 1, batch_size=2, max_new_tokens=4, temperature=0.0)
    cache = tmp_path / "c.jsonl"
    first = llm.ask(local, chats("Why?", "How?", "Who?"), cache, seed=1, loaded=(model, tok))
    assert len(first) == 3 and all(r["error"] == "" and isinstance(r["ended"], bool) for r in first)
    assert llm.ask(local, chats("How?"), cache, seed=1, loaded=("not", "needed")) == [first[1]]
