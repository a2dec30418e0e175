"""One queue over all ranks: each number is given out once, and late, no rank hoards what another could do."""

from __future__ import annotations

import math
from typing import Protocol

__all__ = ["Counters", "Queue", "SharedQueue", "may_take"]


def may_take(held: int, unfinished: int, ranks: int) -> bool:
    """Whether a rank that holds ``held`` unfinished pieces of work may take another.

    It may hold its even share of all that is unfinished, on any rank or on none: so all begin with at most the same
    number, and the faster ones get what the slower ones have not begun (benchmarks/scaling.py compares).
    """
    return held < max(1, math.ceil(unfinished / ranks))


class Counters(Protocol):
    """What a queue needs of the ranks that share it."""

    size: int

    def add(self, key: str, number: int) -> int:
        """Adds to a counter that all ranks share; returns its value."""

    def check(self) -> None:
        """Raises UsageError when another rank has failed."""


class Queue:
    """The numbers 0 … length−1, each given out once over all ranks, in order; here to one process."""

    def __init__(self, length: int) -> None:
        self._numbers = iter(range(length))
        self._finished = 0

    def take(self, held: int) -> int | None:
        """The next number, or None: none is left, or this rank holds its share (`may_take`) and asks again later."""
        return next(self._numbers, None)

    def finished(self) -> int:
        """Says that one is done; returns how many are, over all ranks."""
        self._finished += 1
        return self._finished


class SharedQueue(Queue):
    """A queue of that name over all ranks."""

    def __init__(self, counters: Counters, name: str, length: int) -> None:
        self._counters = counters
        self._name = name
        self._length = length
        self._empty = length == 0

    def take(self, held: int) -> int | None:
        self._counters.check()
        if self._empty:
            return None
        unfinished = self._length - self._counters.add(f"{self._name} finished", 0)
        if not may_take(held, unfinished, self._counters.size):
            return None
        number = self._counters.add(f"{self._name} given", 1) - 1
        self._empty = number >= self._length - 1
        return number if number < self._length else None

    def finished(self) -> int:
        return self._counters.add(f"{self._name} finished", 1)
