"""What is changed in other libraries while a notebook or a bar is shown; CONTRIBUTING lists all patches.

None of these changes what is made: those that do stand in the room of their step (`training.patches`,
`evaluation.patches`), so that an edit here makes no artefact anew.
"""

from __future__ import annotations

import sys


def bars_into(log: str) -> None:
    """Let every tqdm that is imported from now on write to the end of the file `log`.

    tqdm reads its other settings from the environment, its file it does not; and in a kernel it would take widgets.
    """
    import tqdm.auto

    file = open(log, "a", buffering=1, encoding="utf-8")  # noqa: SIM115 — as long as the process

    class LogBar(tqdm.std.tqdm):
        """A bar as text, appended to the job's log."""

        def __init__(self, *args, **settings):
            super().__init__(*args, **(settings | {"file": file}))

    tqdm.tqdm = tqdm.auto.tqdm = LogBar


def without_grammar() -> None:
    """Let jsonschema be imported without rfc3987_syntax, whose grammar it compiles each time, in a second.

    An import of it fails then, as where it is not installed: jsonschema checks no IRIs, of which a notebook has none.
    """
    sys.modules.setdefault("rfc3987_syntax", None)
