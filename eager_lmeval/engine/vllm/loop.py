"""The loop over vLLM: which requests stand for which sequences, and what becomes of the tokens that they report.

What is decided depends on a prompt's own tokens alone:

    behind a gate (`top2`)  requests report log-probabilities token by token, and run ahead of what is decided: token t
                            of a prompt is once all its unfinished sequences have reported it. Who forks takes its most
                            likely token, which its request may have drawn anyway; otherwise that request is aborted
                            and another goes on from the new prefix. A child has one of its own.
    `systematic`            a request draws until the worker sees that its sequence may open, and ends with the signal.
                            Then one request a stratum asks for the stratum's token, and nothing has run ahead.
    a race                  how many roots there are, and how much of each, is decided as they report, at intervals.
    neither                 nothing is decided.

Where no log-probabilities are reported the worker gives the signal for logits without a distribution too, and the
question that follows says so. The signal is a token that the model may draw: then a question finds that it did.

Tokens that ran ahead and were thrown away are counted as wasted; they cost time and change nothing.
"""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Callable

from eager_lmeval.algorithm.growth import Growth, Run, RunSource, Stopper
from eager_lmeval.algorithm.readout import Readout, Stratum
from eager_lmeval.algorithm.tree import Sequence
from eager_lmeval.engine.counts import EngineCounts
from eager_lmeval.engine.sampling import Sampling
from eager_lmeval.engine.vllm.requests import Ahead, Requests, Stream, Tenant
from eager_lmeval.engine.vllm.room import Room, most_sequences
from eager_lmeval.engine.vllm.server import Server

__all__ = ["Engine"]


