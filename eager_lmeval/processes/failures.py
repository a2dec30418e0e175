"""What ends one process ends all: the others learn why, wherever it happened."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from eager_lmeval.processes.ranks import Ranks

__all__ = ["announce_uncaught", "failing_together"]


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


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
