"""What notebooks declare: read as it stands, and refused in one line where it cannot be meant."""

import pytest
from conftest import declare, forget_digests

from s2utils.workflow import declared, steps
from s2utils.workflow.params import ParameterError

LOOK = {"name": "look", "parameters": "seed eda", "modules": "data.eda", "reads": "text_metrics", "collects": True}


def test_words_are_one_line_and_what_is_not_said_is_plain(tree):
    declare(tree, "17_look", LOOK)
    step = steps.STEPS["look"]
    assert (step.notebook, step.part) == ("17_look", "later")
    assert step.parameters == ("seed", "eda") and step.reads == ("text_metrics",) and step.parts == ("study",)
    assert (step.each, step.made_by, step.priority, step.gpu, step.run) == ("", "", 0, True, "17_look")


@pytest.mark.parametrize(
    ("facts", "run", "wildcard"),
    [
        ({"each": "model"}, "17_look.{model}", "model"),
        ({"each": "train_set", "label": "of-{train_set}"}, "17_look.of-{train_set}", "train_set"),
        ({"each": "weights", "together": "train_set"}, "17_look.{train_set}", "train_set"),
        ({"collects": False}, "17_look.look", ""),
    ],
)
def test_jobs_are_called_by_what_they_are_for(tree, facts, run, wildcard):
    declare(tree, "17_look", LOOK | facts)
    assert (steps.STEPS["look"].run, steps.STEPS["look"].wildcard) == (run, wildcard)


def test_the_module_of_the_function_that_makes_an_artefact_is_in_its_identity(tree):
    assert steps.STEPS["merged"].code == ("training.merging",)
    assert steps.STEPS["filtered"].code == ("data.sources", "data.filters", "data.shards")


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"module": "data.eda"}, "step look: 'module': Extra inputs are not permitted; did you mean 'modules'?"),
        ({"cpu_mb": "much"}, "step look: 'cpu_mb': Input should be a valid integer"),
        ({"each": "modell"}, "step look: 'each': Input should be '', 'shard', 'train_set', 'model' or 'weights'"),
        ({"made_by": "data.eda"}, "step look: 'made_by': String should match"),
        ({"parameters": 7}, "step look: 'parameters': Input should be a valid tuple"),
        ({"reads": "answer"}, "step look: no step 'answer'; did you mean 'answers'?"),
        ({"shows": "nothing_such"}, "step look: no step 'nothing_such'"),
        ({"reads": "last"}, "step look: it waits for 'last' of a later notebook, 18_last"),
        ({"name": "sft"}, "step sft: 03_sft has this step too"),
    ],
)
def test_what_cannot_be_meant_is_said_in_a_line(tree, facts, said):
    declare(tree, "18_last", LOOK | {"name": "last"})
    declare(tree, "17_look", LOOK | facts)
    with pytest.raises(ParameterError) as caught:
        declared.steps()
    text = str(caught.value)
    assert said in text and text.startswith("notebooks/17_look.ipynb, metadata s2") and "\n" not in text


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"parts": "later"}, "'parts': Extra inputs are not permitted; did you mean 'part'?"),
        ({"question": 7}, "'question': Input should be a valid string"),
        ({"steps": [{"parameters": "seed"}]}, "step 0: 'name': Field required"),
        ({"steps": "look"}, "see docs/extending.md"),
        ({"steps": None}, "see docs/extending.md"),
        *((text, "see docs/extending.md")
          for text in ("", "[]", "{}", '{"metadata": []}', "\x00", '{"cells": [\n<<<<<<< HEAD\n')),
    ],
)  # fmt: skip
def test_so_is_what_a_whole_notebook_cannot_mean(tree, changes, said):
    if isinstance(changes, str):  # no notebook at all
        (tree / "notebooks" / "17_look.ipynb").write_text(changes)
        forget_digests()
    else:
        declare(tree, "17_look", **{"steps": [LOOK]} | changes)
    with pytest.raises(ParameterError) as caught:
        declared.steps()
    assert said in str(caught.value) and str(caught.value).startswith("notebooks/17_look.ipynb, metadata s2")


def test_a_draft_that_declares_nothing_is_left_alone(tree):
    before = declared.steps()
    (tree / "notebooks" / "Untitled.ipynb").write_text('{"cells": [], "metadata": {}}')
    forget_digests()
    assert declared.steps() == before
