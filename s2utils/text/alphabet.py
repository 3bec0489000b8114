"""Whether a text is written in Latin letters, for which readability, ROUGE and English encoders are made.

Elsewhere these measures give a number all the same: Pyphen counts one syllable a word, rouge_score drops every letter
but a to z. Trap: a text of digits or signs alone is in no script and counts as Latin. Source: Unicode's blocks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_OTHER = re.compile(  # letters beyond the blocks that hold Latin ones, their phonetic, raised and full-width forms
    r"[^\W\d_\u0000-\u02ff\u1d00-\u1dbf\u1e00-\u1eff\u2070-\u209f\u2100-\u214f\u2c60-\u2c7f\ua720-\ua7ff\uab30-\uab6f"
    r"\ufb00-\ufb06\uff21-\uff5a]"
)


def latin(text: str) -> bool:
    """Whether at least half of the letters are Latin; a text without a letter is."""
    if text.isascii():
        return True
    others = sum(map(str.isalpha, _OTHER.findall(text)))
    return not others or 2 * others <= sum(map(str.isalpha, text))


def note(texts: Iterable[str], what: str) -> str:
    """For a caption: how many of the texts are not in Latin letters, where `what` is not defined; "" where all are."""
    n = sum(not latin(text) for text in texts)
    return f" {n} not in Latin letters, for which {what} is not defined: failed." if n else ""
