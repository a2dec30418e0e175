"""From resolved options to an engine over one model: how its tokens are drawn, and what ends its sequences."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from eager_lmeval.algorithm.options import Options
from eager_lmeval.engine.loop import Engine
from eager_lmeval.engine.runner import OutOfMemory
from eager_lmeval.engine.sampling import Sampling
from eager_lmeval.engine.text import TextStopper
from eager_lmeval.engine.thinking import Thinking, find_thinking
from eager_lmeval.engine.transformers.runner import ModelRunner
from eager_lmeval.errors import UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["FLOAT32_MARGIN", "Decoding"]

FLOAT32_MARGIN = 1e-4
"""``tie_margin: auto`` of a model that computes in float32: five times the largest change that rounding made to a
log-probability of the demo model (benchmarks/rounding.py)."""

log = logging.getLogger(f"lm_eval.{__name__}")  # the harness shows the loggers below its own


class Decoding:
    """A model, its tokenizer and its slots; engines of different options share them, one after another."""

    def __init__(
        self, model: PreTrainedModel, tokenizer: Any, autocast_dtype: torch.dtype | None, max_length: int
    ) -> None:
        self.runner = ModelRunner(model, autocast_dtype, max_length)
        self._model = model
        self._tokenizer = tokenizer
        self._float32 = model.dtype == torch.float32 and autocast_dtype is None

    def engine(self, options: Options, on_step: Callable[[Engine], None] = lambda engine: None) -> Engine:
        """Raises UsageError for options that this model cannot serve."""
        sampling = Sampling(
            temperature=options.temperature,
            top_k=options.top_k,
            top_p=options.top_p,
            min_p=options.min_p,
            entropy_top_k=options.entropy_top_k,
            entropy_of=options.entropy_of,
            tie_margin=self._tie_margin(options),
        )
        stopper = TextStopper(self._tokenizer, self.eos_ids(options), options.until, self.thinking(options))
        return Engine(self.runner, stopper, sampling, options.seed, options.rows, on_step)

    def release(self) -> None:
        """Gives the memory of all slots back; the next engine takes what it needs."""
        self.runner.shrink(0)

    def thinking(self, options: Options) -> Thinking | None:
        return find_thinking(self._tokenizer, options.think_end_token)

    def eos_ids(self, options: Options) -> set[int]:
        """The generation config's EOS ids, which may be several, the tokenizer's, and special tokens in ``until``."""
        configured = getattr(self._model.generation_config, "eos_token_id", None)
        several = configured if isinstance(configured, list) else [configured]
        special = dict(zip(self._tokenizer.all_special_tokens, self._tokenizer.all_special_ids, strict=True))
        stops = [special[stop] for stop in options.until if stop in special]
        return {token for token in (*several, self._tokenizer.eos_token_id, *stops) if token is not None}

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
