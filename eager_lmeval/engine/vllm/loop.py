"""The loop over vLLM: which requests stand for which sequences, and what becomes of the tokens that they report.

A sequence that may still branch has a request that reports log-probabilities token by token, and runs ahead of what is
decided; one that may not has a request that reports at its end. What is decided depends on a prompt's own tokens alone:

    behind a gate (`top2`)  token t of a prompt is decided once all its unfinished sequences have reported it. Who forks
                            takes its most likely token, which its request may have drawn anyway; otherwise that
                            request is aborted and another goes on from the new prefix. A child has one of its own.
    `systematic`            a sequence that opens is aborted, and one request a stratum asks for the stratum's token.
    a race                  how many roots there are, and how much of each, is decided as they report, at intervals.
    neither                 nothing is decided.

Tokens that ran ahead and were thrown away are counted as wasted; they cost time and change nothing.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from eager_lmeval.algorithm.gate import GateSettings
from eager_lmeval.algorithm.growth import Growth, Run, RunSource, Stopper
from eager_lmeval.algorithm.readout import Readout, Stratum
from eager_lmeval.algorithm.streams import stream_key
from eager_lmeval.algorithm.tree import Sequence
from eager_lmeval.engine.counts import EngineCounts
from eager_lmeval.engine.sampling import Sampling
from eager_lmeval.engine.vllm.draws import DrawRequest
from eager_lmeval.engine.vllm.reading import Reported, read_reported
from eager_lmeval.engine.vllm.server import Answer, Server

__all__ = ["Engine"]

REPORTS = 1024
LONGEST_INTERVAL = 16


def report_interval(most: int) -> int:
    """Tokens between two reports of a root in a race, which has at most so many.

    What is decided comes late by up to an interval, and is paid for in wasted tokens: on short answers that costs more
    than reports do (benchmarks/vllm.md).
    """
    return max(1, min(LONGEST_INTERVAL, most // REPORTS))


class Ahead(NamedTuple):
    """A token that a request has reported and nothing has decided yet."""

    drawn: int
    readout: Readout | None
    """None where no log-probabilities were asked for."""


@dataclass(eq=False)
class Stream:
    """The request that decodes a sequence."""

    tenant: Tenant
    sequence: Sequence
    request: str
    reads: bool
    """Whether it reports log-probabilities."""
    ahead: deque[Ahead] = field(default_factory=deque)
    ended: bool = False
    """Whether vLLM has finished it."""
    asked: int = 0
    """Questions about its next token that are not answered yet."""
    answers: dict[int, Stratum] = field(default_factory=dict)
    reported: int = 0
    """The step in which it did so last, or was asked for."""
    halted: bool = False
    """Whether it was ended because its sequence splits."""


@dataclass(eq=False)
class Tenant:
    """A growth in the engine, and the requests of its unfinished sequences in order of creation."""

    growth: Growth
    streams: dict[int, Stream] = field(default_factory=dict)
    """By the sequence's identity."""


