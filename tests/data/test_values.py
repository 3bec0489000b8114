"""What others made, in every shape it comes in: its text, or a reason; and nothing is lost or scored as what it is not."""

import csv
import json
import math
import random

import numpy as np
import pytest

from s2utils.data import records, values
from s2utils.evaluation import external_answers, scoring_protocols
from s2utils.evaluation.judge import fastchat, readings

SAID = "The sky is blue. It is nice. We like it very much today."
CHAT = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": SAID}]
BODY = {
    "id": "c",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": SAID}, "finish_reason": "stop"}],
}
SHAPES = {  # values that hold SAID
    "text": SAID,
    "list": [SAID],
    "lists": [[SAID]],
    "array": np.array([SAID]),
    "later": [None, "", SAID],
    "messages": CHAT,
    "ShareGPT": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": SAID}],
    "one message": CHAT[1],
    "parts": [
        {"type": "reasoning", "text": "hm"},
        {"type": "text", "text": SAID[:17]},
        {"type": "text", "text": SAID[17:]},
    ],
    "message of parts": {"role": "assistant", "content": [{"type": "text", "text": SAID}]},
    "chat completion": BODY,
    "completion": {"choices": [{"text": SAID, "index": 0}]},
    "batch": {"status_code": 200, "request_id": "r", "body": BODY},
    "batch line": {"id": "b", "custom_id": "1", "response": {"status_code": 200, "body": BODY}, "error": None},
    "pipeline": [{"generated_text": SAID}],
    "chat pipeline": [{"generated_text": CHAT}],
    "vllm": {"prompt": "Why?", "outputs": [{"index": 0, "text": SAID}]},
    "KILT": [{"provenance": [{"title": "Sky"}]}, {"answer": SAID}],
    "ELI5": {"a_id": ["a"], "text": [SAID], "score": [3]},
    "TriviaQA": {"value": SAID, "aliases": ["x"]},
}
FAILS = {  # values that hold no text → the reason
    "no value": None,
    "not a text: nan": math.nan,
    "not a text: inf": math.inf,
    "not a text: true": True,
    "not a text: null": "null",
    "not a text: <na>": "<NA>",
    "an empty list": [],
    "a list without a text ": [None],
    "a list of empty texts": ["", " "],
    "a list without a text": [1, 2, 3],
    "$ERROR$: the call failed": "$ERROR$",
    "no visible character": "\u200b\ufeff",
    "no visible character ": "\u2800",
    "an object of label, score: no text in it is known": {"label": "A", "score": 0.5},
    "an object of nothing: no text in it is known": {},
    "messages without one of the assistant": CHAT[:1],
    "a list or an object that cannot be parsed": '{"choices": [{"message": {"content": "The sky',
    "a list or an object that cannot be parsed ": "{'text': array(['The sky'], dtype=object)}",
    "a list or an object that cannot be parsed  ": "['The sky'\n 'is blue']",
    "lists or objects nested too deeply": json.loads("[" * 40 + '"x"' + "]" * 40),
    "not a text: bytes": b"x",
}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_text_in_it(shape):
    assert values.text(SHAPES[shape])[0] == SAID


@pytest.mark.parametrize("write", [json.dumps, repr])
@pytest.mark.parametrize("shape", [s for s in SHAPES if s not in ("text", "array")])
def test_the_text_in_it_where_it_is_written_as_text(shape, write):
    assert values.text(write(SHAPES[shape])) == values.text(SHAPES[shape])


@pytest.mark.parametrize("reason", FAILS)
def test_what_holds_no_text(reason):
    assert values.text(FAILS[reason]) == (None, reason.strip())


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "NA",
        "None",
        "[[8]]",
        "[1] So says Smith.",
        "[the page](a.html)",
        "{x | x > 0}",
        '"Yes."',
        "[INST] a [/INST]",
    ],
)
def test_plain_texts_stay_as_they_are(text):
    assert values.text(text) == (text, "")


def test_json_in_json_is_no_text_either():
    assert values.text(json.dumps(json.dumps({"answer": SAID}))) == (SAID, "")
    assert values.text(json.dumps('{"choices": [{"mes'))[0] is None
    assert values.text('"[1] is a number", he said. "So it is."')[0].startswith('"[1] is')


