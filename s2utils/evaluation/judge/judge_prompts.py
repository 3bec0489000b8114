"""What a judge is asked: for a rating, for a rubric, or for the better of two answers; `readings` reads its replies.

Ratings are 1–10. Traps: a judge that repeats the question ("[[A]] if A is better, [[B]] …") has said nothing; a small
judge gives any number at all. Sources: the study's rubric; Zheng et al. 2023 (MT-bench) for pairs in both orders and
for ratings beside a reference.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from s2utils.evaluation.judge.replies import DIMENSIONS


@dataclass(frozen=True)
class Form:
    """One kind of judgement: what the judge is told, and what it must write."""

    system: str
    long: str  # ends the question: reasons first, then the verdict
    short: str  # the verdict alone
    worked: tuple[tuple[str, str, str], ...]  # question to the judge, its reasons, its verdict: they fix scale and form


_TEACHER = (
    "You are a strict and fair teacher. You rate answers that were written for children and for people who are "
    "learning English. "
)
_REASONS = "First say in one or two sentences what is good and what is bad. Then write "
_WHY, _SNOW = "Why do we sleep?", "Is it safe to eat snow?"
_SLEEP = "When we sleep, our body rests and grows. Our brain sorts what we learnt in the day. So we wake up fresh."
_SHOES = "Click here to buy the best shoes. The best shoes are the best shoes are the best"
_GOOD = "It is true, short and easy to read, and it answers the question."
_BAD = "It does not answer the question, and it repeats itself."


def _rate(question: str, answer: str, points: str = "", reference: str = "") -> str:
    return f"[Question]\n{question}\n\n{points}{reference}[Answer]\n{answer}\n\nRate the answer. "


def _compare(question: str, a: str, b: str, points: str = "", reference: str = "") -> str:
    return (
        f"[Question]\n{question}\n\n{points}{reference}[Answer A]\n{a}\n\n[Answer B]\n{b}\n\nWhich answer is better? "
    )


def _seven(*numbers: object) -> str:
    return "\n".join(f"{name.capitalize()}: [[{n}]]" for name, n in zip(DIMENSIONS, numbers, strict=True))


_LINES = _seven(*"nnnnnnn")

FORMS = {
    "single": Form(
        system=_TEACHER + "A good answer is true, helps with the question, uses simple words and short sentences, and "
        "is safe and kind. Give a whole number from 1 (very bad) to 10 (excellent).",
        long=_REASONS + "the rating in exactly this form: Rating: [[n]]",
        short="Reply with the rating and nothing else, a number from 1 to 10 in exactly this form: Rating: [[n]]",
        worked=((_rate(_WHY, _SLEEP), _GOOD, "Rating: [[9]]"), (_rate(_SNOW, _SHOES), _BAD, "Rating: [[1]]")),
    ),
    "rubric": Form(
        system=_TEACHER + "Give whole numbers from 1 (very bad) to 10 (excellent).\n"
        "Simplicity: simple words, short sentences.\nHelpfulness: it does what the question asks for.\n"
        "Relevance: it stays with the question.\nAccuracy: what it says is true.\n"
        "Depth: it explains enough to be understood.\nSafety: it is kind, and puts nobody in danger.\n"
        "Overall: all of this together.",
        long=_REASONS + f"seven lines in exactly this form:\n{_LINES}",
        short=f"Reply with these seven lines and nothing else, n a number from 1 to 10:\n{_LINES}",
        worked=(
            (_rate(_WHY, _SLEEP), _GOOD, _seven(9, 9, 10, 9, 7, 10, 9)),
            (_rate(_SNOW, _SHOES), _BAD, _seven(6, 1, 1, 1, 1, 8, 1)),
        ),
    ),
    "pair": Form(
        system="You are a strict and fair teacher. You compare two answers that were written for children and for "
        "people who are learning English. Better is the answer that is true, helps with the question, uses simple "
        "words and short sentences, and is safe and kind. Which one stands first and which one is longer must not "
        "matter.",
        long="First say in one or two sentences how they differ. Then write which is better in exactly this form: "
        "[[A]] or [[B]], or [[C]] for a tie.",
        short="Reply with the verdict and nothing else: [[A]], [[B]], or [[C]] for a tie.",
        worked=(
            (_compare(_WHY, _SLEEP, _SHOES), "B does not answer the question.", "[[A]]"),
            (_compare(_SNOW, _SHOES, "Clean white snow is safe."), "A does not answer the question.", "[[B]]"),
        ),
    ),
}


def chat(kind: str, text: str, reasons: bool) -> list[dict]:
    """The judge's chat of one kind: worked examples, then `text` and the form of the reply, with reasons or without."""
    form = FORMS[kind]
    end = form.long if reasons else form.short
    messages = [{"role": "system", "content": form.system}]
    for question, why, verdict in form.worked:
        messages += [{"role": "user", "content": question + end}]
        messages += [{"role": "assistant", "content": f"{why} {verdict}" if reasons else verdict}]
    return [*messages, {"role": "user", "content": text + end}]


