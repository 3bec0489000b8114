import html
import json
import math
import re
import types
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2utils.evaluation import metrics
from s2utils.results import latex, layout, tables
from s2utils.workflow.notebook import Run
from s2utils.workflow.params import load


@pytest.mark.parametrize("name", metrics.STUDY)
def test_the_published_tables_have_our_columns_and_numbers(tree, name):
    frame = tables.published(name)
    assert {"model", "base", "variant", "train_set", "merge_mode", *metrics.columns(name)} <= set(frame.columns)
    for metric in metrics.of(name):
        assert pd.api.types.is_float_dtype(frame[metric.column])
        assert frame[metric.column].notna().all() if metric.published else frame[metric.column].isna().all()
    assert set(frame["merge_mode"]) <= {"none", "bf16", "dequantized"}
    assert (frame["merge_mode"] == "none").eq(frame["variant"].isin(["base", "chat"])).all()
    assert not frame.duplicated([k for k in ("model", "merge_mode", "dataset") if k in frame]).any()


def test_the_published_averages_are_the_means_of_their_columns(tree):
    frame = tables.published("leaderboard")
    means = frame[["arc_acc_norm", "hellaswag_acc_norm", "mmlu_acc", "truthfulqa_mc2"]].mean(axis=1)
    assert (frame["average"] - means).abs().max() <= 0.005 + 1e-9


def row(model: str, merge_mode: str = "none", **changes) -> dict:
    """A measured row of the leaderboard."""
    keys = dict(zip(tables.MODEL, (model, "Llama-2-7b", "base", "", merge_mode)))
    return keys | {"n": 3} | dict.fromkeys(metrics.columns("leaderboard"), 50.0) | changes


def test_a_measured_row_finds_the_published_one(tree):
    merges = [row("Llama-2-7b-ELI5-wiki", mode) for mode in ("dequantized", "bf16")]
    measured = pd.DataFrame([row("Llama-2-7b"), *merges, row("SmolLM2-135M")])
    frame = tables.beside(measured, "leaderboard")
    assert frame["average_published"].tolist()[:2] == [53.40, 55.46]
    assert frame.loc[0, ["arc_acc_norm_published", "truthfulqa_mc2_published"]].tolist() == [53.07, 38.98]
    assert frame["average_published"].isna().tolist() == [False, False, True, True]
    assert frame["average"].tolist() == [50.0] * 4 and len(frame) == 4


def test_published_text_metrics_join_by_data_set_too(tree):
    measured = pd.DataFrame({"dataset": ["ELI5", "full", "sciq"]}).assign(model="Llama-2-7b", merge_mode="none")
    measured = measured.assign(flesch_reading_ease=1.0, flesch_kincaid_grade=2.0)
    frame = tables.beside(measured, "flesch")
    assert frame["flesch_reading_ease_published"].tolist()[:2] == [58.2425, 65.0452]
    assert frame["flesch_reading_ease_published"].isna().tolist() == [False, False, True]


def test_a_cell_shows_value_interval_and_failures(tree):
    average = {"average": 12.5, "average_ci_low": 10.0, "average_ci_high": 14.0, "average_n_failed": 2}
    frame = pd.DataFrame([row("Llama-2-7b", mmlu_acc=math.nan, **average)])
    view = layout.view(tables.beside(frame, "leaderboard"), "leaderboard")
    assert view.loc[0, "Average"] == "12.50 [10.00, 14.00] (2 failed)"
    assert view.loc[0, "MMLU"] == "–"
    assert view.loc[0, "ARC"] == "50.00"
    assert view.loc[0, "Average, published"] == "53.40"


def test_what_the_paper_does_not_have_takes_no_column(tree):
    view = layout.view(tables.beside(pd.DataFrame([row("SmolLM2-135M")]), "leaderboard"), "leaderboard")
    assert not [c for c in view.columns if "published" in c]


def save(frame: pd.DataFrame, name: str = "leaderboard", **about) -> Path:
    """A table that a run of smoke saved; its CSV."""
    run = Run("leaderboard", "smoke", load("smoke"), choices={"model": about.pop("model", "all")})
    tables.save(run, frame, name, about.pop("caption", "A caption."), **about)
    return run.tables / f"{name}.csv"


