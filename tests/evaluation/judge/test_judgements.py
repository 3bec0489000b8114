"""No judgement is lost: not by what a judge writes, not by its server's faults, not by a kill in the middle."""

import collections
import hashlib
import json
import math
import re
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from conftest import REPOSITORY, make_endpoint, serving
from openai_server import Handler, Server, chat

from s2utils.evaluation.judge import judge_prompts, judgements
from s2utils.evaluation.judge.replies import DIMENSIONS
from s2utils.models.parameters import Endpoint
from s2utils.workflow import artefacts
from s2utils.workflow.params import ParameterError

WIDTH, TIMEOUT, JUDGEMENTS = 16, 1.5, 1000  # a reply that is late only because the machine is busy must not count
FAULTS = {"limit": 3, "crash": 3, "silence": 1, "cut": 3, "drip": 1, "empty": 3, "talk": 3, "mute": 3}  # in 100 items
PLACES = [name for name, share in FAULTS.items() for _ in range(share)]


def fault(item: int) -> str:
    number = int(hashlib.sha256(str(item).encode()).hexdigest()[:8], 16) % 100
    return PLACES[number] if number < len(PLACES) else ""


def rated(item: int) -> float:
    return 8.5 if item % 17 == 0 else 1 + item % 10


class FaultyServer(Server):
    """A judge that fails at the first request of some items, in every way we know."""

    def __init__(self):
        super().__init__(handler=Faulty)
        self.asked: collections.Counter = collections.Counter()  # (item, repair): requests
        self.paid: collections.Counter = collections.Counter()  # (item, repair): whole replies


