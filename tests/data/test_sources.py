"""Records of every format and kind: nothing lost, every row that cannot be used counted by its reason."""

import gzip
import json
import pickle
from collections import Counter

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from source_files import NAMES, ROWS, json_lines, put, source

from s2utils.data import sources
from s2utils.data.sources import SourceError

FORMATS = ("a.jsonl", "a.json", "a.json.gz", "a.jsonl.gz", "a.csv", "a.parquet", "a.arrow")
PAIRS = [(n, k) for n in FORMATS for k in ROWS if (n, k) != ("a.csv", "posts")]  # a CSV cell holds no list of answers


def of_rows(rows: list[dict], kind: str = "qa", **changes) -> tuple[list[dict], Counter]:
    """(records, reasons) of rows in memory."""
    return sources.records("d", source("rows", kind, **changes), list(enumerate(rows, start=1)))


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_every_format_gives_the_same_records(root, name, kind):
    records, unreadable = sources.read("d", source(put(root, name, ROWS[kind]), kind), seed=0)
    assert not unreadable
    if kind == "posts":
        assert [(r["id"], r["question"], r["body"], r["answer"], r["score"]) for r in records] == [
            ("p1/x", "Why?", "I ask.", "So.", 5),
            ("p1/y", "Why?", "I ask.", "No.", -1),
            ("p2/z", "How?", "", "Thus.", 3),
        ]  # fmt: skip
    else:
        answer = "a" if kind == "qa" else "text"
        assert [(r["id"], r["answer"]) for r in records] == [(r["id"], r[answer]) for r in ROWS[kind]]
        assert [r["question"] for r in records] == [r.get("q", "") for r in ROWS[kind]]
        assert {r["score"] for r in records} == {None}
    assert {r["dataset"] for r in records} == {"d"} and {r["group"] for r in records} == {""}


FIRST, SECOND = ROWS["qa"]


@pytest.mark.parametrize(
    ("name", "text", "changes"),
    [
        ("objects.json", json.dumps({"x": FIRST, "y": SECOND}), {}),  # an object of objects
        ("lines.json", json_lines(ROWS["qa"]), {}),
        ("mark.json", "\ufeff" + json.dumps(ROWS["qa"]), {}),
        ("mark.jsonl", "\ufeff" + json_lines(ROWS["qa"]), {}),
        ("mark.csv", "\ufeffid,q,a\n1,Why?,So.\n2,How?,So.\n", {}),
        ("numbered.jsonl", json_lines([row | {"id": "x"} for row in ROWS["qa"]]), {"id": ""}),
    ],
)
def test_other_spellings_of_two_rows(root, name, text, changes):
    (root / name).write_text(text, encoding="utf-8")
    assert [r["id"] for r in sources.read("d", source(name, **changes), 0)[0]] == ["1", "2"]


@pytest.mark.parametrize(
    ("text", "reasons"),
    [
        ([{"id": "3", "a": "No question."}, {"id": "4", "q": 5, "a": "A number."}], {"no question": 2}),
        ([{"id": "3", "q": "?", "a": None}, {"id": "4", "q": "?", "a": ["x"]}], {"answer is not text": 2}),
        (['{"id": "2", "q": "cut', "[1, 2]", "7", "null", "[" * 100_000], {"broken row": 5}),
        ("id,q,a\n1,Why?,So.\n2,How?\n2,How?,So.\n3,Who?,Me.,You.\n", {"broken row": 2}),
    ],
)
def test_what_cannot_be_used_is_counted_and_the_other_rows_are_read(root, text, reasons):
    lines = text if isinstance(text, str) else json_lines([*ROWS["qa"], *text])
    name = "a.csv" if isinstance(text, str) else "a.jsonl"
    (root / name).write_text(lines)
    records, unreadable = sources.read("d", source(name), 0)
    assert [r["id"] for r in records] == ["1", "2"] and unreadable == reasons


def post(text: object = ("x",), a_id: object = ("1",), score: object = (1,), **more) -> dict:
    answers = {"text": text, "a_id": a_id, "score": score}
    return {
        "id": "1",
        "q": "?",
        "answers": {k: list(v) if isinstance(v, tuple) else v for k, v in answers.items()},
    } | more