class Engine:
    """Grows trees for one pool at a time: `run` takes runs from a source until it is empty.

    ``reads_all``: log-probabilities are wanted of all tokens, though nothing can branch there.
    """

    def __init__(
        self,
        server: Server,
        stopper: Stopper,
        sampling: Sampling,
        seed: int,
        limit: int,
        on_step: Callable[[Engine], None] = lambda engine: None,
        reads_all: bool = False,
    ) -> None:
        self.stats = EngineCounts(limit)
        self.limit = limit
        """Sequences that are decoded at once, but for the strata of a systematic split."""
        self._server = server
        self._stopper = stopper
        self._sampling = sampling
        self._seed = seed
        self._on_step = on_step
        self._reads_all = reads_all
        self._tenants: list[Tenant] = []
        self._streams: dict[str, Stream] = {}
        """By request."""
        self._questions: dict[str, tuple[Stream, int]] = {}
        """Whose next token a one-token request is about, and which question about it."""
        self._next: deque[Run] = deque()
        """Runs that were taken and wait for room."""
        self._source_empty = False
        self._source: RunSource

    def run(self, source: RunSource) -> None:
        """Works until the source is empty and everything it gave has finished."""
        self._source, self._source_empty = source, False
        try:
            self._admit()
            while self._tenants:
                self._step()
                self._admit()
        finally:
            self._abandon()

    def _step(self) -> None:
        touched = self._take(self._server.step())
        self.stats.count(len(self._streams), self.limit, self.waiting)
        for tenant in touched:
            self._grow(tenant)
        self._on_step(self)

    @property
    def in_use(self) -> int:
        """Sequences that are being decoded."""
        return len(self._streams)

    @property
    def growths(self) -> list[Growth]:
        """Those that have begun and not finished."""
        return [tenant.growth for tenant in self._tenants]

    @property
    def waiting(self) -> bool:
        """Whether prompts, or roots of prompts, wait for room."""
        roots = any(tenant.growth.waiting_roots for tenant in self._tenants)
        return bool(self._next) or roots or not self._source_empty

    # Admission.

    def _admit(self) -> None:
        """Starts roots, of prompts that have begun first, while there is room for all that they may become."""
        used = sum(self._reserved(tenant) for tenant in self._tenants)
        for tenant in self._tenants:
            while tenant.growth.waiting_roots and used < self.limit:
                self._start_root(tenant)
                used += 1
        while (run := self._upcoming()) is not None:
            growth = run.begin(self._stopper)
            tenant = Tenant(growth)
            needed = max(1, self._reserved(tenant))
            if used + needed > self.limit and self._tenants:
                return
            self._next.popleft()
            self._tenants.append(tenant)
            while growth.waiting_roots and (used < self.limit or not tenant.streams):
                self._start_root(tenant)
                used += needed
            if growth.done:  # a race whose roots were all known
                self._finish(tenant)

    def _upcoming(self) -> Run | None:
        if not self._next and not self._source_empty:
            run = self._source.next_run()
            if run is None:
                self._source_empty = True
            else:
                self._next.append(run)
        return self._next[0] if self._next else None

    def _reserved(self, tenant: Tenant) -> int:
        """Places that a prompt's sequences take, behind an open gate those of all that it may have."""
        growth = tenant.growth
        branching = growth.run.branching
        if isinstance(branching, GateSettings) and not growth.closed:
            return max(branching.cap, len(tenant.streams))
        return len(tenant.streams)

    def _start_root(self, tenant: Tenant) -> None:
        root = tenant.growth.start_root()
        self.stats.roots += 1
        self._issue(tenant, root)

    # Requests.

    def _issue(self, tenant: Tenant, sequence: Sequence) -> None:
        """A request that decodes what comes after a sequence's tokens."""
        prompt = tenant.growth.run.prompt
        reads = self._reads(tenant.growth, sequence)
        request = self._server.decode(
            [*prompt.token_ids, *sequence.tokens],
            stream_key(self._seed, prompt.task, prompt.context, sequence.path),
            len(prompt.token_ids),
            prompt.max_new_tokens - len(sequence.tokens),
            reads,
            report_interval(prompt.max_new_tokens) if tenant.growth.races else None,
        )
        stream = Stream(tenant, sequence, request, reads, reported=self.stats.steps)
        self._streams[request] = tenant.streams[id(sequence)] = stream

    def _reads(self, growth: Growth, sequence: Sequence) -> bool:
        return self._reads_all or growth.may_branch(sequence)

    def _drop(self, stream: Stream) -> None:
        """A request is no longer wanted; what it decoded beyond the decided tokens is wasted, reported or not."""
        self.stats.wasted_tokens += len(stream.ahead)
        if stream.tenant.growth.races and not stream.ended:
            self.stats.wasted_tokens += self.stats.steps - stream.reported
        del stream.tenant.streams[id(stream.sequence)]
        if self._streams.pop(stream.request, None) is not None and not stream.ended:
            self._server.abort([stream.request])

    def _ask(self, stream: Stream, readout: Readout) -> None:
        """Asks what the log-probabilities do not say of a sequence's next token, before it is decided."""
        growth, sequence = stream.tenant.growth, stream.sequence
        prompt = growth.run.prompt
        key = stream_key(self._seed, prompt.task, prompt.context, sequence.path)
        order = DrawRequest(key, len(prompt.token_ids), self._sampling)
        if growth.lockstep:
            orders = [replace(order, asked=readout.second)]
        else:
            self._halt(stream)
            strata = growth.strata(sequence)
            orders = [replace(order, stratum=number, strata=strata) for number in range(strata)]
        for number, of_question in enumerate(orders):
            request = self._server.ask([*prompt.token_ids, *sequence.tokens], of_question)
            self._questions[request] = (stream, number)
        stream.asked = len(orders)

    def _halt(self, stream: Stream) -> None:
        """Ends the request of a sequence that is about to split: hardly ever would it go on from what it drew."""
        while len(stream.ahead) > 1:
            stream.ahead.pop()
            self.stats.wasted_tokens += 1
        del self._streams[stream.request]
        if not stream.ended:
            self._server.abort([stream.request])
        stream.ended = stream.halted = True

    def _abandon(self) -> None:
        """Leaves vLLM without requests of ours, however a run has ended."""
        left = [request for request, stream in self._streams.items() if not stream.ended] + list(self._questions)
        self._tenants, self._streams, self._questions = [], {}, {}
        self._next.clear()
        if left:
            with contextlib.suppress(Exception):  # an engine that has died has none; what ended the run says so
                self._server.abort(left)

    # What came back.

    def _take(self, answers: list[Answer]) -> list[Tenant]:
        """Puts what was reported where it belongs; returns the growths that it concerns."""
        touched: dict[int, Tenant] = {}
        reported: list[Reported] = []
        reading: list[tuple[Stream, int]] = []
        for answer in answers:
            if (question := self._questions.pop(answer.request, None)) is not None:
                stream, number = question
                stream.answers[number] = Stratum(answer.tokens[0], answer.logprobs[0].logprobs[0])
                stream.asked -= 1
            elif (found := self._streams.get(answer.request)) is not None:
                stream = found
                stream.ended = answer.ended
                stream.reported = self.stats.steps
                if stream.reads:
                    reported += answer.logprobs
                    reading += [(stream, token) for token in answer.tokens]
                else:
                    stream.ahead.extend(Ahead(token, None) for token in answer.tokens)
            else:
                continue  # aborted in the meantime
            stream.tenant.growth.prefill_tokens += answer.prefilled
            self.stats.prefill_tokens += answer.prefilled
            touched[id(stream.tenant)] = stream.tenant
        if reported:
            readouts = read_reported(reported, self._sampling, self._server.vocabulary)
            for (stream, drawn), readout in zip(reading, readouts, strict=True):
                stream.ahead.append(Ahead(drawn, readout))
        return list(touched.values())

    def _grow(self, tenant: Tenant) -> None:
        """Decides all that can be decided of a growth."""
        growth = tenant.growth
        while ready := self._ready(tenant):
            before = len(growth.sequences)
            taken = [stream.ahead.popleft() for stream in ready]
            readouts = [self._answered(stream, self._known(ahead)) for stream, ahead in zip(ready, taken, strict=True)]
            growth.advance(readouts, [stream.sequence for stream in ready])
            self.stats.forks += len(growth.sequences) - before
            for stream, ahead in zip(ready, taken, strict=True):
                if stream.halted or stream.sequence.tokens[-1] != ahead.drawn:
                    self._drop(stream)
            for sequence in (*(stream.sequence for stream in ready), *growth.sequences[before:]):
                self._follow(tenant, sequence)
        for stream in list(tenant.streams.values()):
            self._run_out(stream)
        for stream in list(tenant.streams.values()):
            if stream.sequence.finish is not None:
                self._drop(stream)  # it has ended, or was cut by what another one has reported
        for stream in tenant.streams.values():
            if stream.ended and not stream.ahead:
                raise RuntimeError(
                    f"vLLM ended a request after {len(stream.sequence.tokens)} generated tokens, before the sequence's "
                    f"end (sequence {list(stream.sequence.path)} of document {growth.run.prompt.doc_id}); its own log "
                    f"says why"
                )
        if growth.done:
            self._finish(tenant)

    def _ready(self, tenant: Tenant) -> list[Stream]:
        """The streams that take their next token now: all in lockstep, others as they come."""
        growth = tenant.growth
        reading = [stream for stream in tenant.streams.values() if stream.reads]
        ready = [stream for stream in reading if stream.ahead and not stream.asked]
        if not ready or (growth.lockstep and len(ready) < len(reading)):
            return []
        readouts = [self._known(stream.ahead[0]) for stream in ready]
        doubtful = growth.questions(readouts, [stream.sequence for stream in ready])
        asking = {place for place in doubtful if not ready[place].answers}
        for place in asking:
            self._ask(ready[place], readouts[place])
        if growth.lockstep and asking:
            return []
        return [stream for place, stream in enumerate(ready) if place not in asking]

    @staticmethod
    def _known(ahead: Ahead) -> Readout:
        assert ahead.readout is not None, "what reads has a readout of every token"
        return ahead.readout

    def _answered(self, stream: Stream, readout: Readout) -> Readout:
        """A readout with what was asked besides."""
        answers, stream.answers = stream.answers, {}
        if not answers:
            return readout
        if stream.tenant.growth.lockstep:
            passes = answers[0].token == readout.second
            return readout if passes else readout._replace(p_first=1.0, p_second=0.0)
        return readout._replace(strata=tuple(answers[number] for number in range(len(answers))))

    def _follow(self, tenant: Tenant, sequence: Sequence) -> None:
        """Sees to it that a sequence has the request that it needs now, or none if it has ended."""
        stream = tenant.streams.get(id(sequence))
        if sequence.finish is not None:
            if stream is not None:
                self._drop(stream)
        elif stream is None:
            self._issue(tenant, sequence)
        elif stream.reads and not self._reads(tenant.growth, sequence):
            # What it has drawn already is drawn; its readouts are left out, for how many there are is chance.
            tenant.growth.extend(sequence, [ahead.drawn for ahead in stream.ahead])
            stream.ahead.clear()
            self._drop(stream)
            if sequence.finish is None:
                self._issue(tenant, sequence)

    def _run_out(self, stream: Stream) -> None:
        """Takes what a request has reported whose sequence branches no more."""
        if stream.reads or not stream.ahead or stream.sequence.finish is not None:
            return
        tokens = [stream.ahead.popleft().drawn for _ in range(len(stream.ahead))]
        taken = stream.tenant.growth.extend(stream.sequence, tokens)
        self.stats.wasted_tokens += len(tokens) - taken

    def _finish(self, tenant: Tenant) -> None:
        assert not tenant.streams, "a finished growth has no requests"
        self._tenants.remove(tenant)
        self.stats.wasted_tokens += tenant.growth.wasted_tokens
        follow_up = self._source.finished(tenant.growth)
        self._source_empty = False
        if follow_up is not None:
            self._next.appendleft(follow_up)
