"""A judge's reply as a row of tokens: what is quoted or thought aloud left out, numbers with what makes them none.

Own code and no parser library: a reply is prose with a few marks in it, and a grammar wants a text that is one. One
pass of one regular expression makes the tokens; `ratings` and `verdicts` go over them by a few rules, each a few steps
long, so the time is that of the text's length. Traps: JSON writes its names in quotation marks, which are then no
quotation; 8,5 and 7/10/2021 begin like ratings. Numbers are as they stand, words in lower case beside what was written.
"""

from __future__ import annotations

import math
import re
from typing import NamedTuple

from s2utils import reasoning


class Token(NamedTuple):
    """A word, a number or a mark; `number` is what a number means, or the top of a scale."""

    kind: str
    raw: str = ""
    word: str = ""
    number: float = math.nan


END = Token("end")
FORMS = ("brackets, named", "brackets", "named", "in words", "alone")  # of a statement; the first that is there decides


class Said(NamedTuple):
    """One statement: about what, in which of FORMS, a value or why it is none, whether it is called final."""

    owner: str
    form: str
    value: float | str
    final: bool
    place: int


DIMENSIONS = ("simplicity", "helpfulness", "relevance", "accuracy", "depth", "safety", "overall")
NUMBERS = {name: float(n) for n, name in enumerate("one two three four five six seven eight nine ten".split(), start=1)}
LABELS = frozenset("rating score grade".split())
OTHERS = frozenset(  # what else has numbers: never the rating
    "confidence certainty probability likelihood clarity readability grammar style fluency coherence creativity tone "
    "completeness correctness originality length ease difficulty level truthfulness conciseness engagement vocabulary "
    "structure spelling factuality harmlessness honesty flesch kincaid rouge bertscore bleu".split()
)
NAMES = dict.fromkeys(LABELS, "rating") | {d: d for d in DIMENSIONS} | dict.fromkeys(OTHERS, "other")
FIRST = frozenset("i i'd i'll i'm i've i'ld we we'd we'll me".split())
LINKS = frozenset("is was of as be at with equals remains stays for".split())
PASSED = frozenset(
    "a an the it this my between from about only around just still exactly roughly approximately would should".split()
)
PASSED |= LABELS
DENIED = frozenset(
    "not never no cannot without neither nor could might been below above under if unless had whether when".split()
)
DENIED |= frozenset("than instead over beyond reserved initially originally tempted".split())
TOLD = frozenset(  # by an answer, not by its judge
    "says said claims claimed states stated writes wrote write asks asked tells told demands demanded instructs "
    "instructed mentions quotes quoted reads ends ended contains includes prints itself themselves".split()
)
THEN = frozenset(  # may follow a rating; another word is the thing that is counted
    "for because since as and but with in on from due given overall at here points point when so which though "
    "although while mainly thanks considering based rather".split()
)
FINAL = frozenset("final finally revised adjusted updated corrected ultimately".split())
SIDES = {"a": "A", "b": "B", "c": "tie", "tie": "tie", "draw": "tie"}
BREAKS = frozenset("stop comma line bar paren quote end".split())  # kinds of token that end a clause
TURNS = frozenset("but so yet therefore hence thus because".split())  # words that do
_TOKENS = re.compile(
    r"""
    (?P<date>(?<![\w/])\d{1,4}(?P<mark>[-/.])\d{1,2}(?P=mark)\d{1,4}(?![\w/]))
  | (?P<scale>
        (?<![\w.])[01][ ]?(?:[-–—]|to)[ ]?10(?![\w/%]|\.\d)                # from 1 to 10
      | (?:\bon[ ]a[ ])?\bscale[ ]?(?:of|from|:)?[ ]?(?:[01][ ]?(?:[-–—]|to)[ ]?)?\d+        # a scale of 1 to 5
      | \([ ]?(?:on[ ])?(?:a[ ])?(?:scale[ ]?(?:of|from|:)?[ ]?)?
        (?:[01][ ]?(?:[-–—]|to)[ ]?|(?:out[ ])?of[ ]|/)\d+[ ]?\)            # (1-10), (out of 5)
      | \bout[ ]of[ ]\d+(?=[ ]?:) )                                         # Rating out of 10: 7
  | (?P<number>(?:(?<![\w)\]}])[-−+]|(?<![\w"])[<>≤≥±][ ]?|\bat[ ](?:least|most)[ ](?:an?[ ])?)?
        (?:\d+(?:[.,:]\d+)*[^\W\d_]*\+?(?:[ ]and[ ]a[ ]half)?|\w+[ ]and[ ]a[ ]half\b))
  | (?P<percent>%|‰|\bper[ ]?cent\b)
  | (?P<star>\bstars?\b|[★⭐☆])
  | (?P<over>/|\bout[ ]of(?:[ ]an?)?(?:[ ](?:possible|maximum|total)(?:[ ]of)?)?\b)
  | (?P<open>\[[ ]?\[) | (?P<close>\][ ]?\])
  | (?P<colon>[-=]{1,2}>|[:=→]|(?<=\w)>)
  | (?P<bar>\|)
  | (?P<dash>[-–—]+|\b(?:to|or|maybe|perhaps|possibly)\b)
  | (?P<paren>[(\[{])
  | (?P<stop>[.!?…。！？]+(?!\w))
  | (?P<comma>[,;])
  | (?P<line>\n)
  | (?P<quote>[\ufffb\ufffc])
  | (?P<word>
        (?:answer|response|question|turn|assistant|model)[ ]\d+(?=[ ]?(?:[:=]|\[[ ]?\[|'s\b|is\b))  # answer 2: 7
      | [^\W\d_]+(?:['’][^\W\d_]+)*)
    """,
    re.VERBOSE | re.IGNORECASE,
)
_PLAIN = re.compile(r"\d{1,3}(?:\.\d{1,4})?")
_QUOTED = re.compile(
    r"""
    ```(?:\w+\n)?(?P<fence>.*?)(?:```|\Z)
  | `(?P<code>[^`]*)`
  | (?<![\w\\])"(?P<double>(?:[^"\\]|\\.)*)(?:(?<!\s)"|"(?![\w\[]))
  | “(?P<curly>[^“”]*)” | „(?P<low>[^„“”]*)[“”] | «(?P<angle>[^«»]*)»
  | (?<!\w)'(?P<single>(?:[^'\n]|(?<=\w)'(?=\w))*)'(?!\w)
  | ‘(?P<turned>(?:[^‘’]|(?<=\w)’(?=\w))*)’
  | ^[ \t]*>(?P<block>[^\n]*)$
    """,
    re.VERBOSE | re.MULTILINE | re.DOTALL,
)
_NAME = re.compile(r"\s*[:=]")  # what follows a name in JSON
_LED = re.compile(  # "I rate it as follows:"
    r"""\bI(?:'d|'ll)?\s[^.!?\n"]{0,40}\b"""
    r"""(?:(?:rate|give|assign|choose)\b[^.!?\n"]{0,60}:|(?:choose|pick|prefer)(?:\s\w+)?)\s*$"""
)
_LABELLED = re.compile(  # what stands before a value of one's own in quotation marks
    rf"\b(?:rating|score|grade|verdict|winner|{'|'.join(DIMENSIONS)})"
    r"\W{0,4}(?:\s(?:is|of|as|be|would be|should be))?[\s:=*_|\[({]{0,4}$",
    re.IGNORECASE,
)
_VALUE = re.compile(
    r"[\s\[*_(]*(?:(?:rating|score|verdict)[\s:*\[]+)?(?:[\d.,/ ]+|\w+ out of \w+|[a-z]{1,6})[\s\])*_.]*", re.IGNORECASE
)
_RATED = re.compile(r"\[\[|\d ?/ ?10|\b(?:rating|score|verdict|better)\b", re.IGNORECASE)
_FULL_WIDTH = {wide: wide - 0xFEE0 for wide in range(0xFF01, 0xFF5F)} | {0x3000: 0x20, 0x3010: 0x5B, 0x3011: 0x5D}
_MARKDOWN = str.maketrans("*_#`~", "     ", "\\")
_LISTED = re.compile(r"^[ ]?\d{1,2}[.)][ ](?=\S)", re.MULTILINE)


