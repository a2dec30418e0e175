"""From resolved options to engines over one model: how its tokens are drawn, and what ends its sequences."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol

import torch

from eager_lmeval.algorithm.growth import Growth, RunSource
from eager_lmeval.algorithm.options import Options
from eager_lmeval.engine.counts import EngineCounts
from eager_lmeval.engine.loop import Engine
from eager_lmeval.engine.sampling import Sampling
from eager_lmeval.engine.text import TextStopper
from eager_lmeval.engine.thinking import Thinking, find_thinking
from eager_lmeval.engine.transformers.runner import ModelRunner

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["Decoding", "ModelDecoding", "OnStep", "PoolEngine", "sampling_of"]

log = logging.getLogger(f"lm_eval.{__name__}")  # the harness shows the loggers below its own


class PoolEngine(Protocol):
    """What a pool is grown by: `engine.loop.Engine`, or the one on vLLM."""

    stats: EngineCounts

    @property
    def limit(self) -> int:
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

    devices = 1
    """That an engine holds."""

    def __init__(self, tokenizer: Any, eos_ids: int | Iterable[int] | None) -> None:
        self._tokenizer = tokenizer
        self._eos_ids = list(eos_ids) if isinstance(eos_ids, Iterable) else [eos_ids]

    @abstractmethod
    def engine(self, options: Options, on_step: OnStep = lambda engine: None) -> PoolEngine:
        """Raises UsageError for options that this model cannot serve."""

    @property
    @abstractmethod
    def vocabulary(self) -> int:
        """Token ids that the model may give."""

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


def sampling_of(options: Options) -> Sampling:
    """How a pool samples."""
    return Sampling(
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
        min_p=options.min_p,
        entropy_top_k=options.entropy_top_k,
        entropy_of=options.entropy_of,
    )


class ModelDecoding(Decoding):
    """On transformers: a model, its tokenizer and its slots."""

    def __init__(
        self, model: PreTrainedModel, tokenizer: Any, autocast_dtype: torch.dtype | None, max_length: int
    ) -> None:
        super().__init__(tokenizer, getattr(model.generation_config, "eos_token_id", None))
        self.runner = ModelRunner(model, autocast_dtype, max_length)

    def engine(self, options: Options, on_step: OnStep = lambda engine: None) -> Engine:
        return Engine(self.runner, self.stopper(options), sampling_of(options), options.seed, options.rows, on_step)

    @property
    def vocabulary(self) -> int:
        return self.runner.vocabulary

    def release(self) -> None:
        """Gives the memory of all slots back."""
        self.runner.shrink({})
