"""Words and sentences of English texts for datatrove's blocks, in place of spaCy's, which each block would ask anew.

Rules are those of spaCy's English: a run between white space loses marks at both ends, then parts at hyphens and
slashes between letters; contractions part in two; addresses, numbers, initials and abbreviations stay whole. A run is
parted once, and the words of a text once for all blocks that look at it. Blocks take `Words()` where they ask for a
language. Trap: near to spaCy, not equal: 96 % of texts have the very same words, and Gopher's share of words with a
letter counts every mark as a word, so a text at its limit may fall on the other side.
"""

from __future__ import annotations

import functools
import itertools
import re
import string
import unicodedata
from collections.abc import Iterator

from datatrove.utils.word_tokenizers import WordTokenizer

KEPT = 200_000  # runs whose parts are remembered
_QUOTES = "'\"”“`‘´’‚,„»«「」『』（）〔〕【】《》〈〉"
_MARKS = f"[…,:;!?¿؟¡()\\[\\]{{}}<>_#*&。？！，、；：～·।،۔؛٪{re.escape(_QUOTES)}]"
_SIGNS = "[$£€¥฿₽﷼₴₠₡₢₣₤₥₦₧₨₩₪₫€₭₮₯₰₱₲₳₵₶₷₸₹₺₻₼₾₿]"
_UNITS = (
    "km km² km³ m m² m³ dm dm² dm³ cm cm² cm³ mm mm² mm³ ha µm nm yd in ft kg g mg µg t lb oz m/s km/h kmh mph hPa Pa "
    "mbar mb MB kb KB gb GB tb TB T G M K %"
).split()
_PREFIX = re.compile(rf"§|%|=|—|–|\+(?![0-9])|\.\.+|…|{_MARKS}|{_SIGNS}|[^\w\s!-~]")
_SUFFIX = re.compile(
    rf"""(?:\.\.+|…|{_MARKS}|['’][sS]|—|–|[^\w\s!-~]
    |(?<=[0-9])(?:\+|{_SIGNS}|{"|".join(map(re.escape, sorted(_UNITS, key=len, reverse=True)))})
    |(?<=[0-9a-zß-öø-ÿ%²\-+…]|{_MARKS})\.|(?<=[A-Z][A-Z])\.)$""",
    re.VERBOSE,
)
_LETTER = "[^\\W\\d_]"
_INFIX = re.compile(
    rf"""\.\.+|…|(?<=[0-9])[+\-*^](?=[0-9-])|(?<=[a-z{re.escape(_QUOTES)}])\.(?=[A-Z{re.escape(_QUOTES)}])
    |(?<={_LETTER}),(?={_LETTER})|(?<=[^\W_])(?:-|–|—|--|---|——|~)(?={_LETTER})
    |(?<=[^\W_])[:<>=/](?={_LETTER})""",
    re.VERBOSE,
)
_ADDRESS = re.compile(
    r"(?:https?|ftp)://\S*[\w/]|(?:[\w-]+\.)+[a-z]{2,6}(?:[:/?#]\S*[\w/])?|[\w.+-]+@[\w-]+(?:\.[\w-]+)+"
)
_ENDS = frozenset(".!?。！？．؟।")  # of a sentence
_ABBREVIATIONS = (
    "'em Adm. Bros. co. Co. Corp. D.C. Dr. e.g. E.g. E.G. Gen. Gov. i.e. I.e. I.E. Inc. Jr. Ltd. Md. Messrs. Mo. "
    "Mont. Mr. Mrs. Ms. Ph.D. Prof. Rep. Rev. Sen. St. vs. v.s. a.m. p.m. Ala. Ariz. Ark. Calif. Colo. Conn. Del. Fla. "
    "Ga. Ia. Id. Ill. Ind. Kan. Kans. Ky. La. Mass. Mich. Minn. Miss. N.C. N.D. N.H. N.J. N.M. N.Y. Neb. Nebr. Nev. "
    "Okla. Ore. Pa. S.C. Tenn. Va. Wash. Wis. Jan. Feb. Mar. Apr. Jun. Jul. Aug. Sep. Sept. Oct. Nov. Dec. and/or "
    "w/o o'clock :) :( :-) ;) :D :P :/ <3 C++ c++ ma'am"
).split()
_NOT = "ai ca could do does did had may might must need ought sha should wo would are is was were have has dare".split()
_WHO = {  # what may follow a pronoun or an asking word
    **dict.fromkeys(["you", "we", "they"], ["'ll", "'d", "'ve", "'re"]), "i": ["'m", "'ll", "'d", "'ve"],
    **dict.fromkeys(["he", "she", "it", "that", "there", "this"], ["'ll", "'d", "'s"]),
    **dict.fromkeys(["who", "what", "when", "where", "why", "how"], ["'ll", "'d", "'s", "'re", "'ve"]),
    **dict.fromkeys(["could", "might", "must", "should", "would"], ["'ve"]),
}  # fmt: skip
_WORDS = "ill Ill its Its hell Hell shell Shell shed Shed were Were well Well whore Whore wed Wed id Id".split()


