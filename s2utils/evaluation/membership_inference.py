"""Did the base model see the evaluation data? Two tests from the literature, on its log-probabilities alone.

Min-K% Prob: the mean log-probability of a text's least likely tokens. A text that was trained on has few surprises; AUC
is the share of pairs (evaluation text, control) in which the evaluation text is the likelier, 0.5 where nothing tells
them apart. Order: log-probability a token of a text in its own sentence order minus that of shuffled twins, in nats.
Coherent text is likelier in its own order anyway, so the same difference of the controls is taken off. Controls were
written for this project (`membership.control`), after the base model was trained. Trap: they are of the data's length,
not of its genre, so a difference may be one of genre; and nothing found is no proof that nothing was seen. Sources: Shi
et al. 2024 (Min-K% Prob); Oren et al. 2024 (order); Duan et al. 2024 (how weak such tests are).

    python -m s2utils make membership cpu
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable

import numpy as np
import pandas as pd
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from s2utils.data import mtbench_questions, splits
from s2utils.models import likelihood, loading
from s2utils.stats import intervals
from s2utils.workflow import artefacts
from s2utils.workflow.notebook import Run
from s2utils.workflow.params import ParameterError, Params, shown

EVALUATION, CONTROL = "evaluation", "control"
QUESTION, REFERENCE = "question", "reference"
SAYS = "Says that "  # in `must_hold`: a statement that can stand for itself


def texts(data, tok: PreTrainedTokenizerBase, params: Params) -> pd.DataFrame:
    """One row per text, evaluation texts and as many controls: dataset, kind, role, id, text, n_tokens.

    Of each source the sampled validation questions, unless a model wrote them, and their references; `data` is the
    folder of 02. Each is paired with the control nearest to it in tokens; those beyond the number of controls are left
    out.
    """
    rows, union = [], params.data.union
    for name, source in params.data.sources.items():
        sampled = splits.sample(data, "validation", name, union, params.membership.n, params.generate.sample_seed)
        for kind, column in ((QUESTION, "question"), (REFERENCE, "answer")):
            if kind == REFERENCE or source.kind != "articles":
                asked = list(zip(sampled["id"], sampled[column]))
                rows += [{"dataset": name, "kind": kind} | row for row in paired(asked, controls(kind, params), tok)]
    return pd.DataFrame(rows, columns=["dataset", "kind", "role", "id", "text", "n_tokens"])


def controls(kind: str, params: Params) -> list[tuple[str, str]]:
    """(id, text) of every control: of questions each turn; of references what a good answer says, if two sentences."""
    controls, file = [], params.membership.control
    for number, row in mtbench_questions.lines(file, "membership.control"):
        points = row.get("must_hold") or []
        if not (row.get("turns") and mtbench_questions.are(row["turns"], str, None)):
            raise ParameterError(f"{file}, line {number}: a control needs 'turns', a list of questions")
        if not (isinstance(points, list) and all(mtbench_questions.are(of_turn, str, None) for of_turn in points)):
            raise ParameterError(f"{file}, line {number}: 'must_hold' must be lists of texts, not {shown(points)}")
        facts = [line.removeprefix(SAYS) for of_turn in points for line in of_turn if line.startswith(SAYS)]
        passage = " ".join(f"{fact[:1].upper()}{fact[1:].rstrip('.')}." for fact in facts)
        texts = row["turns"] if kind == QUESTION else [passage] if len(facts) > 1 else []
        controls += [(str(row.get("question_id", number)), text) for text in texts]
    return controls


def paired(seen: list[tuple[str, str]], unseen: list[tuple[str, str]], tok: PreTrainedTokenizerBase) -> list[dict]:
    """Two rows (role, id, text, n_tokens) for each (id, text) of `seen`: it and the nearest of `unseen`.

    Each of `unseen` is taken once. The longer of the two loses its last sentences, as many as bring it nearest to the
    other, but never all but one.
    """

    def size(text: str) -> int:
        return len(tok(text, split_special_tokens=True)["input_ids"])

    left, rows = {place: size(text) for place, (_, text) in enumerate(unseen)}, []
    for name, text in seen[: len(unseen)]:
        near = min(left, key=lambda place: (abs(left[place] - size(text)), place))
        shorter = min(left.pop(near), size(text))
        for role, identity, whole in ((EVALUATION, name, text), (CONTROL, *unseen[near])):
            parts = sentences(whole)
            beginnings = [" ".join(parts[:end]) for end in range(2, len(parts))] + [whole]
            kept = min(beginnings, key=lambda t: abs(size(t) - shorter))
            rows.append({"role": role, "id": identity, "text": kept, "n_tokens": size(kept)})
    return rows


def sentences(text: str) -> list[str]:
    """A text cut after full stops, question and exclamation marks."""
    return re.split(r"(?<=[.!?])\s+", text.strip())


def twins(text: str, count: int, seed: str) -> list[str]:
    """Up to `count` different orders of a text's sentences, none its own; [] for a single sentence."""
    parts = sentences(text)
    orders = math.factorial(min(len(parts), 9)) - 1
    chance, found, own = random.Random(seed), [], " ".join(parts)
    for _ in range(50 * count):
        turned = " ".join(chance.sample(parts, len(parts)))
        if turned != own and turned not in found:
            found.append(turned)
        if len(found) == min(count, orders):
            break
    return found


