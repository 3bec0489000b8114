"""One value that was made elsewhere (an answer, a reference, a reply) as text, or the reason why it holds none.

Forms that are read: a text; a list, of which the first text counts; chat messages (the assistant's last); parts of a
message; what a chat server answers (`choices`), alone or in a line of OpenAI's batches (`response.body`); a pipeline's
`generated_text`; KILT's `output`; ELI5's `answers`. All of these also as JSON, or as Python writes it, in a text. Trap:
a list or an object that is written as text holds words, so it has a score; it is read, or refused, and never scored.
"""

from __future__ import annotations

import ast
import contextlib
import json
import math
import re
import unicodedata
import warnings
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace

from s2utils.data.streams import writable
from s2utils.text import reasoning

FAILED_CALL = "$ERROR$"  # FastChat's answer where the server gave none
NOTHING = ("nan", "null", "infinity", "-infinity", "inf", "-inf", "<na>")  # as text; "NA" and "None" may be answers
BLANK = "\u115f\u1160\u2800\u3164\uffa0"  # letters and signs that print nothing
# keys of an object under which another holds the text, and those of a text
WRAPPERS = ("body", "choices", "message", "messages", "conversations", "outputs")
NAMES = ("content", "generated_text", "text", "answer", "answers", "value", "output", "completion", "response")
ROLES = {"assistant": ("assistant", "gpt", "model", "bot"), "user": ("user", "human", "prompter")}
RATED = ("rating", "score", "overall")  # names of a rating in a judge's object
PARTS = ("text", "output_text", "message")  # types of a message's parts; others are pictures, calls, reasoning
SEVERAL = "several texts: the first is taken"
DEEPEST = 20  # lists and objects in each other
_VERDICT = re.compile(r"\[\[\s*\d+(?:\.\d+)?\s*\]\]")  # a judge's [[8]] would parse as a list of lists
_BEGUN = re.compile(  # the beginning of a list or an object, whole or not
    r"""[\[\s]*\{\s*(["'])[^"'\n]{1,80}\1\s*:|\[\s*(["']).*\2\s*\]\Z|\[*array\(|\[\s*nan\b""", re.DOTALL
)
_APART = re.compile(r"""["']\s+["']""")  # ['a' 'b'], as NumPy writes a list: Python would read ['ab']


@dataclass(frozen=True)
class Note:
    """What became of a value that was no plain text: left unread, or read in a way that must be told."""

    part: str  # what it was given as: predictions, references, answers, judgements, ratings
    file: str
    row: int  # 0 for the whole file
    key: str
    reason: str
    read: bool = False


def text(value: object, depth: int = 0) -> tuple[str | None, str]:
    """(text, how it was chosen, "" for a plain one), or (None, why there is none). An empty text is a text."""
    if hasattr(value, "tolist"):  # NumPy's arrays and numbers
        value = value.tolist()
    if isinstance(value, str):
        return _of_text(value, depth)
    if value is None:
        return None, "no value"
    if isinstance(value, bool) or (isinstance(value, float) and not math.isfinite(value)):
        return None, f"not a text: {str(value).lower()}"
    if isinstance(value, (int, float)):
        return str(value), ""
    if depth > DEEPEST:
        return None, "lists or objects nested too deeply"
    if isinstance(value, (list, tuple)):
        return _of_list(list(value), depth + 1)
    if isinstance(value, dict):
        return _of_object(value, depth + 1)
    return None, f"not a text: {type(value).__name__}"


def answer(value: object) -> tuple[str | None, str]:
    """`text` without what the model thought aloud before it."""
    said, how = text(value)
    left, thought = reasoning.without(said or "")
    if not thought:
        return said, how
    if not visible(left):
        return None, "reasoning without an answer"
    said, then = text(left)
    return said, "; ".join(filter(None, (how, "reasoning left out", then)))


def reply(value: object) -> tuple[str | None, str]:
    """`text` of a judge's reply; of one in JSON, {"rating": 8, …}, the rating as a judge is asked to write it."""
    structure = _parsed(value)
    if isinstance(structure, dict):
        ratings = (number(inside) for name, inside in structure.items() if str(name).lower() in RATED)
        if not math.isnan(rating := next(ratings, math.nan)):
            return f"Rating: [[{rating:g}]]", "a rating in an object"
    if isinstance(value, str) and isinstance(structure, list) and [math.isnan(number(v)) for v in structure] == [False]:
        return value, ""  # [8], as some judges write
    return text(value)


def asked(value: object) -> str | None:
    """What the user said last, where a value is or holds chat messages."""
    chat = _parsed(value)
    for _ in range(DEEPEST):
        if isinstance(chat, dict):
            chat = next((chat[key] for key in ("generated_text", "messages", "conversations") if key in chat), None)
        elif isinstance(chat, (list, tuple)) and chat and not _is_chat(chat):
            chat = chat[0]
    return _of_chat(chat, "user", 0)[0] if _is_chat(chat) else None


def question(value: object) -> tuple[str | None, str]:
    """`text`, but of chat messages what the user said last."""
    said = asked(value)
    return text(value) if said is None else (said, "")


