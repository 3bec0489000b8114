"""What others made, in every shape: its text, or a reason; nothing is lost or scored as what it is not."""

import json
import math
import random

import numpy as np
import pytest
from source_files import put

from s2utils.data import values
from s2utils.evaluation import external_answers, scoring_protocols
from s2utils.evaluation.judge import fastchat, readings

SAID = "The sky is blue. It is nice. We like it very much today."
CHAT = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": SAID}]
BODY = {"id": "c", "choices": [{"index": 0, "message": CHAT[1], "finish_reason": "stop"}]}
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
        {"type": "reasoning", "text": "hm"}, {"type": "text", "text": SAID[:17]}, {"type": "text", "text": SAID[17:]},
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
}  # fmt: skip
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


PLAIN = ("", " ", "NA", "None", "[[8]]", "[1] So it is.", "[a](b.html)", "{x | x > 0}", '"Yes."', "[INST] a [/INST]")


@pytest.mark.parametrize("text", PLAIN)
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


def test_a_number_in_brackets_is_a_reply_and_several_are_none():
    assert values.reply("[8]") == ("[8]", "") and values.reply("[8, 9]") == (None, "a list without a text")


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
    whole = {"part": "predictions", "file": "a"}
    assert values.counted(notes) == [
        whole
        | {"key": "text", "reason": "no value", "read": "no", "n": 12, "rows": "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, …"},
        whole | {"key": "reference", "reason": values.SEVERAL, "read": "yes", "n": 1, "rows": "3"},
    ]


# drawn shapes: files as people have them, with the faults of all of them

TEXTS = (
    SAID, "Yes.", "", " ", "It's 5 < 6, “so”.", "a\u2028b\n\nc", "NA", "[1] x", "{", "}{", "[[8]]", "é" * 50, "42",
    "```json\n{}\n```",
)  # fmt: skip
ODD = (
    *FAILS.values(), *SHAPES.values(), "NaN", "Infinity", 0, -1, 1e400, 10**30, False, "\ud83d", "a\ud83db",
    "<think>a</think>b", "<think>a", "a</think>", ["a", "b"], [[]], [{}], [None, math.nan], {"text": None},
    {"text": []}, {"choices": []}, {"choices": [{"message": {"content": None}}]}, {"error": {"message": "limit"}},
    "[", "{'a': }", "[nan]", "['x' 'y']", '["x", "y"', "\x00", "\x1b[31m", "=HYPERLINK(1)", "['\\d']", "{1: 2}",
    "{'a', 'b'}", "### Human: Why?\n ### Assistant: So.", "### Human: Why?\n ### Assistant: $ERROR$",
)  # fmt: skip
JSON = (str, int, float, bool, list, dict, type(None))  # no bytes, no arrays: no file of text holds them


def value(draw: random.Random) -> object:
    drawn = draw.choice(TEXTS if draw.random() < 0.5 else ODD)
    if not isinstance(drawn, JSON):
        return None
    return (
        draw.choice((lambda v: v, lambda v: [v], lambda v: {"text": v}, repr))(drawn) if draw.random() < 0.3 else drawn
    )


def write(path, rows: list[dict], draw: random.Random):
    """Write drawn rows as their makers do: cells of a CSV are texts, files come in several encodings."""
    if path.suffix == ".csv":
        as_text = draw.choice((json.dumps, repr))
        rows = [{k: v if isinstance(v, str) else "" if v is None else as_text(v) for k, v in r.items()} for r in rows]
    put(path.parent, path.name, rows)
    if path.suffix != ".jsonl":
        encoding = draw.choice(["utf-8", "utf-8-sig", "utf-16", "cp1252" if path.suffix == ".csv" else "utf-32"])
        path.write_bytes(path.read_bytes().decode().encode(encoding, "replace"))
    return path


def predictions(folder, number: int, columns: list[str], n: int, draw: random.Random):
    """A file of `n` drawn answers in any format."""
    name = f"m{number}_x_predictions{draw.choice(['.csv', '.json', '.jsonl'])}"
    return write(folder / name, [{c: value(draw) for c in columns} for _ in range(n)], draw)


def is_json(text: str) -> bool:
    try:
        return isinstance(json.loads(text, strict=False), (list, dict)) and text.strip() != "[[8]]"
    except (ValueError, RecursionError):
        return False


def test_no_answer_of_ten_thousand_is_lost_or_scored_as_what_it_is_not(tmp_path):
    draw, read, missing = random.Random(3), 0, 0
    for i in range(200):
        columns = ["text", *draw.sample(["question", "prompt", "reference", "id"], draw.randrange(5))]
        file, notes = predictions(tmp_path, i, columns, 50, draw), []
        frame = external_answers.of_file(file, notes)
        answers = frame["answer"].dropna()
        failed = sum(n.key == "text" and not n.read for n in notes)
        assert len(frame) == 50 == len(answers) + failed, file
        assert not any(map(is_json, answers)) and frame["whole"][frame["answer"].isna()].isna().all()
        assert all(n.file == file.name and n.reason for n in notes)
        if i % 20 == 0:
            for scored in scoring_protocols.readability(frame).values():
                assert len(scored) == 50 and scored["flesch_reading_ease"].dropna().between(-2000, 207).all()
        read, missing = read + len(answers), missing + failed
        if {"question", "reference"} <= set(columns):
            references, several = external_answers.references(file, notes)
            assert several <= len(references) and not any(map(is_json, references.values()))
    assert read + missing == 10_000 and read > 4000 and missing > 1000


def test_no_judgement_of_two_thousand_is_lost(tmp_path):
    draw = random.Random(4)
    for i in range(40):
        pair = draw.random() < 0.3
        said = {"g1_winner": "model_1", "g2_winner": "tie"} if pair else {"score": 7, "judgment": "Rating: [[7]]"}
        rows = []
        for q in range(50):
            row = {"model_1": "a", "model_2": "b"} if pair else {"model": "m"}
            row |= {"question_id": draw.choice([q, float(q), str(q)]), "turn": draw.choice([1, 2, 1.0])}
            row |= {k: v if draw.random() < 0.5 else value(draw) for k, v in said.items()}
            rows.append(row | {"judge": draw.choice(["j", ["j", "p"]])})
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
        file = predictions(tmp_path, i, ["question", "text", "reference"], 5, draw)
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
