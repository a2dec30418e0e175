"""The requests that stand for sequences on vLLM: what each asks for, what it has reported, and when it is given up."""

from __future__ import annotations

import contextlib
from collections import deque
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from eager_lmeval.algorithm.growth import Growth
from eager_lmeval.algorithm.readout import Readout
from eager_lmeval.algorithm.streams import stream_key
from eager_lmeval.algorithm.tree import Sequence
from eager_lmeval.engine.counts import EngineCounts
from eager_lmeval.engine.sampling import Sampling
from eager_lmeval.engine.vllm.draws import DrawRequest
from eager_lmeval.engine.vllm.reading import Reported, read_reported
from eager_lmeval.engine.vllm.server import Answer, Server

__all__ = ["Ahead", "Requests", "Stream", "Tenant"]

LENGTH = 1024
"""Tokens of a request that reads: another follows. vLLM keeps log-probabilities until a request ends, and no request
runs further ahead of a slow host."""

REPORTS = 1024
LONGEST_INTERVAL = 16


def report_interval(most: int) -> int:
    """Tokens between two reports of a root in a race, which has at most so many.

    What is decided comes late by up to an interval, and is paid for in wasted tokens: on short answers that costs more
    than reports do (benchmarks/vllm.md).
    """
    return max(1, min(LONGEST_INTERVAL, most // REPORTS))


class Ahead(NamedTuple):
    """A token that a reading request has reported and nothing has decided yet."""

    drawn: int
    readout: Readout


@dataclass(eq=False)
class Stream:
    """The request that decodes a sequence."""

    tenant: Tenant
    sequence: Sequence
    request: str
    reads: bool
    """Whether it reports log-probabilities."""
    ahead: deque[Ahead] = field(default_factory=deque)
    """Of one that reads."""
    drawn: list[int] = field(default_factory=list)
    """Of one that does not: tokens that have been reported since the sequence took some."""
    ended: bool = False
    """Whether vLLM has finished it."""
    asked: int = 0
    """Questions about its next token that are not answered yet."""
    answers: dict[int, Reported] = field(default_factory=dict)
    reported: int = 0
    """The step in which it did so last, or was asked for."""


@dataclass(eq=False)
class Tenant:
    """A growth in the engine, and the requests of its unfinished sequences in order of creation."""

    growth: Growth
    age: int
    """Its place in the order of admission."""
    streams: dict[int, Stream] = field(default_factory=dict)
    """By the sequence's identity."""

    @property
    def reading(self) -> list[Stream]:
        return [stream for stream in self.streams.values() if stream.reads]

    def prefix(self, sequence: Sequence) -> list[int]:
        return [*self.growth.run.prompt.token_ids, *sequence.tokens]


class Requests:
    """Those of one pool. ``reads_all``: behind a gate log-probabilities are wanted even when it has closed."""

    def __init__(self, server: Server, sampling: Sampling, seed: int, stats: EngineCounts, reads_all: bool) -> None:
        self._server = server
        self._sampling = sampling
        self._seed = seed
        self._stats = stats
        self._reads_all = reads_all
        self._streams: dict[str, Stream] = {}
        """By request."""
        self._questions: dict[str, tuple[Stream, int]] = {}
        """Whose next token a one-token request is about, and which question about it."""

    def __len__(self) -> int:
        """Sequences that are being decoded."""
        return len(self._streams)

    def issue(self, tenant: Tenant, sequence: Sequence) -> None:
        """A request that decodes what comes after a sequence's tokens."""
        growth, prompt = tenant.growth, tenant.growth.run.prompt
        reads = self.reads(tenant)
        order, room = self._order(tenant, sequence), prompt.max_new_tokens - len(sequence.tokens)
        if reads:
            room = min(room, LENGTH - len(sequence.tokens) % LENGTH)
        else:
            order = replace(order, signal=self._server.signal, opens_at=growth.opens_at(sequence))
        interval = report_interval(prompt.max_new_tokens) if growth.races else None
        request = self._server.decode(tenant.prefix(sequence), order, tenant.age, room, reads, interval)
        stream = Stream(tenant, sequence, request, reads, reported=self._stats.steps)
        self._streams[request] = tenant.streams[id(sequence)] = stream

    def reads(self, tenant: Tenant) -> bool:
        """Whether a growth's requests report log-probabilities."""
        return tenant.growth.lockstep and (self._reads_all or not tenant.growth.closed)

    def drop(self, stream: Stream) -> None:
        """A request is no longer wanted; what it decoded beyond the decided tokens is wasted, reported or not."""
        self._stats.wasted_tokens += len(stream.ahead) + len(stream.drawn)
        if stream.tenant.growth.races and not stream.ended:
            self._stats.wasted_tokens += self._stats.steps - stream.reported
        del stream.tenant.streams[id(stream.sequence)]
        self._streams.pop(stream.request, None)
        unwanted = [] if stream.ended else [stream.request]
        if stream.asked:
            unwanted += [request for request, (of, _) in self._questions.items() if of is stream]
            self._questions = {request: about for request, about in self._questions.items() if about[0] is not stream}
        if unwanted:
            self._server.abort(unwanted)

    def abandon(self) -> None:
        """Leaves vLLM without requests of ours, however a run has ended."""
        left = [request for request, stream in self._streams.items() if not stream.ended] + list(self._questions)
        self._streams, self._questions = {}, {}
        if left:
            with contextlib.suppress(Exception):  # an engine that has died has none; what ended the run says so
                self._server.abort(left)

    # Questions about a sequence's next token.

    def ask_whether_passes(self, stream: Stream, token: int) -> None:
        """Whether the cuts let a token pass: then the answer is that token."""
        self._ask(stream, [replace(self._order(stream.tenant, stream.sequence), asked=token)])

    def ask_strata(self, stream: Stream, strata: int) -> None:
        """What each of so many strata draws, instead of what comes from a request that has ended with the signal."""
        self._streams.pop(stream.request, None)
        order = self._order(stream.tenant, stream.sequence)
        self._ask(stream, [replace(order, stratum=number, strata=strata) for number in range(strata)])

    def _ask(self, stream: Stream, orders: list[DrawRequest]) -> None:
        """Where the stream does not read, the first answer says all log-probabilities of a readout."""
        prefix, age = stream.tenant.prefix(stream.sequence), stream.tenant.age
        for number, order in enumerate(orders):
            request = self._server.ask(prefix, order, age, reads=not stream.reads and number == 0)
            self._questions[request] = (stream, number)
        stream.asked = len(orders)

    def _order(self, tenant: Tenant, sequence: Sequence) -> DrawRequest:
        prompt = tenant.growth.run.prompt
        key = stream_key(self._seed, prompt.task, prompt.context, sequence.path)
        return DrawRequest(key, len(prompt.token_ids), self._sampling)

    # What came back.

    def step(self) -> list[Tenant]:
        """A step of vLLM: puts what it reports where it belongs; returns the growths that it concerns."""
        touched: dict[int, Tenant] = {}
        reported: list[Reported] = []
        reading: list[tuple[Stream, int]] = []
        answers = self._server.step()
        self._stats.recomputed_tokens = self._server.recomputed_tokens
        for answer in answers:
            stream = self._answered(answer)
            if stream is None:
                continue  # aborted in the meantime
            if stream.reads and stream.request == answer.request:
                reported += answer.logprobs
                reading += [(stream, token) for token in answer.tokens]
            stream.tenant.growth.prefill_tokens += answer.prefilled
            self._stats.prefill_tokens += answer.prefilled
            touched[id(stream.tenant)] = stream.tenant
        if reported:
            for (stream, drawn), readout in zip(reading, self.read(reported), strict=True):
                stream.ahead.append(Ahead(drawn, readout))
        return list(touched.values())

    def _answered(self, answer: Answer) -> Stream | None:
        if (question := self._questions.pop(answer.request, None)) is not None:
            stream, number = question
            stream.answers[number] = answer.logprobs[0]
            stream.asked -= 1
            return stream
        found = self._streams.get(answer.request)
        if found is not None:
            found.ended, found.reported = answer.ended, self._stats.steps
            if not found.reads:
                found.drawn += answer.tokens
        return found

    def read(self, reported: list[Reported]) -> list[Readout]:
        return read_reported(reported, self._sampling, self._server.vocabulary)

    def signalled(self, stream: Stream) -> bool:
        """Whether a request without log-probabilities has ended with the signal, which is the last it reported."""
        return stream.ended and bool(stream.drawn) and stream.drawn[-1] == self._server.signal
