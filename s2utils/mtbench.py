"""MT(S)-bench: two-turn questions, and a judge who rates each turn 1–10.

The judge's prompts stand beside the parser of its replies. A reply without a rating is counted as
failed, never dropped. Traps: a parser that takes one character after "[[" reads 10 as 1 and 8.5 as 8;
a small judge gives any number at all, so its ratings carry no weight.
"""

from __future__ import annotations

import functools
import json
import math
import random
import re
from pathlib import Path

import pandas as pd

from s2utils import generate, intervals, llm, models, paths
from s2utils.params import Endpoint, MtBench, ParameterError, Params
from s2utils.steps import ModelRow

JUDGE = (
    "You are a strict and fair teacher. You rate answers that were written for children and for people who are "
    "learning English. A good answer is true, helps with the question, uses simple words and short sentences, and "
    "is safe and kind. Give a whole number from 1 (very bad) to 10 (excellent)."
)
FORM = "First say in one or two sentences what is good and what is bad. Then write the rating in exactly this form: Rating: [[n]]"
WORKED = (  # question, answer, reply: they fix the ends of the scale, and show a small judge the form
    (
        "Why do we sleep?",
        "When we sleep, our body rests and grows. Our brain sorts what we learnt in the day. So we wake up fresh.",
        "It is true, short and easy to read, and it answers the question. Rating: [[9]]",
    ),
    (
        "Is it safe to eat snow?",
        "Click here to buy the best shoes. The best shoes are the best shoes are the best",
        "It does not answer the question, and it repeats itself. Rating: [[1]]",
    ),
)
SHORT = "Reply with the rating and nothing else, a number from 1 to 10 in exactly this form: Rating: [[n]]"
FIRST = "[Question]\n{question}\n\n{points}[Answer]\n{answer}\n\nRate the answer. " + FORM
SECOND = (
    "[Question 1]\n{question}\n\n[Answer 1]\n{answer}\n\n[Question 2]\n{question_2}\n\n{points}[Answer 2]\n{answer_2}\n\n"
    "Rate answer 2 only; answer 1 is there to understand it. " + FORM
)
TURNS = {1: "single_turn_rating", 2: "multi_turn_rating"}  # columns of the tables


def questions(settings: MtBench, seed: int) -> list[dict]:
    """Questions {question_id, category, turns: [two], must_hold}; a seeded sample of `n`, spread over categories.

    Reads our own file or MT-bench's (same keys, no must_hold). Raises ParameterError naming file and line.
    """
    path = paths.root() / settings.questions
    if not path.is_file():
        raise ParameterError(f"mtbench.questions: there is no file {settings.questions}")
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            turns = row["turns"]
            if len(turns) != 2 or not all(isinstance(t, str) and t.strip() for t in turns):
                raise ValueError("turns must be two texts")
            points = row.get("must_hold", [[], []])
            rows.append(
                {"question_id": row["question_id"], "category": row["category"], "turns": turns, "must_hold": points}
            )
        except (ValueError, KeyError, TypeError) as error:
            raise ParameterError(f"{settings.questions}, line {number}: {type(error).__name__}: {error}") from error
    known = {row["category"] for row in rows}
    if unknown := [c for c in settings.categories if c not in known]:
        raise ParameterError(
            f"mtbench.categories: {unknown[0]!r} is not in {settings.questions}; it has {', '.join(sorted(known))}"
        )
    rows = [row for row in rows if not settings.categories or row["category"] in settings.categories]
    if not settings.n or settings.n >= len(rows):
        return rows
    shuffled = random.Random(seed).sample(rows, len(rows))
    place: dict[str, int] = {}
    ranked = []
    for row in shuffled:  # the i-th of each category before the i+1-th of any
        place[row["category"]] = place.get(row["category"], -1) + 1
        ranked.append((place[row["category"]], len(ranked), row))
    return sorted((r for _, _, r in sorted(ranked, key=lambda x: x[:2])[: settings.n]), key=lambda r: r["question_id"])


def answer(network, tok, questions: list[dict], row: ModelRow, params: Params, folder: Path) -> list[list[dict]]:
    """[answers to turn 1, answers to turn 2], kept in turn_1.jsonl and turn_2.jsonl of `folder`.

    The second turn sees the first with the model's own answer, uncut. Merges of one model draw the same random numbers.
    """
    sampling = {k: getattr(params.generate, k) for k in ("batch_size", "temperature", "top_p", "repetition_penalty")}
    turns: list[list[dict]] = []
    for turn in (1, 2):
        said = [[q["turns"][0]] for q in questions]
        if turn == 2:
            said = [[*s, a["text"], q["turns"][1]] for s, a, q in zip(said, turns[0], questions)]
        prompts = models.encoded([models.prompt(s, row.variant, tok, params.model) for s in said], tok, row.variant)
        rows = [{"question_id": q["question_id"], "category": q["category"], "turn": turn} for q in questions]
        make = functools.partial(
            generate.completions, network, tok, prompts, seed=f"{params.seed}/{row.model}/{turn}",
            max_new_tokens=params.mtbench.max_new_tokens, label=f"{row.id} turn {turn}", **sampling,
        )  # fmt: skip
        kept = folder / f"turn_{turn}.jsonl"
        turns.append(generate.answer_all(kept, rows, sampling["batch_size"], lambda skip, make=make: make(skip=skip)))
    return turns