def test_a_table_is_written_whole(tree):
    csv = save(pd.DataFrame([row("Llama-2-7b", average=1 / 3), row("Llama-2-7b-chat")]), caption="50 % of it | n = 3")
    written = {p.suffix: p.read_text(encoding="utf-8") for p in csv.parent.iterdir()}
    assert set(written) == {".csv", ".md", ".tex", ".json"}
    back = pd.read_csv(csv)
    assert back["average"].tolist() == [0.333333, 50.0] and back["average_published"].tolist() == [53.40, 56.34]
    assert written[".md"].count("\n|") == 4 and r"50 \% of it" in written[".tex"]
    assert written[".tex"].count(r"\begin{") == written[".tex"].count(r"\end{") == 2


def test_beside_a_table_stands_what_it_is(tree):
    about = tables.schema(save(pd.DataFrame([row("Llama-2-7b")]), caption="n = 3.", protocol="v1"))
    facts = metrics.TABLES["leaderboard"]
    assert (
        about["caption"] == f"n = 3. {facts.protocol}" and about["title"] == facts.title and about["unit"] == "document"
    )
    assert about["keys"] == tables.MODEL and about["protocol"] == "v1"
    assert about["made_by"] == {"notebook": "06_leaderboard", "cell": "", "profile": "smoke"}
    assert about["columns"]["model"] == "text" and about["columns"]["average"] == "float64"


def test_a_run_of_one_model_writes_no_table_of_all(tree):
    assert not save(pd.DataFrame([row("Llama-2-7b")]), model="SmolLM2-135M").exists()


@pytest.mark.parametrize("schema", [True, False])
def test_columns_come_back_with_their_types(tree, schema):
    """A model may be called "null" or "7", a cell may be empty, and a name is no number whatever it looks like."""
    frame = pd.DataFrame({"model": ["null", "7"], "kept": [True, False], "n": [3, 4], "value": [0.5, math.nan]})
    frame["mark"] = ["", "1"]
    csv = save(frame.assign(verdict=["", "different"]), "own", title="Own")
    if not schema:
        csv.with_suffix(".json").unlink()
        frame = frame.drop(columns="mark")
    back = tables.read(csv)
    pd.testing.assert_frame_equal(back[frame.columns].astype({"model": object}), frame, check_dtype=False)
    assert back["model"].tolist() == ["null", "7"] and back["kept"].dtype == bool
    assert back["n"].dtype == "int64" and back["verdict"].tolist() == ["", "different"]


def test_latex_has_as_many_columns_as_it_says(tree):
    view = pd.DataFrame({"dataset": ["a_b"], "model": ["m"], "n": [3], "F1": ["0.1 [0.0, 0.2]"]})
    text = tables.latex(view, "C & D", "tab:x")
    assert (
        r"\begin{tabular}{llrr}" in text and r"a\_b & m & 3 & 0.1 [0.0, 0.2] \\" in text and r"\caption{C \& D}" in text
    )


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("50 % & $5 #1 a_b {c}", r"50 \% \& \$5 \#1 a\_b \{c\}"),
        ("a\\b", r"a\textbackslash{}b"),
        ("~^", r"\textasciitilde{}\textasciicircum{}"),
        ("1–2 · 3 ± 4", r"1--2 $\cdot$ 3 $\pm$ 4"),
        ("plain", "plain"),
        ("é ø −1 x² ﬁ", r"\'{e} \o{} $-$1 x$^2$ fi"),
        ("中 \u202e", "[U+4E2D] [U+202E]"),
    ],
)
def test_latex_escapes(text, wanted):
    assert latex.latex_text(text) == wanted


@given(st.text())
def test_no_special_character_of_latex_is_left_bare(text):
    left = latex.latex_text(text)
    assert left.isascii()
    left = re.sub(
        r"\\[a-zA-Z]+\{\}|\\[^a-zA-Z&%$#_{}]\{[a-zA-Z]\}|\\[urHvdckb]\{[a-zA-Z]\}|(?<!\\)\$[^$ ]+\$", "", left
    )
    assert not re.search(r"(?<!\\)[&%$#_{}~^]", left.replace("\\\\", ""))


@given(st.lists(st.text(), min_size=1, max_size=3))
def test_a_cell_cannot_break_a_markdown_table(cells):
    view = pd.DataFrame([cells], columns=[f"c{i}" for i in range(len(cells))])
    lines = tables.markdown(view).split("\n")
    assert len(lines) == 3
    assert [len(re.findall(r"(?<!\\)\|", line)) for line in lines] == [len(cells) + 1] * 3