class Engine:
    """Grows trees for one pool at a time: `run` takes runs from a source until it is empty.

    ``reads_all``: log-probabilities are wanted of all tokens behind a gate, though it may have closed.
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
        self._requests = Requests(server, sampling, seed, self.stats, reads_all)
        self._room = Room(limit, server.tokens)
        self._stopper = stopper
        self._on_step = on_step
        self._tenants: list[Tenant] = []
        self._admitted = 0
        self._next: deque[Run] = deque()
        """Runs that were taken and wait for room."""
        self._source_empty = False
        self._source: RunSource

    def run(self, source: RunSource) -> None:
        """Works until the source is empty and everything it gave has finished."""
        self._source, self._source_empty = source, False
        gc.freeze()  # what is there already outlives this, and is not to be searched for garbage again and again
        try:
            self._admit()
            while self._tenants:
                self._step()
                self._admit()
        finally:
            self._tenants = []
            self._next.clear()
            self._requests.abandon()
            gc.unfreeze()

    def _step(self) -> None:
        touched = self._requests.step()
        self.stats.count(self.in_use, self.limit, self.waiting)
        for tenant in touched:
            self._grow(tenant)
        self._on_step(self)

    @property
    def in_use(self) -> int:
        """Sequences that are being decoded."""
        return len(self._requests)

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
        if not self.waiting:
            return
        room = self._room
        room.look(self._tenants, self.stats.steps)
        for tenant in self._tenants:
            while tenant.growth.waiting_roots and (room.take(1) or not tenant.streams):
                self._start_root(tenant)
        while (run := self._upcoming()) is not None:
            if not room.take(most_sequences(run), len(run.prompt.token_ids)) and self._tenants:
                return
            self._next.popleft()
            tenant = Tenant(run.begin(self._stopper), self._admitted)
            self._admitted += 1
            self._tenants.append(tenant)
            while tenant.growth.waiting_roots and (not tenant.streams or room.take(1)):
                self._start_root(tenant)
            if tenant.growth.done:  # a race whose roots were all known
                self._finish(tenant)

    def _upcoming(self) -> Run | None:
        if not self._next and not self._source_empty:
            run = self._source.next_run()
            if run is None:
                self._source_empty = True
            else:
                self._next.append(run)
        return self._next[0] if self._next else None

    def _start_root(self, tenant: Tenant) -> None:
        root = tenant.growth.start_root()
        self.stats.roots += 1
        self._requests.issue(tenant, root)

    # What came back.

    def _grow(self, tenant: Tenant) -> None:
        """Decides all that can be decided of a growth."""
        while ready := self._ready(tenant):
            taken = [stream.ahead.popleft() for stream in ready]
            readouts = [self._answered(*pair) for pair in zip(ready, taken, strict=True)]
            self._advance(tenant, ready, readouts, [ahead.drawn for ahead in taken])
        for stream in [stream for stream in tenant.streams.values() if not stream.reads]:
            self._run_out(stream)
        for stream in list(tenant.streams.values()):
            if stream.sequence.finish is not None:
                self._requests.drop(stream)  # it has ended, or was cut by what another one has reported
        for stream in tenant.streams.values():
            if stream.ended and not stream.ahead and not stream.asked:
                raise RuntimeError(
                    f"vLLM ended a request after {len(stream.sequence.tokens)} generated tokens, before the sequence's "
                    f"end (sequence {list(stream.sequence.path)} of document {tenant.growth.run.prompt.doc_id}); its "
                    f"own log says why"
                )
        if tenant.growth.done:
            self._finish(tenant)

    def _advance(self, tenant: Tenant, streams: list[Stream], readouts: list[Readout], drawn: list[int | None]) -> None:
        """A step of these streams' sequences; a request goes on where it has drawn what was decided."""
        growth, before = tenant.growth, len(tenant.growth.sequences)
        growth.advance(readouts, [stream.sequence for stream in streams])
        children = growth.sequences[before:]
        self.stats.forks += len(children)
        for stream, token in zip(streams, drawn, strict=True):
            if stream.sequence.tokens[-1] != token:
                self._requests.drop(stream)
        for sequence in (*(stream.sequence for stream in streams), *children):
            self._follow(tenant, sequence)

    def _ready(self, tenant: Tenant) -> list[Stream]:
        """The streams that take their next token now: in lockstep, all or none."""
        ready = tenant.reading
        if not ready or not all(stream.ahead and not stream.asked for stream in ready):
            return []
        readouts = [stream.ahead[0].readout for stream in ready]
        doubtful = tenant.growth.questions(readouts, [stream.sequence for stream in ready])
        asking = [place for place in doubtful if not ready[place].answers]
        for place in asking:
            self._requests.ask_whether_passes(ready[place], readouts[place].second)
        return [] if asking else ready

    @staticmethod
    def _answered(stream: Stream, ahead: Ahead) -> Readout:
        """A readout with what was asked besides."""
        answers, stream.answers = stream.answers, {}
        if not answers or answers[0].ids[0] == ahead.readout.second:
            return ahead.readout
        return ahead.readout._replace(p_first=1.0, p_second=0.0)

    def _follow(self, tenant: Tenant, sequence: Sequence) -> None:
        """Sees to it that a sequence has the request that it needs now, or none if it has ended."""
        stream = tenant.streams.get(id(sequence))
        if stream is not None and stream.reads and sequence.finish is None:
            if not self._requests.reads(tenant):
                # What it has drawn already is drawn; its readouts are left out, for how many there are is chance.
                tenant.growth.extend(sequence, [ahead.drawn for ahead in stream.ahead])
                stream.ahead.clear()
            elif stream.ahead or not stream.ended:
                return
        if stream is not None:
            self._requests.drop(stream)
        if sequence.finish is None:
            self._requests.issue(tenant, sequence)

    def _run_out(self, stream: Stream) -> None:
        """Takes what a request without log-probabilities has reported, and looks closer where it gave the signal."""
        if stream.sequence.finish is not None:
            return
        if stream.answers and not stream.asked:
            self._settle(stream)
        elif stream.drawn:
            signalled = self._requests.signalled(stream)
            tokens = stream.drawn[:-1] if signalled else stream.drawn
            stream.drawn = []
            taken = stream.tenant.growth.extend(stream.sequence, tokens)
            self.stats.wasted_tokens += len(tokens) - taken
            if signalled and stream.sequence.finish is None:
                self._requests.ask_strata(stream, max(1, stream.tenant.growth.strata(stream.sequence)))

    def _settle(self, stream: Stream) -> None:
        """A sequence at the signal takes its next token: what its strata drew if it opens, else its own draw."""
        answers = [stream.answers[number] for number in range(len(stream.answers))]
        stream.answers = {}
        (readout,) = self._requests.read(answers[:1])
        if len(answers) > 1:
            if readout.entropy < stream.tenant.growth.opens_at(stream.sequence):  # the signal had been drawn
                return self._requests.ask_strata(stream, 1)
            strata = tuple(Stratum(answer.ids[0], answer.logprobs[0]) for answer in answers)
            readout = readout._replace(strata=strata)
        self._advance(stream.tenant, [stream], [readout], [None])

    def _finish(self, tenant: Tenant) -> None:
        assert not tenant.streams, "a finished growth has no requests"
        self._tenants.remove(tenant)
        for sequence in tenant.growth.sequences:
            self._room.count_ended(sequence)
        self.stats.wasted_tokens += tenant.growth.wasted_tokens
        follow_up = self._source.finished(tenant.growth)
        self._source_empty = False
        if follow_up is not None:
            self._next.appendleft(follow_up)
