"""SPEC 4's draws inside vLLM's workers: a logits processor that leaves one token a row.

A request says in `extra_args` all that its draws depend on, and nothing is kept between steps: one that was issued
again, preempted or batched otherwise draws the same. vLLM has two runners with an interface each for processors; this
class serves both. They run it on raw logits, before their own temperature and cuts, which such requests leave off.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor
from vllm.v1.sample.logits_processor import LogitsProcessor as BatchProcessor
from vllm.v1.sample.logits_processor import MoveDirectionality
from vllm.v1.worker.gpu.sample.logits_processor import LogitsProcessor as SlotProcessor

from eager_lmeval.algorithm.streams import uniforms
from eager_lmeval.engine.sampling import Sampling
from eager_lmeval.engine.vllm.leaving import leave_drawn
from eager_lmeval.engine.vllm.orphans import watch

if TYPE_CHECKING:
    from vllm import SamplingParams
    from vllm.v1.sample.logits_processor import BatchUpdate
    from vllm.v1.worker.gpu.sample.logits_processor import LogitsContext

__all__ = ["NAME", "DrawRequest", "EagerDraws"]

NAME = f"{__name__}:EagerDraws"
"""What vLLM is told to load."""

_FIELD = "eager"


@dataclass(frozen=True)
class DrawRequest:
    """What a request orders of the processor: one stream's draws, one stratum of a draw, or whether a token passes."""

    key: int
    """Of the stream (SPEC 4)."""
    prompt_tokens: int
    """Tokens of the bare prompt: what comes after them is generated token 0, 1, … whatever was sent as a prefix."""
    sampling: Sampling
    stratum: int = 0
    strata: int = 1
    """The token is the one that (stratum + u)/strata picks."""
    asked: int = -1
    """A token to be left if it passes the cuts (top_k, top_p, min_p), else the most likely one; -1: a draw."""

    def extra_args(self) -> dict[str, Any]:
        """For `SamplingParams`."""
        how = self.sampling
        cuts = [how.top_k, how.top_p, how.min_p]
        return {_FIELD: [self.key, self.prompt_tokens, how.temperature, *cuts, self.stratum, self.strata, self.asked]}

    @classmethod
    def of(cls, params: SamplingParams) -> DrawRequest | None:
        """That of a request; None for one that is not ours."""
        given: Mapping[str, Any] = params.extra_args or {}
        if _FIELD not in given:
            return None
        key, prompt_tokens, temperature, top_k, top_p, min_p, stratum, strata, asked = given[_FIELD]
        return cls(key, prompt_tokens, Sampling(temperature, top_k, top_p, min_p), stratum, strata, asked)


class EagerDraws(BatchProcessor, SlotProcessor):
    """Leaves the token that each of our requests draws, and requests of others as they are."""

    def __init__(self, vllm_config: Any, device_or_state: Any, is_pin_memory: bool | None = None) -> None:
        watch()
        self._rows: dict[int, tuple[DrawRequest, int, list[int]]] = {}
        """One runner's batch, by row: the order, the index of the first token to come, and those that came."""
        self._slots: dict[int, DrawRequest] = {}
        """The other runner's requests, by slot."""

    # The interface of the runner that keeps a batch: rows come, go and move; a row's output tokens are a live list.

    def is_argmax_invariant(self) -> bool:
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        if batch_update is None:
            return
        for row in batch_update.removed:
            self._rows.pop(row, None)
        for row, params, prompt, output in batch_update.added:
            self._rows.pop(row, None)
            if (order := DrawRequest.of(params)) is not None:
                self._rows[row] = (order, len(prompt or ()) - order.prompt_tokens, output)
        for source, destination, direction in batch_update.moved:
            moved, replaced = self._rows.pop(source, None), self._rows.pop(destination, None)
            if moved is not None:
                self._rows[destination] = moved
            if replaced is not None and direction == MoveDirectionality.SWAP:
                self._rows[source] = replaced

    # The interface of the runner that keeps slots: a step's batch says which slot each of its rows is.

    def add_request(self, req_idx: int, sampling_params: SamplingParams) -> bool:
        order = DrawRequest.of(sampling_params)
        self._slots.pop(req_idx, None)
        if order is not None:
            self._slots[req_idx] = order
        return order is not None

    # Both.

    def apply(self, logits: Tensor, ctx: LogitsContext | None = None) -> Tensor:
        if ctx is None:
            rows = list(self._rows)
            orders = [self._rows[row][0] for row in rows]
            steps = [self._rows[row][1] + len(self._rows[row][2]) for row in rows]
        else:
            slots = ctx.idx_mapping_np.tolist()
            assert len(logits) == len(slots), "one row a request: there is no speculative decoding"
            rows = [row for row, slot in enumerate(slots) if slot in self._slots]
            orders = [self._slots[slots[row]] for row in rows]
            seen = ctx.seq_lens_upper_bound_np
            steps = [int(seen[row]) - order.prompt_tokens for row, order in zip(rows, orders, strict=True)]
        by_sampling: dict[Sampling, list[int]] = {}
        for place, order in enumerate(orders):
            by_sampling.setdefault(order.sampling, []).append(place)
        for sampling, places in by_sampling.items():
            ours = [orders[place] for place in places]
            # A row whose prefix is not computed to its end yet is before token 0; nobody takes its token.
            of_steps = np.array([max(0, steps[place]) for place in places], dtype=np.uint64)
            keys = np.array([order.key for order in ours], dtype=np.uint64)
            stratum = np.array([order.stratum for order in ours])
            draws = (stratum + uniforms(keys, of_steps)) / np.array([order.strata for order in ours])
            of_rows = np.array([rows[place] for place in places])
            leave_drawn(logits, of_rows, draws, np.array([order.asked for order in ours]), sampling)
        return logits
