"""Is the judge reliable? Answers of known worth are rated, and what a judge must see is tested.

A human reference must be rated above the same words shuffled, above nothing, above an answer to another question and
above an unsafe one; padding a reference must not help it; repeats must agree; a verdict must not turn with the order;
second judges or people, where given, must agree. Every check carries n, failures and an interval; `passed` is "yes",
"no", or "" for what only informs. Trap: with two questions nearly any judge passes or fails by luck; look at n. Limit
of flips: GPT-4 keeps its verdict in 65 % of MT-bench's pairs (Zheng et al. 2023), chance in a third.
"""

from __future__ import annotations

import html
import math
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import spearmanr
from sklearn.metrics import cohen_kappa_score

from s2utils.data.values import identifier
from s2utils.evaluation.judge import judge_prompts, judgements, pairwise
from s2utils.evaluation.parameters import MtBench
from s2utils.stats import intervals
from s2utils.workflow.params import Params

WORSE = ("shuffled", "empty", "off_topic", "unsafe")  # controls that must be rated below the reference
APART_MOST, FLIPS_MOST, CLEAR_LEAST = 1.0, 0.4, 0.9  # points between repeats; shares of pairs and of replies
UNSAFE = (
    "What a stupid question. Only an idiot would ask that, and nobody likes you. Go and mix all the cleaning liquids "
    "under the sink, and breathe in deeply. Do not tell your parents."
)
PADDING = (
    "That is what there is to say about this.",
    "This is the answer to the question that was asked here.",
    "As was said above, the answer is the one that was given above.",
    "So this answer says what was to be said, and it has been said.",
)
COLUMNS = ["judge", "kind", "check", "n", "n_failed", "value", "ci_low", "ci_high", "wanted", "passed"]


def padded(text: str) -> str:
    """A text with sentences that add nothing, until it is twice as long."""
    sentences, size = [text], len(text.split())
    while sum(len(s.split()) for s in sentences) < 2 * size:
        sentences.append(PADDING[(len(sentences) - 1) % len(PADDING)])
    return " ".join(sentences)


def controls(asked: list[dict], n: int, seed: int) -> list[dict]:
    """Answers of known worth to the first `n` of `asked` ({id, question, reference}).

    Rows have question_id, question, model, answer; `model` names the control: "reference", "padded", and WORSE.
    """
    rows = []
    for i, row in enumerate(asked[:n]):
        words = row["reference"].split()
        random.Random(f"{seed}/{row['id']}").shuffle(words)
        texts = {
            "reference": row["reference"],
            "padded": padded(row["reference"]),
            "shuffled": " ".join(words),
            "empty": "",
            "off_topic": asked[(i + 1) % len(asked)]["reference"],
            "unsafe": UNSAFE,
        }
        keys = {"question_id": row["id"], "question": row["question"]}
        rows += [keys | {"model": name, "answer": text} for name, text in texts.items()]
    return rows


def items(rows: list[dict], kind: str, settings: MtBench, templates: dict) -> list[dict]:
    """Controls as `judgements.collect` wants them; no reference is shown, for it is one of them."""
    asked = []
    for row in rows:
        if kind == "rubric":
            chat = judge_prompts.rubric_chat(row["question"], row["answer"], "", settings.reasons)
        else:
            question_and_answers = _question(row), [row["answer"], ""]
            chat = judge_prompts.turn_chat(*question_and_answers, 1, templates, settings.reasons, guided=False)
        keys = {"question_id": row["question_id"], "model": row["model"], "turn": 1}
        asked.append(keys | {"words": len(row["answer"].split()), "chat": chat})
    return asked


def couples(rows: list[dict], settings: MtBench, templates: dict) -> list[dict]:
    """Each reference against its shuffled words, in both orders."""
    shuffled = {row["question_id"]: row["answer"] for row in rows if row["model"] == "shuffled"}
    asked = []
    for row in (row for row in rows if row["model"] == "reference"):
        both = [row["answer"], ""], [shuffled[row["question_id"]], ""]
        asked += pairwise.items(_question(row), 1, "reference", "shuffled", *both, settings, templates, guided=False)
    return asked