class Faulty(Handler):
    def do_POST(self):
        server, messages = self.server, self.body()["messages"]
        found = [re.search(r"item (\d+)\.", m["content"]) for m in messages]
        item, repair = next(int(m[1]) for m in found if m), not found[-1]
        with server.lock:
            server.asked[item, repair] += 1
            first = server.asked[item, repair] == 1
            server.at_once += 1
            server.most = max(server.most, server.at_once)
        try:
            self.answer(item, repair, fault(item), first)
        except OSError:  # who asked is gone
            pass
        finally:
            with server.lock:
                server.at_once -= 1

    def answer(self, item: int, repair: bool, wrong: str, first: bool) -> None:
        text = f"Rating: [[{rated(item):g}]]"
        if wrong == "mute" or (wrong == "talk" and not repair):
            text = "I like it."
        data = json.dumps(chat("" if wrong == "empty" and not repair else text)).encode()
        if first and wrong in ("limit", "crash"):
            return self.send(429 if wrong == "limit" else 500, {"error": {"message": "later"}})
        if first and wrong == "silence":
            return time.sleep(1.2 * TIMEOUT)
        if first and wrong == "cut":
            return self.send(200, data[: len(data) // 2])
        if first and wrong == "drip":
            self.head(200, len(data))
            for byte in data[:16]:  # each comes in time, all of them would not
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
                time.sleep(TIMEOUT / 8)  # twice the time in all
            return None
        with self.server.lock:
            self.server.paid[item, repair] += 1
        return self.send(200, data)


@pytest.fixture
def server():
    with serving(FaultyServer()) as running:
        yield running


CHILD = """
import sys
from pathlib import Path
from s2utils.models import client
from s2utils.evaluation.judge import judgements, judge_prompts as judges
from s2utils.models.parameters import Endpoint
port, folder, n, width, timeout = sys.argv[1:]
folder, client.TIMEOUT = Path(folder), float(timeout)
judge = Endpoint(
    backend="openai", model="m", revision="", base_url=f"http://127.0.0.1:{port}/v1", key_env="NO_KEY",
    concurrency=int(width), batch_size=1, max_new_tokens=16, temperature=0.0, requests_per_minute=0,
    price_in=0.0, price_out=0.0, budget=0.0,
)
keys = {"turn": 1, "model": "a"}
items = [keys | {"question_id": i, "chat": judges.chat("single", f"item {i}. ", False)} for i in range(int(n))]
rows = judgements.collect(judge, "single", items, folder / "cache.jsonl", seed=1, label="judge")
judgements.write(folder / "judged.jsonl", rows)
"""


@pytest.mark.slow
def test_a_thousand_judgements_survive_a_kill_and_a_faulty_server(server, tmp_path):
    given = (server.server_port, tmp_path, JUDGEMENTS, WIDTH, TIMEOUT)
    command = [sys.executable, "-c", CHILD, *map(str, given)]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while sum(server.paid.values()) < 450 and process.poll() is None and time.monotonic() < until:
        time.sleep(0.005)
    process.kill()
    assert process.wait(10) == -9, "it ended before it was killed"
    while server.at_once:
        time.sleep(0.01)
    before, held = sum(server.paid.values()), len(artefacts.read_jsonl(tmp_path / "cache.jsonl"))
    assert held >= 400 and not (tmp_path / "judged.jsonl").exists()
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-2000:]

    rows = judgements.read(tmp_path / "judged.jsonl")
    assert rows["question_id"].tolist() == list(range(JUDGEMENTS)), "lost, twice, or out of order"
    wrong = rows["question_id"].map(fault)
    assert set(wrong) == {"", *FAULTS}
    states = wrong.map({"empty": "repaired", "talk": "repaired", "mute": "failed"}).fillna("clear")
    assert (rows["state"] == states).all() and rows["rating"].isna().sum() == (wrong == "mute").sum()
    clear = rows[rows["state"] != "failed"]
    assert (clear["rating"] == clear["question_id"].map(rated)).all()
    assert judgements.counts(rows)[["asked", *judgements.STATES]].sum(axis=1).tolist() == [2 * JUDGEMENTS]

    needed = JUDGEMENTS + int(wrong.isin(["empty", "talk", "mute"]).sum())
    twice = {key: times - 1 for key, times in server.paid.items() if times > 1}
    assert len(server.paid) == needed, "every prompt was answered, and no other"
    assert sum(twice.values()) == sum(server.paid.values()) - needed <= WIDTH, (
        f"paid twice: {twice}; {held} of {before} kept"
    )
    assert server.most <= WIDTH


def item(i: int, model: str = "m", turn: int = 1, kind: str = "single") -> dict:
    return {"question_id": i, "turn": turn, "model": model, "chat": judge_prompts.chat(kind, f"q{i} ", True)}


@pytest.fixture
def scripted(monkeypatch):
    """Replies by round: a list of texts each time `llm.ask` is called; an exception stands for a broken reply."""

    def script(*rounds: list):
        left, asked = list(rounds), []

        def ask(endpoint, chats, cache, *, seed, label, local=None):
            asked.append({"chats": chats, "seed": seed, "label": label})
            said = left.pop(0)
            assert len(said) == len(chats)
            return [{"text": t or "", "ended": True, "error": "" if t is not None else "malformed reply"} for t in said]

        monkeypatch.setattr(judgements.llm, "ask", ask)
        return asked

    return script


JUDGE = make_endpoint(key_env="KEY", concurrency=3)


def collect(items, kind="single", **more) -> pd.DataFrame:
    return pd.DataFrame(judgements.collect(JUDGE, kind, items, None, **{"seed": 5, "label": "judge"} | more))


def test_a_reply_without_a_rating_is_asked_for_it_once(scripted):
    asked = scripted(["Good. Rating: [[7]]", "It is good.", "Bad."], ["Rating: [[10]]", "I cannot."])
    rows = collect([item(i) for i in range(3)])
    assert rows["state"].tolist() == ["clear", "repaired", "failed"] and rows["rating"].tolist()[:2] == [7, 10]
    assert rows["reply"].tolist() == ["Good. Rating: [[7]]", "It is good.", "Bad."]
    assert rows["again"].tolist() == ["", "Rating: [[10]]", "I cannot."]
    assert asked[1]["chats"] == [judge_prompts.chat("single", f"q{i} ", False) for i in (1, 2)] and len(asked) == 2
    assert judgements.counts(rows).to_dict("records") == [
        {"kind": "single", "judge": "gpt-test", "asked": 3, "clear": 1, "repaired": 1, "failed": 1}
    ]


def test_why_replies_were_not_clear_is_counted(scripted):
    first = ["Rating: [[7]]", "Rating: 4/5", "8%", "Rating: 80 %", None]
    scripted(first, first, ["Rating: [[4]]", "", "9%"])
    rows = collect([item(i) for i in range(5)])
    assert judgements.failures(rows).drop(columns=["kind", "judge"]).to_dict("records") == [
        {"reason": "another scale", "not_clear": 1, "repaired": 1, "failed": 0},
        {"reason": "percent", "not_clear": 2, "repaired": 0, "failed": 2},
        {"reason": "malformed reply", "not_clear": 1, "repaired": 0, "failed": 1},
    ]
    counted, why = judgements.counts(rows).iloc[0], judgements.failures(rows)
    assert (counted["repaired"], counted["failed"]) == (why["repaired"].sum(), why["failed"].sum())

    scripted(["Rating: [[7]]"])
    why = judgements.failures(collect([item(0)]))
    assert why.empty and why.columns.tolist() == ["kind", "judge", "reason", "not_clear", "repaired", "failed"]


def test_what_came_broken_is_asked_once_more_and_then_has_failed(scripted):
    asked = scripted([None, None], ["Rating: [[3]]", None])
    rows = collect([item(0), item(1)])
    assert rows["state"].tolist() == ["clear", "failed"] and rows["error"].tolist() == ["", "malformed reply"]
    assert len(asked) == 2 and asked[0]["chats"] == asked[1]["chats"]


def seven(*numbers) -> str:
    return "\n".join(f"{name}: [[{n}]]" for name, n in zip(DIMENSIONS, numbers))


def test_a_rubric_takes_a_whole_second_reply_or_fills_its_gaps(scripted):
    first = [seven(1, 2, 3, 4, 5, 6, 7), "Simplicity: [[9]]", "Simplicity: [[9]]", "Depth: [[2]]"]
    scripted(first, [seven(2, 2, 2, 2, 2, 2, 2), seven("-", 3, 3, 3, 3, 3, 3), "no"])
    rows = collect([item(i, kind="rubric") for i in range(4)], "rubric")
    assert rows["state"].tolist() == ["clear", "repaired", "repaired", "failed"]
    assert rows["simplicity"].tolist()[:3] == [1, 2, 9] and rows["overall"].tolist()[:3] == [7, 2, 3]
    assert rows["depth"][3] == 2 and math.isnan(rows["overall"][3])


def test_repeats_have_seeds_of_their_own_and_a_mean(scripted):
    asked = scripted(["Rating: [[4]]", "Rating: [[5]]"], ["Rating: [[8]]", "hm"], ["hm"])
    rows = collect([item(0), item(1)], repeats=2)
    assert [a["seed"] for a in asked] == [5, 6, 6] and rows["repeat"].tolist() == [0, 0, 1, 1]
    means = judgements.averaged(rows, ["rating"], ["question_id"])
    assert means["rating"].tolist() == [6, 5]
    assert means["rating_spread"].tolist() == pytest.approx([8**0.5, math.nan], nan_ok=True)


def test_rows_come_back_as_they_were_written(tmp_path):
    rows = [
        {"question_id": 1, "rating": 8.5, "reply": "a\u2028b", "state": "clear"},
        {"question_id": 2, "rating": math.nan, "reply": "", "state": "failed"},
    ]
    judgements.write(tmp_path / "r.jsonl", rows)
    found = judgements.read(tmp_path / "r.jsonl")
    assert found["rating"].tolist() == pytest.approx([8.5, math.nan], nan_ok=True)
    assert found["reply"].tolist() == ["a\u2028b", ""]
    judgements.write(tmp_path / "none.jsonl", [])
    assert judgements.read(tmp_path / "none.jsonl").empty


HEAD = "question_id,turn,model,rating"


def people(tmp_path, *lines: str, head: str = HEAD) -> Endpoint:
    file = tmp_path / "people.csv"
    file.write_text("\n".join([head, *lines]) + "\n", encoding="utf-8")
    return JUDGE.model_copy(update={"backend": "file", "model": str(file)})


def test_a_file_of_ratings_is_looked_up_and_not_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(judgements.llm, "ask", None)
    judge = people(tmp_path, "1,1,m,8.5", "1,2,m,10", "x7,1,n,3")
    items = [item(1), item(1, turn=2), item("x7", "n"), item(2)]
    rows = pd.DataFrame(judgements.collect(judge, "single", items, None, seed=1, label="", repeats=3))
    assert rows["rating"].tolist()[:3] == [8.5, 10, 3] and rows["state"].tolist() == ["clear"] * 3 + ["failed"]
    assert rows["error"].tolist() == ["", "", "", "not in the file"] and len(rows) == 4


def test_people_may_rate_the_rubric_and_be_several(tmp_path):
    judge = people(tmp_path, "1,1,m,8,9,ann", "1,1,m,6,,bob", head=HEAD + ",simplicity,rater")
    row = judgements.collect(judge, "rubric", [item(1)], None, seed=1, label="")[0]
    assert (row["overall"], row["simplicity"], row["state"]) == (7, 9, "clear") and math.isnan(row["depth"])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1,1,m,11", r"row 2: rating must be a number from 1 to 10, not '11'"),
        ("1,1,m,good", r"row 2: rating must be a number"),
        ("1,1,m,nan", r"row 2: rating must be a number from 1 to 10, not 'nan'"),
        ("0.0,1,m,5", r"row 2 rates what row 1 rates; a column 'rater'"),
        ("1,1,m,", r"row 2: rating must be a number"),
        ("1,3,m,5", r"row 2: turn must be 1 or 2, not '3'"),
        (",1,m,5", r"row 2: question_id and model must not be empty"),
        ("0,1,m,5", r"row 2 rates what row 1 rates; a column 'rater'"),
        ("1,1,m", r"3 cells where the header has 4"),
    ],
)
def test_ratings_that_cannot_be_used_name_file_and_row(tmp_path, line, message):
    with pytest.raises(ParameterError, match=message) as raised:
        judgements.humans(Path(people(tmp_path, "0,1,m,5", line).model))
    assert "people.csv" in str(raised.value)

    with pytest.raises(ParameterError, match=r"people.csv: no column 'turn' among question_id, model, rating"):
        judgements.humans(Path(people(tmp_path, "1,m,5", head="question_id,model,rating").model))


