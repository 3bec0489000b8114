"""What a model thinks aloud before it answers, left out of what is scored or read.

Kinds: `<think>`, `<thinking>`, `<reasoning>` (DeepSeek-R1, Qwen3 and their likes) and `[THINK]` (Magistral). Traps: a
chat template may open the block in the prompt, so that a reply begins inside it and only the closing mark is there; a
reply that was cut inside its block holds no answer at all.
"""

from __future__ import annotations

import re

_OPEN, _CLOSE = r"<(?:think|thinking|reasoning)>|\[THINK\]", r"</(?:think|thinking|reasoning)>|\[/THINK\]"
_BLOCK = re.compile(rf"(?is)(?:{_OPEN}).*?(?:(?:{_CLOSE})\s*|\Z)")  # closed, or cut: in linear time
_BEGUN = re.compile(rf"(?is)\A.*(?:{_CLOSE})\s*")  # opened by the prompt


def without(text: str) -> tuple[str, bool]:
    """(text without its reasoning, whether there was any); "" where the text ends before its reasoning does."""
    left = _BEGUN.sub("", _BLOCK.sub("", text))
    return left, left != text
