"""The command that makes one artefact: errors that say what to do, and nothing made twice."""

import pytest

from s2utils.__main__ import main
from s2utils.data import shards


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["membership", "smoke"], "make 02_datasets PROFILE=smoke"),
        (["merged", "smoke", "SmolLM2-135M-sciq.bf16"], "make 03_sft PROFILE=smoke"),
        (["judged", "smoke"], "make 04_generate PROFILE=smoke"),
    ],
)
def test_what_is_missing_is_said(tree, capsys, arguments, told):
    assert main(["make", *arguments]) == 1
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["membership", "smokee"], "did you mean 'smoke'"),
        (["membership", "smoke", "--set", "membership.n=x"], "membership.n"),
        (["filtered", "smoke", "--set", "data.sources={}"], "'data.sources' must be a section of keys, not empty"),
    ],
)
def test_parameters_that_cannot_be_used_are_said_in_a_line(tree, capsys, arguments, told):
    assert main(["make", *arguments]) == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["merged", "smoke", "SmolLM2-135M"], "it has SmolLM2-135M-sciq.bf16"),
        (["filtered", "smoke", "7"], "it has 0, 1"),
        (["trained", "smoke"], "no job makes 'trained'; known: filtered"),
    ],
)
def test_a_name_that_the_step_does_not_make_is_refused(tree, capsys, arguments, told):
    assert main(["make", *arguments]) == 2
    assert told in capsys.readouterr().err


def test_an_error_that_is_not_ours_keeps_its_trace(tree, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("a mistake of ours")

    monkeypatch.setattr(shards, "make", broken)
    with pytest.raises(ZeroDivisionError):
        main(["make", "filtered", "smoke", "0"])
