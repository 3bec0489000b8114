"""Files that others made: read in any encoding and form, or refused by file, line and remedy."""

import json

import pandas as pd
import pytest

from s2utils.data import records

SAVED = {
    ".csv": "a;b\r\nÉté – “so”;2\r\n",
    ".json": '[{"a": "Été – “so”", "b": "2"}]',
    ".jsonl": '{"a": "Été – “so”", "b": "2"}\n',
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252"])
@pytest.mark.parametrize("suffix", SAVED)
def test_a_file_is_read_in_the_encoding_it_was_saved_in(tmp_path, suffix, encoding):
    (tmp_path / f"x{suffix}").write_bytes(SAVED[suffix].encode(encoding))
    notes = []
    read = records.read(tmp_path / f"x{suffix}", "answers", notes)
    assert read.rows == [{"a": "Été – “so”", "b": "2"}] and read.columns == ["a", "b"]
    assert read.note == ("not UTF-8: read as Windows-1252" if encoding == "cp1252" else "")
    assert [(n.part, n.file, n.reason, n.read) for n in notes] == [("answers", f"x{suffix}", read.note, True)] * bool(
        read.note
    )


def test_bytes_that_are_no_character_do_not_turn_the_others(tmp_path):
    (tmp_path / "x.csv").write_bytes("text\nÉté à Nîmes ".encode() + b"\xff\n")
    read = records.read(tmp_path / "x.csv")
    assert read.rows == [{"text": "Été à Nîmes \ufffd"}] and "U+FFFD" in read.note


ROWS = [{"a": ["x", "y"], "b": 1}, {"a": None, "b": 2}]


@pytest.mark.parametrize(
    ("name", "text", "rows", "numbers"),
    [
        ("array.json", json.dumps(ROWS, indent=2), ROWS, [1, 2]),
        ("array.jsonl", json.dumps(ROWS), ROWS, [1, 2]),
        ("lines.json", "\n".join(map(json.dumps, ROWS)), ROWS, [1, 2]),
        ("object.json", '{"a": {"b": 1}}', [{"a": {"b": 1}}], [1]),
        ("texts.json", '["one", null, ["two"]]', [{"output": "one"}, {"output": None}, {"output": ["two"]}], [1, 2, 3]),
        ("blank.jsonl", '\n{"a": 1}\n\n{"b": 2}\n', [{"a": 1, "b": None}, {"a": None, "b": 2}], [2, 4]),
        ("tabs.csv", "a\tb\nx y\t\n\n\n", [{"a": "x y", "b": ""}], [1]),
        ("bare.csv", "0,[INST] a [/INST] b\n1,[INST] c [/INST] d\n",
         [{"": "0", "0": "[INST] a [/INST] b"}, {"": "1", "0": "[INST] c [/INST] d"}], [1, 2]),
    ],
)  # fmt: skip
def test_rows_of_arrays_lines_and_tables(tmp_path, name, text, rows, numbers):
    (tmp_path / name).write_text(text)
    read = records.read(tmp_path / name)
    assert (read.rows, read.numbers) == (rows, numbers)


def test_rows_of_parquet(tmp_path):
    pd.DataFrame(ROWS).to_parquet(tmp_path / "p.parquet")
    assert records.read(tmp_path / "p.parquet").rows == ROWS


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.json", '{"a": {"0": "x"}, "b": {"0": "y"}}', "an object of columns; .*orient='records'"),
        ("x.json", '[{"a": 1},\n {"a"', "line 1 is not JSON: Expecting ':' delimiter: line 2"),
        ("x.jsonl", '{"a": 1}\n7\n', "line 2 must be an object"),
        ("x.jsonl", '{"a": 1}\n\n{"a"\n7', "line 3 is not JSON"),
        ("x.json", "[" * 100_000, "is not JSON"),
        ("x.csv", "", "holds no rows"),
        ("x.csv", "a,b\n", "holds no rows"),
        ("x.csv", "a,b,a\n1,2,3\n", "column 'a' stands 2 times; give each its own name"),
        ("x.csv", "a,b\n1,2\n3\n", "line 3: 1 cells where the header has 2: 'a', 'b'"),
        ("x.json", "[]", "holds no rows"),
        ("x.parquet", "PAR1", "cannot be read"),
        ("none.csv", None, "cannot be read"),
    ],
)
def test_files_that_hold_no_rows(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(records.RecordsError, match=message) as raised:
        records.read(tmp_path / name)
    assert name in str(raised.value)