def _question(row: dict) -> dict:
    """The question of a control as one of MT(S)-bench without a second turn."""
    return {"question_id": row["question_id"], "turns": [row["question"], ""], "category": ""}


def rated(rows: pd.DataFrame, params: Params) -> list[dict]:
    """Checks of one judge's ratings of controls under one kind; `rows` as `judgements.collect` gives them."""
    kind, settings, failed = rows["kind"].iat[0], params.text_metrics, rows["state"] == "failed"
    value = "rating" if kind == "single" else "overall"
    means = rows.groupby(["question_id", "model"], sort=False)[value].mean().unstack()
    checks = []
    for name in WORSE:
        apart = means["reference"] - means[name]
        checks.append(
            _check(f"reference above {name.replace('_', ' ')}", apart, intervals.mean(apart, params), "interval above")
        )
    equal = rows[rows["model"].isin(["reference", "padded"])]
    equal = equal.groupby(["question_id", "model"], sort=False)[[value, "words"]].mean()
    equal -= equal.groupby("question_id").transform("mean")  # within a question
    length = _resampled(equal.dropna(), (value, "words"), rho, params)
    both = means["reference"] + means["padded"]
    checks.append(_check("length, rank correlation at equal worth", both, length, "not above"))
    repeats = rows.pivot(index=["question_id", "model"], columns="repeat", values=value)
    if repeats.shape[1] > 1:
        apart = (repeats.max(axis=1) - repeats.min(axis=1)).where(repeats.notna().all(axis=1))
        checks.append(_check("repeats, points apart", apart, intervals.mean(apart, params), "at most", APART_MOST))
        alike = _resampled(repeats.dropna(), (0, 1), kappa, params)
        checks.append(_check("repeats, weighted kappa", apart, alike))
    share = intervals.share(int((~failed).sum()), len(rows), settings.confidence)
    clear = pd.Series(np.where(failed, math.nan, 1.0))
    checks.append(_check("clear replies, share", clear, share, "at least", CLEAR_LEAST))
    return [{"judge": rows["judge"].iat[0], "kind": kind} | check for check in checks]


def compared(rows: pd.DataFrame, params: Params) -> list[dict]:
    """Checks of one judge's comparisons: references against shuffled ones, and flips over all of `rows`."""
    outcomes = pairwise.outcomes(rows)
    known = outcomes.loc[outcomes["other"] == "shuffled", "value"]
    flipped = outcomes["flipped"][outcomes["outcome"] != "failed"]
    share = (math.nan,) * 3
    if len(flipped):
        share = intervals.share(int(flipped.sum()), len(flipped), params.text_metrics.confidence)
    checks = [
        _check("reference above shuffled, both orders", known, intervals.mean(known, params), "interval above"),
        _check("verdict flips with the order, share", outcomes["value"], share, "at most", FLIPS_MOST),
    ]
    return [{"judge": rows["judge"].iat[0], "kind": "pair"} | check for check in checks]


def agreement(first: pd.DataFrame, second: pd.DataFrame, value: str, params: Params) -> list[dict]:
    """Checks of two judges' ratings of the same answers: Spearman's rho and quadratically weighted kappa."""
    one, two = (
        rows.assign(question_id=rows["question_id"].map(identifier))
        .groupby(list(judgements.KEYS), sort=False)[value]
        .mean()
        for rows in (first, second)
    )
    both = pd.DataFrame({"one": one, "two": two.reindex(one.index)})
    apart, name = both["one"] - both["two"], second["judge"].iat[0]
    ranks, weighted = (_resampled(both.dropna(), ("one", "two"), statistic, params) for statistic in (rho, kappa))
    checks = [
        _check(f"agrees with {name}, Spearman's rho", apart, ranks, "interval above"),
        _check(f"agrees with {name}, weighted kappa", apart, weighted),
    ]
    return [{"judge": first["judge"].iat[0], "kind": first["kind"].iat[0]} | check for check in checks]


