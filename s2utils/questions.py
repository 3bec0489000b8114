"""Write the question that a text answers: only the question is generated, the answer stays human.

The prompt stands beside the check of its replies. A question that fails the check is asked for once
more in other words; if that fails too, its text is dropped with the reason.
"""

from __future__ import annotations

import re
from pathlib import Path

from s2utils import llm
from s2utils.params import Endpoint

FIRST = (
    "Read this text.\n\n{text}\n\nWrite one short question that the whole text answers. "
    "Name what it is about. Reply with the question only."
)
SECOND = "{text}\n\nSomebody asked one question and got the text above as the answer. What was the question? One line, ending in a question mark."
CUT = 1500  # characters of the text that the model sees: the start says what it is about


def write(endpoint: Endpoint, texts: list[str], cache: Path, seed: int, loaded=None) -> tuple[list[str], list[str]]:
    """(questions, reasons): one of each a text; the question is "" where a reason is given."""
    questions, reasons = [""] * len(texts), ["not asked"] * len(texts)
    for prompt, label in ((FIRST, "write questions"), (SECOND, "ask again")):
        todo = [i for i, reason in enumerate(reasons) if reason]
        chats = [[{"role": "user", "content": prompt.format(text=texts[i][:CUT])}] for i in todo]
        for i, reply in zip(todo, llm.ask(endpoint, chats, cache, seed=seed, label=label, loaded=loaded)):
            questions[i], reasons[i] = (("", "no reply") if reply["error"] else parse(reply["text"], texts[i]))
    return questions, reasons


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
    return set(re.findall(r"\w{4,}", text.casefold())) - {"what", "which", "when", "where", "does", "this", "that", "text", "about"}
