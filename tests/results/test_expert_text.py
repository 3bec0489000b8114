"""Tokens by expert: numbers beneath, nothing acts."""

import re

import numpy as np
import pandas as pd
import pytest
from tiny_ladder import tokenizer

from s2utils.report import notebook_pages
from s2utils.results import expert_text


def row(text: str, experts: list[int], place: str = "first") -> dict:
    """A row of `routed` whose tokens go to these of 4 experts first, to the next one second."""
    ids = np.array(tokenizer()(text, add_special_tokens=False)["input_ids"], np.int32)
    chances = np.full((len(ids), 4), 0.05, np.float32)
    for i in range(len(ids)):
        chances[i, experts[i % len(experts)]] = 0.6
        chances[i, (experts[i % len(experts)] + 1) % 4] = 0.3
    facts = {"model": "m", "layer": 0, "place": place, "domain": "code", "id": "1", "top_k": 2}
    return facts | {"ids": ids, "probabilities": chances.flatten()}


def test_every_token_has_its_expert_beneath_and_all_of_them_at_the_pointer():
    shown = expert_text.coloured(row("a cat sat", [3, 1]), tokenizer())
    found = re.findall(r'title="([^"]+)".*?>([^<]*)<rt>(\d)</rt>', shown)
    table = expert_text.tokens(row("a cat sat", [3, 1]), tokenizer())
    assert [int(expert) for *_, expert in found] == table["expert"].tolist() and len(found) == len(table)
    assert found[0][0] == "expert 3: 67%, expert 0: 33%"
    assert "".join(text for _, text, _ in found).replace("&nbsp;", " ") == "a cat sat"


def test_what_is_written_does_not_act():
    shown = expert_text.coloured(row('<script>alert("1")</script>\u202e\x1b', [0]), tokenizer())
    assert "<script" not in shown and "\x1b" not in shown and "\u202e" not in shown
    assert set(re.findall(r"</?(\w+)", shown)) == {"div", "ruby", "rt"}


@pytest.mark.parametrize("name", expert_text.TEXTS)
def test_a_line_ends_where_the_text_s_does(name):
    text = expert_text.TEXTS[name]
    assert expert_text.coloured(row(text, [0, 2]), tokenizer()).count("<br>") == text.count("\n")


def test_a_page_of_the_report_shows_it_as_the_notebook_does():
    shown = expert_text.page(pd.DataFrame([row("a <b>cat</b>", [1, 2])]), tokenizer()).data
    cleaned = notebook_pages.clean(shown)
    for what in (r"<rt>\d</rt>", r"background-color: ?hsla\(90,", r"ruby-position: ?under", r'title="expert 1: 67%'):
        assert re.search(what, cleaned), what
    assert "<b>" not in cleaned and len(re.findall("<ruby", cleaned)) == len(re.findall("<ruby", shown))


def test_the_explorer_shows_the_layer_that_is_chosen():
    frame = pd.DataFrame([row("a cat", [0]), row("a cat", [2], "last")])
    box = expert_text.explorer(frame, tokenizer())
    *lists, text = box.children
    assert [one.description for one in lists] == ["layer", "text"] and "<rt>0</rt>" in text.value
    lists[0].value = "last"
    assert "<rt>2</rt>" in text.value and "<rt>0</rt>" not in text.value
