import json
import os
import threading
import time
import traceback

import pytest
from conftest import make_endpoint, serving
from hypothesis import given
from hypothesis import strategies as st
from openai_server import KEY, Server, chat

from s2utils.models import client, llm
from s2utils.models.parameters import Endpoint, Weights
from s2utils.workflow import artefacts
from s2utils.workflow.params import ParameterError


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("TEST_KEY", KEY)
    with serving(Server()) as running:
        yield running
        running.hold.set()


@pytest.fixture
def endpoint(server) -> Endpoint:
    return make_endpoint(base_url=server.url, key_env="TEST_KEY", concurrency=3, temperature=0.5)


@pytest.fixture
def narrow(endpoint) -> Endpoint:
    """One request at a time: the server's script is taken in the order of the chats."""
    return endpoint.model_copy(update={"concurrency": 1})


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


def test_a_passing_failure_is_asked_again(server, endpoint, tmp_path):
    server.script = [(429, None), (500, None), (503, None)]
    replies = llm.ask(endpoint, chats("q"), tmp_path / "c.jsonl", seed=1)
    assert replies[0]["text"] == "echo: q" and len(server.seen) == 4


def test_nothing_is_asked_twice(server, endpoint, tmp_path):
    cache = tmp_path / "deep" / "c.jsonl"
    first = llm.ask(endpoint, chats("a", "b", "a"), cache, seed=1)
    assert len(server.seen) == 2 and first[0] == first[2]
    assert llm.ask(endpoint, chats("b", "a"), cache, seed=1) == [first[1], first[0]]
    assert len(server.seen) == 2
    llm.ask(endpoint, chats("a", "c"), cache, seed=1)
    assert [s["messages"][0]["content"] for s in server.seen[2:]] == ["c"]


PRICED = {"price_in": 1.0, "price_out": 1.0, "budget": 1.0}
OTHER = ({"model": "other"}, {"temperature": 0.6}, {"max_new_tokens": 18}, {"revision": "r"})
SAME = ({"concurrency": 1, "batch_size": 9}, {"requests_per_minute": 60}, PRICED)


@pytest.mark.parametrize(("change", "asked"), [*((c, 2) for c in OTHER), *((c, 1) for c in SAME)])
def test_settings_are_part_of_the_question_and_pace_and_price_are_not(server, endpoint, tmp_path, change, asked):
    llm.ask(endpoint, chats("a"), tmp_path / "c.jsonl", seed=1)
    llm.ask(endpoint.model_copy(update=change), chats("a"), tmp_path / "c.jsonl", seed=1)
    assert len(server.seen) == asked
    llm.ask(endpoint, chats("a"), tmp_path / "c.jsonl", seed=2)
    assert len(server.seen) == asked + 1


def test_the_name_of_a_kept_reply_stays(endpoint, tmp_path):
    plain = endpoint.model_copy(update={"base_url": ""})
    assert llm._identity(plain, chats("a")[0], 1) == "1a7542448949807aacbcbe15"


def test_a_lasting_outage_stops_with_its_reason_and_is_asked_again_next_time(server, endpoint, tmp_path):
    server.script = [(500, None)] * 6
    cache = tmp_path / "c.jsonl"
    with pytest.raises(
        client.ServerError, match=r"1 of 1 requests .* failed six times \(InternalServerError\).*run again"
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
        (200, chat(["not", "text"])),
        (200, []),
    ],
)
def test_an_odd_reply_is_one_failure_and_the_others_go_on(server, narrow, tmp_path, odd):
    server.script = [odd]
    replies = llm.ask(narrow, chats("a", "b"), tmp_path / "c.jsonl", seed=1)
    assert [r["text"] for r in replies] == ["", "echo: b"]
    assert replies[0]["error"] and not replies[1]["error"]


def test_a_reply_without_text_is_empty_and_a_cut_one_did_not_end(server, narrow, tmp_path):
    server.script = [(200, chat(None)), (200, chat("half", "length"))]
    replies = llm.ask(narrow, chats("a", "b"), tmp_path / "c.jsonl", seed=1)
    assert [(r["text"], r["ended"], r["error"]) for r in replies] == [("", True, ""), ("half", False, "")]