def test_what_was_chosen_is_told():
    assert values.text(["a", "b"]) == ("a", values.SEVERAL) and values.text(["a", "a"]) == ("a", "")
    assert values.text("a\ud83d") == ("a?", "half a character became ?")
    assert values.text(3.5) == ("3.5", "")


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("<think>Hm.</think>\nIt is so.", ("It is so.", "reasoning left out")),
        ("Hm.</think>It is so.", ("It is so.", "reasoning left out")),
        ("<think>Hm, it may", (None, "reasoning without an answer")),
        ([{"generated_text": "<think>Hm.</think>It is so."}], ("It is so.", "reasoning left out")),
        ("It is so.", ("It is so.", "")),
        (None, (None, "no value")),
    ],
)
def test_reasoning_is_no_answer(value, read):
    assert values.answer(value) == read


@pytest.mark.parametrize(
    ("value", "rated"),
    [
        ("It is good. Rating: [[8]]", 8),
        ("[[8]]", 8),
        ('{"explanation": "It says 3 of 10 things.", "rating": 8}', 8),
        ({"Score": 7.5, "text": "Good."}, 7.5),
        ({"choices": [{"message": {"content": '{"rating": 8}'}}]}, math.nan),
        ({"choices": [{"message": {"content": "Rating: [[8]]"}}]}, 8),
        ({"error": {"message": "limit 5/10"}}, math.nan),
        ('{"rating": 85}', math.nan),
        (None, math.nan),
    ],
)
def test_a_judges_reply(value, rated):
    found = readings.rating(values.reply(value)[0] or "")
    assert found == rated or math.isnan(found) and math.isnan(rated)


def test_what_was_asked():
    for value in (CHAT, json.dumps(CHAT), [{"generated_text": CHAT}], {"messages": CHAT}, SHAPES["ShareGPT"]):
        assert values.asked(value) == "Why?" and values.question(value) == ("Why?", "")
    for value in (SAID, None, [], {"text": SAID}, "{'text': array(", 3):
        assert values.asked(value) is None and values.question(value) == values.text(value)


@pytest.mark.parametrize(
    ("value", "name"),
    [(81, "81"), ("81", "81"), (81.0, "81"), ("81.0", "81"), (" q7 ", "q7"), ("1.5", "1.5"), (None, ""), (math.nan, ""),
     ([1], ""), (True, ""), ("v1.0", "v1.0")],
)  # fmt: skip
def test_ids_of_tables_and_of_json_are_the_same(value, name):
    assert values.identifier(value) == name


def test_notes_are_counted_by_file_key_and_reason():
    notes = [values.Note("predictions", "a", i, "text", "no value") for i in range(1, 13)]
    notes.append(values.Note("predictions", "a", 3, "reference", values.SEVERAL, read=True))
    one, other = values.counted(notes)
    assert one["n"] == 12 and one["rows"] == "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, …" and one["read"] == "no"
    assert (other["key"], other["n"], other["rows"], other["read"]) == ("reference", 1, "3", "yes")


@pytest.mark.parametrize(
    ("encoding", "note"),
    [
        ("utf-8", ""),
        ("utf-8-sig", ""),
        ("utf-16", ""),
        ("utf-32", ""),
        ("cp1252", "not UTF-8: read as Windows-1252"),
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".json", ".jsonl"])
def test_a_file_is_read_in_the_encoding_it_was_saved_in(tmp_path, suffix, encoding, note):
    text = {
        ".csv": "a;b\r\nÉté – “so”;2\r\n",
        ".json": '[{"a": "Été – “so”", "b": "2"}]',
        ".jsonl": '{"a": "Été – “so”", "b": "2"}\n',
    }
    (tmp_path / f"x{suffix}").write_bytes(text[suffix].encode(encoding))
    held = records.read(tmp_path / f"x{suffix}")
    assert held.rows == [{"a": "Été – “so”", "b": "2"}] and held.columns == ["a", "b"] and held.note == note


def test_bytes_that_are_no_character_do_not_turn_the_others(tmp_path):
    (tmp_path / "x.csv").write_bytes("text\nÉté à Nîmes ".encode() + b"\xff\n")
    held = records.read(tmp_path / "x.csv")
    assert held.rows == [{"text": "Été à Nîmes \ufffd"}] and "U+FFFD" in held.note


