import csv
import json

import pytest
from conftest import write_jsonl
from hypothesis import given
from hypothesis import strategies as st

from s2utils.data import values
from s2utils.evaluation import external_answers
from s2utils.evaluation.external_answers import PredictionsError

PROMPT = "### Human: Why is ice light?\nI saw it float.\n ### Assistant: "


def write(path, rows, header=("", "0")):
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows] if header else rows)
    return path


def read(tmp_path, rows, header=("", "0"), notes=None):
    """The answers of a CSV of these rows."""
    return external_answers.of_file(write(tmp_path / "m_wiki_predictions.csv", rows, header), notes)


def test_the_studys_layout(tmp_path):
    said = 'It "floats",\r\nlike wood.\n### Human: And\u2028oil?\n### Assistant: Yes.'
    write(tmp_path / "Llama-2-7b-hf_eli5_predictions.csv", [[0, PROMPT + said], [1, PROMPT], [2, PROMPT + "NA"]])
    frame, others = external_answers.read(tmp_path)
    assert frame["answer"].tolist() == [said, "", "NA"] and others == []
    assert frame["whole"].tolist() == [PROMPT + said, PROMPT, PROMPT + "NA"]
    assert set(frame["question"]) == {"Why is ice light?\nI saw it float."} and set(frame["prompt"]) == {PROMPT}
    assert frame.loc[0, ["file", "model", "dataset"]].tolist() == [
        "Llama-2-7b-hf_eli5_predictions.csv", "Llama-2-7b-hf", "eli5"
    ]  # fmt: skip
    assert frame["reference"].isna().all()


@pytest.mark.parametrize(
    ("header", "row"),
    [
        (("", "0"), [0, PROMPT + "Yes."]),
        (("Unnamed: 0", "Prediction"), [7, PROMPT + "Yes."]),
        (("text",), [PROMPT + "Yes."]),
        (("anything",), [PROMPT + "Yes."]),
        (("prompt", "completion"), [PROMPT, "Yes."]),
        (("generated_text", "prompt"), [PROMPT + "Yes.", PROMPT]),
        (("Output", "Question", "index"), ["Yes.", "Why is ice light?\nI saw it float.", 3]),
        (None, [0, PROMPT + "Yes."]),
    ],
)
def test_other_columns_give_the_same_parts(tmp_path, header, row):
    frame = read(tmp_path, [row], header)
    assert len(frame) == 1
    assert frame.loc[0, ["question", "answer", "whole"]].tolist() == [
        "Why is ice light?\nI saw it float.", "Yes.", PROMPT + "Yes."
    ]  # fmt: skip


def test_an_answer_without_any_prompt_has_no_whole(tmp_path):
    frame = read(tmp_path, [["Yes."], [" "]], ["answer"])
    assert frame["answer"].tolist() == ["Yes.", " "] and frame[["question", "prompt", "whole"]].isna().all(axis=None)


def test_a_row_that_was_cut_in_its_prompt_has_an_empty_answer(tmp_path):
    frame = read(tmp_path, [[0, PROMPT + "Yes."], [1, "### Human: Wh"]])
    assert frame["answer"].tolist() == ["Yes.", ""] and frame["whole"].tolist()[1] == "### Human: Wh"


def test_jsonl_with_its_own_names_and_references(tmp_path):
    rows = [
        {"model": "A", "dataset": "x y", "question": "Why?", "text": "So.", "reference": "Because."},
        {"model": "B", "dataset": "z", "question": "Why?", "text": None, "reference": ""},
    ]
    (tmp_path / "answers.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n", encoding="utf-8")
    frame, _ = external_answers.read(tmp_path / "answers.jsonl")
    assert frame[["model", "dataset"]].to_numpy().tolist() == [["A", "x y"], ["B", "z"]]
    assert frame["answer"].tolist()[0] == "So." and frame["answer"].isna().tolist() == [False, True]
    assert frame["whole"].tolist()[0] == "### Human: Why?\n ### Assistant: So." and frame["whole"].isna()[1]
    assert frame["reference"].tolist()[0] == "Because." and frame["reference"].isna().tolist() == [False, True]


def test_a_folder_of_our_own_answers_is_read_and_what_is_not_is_named(tmp_path):
    for model in ("M.bf16", "M"):
        (tmp_path / model).mkdir()
        (tmp_path / model / "answers.jsonl").write_text(json.dumps({"dataset": "sciq", "text": "So."}) + "\n")
    (tmp_path / "GPT4_judgements.csv").write_text("a,b\n1,2\n")
    frame, others = external_answers.read(tmp_path)
    assert sorted(frame["model"]) == ["M", "M.bf16"] and others == ["GPT4_judgements.csv"]


