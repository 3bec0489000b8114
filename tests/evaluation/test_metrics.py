"""The registry of metrics: complete, without a second opinion, and each row's function gives its column."""

import importlib
import math

import pandas as pd
import pytest

from s2utils.evaluation import metrics, sample_scores, text_metrics
from s2utils.results import layout
from s2utils.workflow.notebook import Run
from s2utils.workflow.params import load


def test_every_metric_is_of_a_table_and_every_table_has_its_headline():
    assert {m.table for m in metrics.METRICS.values()} == set(metrics.TABLES)
    for name, table in metrics.TABLES.items():
        assert table.headline in metrics.columns(name) and table.step in sample_scores.READERS
    assert list(metrics.METRICS) == [m.column for m in metrics.METRICS.values()]
    names = [m.full_name for m in metrics.METRICS.values()]
    assert len(set(names)) == len(names), "two metrics share a name"


@pytest.mark.parametrize("metric", metrics.METRICS.values(), ids=lambda m: m.column)
def test_the_function_of_a_metric_is_there(metric):
    module, _, function = metric.sample.rpartition(".")
    assert callable(getattr(importlib.import_module(f"s2utils.evaluation.{module}"), function))
    low, high = metric.ends
    assert (
        metric.better in (-1, 0, 1)
        and metric.decimals >= 0
        and (math.isnan(low) == math.isnan(high))
        and not low >= high
    )


def test_only_of_a_grade_and_of_toxicity_is_less_better():
    assert [m.column for m in metrics.METRICS.values() if m.better < 0] == ["flesch_kincaid_grade", "toxic"]


def test_an_unknown_column_is_named_as_it_is():
    assert metrics.name("bertscore_f1") == "BERTScore F1" and metrics.name("kl") == "kl" and metrics.of("kl") == []


def test_a_row_and_a_function_make_a_column(monkeypatch, tree):
    """The recipe of docs/extending.md, followed."""
    shouts = metrics.Metric("shouts", "Shouts", "manner", "text_metrics.shouts", decimals=1, better=-1)
    monkeypatch.setitem(metrics.METRICS, "shouts", shouts)
    monkeypatch.setitem(
        text_metrics.MANNER, "shouts", lambda answers, references, params: [a.count("!") for a in answers]
    )
    monkeypatch.setattr(
        text_metrics, "embed", lambda texts, *_, **__: pd.DataFrame({"v": [1.0] * len(texts)}).to_numpy()
    )
    scores = text_metrics.manner(["Oh! It rains!", "It is dry.", ""], ["It rains."] * 3, load("smoke"))
    assert scores["shouts"].fillna(-1).tolist() == [2, 0, -1]
    run = Run("report", "smoke", load("smoke"), {})
    about = {"dataset": "sciq", "source": "s", "question": "Why?", "model_id": "SmolLM2-135M"}
    with (made := run.artefact(step="text_metrics")).making():
        answers = scores.assign(**about, id=["1", "2", "3"], ended=True, looping=False)
        answers.to_parquet(made.folder / "scores.parquet")
    table = sample_scores.summary(sample_scores.of(run, "text_metrics")["manner"], load("smoke"))
    assert layout.view(table, "manner").loc[0, "Shouts"] == "1.0 [0.0, 2.0] (1 failed)"
