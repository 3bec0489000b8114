"""Write the question that a text answers: only the question is generated, the answer stays human.

The prompts stand beside the checks of their replies: one question in good form, which names its subject,
tells no more than it asks, and is about the text (cosine of two unit sentence vectors). What fails is asked
for once more in other words; what fails again loses its text, with the reason. The study's idea (an LLM is
shown the text and asked what it could be the answer to), in our words.
Trap: a long run of shared words is often a name or a definition ("the capital city of the U.S. state of New
York"), not the answer: set `copied_words` above that.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from s2utils.data.parameters import Questions
from s2utils.models import llm

FIRST = (
    "Write the question that this text answers. The reader of the question has not seen the text: "
    "name its subject, and do not give the answer away.\n\nText: {text}"
)
SECOND = (  # "what was the question?" makes a small model ask just that, so this one comes after the text and commands
    "Text: {text}\n\nWrite one short question that somebody could ask to be told this. "
    "Name the subject of the text in it."
)
EXAMPLES = (  # three worked replies: without them a small model answers, explains or apologises
    (
        "A rainbow is a band of colours in the sky. It shows when the sun shines on drops of rain. The drops bend the "
        "light and split it into red, orange, yellow, green, blue and violet.",
        "What is a rainbow and how does it form?",
    ),
    (
        "Marie Curie was a scientist from Poland. She worked in France and found two new elements, polonium and "
        "radium. She won the Nobel Prize twice.",
        "Who was Marie Curie and what did she discover?",
    ),
    (
        "Lisbon is the capital of Portugal. It lies on the coast of the Atlantic Ocean, where the river Tagus ends. "
        "About half a million people live in the city.",
        "What is Lisbon and where does it lie?",
    ),
)
CUT = 800  # characters of the text that the model sees: the start says what it is about

_SPEAKS = re.compile(
    r"\b(?:the|this|that|these|given|above|following|provided)\s+(?:\w+\s+)?"
    r"(?:text|passage|article|paragraph|excerpt|extract)s?\b"
    r"|\bthis question\b"
    r"|\baccording to (?:this|it|(?:the|this) (?:author|story|information|description|source)|what)\b",
    re.IGNORECASE,
)
_COMMON = frozenset(
    "what which when where who whom whose why how does did this that these the and for are was were has had have "
    "his her its their can could you your with from they she him them been but not text about".split()
)


def write(
    settings: Questions,
    texts: list[str],
    cache: Path,
    seed: int,
    local: llm.Local | None = None,
    embed: Callable[[list[str]], np.ndarray] | None = None,
) -> tuple[list[str], list[str], pd.DataFrame]:
    """(questions, reasons, history): one question and reason a text; the question is "" where a reason is given.

    `history` has one row per attempt (1, 2) and reason ("" = passed) with its count `n`. `embed` gives unit
    vectors (n, d) of n texts; without it nobody checks that a question is about its text.
    `local` holds the weights of a local writer.
    """
    questions, reasons, history = [""] * len(texts), ["not asked"] * len(texts), []
    for attempt, prompt, label in ((1, FIRST, "write questions"), (2, SECOND, "ask again")):
        todo = [i for i, reason in enumerate(reasons) if reason]
        chats = [chat(prompt, texts[i]) for i in todo]
        replies = llm.ask(settings.writer, chats, cache, seed=seed, label=label, local=local) if todo else []
        for i, reply in zip(todo, replies):
            questions[i], reasons[i] = ("", "no reply") if reply["error"] else parse(reply["text"], texts[i])
            if questions[i] and gives_away(questions[i], texts[i], settings.copied_words):
                questions[i], reasons[i] = "", "gives the answer away"
        formed = [i for i in todo if questions[i]]
        if embed and formed:
            vectors = embed([questions[i] for i in formed] + [texts[i] for i in formed])
            cosines = (vectors[: len(formed)] * vectors[len(formed) :]).sum(axis=1)
            for i in np.array(formed)[~(cosines >= settings.similarity_min)]:
                questions[i], reasons[i] = "", "not about the text"
        counts = Counter(reasons[i] for i in todo).most_common()
        history += [{"attempt": attempt, "reason": reason, "n": n} for reason, n in counts]
    return questions, reasons, pd.DataFrame(history, columns=["attempt", "reason", "n"])


def chat(prompt: str, text: str) -> list[dict]:
    """The worked examples, then `text`, as turns of a chat."""
    return [*_worked(prompt), {"role": "user", "content": prompt.format(text=text[:CUT])}]


@functools.cache
def _worked(prompt: str) -> list[dict]:
    """Turns of the worked examples; all chats share them, for there may be many."""
    turns = []
    for text, question in EXAMPLES:
        turns += [{"role": "user", "content": prompt.format(text=text)}, {"role": "assistant", "content": question}]
    return turns


def parse(reply: str, text: str) -> tuple[str, str]:
    """(question, "") from a reply, or ("", reason): the form only."""
    line = next((s.strip() for s in reply.splitlines() if s.strip()), "")
    line = re.sub(r"^(?:question|q)\s*:\s*", "", line.strip("\"'*` "), flags=re.IGNORECASE).strip("\"'*` ")
    if not line:
        return "", "empty reply"
    if not line.endswith("?"):
        return "", "does not end in ?"
    if line.count("?") > 1:
        return "", "more than one question"
    if not 3 <= len(line.split()) <= 40:
        return "", "too short or too long"
    if _SPEAKS.search(line):
        return "", "speaks of the text"
    if not _content(line) & _content(text):
        return "", "shares no word with the text"
    return line, ""


def gives_away(question: str, text: str, copied_words: int) -> bool:
    """Whether a question repeats `copied_words` words of the text in a row, or more than half of what it says."""
    content = _content(text)
    if len(content) >= 8 and len(content & _content(question)) > len(content) / 2:
        return True
    return not _runs(question, copied_words).isdisjoint(_runs(text, copied_words))


def _runs(text: str, n: int) -> set[tuple[str, ...]]:
    """Runs of `n` words of a text."""
    words = _words(text)
    return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}


def _words(text: str) -> list[str]:
    """Words in lower case, without punctuation, accents and the s of a genitive."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(c))
    return re.findall(r"\w+", re.sub(r"['’](?:s\b)?", "", plain))


def _content(text: str) -> set[str]:
    """Words of three letters or more that say what a text is about."""
    return {word for word in _words(text) if len(word) >= 3} - _COMMON