@pytest.mark.parametrize(
    ("name", "model", "dataset"),
    [
        ("Llama-2-7b-hf_eli5_predictions.csv", "Llama-2-7b-hf", "eli5"),
        ("llama-7b-SFT_ds_eli5_1024_r_64_alpha_16_merged_wiki_predictions.csv",
         "llama-7b-SFT_ds_eli5_1024_r_64_alpha_16_merged", "wiki"),
        ("llama-7b-SFT_eli5_wiki_predictions.csv", "llama-7b-SFT_eli5", "wiki"),
        ("M_Simple_Wiki_predictions.csv", "M", "Simple_Wiki"),
        ("M-2_other-set_predictions.csv", "M-2", "other-set"),
        ("wiki_predictions.csv", "", "wiki"),
        ("answers.csv", "", ""),
    ],
)  # fmt: skip
def test_model_and_data_set_of_a_name(tmp_path, name, model, dataset):
    assert external_answers.named(tmp_path / name) == (model, dataset)


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("Llama-2-7b-hf", "Llama-2-7b"),
        ("Llama-2-7b", "Llama-2-7b"),
        ("Llama-2-13b-chat-hf", "Llama-2-13b-chat"),
        ("llama-7b-SFT_ds_eli5_1024_r_64_alpha_16_merged", "Llama-2-7b-ELI5"),
        ("llama-7b-SFT_ds_wiki65k_1024_r_64_alpha_16_merged", "Llama-2-7b-wiki"),
        ("llama-7b-SFT_eli5_wiki65k_1024_r_64_alpha_16_merged", "Llama-2-7b-ELI5-wiki"),
        ("Llama-2-7b-hf-eli5-cleaned-1024_qlora_merged", "Llama-2-7b-ELI5-Cleaned"),
        ("Llama-2-13b-hf-eli5-cleaned-wiki65k-1024_qlora_merged", "Llama-2-13b-ELI5-Cleaned-wiki"),
        ("Llama-2-13b-hf-ds_wiki_1024_full_r_64_alpha_16_merged", "Llama-2-13b-wiki"),
        ("Llama-2-7b-ELI5-wiki", "Llama-2-7b-ELI5-wiki"),
        ("Llama-2-7b-alpaca", ""),
        ("Llama-2-7b-ELI5.bf16", ""),
        ("SmolLM2-135M", ""),
        ("Llama-2-70b-hf", ""),
    ],
)
def test_names_of_the_studys_models(name, published):
    assert external_answers.published_model(name) == published


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m_x_predictions.csv", b"", "holds no rows"),
        ("m_x_predictions.csv", b"id,words\n1,hello\n", "no column of answers among 'id', 'words'"),
        ("m_x_predictions.csv", b",0\n1,a,b\n", "line 2: 3 cells where the header has 2"),
        ("m_x_predictions.csv", b"0,0\n1,2\n", "column '0' stands 2 times"),
        ("mine.csv", b",0\n1,a\n", "which model"),
        ("m_x_predictions.jsonl", b'{"text": "a"}\n{"text"\n', "line 2 is not JSON"),
        ("mine.jsonl", b'{"text": "a"}\n', "which dataset"),
    ],
)
def test_what_cannot_be_read_names_the_file(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PredictionsError, match=message) as raised:
        external_answers.read(tmp_path / name)
    assert name in str(raised.value)


def test_no_folder_and_an_empty_one(tmp_path):
    with pytest.raises(PredictionsError, match="there is no folder"):
        external_answers.read(tmp_path / "none")
    with pytest.raises(PredictionsError, match="holds no file named"):
        external_answers.read(tmp_path)


def test_references_join_by_question(tmp_path):
    rows = [["Why  Is it\nso? ", "A."], ["why is it so?", "B."], ["x", ""], ["y", "C."], ["y", "C."]]
    found, several = external_answers.references(write(tmp_path / "r.csv", rows, ["Question", "trunc_text"]))
    assert found == {"why is it so?": "A.", "y": "C."} and several == 1
    prompted, _ = external_answers.references(write(tmp_path / "r.csv", [[PROMPT, "A."]], ["prompt", "reference"]))
    assert prompted == {"why is ice light? i saw it float.": "A."}
    with pytest.raises(PredictionsError, match="r.csv: references need a question"):
        external_answers.references(write(tmp_path / "r.csv", rows, ["q", "a"]))


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), min_size=1, max_size=6))
def test_no_row_is_lost_and_no_text_is_changed_without_a_word(tmp_path_factory, texts):
    path, notes = tmp_path_factory.mktemp("p") / "m_x_predictions.csv", []
    frame = external_answers.of_file(write(path, [[i, PROMPT + t] for i, t in enumerate(texts)]), notes)
    noted = {note.row - 1 for note in notes}
    assert len(frame) == len(texts) and set(frame["prompt"]) == {PROMPT}
    assert [(t, PROMPT + t) for i, t in enumerate(texts) if i not in noted] == [
        two for i, two in enumerate(zip(frame["answer"], frame["whole"])) if i not in noted
    ]


