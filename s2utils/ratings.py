"""Ratings in the tokens of a judge's reply: what is said of which name, and in which form.

The grammar: a name ("rating", a dimension, "confidence") or a verb ("I give") leads, past a few words, by a link (":",
"is", a cell's border) to a number, which may have a scale, a range or a sign of percent behind it. Ratings are 1–10.
Traps: what an answer says of itself, talk of the scale ("a rating of 10 is reserved for …"), another thing's number, what
is denied or only supposed, and what is counted ("9 out of 10 words") are no ratings.
"""

from __future__ import annotations

from s2utils import replies
from s2utils.replies import Said, Token

# of the judge alone
_GIVES = frozenset("give giving rate assign award settle score grade choose go say pick put".split())
_EARNS = frozenset("deserves deserve earns merits warrants".split())
_SUMMED = frozenset("evaluation assessment judgment judgement verdict conclusion result total answer summary".split())
_OF_A_SCALE = frozenset(
    "is are was would means requires needs should must can could might indicates goes stands seems feels looks".split()
)
_FAIR = frozenset(
    "fair appropriate justified right deserved warranted suitable reasonable fitting given best merited".split()
)
_NOT_OWN = replies.OTHERS.union(
    "highest lowest maximum minimum max min top possible previous other higher lower".split(), replies.DIMENSIONS
)
_NOT_OWN -= {"overall"}
_PLACES = frozenset("page step part chapter section question figure line slide day version item test tests".split())
_DIGITS = ("number", "odd")
_LEADING = _GIVES | _EARNS | set(replies.NAMES)


def statements(row: list[Token]) -> list[Said]:
    """All that is said of ratings: of names and by verbs, then the brackets and n of 10 that nothing leads to."""
    found, used, other_scale = [], set(), _other_scales(row)
    for at, token in enumerate(row):
        if token.word in _LEADING and (lead := _lead(row, at)):
            place, said = lead
            used.add(place)
            if said and isinstance(said.value, float) and other_scale[place] and row[place + 1].kind != "over":
                said = said._replace(value="another scale")
            found += [said] if said else []
    for place, token in enumerate(row):
        if place not in used and token.kind in ("open", "number") and (said := _bare(row, place)):
            found.append(said)
    alone = _alone(row)
    return found if alone is None else [*found, Said("", "alone", alone, False, 0)]


def _lead(row: list[Token], at: int) -> tuple[int, Said | None] | None:
    """(place of a number, what a name or verb at `at` says of it: None if it is denied, an answer's or the scale's)."""
    name, before = row[at].word, replies.clause(row, at)
    words = [t.word for t in before]
    verb = name in _EARNS or (name in _GIVES and not replies.FIRST.isdisjoint(words[-5:]))
    owner = "rating" if verb else replies.NAMES.get(name, "")
    ahead = _ahead(row, at, verb) if owner else None
    if not ahead:
        return None
    place, link, between = ahead
    brackets = row[place].kind == "open"
    value, after = _bracketed(row, place) if brackets else _number(row, place)
    whole = "over" in [t.kind for t in row[place:after]]
    ended = whole or replies.ends(row, after) or row[after].word in _OF_A_SCALE
    if not brackets and not (ended and (link or (not between and name not in ("score", "grade")))):
        return None
    if owner == "rating" and words and words[-1] in _NOT_OWN:
        owner = "other"
    plainly = link in ("colon", "bar") or (brackets and not link)
    denied = (not plainly and any(map(replies.denies, before + row[at:place]))) or (verb and "was" in words)
    if value == "" or denied or replies.told(before) or _of_the_scale(row, words, after):
        return place, None
    final = name == "settle" or not replies.FINAL.isdisjoint(words[-3:])
    return place, Said(owner, "brackets, named" if brackets else "named", value, final, place)


def _bare(row: list[Token], place: int) -> Said | None:
    """What brackets, or n of 10, say by themselves."""
    before = replies.clause(row, place)
    if replies.told(before):
        return None
    if row[place].kind == "open":
        value, after = _bracketed(row, place)
        none = value == "" or (before and replies.denies(before[-1])) or _of_the_scale(row, [], after)
        return None if none else Said("", "brackets", value, False, place)
    mark = row[place + 1]  # "/" and "out of", or a whole "out of 10"
    if not (mark.kind == "over" and row[place + 2].number == 10) and not (mark.kind == "scale" and mark.word[0] == "o"):
        return None
    value, after = _number(row, place)
    if value == "another scale" or not replies.ends(row, after) or not _own(before):
        return None
    ranged = len(before) > 1 and before[-1].kind == "dash" and before[-2].kind == "number"
    return Said("", "in words", "a range" if ranged else value, False, place)