@pytest.mark.parametrize(
    ("row", "usable", "reasons"),
    [
        (post(answers="text"), 0, {"broken answers": 1}),
        (post(answers=None), 0, {"broken answers": 1}),
        (post(answers={"text": ["x"]}), 0, {"broken answers": 1}),
        (post(a_id=("1", "2")), 0, {"broken answers": 1}),
        (post(("x", None), "ab", ("many", 1)), 0, {"broken answers": 1}),  # a text is no list of ids
        (post(("x", None), ("a", "b"), ("many", 1)), 0, {"votes are not a number": 1, "answer is not text": 1}),
        (post(score=(True,)), 0, {"votes are not a number": 1}),
        (post(("[deleted]", " [removed] ", "So.", None, "No."), tuple("abcde"), (1, 1, 1, 1, "x")), 1,
         {"deleted": 2, "answer is not text": 1, "votes are not a number": 1}),
        (post((), (), ()), 0, {"post without answers": 1}),
        (post(answers=[]), 0, {"post without answers": 1}),
        (post(q=None), 0, {"no question": 1}),
        (post(), 1, {}),
    ],
)  # fmt: skip
def test_every_answer_of_a_post_counts_and_a_post_without_one_counts_once(row, usable, reasons):
    records, unreadable = of_rows([row], "posts", body="")
    assert len(records) == usable and unreadable == reasons


