"""Verdicts in the tokens of a judge's reply: which of two answers is said to be better.

Forms: [[A]], [[B]], [[C]] for a tie; "verdict: A", "the winner is B", "I prefer A"; "answer A is better"; "it's a tie".
Traps: "my verdict is a hard one" holds an article; "neither answer A is better nor B" denies; "[[A]] if …, [[B]] if …"
repeats the question.
"""

from __future__ import annotations

from collections.abc import Iterator

from s2utils import replies
from s2utils.replies import Said, Token

_CHOSEN = frozenset("verdict winner decision choice judgment judgement preference".split())
_CHOOSES = frozenset("choose prefer pick favour favor select".split())
_BETTER = frozenset("better best superior stronger preferable winner".split())
_HOW = frozenset("the a much far bit little overall still also even by to be".split())
_ANSWERS = frozenset("answer response assistant model option one".split())
_PASSED = _ANSWERS | replies.PASSED
_AS_TIE = frozenset("it is it's a so this i call say overall the result therefore declare would be my verdict".split())


def verdicts(row: list[Token]) -> Iterator[Said]:
    """All that is said of which answer is better: in brackets, by name or verb, in words."""
    for at, token in enumerate(row[:-4]):
        before = replies.clause(row, at)
        words = [t.word for t in before]
        if replies.told(before):
            continue
        final = not replies.FINAL.isdisjoint(words)
        if token.kind == "open":
            close = next((i for i in range(at + 1, min(at + 8, len(row))) if row[i].kind in ("close", "open")), at)
            inside = [replies.SIDES[t.word] for t in row[at + 1 : close] if t.word in replies.SIDES]
            inside = ["tie"] if "tie" in inside and "C" not in [t.raw for t in row[at + 1 : close]] else inside
            if row[close].kind == "close" and len(set(inside)) == 1 and not (before and replies.denies(before[-1])):
                yield Said("verdict", "brackets", inside[0], final, at)
        elif any(map(replies.denies, before[-2:] if token.word in _CHOSEN else before)):
            continue
        elif _chooses(row, at, before):
            if side := _chosen(row, at, link=token.word in _CHOOSES):
                yield Said("verdict", "named", side, final, at)
        elif token.raw.replace("’", "'").removesuffix("'s") in ("A", "B") and _is_better(row, at):
            yield Said("verdict", "in words", token.raw[0], final, at)
        elif _is_tie(row, at, words):
            yield Said("verdict", "named", "tie", final, at)
    whole = replies.content(row)
    if whole[0].raw in ("A", "B") and whole[1].kind == "end":
        yield Said("verdict", "alone", whole[0].raw, False, 0)


def _chooses(row: list[Token], at: int, before: list[Token]) -> bool:
    """Whether a side follows: after "verdict", "the better answer", "I choose"."""
    name, after = row[at].word, row[at + 1].word
    if name in ("better", "best"):
        return after in _ANSWERS and {"A", "B"}.isdisjoint(t.raw for t in before)
    return name in _CHOSEN or (name in _CHOOSES and any(t.word in replies.FIRST for t in before[-5:]))


def _chosen(row: list[Token], at: int, link: bool) -> str:
    """The side that a name ("verdict") or verb ("I choose") leads to; "" for none."""
    for place in range(at + 1, min(at + 14, len(row) - 2)):
        token = row[place]
        if token.kind in ("stop", "comma", "quote", "end", "open") or replies.denies(token):
            return ""
        if link and (side := _side(row, place)):
            return side
        if token.kind in ("colon", "bar", "line") or token.word in replies.LINKS:
            link = True
        elif token.kind == "word" and token.word not in _PASSED:
            link = False
    return ""


def _is_better(row: list[Token], at: int) -> bool:
    """Whether the side at this place is said to be better: "A's answer is clearly the better one", "A wins"."""
    states = False
    for token in row[at + (2 if row[at].word.endswith("'s") else 1) : at + 9]:
        if token.word == "wins" or (states and token.word in _BETTER):
            return True
        if token.kind != "word" or replies.denies(token):
            return False
        if token.word in ("is", "was", "seems", "looks", "appears"):
            states = True
        elif token.word not in (_HOW if states else _ANSWERS) and not token.word.endswith("ly"):
            return False
    return False


def _is_tie(row: list[Token], at: int, words: list[str]) -> bool:
    """Whether a clause of these words calls it a tie: "so it is a tie", "a draw between A and B"."""
    ended = row[at + 1].kind in replies.BREAKS or row[at + 1].word == "between"
    return row[at].word in ("tie", "draw") and ended and _AS_TIE.issuperset(words)


def _side(row: list[Token], place: int) -> str:
    """The side that is named here: a capital A or B that is no article, or a tie; "" for none."""
    token, after = row[place], row[place + 1]
    if token.word in ("tie", "draw"):
        return "tie"
    if token.raw not in ("A", "B", "C") or not (replies.ends(row, place + 1) or after.word in ("is", "was", "wins")):
        return ""
    either = (after.kind in ("dash", "over") or after.word == "and") and row[place + 2].raw in ("A", "B", "C")
    return "several differ" if either else replies.SIDES[token.word]
