"""What a judge's reply says: a rating, a rubric or a verdict, or why it says none.

Few wordings are read, and only where a clause begins with them: "Rating: [[8]]", "So my rating is 8", "I give it 8 out
of 10"; "Verdict: A". What stands in [[…]] goes before other words, and all of it must agree. In doubt nothing is read:
the judge is asked again, and what is not clear is counted by reason. Ratings are 1–10. Traps: a parser that takes one
character after "[[" reads 10 as 1 and 8.5 as 8; no ratings are "Confidence: 9/10", "9 out of 10 words", "a rating of 10
is reserved for …", 8,5, 4/5, 7/10/2021; in "the verdict is a hard one" stands no A.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from s2utils.evaluation.judge.replies import DIMENSIONS, QUOTED, plain


@dataclass(frozen=True)
class Reading:
    """Values of a reply, nan or "" where one is not clear, and the reasons of these."""

    values: dict
    reasons: dict[str, str]

    @property
    def failure(self) -> str:
        """Why the first value that lacks does; "" where none does."""
        return next(iter(self.reasons.values()), "")


def missing(values: dict) -> bool:
    """Whether a judgement lacks a value."""
    return any(value == "" or (isinstance(value, float) and math.isnan(value)) for value in values.values())


class Said(NamedTuple):
    """A statement: of which name, a value or why it is none, in [[…]] or not, surely the judge's or maybe another's."""

    name: str
    value: float | str
    brackets: bool
    sure: bool


def _any(words: str) -> str:
    """A pattern of any one of the words."""
    return rf"\b(?:{'|'.join(words.split())})\b"


# ---- parts of the patterns
_GAP = rf"[^\w\[{QUOTED}\-−+<>~≤≥±]*"  # punctuation that changes no number
# all that may stand before a statement in its clause: "So my final", "- The"
_OPENINGS = _any("and but so then thus therefore hence finally in all good my the this it is a final answer")
BEFORE = (
    rf"{_GAP}(?:{_OPENINGS}{_GAP}"
    rf"|(?:it's|assistant's)\b{_GAP}|overall, |- ){{0,9}}"
)
NAMES = rf"\b(?:{'|'.join(DIMENSIONS)}|rating|score)\b"
NAME = rf"(?P<name>{NAMES})(?: (?:rating|score)\b)?"
# "I'd give this answer a rating of"
GIVES = (
    rf"\b(?:I(?:['’]d|['’]ll| would| will)? {_any('give rate assign award settle')}|it {_any('deserves earns')})"
    rf"(?: {_any('it this the assistant.s answer response a rating score for with')}){{0,6}}"
)
# from a name to its number: ": ", " is a "
LINK = rf"(?:[\s:=(,→]|[-–—] |{_any('is of at as follows a an solid would should be')}){{0,9}}"
ONE = r"\d+(?:[.:]\d+)*[^\W\d_]*[½+]?"
BETWEEN = rf"(?:[\s,/()\[\]&–—-]|{_any('to or and out of a an maybe perhaps')}){{1,9}}"
# a number, with all that would make it no rating: a sign, a decimal comma, a range, another scale, percent
NUMBER = (
    rf"(?P<number>[-−+<>~≤≥±]?(?:\[\[? ?)?{ONE}(?:{BETWEEN}{ONE})*"
    r"(?: ?(?:%|per ?cent\b|stars?\b|[★⭐]))?(?: ?\]\]?)?)"
)
END = r"[\s.!,:)}\]…]*$"
# after a rating: nothing, the next name, or words without a digit ("8 for style, 6 for truth" is none)
AFTER = rf"(?={END}|[\s.,)]*{NAMES}|,? ?(?:for|because|since|as|given)\b[^\d]*$|[.:)]* ?[-–—(][^\d]*$)"
SIDE = r"(?P<side>A|B|C|(?i:tie|draw))\b"  # "a" may be an article
ANSWER = r"(?:(?i:assistant|answer|response) )?"
IS_BETTER = r"(?:(?:['’]s (?:answer|response))? is (?:(?:clearly|slightly|much|the) )*better\b(?: one| answer)?| wins)"

# "e.g. " ends no sentence
_CLAUSE_ENDS = re.compile(r"\n|;|(?<=[.!?…。！？])(?<!\.\w\.) |(?<=\]\]) (?=[A-Z\d])|, (?=(?:but|so) )")


# ---- ratings
# "(1-10)", "on a scale from 1 to 10", "(out of 10)", "out of 10:" are taken out of the text
_SCALE_OF_10 = re.compile(
    r"\(?(?:\bon )?(?:\ba )?(?:\bscale )?(?:\b(?:of|from) )?(?<![\w.,/])[01] ?(?:[-–]|to) ?10\b(?![/%.,]\d)\)?"
    r"|\((?:out of |/ ?)10\)|\bout of 10(?= ?:)",
    re.IGNORECASE,
)
_OTHER_SCALE = re.compile(r"\bscale (?:of |from )?(?:[01] ?(?:[-–]|to) ?)?\d|\([01] ?[-–] ?\d+\)", re.IGNORECASE)
# what is surely a rating; a number alone in its clause; what may be a rating, and contradicts
_RATES = re.compile(rf"{BEFORE}(?:{NAME}|{GIVES}){LINK}{NUMBER}{AFTER}", re.IGNORECASE)
_BARE = re.compile(rf"{BEFORE}{NUMBER}{END}", re.IGNORECASE)
_MAY_RATE = re.compile(
    rf"(?<!confidence )(?P<own>\b(?:my|final|revised) )?{NAME}(?P<link>{LINK}){NUMBER}", re.IGNORECASE
)
_BRACKETS = re.compile(rf"(?=\[\[){NUMBER}", re.IGNORECASE)
_PLAIN = re.compile(r"(\d+(?:\.\d+)?)(?: ?(?:/|out of) ?10)?")
_WHY_NOT = {  # the first that is found in a number
    r"%|per ?cent": "percent",
    r"star|★|⭐|^[\d.]+ ?(?:/|\(?out of) ?(?:an? )?\d+\)?$": "another scale",
    r"^[\d.]+ ?(?:[-–—]|to|or|and) ?": "a range",
    r"\d[^\d.]*\s": "several differ",
    r"": "no plain number",
}


def _number(text: str) -> float | str:
    """The rating that a NUMBER is, or why it is none."""
    if text.count("[") != text.count("]"):
        return "not closed"
    if text.count("[[") > 1:
        return "several differ"
    bare = " ".join(re.sub(r"[\[\]]", " ", text).split())
    if plainly := _PLAIN.fullmatch(bare.lower()):
        value = float(plainly[1])
        return value if 1 <= value <= 10 else "not 1 to 10"
    return next(why for sign, why in _WHY_NOT.items() if re.search(sign, bare, re.IGNORECASE))


def _rated(found: re.Match, sure: bool) -> Said:
    name = (found.groupdict().get("name") or "rating").lower()
    return Said(name.replace("score", "rating"), _number(found["number"]), "[[" in found["number"], sure)


def _ratings(text: str) -> Iterator[Said]:
    """All that is said of ratings; they are of the name "rating" where none is named."""
    for clause in _CLAUSE_ENDS.split(text):
        place = 0
        while found := _RATES.match(clause, place):
            yield _rated(found, sure=True)
            place = found.end()
        bare = _BARE.match(clause)
        if bare and (bare["number"] == text.rstrip(" .") or re.search(r"\[\[|(?:/|of) ?10$", bare["number"])):
            yield _rated(bare, sure=True)
        for found in _MAY_RATE.finditer(clause):
            if found["own"] or ":" in found["link"] or "[[" in found["number"]:
                yield _rated(found, sure=False)
        for found in _BRACKETS.finditer(clause):  # by themselves they make only doubtful what is said without any
            yield _rated(found, sure=False)._replace(brackets=False)


# ---- verdicts
_IN_BRACKETS = rf"\[\[ ?(?i:assistant )?(?i:{SIDE}) ?\]\]"
_CHOSEN = (
    r"(?i:(?:\b(?:verdict|winner|better (?:answer|response|one))(?: is\b| ?[:=])|\bI (?:choose|prefer|pick)\b)"
    rf"{LINK}){ANSWER}{SIDE}"
)
_VERDICTS = [
    re.compile(rf"(?i:{BEFORE}(?:verdict\b|winner\b)?{LINK}){_IN_BRACKETS}(?! ?(?:if|unless|or|when|and)\b)"),
    re.compile(rf"(?i:{BEFORE}){_CHOSEN}{END}"),
    re.compile(rf"(?i:{BEFORE}verdict is (?!not )[a-z ]+: ){SIDE}{END}"),  # a hard one: B
    re.compile(
        rf"(?i:{BEFORE}){ANSWER}(?P<side>A|B){IS_BETTER}(?: than {ANSWER}[AB])?(?=,? (?:for|because|as|since)\b|{END})"
    ),
    re.compile(rf"(?i:{BEFORE}\b(?:it is|it's|this is) a (?P<side>tie|draw)){END}"),
]
_MAY_CHOOSE = [re.compile(_IN_BRACKETS), re.compile(_CHOSEN), re.compile(rf"\b(?P<side>A|B){IS_BETTER}")]


def _chosen(found: re.Match, sure: bool) -> Said:
    side = found["side"].upper()
    return Said("verdict", side if side in ("A", "B") else "tie", "[[" in found[0], sure)


def _verdicts(text: str) -> Iterator[Said]:
    """All that is said of which answer is better."""
    text = re.sub(r" is better than \[\[[AB]\]\]", "", text)  # [[A]] is better than [[B]]
    if alone := re.fullmatch(rf"{SIDE}\.?", text):
        yield _chosen(alone, sure=True)
    for clause in _CLAUSE_ENDS.split(text):
        found = [(match, True) for pattern in _VERDICTS if (match := pattern.match(clause))]
        found += [(match, False) for pattern in _MAY_CHOOSE for match in pattern.finditer(clause)]
        yield from (_chosen(match, sure) for match, sure in found)


# ---- what counts
def _decided(said: list[Said], none: str) -> tuple[float | str | None, str]:
    """(the one value of the statements that count, "") or (None, why there is none)."""
    counts = [s for s in said if s.brackets] or said
    values = {s.value for s in counts}
    if len(values) > 1:
        return None, "several differ"
    if not any(s.sure for s in counts):
        return None, none
    (value,) = values
    return (None, value) if isinstance(value, str) and value not in ("A", "B", "tie") else (value, "")


def reading(kind: str, reply: str) -> Reading:
    """What a reply to one kind of question ("single", "rubric", "pair") holds, or why it holds nothing clear."""
    text, why = plain(reply)
    if kind == "pair":
        names, said, why = {"verdict": {"verdict"}}, list(_verdicts(text)), why or "no verdict"
    else:
        names = {d: {d} for d in DIMENSIONS} if kind == "rubric" else {"rating": {"rating", "overall"}}
        text = _SCALE_OF_10.sub(" ", text)
        text = re.sub(r"\[\[ ?rating ?: ?", "rating: [[", text, flags=re.IGNORECASE)  # [[Rating: 8]]
        said, why = list(_ratings(text)), why or "no rating"
        if _OTHER_SCALE.search(text):
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
