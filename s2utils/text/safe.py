"""Text of others made safe to be seen: what would act in a terminal or turn the reading direction becomes a sign."""

from __future__ import annotations

import re

# terminal codes and other controls, and marks that turn the direction of what follows
UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f\x80-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def visible(text: object) -> str:
    """Text whose controls are signs a reader sees (␛, ⟨U+202E⟩), so that none acts; lines and tabs stay."""
    lines = str(text).replace("\r\n", "\n").encode("utf-8", "replace").decode()
    return UNSEEN.sub(lambda m: chr(0x2400 + ord(m[0])) if m[0] < " " else f"⟨U+{ord(m[0]):04X}⟩", lines)
