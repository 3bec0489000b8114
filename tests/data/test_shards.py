"""Blocks and shards: the same rows whoever makes them, resumed after a kill, nothing lost."""

import gzip
import json
import os
import random
import signal
import subprocess
import sys
import time
import typing

import pandas as pd
import psutil
import pyarrow.parquet as pq
import pytest

from s2utils.data import shards
from s2utils.data.parameters import Kind, Source
from s2utils.workflow import artefacts, params, paths

SIMPLE = "The sun is hot and big. It gives us light in the day. At night we see the moon and the stars in the sky."
QA = Source(kind="qa", path="rows.jsonl", config="", split="", revision="", id="id", question="question", body="", answer="answer", answer_id="", score="score",
            group="", groups=[], max_records=0)  # fmt: skip


def some(n: int, seed: int = 0) -> list[str]:
    """JSON lines: good rows, hard ones, short ones, broken ones."""
    draw = random.Random(seed)
    good = [
        lambda i: {"id": str(i), "question": f"Why {i}?", "answer": f"{SIMPLE} So it is with {i}.", "score": i % 9},
        lambda i: {
            "id": str(i),
            "question": f"Why {i}?",
            "answer": "Notwithstanding heterogeneity. " * 12,
            "score": None,
        },
        lambda i: {"id": str(i), "question": f"Why {i}?", "answer": "Short.", "score": 1},
        lambda i: {"id": str(i), "question": None, "answer": SIMPLE, "score": 1},
        lambda i: {"id": str(i), "question": "Why?", "answer": ["no", {"text": None}], "score": 1},
    ]
    lines = [json.dumps(draw.choices(good, weights=[5, 2, 1, 1, 1])[0](i)) for i in range(n)]
    return ["{" if i % 50 == 49 else line for i, line in enumerate(lines)]


@pytest.fixture
def made(tree, monkeypatch):
    """A profile with one source of 500 rows, in blocks of 40."""
    monkeypatch.setattr(shards, "BLOCK", 40)
    (tree / "rows.jsonl").write_text("\n".join(some(500)) + "\n")
    smoke = params.load("smoke")

    def build(shards_of: int = 1, threads: int = 1, keep: bool = True, path: str = "rows.jsonl"):
        source = QA.model_copy(update={"path": path})
        data = smoke.data.model_copy(update={"sources": {"rows": source}, "shards": shards_of, "keep_rejected": keep})
        return smoke.model_copy(update={"data": data, "runtime": smoke.runtime.model_copy(update={"threads": threads})})

    return build


def everything(p, folder) -> list[bytes]:
    """The bytes of every block, in order."""
    folders = [folder / str(k) for k in range(p.data.shards)]
    for k, part in enumerate(folders):
        shards.write(part, p, k)
    found = shards.files(folders, "rows")
    assert [f.name for f in found] == [f"rows-{i:06d}.parquet" for i in range(13)]
    return [f.read_bytes() for f in found]


def test_four_shards_and_several_processes_give_the_same_rows_as_one(made, tmp_path):
    one = everything(made(), tmp_path / "one")
    assert everything(made(shards_of=4), tmp_path / "four") == one
    assert everything(made(threads=3), tmp_path / "threads") == one


def test_kept_and_dropped_are_what_was_read(made, tmp_path):
    p = made(shards_of=2)
    everything(p, tmp_path)
    folders = [tmp_path / "0", tmp_path / "1"]
    frame, others = shards.kept(folders, "rows")
    assert len(frame) + sum(others.values()) == 500
    assert others["broken row"] == 10 and {
        "no question",
        "answer is not text",
        "under 20 words",
        "reading ease under 60",
    } <= set(others)
    assert (frame["dropped"] == "").all() and frame["score"].dtype == "Int64"
    side = tmp_path / "rejected.parquet"
    examples = shards.rejected(folders, frame.head(0), 3, 0, side)
    unread = sum(others[r] for r in ("broken row", "no question", "answer is not text"))
    assert len(pq.read_table(side)) == sum(others.values()) - unread
    assert set(examples.groupby("dropped").size()) == {3} and (examples["answer"] != "").all()
    asked = shards.questions(folders, p)
    assert (
        len(asked) == 500 - unread
    )  # each asks why and list(asked.columns) == ["dataset", "post", "question", "group"]


