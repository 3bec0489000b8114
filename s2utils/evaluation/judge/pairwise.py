"""Two answers to one question, compared by a judge in both orders.

A comparison counts as a win or a loss only where both orders say so; one whose verdict flips with the order is a tie,
and is counted as flipped (Zheng et al. 2023). Trap: a judge that always prefers what stands first has no losses and no
wins.
"""

from __future__ import annotations

import math

import pandas as pd

from s2utils.evaluation.judge import judge_prompts
from s2utils.evaluation.parameters import MtBench
from s2utils.stats import intervals
from s2utils.workflow.params import Params

BY = ["question_id", "turn", "model", "other"]  # one comparison
VALUES = {"win": 1.0, "tie": 0.0, "loss": -1.0, "failed": math.nan}


def items(
    question: dict, turn: int, model: str, other: str, said: list[str], against: list[str], settings: MtBench,
    templates: dict, guided: bool,
) -> list[dict]:  # fmt: skip
    """Both orders of one comparison, for `judgements.collect`; `said` are the answers of `model`, a text a turn."""
    keys = {"question_id": question["question_id"], "turn": turn, "model": model, "other": other}
    orders = {"first": (said, against), "second": (against, said)}
    asked = []
    for place, answers in orders.items():
        chat = judge_prompts.pair_chat(question, *answers, turn, templates, settings.reasons, guided)
        asked.append(keys | {"place": place, "chat": chat})
    return asked


def outcomes(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per comparison: BY, the outcome for `model` (win, tie, loss, failed), flipped, value (1, 0, -1, nan).

    `rows` has BY, `place` of the model's answer and `verdict`. Raises ValueError where a comparison lacks an order.
    """
    rows = rows.assign(said=[_said(v, place) for v, place in zip(rows["verdict"], rows["place"])])
    both = rows.pivot(index=BY, columns="place", values="said").reindex(columns=["first", "second"])
    if both.isna().any(axis=None):
        raise ValueError("a comparison was judged in one order only")
    compared = both.loc[pd.MultiIndex.from_frame(rows[BY].drop_duplicates())].reset_index()
    first, second = compared["first"], compared["second"]
    failed = (first == "failed") | (second == "failed")
    compared["outcome"] = first.where(first == second, "tie").mask(failed, "failed")
    compared["flipped"] = ~failed & (first != second)
    compared["value"] = compared["outcome"].map(VALUES)
    return compared[[*BY, "outcome", "flipped", "value"]]


def _said(verdict: str, place: str) -> str:
    """A verdict, as the outcome for the answer that stood there."""
    if verdict not in ("A", "B"):
        return "tie" if verdict == "tie" else "failed"
    return "win" if (verdict == "A") == (place == "first") else "loss"


def summary(compared: pd.DataFrame, params: Params) -> pd.DataFrame:
    """One row per model and other: n, wins, ties, losses, flipped (of the ties), failed, and wins minus losses.

    `net` is a share of the comparisons that did not fail, with its bootstrap interval over questions.
    """
    rows = []
    for (model, other), part in compared.groupby(["model", "other"], sort=False):
        counts = part["outcome"].value_counts()
        row = {"model": model, "other": other, "n": len(part)}
        row |= {f"n_{name}": int(counts.get(name, 0)) for name in VALUES} | {"n_flipped": int(part["flipped"].sum())}
        values = part.groupby("question_id", sort=False)["value"].mean()
        rows.append(row | intervals.mean_columns("net", values, params))
    return pd.DataFrame(rows).drop(columns="net_n_failed", errors="ignore")  # `n_failed` is of comparisons
