"""Blocks and shards: the same rows whoever makes them, resumed after a kill, nothing lost."""

import gzip
import json
import os
import random
import signal
import subprocess
import sys
import time

import pandas as pd
import psutil
import pyarrow.parquet as pq
import pytest
from source_files import NAMES, ROWS, SIMPLE, changed, json_lines, source

from s2utils.data import shards, sources
from s2utils.workflow import artefacts, params, paths

COLUMNS = {"question": "question", "answer": "answer", "score": "score"}


def some(n: int) -> list:
    """Rows: good ones, hard ones, short ones, broken ones."""
    draw = random.Random(0)
    kinds = {
        f"{SIMPLE} So it is with {{}}.": 5, "Notwithstanding heterogeneity. " * 12: 2, "Short.": 1, None: 1, "list": 1,
    }  # fmt: skip

    def row(i: int) -> dict | str:
        (text,) = draw.choices(list(kinds), kinds.values())
        answer = ["no", {"text": None}] if text == "list" else (text or SIMPLE).format(i)
        asked = {
            "id": str(i),
            "question": f"Why {i}?" if text else None,
            "answer": answer,
            "score": draw.choice([None, 1, 9]),
        }
        return "{" if i % 50 == 49 else asked

    return [row(i) for i in range(n)]


@pytest.fixture
def profile(tree, monkeypatch):
    """Make a profile with one source, of 500 rows at first, in blocks of 40."""
    monkeypatch.setattr(shards, "BLOCK", 40)
    (tree / "rows.jsonl").write_text(json_lines(some(500)))
    smoke = params.load("smoke")

    def build(kind: str = "qa", path: str = "rows.jsonl", threads: int = 1, columns: dict = COLUMNS, **changes):
        data = changed(smoke.data, sources={"rows": source(path, kind, **columns)}, **({"shards": 1} | changes))
        return changed(smoke, data=data, runtime=changed(smoke.runtime, threads=threads))

    return build


def everything(p, folder) -> list[bytes]:
    """The bytes of every block, in order."""
    folders = [folder / str(k) for k in range(p.data.shards)]
    for k, part in enumerate(folders):
        shards.write(part, p, k)
    found = shards.files(folders, "rows")
    assert [f.name for f in found] == [f"rows-{i:06d}.parquet" for i in range(13)]
    return [f.read_bytes() for f in found]


def test_four_shards_and_several_processes_give_the_same_rows_as_one(profile, tmp_path):
    one = everything(profile(), tmp_path / "one")
    assert everything(profile(shards=4), tmp_path / "four") == one
    assert everything(profile(threads=3), tmp_path / "threads") == one


def test_kept_and_dropped_are_what_was_read(profile, tmp_path):
    p = profile(shards=2)
    everything(p, tmp_path)
    folders = [tmp_path / "0", tmp_path / "1"]
    frame, others = shards.kept(folders, "rows")
    assert len(frame) + sum(others.values()) == 500
    reasons = {"no question", "answer is not text", "under 20 words", "reading ease under 60"}
    assert others["broken row"] == 10 and reasons <= set(others)
    assert (frame["dropped"] == "").all() and frame["score"].dtype == "Int64"
    side = tmp_path / "rejected.parquet"
    examples = shards.rejected(folders, frame.head(0), 3, 0, side)
    unread = sum(others[r] for r in ("broken row", "no question", "answer is not text"))
    assert len(pq.read_table(side)) == sum(others.values()) - unread
    assert set(examples.groupby("dropped").size()) == {3} and (examples["answer"] != "").all()
    asked = shards.questions(folders, p)
    assert len(asked) == 500 - unread  # each asks why
    assert list(asked.columns) == ["dataset", "post", "question", "group"]


def test_a_meta_post_is_no_prompt_whatever_its_answers_fell_for(profile, tree, tmp_path):
    p = profile("posts", "posts.jsonl", columns={})
    titles = ("[Meta] Open thread of the week", "Why is it hot?")
    rows = [
        ROWS["posts"][i] | {"q": title, "answers": {"a_id": ["x"], "text": ["So."], "score": [4]}}
        for i, title in enumerate(titles)
    ]
    (tree / "posts.jsonl").write_text(json_lines(rows))
    shards.write(tmp_path / "0", p, 0)
    assert shards.kept([tmp_path / "0"], "rows")[1] == {"under 20 words": 2}
    assert shards.questions([tmp_path / "0"], p)["question"].tolist() == ["Why is it hot?"]


def test_examples_do_not_depend_on_the_shards(profile, tmp_path):
    for n in (1, 4):
        everything(profile(shards=n), tmp_path / str(n))
    empty = pd.DataFrame({c: [] for c in shards.filters.COLUMNS}).astype({"dropped": "str"})
    one = shards.rejected([tmp_path / "1" / "0"], empty, 3, 7, None)
    four = shards.rejected([tmp_path / "4" / str(k) for k in (3, 1, 0, 2)], empty, 3, 7, None)
    assert one["id"].tolist() == four["id"].tolist()
    assert one["id"].tolist() != shards.rejected([tmp_path / "1" / "0"], empty, 3, 8, None)["id"].tolist()


def test_rejected_texts_are_kept_only_where_asked_for(profile, tmp_path):
    p = profile(keep_rejected=False)
    everything(p, tmp_path)
    frame = pd.concat([pq.read_table(f).to_pandas() for f in shards.files([tmp_path / "0"], "rows")])
    assert ((frame["answer"] == "") == (frame["dropped"] != "")).all()


