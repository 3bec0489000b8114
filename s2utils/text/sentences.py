"""A text cut into sentences by its signs alone: after . ! ? (and a closing quote or bracket) and at blank lines.

Good enough to say what stands together; not a parser. Trap: "Dr. Who" is two sentences, and what has neither signs nor
blank lines (code, a table) is one, however long.
"""

from __future__ import annotations

import re

_END = re.compile(r"(?<=[.!?])\s+|(?<=[.!?][\"'”’»)\]])\s+|\n\s*\n\s*")


def sentences(text: str) -> list[str]:
    """The sentences of a text, in order, without the white space between them; [] where there is nothing else."""
    return [part for part in _END.split(text.strip()) if part]
