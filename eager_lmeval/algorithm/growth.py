"""One run of Algorithm 1 on one prompt, step by step: tokens, forks and finishes. Ints, floats and lists only.

Every engine feeds its readouts in here, so what a tree looks like is decided in one place.
"""

from __future__ import annotations

from collections.abc import Generator
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from eager_lmeval.algorithm.gate import Candidate, Gate, GateSettings
from eager_lmeval.algorithm.tree import Prompt, Sequence
from eager_lmeval.errors import UsageError

if TYPE_CHECKING:
    from eager_lmeval.algorithm.readout import Readout

__all__ = ["Fork", "Growth", "Itinerary", "Run", "RunSource", "Stopper"]


@dataclass(frozen=True)
class Run:
    """What to grow: ``roots`` new roots of a prompt, numbered from ``first_root``, behind a gate or without branching.

    A run with a gate has one root. ``entropies_so_far`` (nats) are of the prompt's earlier runs. ``may_continue``
    says that another run on the same prompt may follow this one, so what was prefilled is worth keeping.
    """

    prompt: Prompt
    first_root: int = 0
    roots: int = 1
    gate: GateSettings | None = None
    entropies_so_far: Seq[float] = ()
    may_continue: bool = False

    def __post_init__(self) -> None:
        assert self.gate is None or self.roots == 1, "a gated run has one root"


Itinerary = Generator[Run, None, None]
"""A prompt's runs one after another; each is in the prompt's tree when the next one is asked for."""


class Stopper(Protocol):
    """Says when a sequence ends; knows the tokenizer, the stop strings and the thinking markers."""

    def begin(self, prompt: Prompt, root: Sequence) -> None:
        """Called before a root's first token: says whether it begins inside the thinking part."""

    def observe(self, prompt: Prompt, sequence: Sequence) -> None:
        """Called after each new token: follows the thinking part, and ends the sequence when that token ended it."""


class Fork(NamedTuple):
    parent: Sequence
    child: Sequence


class Growth:
    """The state of one run: its sequences in order of creation, which of them are unfinished, and its gate."""

    def __init__(self, run: Run, stopper: Stopper) -> None:
        self.run = run
        self.sequences: list[Sequence] = []
        self.prefill_tokens = 0
        self._stopper = stopper
        self._gate = Gate(run.gate, run.entropies_so_far) if run.gate else None

    @property
    def waiting_roots(self) -> int:
        return self.run.roots - sum(len(sequence.path) == 1 for sequence in self.sequences)

    @property
    def done(self) -> bool:
        return not self.waiting_roots and all(sequence.finish for sequence in self.sequences)

    def start_root(self) -> Sequence:
        root = Sequence(path=(self.run.first_root + self.run.roots - self.waiting_roots,))
        self._stopper.begin(self.run.prompt, root)
        self.sequences.append(root)
        return root

    def strata(self, sequence: Sequence) -> int:
        """How many strata a sequence would be dealt over if it opened now; 0 if it cannot open."""
        return 0

    def near_ties(self, readouts: Seq[Readout], active: Seq[Sequence], entropy_margin: float) -> list[int]:
        """Places whose readout rounding could have turned into another token, or into another choice of who forks.

        To be asked before `advance`, with the same arguments; entropies may be off by ``entropy_margin`` (nats).
        """
        places = {place for place, readout in enumerate(readouts) if readout.near_draw}
        if self._gate is not None:
            candidates = self._candidates(readouts, active)
            near = self._gate.near_ties(candidates, len(self.sequences), len(active), entropy_margin)
            places.update(near.close, (place for place in near.contending if readouts[place].near_fork))
        return sorted(places)

    def advance(self, readouts: Seq[Readout], active: Seq[Sequence]) -> list[Fork]:
        """One step: each of ``active`` gets one token; returns the forks in the order of their children's creation.

        ``readouts[i]`` belongs to ``active[i]``. Behind a gate, ``active`` must be all unfinished sequences. Children
        and sequences that end with this step have ``finish`` set.
        """
        for place, sequence in enumerate(active):
            if readouts[place].entropy != readouts[place].entropy:
                raise UsageError(self._nan_message(sequence))
        branching = self._branching(readouts, active)
        forks = []
        for place in branching:
            sequence, readout = active[place], readouts[place]
            at = len(sequence.tokens)
            child = sequence.fork(readout.second, at, readout.entropy)
            parent_share, child_share = readout.shares
            child.weight *= child_share
            sequence.weight *= parent_share
            child.entropy_sum += readout.entropy
            child.logprob += readout.logprob_second
            forks.append(Fork(sequence, child))
        for place, sequence in enumerate(active):
            readout = readouts[place]
            forced = place in branching
            sequence.tokens.append(readout.first if forced else readout.token)
            sequence.logprob += readout.logprob_first if forced else readout.logprob
            sequence.entropies.append(readout.entropy)
            sequence.entropy_sum += readout.entropy
        self.sequences.extend(fork.child for fork in forks)
        for sequence in (*active, *(fork.child for fork in forks)):
            self._stopper.observe(self.run.prompt, sequence)
        return forks

    def _branching(self, readouts: Seq[Readout], active: Seq[Sequence]) -> list[int]:
        """Places in ``active`` that fork in this step, in the order in which their children are created."""
        if self._gate is None:
            return []
        candidates = self._candidates(readouts, active)
        chosen = self._gate.choose(candidates, sequences=len(self.sequences), active=len(active))
        return sorted(chosen, key=lambda place: (*active[place].path, len(active[place].tokens)))  # the child's path

    def _candidates(self, readouts: Seq[Readout], active: Seq[Sequence]) -> list[Candidate]:
        return [
            Candidate(sequence.path, readout.entropy, sequence.thought_ended)
            for sequence, readout in zip(active, readouts, strict=True)
        ]

    def _nan_message(self, sequence: Sequence) -> str:
        prompt = self.run.prompt
        document = prompt.index if prompt.doc_id is None else prompt.doc_id
        return (
            f"the model gave NaN logits for document {document} of task {prompt.task!r} at generated position "
            f"{len(sequence.tokens)} (sequence {list(sequence.path)}); try another dtype, such as dtype=bfloat16 or "
            f"float32 in --model_args, and check the checkpoint"
        )


class RunSource(Protocol):
    """Where the engine gets its work; another process may share it."""

    def next_run(self) -> Run | None:
        """The next run, or None when there is none for now: asked again once a run has finished.

        A source that has runs left gives one whenever none of those that it gave is unfinished.
        """

    def finished(self, growth: Growth) -> Run | None:
        """Takes a finished growth; may return a further run on the same prompt, for which its prefix is kept."""