@pytest.mark.parametrize("written", ["1.0,1.0,m,8", "1,1,m,8.0"])
def test_numbers_as_pandas_writes_them_meet_their_answers(tmp_path, monkeypatch, written):
    monkeypatch.setattr(judgements.llm, "ask", None)
    items = [item(1), {**item(1), "question_id": 1.0}, {**item(1), "question_id": "1"}]
    rows = judgements.collect(people(tmp_path, written), "single", items, None, seed=1, label="")
    assert [(r["rating"], r["state"]) for r in rows] == [(8, "clear")] * 3


def test_peoples_ratings_as_one_array(tmp_path):
    rows = [
        {"question_id": 1, "turn": 1, "model": "m", "rating": 8, "simplicity": None},
        {"question_id": 2.0, "turn": 2, "model": "m", "rating": "7"},
    ]
    (tmp_path / "people.json").write_text(json.dumps(rows))
    found = judgements.humans(tmp_path / "people.json")
    assert found["rating"].tolist() == [8, 7] and found["question_id"].tolist() == ["1", "2"]
    assert found["simplicity"].isna().all()
    (tmp_path / "people.json").write_text(json.dumps([rows[0] | {"rating": math.nan}]))
    with pytest.raises(ParameterError, match="people.json, row 1: rating must be a number from 1 to 10, not nan"):
        judgements.humans(tmp_path / "people.json")