def log_probs(network: PreTrainedModel, tok: PreTrainedTokenizerBase, texts: list[str]) -> list[np.ndarray]:
    """Of each text the log-probability of every token given those before it, in nats; the very first token has none.

    The softmax is taken in float32.
    """
    ids = [tok(text, split_special_tokens=True)["input_ids"] for text in texts]  # `</s>` in a text is no end
    whole = likelihood.Windows(max(map(len, ids), default=1) or 1, 0)
    first, rest = [row[0] if row else 0 for row in ids], [row[1:] for row in ids]
    return [-losses for losses in likelihood.losses(network, rest, first, whole, progress="membership")]


def min_k(values: np.ndarray, share: float) -> float:
    """Min-K% Prob: mean of the `share` least likely tokens, one at least; NaN without any."""
    return float(np.sort(values)[: max(1, int(share * len(values)))].mean()) if len(values) else math.nan


def score(frame: pd.DataFrame, network: PreTrainedModel, tok: PreTrainedTokenizerBase, params: Params) -> pd.DataFrame:
    """`frame` (as `texts`) with min_k, and of references order: own minus shuffled, NaN without a twin."""
    settings = params.membership
    kin = [
        twins(row.text, settings.shuffles, f"{params.seed}/{row.dataset}/{row.id}") if row.kind == REFERENCE else []
        for row in frame.itertuples()
    ]
    flat = [text for text, others in zip(frame["text"], kin) for text in (text, *others)]
    values, start, rows = log_probs(network, tok, flat), 0, []
    for others in kin:
        own, turned = values[start], [v.mean() for v in values[start + 1 : start + 1 + len(others)]]
        apart = own.mean() - np.mean(turned) if turned else math.nan
        rows.append({"min_k": min_k(own, settings.min_k), "order": float(apart)})
        start += 1 + len(others)
    return frame.join(pd.DataFrame(rows, index=frame.index))


def auc(seen, unseen, resamples: int, confidence: float, seed: int) -> tuple[float, float, float]:
    """(AUC, low, high): the share of pairs in which the first is larger, ties half; both sides are resampled."""
    seen, unseen = map(intervals.numbers, (seen, unseen))
    wins = (seen[:, None] > unseen) + 0.5 * (seen[:, None] == unseen)

    def drawn(one: np.ndarray, other: np.ndarray) -> np.ndarray:  # sums of shares may pass 1 in the last digit
        return ((one / len(seen)) @ wins * (other / len(unseen))).sum(axis=1).round(12)

    return _with_interval(lambda: wins.mean(), drawn, seen, unseen, resamples, confidence, seed)


