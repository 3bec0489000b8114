import csv
import gzip
import json
import pickle
import random
from collections import Counter

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2utils.data import sources
from s2utils.data.parameters import Source
from s2utils.data.sources import SourceError


def source(path: str, kind: str = "qa", **changes) -> Source:
    """A source with the columns that the tests use."""
    columns = {"qa": ("q", "a", ""), "articles": ("", "text", ""), "posts": ("q", "answers.text", "body")}
    question, answer, body = columns[kind]
    answer_id, score = ("answers.a_id", "answers.score") if kind == "posts" else ("", "")
    facts = {"kind": kind, "path": str(path) or "no.jsonl", "config": "", "split": "", "revision": "", "id": "id", "question": question, "body": body,
             "answer": answer, "answer_id": answer_id, "score": score, "group": "", "groups": [], "max_records": 0}  # fmt: skip
    return Source(**(facts | changes))


ROWS = {
    "qa": [{"id": "1", "q": "Why?", "a": "Because."}, {"id": "2", "q": "How, \"so\"?", "a": "Like\nthis."}],
    "articles": [{"id": "1", "text": "The sun is a star."}, {"id": "2", "text": "Rain is\n\nwater."}],
    "posts": [
        {"id": "p1", "q": "Why?", "body": "I ask.", "answers": {"a_id": ["x", "y"], "text": ["So.", "No."], "score": [5, -1]}},
        {"id": "p2", "q": "How?", "body": "", "answers": {"a_id": ["z"], "text": ["Thus."], "score": [3]}},
    ],
}  # fmt: skip


def put(tree, name: str, rows: list[dict]) -> str:
    """Write `rows` in the format that the name says; returns the path from the root."""
    path = tree / name
    if name.endswith(".arrow"):
        with (
            pa.OSFile(str(path), "wb") as file,
            pa.ipc.new_stream(file, (table := pa.Table.from_pylist(rows)).schema) as stream,
        ):
            stream.write_table(table)
    elif name.endswith(".parquet"):
        pd.DataFrame(rows).to_parquet(path)
    elif name.endswith(".csv"):
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        text = json.dumps(rows) if ".jsonl" not in name else "".join(json.dumps(r) + "\n" for r in rows)
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return name


FORMATS = ("a.jsonl", "a.json", "a.json.gz", "a.jsonl.gz", "a.csv", "a.parquet", "a.arrow")


PAIRS = [(n, k) for n in FORMATS for k in ROWS if (n, k) != ("a.csv", "posts")]  # a CSV cell holds no list of answers


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_every_format_gives_the_same_records(tree, name, kind):
    records, unreadable = sources.read("d", source(put(tree, name, ROWS[kind]), kind), seed=0)
    assert not unreadable
    if kind == "posts":
        assert [(r["id"], r["question"], r["body"], r["answer"], r["score"]) for r in records] == [
            ("p1/x", "Why?", "I ask.", "So.", 5), ("p1/y", "Why?", "I ask.", "No.", -1), ("p2/z", "How?", "", "Thus.", 3),
        ]  # fmt: skip
    else:
        answer = "a" if kind == "qa" else "text"
        assert [(r["id"], r["answer"]) for r in records] == [(r["id"], r[answer]) for r in ROWS[kind]]
        assert [r["question"] for r in records] == [r.get("q", "") for r in ROWS[kind]]
        assert {r["score"] for r in records} == {None}
    assert {r["dataset"] for r in records} == {"d"} and {r["group"] for r in records} == {""}


def test_an_object_of_objects_is_read_by_its_values(tree):
    (tree / "a.json").write_text(json.dumps({"x": ROWS["qa"][0], "y": ROWS["qa"][1]}))
    assert len(sources.read("d", source("a.json"), 0)[0]) == 2


def test_lines_under_a_json_name_are_read_as_lines(tree):
    (tree / "a.json").write_text("".join(json.dumps(r) + "\n" for r in ROWS["qa"]))
    assert len(sources.read("d", source("a.json"), 0)[0]) == 2


