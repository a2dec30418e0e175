"""What ends one process ends all: the others learn why, wherever it happened."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from eager_lmeval.processes.ranks import Ranks

__all__ = ["announce_uncaught", "end_interrupted_in_one_line", "failing_together"]


@contextmanager
def failing_together(ranks: Ranks) -> Iterator[None]:
    """Tells the other ranks what ended this one."""
    try:
        yield
    except BaseException as error:
        ranks.fail(_first_line(error))
        raise


def announce_uncaught(ranks: Ranks) -> None:
    """Tells the other ranks of an error that nothing catches: one of the harness, between our own calls."""
    before = sys.excepthook

    def announce(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        before(kind, error, traceback)
        ranks.fail(_first_line(error))
        if "did not find any docs" in str(error):
            print(
                f"eager_lmeval: rank {ranks.rank} of {ranks.size} got no document: a task has fewer documents than "
                f"there are processes; start fewer processes",
                file=sys.stderr,
                flush=True,
            )

    sys.excepthook = announce


class _InterruptHook:
    """A `sys.excepthook` for which an interruption is no error of the program."""

    def __init__(self, before: Callable[..., Any]) -> None:
        self.before = before
        self.how_to_go_on: Callable[[], str] | None = None

    def __call__(self, kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        if not issubclass(kind, KeyboardInterrupt):
            self.before(kind, error, traceback)
        elif self.how_to_go_on is not None:
            print(f"\neager_lmeval: interrupted; {self.how_to_go_on()}", file=sys.stderr, flush=True)


def end_interrupted_in_one_line(how_to_go_on: Callable[[], str] | None) -> None:
    """Lets an interruption that nothing catches (SIGINT) end this process with one line instead of a traceback.

    The line says what ``how_to_go_on`` returns then; None: this process says nothing, because another one does. The
    exit status stays what Python makes of it.
    """
    hook = sys.excepthook
    if not isinstance(hook, _InterruptHook):
        sys.excepthook = hook = _InterruptHook(hook)
    hook.how_to_go_on = how_to_go_on


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
