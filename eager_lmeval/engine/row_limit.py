"""How many rows an engine decodes at once: as many as there is memory for, by what rows have come to need."""

from __future__ import annotations

import logging
from collections.abc import Callable
from collections.abc import Sequence as Seq

from eager_lmeval.engine.counts import EngineCounts
from eager_lmeval.engine.runner import OutOfMemory, Runner
from eager_lmeval.errors import UsageError

__all__ = ["RowLimit"]

log = logging.getLogger(f"lm_eval.{__name__}")  # the harness shows the loggers below its own


class RowLimit:
    """The row limit of an engine whose slots ``runner`` has. Needs are positions that a row's next step takes."""

    def __init__(self, runner: Runner, most: int, stats: EngineCounts) -> None:
        self.now = most
        """Rows decoded at once."""
        self._most = most
        """What that never exceeds; shrinks when memory runs out all the same."""
        self._runner = runner
        self._stats = stats
        self._ended = self._ended_positions = 0
        """Rows that have ended, and the positions that they had in all."""

    def count_ended(self, needs: Seq[int]) -> None:
        self._ended += len(needs)
        self._ended_positions += sum(needs)

    def fit(self, needs: Seq[int], parked: Seq[int]) -> None:
        """As many of the rows that are decoded, the oldest first, as there is memory for in the next step.

        Where that is all of them, there are as many more, parked ones first, as there would be memory for if none were
        shorter than rows have become on average.
        """
        fitting = self._runner.room(needs)
        if fitting == len(needs):
            needs = [*needs, *parked]
            average = self._average_need(needs)
            further = [average] * (self._most - len(needs))
            fitting = max(fitting, self._runner.room([max(need, average) for need in (*needs, *further)]))
        self.now = max(1, min(self._most, fitting))

    def _average_need(self, needs: Seq[int]) -> int:
        """Of the rows that have ended, at their end, and of those that have not, which have these needs now."""
        return max(1, (self._ended_positions + sum(needs)) // max(1, self._ended + len(needs)))

    def reserve(self, needs: Seq[int], give_back: Callable[[], None]) -> None:
        """Room for twice the rows, as far as the limit allows; where there is less, for fewer, but for these."""
        while self.now > len(needs):
            try:
                return self._runner.reserve(needs, min(self.now, 2 * len(needs)))
            except OutOfMemory:
                self._stats.out_of_memory += 1
            self._lower(max(len(needs), self.now // 2))
            give_back()
        return self._runner.reserve(needs, len(needs))

    def shrink(self, in_use: int, on_slots: int, reason: str) -> None:
        """Memory ran out with so many rows in use, ``on_slots`` of them on slots: the limit falls.

        By what is not in use, and where the limit allows no more than that, to half of it. UsageError where one row is
        too many.
        """
        spare = self._runner.slots.total() > on_slots
        if spare and self.now > in_use:
            self._lower(max(1, in_use, self.now // 2))
        elif self.now > 1 and in_use:
            self._lower(max(1, min(self.now, in_use) // 2))
        elif spare:
            self._lower(self.now)
        else:
            raise UsageError(_does_not_fit(in_use, reason))

    def _lower(self, rows: int) -> None:
        self._most = self.now = rows
        log.warning("out of memory: going on with max_rows=%d", rows)


def _does_not_fit(in_use: int, reason: str) -> str:
    if in_use > 1:
        what, remedy = f"for the {in_use} sequences of one prompt", "fewer max_sequences, "
    else:
        what, remedy = "with one sequence at a time", ""
    return (
        f"out of memory {what} ({reason}); take {remedy}a smaller max_gen_toks, a shorter context, dtype=bfloat16, "
        f"or a larger device"
    )