SAID = "The sky is blue. It is nice. We like it very much today."
CHAT = [{"role": "user", "content": "Why is the sky blue?"}, {"role": "assistant", "content": SAID}]


def ease(frame) -> float:
    """Mean reading ease of the answers, the failed left out."""
    from s2utils.evaluation import scoring_protocols

    return scoring_protocols.readability(frame)["answer", "pyphen", "none"]["flesch_reading_ease"].mean()


@pytest.mark.parametrize(
    "row",
    [
        {"text": SAID},
        {"id": "b", "response": {"status_code": 200, "body": {"choices": [{"message": CHAT[1]}]}}, "error": None},
        {"id": "c", "object": "chat.completion", "choices": [{"index": 0, "message": CHAT[1]}]},
        {"generated_text": CHAT},
        [{"generated_text": CHAT}],
        {"messages": CHAT},
        {"id": "k", "input": "Why is the sky blue?", "output": [{"provenance": []}, {"answer": SAID}]},
        {"text": json.dumps({"answer": SAID})},
    ],
)
def test_answers_nested_as_objects_are_scored_as_the_text_in_them(tmp_path, row):
    frame = external_answers.of_file(write_jsonl(tmp_path / "m_x_predictions.jsonl", row, row))
    assert frame["answer"].tolist() == [SAID] * 2 and ease(frame) == pytest.approx(109.41)
    if not isinstance(row, list):
        row = next(row[k] for k in external_answers.ANSWERS if k in row)
    cell = row if isinstance(row, str) else json.dumps(row)
    assert external_answers.of_file(write(tmp_path / "m_x_predictions.csv", [[cell]], ["output"]))[
        "answer"
    ].tolist() == [SAID]


def test_messages_tell_their_question(tmp_path):
    rows = {"generated_text": CHAT}, {"prompt": CHAT[:1], "generated_text": SAID}
    frame = external_answers.of_file(write_jsonl(tmp_path / "m_x_predictions.jsonl", *rows))
    assert frame["question"].tolist() == ["Why is the sky blue?"] * 2
    assert frame["whole"].tolist() == [f"### Human: Why is the sky blue?\n ### Assistant: {SAID}"] * 2


def test_an_object_of_unknown_form_is_refused_by_the_name_of_its_key(tmp_path):
    notes = []
    file = write_jsonl(tmp_path / "m_x_predictions.jsonl", {"output": SAID}, {"output": {"label": "A", "logit": 2}})
    frame = external_answers.of_file(file, notes)
    assert frame["answer"].isna().tolist() == [False, True] and ease(frame) == pytest.approx(109.41)
    (note,) = notes
    assert (note.file, note.row, note.key, note.read) == (file.name, 2, "output", False)
    assert "label, logit" in note.reason


@pytest.mark.parametrize(
    "bare", ["NaN", "null", "Infinity", "-Infinity", '"$ERROR$"', '"\\u200b"', '"<think>Hm, so"', "[]", "[null]"]
)
def test_what_is_no_answer_has_failed(tmp_path, bare):
    notes, file = [], tmp_path / "m_x_predictions.jsonl"
    file.write_text(f'{{"text": {json.dumps(SAID)}}}\n{{"text": {bare}}}\n', encoding="utf-8")
    frame = external_answers.of_file(file, notes)
    assert frame["answer"].notna().tolist() == [True, False] and ease(frame) == pytest.approx(109.41)
    assert [(n.row, n.key, n.read) for n in notes] == [(2, "text", False)]


def test_a_lone_surrogate_is_replaced_and_reasoning_left_out_with_a_note(tmp_path):
    notes, rows = [], ['{"text": "So \\ud83d", "question": "Why\\ude00?"}', '{"text": "<think>hm</think> So."}']
    frame = external_answers.of_file(write_jsonl(tmp_path / "m_x_predictions.jsonl", *rows), notes)
    assert frame["answer"].tolist() == ["So ?", "So."] and frame["question"][0] == "Why??"
    frame.to_csv(tmp_path / "out.csv")  # what holds half a character cannot be written
    assert sorted((n.row, n.key) for n in notes if n.read) == [(1, "question"), (1, "text"), (2, "text")]