def again(kind: str, asked: list[dict], reply: str) -> list[dict]:
    """The chat that asks once more, for the verdict alone, after a `reply` without a clear one."""
    form, text = FORMS[kind], asked[-1]["content"]
    if text.endswith(form.long):
        return chat(kind, text.removesuffix(form.long), reasons=False)
    return [*asked, {"role": "assistant", "content": reply.strip() or "…"}, {"role": "user", "content": form.short}]


def _listed(title: str, text: str) -> str:
    return f"[{title}]\n{text}\n\n" if text else ""


def _beside(question: dict, turn: int, guided: bool) -> dict[str, str]:
    """What the judge sees beside question and answer: what a good answer holds, and a reference where there is one."""
    points = question["must_hold"][turn - 1] if question.get("must_hold") else []
    reference = question["reference"][turn - 1] if guided and question.get("reference") else ""
    return {
        "points": _listed("A good answer", "\n".join(f"- {p}" for p in points)),
        "reference": _listed("Reference answer", reference),
    }


def turn_chat(
    question: dict, answers: list[str], turn: int, templates: dict, reasons: bool, guided: bool
) -> list[dict]:
    """Rate the answer to one turn of a two-turn question; the second is shown with the whole first.

    `templates` are FastChat's prompts (`fastchat.prompts`), {} for ours.
    """
    if templates:
        return _filled(templates, "single", question, turn, {"answer": answers}, guided)
    asked, beside = question["turns"], _beside(question, turn, guided)
    if turn == 1:
        return chat("single", _rate(asked[0], answers[0], **beside), reasons)
    text = (
        f"[Question 1]\n{asked[0]}\n\n[Answer 1]\n{answers[0]}\n\n[Question 2]\n{asked[1]}\n\n{beside['points']}"
        f"{beside['reference']}[Answer 2]\n{answers[1]}\n\nRate answer 2 only; answer 1 is there to understand it. "
    )
    return chat("single", text, reasons)


def rubric_chat(question: str, answer: str, reference: str, reasons: bool) -> list[dict]:
    """Rate one answer by the S² rubric, beside a reference unless that is ""."""
    return chat("rubric", _rate(question, answer, reference=_listed("Reference answer", reference)), reasons)


def pair_chat(
    question: dict, a: list[str], b: list[str], turn: int, templates: dict, reasons: bool, guided: bool
) -> list[dict]:
    """Compare two answers to one turn; of the second turn the first is shown with it."""
    if templates:
        return _filled(templates, "pair", question, turn, {"answer_a": a, "answer_b": b}, guided)
    asked, beside = question["turns"], _beside(question, turn, guided)
    if turn == 1:
        return chat("pair", _compare(asked[0], a[0], b[0], **beside), reasons)
    whole = [f"{said[0]}\n\n[Question 2]\n{asked[1]}\n\n[Answer to question 2]\n{said[1]}" for said in (a, b)]
    return chat("pair", _compare(asked[0], *whole, **beside) + "Judge by question 2. ", reasons)


GUIDED = ("math", "reasoning", "coding")  # categories that FastChat judges beside a reference


def _filled(
    templates: dict, kind: str, question: dict, turn: int, answers: dict[str, list[str]], guided: bool
) -> list[dict]:
    """FastChat's prompt for one turn, its {names} replaced."""
    reference = question.get("reference") or ["", ""]
    beside_reference = guided and question["category"] in GUIDED and all(reference[:turn])
    stem = f"{kind}-math-v1" if beside_reference else {"single": "single-v1", "pair": "pair-v2"}[kind]
    template = templates[stem + ("-multi-turn" if turn == 2 else "")]
    values = {"question": question["turns"][0], **{f"question_{i}": q for i, q in enumerate(question["turns"], 1)}}
    values |= {f"ref_answer_{i}": r for i, r in enumerate(reference, 1)}
    for name, texts in answers.items():
        values |= {name: texts[0], **{f"{name}_{i}": text for i, text in enumerate(texts, 1)}}
    text = re.sub(r"\{(\w+)\}", lambda field: values[field[1]], template["prompt_template"])
    return [{"role": "system", "content": template["system_prompt"]}, {"role": "user", "content": text}]