def test_rows_of_arrays_lines_and_parquet(tmp_path):
    import pandas as pd

    rows = [{"a": ["x", "y"], "b": 1}, {"a": None, "b": 2}]
    (tmp_path / "array.json").write_text(json.dumps(rows, indent=2))
    (tmp_path / "array.jsonl").write_text(json.dumps(rows))
    (tmp_path / "lines.json").write_text("\n".join(map(json.dumps, rows)))
    pd.DataFrame(rows).to_parquet(tmp_path / "p.parquet")
    for name in ("array.json", "array.jsonl", "lines.json", "p.parquet"):
        held = records.read(tmp_path / name)
        assert held.rows == rows and held.numbers == [1, 2], name
    (tmp_path / "texts.json").write_text(json.dumps(["one", None, [{"generated_text": "two"}]]))
    assert [values.text(r["output"])[0] for r in records.read(tmp_path / "texts.json").rows] == ["one", None, "two"]
    (tmp_path / "blank.jsonl").write_text('\n{"a": 1}\n\n{"b": 2}\n')
    held = records.read(tmp_path / "blank.jsonl")
    assert held.numbers == [2, 4] and held.rows == [{"a": 1, "b": None}, {"a": None, "b": 2}]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.json", '{"a": {"0": "x"}, "b": {"0": "y"}}', "an object of columns; .*orient='records'"),
        ("x.json", '[{"a": 1},\n {"a"', "line 1 is not JSON: Expecting ':' delimiter: line 2"),
        ("x.jsonl", '{"a": 1}\n7\n', "line 2 must be an object"),
        ("x.json", "[" * 100_000, "is not JSON"),
        ("x.csv", "", "holds no rows"),
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


# drawn shapes: files as people have them, with the faults of all of them

TEXTS = (
    SAID,
    "Yes.",
    "",
    " ",
    "It's 5 < 6, “so”.",
    "a\u2028b\n\nc",
    "NA",
    "[1] x",
    "{",
    "}{",
    "[[8]]",
    "é" * 50,
    "42",
    "```json\n{}\n```",
)
ODD = (
    *FAILS.values(), *SHAPES.values(), "NaN", "Infinity", 0, -1, 1e400, 10**30, False, "\ud83d", "a\ud83db", "<think>a</think>b",
    "<think>a", "a</think>", ["a", "b"], [[]], [{}], [None, math.nan], {"text": None}, {"text": []}, {"choices": []},
    {"choices": [{"message": {"content": None}}]}, {"error": {"message": "limit"}}, "[", "{'a': }", "[nan]", "['x' 'y']",
    '["x", "y"', "\x00", "\x1b[31m", "=HYPERLINK(1)", "['\\d']", "{1: 2}", "{'a', 'b'}", "### Human: Why?\n ### Assistant: So.",
    "### Human: Why?\n ### Assistant: $ERROR$",
)  # fmt: skip
PLAIN = (str, int, float, bool, list, dict, type(None))


def value(draw: random.Random) -> object:
    found = draw.choice(TEXTS if draw.random() < 0.5 else ODD)
    if not isinstance(found, PLAIN):  # bytes, arrays: no file of text holds them
        return None
    return (
        draw.choice((lambda v: v, lambda v: [v], lambda v: {"text": v}, repr))(found) if draw.random() < 0.3 else found
    )


def write(path, rows: list[dict], draw: random.Random):
    if path.suffix == ".csv":
        with open(
            path, "w", newline="", encoding=draw.choice(["utf-8", "utf-8-sig", "utf-16", "cp1252"]), errors="replace"
        ) as file:
            out = csv.DictWriter(file, list(rows[0]), delimiter=draw.choice(",;") if len(rows[0]) > 1 else ",")
            out.writeheader()
            as_text = draw.choice((json.dumps, repr))
            out.writerows(
                {k: v if isinstance(v, str) else "" if v is None else as_text(v) for k, v in r.items()} for r in rows
            )
    elif path.suffix == ".json" or draw.random() < 0.2:
        path.write_text(json.dumps(rows, indent=draw.choice([None, 1])), encoding=draw.choice(["utf-8", "utf-16"]))
    else:
        path.write_text("\n".join(json.dumps(r) for r in rows) + "\n", encoding="utf-8")
    return path


