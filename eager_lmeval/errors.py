"""The one error that a user's input can cause, and what its message may suggest."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError

__all__ = ["UsageError", "near_name", "problem"]


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


def problem(error: ValidationError) -> str:
    """The first problem in one line: where it is and what should stand there."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = ".".join(map(str, first["loc"]))
    message = first["msg"][:1].lower() + first["msg"][1:]
    return f"{place}: {message}" if place else message