def test_reasoning_after_a_prompt_keeps_the_prompt(tmp_path):
    frame = read(tmp_path, [[0, PROMPT + "Hm.</think>So."], [1, PROMPT + "$ERROR$"]])
    assert frame["whole"].tolist()[0] == PROMPT + "So." and frame["answer"][0] == "So." and frame["whole"].isna()[1]


@pytest.mark.parametrize(
    ("value", "reference"),
    [
        (["Rain is water.", "It is wet and it falls."], "Rain is water."),
        (["", "Rain is water."], "Rain is water."),
        ({"a_id": ["x", "y"], "text": ["Rain is water.", "It is wet."], "score": [5, 2]}, "Rain is water."),
        ([{"answer": "Rain is water.", "provenance": []}], "Rain is water."),
        ([None], None),
        ([], None),
        ({"text": [], "score": []}, None),
        (float("nan"), None),
    ],
)
def test_references_as_lists_and_objects(tmp_path, value, reference):
    from s2utils.evaluation import text_metrics

    row, notes = {"question": "Rain?", "text": "Rain is water.", "reference": value}, []
    own = external_answers.of_file(write_jsonl(tmp_path / "m_x_predictions.jsonl", row), notes)["reference"]
    lines = write_jsonl(tmp_path / "r.jsonl", {"question": "Rain?", "answers": value})
    beside, several = external_answers.references(lines, notes)
    cells = write(tmp_path / "r.csv", [["Rain?", str(value)]], ["question", "reference"])
    in_cells, _ = external_answers.references(cells)
    if reference is None:
        assert own.isna().all() and not beside and not in_cells and len(notes) == 2 and not any(n.read for n in notes)
    else:
        assert own.tolist() == [reference] and beside == in_cells == {"rain?": reference}
        assert text_metrics.rouge(["Rain is water."], own.tolist(), False).loc[0, "rouge_1_f1"] == 1
        two = isinstance(value, dict) or len([v for v in value if v]) > 1
        assert several == int(two) and [n.reason for n in notes] == [values.SEVERAL] * 2 * two


@pytest.mark.parametrize(
    "question",
    [
        "Qu'est-ce qu'un \u00e9t\u00e9 \u2013 fi?",
        "Qu\u2019est-ce qu\u2019un e\u0301te\u0301 - \ufb01?",
        "QU'EST\u2010CE\u00a0QU'UN \u00c9T\u00c9 \u2212 FI?",
    ],
)
def test_questions_match_whatever_their_unicode_form(tmp_path, question):
    file = write(tmp_path / "r.csv", [["Qu'est-ce qu'un été - fi?", "L."]], ["question", "answer"])
    found, _ = external_answers.references(file)
    assert found[external_answers.plain(question)] == "L."


@pytest.mark.parametrize("name", ["m_x_predictions.json", "m_x_predictions.jsonl"])
@pytest.mark.parametrize("rows", [[{"prediction": SAID}] * 3, [SAID] * 3, [[{"generated_text": SAID}]] * 3])
def test_one_array_of_outputs(tmp_path, name, rows):
    (tmp_path / name).write_text(json.dumps(rows, indent=1), encoding="utf-8")
    frame, others = external_answers.read(tmp_path)
    assert frame["answer"].tolist() == [SAID] * 3 and not others
    assert frame.loc[0, ["model", "dataset"]].tolist() == ["m", "x"]


def test_fifty_thousand_rows_take_seconds(tmp_path):
    import time

    rows = [[f"q{i}", "So."] for i in range(50_000)]
    start = time.process_time()
    assert len(read(tmp_path, rows, ["question", "answer"])) == 50_000 and time.process_time() - start < 20


def test_a_folder_with_blanks_brackets_and_an_apostrophe_is_read(tmp_path):
    folder = tmp_path / "her [new] answers, it's *all*"
    folder.mkdir()
    write(folder / "m[1] x_wiki_predictions.csv", [("0", PROMPT + "Rain is water.")])
    found, others = external_answers.read(folder)
    assert found.loc[0, ["model", "dataset", "answer"]].tolist() == ["m[1] x", "wiki", "Rain is water."] and not others
    assert len(external_answers.read(folder / "m[1] x_wiki_predictions.csv")[0]) == 1