def test_finished_blocks_are_not_made_again(profile, tmp_path):
    p = profile()
    whole = everything(p, tmp_path)
    blocks = shards.files([tmp_path / "0"], "rows")
    for block in blocks[1::3]:
        block.unlink()
    times = {block: block.stat().st_mtime_ns for block in blocks if block.exists()}
    assert everything(p, tmp_path) == whole
    assert all(block.stat().st_mtime_ns == time for block, time in times.items()) and len(times) == 9


def test_a_cut_file_names_itself_and_loses_no_finished_block(profile, tree, tmp_path):
    whole = gzip.compress(json_lines(some(2000)).encode())
    (tree / "cut.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    p = profile(path="cut.jsonl.gz")
    with pytest.raises(sources.SourceError, match=r"cut\.jsonl\.gz.*line"):
        shards.write(tmp_path / "0", p, 0)
    blocks = shards.files([tmp_path / "0"], "rows")
    assert blocks and all(len(pq.read_table(block)) for block in blocks)


def test_a_source_without_a_usable_row_is_refused(profile, tree, tmp_path):
    (tree / "rows.jsonl").write_text("")
    p = profile()
    with pytest.raises(sources.SourceError):
        shards.write(tmp_path / "0", p, 0)
        shards.kept([tmp_path / "0"], "rows")


@pytest.mark.slow
def test_a_killed_job_goes_on_and_ends_in_the_same_bytes(tree, tmp_path):
    """A real process with workers, killed for good in the middle, then run again; its workers end with it."""
    own = "extends: smoke\nruntime: {threads: 2}\ndata: {sources: {wikilead: {max_records: 0}}}\n"
    (tree / "params" / "killed.yaml").write_text(own)
    command = [sys.executable, "-m", "s2utils", "make", "filtered", "killed", "0"]
    folder = paths.artefacts("killed") / "filtered" / "0"
    process = subprocess.Popen(command, env=os.environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and len(list(folder.glob("*.parquet"))) < 2:
        time.sleep(0.01)
    workers = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert workers and not psutil.wait_procs(workers, timeout=30)[1]
    finished = {f: f.stat().st_mtime_ns for f in folder.glob("*.parquet")}
    assert finished and not (folder / "manifest.json").exists()
    subprocess.run(command, check=True, capture_output=True)
    assert all(f.stat().st_mtime_ns == at for f, at in finished.items())
    p = params.load("killed")
    shards.write(tmp_path / "again", p, 0)
    mine = {f.name: artefacts.sha256(f) for f in folder.glob("*.parquet")}
    assert mine == {f.name: artefacts.sha256(f) for f in (tmp_path / "again").glob("*.parquet")}


ODD = [None, True, 7, -2.5, float("nan"), 10**30, "", "Why is it so?", "caf\u00e9", "\ud83d half", "[deleted]", "5",
       "a\u0000\u202e*[](){}<&>\n", f"{SIMPLE} x?&#*"]  # fmt: skip


def odd_lines(n: int, seed: int) -> list[bytes]:
    """JSON lines with every kind of damage, one with a text of 5 MB."""
    draw = random.Random(seed)

    def value(depth: int = 0) -> object:
        if depth == 3 or draw.random() < 0.6:
            return draw.choice(ODD)
        inner = [value(depth + 1) for _ in range(draw.randrange(4))]
        return draw.choice([inner, dict(zip(draw.sample(NAMES, len(inner)), inner))])

    def line(i: int) -> bytes:
        row = {"id": f"r{i}", "q": "Why?", "body": "I ask.", "a": SIMPLE, "text": SIMPLE, "g": "x",
               "answers": {"text": [SIMPLE, "No."], "a_id": ["x", "y"], "score": [1, 2]}}  # fmt: skip
        for key in draw.sample(list(row), draw.randrange(4)):
            if draw.random() < 0.3:
                del row[key]
            elif key == "answers" and draw.random() < 0.7:
                row[key][draw.choice(["text", "a_id", "score"])] = draw.choice([value(), [value(), value()]])
            else:
                row[key] = value()
        if i == n // 2:
            row |= {"q": "Why?", "a": "a* [b](c " * 600_000, "text": "word " * 10**6}
        written = json.dumps(row, ensure_ascii=draw.random() < 0.5)
        if i != n // 2 and draw.random() < 0.08:
            return draw.choice([written[: len(written) // 2], "[1]", "null", "7", "{}]"]).encode("utf-8", "replace")
        return written.encode(draw.choice(["utf-8", "latin-1", "cp1252"]), "replace")

    return [line(i) for i in range(n)]


@pytest.mark.parametrize("kind", ROWS)
def test_thousands_of_odd_rows_are_kept_or_counted(profile, tree, tmp_path, kind):
    lines = odd_lines(4000, seed=3)
    (tree / "odd.jsonl").write_bytes(b"\n".join(lines))
    p = profile(kind, "odd.jsonl", columns={"group": "g"})
    shards.write(tmp_path / "0", p, 0)
    frame, others = shards.kept([tmp_path / "0"], "rows")
    facts = p.data.sources["rows"]
    rows = [row for block in sources.blocks("rows", facts, 0) for row in block]
    counts = [
        len(usable) + unreadable.total() for usable, unreadable in (sources.records("rows", facts, [r]) for r in rows)
    ]
    assert len(counts) == len(lines) and min(counts) >= 1  # no row without a trace
    assert len(frame) + others.total() == sum(counts)
    reasons = {"broken row", "answer is not text", "deleted", *({"no question"} if kind != "articles" else ())}
    if kind == "posts":
        reasons |= {"post without answers", "broken answers", "votes are not a number"}
    else:
        assert sum(counts) == len(lines)
    assert reasons <= set(others) and len(frame) > 1500
    frame.to_json()  # nothing in it that cannot be written
