"""Benchmark sets that packages carry, as `datasets` reads them."""

from __future__ import annotations

import json
from pathlib import Path

import datasets

from s2utils.workflow import packaged


def truthfulqa() -> datasets.Dataset:
    """The embedded TruthfulQA questions in the harness's mc2 form, true answers first."""
    rows = []
    for example in json.loads(packaged.resolve("truthfulqa").read_text(encoding="utf-8"))["examples"]:
        right, wrong = example["True answers"], example["False answers"]
        targets = {"choices": right + wrong, "labels": [1] * len(right) + [0] * len(wrong)}
        rows.append({"question": example["Question"], "mc2_targets": targets})
    return datasets.Dataset.from_list(rows)


def read(path: Path) -> datasets.Dataset:
    """An Arrow file of documents, read into memory: else maps of it are kept beside it."""
    return datasets.Dataset.from_file(str(path), in_memory=True)