def test_a_byte_order_mark_is_not_part_of_the_first_column(tree):
    for name in ("a.csv", "a.json", "a.jsonl"):
        path = tree / put(tree, name, ROWS["qa"])
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
        assert [r["id"] for r in sources.read("d", source(name), 0)[0]] == ["1", "2"], name


def test_without_an_id_column_rows_are_numbered(tree):
    path = put(tree, "a.jsonl", ROWS["qa"])
    assert [r["id"] for r in sources.read("d", source(path, id=""), 0)[0]] == ["1", "2"]


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet"])
def test_missing_columns_name_file_and_columns(tree, name):
    path = put(tree, name, [{"id": "1", "title": "Why?", "a": "So."}])
    with pytest.raises(
        SourceError, match=rf"{path}: no row has the columns q, body that data.sources.d names; it has a, id, title"
    ):
        sources.read("d", source(path, body="body"), 0)


def test_one_row_without_a_question_is_counted_not_fatal(tree):
    path = put(tree, "a.jsonl", [*ROWS["qa"], {"id": "3", "a": "No question."}, {"id": "4", "q": 5, "a": "A number."}])
    records, unreadable = sources.read("d", source(path), 0)
    assert len(records) == 2 and unreadable == {"no question": 2}


def test_broken_rows_are_counted(tree):
    lines = [
        json.dumps(ROWS["qa"][0]),
        '{"id": "2", "q": "cut',
        "[1, 2]",
        "7",
        "null",
        "[" * 100_000,
        json.dumps(ROWS["qa"][1]),
    ]
    (tree / "a.jsonl").write_text("\n".join(lines))
    records, unreadable = sources.read("d", source("a.jsonl"), 0)
    assert len(records) == 2 and unreadable == {"broken row": 5}


def test_short_and_long_csv_rows_are_counted(tree):
    (tree / "a.csv").write_text("id,q,a\n1,Why?,So.\n2,How?\n3,Who?,Me.,You.\n")
    records, unreadable = sources.read("d", source("a.csv"), 0)
    assert [r["id"] for r in records] == ["1"] and unreadable == {"broken row": 2}


def test_answers_of_a_wrong_type_are_counted(tree):
    path = put(tree, "a.jsonl", [*ROWS["qa"], {"id": "3", "q": "?", "a": None}, {"id": "4", "q": "?", "a": ["x"]}])
    records, unreadable = sources.read("d", source(path), 0)
    assert len(records) == 2 and unreadable == {"answer is not text": 2}


def test_posts_with_broken_answers_are_counted(tree):
    broken = [
        {"id": "1", "q": "?", "body": "", "answers": "text"},
        {"id": "2", "q": "?", "body": "", "answers": {"text": ["x"]}},
        {"id": "3", "q": "?", "body": "", "answers": {"a_id": ["1", "2"], "text": ["x"], "score": [1]}},
        {"id": "4", "q": "?", "body": "", "answers": {"a_id": ["1", "2"], "text": ["x", None], "score": ["many", 1]}},
        {"id": "5", "q": "?", "body": "", "answers": {"a_id": ["1"], "text": ["x"], "score": [True]}},
        {"id": "6", "q": "?", "body": "", "answers": None},
    ]
    path = put(tree, "a.jsonl", [*ROWS["posts"], *broken])
    records, unreadable = sources.read("d", source(path, "posts"), 0)
    assert len(records) == 3
    assert unreadable == {"broken answers": 4, "votes are not a number": 2, "answer is not text": 1}


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.json.gz"])
def test_an_empty_file_is_an_error_that_names_it(tree, name):
    (tree / name).write_bytes(gzip.compress(b"") if name.endswith("gz") else b"")
    with pytest.raises(SourceError, match=name):
        sources.read("d", source(name), 0)


def test_a_file_with_no_usable_record_says_why(tree):
    path = put(tree, "a.jsonl", [{"id": "1", "q": "?", "a": 3}] * 4)
    with pytest.raises(SourceError, match="4 rows and not one usable record .*'answer is not text': 4"):
        sources.read("d", source(path), 0)


