"""The progress of a pool: two lines in a terminal that are kept up to date, a line now and then in a log."""

from __future__ import annotations

import logging
import math
import sys
import time
from collections import deque
from collections.abc import Iterable
from collections.abc import Sequence as Seq
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from eager_lmeval.algorithm.tree import Sequence, Tree

if TYPE_CHECKING:
    from eager_lmeval.pools.decoding import PoolEngine

__all__ = ["Progress", "steps_left"]

log = logging.getLogger(f"lm_eval.{__name__}")  # the harness shows the loggers below its own

TERMINAL_INTERVAL_S = 0.5
LOG_INTERVAL_S = 30.0
SPEED_OVER_S = 30.0
"""The speed is that of at least so many seconds, once there are that many."""


class _Mark(NamedTuple):
    """Where the engine stood at a moment, in counts since its creation."""

    at_s: float
    steps: int = 0
    tokens: int = 0


class Progress:
    """Follows one pool through its stages: what has been decoded, unfinished prompts included, and what is left.

    Prompts are counted over all processes, everything else in this one, the first of ``processes``.
    """

    def __init__(self, task: str, disable: bool = False, processes: int = 1) -> None:
        self._task = task
        self._disable = disable
        self._processes = processes
        self._terminal = sys.stderr.isatty()
        self._lines: tuple[tqdm[None], tqdm[None]] | None = None
        self._until_close = ExitStack()
        self._title = task
        self._surplus: int | None = None
        self._prompts = self._most = 0
        self._done = self._done_here = self._made = self._stopped = 0
        self._now = self._first = _Mark(time.monotonic())
        self._marks = deque([self._now])
        self._engine: PoolEngine | None = None

    def stage(self, number: int, prompts: int, most: int, surplus: int | None = None) -> None:
        """Stage 1 or 2 begins, over so many prompts that get ``most`` sequences together at most."""
        self._title = f"{self._task}, stage {number}"
        self._prompts, self._most, self._surplus = prompts, most, surplus
        self._done = self._done_here = self._made = self._stopped = 0
        self._first = self._now = self._now._replace(at_s=time.monotonic())
        self._marks = deque([self._now])
        if self._disable:
            return
        if self._terminal:
            form = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} prompts [{elapsed}{postfix}]"
            self._until_close.enter_context(logging_redirect_tqdm())  # above the lines, not into them
            bar = self._until_close.enter_context(tqdm(total=prompts, desc=self._title, bar_format=form))
            self._lines = bar, self._until_close.enter_context(tqdm(bar_format="{desc}", position=1))
        else:
            log.info("%s: %d prompts, at most %d sequences", self._title, prompts, most)

    def prompt_done(self, part: Tree, done: int) -> None:
        """A prompt has finished the stage in this process, which made ``part``; ``done`` have in all processes."""
        self._done = done
        self._done_here += 1
        self._made += part.num_sequences
        self._stopped += _stopped(part.sequences)

    def step(self, engine: PoolEngine) -> None:
        """Called after every step; shows something when it is time to."""
        self._engine = engine
        interval = TERMINAL_INTERVAL_S if self._terminal else LOG_INTERVAL_S
        if not self._disable and time.monotonic() - self._marks[-1].at_s >= interval:
            self._look(engine)
            self._show(engine, f", {self._left(engine)}, rows {engine.in_use}/{engine.limit}")

    def close(self) -> None:
        """The stage has ended here; shows where it stands for the last time."""
        if self._engine is not None and not self._disable:
            self._look(self._engine)
            taken = tqdm.format_interval(self._now.at_s - self._first.at_s)
            self._show(self._engine, "" if self._terminal else f" in {taken}")
        self._until_close.close()
        self._lines = self._engine = None

    def _look(self, engine: PoolEngine) -> None:
        counts = engine.stats
        tokens = counts.tokens + counts.forks  # at a fork the parent's row makes two; as trees count them
        self._now = _Mark(time.monotonic(), counts.steps, tokens)
        while len(self._marks) > 1 and self._marks[1].at_s <= self._now.at_s - SPEED_OVER_S:
            self._marks.popleft()
        self._marks.append(self._now)

    def _show(self, engine: PoolEngine, state: str) -> None:
        growths, counts = engine.growths, engine.stats
        longest, limit = max(
            ((len(live.tokens), growth.run.prompt.max_new_tokens) for growth in growths for live in growth.live),
            default=(0, 0),
        )
        speed = (self._now.tokens - self._marks[0].tokens) / max(1e-9, self._now.at_s - self._marks[0].at_s)
        figures = ", ".join(
            (
                f"{self._now.tokens:,} tokens",
                f"{speed:.0f} tokens/s",
                f"{counts.roots + counts.forks} sequences",
                f"{counts.forks} branches",
                *([f"longest {longest}/{limit}"] if growths else []),
                *([f"surplus {self._surplus}"] if self._surplus is not None else []),
            )
        )
        if self._processes > 1:
            figures = f"process 0 of {self._processes}: {figures}"
        if self._lines is None:
            log.info("%s: %d/%d prompts%s, %s", self._title, self._done, self._prompts, state, figures)
            return
        bar, below = self._lines
        bar.n = self._done
        bar.set_postfix_str(state.removeprefix(", "))
        below.set_description_str(figures)

    def _left(self, engine: PoolEngine) -> str:
        """The time that this process still needs, at the present speed; others are taken to have done as much."""
        growths = engine.growths
        per_prompt = self._made / self._done_here if self._done_here else self._most / self._prompts
        untouched = max(0.0, (self._prompts - self._done) / self._processes - len(growths))
        before = self._marks[0]
        steps = max(1, self._now.steps - before.steps)
        stopped = self._stopped + sum(_stopped(growth.sequences) for growth in growths)
        left = steps_left(
            rooms=[growth.run.prompt.max_new_tokens - len(live.tokens) for growth in growths for live in growth.live],
            coming=untouched * per_prompt + sum(max(0.0, per_prompt - len(growth.sequences)) for growth in growths),
            room=max((growth.run.prompt.max_new_tokens for growth in growths), default=0),
            stopped=stopped,
            decoded=self._now.tokens - self._first.tokens,
            rows=max(1.0, (self._now.tokens - before.tokens) / steps),
        )
        seconds = left * (self._now.at_s - before.at_s) / steps
        return f"{tqdm.format_interval(seconds)} left" + ("" if stopped else " if all reach the limit")


def _stopped(sequences: Iterable[Sequence]) -> int:
    """How many have ended of themselves, not at their limit."""
    return sum(sequence.finish == "stop" for sequence in sequences)


def steps_left(rooms: Seq[int], coming: float, room: int, stopped: int, decoded: int, rows: float) -> float:
    """Decode steps until all sequences have ended: the live ones, and ``coming`` that have not begun.

    A live one may have ``rooms[i]`` further tokens, one to come ``room``; ``rows`` are decoded a step. Lengths are
    taken as exponentially distributed, cut off at the limit. The rate at which sequences stop is then best estimated,
    by maximum likelihood, as ``stopped`` ones per ``decoded`` token: the unfinished and the cut-off ones are censored.
    As long as none has stopped, all are taken to reach their limits.
    """
    rate = stopped / decoded if decoded else 0.0

    def expected(room: int) -> float:
        return -math.expm1(-rate * room) / rate if rate else room

    live = [expected(room) for room in rooms]
    return max([(sum(live) + coming * expected(room)) / rows, *live])
