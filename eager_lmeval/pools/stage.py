"""One stage of a pool: who is grown next, and when a prompt has finished. Knows no strategy and no tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from eager_lmeval.algorithm.growth import Growth, Itinerary, Run
from eager_lmeval.algorithm.tree import Tree
from eager_lmeval.processes.workqueue import Queue

__all__ = ["Stage", "Work"]


class Work(NamedTuple):
    """One prompt in one stage: what it is called in the journal, what has grown, and the runs that grow it."""

    place: int
    name: str
    part: Tree
    itinerary: Itinerary


class Stage:
    """Hands the work of one stage to an engine as the queue gives it out, and what grew to ``keep``. A `RunSource`."""

    def __init__(self, work: Sequence[Work], queue: Queue, keep: Callable[[Work, int], None]) -> None:
        self.sequences = 0
        """Made here, of finished prompts."""
        self._work = work
        self._queue = queue
        self._keep = keep
        self._started: dict[int, Work] = {}

    def next_run(self) -> Run | None:
        place = self._queue.take(held=len(self._started))
        if place is None:
            return None
        work = self._work[place]
        self._started[id(work.part.prompt)] = work
        return next(work.itinerary)

    def finished(self, growth: Growth) -> Run | None:
        work = self._started[id(growth.run.prompt)]
        work.part.sequences += growth.sequences
        work.part.prefill_tokens += growth.prefill_tokens
        work.part.settled_time = growth.settled_time
        following = next(work.itinerary, None)
        if following is None:
            del self._started[id(growth.run.prompt)]
            self.sequences += work.part.num_sequences
            self._keep(work, self._queue.finished())
        return following
