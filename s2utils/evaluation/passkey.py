"""Passkey retrieval: is a number found again that was said once in a long text about nothing?

The text is an instruction, a filler of five sentences over and over, the key, filler again, and the question; the model
is to go on with the number. `length` counts the prompt's tokens, the most that whole sentences fill; `place` is the
share of the filler in front of the key, 0 to 1. An answer is right where its first number is the key: exact match,
greedy, intervals Wilson's. The prompt is asked plain, as a text to go on with, and as a user's turn in the tokenizer's
chat template, which differ. A window (0: the model's own) is put on weights that were not trained for it
(`architecture.cache.as_mistral`): then what lies farther back than all layers together reach is lost. Trap: prompts of
one length and place share their beginning, which is computed once; those of a key at the front share little.
Sources: Mohtashami & Jaggi 2023 (the task and its wording); Jiang and others 2024 (Mixtral: found everywhere).
"""

from __future__ import annotations

import bisect
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from s2utils.architecture import cache
from s2utils.evaluation.parameters import Passkey
from s2utils.models import generation, loading
from s2utils.stats import intervals
from s2utils.workflow.errors import ParameterError
from s2utils.workflow.params import Params

INSTRUCTION = (
    "There is an important info hidden inside a lot of irrelevant text. Find it and memorize them. "
    "I will quiz you about the important information there."
)
FILLER = (
    "The grass is green.", "The sky is blue.", "The sun is yellow.", "Here we go.", "There and back again.",
)  # fmt: skip
KEY = "The pass key is {key}. Remember it. {key} is the pass key."
QUESTION = "What is the pass key? The pass key is"
KEYS = 50_000  # from 1 on
CELL = ["model", "template", "window", "length", "place"]  # what is asked alike
NO_WINDOW = 0  # in the tables: the model's own, if it has one
WINDOWED = ("llama", "mistral")  # classes of transformers whose weights take a window; others are asked without


def ask(
    model: PreTrainedModel, tok: PreTrainedTokenizerBase, settings: Passkey, seed: int, path: Path, name: str = "model"
) -> list[dict]:
    """Ask for the key in every cell, `settings.n` times each: a row a prompt, kept in the JSONL `path`.

    Columns: `CELL`, own_window (0: none), key, prompt_tokens, text, n_tokens and ended of the answer, hit.
    A run that was killed goes on there. ParameterError where a length is too short, or a template or window is not one
    that the model can have.
    """
    if "chat" in settings.templates and not tok.chat_template:
        raise ParameterError(f"'passkey.templates': {name} has no chat template: leave 'chat' out, or {name}")
    cells = list(itertools.product(settings.templates, [NO_WINDOW], settings.lengths, settings.places))
    longest = max(settings.lengths)
    windows = settings.windows if model.config.model_type in WINDOWED else []
    cells += itertools.product(settings.templates[:1], windows, [longest], settings.places)
    rows, prompts = [], []
    for template, window, length, place in cells:
        for key in keys(settings, length, place, seed):
            prompts.append(prompt(tok, template, length, place, key))
            facts = {"model": name, "template": template, "window": window, "length": length, "place": place}
            facts["own_window"] = own_window(model)
            rows.append(facts | {"key": key, "prompt_tokens": len(prompts[-1])})

    def asked(skip: int) -> Iterator[list[dict]]:
        for start in range(skip, len(rows), settings.n):
            window = rows[start]["window"]
            reader = cache.as_mistral(model, window) if window else model
            (answers,) = generation.completions(
                reader, tok, prompts[start : start + settings.n], seed=str(seed), batch_size=settings.n,
                max_new_tokens=settings.max_new_tokens, label=None,
            )  # fmt: skip
            yield [a | {"hit": found(a["text"], row["key"])} for a, row in zip(answers, rows[start:])]

    return generation.answer_all(path, rows, settings.n, asked)


def own_window(model: PreTrainedModel) -> int:
    """Tokens that a layer of the model looks back on by its configuration, itself counted; 0 without a window."""
    return getattr(model.config, "sliding_window", None) or 0


def keys(settings: Passkey, length: int, place: float, seed: int) -> list[int]:
    """The keys of a length and place, the same for every model, template and window."""
    return np.random.default_rng([seed, length, round(1000 * place)]).integers(1, KEYS + 1, settings.n).tolist()


def prompt(tok: PreTrainedTokenizerBase, template: str, length: int, place: float, key: int) -> list[int]:
    """Token ids of a prompt, at most `length`; as many sentences for every key. ParameterError where none fits."""

    def ids(sentences: int, key: int) -> list[int]:
        asked = text(sentences, round(place * sentences), key)
        if template == "chat":
            asked = loading.chat_prompt([{"role": "user", "content": asked}], tok)
        return loading.encoded([asked], tok, "chat" if template == "chat" else "base")[0]

    fitting = bisect.bisect_right(range(length), length, key=lambda sentences: len(ids(sentences, KEYS))) - 1
    if fitting < 1:
        raise ParameterError(
            f"'passkey.lengths': {length} tokens hold no filler under the template {template!r}: "
            f"give at least {len(ids(1, KEYS))}"
        )
    return ids(fitting, key)


def text(sentences: int, before: int, key: int) -> str:
    """The prompt in words, with so many sentences of filler, and so many of them before the key."""
    filler = list(itertools.islice(itertools.cycle(FILLER), sentences))
    return " ".join([INSTRUCTION, *filler[:before], KEY.format(key=key), *filler[before:], QUESTION])


def found(answer: str, key: int) -> bool:
    """Whether the first number of an answer is the key."""
    number = re.search(r"\d[\d,]*", answer)
    return bool(number) and number[0].replace(",", "") == str(key)


def table(answers: pd.DataFrame, params: Params) -> pd.DataFrame:
    """One row a cell: `CELL`, own_window, n, n_hits, accuracy and Wilson's interval."""
    rows = []
    for cell, part in answers.groupby(CELL, sort=False):
        hits, n = int(part["hit"].sum()), len(part)
        estimate = intervals.columns("accuracy", intervals.share(hits, n, params.text_metrics.confidence))
        rows.append(
            dict(zip(CELL, cell)) | {"own_window": part["own_window"].iat[0], "n": n, "n_hits": hits} | estimate
        )
    return pd.DataFrame(rows)
