"""One question to every model that exists, their answers side by side with their readability.

    python -m s2utils ask cpu "Why is the sky blue?" [--model SmolLM2-135M-chat]

Sampled with the profile's settings and a seed made of the question and the model's name, so the same question has the
same answers; both merges of a fine-tune draw the same random numbers, as in 04. Readability counts syllables as
`text_metrics.readability` says. Trap: a model may write anything, the codes that move a terminal's cursor or colour
included, so nothing is printed but through `plain`.
"""

from __future__ import annotations

import gc
import itertools
import math
import shutil
import textwrap
import unicodedata

import pandas as pd

from s2utils.text import readability
from s2utils.workflow import notebook, steps
from s2utils.workflow.params import ParameterError, load, nearest, parse_set

COLUMN = 46  # characters of a column, at least
MEASURES = ["flesch_reading_ease", "flesch_kincaid_grade", "n_words"]


def chosen(run: notebook.Run, model: str = "all") -> list[steps.ModelRow]:
    """Rows of the models asked for; ParameterError names the nearest id."""
    known = {row.id: row for row in run.models}
    if model not in ("all", *known):
        raise ParameterError(f"there is no model '{model}' in profile {run.profile}{nearest(model, known)}")
    return list(known.values()) if model == "all" else [known[model]]


def there(run: notebook.Run, rows: list[steps.ModelRow]) -> tuple[list[steps.ModelRow], list[steps.ModelRow]]:
    """(models that can answer, fine-tunes that are not made yet or not with these parameters)."""
    ready = [row for row in rows if not row.made_by or run.artefact(row.id, row.made_by).ready]
    return ready, [row for row in rows if row not in ready]


def answers(run: notebook.Run, question: str, rows: list[steps.ModelRow]) -> pd.DataFrame:
    """One row a model: model (its id), text, n_tokens, ended, and the measures of `measured`."""
    from s2utils.models import generation, loading

    if not question.strip():
        raise ParameterError("the question is empty: Q='why is the sky blue?'")
    p, found = run.params, {}
    settings = {k: getattr(p.generate, k) for k in ("max_new_tokens", "temperature", "top_p", "repetition_penalty")}
    weights = {row.id: run.weights(row) for row in rows}
    for loaded, same in itertools.groupby(rows, key=lambda row: weights[row.id]):  # base and chat may be one
        network, tok = loading.full(loaded, p.model.dtype, p.runtime.device), loading.tokenizer(loaded)
        for row in same:
            ids = loading.encoded([loading.prompt([question], row.prompt, tok, p.model)], tok, row.prompt)
            seed = f"{p.seed}/ask/{row.model}/{question}"
            (batch,) = generation.completions(network, tok, ids, seed=seed, batch_size=1, label=None, **settings)
            found[row.id] = batch[0]
        del network
        gc.collect()
    return measured(pd.DataFrame([{"model": row.id} | found[row.id] for row in rows]), p.text_metrics.readability)


def measured(frame: pd.DataFrame, counter: str) -> pd.DataFrame:
    """`frame` (model, text, n_tokens, ended) with flesch_reading_ease, flesch_kincaid_grade and n_words."""
    held = [readability.measure(text, counter) for text in frame["text"]]
    values = pd.DataFrame(held, columns=["n_words", "flesch_reading_ease", "flesch_kincaid_grade"], index=frame.index)
    return frame[["model", "text", "n_tokens", "ended"]].join(values[MEASURES])


def plain(text: str) -> str:
    """`text` that moves no cursor, changes no colour and hides nothing: control and format characters become visible.

    Escape becomes ␛, others of the first 32 their picture too, what has no picture �; line ends and tabs stay blanks.
    """
    return "".join(c if not unicodedata.category(c).startswith("C") else _visible(c) for c in text)


def _visible(character: str) -> str:
    if character in "\n\t":
        return character.replace("\t", " ")
    return chr(0x2400 + ord(character)) if ord(character) < 32 else "\N{REPLACEMENT CHARACTER}"


def shown(frame: pd.DataFrame, question: str, width: int) -> str:
    """The answers as text, as many side by side as fit into `width` characters."""
    beside = max(1, min(len(frame), width // COLUMN))
    column = width // beside - 3
    blocks = [_block(row, column) for row in frame.itertuples()]
    lines = [plain(question), ""]
    for start in range(0, len(blocks), beside):
        for parts in itertools.zip_longest(*blocks[start : start + beside], fillvalue=""):
            lines.append("   ".join(part.ljust(column) for part in parts).rstrip())
        lines.append("")
    return "\n".join(lines)


def _block(row, width: int) -> list[str]:
    """Name, measures and wrapped answer of one model."""
    if row.n_words and math.isnan(row.flesch_reading_ease):
        ease = "ease not defined (not in Latin letters)"
    elif row.n_words:
        ease = f"FRE {row.flesch_reading_ease:.0f} · FKG {row.flesch_kincaid_grade:.1f} · {row.n_words} words"
    else:
        ease = "no word"
    end = "ended by itself" if row.ended else f"cut at {row.n_tokens} tokens"
    said = [line for part in plain(row.text).split("\n") for line in textwrap.wrap(part, width) or [""]]
    return [*textwrap.wrap(row.model, width), *textwrap.wrap(f"{ease} · {end}", width), "─" * width, *said]


def lacking(run: notebook.Run, rows: list[steps.ModelRow]) -> str:
    """Which models did not answer, and what makes them; "" where none."""
    if not rows:
        return ""
    names = ", ".join(row.id for row in rows)
    return f"Not made yet with these parameters: {names}. `make 04_generate PROFILE={run.profile}` makes them."


def ask(profile: str, question: str, model: str = "all", overrides: str = "") -> None:
    """Print every model's answer; ParameterError where none can answer."""
    import torch

    changes = parse_set(overrides)
    run = notebook.Run("answers", profile, load(profile, changes), changes)
    ready, missing = there(run, chosen(run, model))
    if not ready:
        raise ParameterError(lacking(run, missing))
    torch.set_num_threads(run.params.runtime.threads)
    print(shown(answers(run, question, ready), question, shutil.get_terminal_size((100, 24)).columns))
    if missing:
        print(lacking(run, missing))
