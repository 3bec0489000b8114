"""The one kind of error that whoever runs this can mend: a parameter, a file, a server, what is not made yet.

The message names it and the remedy, so a stack trace would say nothing more: notebooks show the message alone, and
commands end with it as one line. Trap: an error of our own code must not be one of these.
"""

from __future__ import annotations


class UserError(Exception):
    """What is said stands in the message, whole."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows instead of a stack trace."""
        return [str(self)]


class ParameterError(UserError, ValueError):
    """A profile or an override that cannot be used; the message names file, key and remedy."""
