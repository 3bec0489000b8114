"""The command that makes one artefact: errors that say what to do, and nothing made twice."""

import importlib

import pytest

from s2utils.__main__ import main
from s2utils.data import shards
from s2utils.workflow import steps


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        # what is missing: an error in two lines, the second of which is the command
        (["membership", "smoke"], 1, "make 02_datasets PROFILE=smoke"),
        (["merged", "smoke", "SmolLM2-135M-sciq.bf16"], 1, "make 03_sft PROFILE=smoke"),
        (["judged", "smoke"], 1, "make 04_generate PROFILE=smoke"),
        # parameters that cannot be used
        (["membership", "smokee"], 2, "did you mean 'smoke'"),
        (["membership", "smoke", "--set", "membership.n=x"], 2, "membership.n"),
        (["filtered", "smoke", "--set", "data.sources={}"], 2, "'data.sources' must be a section of keys, not empty"),
        # what no function makes
        (["merged", "smoke", "SmolLM2-135M"], 2, "it has SmolLM2-135M-sciq.bf16"),
        (["merged", "smoke", "sciq", "sciqq"], 2, "merged has no 'sciqq'"),
        (["filtered", "smoke", "7"], 2, "it has 0, 1"),
        (["judged", "smoke", "sciq"], 2, "it has one artefact, without a name"),
        (["judge", "smoke"], 2, "there is no step 'judge'; did you mean 'judged'?"),
        (["sft", "smoke", "sciq"], 2, "sft is made by its notebook: make 03_sft PROFILE=smoke"),
    ],
)
def test_what_cannot_be_made_is_said_in_a_line(tree, capsys, arguments, code, told):
    assert main(["make", *arguments]) == code
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 3 - code


@pytest.mark.parametrize(
    ("arguments", "made"),
    [
        (["merged", "smoke", "sciq"], ["SmolLM2-135M-sciq.bf16", "SmolLM2-135M-sciq.dequantized"]),
        (["merged", "smoke", "SmolLM2-135M-sciq.bf16"], ["SmolLM2-135M-sciq.bf16"]),
        (["filtered", "smoke"], ["0", "1"]),
        (["membership", "smoke"], [""]),
    ],
)
def test_the_function_that_the_step_names_is_called_for_each_of_its_names(tree, monkeypatch, arguments, made):
    calls = []
    module = importlib.import_module(f"s2utils.{steps.STEPS[arguments[0]].made_by.partition(':')[0]}")
    monkeypatch.setattr(module, "make", lambda run, name="": calls.append((run.step, run.profile, name)))
    assert main(["make", *arguments]) == 0 and calls == [(arguments[0], "smoke", name) for name in made]


def test_an_error_that_is_not_ours_keeps_its_trace(tree, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("a mistake of ours")

    monkeypatch.setattr(shards, "make", broken)
    with pytest.raises(ZeroDivisionError):
        main(["make", "filtered", "smoke", "0"])
