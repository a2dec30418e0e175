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
from eager_lmeval.engine.vllm.leaving import NEVER, Orders, leave_drawn
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
    signal: int = -1
    """The token that ends the request where the host has to look at the logits; -1: it never has to."""
    opens_at: float = NEVER
    """The entropy in nats at which it has to; where there is no distribution it has to at any."""

    def extra_args(self) -> dict[str, Any]:
        """For `SamplingParams`."""
        how = self.sampling
        sampling = [how.temperature, how.top_k, how.top_p, how.min_p, how.entropy_top_k, how.entropy_of]
        own = [self.stratum, self.strata, self.asked, self.signal, self.opens_at]
        return {_FIELD: [self.key, self.prompt_tokens, sampling, own]}

    @classmethod
    def of(cls, params: SamplingParams) -> DrawRequest | None:
        """That of a request; None for one that is not ours."""
        given: Mapping[str, Any] = params.extra_args or {}
        if _FIELD not in given:
            return None
        key, prompt_tokens, sampling, own = given[_FIELD]
        return cls(key, prompt_tokens, Sampling(*sampling), *own)


_ORDERED = np.dtype(
    [
        ("key", np.uint64),
        ("prompt_tokens", np.int64),
        ("sampling", np.int64),
        ("stratum", np.int64),
        ("strata", np.int64),
        ("asked", np.int64),
        ("signal", np.int64),
        ("opens_at", np.float64),
    ]
)
"""A `DrawRequest` as a row of an array, its sampling by number; -1: of a place without one."""


class EagerDraws(BatchProcessor, SlotProcessor):
    """Leaves the token that each of our requests draws, and requests of others as they are."""

    def __init__(self, vllm_config: Any, device_or_state: Any, is_pin_memory: bool | None = None) -> None:
        watch()
        self._ordered = np.empty(0, dtype=_ORDERED)
        """By place: a row of one runner's batch, a slot of the other's."""
        self._samplings: dict[Sampling, int] = {}
        self._came: dict[int, tuple[int, list[int]]] = {}
        """One runner's batch, by row: the index of the first token to come, and those that came."""

    # The interface of the runner that keeps a batch: rows come, go and move; a row's output tokens are a live list.

    def is_argmax_invariant(self) -> bool:
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        if batch_update is None:
            return
        for row in batch_update.removed:
            self._put(row, None)
        for row, params, prompt, output in batch_update.added:
            if self._put(row, order := DrawRequest.of(params)) and order is not None:
                self._came[row] = (len(prompt or ()) - order.prompt_tokens, output)
        for source, destination, direction in batch_update.moved:
            self._grow_to(max(source, destination))
            both, other_way = [source, destination], [destination, source]
            self._ordered[other_way] = self._ordered[both]
            moved, replaced = self._came.pop(source, None), self._came.pop(destination, None)
            if moved is not None:
                self._came[destination] = moved
            if direction != MoveDirectionality.SWAP:
                self._put(source, None)
            elif replaced is not None:
                self._came[source] = replaced

    # The interface of the runner that keeps slots: a step's batch says which slot each of its rows is.

    def add_request(self, req_idx: int, sampling_params: SamplingParams) -> bool:
        return self._put(req_idx, DrawRequest.of(sampling_params))

    # Both.

    def apply(self, logits: Tensor, ctx: LogitsContext | None = None) -> Tensor:
        if ctx is None:
            rows = np.flatnonzero(self._ordered["sampling"] >= 0)
            ordered = self._ordered[rows]
            came = [self._came[row] for row in rows.tolist()]
            steps = np.array([before + len(output) for before, output in came], dtype=np.int64)
        else:
            assert len(logits) == len(ctx.idx_mapping_np), "one row a request: there is no speculative decoding"
            self._grow_to(int(ctx.idx_mapping_np.max(initial=0)))
            ordered = self._ordered[ctx.idx_mapping_np]
            rows = np.flatnonzero(ordered["sampling"] >= 0)
            ordered = ordered[rows]
            steps = ctx.seq_lens_upper_bound_np[: len(logits)][rows].astype(np.int64) - ordered["prompt_tokens"]
        for sampling, number in self._samplings.items():
            which = np.flatnonzero(ordered["sampling"] == number)
            if len(which):
                ours = ordered[which]
                # A row whose prefix is not computed to its end yet is before token 0; nobody takes its token.
                draws = uniforms(ours["key"], steps[which].clip(min=0).astype(np.uint64))
                draws = (ours["stratum"] + draws) / ours["strata"]
                orders = Orders(rows[which], draws, ours["asked"], ours["signal"], ours["opens_at"])
                leave_drawn(logits, orders, sampling)
        return logits

    def _put(self, place: int, order: DrawRequest | None) -> bool:
        """What is ordered at a place from now on; whether that is anything."""
        self._grow_to(place)
        self._came.pop(place, None)
        self._ordered["sampling"][place] = -1
        if order is not None:
            number = self._samplings.setdefault(order.sampling, len(self._samplings))
            own = (order.stratum, order.strata, order.asked, order.signal, order.opens_at)
            self._ordered[place] = (order.key, order.prompt_tokens, number, *own)
        return order is not None

    def _grow_to(self, place: int) -> None:
        if (more := place + 1 - len(self._ordered)) > 0:
            empty = np.zeros(max(more, 64), dtype=_ORDERED)
            empty["sampling"] = -1
            self._ordered = np.concatenate([self._ordered, empty])