def test_a_truncated_and_a_damaged_gzip_are_named(tree):
    whole = gzip.compress(json.dumps([{"id": str(i), "q": f"Why {i}?", "a": "So."} for i in range(500)]).encode())
    damaged = [bytes([*whole[:at], whole[at] ^ 0xFF, *whole[at + 1 :]]) for at in range(20, len(whole), 97)]
    for data in (whole[: len(whole) // 2], *damaged, b"not gzip at all"):
        (tree / "a.json.gz").write_bytes(data)
        with pytest.raises(SourceError, match=r"a.json.gz: the file is cut or not gzip .*fetch it again"):
            sources.read("d", source("a.json.gz"), 0)


@pytest.mark.parametrize("name", ["a.json", "a.parquet", "a.arrow"])
def test_a_cut_file_that_cannot_be_read_in_parts_is_named(tree, name):
    path = tree / put(tree, name, ROWS["qa"])
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(SourceError, match=f"{name}: not valid"):
        sources.read("d", source(name), 0)


def test_a_missing_file_and_an_unknown_suffix_are_named(tree):
    with pytest.raises(SourceError, match="data/none.jsonl: there is no such file"):
        sources.read("d", source("data/none.jsonl"), 0)
    (tree / "a.xlsx").write_bytes(b"PK")
    with pytest.raises(SourceError, match=r"cannot read '.xlsx' files; known: .json, .jsonl"):
        sources.read("d", source("a.xlsx"), 0)


def test_a_hub_data_set_without_a_connection_says_what_to_do(tree):
    with pytest.raises(SourceError, match="someone/nothing could not be loaded .*give a local file"):
        sources.read("d", source("someone/nothing"), 0)


@pytest.mark.parametrize("name", FORMATS)
def test_a_text_of_a_million_characters_is_whole(tree, name):
    long = "A word, and more. " * 60_000
    records, _ = sources.read("d", source(put(tree, name, [{"id": "1", "q": "Why?", "a": long}])), 0)
    assert records[0]["answer"] == long


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.parquet"])
def test_control_characters_arrive_as_they_are(tree, name):
    odd = "a\x00b\x07c\u2028d\x85e\ufeff\u202ef\r\ng"
    records, unreadable = sources.read("d", source(put(tree, name, [{"id": "1", "q": odd, "a": odd}])), 0)
    assert not unreadable and (records[0]["question"], records[0]["answer"]) == (odd, odd)


def test_half_a_surrogate_pair_does_not_stop_what_comes_after(tree):
    (tree / "a.jsonl").write_text('{"id": "\\ud83d", "q": "Why \\ud83d?", "a": "So \\ude00."}\n')
    records, _ = sources.read("d", source("a.jsonl"), 0)
    pd.DataFrame(records).to_parquet(tree / "out.parquet")
    assert (records[0]["id"], records[0]["question"], records[0]["answer"]) == ("?", "Why ??", "So ?.")


def test_bytes_that_are_not_utf8_do_not_stop_the_reading(tree):
    (tree / "a.csv").write_bytes(b"id,q,a\n1,Why?,caf\xe9\n2,How?,So.\n")
    records, _ = sources.read("d", source("a.csv"), 0)
    assert [r["answer"] for r in records] == ["caf\ufffd", "So."]


anything = st.one_of(st.none(), st.integers(), st.text(max_size=5), st.lists(st.integers(), max_size=2))
rows = st.one_of(
    anything, st.fixed_dictionaries({}, optional={"id": anything, "q": anything, "a": anything, "text": anything})
)


@pytest.mark.parametrize("kind", ["qa", "articles"])
@given(held=st.lists(rows, max_size=8))
def test_nothing_is_lost(tmp_path_factory, monkeypatch_root, kind, held):
    tree = monkeypatch_root(tmp_path_factory.mktemp("source"))
    whole = {"id": "0", "q": "Why?", "a": "So.", "text": "So."}  # one whole row: the columns are there
    (tree / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [whole, *held]))
    records, unreadable = sources.read("d", source("a.jsonl", kind), 0)
    assert len(records) + sum(unreadable.values()) == 1 + len(held)


@pytest.fixture(scope="module")
def monkeypatch_root():
    """Set S2_ROOT from inside a property test, where a fixture runs once for all examples."""
    with pytest.MonkeyPatch.context() as patch:

        def point(folder):
            patch.setenv("S2_ROOT", str(folder))
            return folder

        yield point


def test_a_sample_is_seeded_and_keeps_the_order(tree):
    path = put(tree, "a.jsonl", [{"id": str(i), "q": "Why?", "a": "So."} for i in range(100)])

    def ids(seed: int, n: int) -> list[int]:
        return [int(r["id"]) for r in sources.read("d", source(path, max_records=n), seed)[0]]

    first = ids(1, 10)
    assert first == ids(1, 10) == sorted(first) and len(set(first)) == 10
    assert first != ids(2, 10)
    assert ids(1, 100) == ids(1, 500) == ids(1, 0) == list(range(100))


def test_real_posts_with_votes(tree, sample):
    real = sample("samples/eli5_category_validation.json.gz")
    columns = {"id": "q_id", "question": "title", "body": "selftext", "group": "category"}
    records, unreadable = sources.read("ELI5", source(real, "posts", **columns), 0)
    assert not unreadable
    assert len({r["post"] for r in records}) == 2375
    assert len({r["id"] for r in records}) == len(records)
    assert all(isinstance(r["score"], int) for r in records)
    assert Counter(type(r["group"]) for r in records) == {str: len(records)}


def test_real_written_questions(tree, sample):
    real = sample("samples/simple_wiki_qa_validation.csv")
    records, unreadable = sources.read("wiki", source(real, question="question", answer="trunc_text", id=""), 0)
    assert len(records) + sum(unreadable.values()) == 1000
    assert len(records) > 990


SPELLINGS = [
    {"id": "p", "q": "Why?", "body": "", "answers": {"text": ["So.", "No."], "a_id": ["x", "y"], "score": [5, -1]}},
    {"id": "p", "q": "Why?", "body": "", "answers": [{"text": "So.", "a_id": "x", "score": 5}, {"text": "No.", "a_id": "y", "score": -1}]},
    {"id": "p", "q": "Why?", "body": "", "answers.text": ["So.", "No."], "answers.a_id": ["x", "y"], "answers.score": [5.0, "-1"],
     "answers": {"text": ["another column"]}},
]  # fmt: skip


@pytest.mark.parametrize("row", SPELLINGS)
def test_dotted_paths_read_lists_in_objects_and_objects_in_lists(row):
    records, unreadable = sources.records("d", source("", "posts"), [(1, row)])
    assert not unreadable
    assert [(r["id"], r["post"], r["answer"], r["score"]) for r in records] == [
        ("p/x", "p", "So.", 5), ("p/y", "p", "No.", -1),
    ]  # fmt: skip


def test_a_missing_path_is_named_beside_the_paths_there_are(tree):
    path = put(tree, "a.jsonl", [ROWS["posts"][0]])
    there = "it has answers.a_id, answers.score, answers.text, body"
    with pytest.raises(SourceError, match=f"no row has the column answers.votes .* {there}"):
        sources.read("d", source(path, "posts", score="answers.votes"), 0)


def test_answers_without_ids_or_votes_are_numbered():
    row = {"id": 7.0, "q": "Why?", "answers": {"text": ["So.", "No."]}}
    records, _ = sources.records("d", source("", "posts", answer_id="", score="", body=""), [(1, row)])
    assert [(r["id"], r["score"]) for r in records] == [("7/1", None), ("7/2", None)]


def test_votes_are_whole_numbers_however_they_are_stored():
    good = {5: [5, 5.0, "5", "5.0"], None: [None, float("nan"), ""], -3: [-3]}
    bad = [5.5, "many", True, [5], {}, 2**63, 1e300, float("inf"), "nan", "9" * 5000]
    votes = [v for held in good.values() for v in held] + bad
    rows = [(i, {"id": str(i), "q": "?", "a": "So.", "v": v}) for i, v in enumerate(votes)]
    records, unreadable = sources.records("d", source("", score="v"), rows)
    assert [r["score"] for r in records] == [5, 5, 5, 5, None, None, None, -3]
    assert unreadable == {"votes are not a number": len(bad)}


def test_every_answer_of_a_post_counts_and_a_post_without_one_counts_once():
    held = {"text": ["[deleted]", " [removed] ", "So.", None, "No."], "a_id": list("abcde"), "score": [1, 1, 1, 1, "x"]}
    rows = [
        {"id": "1", "q": "?", "answers": held},
        {"id": "2", "q": "?", "answers": {"text": [], "a_id": [], "score": []}},
        {"id": "3", "q": "?", "answers": []},
        {"id": "4", "q": None, "answers": held},
    ]
    records, unreadable = sources.records("d", source("", "posts", body=""), list(enumerate(rows, 1)))
    assert [r["answer"] for r in records] == ["So."]
    assert unreadable == {
        "deleted": 2, "answer is not text": 1, "votes are not a number": 1, "post without answers": 2, "no question": 1,
    }  # fmt: skip


def test_other_groups_are_counted():
    rows = [
        (i, {"id": "1", "q": "?", "a": "So.", "g": g}) for i, g in enumerate(["AskScience", "askscience", "x", None])
    ]
    records, unreadable = sources.records("d", source("", group="g", groups=["askscience"]), rows)
    assert [r["group"] for r in records] == ["AskScience", "askscience"] and unreadable == {"other group": 2}


def test_a_removed_body_is_empty():
    row = ROWS["posts"][0] | {"body": "[removed]"}
    records, _ = sources.records("d", source("", "posts"), [(1, row)])
    assert [r["body"] for r in records] == ["", ""]


def test_wikitext_is_turned_into_prose_with_the_records():
    rows = [(1, {"id": "1", "text": "A '''[[cat]]'''.", "wikitext": True}), (2, {"id": "2", "text": "A '''cat'''."})]
    rows.append((3, {"id": "3", "text": "* only\n* a list", "wikitext": True}))
    records, unreadable = sources.records("d", source("", "articles"), rows)
    assert [r["answer"] for r in records] == ["A cat.", "A '''cat'''."] and unreadable == {"no prose": 1}


def test_blocks_hold_all_rows_in_order_and_travel_to_other_processes(tree):
    path = put(tree, "a.jsonl", [{"id": str(i), "q": "Why?", "a": "So."} for i in range(25)])
    held = list(sources.blocks("d", source(path), 0, size=10))
    assert [len(block) for block in held] == [10, 10, 5]
    assert [number for block in held for number, _ in block] == list(range(1, 26))
    work, facts, block = pickle.loads(pickle.dumps((sources.records, source(path), held[0])))
    assert work("d", facts, block) == sources.records("d", source(path), held[0])


def test_columns_are_looked_for_in_the_first_block_with_rows(tree):
    (tree / "a.jsonl").write_text("broken\n" * 5 + '{"id": "1", "title": "x"}\n' + "broken\n" * 5)
    found = sources.blocks("d", source("a.jsonl"), 0, size=3)
    assert len(next(found)) == 3
    with pytest.raises(SourceError, match="no row has the columns q, a that data.sources.d names; it has id, title"):
        next(found)


NAMES = ("id", "q", "a", "body", "answers", "text", "a_id", "score", "answers.text", "g", "wikitext")
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("\ud83d"),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=4), inner, max_size=5)
    ),
    max_leaves=20,
)