def test_a_meta_post_is_no_prompt_whatever_its_answers_fell_for(made, tree, tmp_path):
    p = made(path="posts.jsonl")
    source = p.data.sources["rows"].model_copy(update={"kind": "posts", "answer": "a.text", "score": "a.score"})
    p = p.model_copy(update={"data": p.data.model_copy(update={"sources": {"rows": source}})})
    rows = [{"id": "1", "question": "[Meta] Open thread of the week", "a": {"text": ["ok thanks"], "score": [4]}},
            {"id": "2", "question": "Why is it hot?", "a": {"text": ["So."], "score": [4]}}]  # fmt: skip
    (tree / "posts.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    shards.write(tmp_path / "0", p, 0)
    assert shards.kept([tmp_path / "0"], "rows")[1] == {"under 20 words": 2}
    assert shards.questions([tmp_path / "0"], p)["question"].tolist() == ["Why is it hot?"]


def test_workers_end_with_the_job_that_started_them(tmp_path):
    script = """
import os, signal, time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from s2utils.data import shards
if __name__ == "__main__":
    pool = ProcessPoolExecutor(1, get_context("spawn"), initializer=shards._die_with_parent)
    print(pool.submit(os.getpid).result(), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    (tmp_path / "job.py").write_text(script)
    done = subprocess.run([sys.executable, str(tmp_path / "job.py")], capture_output=True, text=True, timeout=120)
    worker = int(done.stdout)
    for _ in range(100):
        if not psutil.pid_exists(worker) or psutil.Process(worker).status() == psutil.STATUS_ZOMBIE:
            return
        time.sleep(0.1)
    os.kill(worker, signal.SIGKILL)
    raise AssertionError("the worker lives on")


def test_examples_do_not_depend_on_the_shards(made, tmp_path):
    for n in (1, 4):
        everything(made(shards_of=n), tmp_path / str(n))
    empty = pd.DataFrame({c: [] for c in shards.filters.COLUMNS}).astype({"dropped": "str"})
    one = shards.rejected([tmp_path / "1" / "0"], empty, 3, 7, None)
    four = shards.rejected([tmp_path / "4" / str(k) for k in (3, 1, 0, 2)], empty, 3, 7, None)
    assert one["id"].tolist() == four["id"].tolist()
    assert one["id"].tolist() != shards.rejected([tmp_path / "1" / "0"], empty, 3, 8, None)["id"].tolist()


def test_rejected_texts_are_kept_only_where_asked_for(made, tmp_path):
    p = made(keep=False)
    everything(p, tmp_path)
    frame = pd.concat([pq.read_table(f).to_pandas() for f in shards.files([tmp_path / "0"], "rows")])
    assert ((frame["answer"] == "") == (frame["dropped"] != "")).all()


def test_finished_blocks_are_not_made_again(made, tmp_path, monkeypatch):
    p = made()
    want = everything(p, tmp_path / "whole")
    done, make = [], shards._block

    def dies(*job):
        if len(done) == 5:
            raise KeyboardInterrupt
        done.append(job[-1].name)
        make(*job)

    monkeypatch.setattr(shards, "_block", dies)
    with pytest.raises(KeyboardInterrupt):
        shards.write(tmp_path / "cut", p, 0)
    monkeypatch.setattr(shards, "_block", lambda *job: (done.append(job[-1].name), make(*job)))
    shards.write(tmp_path / "cut", p, 0)
    assert len(done) == len(set(done)) == 13
    assert [f.read_bytes() for f in shards.files([tmp_path / "cut"], "rows")] == want


def test_a_cut_file_names_itself_and_loses_no_finished_block(made, tree, tmp_path):
    whole = gzip.compress("\n".join(some(2000)).encode())
    (tree / "cut.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    p = made(path="cut.jsonl.gz")
    with pytest.raises(shards.sources.SourceError, match=r"cut\.jsonl\.gz.*line"):
        shards.write(tmp_path / "0", p, 0)
    held = shards.files([tmp_path / "0"], "rows")
    assert held and all(len(pq.read_table(f)) for f in held)


def test_a_source_without_a_usable_row_is_refused(made, tree, tmp_path):
    (tree / "rows.jsonl").write_text("")
    p = made()
    with pytest.raises(shards.sources.SourceError):
        shards.write(tmp_path / "0", p, 0)
        shards.kept([tmp_path / "0"], "rows")


@pytest.mark.slow
def test_a_killed_job_goes_on_and_ends_in_the_same_bytes(tree, tmp_path):
    """A real process, killed for good in the middle, then run again."""
    text = (tree / "params" / "smoke.yaml").read_text().replace("max_records: 400", "max_records: 0")
    (tree / "params" / "killed.yaml").write_text(text)
    command = [sys.executable, "-m", "s2utils", "make", "filtered", "killed", "0"]
    folder = paths.artefacts("killed") / "filtered" / "0"
    process = subprocess.Popen(command, env=os.environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and len(list(folder.glob("*.parquet"))) < 2:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    held = {f: f.stat().st_mtime_ns for f in folder.glob("*.parquet")}
    assert held and not (folder / "manifest.json").exists()
    subprocess.run(command, check=True, capture_output=True)
    assert all(f.stat().st_mtime_ns == at for f, at in held.items())
    p = params.load("killed")
    shards.write(tmp_path / "again", p, 0)
    mine = {f.name: artefacts.sha256(f) for f in folder.glob("*.parquet")}
    assert mine == {f.name: artefacts.sha256(f) for f in (tmp_path / "again").glob("*.parquet")}


def anything(draw: random.Random, depth: int = 0):
    """An arbitrary JSON value."""
    kinds = [
        lambda: None, lambda: draw.random() < 0.5, lambda: draw.randint(-(10**25), 10**25), lambda: draw.uniform(-1, 1) * 10 ** draw.randint(0, 300),
        lambda: float(draw.choice(["nan", "inf", "5.0"])), lambda: "".join(draw.choices("ab .?\ud800\udc00é\u0000\u202e*[](){}<&>\n", k=draw.randint(0, 40))),
        lambda: SIMPLE + " " + "".join(draw.choices("xyz?&#*", k=3)),
    ]  # fmt: skip
    if depth < 3:
        kinds += [
            lambda: [anything(draw, depth + 1) for _ in range(draw.randint(0, 4))],
            lambda: {draw.choice(["text", "score", "a_id", "", "x"]): anything(draw, depth + 1) for _ in range(3)},
        ]
    return draw.choice(kinds)()


def fuzzed(n: int, kind: str) -> list[bytes]:
    """Raw lines: rows with missing keys, wrong types and nested nulls, one of 5 MB, some in another encoding."""
    draw, lines = random.Random(kind), []
    for i in range(n):
        row = {key: anything(draw) for key in ("id", "question", "answer", "score", "more") if draw.random() < 0.8}
        if draw.random() < 0.3:
            row |= {"id": f"r{i}", "question": f"Why {i}?", "answer": SIMPLE, "score": draw.choice([None, 7, 7.0])}
            if kind == "posts":
                row["answer"] = {
                    "text": [SIMPLE, anything(draw), SIMPLE],
                    "score": [3, 4, anything(draw)],
                    "a_id": ["a", "b", anything(draw)],
                }
        line = json.dumps(row).encode()
        if draw.random() < 0.05:
            line = json.dumps(row, ensure_ascii=False).encode("utf-16-le", "surrogatepass").replace(b"\n", b" ")
        if draw.random() < 0.05:
            line = draw.choice(
                [line[: len(line) // 2] or b"{", b"null", b"[]", b'"text"', b"5", b"\xff\xfe\x00", b"nonsense"]
            )
        lines.append(line)
    lines[n // 2] = json.dumps({"id": "big", "question": "Why?", "answer": "a* [b](c " * 600_000}).encode()
    return lines


@pytest.mark.slow
@pytest.mark.parametrize("kind", typing.get_args(Kind))
def test_ten_thousand_fuzzed_rows_are_kept_or_counted(made, tree, tmp_path, kind):
    lines = fuzzed(10_000, kind)
    (tree / "rows.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    p = made()
    source = p.data.sources["rows"].model_copy(update={"kind": kind})
    if kind == "posts":
        source = source.model_copy(
            update={"answer": "answer.text", "answer_id": "answer.a_id", "score": "answer.score"}
        )
    p = p.model_copy(update={"data": p.data.model_copy(update={"sources": {"rows": source}})})
    shards.write(tmp_path / "0", p, 0)
    frame, others = shards.kept([tmp_path / "0"], "rows")
    read = len(frame) + sum(others.values())
    assert read == len(lines) if kind != "posts" else read >= len(lines)
    alone = [
        shards.sources.records("rows", source, [row])
        for block in shards.sources.blocks("rows", source, 0)
        for row in block
    ]
    assert all(len(found) + sum(counts.values()) >= 1 for found, counts in alone)  # no row without a trace
    assert read == sum(len(found) + sum(counts.values()) for found, counts in alone)
    assert len(frame) > 2000
    frame.to_json()  # nothing in it that cannot be written
