"""Prompts on their way in: taken from the source and prefilled together, before there are rows for them."""

from __future__ import annotations

import logging
from collections import deque

from eager_lmeval.algorithm.growth import Run, RunSource
from eager_lmeval.engine.counts import EngineCounts
from eager_lmeval.engine.runner import OutOfMemory, Prefix, Runner

__all__ = ["PREFILL_AHEAD", "Intake"]

PREFILL_AHEAD = 8
"""Prompts prefilled in one forward pass at most."""

log = logging.getLogger(f"lm_eval.{__name__}")  # the harness shows the loggers below its own


class Intake:
    """Runs of a source, each with its prompt prefilled, in the source's order."""

    def __init__(self, source: RunSource, runner: Runner, counts: EngineCounts) -> None:
        self._source = source
        self._runner = runner
        self._counts = counts
        self._source_empty = False
        self._taken: deque[Run] = deque()
        """Not prefilled yet, because memory did not suffice for all at once."""
        self._ready: deque[tuple[Run, Prefix]] = deque()

    @property
    def waiting(self) -> bool:
        """Whether there are prompts that have no rows yet, as far as is known."""
        return bool(self._ready or self._taken) or not self._source_empty

    def look_again(self) -> None:
        """A source that other ranks draw from too may have held back; a finished run is when to ask it again."""
        self._source_empty = False

    def next(self) -> tuple[Run, Prefix] | None:
        """The next run, or None: there is none now. Raises OutOfMemory when not even one prompt could be prefilled."""
        if not self._ready:
            self._prefill()
        return self._ready.popleft() if self._ready else None

    def _prefill(self) -> None:
        """Prefills as many prompts together as memory allows: fewer, down to one, when it runs out."""
        while len(self._taken) < PREFILL_AHEAD and not self._source_empty:
            run = self._source.next_run()
            if run is None:
                self._source_empty = True
            else:
                self._taken.append(run)
        together = len(self._taken)
        while together:
            runs = [self._taken[place] for place in range(together)]
            prompts = [run.prompt.token_ids for run in runs]
            try:
                prefixes = self._runner.prefill(prompts)
            except OutOfMemory:
                if together == 1:
                    raise
            else:
                self._ready.extend(zip(runs, prefixes, strict=True))
                self._counts.prefill_tokens += sum(map(len, prompts))
                for _ in runs:
                    self._taken.popleft()
                return
            self._counts.out_of_memory += 1  # only here, for the error holds what the failed pass had allocated
            together //= 2
            log.warning("out of memory: prefilling %d prompts at once instead of %d", together, len(runs))