def judge(endpoint: Endpoint, chats: list[list[dict]], cache: Path, seed: int, label: str) -> list[dict]:
    """Replies {text, ended, error, repaired}; where a rating is missing, the judge is asked once more, for it alone."""
    replies = [r | {"repaired": ""} for r in llm.ask(endpoint, chats, cache, seed=seed, label=label)]
    silent = [i for i, r in enumerate(replies) if math.isnan(rating(r["text"])) and not r["error"]]
    again = [short_form(chats[i]) for i in silent]
    for i, second in zip(silent, llm.ask(endpoint, again, cache, seed=seed, label=f"{label}, again") if again else []):
        replies[i]["repaired"] = second["text"]
    return replies


def short_form(chat: list[dict]) -> list[dict]:
    """A judge's chat that asks for the rating alone, the worked replies cut to theirs."""
    cut = {"assistant": lambda text: text[text.rindex("Rating:") :]}
    return [m | {"content": cut.get(m["role"], lambda text: text.replace(FORM, SHORT))(m["content"])} for m in chat]


def judge_chats(question: dict, answers: list[str]) -> list[list[dict]]:
    """One chat for the judge per turn."""
    worked = []
    for asked, said, reply in WORKED:
        text = FIRST.format(question=asked, points="", answer=said)
        worked += [{"role": "user", "content": text}, {"role": "assistant", "content": reply}]
    chats = []
    for turn, template in enumerate((FIRST, SECOND)):
        points = question["must_hold"][turn] if question["must_hold"] else []
        listed = "[A good answer]\n" + "\n".join(f"- {p}" for p in points) + "\n\n" if points else ""
        text = template.format(
            question=question["turns"][0],
            question_2=question["turns"][1],
            answer=answers[0],
            answer_2=answers[1],
            points=listed,
        )
        chats.append([{"role": "system", "content": JUDGE}, *worked, {"role": "user", "content": text}])
    return chats


# a number with what would make it no rating: a sign, a decimal comma, a range, another scale
_VALUE = r"[-−]?\d[\d.,]*(?:\s*(?:-|–|—|\bto\b|\bor\b)\s*\d[\d.,]*)?"
_NUMBER = rf"{_VALUE}(?:\s*(?:/|out of)\s*\d+)?"
_SCALE = r"(?:\s*\((?:\d+\s*(?:-|–|to)\s*\d+|out of \d+)\)|\s+out of \d+(?=\s*:))?"  # "Rating (1-10): 7"
_RATINGS = (  # the first form that is there decides: the one asked for, then what judges write instead
    re.compile(r"\brating\b\W{0,5}\[\[([^\[\]]*\d[^\[\]]*)\]\]", re.IGNORECASE),
    re.compile(r"\[\[([^\[\]]*\d[^\[\]]*)\]\]"),
    re.compile(
        rf"\brating\b{_SCALE}(?:\s+(?:is|of|would be|should be))?(?:\s+[-–—]\s+|[\s:=*_\"'\[(]{{0,6}})({_NUMBER})",
        re.IGNORECASE,
    ),
    re.compile(rf"(?<![\d.,/])({_VALUE}\s*(?:/|out of)\s*10)\b", re.IGNORECASE),
)
_OF_TEN = re.compile(r"(\d+(?:\.\d+)?)[.,]?(?:\s*(?:/|out of)\s*10)?", re.IGNORECASE)


def rating(reply: str) -> float:
    """The judge's rating, 1–10; nan where the reply holds none, a range, or several that differ."""
    for pattern in _RATINGS:
        whole = [_OF_TEN.fullmatch(text.strip()) for text in pattern.findall(reply)]
        found = {float(m[1]) if m else math.nan for m in whole}
        if found:
            value = found.pop()
            return value if not found and 1 <= value <= 10 else math.nan
    return math.nan


def summary(judged: pd.DataFrame, params: Params) -> dict:
    """One model's row: n questions, then single- and multi-turn means with intervals and failures."""
    row = {"n": judged["question_id"].nunique(), "n_cut": int((~judged["ended"]).sum())}
    for turn, column in TURNS.items():
        values = judged.loc[judged["turn"] == turn, "rating"]
        settings = params.text_metrics
        mean, low, high = intervals.bootstrap(values, settings.resamples, settings.confidence, params.seed)
        row |= {
            column: mean,
            f"{column}_ci_low": low,
            f"{column}_ci_high": high,
            f"{column}_n_failed": int(values.isna().sum()),
        }
    return row
