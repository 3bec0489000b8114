"""The study's claims, as the comparisons that would show them.

A comparison is a sum of weighted terms (model, metric, data set) that the claim says is above 0, or within a margin of
it. Margins ("close", "very little") are ours, for the study names none. Models and data sets are named as the study
names them; `claims` finds what stands for them. Source: the study's draft, sections on its results; 13: its revision.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

TUNED = ("ELI5", "wiki", "ELI5-wiki")
SETS = ("ELI5", "wiki", "full")

Term = tuple[
    float, str, str, str
]  # weight, model ("base", "chat", a train set; "@mode" for one merge), metric, data set


@dataclass(frozen=True)
class Claim:
    """One claim; every comparison is a sum of terms that the claim says is above 0, or within ±`margin`."""

    id: str
    table: str
    statement: str
    comparisons: tuple[tuple[Term, ...], ...]
    size: str = "7b"  # of the published model; "13b" is measured on a model of that size only
    margin: float = 0.0
    mode: str = "dequantized"  # the merge that the study shows


def over(best: str, others: tuple[str, ...], metric: str, datasets: tuple[str, ...] = ("",)) -> tuple:
    """Comparisons: `best` above each of `others` on each data set."""
    return tuple(((1, best, metric, d), (-1, other, metric, d)) for d in datasets for other in others)


def _claims() -> list[Claim]:
    every = ("base", "chat", *TUNED)
    grade, ease = "flesch_kincaid_grade", "flesch_reading_ease"
    tasks = ("arc_acc_norm", "hellaswag_acc_norm", "mmlu_acc")
    two = (("ELI5", 1), ("ELI5-wiki", -1))
    mainly = (*((w, m, "truthfulqa_mc2", "") for m, w in two), *((-w, m, t, "") for t in tasks for m, w in two))
    pairs = itertools.combinations(("base", *TUNED), 2)
    alike = tuple(c for one, other in pairs for c in over(one, (other,), "bertscore_f1", SETS))
    harder = {("wiki", "ELI5"), ("ELI5-wiki", "wiki")}  # trained on, measured on
    easier = tuple(
        ((1, "base", grade, d), (-1, t, grade, d)) for d in SETS for t in TUNED if (t, d) not in harder
    )  # fmt: skip

    def rest(*best: str) -> tuple[str, ...]:
        return tuple(m for m in every if m not in best)

    def merges(train_set: str, better: str, worse: str) -> tuple:
        return over(f"{train_set}@{better}", (f"{train_set}@{worse}",), "single_turn_rating")

    modes = [f"{t}@{m}" for t in TUNED for m in ("bf16", "dequantized")]
    weak = tuple(((1, m, "single_turn_rating", ""), (-1, m, "multi_turn_rating", "")) for m in modes)
    many = {"size": "13b", "mode": "bf16"}
    board, bert, turns = "leaderboard", "bertscore", "mtbench"
    sets = "judged by GPT-4 (revision), training on both sets is best"
    worse = "judged by GPT-4 (revision), ELI5 alone is worse than the base"
    parts = ("base", "ELI5", "wiki", "ELI5-Cleaned")
    return [
        Claim("1a", board, "7B: chat has the best average", over("chat", rest("chat"), "average")),
        Claim("1b", board, "7B: ELI5-wiki has the second best average",
              over("ELI5-wiki", rest("chat", "ELI5-wiki"), "average")),
        Claim("2a", board, "7B: chat is below the base on ARC", over("base", ("chat",), "arc_acc_norm")),
        Claim("2b", board, "7B: wiki is best on ARC", over("wiki", rest("wiki"), "arc_acc_norm")),
        Claim("3", board, "7B: ELI5-wiki beats chat on HellaSwag (likely too little to be significant, the study says)",
              over("ELI5-wiki", ("chat",), "hellaswag_acc_norm")),
        Claim("4a", board, "7B: chat is clearly best on MMLU", over("chat", rest("chat"), "mmlu_acc")),
        Claim("4b", board, "7B: chat is clearly best on TruthfulQA", over("chat", rest("chat"), "truthfulqa_mc2")),
        Claim("5a", board, "13B: ELI5 has the best average", over("ELI5", rest("ELI5"), "average"), **many),
        Claim("5b", board, "13B: chat and ELI5-wiki are close to it (within 1.5 points)",
              over("ELI5", ("chat", "ELI5-wiki"), "average"), margin=1.5, **many),
        Claim("6a", board, "13B: ELI5 leads ELI5-wiki more by TruthfulQA than by the other tasks together",
              (mainly,), **many),
        Claim("6b", board, "13B: chat is above ELI5 on TruthfulQA", over("chat", ("ELI5",), "truthfulqa_mc2"), **many),
        Claim("6c", board, "13B: the lead might vanish with another learning rate or other initialisations", (),
              **many),
        Claim("7a", "rouge", "The base often has the best ROUGE: ROUGE-Lsum on ELI5",
              over("base", TUNED, "rouge_lsum_f1", ("ELI5",))),
        Claim("7b", "rouge", "The base often has the best ROUGE: ROUGE-Lsum on wiki",
              over("base", TUNED, "rouge_lsum_f1", ("wiki",))),
        Claim("7c", "rouge", "The base often has the best ROUGE: ROUGE-Lsum on full",
              over("base", TUNED, "rouge_lsum_f1", ("full",))),
        Claim("7d", "rouge", "ELI5 does well on wiki: it has the best ROUGE-L",
              over("ELI5", ("base", "wiki", "ELI5-wiki"), "rouge_l_f1", ("wiki",))),
        Claim("8", bert, "BERTScores differ by very little (F1 of any two models within 0.01)", alike, margin=0.01),
        Claim("9a", "flesch", "Fine-tunes are easier to read: each has a higher reading ease than the base, everywhere",
              tuple(c for t in TUNED for c in over(t, ("base",), ease, SETS))),
        Claim("9b", "flesch", "Fine-tunes are easier to read: each has a lower grade, with two exceptions", easier),
        Claim("9c", "flesch", "First exception: wiki has a higher grade than the base on ELI5",
              over("wiki", ("base",), grade, ("ELI5",))),
        Claim("9d", "flesch", "Second exception: ELI5-wiki has a higher grade than the base on wiki",
              over("ELI5-wiki", ("base",), grade, ("wiki",))),
        Claim("10a", "flesch", "ELI5 gives the simplest text: the highest reading ease on every data set",
              over("ELI5", ("base", "wiki", "ELI5-wiki"), ease, SETS)),
        Claim("10b", "flesch", "ELI5 gives the simplest text: the lowest grade on every data set",
              tuple(c for m in ("base", "wiki", "ELI5-wiki") for c in over(m, ("ELI5",), grade, SETS))),
        Claim("11a", turns, "Every fine-tune, under either merge, is weaker in the second turn than in the first",
              weak),
        Claim("11b", turns, "Every fine-tune, under either merge, is weaker than chat in the second turn",
              over("chat", tuple(modes), "multi_turn_rating")),
        Claim("12a", turns, "Neither merge is reliably better: for ELI5-wiki the simple one is (first turn)",
              merges("ELI5-wiki", "bf16", "dequantized")),
        Claim("12b", turns, "Neither merge is reliably better: for wiki the careful one is (first turn)",
              merges("wiki", "dequantized", "bf16")),
        Claim("12c", turns, "Neither merge is reliably better: for ELI5 the careful one is (first turn)",
              merges("ELI5", "dequantized", "bf16")),
        Claim("13a", "judge", f"7B: {sets}", over("ELI5-Cleaned-wiki", parts, "judge_rating")),
        Claim("13b", "judge", f"7B: {worse}", over("base", ("ELI5",), "judge_rating")),
        Claim("13c", "judge", f"13B: {sets}", over("ELI5-wiki", parts, "judge_rating"), size="13b"),
        Claim("13d", "judge", f"13B: {worse}", over("base", ("ELI5",), "judge_rating"), size="13b"),
    ]  # fmt: skip


CLAIMS = _claims()