def is_json(text: str) -> bool:
    try:
        return isinstance(json.loads(text, strict=False), (list, dict)) and text.strip() != "[[8]]"
    except (ValueError, RecursionError):
        return False


def test_no_answer_of_ten_thousand_is_lost_or_scored_as_what_it_is_not(tmp_path):
    draw, read, missing = random.Random(3), 0, 0
    for i in range(200):
        columns = ["text", *draw.sample(["question", "prompt", "reference", "id"], draw.randrange(5))]
        rows = [{c: value(draw) for c in columns} for _ in range(50)]
        file, notes = write(tmp_path / f"m{i}_x_predictions{draw.choice(['.csv', '.json', '.jsonl'])}", rows, draw), []
        frame = external_answers.of_file(file, notes)
        failed = [n for n in notes if n.key == "text" and not n.read]
        assert len(frame) == 50 and frame["answer"].notna().sum() + len(failed) == 50, file
        assert (
            not [t for t in frame["answer"].dropna() if is_json(t)]
            and not frame["whole"][frame["answer"].isna()].notna().any()
        )
        assert frame["reference"].notna().sum() <= 50 and all(n.file == file.name and n.reason for n in notes)
        if i % 20 == 0:
            for scored in scoring_protocols.readability(frame).values():
                assert len(scored) == 50 and scored["flesch_reading_ease"].dropna().between(-2000, 207).all()
        read, missing = read + int(frame["answer"].notna().sum()), missing + len(failed)
        found, several = (
            external_answers.references(file, notes) if {"question", "reference"} <= set(columns) else ({}, 0)
        )
        assert several <= len(found) and not [t for t in found.values() if is_json(t)]
    assert read + missing == 10_000 and read > 4000 and missing > 1000


def test_no_judgement_of_two_thousand_is_lost(tmp_path):
    draw = random.Random(4)
    for i in range(40):
        pair = draw.random() < 0.3
        said = {"g1_winner": "model_1", "g2_winner": "tie"} if pair else {"score": 7, "judgment": "Rating: [[7]]"}
        who = {"model_1": "a", "model_2": "b"} if pair else {"model": "m"}
        rows = [
            {"question_id": draw.choice([q, float(q), str(q)]), "turn": draw.choice([1, 2, 1.0]), "judge": draw.choice(["j", ["j", "p"]])}
            | who
            | {k: v if draw.random() < 0.5 else value(draw) for k, v in said.items()}
            for q in range(50)
        ]  # fmt: skip
        file, notes = write(tmp_path / f"j{i}{draw.choice(['.csv', '.json', '.jsonl'])}", rows, draw), []
        ratings, pairs = fastchat.judgements(file, notes)
        assert len(ratings) + len(pairs) == 50 and set(ratings["judge"]) | set(pairs["judge"]) == {"j"}
        assert sorted({*ratings["question_id"], *pairs["question_id"]}) == sorted(map(str, range(50)))
        assert ratings["rating"].dropna().between(1, 10).all() and ratings["score"].dropna().between(1, 10).all()
        failed = {n.row for n in notes if not n.read}
        assert ratings["rating"].isna().sum() + ((pairs["g1"] == "") | (pairs["g2"] == "")).sum() == len(failed)


def test_a_damaged_file_is_read_or_refused_in_one_line(tmp_path):
    draw, read, refused = random.Random(5), 0, 0
    for i in range(150):
        rows = [{"question": value(draw), "text": value(draw), "reference": value(draw)} for _ in range(5)]
        file = write(tmp_path / f"m{i}_x_predictions{draw.choice(['.csv', '.json', '.jsonl'])}", rows, draw)
        data = bytearray(file.read_bytes())
        for _ in range(draw.randrange(4)):
            at = draw.randrange(len(data))
            data[at : at + draw.randrange(3)] = bytes([draw.choice(b'",[]{}\n\\\x00\xff;')])
        file.write_bytes(data)
        for reader in (external_answers.of_file, external_answers.references):
            try:
                read += len(reader(file)) > 0
            except external_answers.PredictionsError as error:
                refused += 1
                assert file.name in str(error) and "\n" not in str(error) and len(str(error)) < 1500
    assert read > 50 and refused > 50