def _ahead(row: list[Token], at: int, verb: bool) -> tuple[int, str, int] | None:
    """(place of the number that a name or verb leads to, the link to it, how many words lie between); None for none."""
    link, words, article = "is" if verb else "", 0, verb
    for place in range(at + 1, min(at + 16, len(row))):
        token = row[place]
        if token.kind == "open" or token.kind == "odd" or (token.kind == "number" and token.raw[0].isdigit()):
            return place, link, words
        if token.kind == "number" and replies.ends(row, place + 1):  # in letters: "one" is mostly none
            return place, link, words + 1
        if token.kind in ("stop", "comma", "quote", "end") or (replies.NAMES.get(token.word, "rating") != "rating"):
            return None
        if (token.kind == "line" and (link == "bar" or words)) or (token.kind == "bar" and link == "line"):
            return None
        if token.kind in ("colon", "bar", "paren", "line", "dash") or token.word in replies.LINKS:
            link, article = token.kind if token.kind != "word" else "is", False
        elif token.kind == "word" and token.word not in replies.PASSED:
            if link == "colon":
                return None
            words += 1
            link = link if article else ""
        article = article or token.word in ("a", "an") or verb
    return None


def _number(row: list[Token], place: int) -> tuple[float | str, int]:
    """(the rating that is written here, or why it is none; the place after it)."""
    value, after = row[place].number, place + 1
    after += row[after].kind == "close"  # [[4]]/5
    if (row[after].kind == "over" or row[after].word == "of") and row[after + 1].kind in _DIGITS:
        if row[after + 1].number != 10:
            return "another scale", after + 2
        after += 2
        after += row[after].kind == "star"
    after += row[after].kind == "comma" and row[after + 1].kind == "dash"  # 6, maybe a 7
    one, two, three, four = row[after : after + 4]
    if one.kind == "percent":
        return "percent", after + 1
    if one.kind == "star" or (one.kind == "scale" and one.number != 10):
        return "another scale", after + 1
    if one.kind == "dash" or one.word == "and":
        second = three if two.word in ("a", "an") else two
        if second.kind in (*_DIGITS, "open"):
            return "a range", after + 2
    if one.kind == "comma":
        second, then = (three, four) if two.kind == "paren" else (two, three)
        if second.kind == "number" and then.kind in ("comma", "close", "stop", "line", "end"):
            return "several differ", after + 2
    if row[place].kind == "odd":
        return "no plain number", after
    return (value if 1 <= value <= 10 else "not 1 to 10"), after


def _bracketed(row: list[Token], place: int) -> tuple[float | str, int]:
    """(the rating in [[…]], or why it is none, "" where it holds no number; the place after the brackets)."""
    close = next(
        (i for i in range(place + 1, place + 12) if i < len(row) and row[i].kind in ("close", "open", "end")), 0
    )
    inside = row[place + 1 : close]
    first = next((i for i, t in enumerate(inside, place + 1) if t.kind in _DIGITS), 0)
    if not first or any(replies.NAMES.get(t.word) == "other" for t in inside):
        return "", place + 1
    if row[close].kind != "close":
        return "not closed", place + 1
    value, after = _number(row, first)
    several = isinstance(value, float) and any(t.kind in _DIGITS for t in row[after:close])
    return "several differ" if several else value, max(after, close + 1)


def _other_scales(row: list[Token]) -> list[bool]:
    """Whether the sentence of each token names a scale that does not end at 10."""
    found, start, other = [], 0, False
    for place, token in enumerate(row):
        other = other or (token.kind == "scale" and token.number != 10)
        if token.kind in ("stop", "line", "end"):
            found += [other] * (place + 1 - start)
            start, other = place + 1, False
    return found


def _of_the_scale(row: list[Token], words: list[str], after: int) -> bool:
    """Whether "a rating of 10 …" tells what the scale means; "a rating of 7 seems fair" does not."""
    if row[after].word in ("means", "indicates", "requires"):
        return True
    if not words or words[-1] not in ("a", "an", "any", "every", "each") or row[after].word not in _OF_A_SCALE:
        return False
    return all(t.word not in _FAIR for t in row[after : after + 4])


def _own(before: list[Token]) -> bool:
    """Whether n of 10 after these words may be the judge's rating: they name nothing else, and deny nothing."""
    words = {t.word for t in before}
    if any(map(replies.denies, before)) or not words.isdisjoint(_PLACES | replies.OTHERS):
        return False
    return all(t.kind != "colon" for t in before) or bool(words & (_SUMMED | replies.LABELS | {"overall"}))


def _alone(row: list[Token]) -> float | str | None:
    """The rating of a reply that holds nothing else."""
    whole = replies.content(row)
    value, after = _number(whole, 0) if whole[0].kind == "number" else (None, 0)
    return value if whole[after].kind == "end" else None
