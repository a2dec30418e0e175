"""The progress of a pool: a bar in a terminal, a line now and then in a log."""

from __future__ import annotations

import logging
import sys
import time
from typing import TYPE_CHECKING

from tqdm import tqdm

from eager_lmeval.algorithm.tree import Tree

if TYPE_CHECKING:
    from eager_lmeval.engine.loop import Engine

__all__ = ["Progress"]

log = logging.getLogger(f"lm_eval.{__name__}")  # the harness shows the loggers below its own

BAR_INTERVAL_S = 0.5
LOG_INTERVAL_S = 30.0


class Progress:
    """Follows one pool through its stages: prompts done, rows in use, sequences, branches, tokens/s, surplus."""

    def __init__(self, task: str, disable: bool = False) -> None:
        self._task = task
        self._disable = disable
        self._terminal = sys.stderr.isatty()
        self._bar: tqdm[None] | None = None
        self._stage = 0
        self._surplus: int | None = None
        self._done = self._prompts = 0
        self._trees: dict[int, Tree] = {}
        self._started = self._shown = time.monotonic()
        self._tokens = self._tokens_before = 0

    def stage(self, prompts: int, surplus: int | None) -> None:
        self.close()
        self._stage = 1 if surplus is None else 2
        self._surplus, self._prompts, self._done = surplus, prompts, 0
        self._started, self._tokens_before = time.monotonic(), self._tokens
        if self._terminal and not self._disable:
            self._bar = tqdm(total=prompts, desc=self._title, unit="prompt", mininterval=BAR_INTERVAL_S)
        elif not self._disable:
            log.info("%s: %d prompts", self._title, prompts)

    def prompt_done(self, tree: Tree, done: int | None = None) -> None:
        """``done``: prompts that have finished the stage on all ranks; one more than before where it is not given."""
        before, self._done = self._done, self._done + 1 if done is None else done
        self._trees[tree.prompt.index] = tree
        if self._bar is not None:
            self._bar.update(self._done - before)

    def step(self, engine: Engine) -> None:
        self._tokens = engine.stats.tokens
        now = time.monotonic()
        if self._disable or now - self._shown < (BAR_INTERVAL_S if self._terminal else LOG_INTERVAL_S):
            return
        self._shown = now
        figures = (
            f"rows {engine.in_use}/{engine.limit}, "
            f"{sum(tree.num_sequences for tree in self._trees.values())} sequences, "
            f"{sum(tree.num_branches for tree in self._trees.values())} branches, "
            f"{(self._tokens - self._tokens_before) / (now - self._started):.0f} tokens/s"
            + ("" if self._surplus is None else f", surplus {self._surplus}")
        )
        if self._bar is not None:
            self._bar.set_postfix_str(figures)
        else:
            log.info("%s: %d/%d prompts, %s", self._title, self._done, self._prompts, figures)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    @property
    def _title(self) -> str:
        return f"{self._task}, stage {self._stage}"
