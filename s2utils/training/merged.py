"""Merged models: one fine-tune under one merge, with its tokenizer and card, ready for `from_pretrained`.

The notebook calls `make`, and the graph runs it for a train set in a job of its own, so that answers, leaderboard and
MT(S)-bench wait for the models alone and not for each other:

    python -m s2utils.job merged cpu SmolLM2-135M-sciq.bf16 SmolLM2-135M-sciq.dequantized
"""

from __future__ import annotations

from s2utils.models import loading
from s2utils.training import merging, publish
from s2utils.workflow import artefacts, steps
from s2utils.workflow.notebook import Run


def make(run: Run, name: str) -> None:
    """Merge the adapter behind the model `name`, unless that is done; a killed merge goes on with the file it stopped in."""
    row, made, p = steps.model(run.params, name), run.artefact(name, "merged"), run.params
    if made.ready:
        return
    adapter = run.require("sft", row.train_set).folder
    with made.making(model=row.model, merge_mode=row.merge_mode) as record:
        record["change"] = merging.write(p.model.base, adapter, row.merge_mode, made.folder, p.runtime.device)
        loading.tokenizer(p.model.base).save_pretrained(made.folder)
        with artefacts.replacing(made.folder / "README.md") as file:
            file.write(publish.card(p, row.train_set, artefacts.read_json(adapter / "result.json"), row.merge_mode))
