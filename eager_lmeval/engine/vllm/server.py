"""vLLM's public engine interface as the loop sees it: requests in, tokens and log-probabilities out."""

from __future__ import annotations

import itertools
from collections.abc import Collection
from typing import Any, NamedTuple

from vllm import SamplingParams
from vllm.inputs import tokens_input
from vllm.logprobs import FlatLogprobs
from vllm.sampling_params import RequestOutputKind
from vllm.v1.metrics.loggers import StatLoggerManager

from eager_lmeval.engine.sampling import Sampling
from eager_lmeval.engine.vllm.draws import DrawRequest
from eager_lmeval.engine.vllm.reading import Reported, number_of_logprobs

__all__ = ["Answer", "Recomputed", "Server"]

_numbers = itertools.count()
"""Requests of this process so far: no two have one name."""


class Answer(NamedTuple):
    """What one request reports in one step."""

    request: str
    tokens: list[int]
    logprobs: list[Reported]
    """By token, where they were asked for."""
    ended: bool
    prefilled: int
    """Tokens of its prefix that had to be computed, reported once."""


class Recomputed(StatLoggerManager):
    """Takes the place of vLLM's statistics, of which it keeps the one that tells what memory was too small for."""

    def __init__(self) -> None:
        self.stat_loggers: list[Any] = []
        self.tokens = 0
        """Of requests that had to give way, and were computed again."""

    def record(self, scheduler_stats: Any, *_: Any, **__: Any) -> None:
        if scheduler_stats is not None:
            of_cache = scheduler_stats.prefix_cache_stats
            self.tokens += of_cache.preempted_queries - of_cache.preempted_hits

    @classmethod
    def of(cls, engine: Any) -> Recomputed:
        """An engine's own, from its start on; vLLM itself counts nothing for each token then."""
        if not isinstance(engine.logger_manager, cls):
            engine.log_stats, engine.logger_manager = False, cls()
        found: Recomputed = engine.logger_manager
        return found


class Server:
    """One pool's requests to an engine of vLLM, which ends them at these token ids and at no other.

    ``whole``: a request without log-probabilities reports when it has ended, and not token by token.
    """

    def __init__(
        self, engine: Any, sampling: Sampling, eos_ids: Collection[int], whole: bool, lora: Any = None
    ) -> None:
        self.vocabulary: int = engine.model_config.get_vocab_size()
        cache = engine.vllm_config.cache_config
        self.tokens: int = cache.kv_cache_size_tokens or cache.num_gpu_blocks * cache.block_size
        """Whose keys and values vLLM has memory for."""
        self._engine = engine
        self._sampling = sampling
        self._eos_ids = sorted(eos_ids)
        self.signal = max(set(range(self.vocabulary - len(eos_ids) - 1, self.vocabulary)) - set(eos_ids))
        """The token that ends a request where the host has to look: the last that is no EOS, which models hardly ever
        draw, if they know it at all."""
        self._whole = whole
        self._lora = lora
        self._recomputed = Recomputed.of(engine)
        self._recomputed_before = self._recomputed.tokens
        self._prefixes: dict[str, int] = {}
        """Lengths of the prefixes of requests that have reported nothing yet."""

    def decode(
        self, prefix: list[int], order: DrawRequest, age: int, room: int, reads: bool, interval: int | None = None
    ) -> str:
        """A request for at most ``room`` tokens after a prefix; with ``reads`` it reports log-probabilities.

        With an ``interval`` it reports its first token, and again after so many, whatever else holds. ``age``: of
        requests that wait, or have to give way, those of the smallest come first, or stay.
        """
        whole = self._whole and not reads and interval is None
        return self._add(
            prefix,
            order,
            age,
            max_tokens=room,
            stop_token_ids=[*self._eos_ids, *([order.signal] if order.signal >= 0 else [])],
            logprobs=number_of_logprobs(self._sampling, self.vocabulary) if reads else None,
            output_kind=RequestOutputKind.FINAL_ONLY if whole else RequestOutputKind.DELTA,
            stream_interval=interval,
        )

    def ask(self, prefix: list[int], order: DrawRequest, age: int, reads: bool) -> str:
        """A request for the one token after a prefix that ``order`` is about, and its log-probability; with ``reads``
        all that a readout is made from."""
        logprobs = number_of_logprobs(self._sampling, self.vocabulary) if reads else 0
        return self._add(prefix, order, age, max_tokens=1, logprobs=logprobs, output_kind=RequestOutputKind.FINAL_ONLY)

    @property
    def recomputed_tokens(self) -> int:
        """Tokens of this pool's requests that vLLM computed again after it had put them off for others."""
        return self._recomputed.tokens - self._recomputed_before

    def abort(self, requests: list[str]) -> None:
        for request in requests:
            self._prefixes.pop(request, None)
        self._engine.abort_request(requests)

    def step(self) -> list[Answer]:
        return [self._answer(output) for output in self._engine.step()]

    def _add(self, prefix: list[int], order: DrawRequest, age: int, **params: Any) -> str:
        request = f"eager-{next(_numbers)}"
        self._prefixes[request] = len(prefix)
        left_alone = self._sampling.temperature == 0 and order.asked < 0 and order.signal < 0
        settings = SamplingParams(
            temperature=0.0,  # the processor leaves one token, or vLLM takes the most likely
            ignore_eos=True,  # but for our own list
            detokenize=False,
            flat_logprobs=params.get("logprobs") is not None,
            extra_args=None if left_alone else order.extra_args(),
            **params,
        )
        self._engine.add_request(request, tokens_input(prefix), settings, lora_request=self._lora, priority=age)
        return request

    def _answer(self, output: Any) -> Answer:
        (completion,) = output.outputs
        prefix = self._prefixes.pop(output.request_id, None)
        prefilled = 0 if prefix is None else prefix - (output.num_cached_tokens or 0)
        logprobs = [] if completion.logprobs is None else _by_token(completion.logprobs)
        return Answer(output.request_id, list(completion.token_ids), logprobs, output.finished, prefilled)


def _by_token(flat: FlatLogprobs) -> list[Reported]:
    spans = zip(flat.start_indices, flat.end_indices, strict=True)
    return [Reported(flat.token_ids[start:end], flat.logprobs[start:end]) for start, end in spans]
