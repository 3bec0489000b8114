"""Descriptions: shares with intervals, limits, kinds of question, easy words, repeats, terms."""

import math

import pandas as pd
import pytest

from s2utils.data import eda


def test_shares_by_group_with_wilson_interval():
    frame = pd.DataFrame({"dataset": ["a"] * 10 + ["b"] * 4, "hit": [True] * 5 + [False] * 5 + [False] * 4})
    table = eda.shares(frame, ["dataset"], "hit")
    assert table[["dataset", "n", "share"]].to_numpy().tolist() == [["a", 10, 0.5], ["b", 4, 0.0]]
    low, high = table.loc[0, ["share_ci_low", "share_ci_high"]]
    assert (round(low, 4), round(high, 4)) == (0.2366, 0.7634)  # Wilson 1927, 5 of 10
    assert table.loc[1, "share_ci_high"] > 0.4


def test_spread_sums_to_one_and_keeps_zeros():
    frame = pd.DataFrame({"dataset": ["a", "a", "b"], "kind": ["why", "how", "why"]})
    table = eda.spread(frame, ["dataset"], "kind")
    assert table.groupby("dataset")["share"].sum().tolist() == [1.0, 1.0]
    assert table.set_index(["dataset", "kind"]).loc[("b", "how"), "share"] == 0
    assert list(eda.spread(frame[:0], ["dataset"], "kind")) == list(table)


def test_means_leave_gaps_out():
    frame = pd.DataFrame({"dataset": ["a"] * 3, "x": [1.0, 3.0, math.nan]})
    row = eda.means(frame, ["dataset"], "x", seed=0).iloc[0]
    assert row["n"] == 2 and row["x"] == 2 and row["x_ci_low"] >= 1 and row["x_ci_high"] <= 3


def test_limits_keep_less_when_stricter_and_no_text_without_score():
    frame = pd.DataFrame({"dataset": "a", "fre": [50, 60, 70, math.nan], "fkg": [10, 8.9, 9, math.nan]})
    table = eda.limits(frame, [50, 60, 70], [9, 11]).set_index(["fre_min", "fkg_max"])
    assert table.loc[(60, 9), "kept"] == 1 / 4  # ease at least, grade below
    assert table.loc[(50, 11), "kept"] == 3 / 4 and table.loc[(70, 9), "kept"] == 0
    assert (table["n"] == 4).all()


@pytest.mark.parametrize(
    ("question", "kind"),
    [
        ("ELI5: Why is the sky blue?", "why"),
        ("[ELI5] How do magnets work", "how"),
        ("Is it true that glass flows when it is old?", "yes/no"),
        ("ELI5: don't fish sleep?", "yes/no"),
        ("Mesophiles grow best at what temperature?", "what"),
        ("Please explain inflation.\nWhy does it happen?", "explain"),
        ("ELI5: the difference between jam and jelly", "explain"),
        ("What is Bodmin?", "what"),
        ("Inflation", "other"),
        ("", "other"),
    ],
)
def test_question_kind(question, kind):
    assert eda.question_kind(question) == kind


def test_repeats_fold_case_and_white_space():
    texts = pd.Series(["Why?", "why?", " WHY? ", "How?"])
    assert eda.repeats(texts).tolist() == [False, True, True, False]
    assert not texts.duplicated().any()


def test_easy_words_list_is_the_one_of_dale_and_chall():
    assert 2900 < len(eda.easy_words()) < 3000
    assert {"a", "apple", "yourself"} <= eda.easy_words() and "polymer" not in eda.easy_words()


EASY = "cat cats stopped baking carried easily bigger don't cat's snow-white".split()
HARD = "mitochondria notwithstanding polymer polymers snow-polymer s ing ed".split()


@pytest.mark.parametrize("word", EASY + HARD)
def test_words_with_simple_endings_are_easy_and_others_are_not(word):
    assert eda.is_easy(word) == (word in EASY)


def test_easy_share_leaves_names_out():
    assert eda.easy_share("Marie saw the polymer.") == 2 / 3
    assert eda.easy_share("The cat sat.") == 1
    assert math.isnan(eda.easy_share("NATO 1949")) and math.isnan(eda.easy_share(""))