def number(value: object) -> float:
    """A number, or a text of one; nan for anything else."""
    try:
        return math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def identifier(value: object) -> str:
    """An id as text, a whole number without decimals ("1.0", as pandas writes ids of a column with gaps, is 1)."""
    if isinstance(value, (bool, list, dict)) or value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return re.sub(r"\A(-?\d+)\.0+\Z", r"\1", writable(str(value)).strip())


def visible(said: str) -> bool:
    """Whether a text holds a character that prints something."""
    return any(unicodedata.category(c)[0] in "LNPS" and c not in BLANK for c in said)


def counted(notes: Iterable[Note], most: int = 10) -> list[dict]:
    """One row per part, file, key and reason: whether it was read, how often, and the first rows."""
    rows: dict[Note, list[int]] = {}
    for note in notes:
        rows.setdefault(replace(note, row=0), []).append(note.row)
    table = []
    for note, places in rows.items():
        first = ", ".join(map(str, filter(None, places[:most]))) + (", …" if len(places) > most else "")
        facts = asdict(note) | {"read": "yes" if note.read else "no", "n": len(places), "rows": first}
        facts.pop("row")
        table.append(facts)
    return table


def _of_text(value: str, depth: int) -> tuple[str | None, str]:
    clean = writable(value)
    bare = clean.strip()
    if bare == FAILED_CALL:
        return None, f"{FAILED_CALL}: the call failed"
    if bare.lower() in NOTHING:
        return None, f"not a text: {bare.lower()}"
    if bare and not visible(bare):
        return None, "no visible character"
    try:
        structure = _structure(bare)
    except ValueError:
        return None, "a list or an object that cannot be parsed"
    if structure is not None:
        return text(structure, depth + 1)
    return clean, "" if clean == value else "half a character became ?"


def _parsed(value: object) -> object:
    """The value, or the list or object that it writes as text; None where that is broken or another text."""
    with contextlib.suppress(ValueError):
        return _structure(value.strip()) if isinstance(value, str) else value
    return None


def _structure(bare: str) -> object:
    """The list or object that a text writes, None where it is another text; ValueError where it is broken."""
    if re.match(r"""\s*"\s*[\[{]""", bare) and bare[-1] == '"':  # JSON in JSON
        with contextlib.suppress(ValueError, RecursionError):
            bare = json.loads(bare, strict=False).strip()
    if bare[:1] not in ("[", "{") or _VERDICT.fullmatch(bare):
        return _broken(bare) if bare.startswith("array(") else None
    if bare[-1] not in "]}":
        return _broken(bare)
    try:
        return json.loads(bare, strict=False)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except ValueError:
        pass
    if _BEGUN.match(bare) and _APART.search(bare):
        return _broken(bare)
    try:
        with warnings.catch_warnings(action="ignore"):  # of escapes that Python does not know
            return ast.literal_eval(bare)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return _broken(bare)


def _broken(bare: str) -> None:
    if _BEGUN.match(bare):
        raise ValueError("neither JSON nor Python")


def _of_list(values: list, depth: int) -> tuple[str | None, str]:
    if not values:
        return None, "an empty list"
    if _is_chat(values):
        return _of_chat(values, "assistant", depth)
    if parts := [v for v in values if isinstance(v, dict) and v.get("type") in PARTS]:
        said = "".join(filter(None, (text(part, depth)[0] for part in parts)))
        return (said, "") if said else (None, "a message without a text")
    if not any(isinstance(v, (str, list, tuple, dict)) for v in values):
        return None, "a list without a text"
    read = [text(v, depth) for v in values]
    texts = [(said, how) for said, how in read if said and said.strip()]
    if not texts:
        return None, next((reason for said, reason in read if said is None), "a list of empty texts")
    first, how = texts[0]
    return first, SEVERAL if any(said != first for said, _ in texts) else how


def _of_object(value: dict, depth: int) -> tuple[str | None, str]:
    reasons = []
    for name in (*WRAPPERS, *NAMES):
        inside = value.get(name)
        if isinstance(inside, (list, tuple, dict)) or (isinstance(inside, str) and name in NAMES):
            said, how = text(inside, depth)
            if said is not None:
                return said, how
            reasons.append(how)
    keys = ", ".join(writable(str(key))[:20] for key in list(value)[:4]) or "nothing"
    return None, reasons[0] if reasons else f"an object of {keys}: no text in it is known"


def _is_chat(value: object) -> bool:
    if not isinstance(value, (list, tuple)):
        return False
    return bool(value) and all(isinstance(turn, dict) and ("role" in turn or "from" in turn) for turn in value)


def _of_chat(chat: Iterable[dict], role: str, depth: int) -> tuple[str | None, str]:
    """What one side said last in a chat."""
    said = [turn for turn in chat if str(turn.get("role", turn.get("from"))).lower() in ROLES[role]]
    if not said:
        return None, f"messages without one of the {role}"
    return text(said[-1].get("content", said[-1].get("value")), depth + 1)