@pytest.mark.parametrize("status", [401, 403, 404])
def test_what_every_request_would_meet_stops_the_run(server, narrow, tmp_path, status):
    server.script = [(status, {"error": {"message": "no access with " + os.environ["TEST_KEY"]}})] * 9
    with pytest.raises(ParameterError, match=rf"status {status}\): check the key in TEST_KEY") as refused:
        llm.ask(narrow, chats("a", "b"), tmp_path / "c.jsonl", seed=1)
    shown = "".join(traceback.format_exception(refused.value))
    assert os.environ["TEST_KEY"] not in shown  # a server may repeat the key


def test_an_outage_stops_the_list_and_not_only_each_request(server, narrow, tmp_path, monkeypatch):
    monkeypatch.setattr(client, "ATTEMPTS", 1)
    server.script = [(429, None)] * 500
    with pytest.raises(client.ServerError, match="in a row"):
        llm.ask(narrow, chats(*(f"q{i}" for i in range(200))), tmp_path / "c.jsonl", seed=1)
    assert len(server.seen) < 20


def test_what_was_answered_before_a_stop_is_kept(server, narrow, tmp_path):
    server.script = [(200, None), (401, None), (401, None)]
    with pytest.raises(ParameterError, match="refused"):
        llm.ask(narrow, chats("a", "b", "c"), tmp_path / "c.jsonl", seed=1)
    assert [r["text"] for r in artefacts.read_jsonl(tmp_path / "c.jsonl")] == ["echo: a"]


def test_a_torn_cache_asks_only_for_what_was_lost(server, endpoint, narrow, tmp_path):
    cache = tmp_path / "c.jsonl"
    llm.ask(narrow, chats("a", "b"), cache, seed=1)
    cache.write_bytes(cache.read_bytes()[:-9])
    assert [r["text"] for r in llm.ask(endpoint, chats("a", "b"), cache, seed=1)] == ["echo: a", "echo: b"]
    assert len(server.seen) == 3


def test_without_a_key_only_a_server_of_ones_own_is_asked(server, endpoint, tmp_path, monkeypatch):
    monkeypatch.delenv("TEST_KEY")
    with pytest.raises(ParameterError, match="gpt-test needs a key: set TEST_KEY in the environment"):
        llm.ask(endpoint.model_copy(update={"base_url": ""}), chats("a"), tmp_path / "c.jsonl", seed=1)
    assert llm.ask(endpoint, chats("a"), tmp_path / "c.jsonl", seed=1)[0]["text"] == "echo: a"


def test_the_key_is_written_nowhere(server, endpoint, tmp_path, capfd):
    server.script = [(400, {"error": {"message": f"bad key {KEY}"}})]
    llm.ask(endpoint, chats("a", "b"), tmp_path / "c.jsonl", seed=1)
    written = [p.read_text() for p in tmp_path.rglob("*") if p.is_file()]
    assert len(written) == 1 and KEY not in written[0]
    assert KEY not in "".join(capfd.readouterr())


def weights(path: str = "nowhere", dtype: str = "float32", loaded: tuple = ()) -> llm.Local:
    """Local weights, already loaded where `loaded` is given."""
    made = llm.Local(Weights(path=path, revision=""), dtype, "cpu")
    vars(made).update({"loaded": loaded} if loaded else {})
    return made


LOCAL = {"backend": "local", "model": "tiny", "key_env": "", "batch_size": 2, "max_new_tokens": 4}


def test_local_weights_are_asked_in_their_chat_template(tok, tiny_llama, tmp_path):
    local, cache = make_endpoint(**LOCAL), tmp_path / "c.jsonl"
    tiny = weights("tiny", loaded=(tiny_llama(vocab_size=len(tok)), tok))
    first = llm.ask(local, chats("Why?", "How?", "Who?"), cache, seed=1, local=tiny)
    assert len(first) == 3 and all(r["error"] == "" and isinstance(r["ended"], bool) for r in first)
    assert llm.ask(local, chats("How?"), cache, seed=1, local=weights()) == [first[1]], "weights that are not needed"
    with pytest.raises(OSError):  # another dtype is another reply, for which the weights are needed
        llm.ask(local, chats("How?"), cache, seed=1, local=weights(dtype="bfloat16"))


