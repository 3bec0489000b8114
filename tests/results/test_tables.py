import html
import re

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2utils.results import tables


@pytest.mark.parametrize("name", tables.METRICS)
def test_the_published_tables_have_our_columns_and_numbers(tree, name):
    frame = tables.published(name)
    assert {"model", "base", "variant", "train_set", "merge_mode", *tables.METRICS[name]} <= set(frame.columns)
    for metric in tables.METRICS[name]:
        assert pd.api.types.is_float_dtype(frame[metric])
        assert frame[metric].notna().all() if tables.METRICS[name][metric] else frame[metric].isna().all()
    assert set(frame["merge_mode"]) <= {"none", "bf16", "dequantized"}
    assert (frame["merge_mode"] == "none").eq(frame["variant"].isin(["base", "chat"])).all()
    assert not frame.duplicated([k for k in ("model", "merge_mode", "dataset") if k in frame]).any()


def test_the_published_averages_are_the_means_of_their_columns(tree):
    frame = tables.published("leaderboard")
    means = frame[["arc_acc_norm", "hellaswag_acc_norm", "mmlu_acc", "truthfulqa_mc2"]].mean(axis=1)
    assert (frame["average"] - means).abs().max() <= 0.005 + 1e-9


def row(model: str, merge_mode: str = "none", **changes) -> dict:
    """A measured row of the leaderboard."""
    metrics = {m: 50.0 for m in tables.METRICS["leaderboard"]}
    return (
        {"model": model, "base": "Llama-2-7b", "variant": "base", "train_set": "", "merge_mode": merge_mode, "n": 3}
        | metrics
        | changes
    )


def test_a_measured_row_finds_the_published_one(tree):
    measured = pd.DataFrame(
        [
            row("Llama-2-7b"),
            row("Llama-2-7b-ELI5-wiki", "dequantized"),
            row("Llama-2-7b-ELI5-wiki", "bf16"),
            row("SmolLM2-135M"),
        ]
    )
    frame = tables.beside(measured, "leaderboard")
    assert frame["average_published"].tolist()[:2] == [53.40, 55.46]
    assert frame.loc[0, ["arc_acc_norm_published", "truthfulqa_mc2_published"]].tolist() == [53.07, 38.98]
    assert frame["average_published"].isna().tolist() == [False, False, True, True]
    assert frame["average"].tolist() == [50.0] * 4 and len(frame) == 4


def test_published_text_metrics_join_by_data_set_too(tree):
    measured = pd.DataFrame(
        [
            {
                "model": "Llama-2-7b",
                "merge_mode": "none",
                "dataset": d,
                "flesch_reading_ease": 1.0,
                "flesch_kincaid_grade": 2.0,
            }
            for d in ("ELI5", "full", "sciq")
        ]
    )
    frame = tables.beside(measured, "flesch")
    assert frame["flesch_reading_ease_published"].tolist()[:2] == [58.2425, 65.0452]
    assert frame["flesch_reading_ease_published"].isna().tolist() == [False, False, True]


def test_a_cell_shows_value_interval_and_failures(tree):
    frame = pd.DataFrame(
        [
            row(
                "Llama-2-7b",
                average=12.5,
                average_ci_low=10.0,
                average_ci_high=14.0,
                average_n_failed=2,
                mmlu_acc=float("nan"),
            )
        ]
    )
    view = tables.shown(tables.beside(frame, "leaderboard"), "leaderboard")
    assert view.loc[0, "Average"] == "12.50 [10.00, 14.00] (2 failed)"
    assert view.loc[0, "MMLU"] == "–"
    assert view.loc[0, "ARC"] == "50.00"
    assert view.loc[0, "Average, published"] == "53.40"


def test_what_the_paper_does_not_have_takes_no_column(tree):
    view = tables.shown(tables.beside(pd.DataFrame([row("SmolLM2-135M")]), "leaderboard"), "leaderboard")
    assert not [c for c in view.columns if "published" in c]


def test_a_table_is_written_whole(tree, tmp_path):
    frame = pd.DataFrame([row("Llama-2-7b", average=1 / 3), row("Llama-2-7b-chat")])
    view = tables.write(frame, "leaderboard", tmp_path / "tables", "50 % of it | n = 3")
    written = {p.suffix: p.read_text(encoding="utf-8") for p in (tmp_path / "tables").iterdir()}
    assert set(written) == {".csv", ".md", ".tex", ".txt"}
    back = pd.read_csv(tmp_path / "tables" / "leaderboard.csv")
    assert back["average"].tolist() == [0.333333, 50.0] and back["average_published"].tolist() == [53.40, 56.34]
    assert len(view) == 2 and written[".md"].count("\n|") == 4
    assert (
        r"50 \% of it" in written[".tex"]
        and written[".txt"] == f"50 % of it | n = 3 {tables.PUBLISHED['leaderboard']}\n"
    )
    assert written[".tex"].count(r"\begin{") == written[".tex"].count(r"\end{") == 2


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
    assert tables.latex_text(text) == wanted


@given(st.text())
def test_no_special_character_of_latex_is_left_bare(text):
    left = tables.latex_text(text)
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
    view = tables.shown(tables.beside(marked(), "leaderboard"), "leaderboard")
    assert view["Average"].tolist() == ["**50.00** [49.00, 51.00]", "9.00"]
    assert view["MMLU"].tolist() == ["50.00", "50.00†"]
    assert "| **50.00** [49.00, 51.00] |" in tables.markdown(view)
    text = tables.latex(view, "C", "tab:x")
    assert r"\textbf{50.00} [49.00, 51.00]" in text and r"50.00$^\dagger$" in text and r"\textbf{<" not in text


def test_marks_survive_the_file_they_are_written_to(tree, tmp_path):

    found = pd.DataFrame([{"metric": "average", "model": "Llama-2-7b", "merge_mode": "none", "mark": "best"}])
    frame = pd.DataFrame([row("Llama-2-7b"), row("Llama-2-7b-chat", average=40.0)])
    view = tables.write(frame, "leaderboard", tmp_path, "C.", best=found)
    back = tables.read_table(tmp_path / "leaderboard.csv")
    assert back["average_mark"].fillna("").tolist() == ["best", ""]
    pd.testing.assert_series_equal(tables.shown(back, "leaderboard")["Average"], view["Average"])
    again = tables.write(
        back.drop(columns=[c for c in back if c.endswith("_published")]), "leaderboard", tmp_path, "C."
    )
    assert again["Average"].tolist() == ["**50.00**", "40.00"]  # as reports of several profiles are joined