def answers_of(row: object) -> int:
    """Answers that a row of posts lists, 1 where it lists none."""
    held = sources._look_up(row, "answers.text")
    return len(held) or 1 if isinstance(held, list) else 1


ROW_REASONS = {"no question", "broken answers", "broken row", "post without answers"}  # these count a row once


def check_account(kind: str, row: object, records: list[dict], unreadable: Counter) -> None:
    """A row is accounted for once, or once an answer, and its records can be written."""
    counted = len(records) + sum(unreadable.values())
    assert counted == (1 if kind != "posts" or ROW_REASONS & set(unreadable) else answers_of(row))
    for record in records:
        assert set(record) == {"dataset", "id", "post", "question", "body", "answer", "score", "group"}
        assert all(isinstance(record[k], str) for k in record if k != "score")
    json.dumps(records, ensure_ascii=False).encode("utf-8")


@pytest.mark.parametrize("kind", ["qa", "articles", "posts"])
@given(row=json_values, whole=st.booleans())
def test_any_json_is_records_and_reasons(kind, row, whole):
    row = row if isinstance(row, dict) else {"answers": row, "q": "Why?", "a": row, "text": row, "id": row}
    row = ROWS[kind][0] | row if whole else row
    records, unreadable = sources.records("d", source("", kind, group="g"), [(1, row)])
    check_account(kind, row, records, unreadable)


