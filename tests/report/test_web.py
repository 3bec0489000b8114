"""The shell of the pages: what a stranger wrote is text, data cannot leave its element, hashes cover what runs."""

import json

from hypothesis import example, given
from hypothesis import strategies as st

from s2utils.report import web
from s2utils.text import safe

TEXT = st.text(st.characters(codec=None), max_size=60) | st.text(
    "<>&!-\u2028\u2029\ud800\x1b/scriptSCRIPT", max_size=40
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=10,
)


@given(JSON)
@example({"a": "</script><!--<script>"})
def test_embedded_data_holds_no_markup_and_comes_back(value):
    text = str(web.embedded(value))
    assert not set("<>&\u2028\u2029") & set(text)
    back = json.loads(text)

    def same(one, other):
        if isinstance(one, float):
            return other is None if one != one or one in (float("inf"), float("-inf")) else one == other
        if isinstance(one, str):
            return one.encode("utf-8", "replace").decode() == other
        if isinstance(one, list):
            return len(one) == len(other) and all(map(same, one, other))
        if isinstance(one, dict):
            return len(other) <= len(one)  # two halves of surrogate pairs are one key
        return one == other

    assert same(value, back)


@given(TEXT)
def test_visible_text_has_no_controls_and_is_stable(text):
    shown = safe.visible(text)
    assert not safe.UNSEEN.search(shown) and safe.visible(shown) == shown
    shown.encode("utf-8")


def test_visible_names_what_it_shows():
    assert safe.visible("a\x1b[1m\r\nb\tc\u202ed") == "a␛[1m\nb\tc⟨U+202E⟩d"
