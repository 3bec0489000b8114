import builtins
from types import SimpleNamespace

import ipywidgets
import numpy as np
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


MIX = pd.DataFrame(
    {"component": ["web", "code", "total"], "epochs": [1.0, 2.0, None], "effective_size": [60.0, 40.0, 100.0]}
)


def test_weights_under_other_epochs_by_hand():
    found = widgets.reweighted(MIX)
    assert found["weight"].to_dict() == {"web": 0.6, "code": 0.4}, "the total is no component"
    twice, half = found["seen 2 times as often"], found["seen 0.5 times as often"]
    assert twice.to_dict() == pytest.approx({"web": 120 / 160, "code": 80 / 140}), "each alone, the others as they are"
    assert half.to_dict() == pytest.approx({"web": 30 / 70, "code": 20 / 80})
    changed = widgets.reweighted(MIX, {"code": 3.0})
    assert changed["changed"].to_dict() == pytest.approx({"web": 60 / 180, "code": 120 / 180})
    assert changed["weight"].equals(found["weight"])


@given(st.lists(st.floats(0.01, 1e9), min_size=2, max_size=6), st.data())
def test_changed_weights_sum_to_1_and_only_their_proportions_count(sizes, data):
    mix = pd.DataFrame({"component": [f"c{i}" for i in range(len(sizes))], "effective_size": sizes})
    times = {name: data.draw(st.floats(0.1, 10)) for name in mix["component"]}
    found = widgets.reweighted(mix, times)
    assert found.sum().tolist() == pytest.approx([1, 1])
    same = widgets.reweighted(mix, dict.fromkeys(times, data.draw(st.floats(0.1, 10))))
    assert same["changed"].tolist() == pytest.approx(same["weight"].tolist())


def test_sliders_of_epochs_start_at_the_mix_and_move_its_weights():
    *sliders, table = widgets.epochs(MIX).children
    assert [slider.value for slider in sliders] == [1.0, 2.0] and table.value.count("60.0%") == 2
    sliders[1].value = 6.0
    assert "66.7%" in table.value and "60.0%" in table.value


@pytest.fixture
def fitted(tok) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(scores, documents) of two domains: each token's loss is its place, the last's 99; one not scored whole."""
    texts = ["The cat sat on the mat.", "<script>x</script>", "Light from the sun."]
    documents = pd.DataFrame({"domain": ["a", "a", "b"], "id": ["1", "2", "3"], "text": texts})
    ids = [tok(text, add_special_tokens=False, split_special_tokens=True)["input_ids"] for text in texts]
    losses = [np.array([*range(len(row) - 1), 99], dtype="float32") for row in ids]
    losses[2] = losses[2][:2]
    return documents[["domain", "id"]].assign(losses=losses), documents


def test_tokens_stand_beside_their_losses_as_far_as_they_were_scored(tok, fitted):
    table = widgets.token_table(*fitted, tok, 0)
    assert table["loss"].tolist() == [*range(len(table) - 1), 99]
    assert "".join(table["token"]).replace("▁", " ").replace(" ", "") == "Thecatsatonthemat."
    assert len(widgets.token_table(*fitted, tok, 2)) == 2


def test_the_costliest_tokens_are_of_each_domains_first_document(tok, fitted):
    scores, documents = fitted
    table = widgets.costliest(scores, documents.set_index(pd.Index([7, 8, 9])), tok, n=2)
    whole = widgets.token_table(scores, documents, tok, 0)
    last = whole["token"].iloc[-1]
    assert list(table.index) == ["a", "b"]
    assert table.at["a", "costliest tokens"].startswith(f"{last!r} 99.0, {whole['token'].iloc[-2]!r} ")
    assert table.at["a", "costliest tokens"].count(", ") == 1
    assert table["mean loss"].tolist() == [round(whole["loss"].mean(), 2), 0.5]


def test_a_document_with_its_losses_is_escaped_and_follows_the_lists(tok, fitted):
    model, place, text = widgets.token_losses({"m": fitted[0]}, fitted[1], tok).children
    assert "99.00 nats" in text.value and [name for name, _ in place.options] == ["a · 1", "a · 2", "b · 3"]
    place.value = 1
    assert "<script" not in text.value and "&lt;" in text.value


def test_a_window_as_long_as_the_text_hides_nothing_and_sinks_are_part_of_it():
    found = widgets.reach([None, 100, 8], [0, 2], 100, layers=3, bytes_a_token=10)
    assert found.index.tolist() == [("none", 0), (100, 0), (100, 2), (8, 0), (8, 2)]
    assert (found.loc["none"].iloc[0] == found.loc[(100, 0)]).all() and found["share of pairs"].iat[0] == 1
    assert found.loc[(8, 0)].tolist() == [8, 80, (36 + 8 * 92) / 5050, 21]
    assert found.loc[(8, 2), "reach back"] == 15 and found.loc[(8, 2), "keys seen"] == 8


def test_the_widget_of_windows_follows_its_sliders():
    box = widgets.windows(48, layers=2, bytes_a_token=10, drawn=6)
    window, sinks, _, picture = box.children
    window.value, sinks.value = 3, 1
    assert picture.value.startswith("<pre style='line-height:1'>■·····\n■■····\n■■■···\n■·■■··")
    window.value = 1  # less than the sinks leave
    assert "■·····\n·■····" in picture.value