def test_markdown_escapes():
    assert tables.markdown(pd.DataFrame({"a": ["x|y <b>\nz"]})).split("\n")[-1] == f"| x\\|y {html.escape('<b>')} z |"


def marked() -> pd.DataFrame:
    """Two rows, the first of which has the best average, and a hostile name that asks for bold."""
    frame = pd.DataFrame([row("Llama-2-7b", average_ci_low=49.0, average_ci_high=51.0), row("**<b>**", average=9.0)])
    return frame.assign(average_mark=["best", ""], mmlu_acc_mark=["", "best, not told apart"])


def test_the_best_is_bold_or_has_a_dagger(tree):
    view = layout.view(tables.beside(marked(), "leaderboard"), "leaderboard")
    assert view["Average"].tolist() == ["**50.00** [49.00, 51.00]", "9.00"]
    assert view["MMLU"].tolist() == ["50.00", "50.00†"]
    assert "| **50.00** [49.00, 51.00] |" in tables.markdown(view)
    text = tables.latex(view, "C", "tab:x")
    assert r"\textbf{50.00} [49.00, 51.00]" in text and r"50.00$^\dagger$" in text and r"\textbf{<" not in text


def test_marks_survive_the_file_they_are_written_to(tree):
    best = pd.DataFrame([{"metric": "average", "model": "Llama-2-7b", "merge_mode": "none", "mark": "best"}])
    back = tables.read(save(pd.DataFrame([row("Llama-2-7b"), row("Llama-2-7b-chat", average=40.0)]), best=best))
    assert back["average_mark"].tolist() == ["best", ""]
    assert layout.view(back, "leaderboard")["Average"].tolist() == ["**50.00**", "40.00"]


def test_the_cell_that_made_a_table_is_known_by_its_source(tree, monkeypatch):
    cells = json.loads((tree / "notebooks" / "06_leaderboard.ipynb").read_text(encoding="utf-8"))["cells"]
    cell = next(c for c in cells if "save_table" in "".join(c["source"]))
    shell = types.SimpleNamespace(user_ns={"In": ["", "".join(cell["source"]) + "\n"]})
    monkeypatch.setattr("builtins.get_ipython", lambda: shell, raising=False)
    assert tables.schema(save(pd.DataFrame([row("Llama-2-7b")])))["made_by"]["cell"] == cell["id"]
    shell.user_ns["In"].append("x = 1  # edited since it was saved")
    assert tables.schema(save(pd.DataFrame([row("Llama-2-7b")])))["made_by"]["cell"] == ""


def test_in_a_notebook_an_interval_stands_under_its_value_in_one_line():
    view = pd.DataFrame({"model": ["<b>m</b>"], "Average": ["**50.00** [49.00, 51.00] (2 failed)"], "n": [3]})
    text = tables.to_html(view)
    assert (
        "<td><strong>50.00</strong><br><small>[49.00,\u00a051.00]</small><br><small>(2\u00a0failed)</small></td>"
        in text
    )
    assert '<td class="text">&lt;b&gt;m&lt;/b&gt;</td>' in text and "<td>3</td>" in text


def test_in_a_notebook_a_merge_stands_under_each_of_two_models():
    pair = {"model": ["m"], "merge mode": ["<i>"], "minus": ["b"], "minus merge mode": ["none"], "n": [3]}
    text = tables.to_html(pd.DataFrame(pair))
    assert "<th>model</th><th>minus</th><th>n</th>" in text
    assert '<td class="text">m<br><small>&lt;i&gt;</small></td><td class="text">b</td><td>3</td>' in text


def test_in_a_notebook_the_first_rows_stand_above_how_many_there_are():
    view = pd.DataFrame({"model": [f"m{i}" for i in range(1200)], "n": range(1200)})
    text = tables.to_html(view, rows=2, name="<b>fit")
    assert text.count("<tr>") == 3 and "m1</td>" in text and "m2</td>" not in text
    assert text.endswith("<p>The first 2 of 1,200 rows; all are in tables/&lt;b&gt;fit.csv.</p>")


@pytest.mark.parametrize("rows", [0, 3, 4])
def test_in_a_notebook_a_table_that_is_shown_whole_has_no_such_line(rows):
    text = tables.to_html(pd.DataFrame({"n": [1, 2, 3]}), rows=rows, name="fit")
    assert text.count("<tr>") == 4 and text.endswith("</table>")
