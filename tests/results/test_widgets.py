import builtins
from types import SimpleNamespace

import ipywidgets
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2utils.results import widgets
from s2utils.workflow import params

FRAME = pd.DataFrame(
    {
        "dataset": ["a", "a", "a", "a", "b"],
        "n_words": [30, 30, 10, 0, 30],
        "fre": [80.0, 50.0, 80.0, float("nan"), 60.0],
        "fkg": [5.0, 5.0, 5.0, float("nan"), 8.9],
    }
)
WORDS = {"a": 20, "b": 20}


def test_kept_by_hand():
    found = widgets.kept(FRAME, 60, 9, WORDS)
    assert found.to_dict("index") == {"a": {"n": 4, "kept": 1, "share": 0.25}, "b": {"n": 1, "kept": 1, "share": 1.0}}
    assert widgets.kept(FRAME, 60, 8.9, WORDS).at["b", "kept"] == 0, "a grade at the limit is too high"
    assert widgets.kept(FRAME, 60.1, 9, WORDS).at["b", "kept"] == 0
    assert widgets.kept(FRAME, 60, 9, {"a": 10, "b": 31})["kept"].tolist() == [2, 0]


def test_limits_that_keep_all_keep_all_that_has_words():
    assert widgets.kept(FRAME, -1000, 1000, {"a": 0, "b": 0})["kept"].tolist() == [3, 1]


texts = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(0, 90), st.floats(-50, 120), st.floats(-3, 30)),
    min_size=1,
    max_size=30,
)


@given(texts, st.floats(0, 100), st.floats(1, 20), st.integers(0, 80))
def test_kept_are_some_and_a_tighter_limit_keeps_fewer(rows, ease, grade, least):
    frame = pd.DataFrame(rows, columns=FRAME.columns)
    found = widgets.kept(frame, ease, grade, {"a": least, "b": least})
    assert found["n"].sum() == len(frame) and (found["kept"] <= found["n"]).all()
    tighter = (ease + 5, grade, least), (ease, grade - 0.5, least), (ease, grade, least + 5)
    for e, g, w in tighter:
        assert (widgets.kept(frame, e, g, {"a": w, "b": w})["kept"] <= found["kept"]).all()


@pytest.fixture
def s2():
    return params.load("smoke").s2


def test_the_static_table_marks_the_profile_and_moves_one_limit_at_a_time(s2):
    table = widgets.around(FRAME, s2, {"a": "qa", "b": "articles"})
    assert list(table.columns) == ["a (n = 4)", "b (n = 1)"] and table.index[0] == "as the profile" and len(table) == 7
    assert table.at["as the profile", "a (n = 4)"] == 0.25
    assert table.at["FRE at least 50", "a (n = 4)"] == 0.5 and table.at["half the words at least", "a (n = 4)"] == 0.5
    assert table.at["FKG below 7", "b (n = 1)"] == 0


def test_sliders_start_at_the_profile_and_move_the_counts(s2):
    box = widgets.limits(FRAME, s2, {"a": "qa", "b": "articles"})
    *sliders, table = box.children
    assert [s.value for s in sliders] == [s2.fre_min, s2.fkg_max, s2.min_words["qa"], s2.min_words["articles"]]
    assert "25.0%" in table.value
    sliders[0].value = 40
    assert "50.0%" in table.value
    sliders[2].value = 200
    assert "0.0%" in table.value and "100.0%" in table.value, "a kind has its own number of words"


ANSWERS = pd.DataFrame(
    [
        {"dataset": d, "question": q, "reference": f"human {q}", "model": m, "text": f"<script>{m} {q}", "n_tokens": 3,
            "ended": True}
        for d, questions in {"a": ["q1", "q2"], "b": ["q1"]}.items() for q in questions for m in ("base", "tuned")
    ]
)  # fmt: skip


def test_all_answers_to_a_question_stand_below_the_reference():
    table = widgets.side_by_side(ANSWERS, "a", "q2")
    assert list(table.index) == ["reference", "base", "tuned"]
    assert table["text"].tolist() == ["human q2", "<script>base q2", "<script>tuned q2"]


def test_the_explorer_follows_both_lists_and_escapes_what_models_wrote():
    dataset, question, table = widgets.explorer(ANSWERS).children
    assert [value for _, value in question.options] == ["q1", "q2"] and "human q1" in table.value
    question.value = "q2"
    assert "&lt;script&gt;base q2" in table.value and "<script>" not in table.value
    dataset.value = "b"
    assert [value for _, value in question.options] == ["q1"] and "human q1" in table.value


@pytest.mark.parametrize(
    ("started", "cell", "wanted"),
    [({"JPY_SESSION_NAME": "/a.ipynb"}, "x", True), ({"VSCODE_PID": "1"}, "x", True), ({}, "x", False),
     ({"JPY_SESSION_NAME": "/a.ipynb"}, "# Parameters\nprofile = 1", False)],
)  # fmt: skip
def test_a_run_without_a_reader_shows_no_widget(monkeypatch, started, cell, wanted):
    for name in ("JPY_SESSION_NAME", "VSCODE_PID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in started.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(builtins, "get_ipython", lambda: SimpleNamespace(user_ns={"In": ["", cell]}), raising=False)
    shown = []
    monkeypatch.setattr(widgets, "display", shown.append)
    widgets.offer(ipywidgets.HTML)
    assert bool(shown) == wanted


def test_outside_a_kernel_there_is_no_reader():
    assert not widgets.live()
