"""What Mistral 7B's paper claims of heads, windows and caches, as comparisons for `model_claims`.

Each is a number above 0 where it is as claimed; `FAR` is ours, for the paper says how far layers reach and not what
arrives. Bytes and slots are counted, not estimated, so they have no interval beyond themselves and no n. Nor has
what is reached at all: the mask decides that, not the text. Trap: a reach that a text cuts short says nothing, so the
deepest layer that none cuts counts.
Source: Jiang et al. 2023, section 2.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from s2utils.data import corpus_mix
from s2utils.results.claims import Difference
from s2utils.stats import intervals

FAR = 0.5  # of window times layers
RING = "rolling buffer"  # as `cache` calls ours
SETTING = ["batch_size", "context"]
SPEED = intervals.names("tokens_per_second")


def faster(heads: pd.DataFrame) -> list[Difference | str]:
    """Tokens a second with grouped queries minus those with a key-value head for each, at the largest setting."""
    timed = _both(heads).dropna(subset=[f"{column}_{side}" for column in SPEED for side in ("few", "many")])
    if timed.empty:
        return ["at no setting do the caches of both fit"]
    row = timed.iloc[-1]
    few, many = (tuple(row[f"{column}_{side}"] for column in SPEED) for side in ("few", "many"))
    name = f"batch {row['batch_size']}, {row['context']:,} tokens: grouped − all"
    return [Difference(name, *intervals.difference(few, many), min(row["n_few"], row["n_many"]), 0, "combined")]


def smaller(heads: pd.DataFrame) -> list[Difference]:
    """How many times the cache of all heads is that of grouped ones, minus 1."""
    row = _both(heads).iloc[-1]
    return [_counted("cache of all heads ÷ of grouped ones − 1", row["cache_bytes_many"] / row["cache_bytes_few"] - 1)]


def fewer_heads() -> list[Difference]:
    """The same by the paper's table."""
    shape = _shape()
    return [_counted("heads ÷ key-value heads − 1", shape["n_heads"] / shape["n_kv_heads"] - 1)]


def far(reach: pd.DataFrame, column: str) -> list[Difference]:
    """Tokens of `column` ("reached", "felt") at the deepest layer that no text cuts short, minus `FAR` of layers·W."""
    last = reach[reach["bound"] == reach["layer"] * (reach["window"] - 1) + 1].iloc[-1]
    name = f"{last['layer']:.0f} layers of W = {last['window']:.0f}: {column}"
    wanted = FAR * last["layer"] * last["window"]
    if column == "reached":
        return [_counted(name, last[column] - wanted)]
    ends = (last[end] - wanted for end in intervals.names(column))
    return [Difference(name, *ends, last["n"], 0, "bootstrap")]


def printed_reach() -> list[Difference]:
    """The same by arithmetic on the paper's table, for what reaches a token at all."""
    layers, window = (_shape()[field] for field in ("n_layers", "window_size"))
    return [_counted("k(W − 1) + 1 − W·k/2", layers * (window - 1) + 1 - FAR * layers * window)]


def bounded(held: pd.DataFrame) -> list[Difference | str]:
    """W and a half minus the slots that a rolling buffer keeps, of every text longer than W."""
    rows = held[(held["kind"] == RING) & (held["context"] > held["window"])]
    found = [
        _counted(f"{row.context:,} tokens in chunks of {row.chunk:,}: W + ½ − slots", row.window + 0.5 - row.slots)
        for row in rows.itertuples()
    ]
    return found or ["no text is longer than the window"]


def _both(heads: pd.DataFrame) -> pd.DataFrame:
    """Most key-value heads (columns …_many) beside the next fewer (…_few), the largest batch and context last."""
    most, next_fewer = np.sort(heads["kv_heads"].unique())[:-3:-1]
    many, few = (heads[heads["kv_heads"] == count] for count in (most, next_fewer))
    return many.merge(few, on=SETTING, suffixes=("_many", "_few")).sort_values(SETTING)


def _shape() -> dict[str, int]:
    table = corpus_mix.published_numbers("mistral", "architecture")
    return table.set_index("parameter")["value"].to_dict()


def _counted(name: str, value: float) -> Difference:
    return Difference(name, value, value, value, math.nan, math.nan, "exact")
