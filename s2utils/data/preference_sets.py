"""Three sets that share no question: fine-tuning (SFT), reward modelling (RM) and prompts for RL.

A question with one surviving answer is for SFT; one whose answers differ in votes gives RM pairs, the better
voted answer chosen; a question without a surviving answer is a prompt for RL. Trap: the study moves one of
two equal answers to SFT although its question stays in RM, so its sets overlap; here the tie is dropped.
Source: the study's section on data.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter

import pandas as pd

from s2utils.data.corpus_filters import drop, kept

PAIRS = ["dataset", "post", "question", "chosen_id", "rejected_id", "chosen", "rejected", "margin"]
PROMPTS = ["dataset", "post", "question", "group"]


def assign(frame: pd.DataFrame) -> None:
    """Give every kept row its `set` ("sft", "rm"), in place; what fits neither is dropped with its reason."""
    frame["set"] = "sft"
    drop(frame, frame.index[frame.duplicated(["dataset", "id"])], "id seen before")
    left = kept(frame).assign(votes=lambda f: pd.to_numeric(f["score"]).astype(float))
    posts = left.groupby(["dataset", "post"], sort=False)
    several = posts["id"].transform("size") > 1
    differ = posts["votes"].transform("nunique") > 1  # votes that are missing count for nothing
    first = posts.cumcount() == 0
    frame.loc[left.index[several & differ], "set"] = "rm"
    drop(frame, left.index[several & differ & left["votes"].isna()], "no votes to rank by")
    drop(frame, left.index[several & ~differ & ~first], "equal votes: no pair, one answer stays")
    sft, rm = _by_set(frame)
    drop(frame, rm.index[rm["asked"].isin(sft["asked"])], "question is in the fine-tuning set")


def keep_apart(frame: pd.DataFrame) -> None:
    """Drop written questions that the reward-modelling set asks already, in place."""
    sft, rm = _by_set(frame)
    drop(frame, sft.index[sft["asked"].isin(rm["asked"])], "question is in another set")


def _by_set(frame: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Kept rows of the fine-tuning set and of the reward-modelling set, with their question in one case: `asked`."""
    left = kept(frame).assign(asked=lambda f: f["question"].str.casefold())
    return left[left["set"] == "sft"], left[left["set"] == "rm"]


def pairs(frame: pd.DataFrame, most: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(RM pairs, their count by fate): chosen has more votes than rejected, at most `most` pairs a question.

    The widest vote margins go first. Answers left without a pair are dropped in `frame`, in place.
    """
    rm = kept(frame)[lambda f: f["set"] == "rm"].sort_values(["score", "id"], ascending=[False, True], kind="stable")
    chosen, rejected, counts = [], [], {}
    for (dataset, _), rows in rm.groupby(["dataset", "post"], sort=False).indices.items():
        votes = rm["score"].to_numpy()[rows]
        ties = sum(n * (n - 1) // 2 for n in Counter(votes).values())
        both = len(rows) * (len(rows) - 1) // 2
        unequal = ((a, b) for a, b in itertools.combinations(range(len(rows)), 2) if votes[a] > votes[b])
        widest = heapq.nsmallest(most, unequal, key=lambda p: (votes[p[1]] - votes[p[0]], p))
        count = counts.setdefault(dataset, {"pairs": 0, "equal votes": 0, f"over {most} a question": 0, "kept": 0})
        for fate, n in zip(count, (both, ties, both - ties - len(widest), len(widest))):
            count[fate] += n
        chosen += [rows[a] for a, _ in widest]
        rejected += [rows[b] for _, b in widest]
    drop(frame, rm.index.delete([*chosen, *rejected]), f"beyond {most} pairs a question")
    better, worse = rm.iloc[chosen].reset_index(drop=True), rm.iloc[rejected].reset_index(drop=True)
    table = better[["dataset", "post", "question"]].assign(
        chosen_id=better["id"], rejected_id=worse["id"], chosen=better["answer"], rejected=worse["answer"],
        margin=(better["score"] - worse["score"]).astype("int64"), dropped="",
    )  # fmt: skip
    fates = [
        {"dataset": dataset, "reason": fate, "n": n} for dataset, count in counts.items() for fate, n in count.items()
    ]
    return table, pd.DataFrame(fates)


def prompts(frame: pd.DataFrame, asked: pd.DataFrame) -> pd.DataFrame:
    """RL prompts: the questions of `asked` (dataset, post, question, group) that no kept row of `frame` answers.

    A question that only repeats another one, in whatever case, is left out.
    """
    left, post = kept(frame), ["dataset", "post"]
    answered = pd.MultiIndex.from_frame(asked[post]).isin(pd.MultiIndex.from_frame(left[post]))
    rest = asked[~answered & ~asked["question"].str.casefold().isin(left["question"].str.casefold())]
    return rest[~rest["question"].str.casefold().duplicated()].assign(dropped="").reset_index(drop=True)