def test_a_local_judges_rubric_reaches_a_template_without_a_system_role(tmp_path, monkeypatch, capsys):
    from families import tokenizer

    from s2utils.models import generation, loading

    tok, read, said = loading.prepared(tokenizer("gemma")), [], [[{"text": "8", "ended": True}]]
    monkeypatch.setattr(generation, "completions", lambda model, tok, ids, **_: read.extend(ids) or iter(said))
    system = {"role": "system", "content": "Rate from 1 to 10."}
    chat = [system, {"role": "user", "content": "An answer with <eos> in it."}]
    local = weights("gemma", loaded=(None, tok))
    (reply,) = llm.ask(make_endpoint(**LOCAL), [chat], tmp_path / "c.jsonl", seed=1, local=local)
    assert reply["text"] == "8" and tok.eos_token_id not in read[0]
    assert "Rate from 1 to 10.\n\nAn answer with <eos> in it." in tok.decode(read[0])
    assert "shows no system text" in capsys.readouterr().out


def test_a_minute_holds_no_more_requests_than_allowed_retries_included(server, endpoint, tmp_path):
    server.script = [(500, None), (429, None)]
    paced = endpoint.model_copy(update={"requests_per_minute": 300})
    llm.ask(paced, chats(*"abc"), tmp_path / "c.jsonl", seed=1)
    llm.ask(paced, chats(*"def"), tmp_path / "c.jsonl", seed=1)  # the pace goes on from call to call
    assert len(server.times) == 8
    assert server.times[-1] - server.times[0] >= 7 * 0.2 - 0.05  # the network's own delays differ a little


@given(st.lists(st.floats(0, 90), max_size=40), st.integers(1, 12))
def test_the_pace_holds_for_any_arrivals(arrivals, per_minute):
    class Clock(threading.Event):  # waiting moves the clock
        now = 0.0

        def wait(self, seconds):
            self.now += seconds

    clock, pace, starts = Clock(), client._Pace(per_minute), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client.time, "monotonic", lambda: clock.now)
        for arrival in sorted(arrivals):
            clock.now = max(clock.now, arrival)
            pace.wait(clock)
            starts.append(clock.now)
    assert all(later - first >= 60 - 1e-6 for first, later in zip(starts, starts[per_minute:]))


def test_an_estimate_counts_what_is_distinct_and_not_cached(server, endpoint, tmp_path):
    cache, priced = tmp_path / "c.jsonl", endpoint.model_copy(update={"price_in": 1000.0, "price_out": 2000.0})
    wanted = chats("a" * 40, "b" * 40, "b" * 40, "c" * 80)
    found = llm.estimate(priced, wanted, cache, seed=1)
    assert found == {"requests": 3, "prompt_tokens": 40, "completion_tokens": 51, "dollars": pytest.approx(0.142)}
    llm.ask(endpoint, chats("a" * 40), cache, seed=1)
    assert llm.estimate(priced, wanted, cache, seed=1)["requests"] == 2
    assert llm.estimate(priced, wanted, cache, seed=2)["requests"] == 3
    assert llm.estimate(priced, [], cache, seed=1)["dollars"] == 0
    assert len(server.seen) == 1


def test_what_it_costs_is_said_before_asking(server, endpoint, tmp_path, capsys):
    priced = endpoint.model_copy(update={"price_in": 1000.0, "price_out": 2000.0})
    llm.ask(priced, chats("a" * 40), tmp_path / "c.jsonl", seed=1, label="write")
    capsys.readouterr()
    llm.ask(priced, chats("a" * 40, "b" * 40, "b" * 40), tmp_path / "c.jsonl", seed=1, label="write")
    said = capsys.readouterr().out
    assert (
        said == "write: 1 requests to gpt-test (1 more are cached), about 10 tokens in, at most 17 out, 0.04 dollars\n"
    )
    llm.ask(priced, chats("a" * 40, "b" * 40), tmp_path / "c.jsonl", seed=1)
    assert capsys.readouterr().out == ""


