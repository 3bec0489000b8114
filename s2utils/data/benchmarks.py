"""Benchmark sets that packages carry, as `datasets` reads them."""

from __future__ import annotations

import json
from pathlib import Path

import datasets

from s2utils.workflow import packaged


def truthfulqa() -> datasets.Dataset:
    """The embedded TruthfulQA questions in the harness's mc2 form, true answers first."""
    examples = json.loads(packaged.resolve("truthfulqa").read_text(encoding="utf-8"))["examples"]
    return datasets.Dataset.from_list(
        [
            {
                "question": e["Question"],
                "mc2_targets": {
                    "choices": e["True answers"] + e["False answers"],
                    "labels": [1] * len(e["True answers"]) + [0] * len(e["False answers"]),
                },
            }
            for e in examples
        ]
    )


def read(path: Path) -> datasets.Dataset:
    """An Arrow file of documents, read into memory: else maps of it are kept beside it."""
    return datasets.Dataset.from_file(str(path), in_memory=True)