GZIP = gzip.compress(json.dumps([{"id": str(i), "q": f"Why {i}?", "a": "So."} for i in range(500)]).encode(), mtime=0)
DAMAGED = [bytes([*GZIP[:at], GZIP[at] ^ 0xFF, *GZIP[at + 1 :]]) for at in range(20, len(GZIP), 97)]
CUT = r"a.json.gz: the file is cut or not gzip .*fetch it again"
TITLED = [{"id": "1", "title": "Why?", "a": "So."}]
COLUMNS = r": no row has the columns q, body that data.sources.d names; it has a, id, title"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        *[(name, TITLED, name + COLUMNS) for name in ("a.jsonl", "a.csv", "a.parquet")],
        *[(name, b"", f"{name}.*it is empty|{name}: not valid json") for name in ("a.jsonl", "a.json", "a.csv")],
        ("a.json.gz", gzip.compress(b"", mtime=0), "a.json.gz: not valid json"),
        ("a.jsonl", [{"id": "1", "q": "?", "body": "", "a": 3}] * 4,
         "4 rows and not one usable record .*'answer is not text': 4"),
        *[("a.json.gz", data, CUT) for data in (GZIP[: len(GZIP) // 2], *DAMAGED, b"not gzip at all")],
        ("none.jsonl", None, "none.jsonl: there is no such file"),
        ("a.xlsx", b"PK", r"cannot read '.xlsx' files; known: .json, .jsonl"),
        ("someone/nothing", None, "someone/nothing could not be loaded .*give a local file"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_at_all_is_named_with_its_trouble(root, name, content, message):
    if isinstance(content, list):
        put(root, name, content)
    elif content is not None:
        (root / name).write_bytes(content)
    with pytest.raises(SourceError, match=message):
        sources.read("d", source(name, body="body"), 0)


@pytest.mark.parametrize("name", ["a.json", "a.parquet", "a.arrow"])
def test_a_cut_file_that_cannot_be_read_in_parts_is_named(root, name):
    path = root / put(root, name, ROWS["qa"])
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(SourceError, match=f"{name}: not valid"):
        sources.read("d", source(name), 0)


@pytest.mark.parametrize("name", FORMATS)
def test_a_text_of_a_million_characters_is_whole(root, name):
    long = "A word, and more. " * 60_000
    records, _ = sources.read("d", source(put(root, name, [{"id": "1", "q": "Why?", "a": long}])), 0)
    assert records[0]["answer"] == long


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.parquet"])
def test_control_characters_arrive_as_they_are(root, name):
    odd = "a\x00b\x07c\u2028d\x85e\ufeff\u202ef\r\ng"
    records, unreadable = sources.read("d", source(put(root, name, [{"id": "1", "q": odd, "a": odd}])), 0)
    assert not unreadable and (records[0]["question"], records[0]["answer"]) == (odd, odd)


def test_what_is_no_character_does_not_stop_what_comes_after(root):
    (root / "half.jsonl").write_text('{"id": "\\ud83d", "q": "Why \\ud83d?", "a": "So \\ude00."}\n')
    records, _ = sources.read("d", source("half.jsonl"), 0)
    pd.DataFrame(records).to_parquet(root / "out.parquet")
    assert (records[0]["id"], records[0]["question"], records[0]["answer"]) == ("?", "Why ??", "So ?.")
    (root / "a.csv").write_bytes(b"id,q,a\n1,Why?,caf\xe9\n2,How?,So.\n")
    records, _ = sources.read("d", source("a.csv"), 0)
    assert [r["answer"] for r in records] == ["caf\ufffd", "So."]


def test_a_sample_is_seeded_and_keeps_the_order(root):
    path = put(root, "a.jsonl", [{"id": str(i), "q": "Why?", "a": "So."} for i in range(100)])

    def ids(seed: int, n: int) -> list[int]:
        return [int(r["id"]) for r in sources.read("d", source(path, max_records=n), seed)[0]]

    first = ids(1, 10)
    assert first == ids(1, 10) == sorted(first) and len(set(first)) == 10
    assert first != ids(2, 10)
    assert ids(1, 100) == ids(1, 500) == ids(1, 0) == list(range(100))


def test_real_posts_with_votes_and_real_written_questions(root, sample):
    columns = {"id": "q_id", "question": "title", "body": "selftext", "group": "category"}
    path = sample("samples/eli5_category_validation.json.gz")
    records, unreadable = sources.read("ELI5", source(path, "posts", **columns), 0)
    assert not unreadable
    assert len({r["post"] for r in records}) == 2375
    assert len({r["id"] for r in records}) == len(records)
    assert all(isinstance(r["score"], int) and isinstance(r["group"], str) for r in records)
    path = sample("samples/simple_wiki_qa_validation.csv")
    records, unreadable = sources.read("wiki", source(path, question="question", answer="trunc_text", id=""), 0)
    assert len(records) + sum(unreadable.values()) == 1000
    assert len(records) > 990


@pytest.mark.parametrize(
    "answers",
    [
        {"answers": {"text": ["So.", "No."], "a_id": ["x", "y"], "score": [5, -1]}},
        {"answers": [{"text": "So.", "a_id": "x", "score": 5}, {"text": "No.", "a_id": "y", "score": -1}]},
        {"answers.text": ["So.", "No."], "answers.a_id": ["x", "y"], "answers.score": [5.0, "-1"],
         "answers": {"text": ["another column"]}},
    ],
)  # fmt: skip
def test_dotted_paths_read_lists_in_objects_and_objects_in_lists(answers):
    records, unreadable = of_rows([{"id": "p", "q": "Why?", "body": ""} | answers], "posts")
    assert not unreadable
    assert [(r["id"], r["post"], r["answer"], r["score"]) for r in records] == [
        ("p/x", "p", "So.", 5), ("p/y", "p", "No.", -1),
    ]  # fmt: skip


def test_a_missing_path_is_named_beside_the_paths_there_are(root):
    path = put(root, "a.jsonl", [ROWS["posts"][0]])
    there = "it has answers.a_id, answers.score, answers.text, body"
    with pytest.raises(SourceError, match=f"no row has the column answers.votes .* {there}"):
        sources.read("d", source(path, "posts", score="answers.votes"), 0)


def test_answers_without_ids_or_votes_are_numbered_and_a_removed_body_is_empty():
    row = {"id": 7.0, "q": "Why?", "body": "[removed]", "answers": {"text": ["So.", "No."]}}
    records, _ = of_rows([row], "posts", answer_id="", score="")
    assert [(r["id"], r["score"], r["body"]) for r in records] == [("7/1", None, ""), ("7/2", None, "")]


@pytest.mark.parametrize(
    ("votes", "score"),
    [(5, 5), (5.0, 5), ("5", 5), ("5.0", 5), (-3, -3), (2**53, 2**53), (None, None), (float("nan"), None), ("", None)],
)
def test_votes_are_whole_numbers_however_they_are_stored(votes, score):
    records, unreadable = of_rows([{"id": "1", "q": "?", "a": "So.", "v": votes}], score="v")
    assert [r["score"] for r in records] == [score] and not unreadable


@pytest.mark.parametrize(
    "votes", [5.5, "many", True, [5], {}, 2**53 + 1, 2**63, 1e300, float("inf"), "nan", "9" * 5000]
)
def test_votes_that_are_no_whole_number_are_counted(votes):
    assert of_rows([{"id": "1", "q": "?", "a": "So.", "v": votes}], score="v") == ([], {"votes are not a number": 1})


def test_other_groups_are_counted():
    rows = [{"id": "1", "q": "?", "a": "So.", "g": g} for g in ("AskScience", "askscience", "x", None)]
    records, unreadable = of_rows(rows, group="g", groups=["askscience"])
    assert [r["group"] for r in records] == ["AskScience", "askscience"] and unreadable == {"other group": 2}


def test_wikitext_is_turned_into_prose_with_the_records():
    wikitext = [{"id": "1", "text": text, "wikitext": True} for text in ("A '''[[cat]]'''.", "* only\n* a list")]
    records, unreadable = of_rows([*wikitext, {"id": "2", "text": "A '''cat'''."}], "articles")
    assert [r["answer"] for r in records] == ["A cat.", "A '''cat'''."] and unreadable == {"no prose": 1}


def test_blocks_hold_all_rows_in_order_and_travel_to_other_processes(root):
    path = put(root, "a.jsonl", [{"id": str(i), "q": "Why?", "a": "So."} for i in range(25)])
    blocks = list(sources.blocks("d", source(path), 0, size=10))
    assert [len(block) for block in blocks] == [10, 10, 5]
    assert [number for block in blocks for number, _ in block] == list(range(1, 26))
    work, facts, block = pickle.loads(pickle.dumps((sources.records, source(path), blocks[0])))
    assert work("d", facts, block) == sources.records("d", source(path), blocks[0])


def test_columns_are_looked_for_in_the_first_block_with_rows(root):
    (root / "a.jsonl").write_text("broken\n" * 5 + '{"id": "1", "title": "x"}\n' + "broken\n" * 5)
    blocks = sources.blocks("d", source("a.jsonl"), 0, size=3)
    assert len(next(blocks)) == 3
    with pytest.raises(SourceError, match="no row has the columns q, a that data.sources.d names; it has id, title"):
        next(blocks)


values = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("\ud83d")
keys = st.sampled_from(NAMES) | st.text(max_size=4)
json_values = st.recursive(
    values, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=5), max_leaves=20
)
ROW_REASONS = {"no question", "broken answers", "broken row", "post without answers"}  # these count a row once


@pytest.mark.parametrize("kind", ROWS)
@given(row=json_values, whole=st.booleans())
def test_any_json_is_records_and_reasons(kind, row, whole):
    """A row is accounted for once, or once an answer, and its records can be written."""
    row = row if isinstance(row, dict) else {"answers": row, "q": "Why?", "a": row, "text": row, "id": row}
    row = ROWS[kind][0] | row if whole else row
    records, unreadable = of_rows([row], kind, group="g")
    count = len(records) + sum(unreadable.values())
    if kind == "posts" and not ROW_REASONS & set(unreadable):
        texts = row["answers.text"] if "answers.text" in row else row["answers"]
        assert count == len(texts["text"] if isinstance(texts, dict) else texts)
    else:
        assert count == 1
    for record in records:
        assert set(record) == {"dataset", "id", "post", "question", "body", "answer", "score", "group"}
        assert all(isinstance(record[key], str) for key in record if key != "score")
    json.dumps(records, ensure_ascii=False).encode("utf-8")


@pytest.mark.parametrize("kind", ROWS)
def test_lists_nested_as_deep_as_json_goes_do_not_crash(kind):
    deep = json.loads("[" * 900 + "]" * 900)
    row = {"id": deep, "q": "?", "a": deep, "text": deep, "body": deep, "answers": deep, "g": deep}
    assert of_rows([row], kind, group="g")[0] == []