def test_above_the_budget_nothing_is_asked(server, endpoint, tmp_path):
    dear = endpoint.model_copy(update={"price_out": 1e6, "budget": 16.9})
    with pytest.raises(
        ParameterError, match=r"17\.00 dollars, above 'budget: 16\.9'.*raise 'budget' beside 'model: gpt-test'"
    ):
        llm.ask(dear, chats("a"), tmp_path / "c.jsonl", seed=1)
    assert not server.seen and not (tmp_path / "c.jsonl").exists()
    llm.ask(dear.model_copy(update={"budget": 17.0}), chats("a"), tmp_path / "c.jsonl", seed=1)
    llm.ask(dear, chats("a"), tmp_path / "c.jsonl", seed=1)  # what is cached costs nothing
    assert len(server.seen) == 1


def test_the_tokens_a_server_counted_are_kept(server, endpoint, narrow, tmp_path):
    cache = tmp_path / "c.jsonl"
    counted = {"usage": {"prompt_tokens": 11, "completion_tokens": 5, "total_tokens": 16}}
    server.script = [(200, chat("x", **counted)), (200, chat("y", usage=["odd"])), (400, None)]
    replies = llm.ask(narrow, chats(*"abc"), cache, seed=1)
    assert [(r["prompt_tokens"], r["completion_tokens"]) for r in replies] == [(11, 5), (None, None), (None, None)]
    assert llm.usage(cache) == {
        "requests": 3, "failed": 1, "uncounted": 1, "prompt_tokens": 11, "completion_tokens": 5,
    }  # fmt: skip
    assert llm.cost(endpoint.model_copy(update={"price_in": 2.0, "price_out": 4.0}), 11, 5) == pytest.approx(42e-6)


def test_a_cache_without_counts_still_reads(server, endpoint, tmp_path):
    cache = tmp_path / "c.jsonl"
    first = llm.ask(endpoint, chats("a"), cache, seed=1)
    row = artefacts.read_jsonl(cache)[0]
    cache.write_text(json.dumps({key: row[key] for key in ("id", "text", "ended", "error")}) + "\n")
    assert llm.ask(endpoint, chats("a"), cache, seed=1) == first and len(server.seen) == 1
    assert llm.usage(cache)["uncounted"] == 1 and llm.usage(tmp_path / "none.jsonl")["requests"] == 0


def test_an_interrupt_stops_at_once_and_a_rerun_asks_for_the_rest(server, endpoint, tmp_path, monkeypatch):
    cache, kept = tmp_path / "c.jsonl", artefacts.append_jsonl

    def interrupted(path, rows):
        kept(path, rows)
        server.hold.clear()  # from now on no request is answered
        raise KeyboardInterrupt

    monkeypatch.setattr(artefacts, "append_jsonl", interrupted)
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        llm.ask(endpoint, chats(*(f"q{i}" for i in range(500))), cache, seed=1)
    assert time.monotonic() - started < 2
    monkeypatch.undo()
    monkeypatch.setenv("TEST_KEY", KEY)
    server.hold.set()
    time.sleep(0.2)
    asked = len(server.seen)
    assert asked <= 3 * endpoint.concurrency
    replies = llm.ask(endpoint, chats(*(f"q{i}" for i in range(30))), cache, seed=1)
    assert [r["text"] for r in replies] == [f"echo: q{i}" for i in range(30)]
    assert len(server.seen) - asked == 29


def test_a_stop_ends_the_retries(server, endpoint, tmp_path):
    server.script = [(401, None), *[(500, None)] * 60]
    with pytest.raises(ParameterError, match="refused"):
        llm.ask(endpoint, chats(*(f"q{i}" for i in range(50))), tmp_path / "c.jsonl", seed=1)
    time.sleep(0.3)
    asked = len(server.seen)
    time.sleep(0.3)
    assert len(server.seen) == asked <= 15
