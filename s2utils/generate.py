"""Batched, seeded, resumable generation.

The list of prompts is cut into fixed batches; a batch is seeded by its own number, so a killed run that
goes on later ends in the same answers. Trap: an answer that hits the token limit is not a finished one;
each answer says whether it ended by itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import torch
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from s2utils import artefacts


def stop_ids(model: PreTrainedModel, tok: PreTrainedTokenizerBase) -> list[int]:
    """Ids that end an answer: the tokenizer's and the model's own."""
    own = model.generation_config.eos_token_id
    return sorted({tok.eos_token_id, *(own if isinstance(own, list) else [own])} - {None})


def completions(
    model: PreTrainedModel,
    tok: PreTrainedTokenizerBase,
    prompts: list[list[int]],
    *,
    seed: str,
    batch_size: int,
    max_new_tokens: int,
    temperature: float = 0.0,
    top_p: float = 1.0,
    repetition_penalty: float = 1.0,
    skip: int = 0,
    label: str | None = "generate",
) -> Iterator[list[dict]]:
    """Yield a batch of {text, n_tokens, ended} at a time, in the order of `prompts` (lists of token ids).

    `skip` prompts at the start, a whole number of batches, are left out. `temperature` 0 is greedy.
    `ended` is False where the answer was cut at `max_new_tokens`.
    """
    stops = stop_ids(model, tok)
    sampling = (
        {"do_sample": True, "temperature": temperature, "top_p": top_p, "top_k": 0}
        if temperature
        else {"do_sample": False}
    )
    with tqdm(total=len(prompts), initial=skip, desc=label, unit="answer", disable=label is None) as bar:
        for start in range(skip, len(prompts), batch_size):
            batch = prompts[start : start + batch_size]
            torch.manual_seed(int(hashlib.sha256(f"{seed}/{start}".encode()).hexdigest()[:15], 16))
            inputs = tok.pad({"input_ids": batch}, padding=True, return_tensors="pt").to(model.device)
            with torch.inference_mode():
                output = model.generate(
                    **inputs, max_new_tokens=max_new_tokens, repetition_penalty=repetition_penalty,
                    eos_token_id=stops, pad_token_id=tok.pad_token_id, **sampling,
                )  # fmt: skip
            rows = []
            for ids in output[:, inputs["input_ids"].shape[1] :].tolist():
                end = next((i for i, token in enumerate(ids) if token in stops), None)
                kept = ids if end is None else ids[:end]
                text = tok.decode(kept, skip_special_tokens=True).strip()
                rows.append({"text": text, "n_tokens": len(kept), "ended": end is not None})
            bar.update(len(batch))
            yield rows


def answer_all(path: Path, rows: list[dict], batch_size: int, make) -> list[dict]:
    """Append an answer to each of `rows` in the JSONL `path`, going on where an earlier attempt stopped.

    `make(skip)` yields batches as `completions` does. Returns all rows with their answers.
    """
    done = artefacts.read_jsonl(path)
    whole = len(done) if len(done) == len(rows) else len(done) // batch_size * batch_size
    if whole < len(done):
        with artefacts.replacing(path) as file:
            file.writelines(line + "\n" for line in path.read_text(encoding="utf-8").split("\n")[:whole])
    position = whole
    for batch in make(whole) if whole < len(rows) else ():
        artefacts.append_jsonl(path, [rows[position + i] | answer for i, answer in enumerate(batch)])
        position += len(batch)
    return artefacts.read_jsonl(path)
