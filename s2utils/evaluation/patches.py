"""What is changed in other libraries while models are scored; CONTRIBUTING lists all patches.

In this room because prompts pass through it, so that it is part of a score's identity.
"""

from __future__ import annotations

import functools

import lm_eval.utils


def compile_templates_once() -> None:
    """Have lm-eval keep a task's compiled template.

    It compiles it anew for every shot, half of the time in which it builds requests.
    """
    lm_eval.utils.env.from_string = functools.cache(lm_eval.utils.env.from_string)
