"""The registry of metrics: complete, without a second opinion, and each row's function gives its column."""

import importlib
import math

import pytest

from s2utils.evaluation import metrics, sample_scores


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


def test_of_what_less_is_better():
    assert [m.column for m in metrics.METRICS.values() if m.better < 0] == [
        "flesch_kincaid_grade", "toxic", "bits_per_byte", "perplexity",
    ]  # fmt: skip


def test_an_unknown_column_is_named_as_it_is():
    assert metrics.name("bertscore_f1") == "BERTScore F1" and metrics.name("kl") == "kl" and metrics.of("kl") == []
