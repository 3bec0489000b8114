"""Pages of tables: any table gets one, and what it draws lies where the numbers say."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_build import HOSTILE, Page

from s2utils.report import table_pages, web
from s2utils.results import layout

CSV = {
    "empty": "a,b\n",
    "words": f"reason,n\n{HOSTILE},3\n,4\n",
    "yes": "check,passed,value,value_ci_low,value_ci_high\none,True,0.5,0.25,0.75\ntwo,False,,,\n",
    "p_values": "model,minus,p_holm,difference,difference_ci_low,difference_ci_high\na,b,0.00012,-1,-2,0.5\n",
    "panel": "judge,check,n,value,ci_low,ci_high,passed\nj,kappa,9,0.5,0.25,0.75,no\nj,flips,9,40,,,yes\n",
    "bare": "\n".join(["x", "1", "2"]) + "\n",
    "nothing_known": "model,n,score,score_ci_low,score_ci_high\nnull,,,,\n",
}


@pytest.mark.parametrize("name", CSV)
def test_any_table_gets_a_page(tmp_path, name):
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / f"{name}.csv").write_text(CSV[name])
    row = table_pages.write(web.Site(tmp_path, "profile x"), name, [])
    page = Page(tmp_path / row["href"])
    assert HOSTILE not in (tmp_path / row["href"]).read_text() and page.data()["CSV"] == CSV[name]
    text = "".join(page.text)
    assert {
        "empty": "0 in all" not in text, "words": HOSTILE in text, "yes": "yes" in text and "[0.2500, 0.7500]" in text,
        "p_values": "0.00012" in text and "[-2.000, +0.500]" in text,
        "panel": "[0.25, 0.75]" in text and "svg" not in {t for t, _ in page.tags}, "bare": "2" in text,
        "nothing_known": "null" in text,
    }[name]  # fmt: skip


def test_marks_published_values_and_failures_are_told():
    frame = pd.DataFrame(
        {"model": ["a", "b"], "average": [50.0, 40.0], "average_ci_low": [45.0, 35.0], "average_ci_high": [55.0, 45.0],
         "average_published": [49.0, math.nan], "average_n_failed": [0, 2],
         "average_mark": ["best, not told apart", ""]}
    )  # fmt: skip
    one, other = table_pages.measured(frame, "average")
    assert (one["text"], one["best"], one["alike"], one["published"], one["difference"]) == (
        "50.00",
        False,
        True,
        "49.00",
        "+1.00",
    )
    assert other["failed"] == 2 and other["published"] == "" and not other["alike"]
    assert table_pages.measured(frame.assign(average_mark=["best", ""]), "average")[0]["best"]
    columns = layout.of(frame, "leaderboard")
    assert (columns.keys, columns.counts, columns.measures, columns.others) == (["model"], [], ["average"], [])


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(0, 1e5), st.floats(0, 1e5)), min_size=1, max_size=20))
def test_drawn_intervals_hold_their_value_and_stay_inside(rows):
    values = np.array([v for v, _, _ in rows])
    frame = pd.DataFrame(
        {"m": values, "m_ci_low": values - [d for _, d, _ in rows], "m_ci_high": values + [u for *_, u in rows]}
    )
    for cell in table_pages.measured(frame, "m"):
        at = cell["drawn"]
        assert 0 <= at["low"] <= at["value"] <= at["high"] <= 100


@pytest.mark.parametrize("empty", [math.nan, None, ""])
def test_columns_without_any_value_are_drawn_empty(empty):
    view = pd.DataFrame(
        {"model": ["nan", "b"], "judge": [empty, empty], "low": [empty, 3.0], "text": ["7.00 [6, 8]", "–"]}
    )
    for frame in (view, view.iloc[:1], view.iloc[:0]):
        drawn = table_pages.plain(frame)
        assert [c["kind"] for c in drawn["columns"]] == ["text", "text"] + {
            2: ["number", "text"],
            1: ["text", "number"],
            0: ["text"] * 2,
        }[len(frame)]
        assert [[cell["text"] for cell in row] for row in drawn["rows"]] == [
            ["nan", "", "", "7.00 [6, 8]"],
            ["b", "", "3.0", "–"],
        ][: len(frame)]


def test_each_metric_of_a_column_has_its_own_scale():
    frame = pd.DataFrame(
        {
            "metric": ["a", "b", "a"],
            "effect": [0.1, 9.0, 0.2],
            "effect_ci_low": [0.0, 8.0, 0.1],
            "effect_ci_high": [0.2, 10.0, 0.3],
        }
    )
    one, other, third = table_pages.measured(frame, "effect")
    assert (one["text"], other["text"], third["text"]) == ("0.1000", "9", "0.2000")
    assert other["drawn"] == {"value": 50, "low": 2, "high": 98, "published": None, "zero": None}
    assert one["drawn"]["low"] == 2 and third["drawn"]["high"] == 98