def _special() -> dict[str, list[str]]:
    """Runs that part otherwise than by their marks."""
    parts = {run: [run] for run in (*_ABBREVIATIONS, *(f"{letter}." for letter in string.ascii_lowercase))}
    pairs = [(verb, "n't") for verb in _NOT] + [(who, end) for who, ends in _WHO.items() for end in ends]
    for (first, end), mark in itertools.product(pairs, ("'", "’", "")):
        for start in {first, first.capitalize()}:
            if (run := start + end.replace("'", mark)) not in _WORDS:
                parts[run] = [start, end.replace("'", mark)]
    for run in ("cannot", "gonna", "gotta"):
        for word in (run, run.capitalize()):
            parts[word] = [word[:3], word[3:]]
    return parts


_SPECIAL = _special()


@functools.lru_cache(maxsize=KEPT)
def _parts(run: str) -> tuple[str, ...]:
    """Words of a run between white space."""
    if run.isalpha() and run not in _SPECIAL:
        return (run,)
    before: list[str] = []
    after: list[str] = []
    while run and run not in _SPECIAL and not _ADDRESS.fullmatch(run):
        if prefix := _PREFIX.match(run):
            before.append(prefix[0])
            run = run[prefix.end() :]
            if not run or run in _SPECIAL:
                break
        if suffix := _SUFFIX.search(run):
            after.append(suffix[0])
            run = run[: suffix.start()]
        if not prefix and not suffix:
            break
    if run in _SPECIAL:
        middle = _SPECIAL[run]
    elif _ADDRESS.fullmatch(run):
        middle = [run]
    else:
        middle, start = [], 0
        for infix in _INFIX.finditer(run):
            if infix.start() > start:
                middle.append(run[start : infix.start()])
            middle.append(infix[0])
            start = infix.end()
        middle += [run[start:]] if run[start:] else []
    return (*before, *middle, *reversed(after))


@functools.lru_cache(maxsize=KEPT)
def _mark(word: str) -> bool:
    return all(unicodedata.category(character)[0] == "P" for character in word)


class Words(WordTokenizer):
    """What datatrove's blocks take for a language."""

    def __init__(self):
        super().__init__("en")
        self._text, self._words = "", []

    def word_tokenize(self, text: str) -> list[str]:
        """Words and marks in order."""
        if text is not self._text:
            self._text, self._words = text, [word for run in text.split() for word in _parts(run)]
        return self._words

    def sent_tokenize(self, text: str) -> list[str]:
        """Sentences without the white space around them."""
        return [text[start:end].strip() for start, end in _sentences(text)]

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        """(start, end) of each sentence, the white space after it included."""
        return list(_sentences(text))


def _sentences(text: str) -> Iterator[tuple[int, int]]:
    """A sentence ends before the first word after a mark that ends it; marks that follow belong to it."""
    start, place, ended = 0, 0, False
    for run in text.split():
        place = text.index(run, place)
        for word in _parts(run):
            if ended and not _mark(word):
                yield start, place
                start, ended = place, False
            ended = ended or word in _ENDS
            place += len(word)
    if text[start:].strip():
        yield start, len(text)