def apart(seen, unseen, resamples: int, confidence: float, seed: int) -> tuple[float, float, float]:
    """(difference of two means, low, high); each side is resampled for itself. NaNs left out."""
    seen, unseen = map(intervals.numbers, (seen, unseen))

    def drawn(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        return one @ seen / len(seen) - other @ unseen / len(unseen)

    return _with_interval(lambda: seen.mean() - unseen.mean(), drawn, seen, unseen, resamples, confidence, seed)


def _with_interval(value: Callable, drawn: Callable, seen, unseen, resamples, confidence, seed) -> tuple:
    """(value, low, high); `drawn` takes how often each value of a side was drawn, (resamples, n) and (resamples, m)."""
    if not len(seen) or not len(unseen):
        return math.nan, math.nan, math.nan
    if min(len(seen), len(unseen)) == 1:
        return float(value()), math.nan, math.nan
    rng = np.random.default_rng(seed)
    counts = [rng.multinomial(n, [1 / n] * n, size=resamples) for n in (len(seen), len(unseen))]
    return float(value()), *intervals.percentiles(drawn(*counts), confidence)


def summary(scored: pd.DataFrame, params: Params) -> pd.DataFrame:
    """One row per data set, kind and test: n, n_failed and median tokens of both sides, value, interval, null, verdict.

    Only "above" speaks for a model that saw the texts; "below" says that the controls are the easier texts.

    Tests: `min_k` of questions and of references, an AUC (null 0.5) against the controls; of references `order` and
    `order_control`, in nats a token, and `order_apart`, the one minus the other (null 0). The first two have no null: a
    model that never saw a text prefers its order too.
    """
    settings, rows = params.text_metrics, []
    ways = (settings.resamples, settings.confidence, params.seed)
    for (dataset, kind), part in scored.groupby(["dataset", "kind"], sort=False):
        seen, unseen = (part[part["role"] == role] for role in (EVALUATION, CONTROL))
        tests = {"min_k": (auc(seen["min_k"], unseen["min_k"], *ways), 0.5)}
        if kind == REFERENCE:
            tests["order"] = (intervals.mean(seen["order"], params), math.nan)
            tests["order_control"] = (intervals.mean(unseen["order"], params), math.nan)
            tests["order_apart"] = (apart(seen["order"], unseen["order"], *ways), 0.0)
        for test, ((value, low, high), null) in tests.items():
            column = "min_k" if test == "min_k" else "order"
            row = {"dataset": dataset, "texts": kind, "test": test}
            for end, side in (("", seen), ("_control", unseen)):
                row |= {f"n{end}": len(side), f"n{end}_failed": int(side[column].isna().sum())}
                row[f"tokens{end}"] = side["n_tokens"].median()
            verdict = "above" if low > null else "below" if high < null else "" if math.isnan(null) else "can't tell"
            rows.append(row | {"value": value, "ci_low": low, "ci_high": high, "null": null, "verdict": verdict})
    return pd.DataFrame(rows)


LIMITS = (
    "Controls were written for this project, so no model has seen them; they are matched in length, not in genre, and "
    "a difference may be one of genre. Only values above speak for leakage. Questions that a model wrote here are left "
    "out; paraphrased twins would need a writer and are not made. Nothing found is no proof that nothing was seen: "
    "such tests find little in a model that read a text once among many."
)


def make(run: Run) -> pd.DataFrame:
    """Score the texts, unless that is done; returns them, one row per text."""
    tested, p = run.artefact(step="membership"), run.params
    file = tested.folder / "texts.parquet"
    if not tested.ready:
        tok = loading.tokenizer(p.model.base)
        frame = texts(run.require("data").folder, tok, p)
        with tested.making(model=p.model.name):
            scored = score(frame, loading.full(p.model.base, p.model.dtype, p.runtime.device), tok, p)
            with artefacts.replacing(file, "wb") as opened:
                scored.to_parquet(opened, index=False)
    return pd.read_parquet(file)