def plain(reply: str) -> tuple[str, str]:
    """(the judge's own words, why there are none): without reasoning and quotations, marks of Markdown, wide digits."""
    text, thought = reasoning.without(reply)
    if text.strip() == "$ERROR$":  # FastChat's mark
        return "", "failed call"
    if not text.strip():
        return "", "cut inside reasoning" if thought else "empty"
    text = text.translate(_FULL_WIDTH).replace("\\boxed", " ").strip()
    whole = _QUOTED.match(text)
    if whole and whole.end() == len(text):  # a reply that is one quotation is the judge's own
        text = whole[whole.lastgroup]
    text = _QUOTED.sub(_own, text).translate(_MARKDOWN)
    text = re.sub(r" ?\n[ \n]*", "\n", re.sub(r"[^\S\n]+", " ", text)).strip()
    if re.search(r"^ ?1[.)] ", text, re.MULTILINE) and re.search(r"^ ?2[.)] ", text, re.MULTILINE):
        text = _LISTED.sub("", text)
    return _lengthwise(text), ""


def _own(quoted: re.Match) -> str:
    """A mark in place of a quotation; its text where the marks are JSON's, or hold the value of the judge's label."""
    text, whole, start = quoted[quoted.lastgroup], quoted.string, quoted.start()
    if quoted["fence"] is not None and text.lstrip().startswith(("{", "[{")):
        return _QUOTED.sub(_own, text)
    name = re.fullmatch(r"[A-Za-z_ *-]{1,40}", text) and _NAME.match(whole, quoted.end())
    if len(text) <= 40 and _VALUE.fullmatch(text):
        name = name or _LABELLED.search(whole[max(0, start - 40) : start].replace('"', " "))
        name = name or _LED.search(whole[max(0, start - 120) : start])
    return f" {text} " if name else " \ufffc " if _RATED.search(text) else " \ufffb "