def test_lists_nested_as_deep_as_json_goes_do_not_crash():
    deep = json.loads("[" * 900 + "]" * 900)
    for kind in ROWS:
        row = {"id": deep, "q": "?", "a": deep, "text": deep, "body": deep, "answers": deep, "g": deep}
        assert sources.records("d", source("", kind, group="g"), [(1, row)])[0] == []


ODD = [None, True, 7, -2.5, float("nan"), 10**30, "", "Why is it so?", "caf\u00e9", "\ud83d half", "[deleted]", "5"]


def odd_rows(n: int, seed: int) -> list[bytes]:
    """JSON lines with every kind of damage, one with a string of 5 MB."""
    draw = random.Random(seed)

    def value(depth: int = 0) -> object:
        if depth == 3 or draw.random() < 0.6:
            return draw.choice(ODD)
        inner = [value(depth + 1) for _ in range(draw.randrange(4))]
        return draw.choice([inner, dict(zip(draw.sample(NAMES, len(inner)), inner))])

    def line(i: int) -> bytes:
        row = {"id": f"r{i}", "q": "Why?", "body": "I ask.", "a": "So it is.", "text": "A text.", "g": "x",
               "answers": {"text": ["So.", "No."], "a_id": ["x", "y"], "score": [1, 2]}}  # fmt: skip
        for key in draw.sample(list(row), draw.randrange(4)):
            if draw.random() < 0.3:
                del row[key]
            elif key == "answers" and draw.random() < 0.7:
                row[key][draw.choice(["text", "a_id", "score"])] = draw.choice([value(), [value(), value()]])
            else:
                row[key] = value()
        if i == n // 2:
            row |= {"q": "Why?", "a": "word " * 10**6, "text": "word " * 10**6}
        written = json.dumps(row, ensure_ascii=draw.random() < 0.5)
        if i != n // 2 and draw.random() < 0.08:
            return draw.choice([written[: len(written) // 2], "[1]", "null", "7", "{}]"]).encode("utf-8", "replace")
        return written.encode(draw.choice(["utf-8", "latin-1", "cp1252"]), "replace")

    return [line(i) for i in range(n)]


@pytest.mark.parametrize("kind", ["qa", "articles", "posts"])
def test_ten_thousand_odd_rows_are_all_accounted_for(tree, kind):
    (tree / "a.jsonl").write_bytes(b"\n".join(odd_rows(10_000, seed=3)))
    facts = source("a.jsonl", kind, group="g")
    kept, reasons, read = [], Counter(), 0
    for block in sources.blocks("d", facts, 0, size=1000):
        for number, row in block:
            records, unreadable = sources.records("d", facts, [(number, row)])
            check_account(kind, row, records, unreadable)
            kept, reasons, read = kept + [len(records)], reasons + unreadable, read + 1
    assert read == 10_000
    records, unreadable = sources.read("d", facts, 0)
    assert (len(records), unreadable) == (sum(kept), reasons) and len(records) > 5000
    expected = {"posts": {"post without answers", "broken answers", "votes are not a number", "no question"}}
    assert {"broken row", "answer is not text", "deleted"} | expected.get(kind, set()) <= set(unreadable)
    assert kind == "posts" or max(len(r["answer"]) for r in records) == 5_000_000
