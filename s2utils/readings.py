"""What a judge's reply says: a rating, a rubric or a verdict, or why it says none.

Few wordings are read, and only where a clause begins with them: "Rating: [[8]]", "So my rating is 8", "I give it 8 out of
10"; "Verdict: A". What stands in [[…]] goes before other words, and all of it must agree. In doubt nothing is read: the
judge is asked again, and what is not clear is counted by reason. Ratings are 1–10. Traps, all no ratings: "Confidence:
9/10", "9 out of 10 words", "a rating of 10 is reserved for …", 8,5, 4/5, 7/10/2021; in "the verdict is a hard one" stands
no A.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from s2utils.replies import DIMENSIONS, QUOTED, plain


@dataclass(frozen=True)
class Reading:
    """Values of a reply, nan or "" where one is not clear, and the reasons of these."""

    values: dict
    reasons: dict[str, str]

    @property
    def failure(self) -> str:
        """Why the first value that lacks does; "" where none does."""
        return next(iter(self.reasons.values()), "")


class Said(NamedTuple):
    """A statement: of which name, a value or why it is none, in [[…]] or not, surely the judge's or perhaps another's."""

    name: str
    value: float | str
    brackets: bool
    sure: bool


def _pattern(text: str) -> re.Pattern:
    return re.compile(text, re.IGNORECASE)


# ---- parts of the grammar
SIGN = r"-−+<>~≤≥±"
BEFORE = (  # all that may stand before a statement in its clause
    rf"[^\w\[{SIGN}{QUOTED}]*(?:(?:and|but|so|then|thus|therefore|hence|finally|overall,|in|all|good|my|the|this|it|it's|is|final|"
    rf"a|assistant's|answer)\b[^\w\[{SIGN}{QUOTED}]*|[-–—] ){{0,9}}"
)
NAMES = rf"\b(?:{'|'.join(DIMENSIONS)}|rating|score)\b"
NAME = rf"(?P<name>{NAMES})(?: (?:rating|score)\b)?"
GIVES = (
    r"\b(?:I(?:['’]d|['’]ll| would| will)? (?:give|rate|assign|award|settle)|it (?:deserves|earns))\b"
    r"(?: (?:it|this|the|assistant['’]s|answer|response|a|rating|score|for|with)\b){0,6}"
)
LINK = r"(?:[\s:=(,→]|[-–—] |\b(?:is|of|at|as|follows|an?|solid|would be|should be)\b){0,9}"
ONE = r"\d+(?:[.,:/]\d+)*[^\W\d_]*[½+]?"
BETWEEN = r"(?:[\s,/()\[\]&–—-]|\b(?:to|or|and|out|of|an?|maybe|perhaps)\b){1,9}"
# a number with all that would make it no rating: a sign, a decimal comma, a range, another scale, percent
NUMBER = (
    rf"(?P<number>[{SIGN}]?(?:\[\[? ?)?{ONE}(?:{BETWEEN}{ONE})*"
    r"(?: ?\]\]?)?(?: ?(?:%|per ?cent\b|stars?\b|[★⭐]))?)"
)
END = r"[\s.!,:)}\]…]*$"
AFTER = rf"(?={END}|[\s.,)]*{NAMES}|,? ?(?:for|because|since|as|given)\b[^\d]*$|[.:)]* ?[-–—(][^\d]*$)"
SIDES = ("A", "B", "tie")
SIDE = r"(?P<side>A|B|C|(?i:tie|draw))\b"

_CLAUSE_ENDS = re.compile(r"\n|;|(?<=[.!?…。！？])(?<!\.\w\.) |, (?=(?:but|so) )")
_SCALES_OF_10 = _pattern(
    r"\(?(?:\bon )?(?:\ba )?(?:\bscale )?(?:\b(?:of|from) )?(?<![\w.,/])[01] ?(?:[-–]|to) ?10\b(?![/%.,]\d)\)?"
    r"|\((?:out of |/ ?)10\)|\bout of 10(?= ?:)"
)
_OTHER_SCALE = _pattern(r"\bscale (?:of |from )?(?:[01] ?(?:[-–]|to) ?)?\d|\([01] ?[-–] ?\d+\)")
_RATES = _pattern(rf"{BEFORE}(?:{NAME}|{GIVES}){LINK}{NUMBER}{AFTER}")
_BARE = _pattern(rf"{BEFORE}{NUMBER}{END}")  # [[8]] or 8/10 and nothing else in the clause
_PERHAPS = (  # what makes another statement doubtful
    _pattern(rf"{NAME}\W{{0,5}}(?=\[\[){NUMBER}"),
    _pattern(rf"\b(?:my|final|revised) {NAME}{LINK}{NUMBER}"),
)
_RATING = re.compile(r"(\d+(?:\.\d+)?)(?: ?(?:/|out of) ?10)?")
_WHY_NOT = (
    (r"%|per ?cent", "percent"),
    (r"star|★|⭐|^[\d.]+ ?(?:/|\(?out of) ?(?:an? )?\d+\)?$", "another scale"),
    (r"^[\d.]+ ?(?:[-–—]|to|or|and) ?(?:an? )?[\d.]+$", "a range"),
    (r"\d[^\d.]+\s", "several differ"),
    ("", "no plain number"),
)


def _number(text: str) -> float | str:
    """The rating that a NUMBER is, or why it is none."""
    if text.count("[") != text.count("]"):
        return "not closed"
    bare = re.sub(r"[\[\]]+", " ", text).strip()
    if plainly := _RATING.fullmatch(bare.lower()):
        value = float(plainly[1])
        return value if 1 <= value <= 10 else "not 1 to 10"
    return next(why for fault, why in _WHY_NOT if re.search(fault, bare, re.IGNORECASE))


def _ratings(text: str) -> Iterator[Said]:
    """All that is said of ratings; of the name "rating" where none is named."""
    text = _SCALES_OF_10.sub(" ", text)
    for clause in _CLAUSE_ENDS.split(text):
        place = 0
        while found := _RATES.match(clause, place):
            place = found.end()
            yield _said(found, sure=True)
        bare = _BARE.match(clause)
        if bare and (clause == text or re.search(r"\[\[|(?:/|of) ?10$", bare["number"])):
            yield _said(bare, sure=True)
        for pattern in _PERHAPS:
            yield from (_said(found, sure=False) for found in pattern.finditer(clause))


def _said(found: re.Match, sure: bool) -> Said:
    name = (found.groupdict().get("name") or "rating").lower()
    return Said(name.replace("score", "rating"), _number(found["number"]), "[[" in found["number"], sure)


_BOTH = re.compile(r" is better than \[\[[AB]\]\]")  # after [[A]] or [[B]]
_ANSWER = r"(?:(?i:assistant|answer|response) )?"
_IS_BETTER = r"(?:['’]s (?:answer|response))? is (?:(?:clearly|slightly|much|the) )*(?:better|best)\b(?: one| answer)?"
_VERDICTS = (
    re.compile(rf"(?i:{BEFORE}(?:verdict\b|winner\b)?{LINK})\[\[ ?(?i:assistant )?(?i:{SIDE}) ?\]\](?! ?(?:if|or|when|and)\b)"),
    re.compile(
        rf"(?i:{BEFORE}(?:(?:verdict|winner|better (?:answer|response|one))(?: is [a-z ]{{1,40}}:)?|I (?:choose|prefer|pick))"
        rf"{LINK}){_ANSWER}{SIDE}{END}"
    ),
    re.compile(rf"(?i:{BEFORE}){_ANSWER}(?P<side>A|B)(?:{_IS_BETTER}| wins)(?: than {_ANSWER}[AB])?(?=,? (?:for|because|as|since)\b|{END})"),
    re.compile(rf"(?i:{BEFORE}(?P<side>tie|draw){END})"),
)
_PERHAPS_VERDICTS = (
    re.compile(rf"\[\[ ?(?i:assistant )?(?i:{SIDE}) ?\]\]"),
    re.compile(rf"\b(?P<side>A|B)(?:{_IS_BETTER}| wins)"),
    re.compile(rf"\b(?i:verdict|winner)(?i:{LINK}){_ANSWER}{SIDE}"),
)


def _verdicts(text: str) -> Iterator[Said]:
    """All that is said of which answer is better."""
    text = _BOTH.sub("", text)
    if re.fullmatch(r"[AB]\.?", text):
        yield Said("verdict", text[0], False, True)
    for clause in _CLAUSE_ENDS.split(text):
        found = [(match, True) for pattern in _VERDICTS if (match := pattern.match(clause))]
        found += [(match, False) for pattern in _PERHAPS_VERDICTS for match in pattern.finditer(clause)]
        for match, sure in found:
            side = match["side"].upper()
            yield Said("verdict", side if side in ("A", "B") else "tie", "[[" in match[0], sure)


def _decided(said: list[Said], none: str) -> tuple[float | str | None, str]:
    """(the one value of the statements that count, "") or (None, why there is none)."""
    counts = [s for s in said if s.brackets] or said
    values = {s.value for s in counts}
    if not any(s.sure for s in counts):
        return None, none
    if len(values) > 1:
        return None, "several differ"
    (value,) = values
    return (None, value) if isinstance(value, str) and value not in SIDES else (value, "")


def reading(kind: str, reply: str) -> Reading:
    """What a reply to one kind of question ("single", "rubric", "pair") holds, or why it holds nothing clear."""
    text, why = plain(reply)
    if kind == "pair":
        names, said, why = {"verdict": {"verdict"}}, list(_verdicts(text)), why or "no verdict"
    else:
        names = {d: {d} for d in DIMENSIONS} if kind == "rubric" else {"rating": {"rating", "overall"}}
        said, why = list(_ratings(text)), why or "no rating"
        if _OTHER_SCALE.search(_SCALES_OF_10.sub(" ", text)):
            said, why = [], "another scale"
    values, reasons = {}, {}
    for name, owners in names.items():
        value, lacking = _decided([s for s in said if s.name in owners], why)
        values[name] = value if not lacking else "" if kind == "pair" else math.nan
        if lacking:
            reasons[name] = lacking
    return Reading(values, reasons)


def rating(reply: str) -> float:
    """The judge's rating, 1–10; nan where the reply holds none that is clear."""
    return reading("single", reply).values["rating"]


def rubric(reply: str) -> dict[str, float]:
    """A rating for each of DIMENSIONS, as `rating` reads one."""
    return reading("rubric", reply).values


def verdict(reply: str) -> str:
    """Whether "A" or "B" is said to be better, or "tie"; "" where the reply holds none that is clear."""
    return reading("pair", reply).values["verdict"]