def _lengthwise(text: str) -> str:
    """Tables with a row of names above a row of values, as lines of name and value."""
    lines, heads = [], None
    for line in text.split("\n"):
        cells = [cell.strip() for cell in line.strip(" |").split("|")] if "|" in line else []
        if not cells:
            heads = None
        elif heads and len(cells) == len(heads) and any(re.match(r"\W*\d", cell) for cell in cells):
            lines += [f"{head}: {cell}" for head, cell in zip(heads, cells)]
            continue
        elif sum(cell.lower().startswith(DIMENSIONS) for cell in cells) > 1:
            heads = cells
        lines.append(line)
    return "\n".join(lines)


def tokens(text: str) -> list[Token]:
    """The tokens of `plain` text, and four END, so that a rule may look ahead."""
    found = []
    for match in _TOKENS.finditer(text):
        kind, raw = match.lastgroup, match.group()
        word, number = raw.lower().replace("’", "'"), math.nan
        if kind == "number":
            number = float(raw) if _PLAIN.fullmatch(raw) else math.nan
            kind = "number" if number == number else "odd"
        elif kind == "scale":
            number = float(re.findall(r"\d+", raw)[-1][:9])
        elif word in NUMBERS:
            kind, number = "number", NUMBERS[word]
        found.append(Token(kind, raw, word, number))
    return [*found, *[END] * 4]


def clause(row: list[Token], place: int, most: int = 12) -> list[Token]:
    """The tokens of the same clause before a place, nearest last."""
    start = place
    while start > max(0, place - most) and row[start - 1].kind not in BREAKS and row[start - 1].word not in TURNS:
        start -= 1
    return row[start:place]


def ends(row: list[Token], place: int) -> bool:
    """Whether a number may end before this place: no thing follows that it counts."""
    token = row[place]
    if token.kind not in ("word", "number"):
        return token.raw != "="  # (1 = bad, 10 = good)
    return token.word in THEN or token.raw[0].isupper() or token.word in NAMES


def denies(token: Token) -> bool:
    """Whether a word denies what stands beside it, or only supposes it."""
    return token.word in DENIED or token.word.endswith("n't")


def told(before: list[Token]) -> bool:
    """Whether an answer says it, not the judge."""
    return any(t.word in TOLD for t in before[-4:])


def content(row: list[Token]) -> list[Token]:
    """The tokens without what only stands between them."""
    return [t for t in row if t.kind not in ("stop", "paren", "line", "end")] + [END] * 4
