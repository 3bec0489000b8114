import csv
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2utils import predictions
from s2utils.predictions import PredictionsError

PROMPT = "### Human: Why is ice light?\nI saw it float.\n ### Assistant: "


def write(path, rows, header=("", "0")):
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows] if header else rows)
    return path


def test_the_studys_layout(tmp_path):
    said = 'It "floats",\r\nlike wood.\n### Human: And\u2028oil?\n### Assistant: Yes.'
    write(tmp_path / "Llama-2-7b-hf_eli5_predictions.csv", [[0, PROMPT + said], [1, PROMPT], [2, PROMPT + "NA"]])
    frame, others = predictions.read(tmp_path)
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
    frame = predictions.one(write(tmp_path / "m_wiki_predictions.csv", [row], header))
    assert len(frame) == 1
    assert frame.loc[0, ["question", "answer", "whole"]].tolist() == [
        "Why is ice light?\nI saw it float.", "Yes.", PROMPT + "Yes."
    ]  # fmt: skip


def test_an_answer_without_any_prompt_has_no_whole(tmp_path):
    frame = predictions.one(write(tmp_path / "m_wiki_predictions.csv", [["Yes."], [" "]], ["answer"]))
    assert frame["answer"].tolist() == ["Yes.", " "] and frame[["question", "prompt", "whole"]].isna().all(axis=None)


def test_a_row_that_was_cut_in_its_prompt_has_an_empty_answer(tmp_path):
    frame = predictions.one(write(tmp_path / "m_wiki_predictions.csv", [[0, PROMPT + "Yes."], [1, "### Human: Wh"]]))
    assert frame["answer"].tolist() == ["Yes.", ""] and frame["whole"].tolist()[1] == "### Human: Wh"


def test_jsonl_with_its_own_names_and_references(tmp_path):
    rows = [
        {"model": "A", "dataset": "x y", "question": "Why?", "text": "So.", "reference": "Because."},
        {"model": "B", "dataset": "z", "question": "Why?", "text": None, "reference": ""},
    ]
    (tmp_path / "answers.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n", encoding="utf-8")
    frame, _ = predictions.read(tmp_path / "answers.jsonl")
    assert frame[["model", "dataset", "answer"]].to_numpy().tolist() == [["A", "x y", "So."], ["B", "z", ""]]
    assert frame["whole"].tolist() == [f"### Human: Why?\n ### Assistant: {t}" for t in ("So.", "")]
    assert frame["reference"].tolist()[0] == "Because." and frame["reference"].isna().tolist() == [False, True]


def test_a_folder_of_our_own_answers_is_read_and_what_is_not_is_named(tmp_path):
    for model in ("M.bf16", "M"):
        (tmp_path / model).mkdir()
        (tmp_path / model / "answers.jsonl").write_text(json.dumps({"dataset": "sciq", "text": "So."}) + "\n")
    (tmp_path / "GPT4_judgements.csv").write_text("a,b\n1,2\n")
    frame, others = predictions.read(tmp_path)
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
    assert predictions.named(tmp_path / name) == (model, dataset)


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
    assert predictions.published_model(name) == published


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m_x_predictions.csv", b"", "holds no rows"),
        ("m_x_predictions.csv", b",0\n", "holds no rows"),
        ("m_x_predictions.csv", b"id,words\n1,hello\n", "no column of answers among 'id', 'words'"),
        ("m_x_predictions.csv", b"a,b\n1,2\n", "no column of answers among 'a', 'b'"),
        ("m_x_predictions.csv", b",0\n1,a,b\n", "line 2: 3 cells where the header has 2"),
        ("m_x_predictions.csv", b',0\n1,"a\n', "cannot be read"),
        ("m_x_predictions.csv", b",0\n1,\xff\n", "cannot be read"),
        ("m_x_predictions.csv", b"0,0\n1,2\n", "column '0' stands 2 times"),
        ("mine.csv", b",0\n1,a\n", "which model"),
        ("m_x_predictions.jsonl", b'{"text": "a"}\n{"text"\n', "line 2 is not JSON"),
        ("m_x_predictions.jsonl", b"[1]\n", "line 1 must be an object"),
        ("mine.jsonl", b'{"text": "a"}\n', "which dataset"),
    ],
)
def test_what_cannot_be_read_names_the_file(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PredictionsError, match=message) as raised:
        predictions.read(tmp_path / name)
    assert name in str(raised.value)


def test_no_folder_and_an_empty_one(tmp_path):
    with pytest.raises(PredictionsError, match="there is no folder"):
        predictions.read(tmp_path / "none")
    with pytest.raises(PredictionsError, match="holds no file named"):
        predictions.read(tmp_path)


def test_references_join_by_question(tmp_path):
    rows = [["Why  Is it\nso? ", "A."], ["why is it so?", "B."], ["x", ""], ["y", "C."], ["y", "C."]]
    found, several = predictions.references(write(tmp_path / "r.csv", rows, ["Question", "trunc_text"]))
    assert found == {"why is it so?": "A.", "y": "C."} and several == 1
    prompted, _ = predictions.references(write(tmp_path / "r.csv", [[PROMPT, "A."]], ["prompt", "reference"]))
    assert prompted == {"why is ice light? i saw it float.": "A."}
    with pytest.raises(PredictionsError, match="r.csv: references need a question"):
        predictions.references(write(tmp_path / "r.csv", rows, ["q", "a"]))


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), min_size=1, max_size=6))
def test_no_row_is_lost_and_no_text_is_changed(tmp_path_factory, texts):
    path = tmp_path_factory.mktemp("p") / "m_x_predictions.csv"
    frame = predictions.one(write(path, [[i, PROMPT + t] for i, t in enumerate(texts)]))
    assert frame["whole"].tolist() == [PROMPT + t for t in texts]
    assert (frame["prompt"] + frame["answer"]).tolist() == frame["whole"].tolist()
