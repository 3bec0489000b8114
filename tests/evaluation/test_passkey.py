"""The passkey: its text as published, its place and length, what counts as found, and a run that goes on."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_ladder import tokenizer

from s2utils.architecture import cache
from s2utils.evaluation import passkey
from s2utils.evaluation.parameters import Passkey
from s2utils.models import generation
from s2utils.workflow.errors import ParameterError
from s2utils.workflow.params import load


def settings(**changes) -> Passkey:
    asked = {
        "lengths": [400, 700],
        "places": [0.0, 1.0],
        "n": 2,
        "templates": ["plain"],
        "windows": [],
        "max_new_tokens": 4,
    }
    return Passkey(**asked | changes)


@given(st.integers(1, 60), st.integers(1, passkey.KEYS), st.floats(0, 1))
def test_the_key_stands_twice_between_the_filler_and_the_question_at_the_end(sentences, key, place):
    before = round(place * sentences)
    text = passkey.text(sentences, before, key)
    start, middle, end = text.partition(passkey.KEY.format(key=key))
    count = sum(part.count(sentence) for part in (start, end) for sentence in passkey.FILLER)
    assert middle and count == sentences and text.startswith(passkey.INSTRUCTION) and text.endswith(passkey.QUESTION)
    assert sum(start.count(sentence) for sentence in passkey.FILLER) == before


@pytest.mark.parametrize("length", [250, 400, 777])
def test_a_prompt_is_as_long_as_whole_sentences_allow_whatever_the_key(length):
    tok = tokenizer()
    sizes = {len(passkey.prompt(tok, "plain", length, 0.5, key)) for key in (1, 77, 50_000)}
    longest = max(len(tok(sentence)["input_ids"]) for sentence in passkey.FILLER)
    assert max(sizes) <= length and max(sizes) > length - longest - 2 and max(sizes) - min(sizes) < 12


def test_a_length_that_holds_no_filler_is_refused_with_what_would():
    with pytest.raises(ParameterError, match="'passkey.lengths': 20 tokens.*at least") as told:
        passkey.prompt(tokenizer(), "plain", 20, 0.5, 1)
    least = int(re.search(r"at least (\d+)", str(told.value))[1])
    assert len(passkey.prompt(tokenizer(), "plain", least, 0.5, passkey.KEYS)) == least


@pytest.mark.parametrize(
    ("answer", "hit"),
    [
        ("41235.", True), (" The pass key is 41235", True), ("41,235 it is", True), ("412355", False), ("4123", False),
        ("7 or 41235", False), ("", False), ("the pass key", False),
    ],
)  # fmt: skip
def test_the_first_number_is_the_answer(answer, hit):
    assert passkey.found(answer, 41235) is hit


def test_keys_are_drawn_anew_for_each_cell_and_alike_for_each_model():
    given = settings(n=50)
    keys = passkey.keys(given, 400, 0.0, 1)
    assert keys == passkey.keys(given, 400, 0.0, 1) != passkey.keys(given, 400, 1.0, 1)
    assert min(keys) >= 1 and max(keys) <= passkey.KEYS


@pytest.fixture
def knowing(monkeypatch):
    """Generation by who has read the prompt, and finds the key unless it stands last."""
    asked = []

    def completions(model, tok, prompts, **given):
        asked.append((model, prompts))
        texts = [tok.decode(prompt) for prompt in prompts]
        keys = [re.search(r"The pass key is (\d+)", text) for text in texts]
        late = [text.index("pass key is") > len(text) / 2 for text in texts]
        yield [{"text": "none" if end else key[1], "n_tokens": 1, "ended": True} for key, end in zip(keys, late)]

    monkeypatch.setattr(generation, "completions", completions)
    monkeypatch.setattr(cache, "as_mistral", lambda model, window: (model, window))
    return asked


def test_every_cell_has_its_share_and_a_window_is_put_on_the_longest(knowing, tiny_llama, tmp_path):
    model, given = tiny_llama(), settings(windows=[64])
    rows = passkey.ask(model, tokenizer(), given, 1, tmp_path / "a.jsonl")
    table = passkey.table(passkey.pd.DataFrame(rows), load("smoke")).set_index(["window", "length", "place"])
    assert table["n"].eq(2).all() and table["accuracy"].unstack().to_dict() == {
        0.0: {(0, 400): 1, (0, 700): 1, (64, 700): 1},
        1.0: {(0, 400): 0, (0, 700): 0, (64, 700): 0},
    }
    assert table["accuracy_ci_low"].max() < 1 and table["accuracy_ci_high"].min() > 0, "two prompts tell little"
    assert [asked == (model, 64) for asked, _ in knowing] == [False] * 4 + [True] * 2


def test_a_run_that_was_killed_asks_only_what_is_left(knowing, tiny_llama, tmp_path):
    path, model = tmp_path / "a.jsonl", tiny_llama()
    whole = passkey.ask(model, tokenizer(), settings(), 1, path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:5]))
    knowing.clear()
    assert passkey.ask(model, tokenizer(), settings(), 1, path) == whole and len(knowing) == 2
    assert path.read_bytes() == b"".join(lines)


def test_a_chat_template_that_is_not_there_is_said(tiny_llama, tmp_path):
    with pytest.raises(ParameterError, match="'passkey.templates': base has no chat template"):
        passkey.ask(tiny_llama(), tokenizer(), settings(templates=["plain", "chat"]), 1, tmp_path / "a", "base")
