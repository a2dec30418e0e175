"""The one error that a user's input can cause, and what its message may suggest."""

import difflib
from collections.abc import Iterable

__all__ = ["UsageError", "near_name"]


class UsageError(ValueError, SystemExit):
    """Bad input: the message says what came, what is accepted and what to change.

    It is a ``ValueError`` for callers in Python, and a ``SystemExit`` so that the harness's command line, which
    catches nothing, prints the one line and exits with status 1 instead of showing a traceback.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.code = f"eager_lmeval: {message}"


def near_name(name: str, known: Iterable[str], cutoff: float = 0.7) -> str | None:
    """The known name that ``name`` most likely misspells; ``cutoff`` is the least similarity, 0 to 1."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)), None)
