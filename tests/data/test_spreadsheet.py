"""Tables for spreadsheets: nothing runs, and everything comes back."""

import io

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2utils.data import spreadsheet

STARTS = ("=", "+", "-", "@", "\t", "\r")


def written(frame: pd.DataFrame) -> str:
    file = io.StringIO()
    spreadsheet.write(frame, file)
    return file.getvalue()


@pytest.mark.parametrize(
    "text", ['=HYPERLINK("x")', "+1", "-1", "@a", "\ta", "'=a", "''-", "a=b", "'quoted'", "plain", "µ"]
)
def test_a_text_comes_back_and_begins_no_formula(tmp_path, text):
    frame = pd.DataFrame({text: [text, "x"], "n": [-1, 2], "v": [-0.5, None]})
    (tmp_path / "t.csv").write_text(written(frame), encoding="utf-8", newline="")
    lines = (tmp_path / "t.csv").read_text(encoding="utf-8").splitlines()
    assert not any(line.lstrip('"').startswith(STARTS) for line in lines)
    pd.testing.assert_frame_equal(spreadsheet.read(tmp_path / "t.csv"), frame, check_dtype=False)


@given(
    st.lists(
        st.text(st.sampled_from("'=+-@ab\t\""), min_size=2, max_size=6).filter(lambda t: not t.strip("+-").isdigit()),
        min_size=1,
    )
)
def test_every_text_comes_back(tmp_path_factory, texts):
    path = tmp_path_factory.mktemp("s") / "t.csv"
    path.write_text(written(pd.DataFrame({"model": texts})), encoding="utf-8", newline="")
    assert spreadsheet.read(path)["model"].tolist() == texts


def test_an_empty_table_stays_one(tmp_path):
    (tmp_path / "t.csv").write_text(written(pd.DataFrame({"a": [], "b": []})))
    assert list(spreadsheet.read(tmp_path / "t.csv")) == ["a", "b"]
