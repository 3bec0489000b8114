"""Write the question that a text answers: only the question is generated, the answer stays human.

The prompt stands beside the check of its replies. A question that fails the check is asked for once
more in other words; if that fails too, its text is dropped with the reason.
"""

from __future__ import annotations

import re
from pathlib import Path

from s2utils import llm
from s2utils.params import Endpoint

FIRST = "Write the question that this text answers.\n\nText: {text}"
SECOND = "Somebody asked one short question and got this text as the answer. What was the question?\n\nText: {text}"
EXAMPLES = (  # three worked replies: without them a small model answers, explains or apologises
    (
        "A rainbow is a band of colours in the sky. It shows when the sun shines on drops of rain. The drops bend the light "
        "and split it into red, orange, yellow, green, blue and violet.",
        "What is a rainbow and how does it form?",
    ),
    (
        "Marie Curie was a scientist from Poland. She worked in France and found two new elements, polonium and radium. "
        "She won the Nobel Prize twice.",
        "Who was Marie Curie and what did she discover?",
    ),
    (
        "Lisbon is the capital of Portugal. It lies on the coast of the Atlantic Ocean, where the river Tagus ends. "
        "About half a million people live in the city.",
        "What is Lisbon and where does it lie?",
    ),
)
CUT = 800  # characters of the text that the model sees: the start says what it is about


def write(endpoint: Endpoint, texts: list[str], cache: Path, seed: int, loaded=None) -> tuple[list[str], list[str]]:
    """(questions, reasons): one of each a text; the question is "" where a reason is given."""
    questions, reasons = [""] * len(texts), ["not asked"] * len(texts)
    for prompt, label in ((FIRST, "write questions"), (SECOND, "ask again")):
        todo = [i for i, reason in enumerate(reasons) if reason]
        chats = [chat(prompt, texts[i]) for i in todo]
        for i, reply in zip(todo, llm.ask(endpoint, chats, cache, seed=seed, label=label, loaded=loaded)):
            questions[i], reasons[i] = ("", "no reply") if reply["error"] else parse(reply["text"], texts[i])
    return questions, reasons


def chat(prompt: str, text: str) -> list[dict]:
    """The worked examples, then `text`, as turns of a chat."""
    turns = []
    for example, question in EXAMPLES:
        turns += [{"role": "user", "content": prompt.format(text=example)}, {"role": "assistant", "content": question}]
    return [*turns, {"role": "user", "content": prompt.format(text=text[:CUT])}]


def parse(reply: str, text: str) -> tuple[str, str]:
    """(question, "") from a reply, or ("", reason)."""
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
    if not _content(line) & _content(text):
        return "", "shares no word with the text"
    return line, ""


def _content(text: str) -> set[str]:
    """Words of four letters or more, lower case."""
    return set(re.findall(r"\w{4,}", text.casefold())) - {
        "what",
        "which",
        "when",
        "where",
        "does",
        "this",
        "that",
        "text",
        "about",
    }
