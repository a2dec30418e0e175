"""From resolved options to engines over one model: how its tokens are drawn, and what ends its sequences."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from eager_lmeval.algorithm.growth import Growth, RunSource
from eager_lmeval.algorithm.options import Options
from eager_lmeval.engine.counts import EngineCounts
from eager_lmeval.engine.loop import Engine
from eager_lmeval.engine.runner import OutOfMemory
from eager_lmeval.engine.sampling import Sampling
from eager_lmeval.engine.text import TextStopper
from eager_lmeval.engine.thinking import Thinking, find_thinking
from eager_lmeval.engine.transformers.runner import ModelRunner
from eager_lmeval.errors import UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["FLOAT32_MARGIN", "Decoding", "ModelDecoding", "OnStep", "PoolEngine", "sampling_of"]

FLOAT32_MARGIN = 1e-4
"""``tie_margin: auto`` of a model that computes in float32: five times the largest change that rounding made to a
log-probability of the demo model (benchmarks/rounding.py)."""

log = logging.getLogger(f"lm_eval.{__name__}")  # the harness shows the loggers below its own


class PoolEngine(Protocol):
    """What a pool is grown by: `engine.loop.Engine`, or the one on vLLM."""

    stats: EngineCounts
    limit: int
    """Rows that it may have in use."""

    def run(self, source: RunSource) -> None:
        """Works until the source is empty and everything it gave has finished."""

    @property
    def in_use(self) -> int:
        """Rows in use."""

    @property
    def growths(self) -> list[Growth]:
        """Those that have begun and not finished."""


OnStep = Callable[[PoolEngine], None]


class Decoding(ABC):
    """From resolved options to engines over one model; engines of different options come one after another.

    ``eos_ids`` are those of the model's generation configuration.
    """

    def __init__(self, tokenizer: Any, eos_ids: int | Iterable[int] | None) -> None:
        self._tokenizer = tokenizer
        self._eos_ids = list(eos_ids) if isinstance(eos_ids, Iterable) else [eos_ids]

    @abstractmethod
    def engine(self, options: Options, on_step: OnStep = lambda engine: None) -> PoolEngine:
        """Raises UsageError for options that this model cannot serve."""

    @abstractmethod
    def release(self) -> None:
        """Gives back what only engines need; the next one takes it again."""

    def stopper(self, options: Options) -> TextStopper:
        return TextStopper(self._tokenizer, self.eos_ids(options), options.until, self.thinking(options))

    def thinking(self, options: Options) -> Thinking | None:
        return find_thinking(self._tokenizer, options.think_end_token)

    def eos_ids(self, options: Options) -> set[int]:
        """The generation config's EOS ids, which may be several, the tokenizer's, and special tokens in ``until``."""
        special = dict(zip(self._tokenizer.all_special_tokens, self._tokenizer.all_special_ids, strict=True))
        stops = [special[stop] for stop in options.until if stop in special]
        return {token for token in (*self._eos_ids, self._tokenizer.eos_token_id, *stops) if token is not None}


def sampling_of(options: Options, tie_margin: float = 0.0) -> Sampling:
    """How a pool samples."""
    return Sampling(
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
        min_p=options.min_p,
        entropy_top_k=options.entropy_top_k,
        entropy_of=options.entropy_of,
        tie_margin=tie_margin,
    )


class ModelDecoding(Decoding):
    """On transformers: a model, its tokenizer and its slots."""

    def __init__(
        self, model: PreTrainedModel, tokenizer: Any, autocast_dtype: torch.dtype | None, max_length: int
    ) -> None:
        super().__init__(tokenizer, getattr(model.generation_config, "eos_token_id", None))
        self.runner = ModelRunner(model, autocast_dtype, max_length)
        self._float32 = model.dtype == torch.float32 and autocast_dtype is None

    def engine(self, options: Options, on_step: OnStep = lambda engine: None) -> Engine:
        sampling = sampling_of(options, self._tie_margin(options))
        return Engine(self.runner, self.stopper(options), sampling, options.seed, options.rows, on_step)

    def release(self) -> None:
        """Gives the memory of all slots back."""
        self.runner.shrink({})

    def _tie_margin(self, options: Options) -> float:
        asked = options.tie_margin
        if not asked or (asked == "auto" and not self._float32):
            return 0.0
        if self._no_float64 is None:
            return FLOAT32_MARGIN if asked == "auto" else asked
        if asked != "auto":
            raise UsageError(
                f"tie_margin={asked:g} needs passes in float64, which this model cannot do ({self._no_float64}); "
                f"leave tie_margin out"
            )
        return 0.0

    @cached_property
    def _no_float64(self) -> str | None:
        """Why the model cannot run in float64, found out by one token; None if it can."""
        try:
            self.runner.read_exactly([0], np.zeros(1), Sampling())
        except OutOfMemory:
            return None  # it can, at another moment; what cannot be read again then is counted
        except Exception as error:  # whatever a model's own code makes of another dtype
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            log.warning("near ties stay as rounding decides them: the model does not run in float64 (%s)", reason)
            return reason
        return None
