import json
import math
import unicodedata

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2utils.__main__ import main
from s2utils.models import ask
from s2utils.workflow import artefacts, notebook, params
from s2utils.workflow.params import ParameterError

HOSTILE = "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x1b[2J\r gone \x08\x7f \u202etxt.exe \u2066 \x9b31m \ud800"


@given(st.text())
def test_nothing_that_a_terminal_obeys_is_left(text):
    seen = ask.plain(text)
    assert not [c for c in seen if unicodedata.category(c)[0] == "C" and c != "\n"]
    assert len(seen) == len(text) and ask.plain(seen) == seen


def test_codes_of_a_model_become_visible():
    seen = ask.plain(HOSTILE)
    assert "\x1b" not in seen and "␛[31mred␛[0m" in seen and "␍ gone ␈" in seen and "\u202e" not in seen
    assert ask.plain("Eis schwimmt.\nJa\tso. 🙂 水") == "Eis schwimmt.\nJa so. 🙂 水"


def frame(**texts) -> pd.DataFrame:
    rows = [{"model": m, "text": t, "n_tokens": 5, "ended": t != "cut"} for m, t in texts.items()]
    return ask.measured(pd.DataFrame(rows), "pyphen")


def test_answers_stand_side_by_side_where_there_is_room():
    made = frame(one="The cat sat on the mat.", two="cut", three=HOSTILE[:-1], four="")
    wide, narrow = (ask.shown(made, "Why?", width) for width in (100, 60))
    assert "\x1b" not in wide and max(map(len, wide.split("\n"))) <= 100 and max(map(len, narrow.split("\n"))) <= 60
    first = next(line for line in wide.split("\n") if "one" in line)
    assert "two" in first and "three" not in first and "two" not in next(x for x in narrow.split("\n") if "one" in x)
    assert "6 words · ended by itself" in wide and "cut at 5 tokens" in wide and "no word" in wide


@pytest.mark.parametrize("width", [1, 5, 46, 500])
def test_any_width_will_do(width):
    ask.shown(frame(a_long_model_name="word " * 50), "Why?", max(width, 8))


def test_readability_is_that_of_the_profile():
    made = frame(easy="The cat sat on the mat.", none="...")
    easy, none = made.to_dict("records")
    assert easy["flesch_reading_ease"] > 100 and easy["n_words"] == 6
    assert math.isnan(none["flesch_reading_ease"]) and none["n_words"] == 0


def test_an_unknown_model_names_the_nearest(tree):
    run = notebook.Run("answers", "smoke", params.load("smoke"))
    with pytest.raises(ParameterError, match="did you mean 'SmolLM2-135M-sciq.bf16'"):
        ask.chosen(run, "SmolLM2-135M-sciq.bf61")
    assert [r.id for r in ask.chosen(run, "SmolLM2-135M-chat")] == ["SmolLM2-135M-chat"]


def test_fine_tunes_that_are_not_made_are_named(tree, capsys):
    run = notebook.Run("answers", "smoke", params.load("smoke"))
    ready, missing = ask.there(run, run.models)
    assert [r.variant for r in ready] == ["base", "chat"] and len(missing) == 4
    assert "make 04_generate PROFILE=smoke" in ask.lacking(run, missing) and ask.lacking(run, []) == ""
    made = run.artefact("SmolLM2-135M-sciq.bf16", "merged")
    with made.making():
        pass
    assert [r.id for r in ask.there(run, run.models)[0]][2:] == ["SmolLM2-135M-sciq.bf16"]
    assert main(["ask", "smoke", "Why?", "--model", "SmolLM2-135M-sciq.dequantized"]) == 2
    assert "make 04_generate" in capsys.readouterr().err
    assert main(["ask", "smoke", "  "]) == 2 and "the question is empty" in capsys.readouterr().err
    assert main(["ask", "smok", "Why?"]) == 2 and "did you mean 'smoke'" in capsys.readouterr().err


@pytest.fixture
def tiny(tree, tiny_base, monkeypatch):
    """The smoke profile with a random model, base and chat alike."""
    same = {"path": str(tiny_base), "revision": ""}
    changes = {"model": {"base": same, "chat": same}, "generate": {"max_new_tokens": 8}}
    return notebook.Run("answers", "smoke", params.load("smoke", changes), changes)


@pytest.mark.slow
def test_the_same_question_has_the_same_answers(tiny, monkeypatch):
    from s2utils.models import loading

    loads, full = [], loading.full
    monkeypatch.setattr(loading, "full", lambda *a: loads.append(a) or full(*a))
    rows = ask.chosen(tiny)[:2]
    first, again = (ask.answers(tiny, "Why is the sky blue?", rows) for _ in range(2))
    pd.testing.assert_frame_equal(first, again)
    assert len(loads) == 2, "base and chat are the same weights: loaded once a call"
    assert list(first["model"]) == ["SmolLM2-135M", "SmolLM2-135M-chat"] and first["n_tokens"].between(0, 8).all()
    assert ask.answers(tiny, "Why is the sky blue?", rows[1:])["text"].item() == first["text"].iat[1], (
        "alone as together"
    )
    assert ask.answers(tiny, "What is rain?", rows)["text"].tolist() != first["text"].tolist()


def test_the_command_prints_what_the_models_said(tiny, capsys, monkeypatch):
    given = json.dumps(tiny.overrides["model"]["base"]["path"])
    changes = f"model.base.path={given} model.chat.path={given} generate.max_new_tokens=4"
    assert main(["ask", "smoke", "Why\x1b[31m?", "--set", changes]) == 0
    said = capsys.readouterr().out
    assert "Why␛[31m?" in said and "SmolLM2-135M-chat" in said and "\x1b" not in said
    assert "Not made yet with these parameters: SmolLM2-135M-sciq.bf16" in said
    assert not list(artefacts.Path(tiny.tables.parent).rglob("*")), "asking leaves nothing behind"


def test_a_published_adapter_is_asked_with_its_bases_tokenizer(tree, tiny_base, capsys):
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.bfloat16)
    folder = tree / "adapters" / "theirs"
    get_peft_model(model, LoraConfig(r=2, target_modules="all-linear")).save_pretrained(folder)
    asked = ["ask", "smoke", "Why?", "--model", "SmolLM2-135M"]
    asked += ["--set", "model.base.path=adapters/theirs generate.max_new_tokens=4"]
    assert main(asked) == 0 and "SmolLM2-135M" in capsys.readouterr().out
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"base_model_name_or_path": None}))
    assert main(asked) == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1 and "adapters/theirs does not name its base" in said.err and not said.out


def test_a_merge_draws_the_numbers_of_the_other(tiny, monkeypatch):
    from s2utils.models import generation

    seeds = []
    answer = {"text": "Ice.", "n_tokens": 1, "ended": True}
    monkeypatch.setattr(notebook.Run, "weights", lambda *_: tiny.params.model.base)
    monkeypatch.setattr(generation, "completions", lambda *a, seed, **_: seeds.append(seed) or iter([[answer]]))
    ask.answers(tiny, "Why?", tiny.models)
    assert len(seeds) == 6 and seeds[2] == seeds[3] and len(set(seeds)) == 4
