"""One queue over all ranks: each number is given out once, and late, no rank hoards what another could do."""

from __future__ import annotations

import math
from typing import Protocol

__all__ = ["Counters", "LocalQueue", "Queue", "SharedQueue", "may_take"]


def may_take(held: int, enough: int, remaining: int, ranks: int) -> bool:
    """Whether a rank that holds ``held`` unfinished pieces of work may take another.

    It may hold its even share of what remains, and always ``enough`` to be busy: early, ranks draw what they have room
    for; late, none hoards what another could do (guided self-scheduling; benchmarks/scaling.py compares).
    """
    return held < max(1, enough, math.ceil(remaining / ranks))


class Queue(Protocol):
    """The numbers 0 … length−1, each given out once over all ranks, in order."""

    def take(self, held: int, enough: int) -> int | None:
        """The next number, or None: none is left, or this rank holds its share (`may_take`) and asks again later."""

    def finished(self) -> int:
        """Says that one is done; returns how many are, over all ranks."""


class Counters(Protocol):
    """What a queue needs of the ranks that share it."""

    size: int

    def add(self, key: str, number: int) -> int:
        """Adds to a counter that all ranks share; returns its value."""

    def check(self) -> None:
        """Raises UsageError when another rank has failed."""


class LocalQueue:
    """The queue of one process."""

    def __init__(self, length: int) -> None:
        self._numbers = iter(range(length))
        self._finished = 0

    def take(self, held: int, enough: int) -> int | None:
        return next(self._numbers, None)

    def finished(self) -> int:
        self._finished += 1
        return self._finished


class SharedQueue:
    """A queue of that name and length over all ranks."""

    def __init__(self, counters: Counters, name: str, length: int) -> None:
        self._counters = counters
        self._name = name
        self._length = length
        self._seen = 0
        """Numbers given out, as far as this rank knows."""

    def take(self, held: int, enough: int) -> int | None:
        self._counters.check()
        if self._seen < self._length and not may_take(held, enough, self._length - self._seen, self._counters.size):
            self._seen = self._counters.add(f"{self._name} given", 0)
            return None
        if self._seen >= self._length:
            return None
        number = self._counters.add(f"{self._name} given", 1) - 1
        self._seen = number + 1
        return number if number < self._length else None

    def finished(self) -> int:
        return self._counters.add(f"{self._name} finished", 1)