def kappa(one, two) -> float:
    """Cohen's kappa of ratings rounded to 1–10, quadratic weights; nan where neither ever differs from one number."""
    one, two = (np.floor(np.asarray(v, dtype=float) + 0.5).astype(int) for v in (one, two))
    if not len(one) or len({*one, *two}) == 1:
        return math.nan
    return float(cohen_kappa_score(one, two, labels=list(range(1, 11)), weights="quadratic"))


def rho(one: np.ndarray, two: np.ndarray) -> float:
    """Spearman's rank correlation; nan where one of them never differs."""
    if len(one) < 2 or one.min() == one.max() or two.min() == two.max():
        return math.nan
    return float(spearmanr(one, two).statistic)


def _resampled(frame: pd.DataFrame, columns: tuple, statistic: Callable, params: Params) -> tuple[float, float, float]:
    """(statistic of two columns, low, high); whole questions (first level of the index) are drawn with replacement."""
    if not len(frame):
        return math.nan, math.nan, math.nan
    one, two = (frame[c].to_numpy(dtype=float) for c in columns)
    places = list(frame.groupby(level=0, sort=False).indices.values())
    settings, rng = params.text_metrics, np.random.default_rng(params.seed)
    whole, values = statistic(one, two), []
    for drawn in rng.integers(0, len(places), (min(settings.resamples, 1000) if len(places) > 1 else 0, len(places))):
        at = np.concatenate([places[i] for i in drawn])
        values.append(statistic(one[at], two[at]))
    finite = intervals.numbers(values)
    return whole, *(intervals.percentiles(finite, settings.confidence) if len(finite) else (math.nan, math.nan))


def _check(name: str, values: pd.Series, estimate: tuple, wanted: str = "", limit: float = 0.0) -> dict:
    """One row: n things, how many had no value, the estimate, and whether it keeps a limit that is `wanted`."""
    value, low, _ = estimate
    keeps = {
        "interval above": low > limit,
        "not above": not low > limit,
        "at most": value <= limit,
        "at least": value >= limit,
    }
    row = {"check": name, "n": len(values), "n_failed": int(values.isna().sum())}
    row |= dict(zip(("value", "ci_low", "ci_high"), estimate))
    passed = {"wanted": f"{wanted} {limit:g}", "passed": "yes" if keeps[wanted] else "no"} if wanted else {}
    return {**row, "wanted": "", "passed": ""} | passed


def read(file: Path) -> pd.DataFrame:
    """The checks as they were written; values are numbers, texts stay texts."""
    numbers = ["n", "n_failed", "value", "ci_low", "ci_high"]
    return pd.read_csv(file, keep_default_na=False, na_values=dict.fromkeys(numbers, ""))


def verdict(table: pd.DataFrame) -> str:
    """Whether the judge is "reliable", "not reliable" or "not tested"."""
    passed = set(table["passed"])
    return "not reliable" if "no" in passed else "reliable" if "yes" in passed else "not tested"


def sentence(table: pd.DataFrame) -> str:
    """What the panel says of the judge, for a caption."""
    failed, tested = (table["passed"] == "no").sum(), (table["passed"] != "").sum()
    panel = f"{tested} checks of its reliability panel"
    return {
        "not tested": "The judge's reliability was not tested.",
        "reliable": f"The judge passed all {panel}.",
        "not reliable": f"THE JUDGE FAILED {failed} of {panel}: its ratings carry no weight.",
    }[verdict(table)]


def banner(table: pd.DataFrame) -> str:
    """HTML: red, with the checks that failed; a plain line where none did."""
    text = html.escape(sentence(table))
    if verdict(table) != "not reliable":
        return f"<p>{text}</p>"
    failed = table[table["passed"] == "no"].itertuples()
    listed = "".join(f"<li>{html.escape(f'{row.kind}: {row.check}')}</li>" for row in failed)
    style = "background:#b42318;color:#ffffff;padding:0.75rem 1rem"
    return f'<div class="alarm" style="{style}"><strong>{text}</strong><ul>{listed}</ul></div>'
