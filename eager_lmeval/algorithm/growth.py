"""One run of Algorithm 1 on one prompt, step by step: tokens, forks and finishes. Ints, floats and lists only.

Every engine feeds its readouts in here, so what a tree looks like is decided in one place.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from eager_lmeval.algorithm.branching import SplitSettings, deal, opens, shift, strata_of
from eager_lmeval.algorithm.gate import Candidate, Gate, GateSettings
from eager_lmeval.algorithm.readout import Readout
from eager_lmeval.algorithm.tree import UNCERTAIN_NATS, Prompt, Sequence
from eager_lmeval.errors import UsageError

__all__ = ["Fork", "Growth", "Itinerary", "Run", "RunSource", "Stopper"]


@dataclass(frozen=True)
class Run:
    """What to grow: ``roots`` new roots of a prompt, numbered from ``first_root``, and how they branch, if they do.

    Behind a gate (`top2`) a run has one root, and its sequences stand for no number of ``copies``; otherwise each root
    begins with so many. ``entropies_so_far`` (nats) are of the prompt's earlier runs. ``may_continue`` says that
    another run on the same prompt may follow this one, so what was prefilled is worth keeping.
    """

    prompt: Prompt
    first_root: int = 0
    roots: int = 1
    copies: int | None = 1
    branching: GateSettings | SplitSettings | None = None
    entropies_so_far: Seq[float] = ()
    may_continue: bool = False

    def __post_init__(self) -> None:
        gated = isinstance(self.branching, GateSettings)
        assert not gated or self.roots == 1, "a gated run has one root"
        assert gated == (self.copies is None), "roots stand for copies unless they are gated"

    def begin(self, stopper: Stopper) -> Growth:
        """The growth of this run, with nothing grown yet."""
        return Growth(self, stopper)


Itinerary = Generator[Run, None, None]
"""A prompt's runs one after another; each is in the prompt's tree when the next one is asked for."""


class Stopper(Protocol):
    """Says when a sequence ends; knows the tokenizer, the stop strings and the thinking markers."""

    def begin(self, prompt: Prompt, root: Sequence) -> None:
        """Called before a root's first token: says whether it begins inside the thinking part."""

    def observe(self, prompt: Prompt, sequence: Sequence) -> None:
        """Called after each new token: follows the thinking part, and ends the sequence when that token ended it."""

    def cut(self, sequence: Sequence) -> None:
        """Ends a sequence where it stands, without an answer."""


class Fork(NamedTuple):
    parent: Sequence
    child: Sequence


Forked = tuple[list[Fork], dict[int, tuple[int, float]]]
"""The forks of a step; and by place the token and log-probability of who does not take the drawn one."""


class Growth:
    """The state of one run: its sequences, which of them are unfinished, and its gate.

    Behind a gate all unfinished sequences advance together (`lockstep`), and stand in order of creation. Otherwise any
    of them may advance alone, which changes nothing; they are put in that order when all have finished.
    """

    races = False
    """Whether what becomes of its roots depends on how far the others have come, before any of them ends."""

    def __init__(self, run: Run, stopper: Stopper) -> None:
        self.run = run
        self.sequences: list[Sequence] = []
        self.prefill_tokens = 0
        self.wasted_tokens = 0
        """Decoded, and taken off again."""
        self._stopper = stopper
        branching = run.branching
        self._gate = Gate(branching, run.entropies_so_far) if isinstance(branching, GateSettings) else None
        self._splits = branching if isinstance(branching, SplitSettings) else None

    @property
    def lockstep(self) -> bool:
        """Whether all its unfinished sequences have to advance together."""
        return self._gate is not None

    @property
    def closed(self) -> bool:
        """Whether nothing can branch any more, whatever comes: for runs in `lockstep`."""
        return self._gate is not None and self._gate.over(len(self.sequences))

    @property
    def waiting_roots(self) -> int:
        return self.run.roots - sum(len(sequence.path) == 1 for sequence in self.sequences)

    @property
    def live(self) -> list[Sequence]:
        """Those of its sequences that have begun and not ended."""
        return [sequence for sequence in self.sequences if not sequence.finish]

    @property
    def settled_time(self) -> int | None:
        """When the vote of a race was settled, in its own time; None of all else."""
        return None

    @property
    def done(self) -> bool:
        return not self.waiting_roots and all(sequence.finish for sequence in self.sequences)

    def start_root(self) -> Sequence:
        root = Sequence(path=(self.run.first_root + self.run.roots - self.waiting_roots,), copies=self.run.copies)
        self._stopper.begin(self.run.prompt, root)
        self.sequences.append(root)
        return root

    def strata(self, sequence: Sequence) -> int:
        """How many strata a sequence would be dealt over if it opened now; 0 if it cannot open."""
        return strata_of(sequence, self._splits) if self._splits else 0

    def opens_at(self, sequence: Sequence) -> float:
        """The entropy in nats from which a sequence that is not in `lockstep` is dealt over strata; infinite where it
        is not. Below, its tokens may come without readouts (`extend`)."""
        return self._splits.threshold if self._splits and self.strata(sequence) else math.inf

    def questions(self, readouts: Seq[Readout], active: Seq[Sequence]) -> list[int]:
        """Places whose readout lacks how a fork splits its weight, as ``shares_unsure`` says, and whose sequence forks.

        For engines that read off less at once; to be asked before `advance`, with the same arguments.
        """
        if self._gate is None or not any(readout.shares_unsure for readout in readouts):
            return []
        forking = self._gate.passing(self._candidates(readouts, active), len(self.sequences), len(active))
        return sorted(place for place in forking if readouts[place].shares_unsure)

    def advance(self, readouts: Seq[Readout], active: Seq[Sequence]) -> list[Fork]:
        """One step: each of ``active`` gets one token; returns the forks in the order of their children's creation.

        ``readouts[i]`` belongs to ``active[i]``. In `lockstep`, ``active`` must be all unfinished sequences. Children
        and sequences that end with this step have ``finish`` set.
        """
        for place, sequence in enumerate(active):
            if readouts[place].entropy != readouts[place].entropy:
                raise UsageError(self._nan_message(sequence))
        forks, not_drawn = self._fork(readouts, active) if self._gate else self._split(readouts, active)
        for place, (sequence, readout) in enumerate(zip(active, readouts, strict=True)):
            token, logprob = not_drawn.get(place, (readout.token, readout.logprob))
            at = len(sequence.tokens)
            sequence.tokens.append(token)
            sequence.logprob += logprob
            sequence.entropy_sum += readout.entropy
            if at - sequence.decoded_from > len(sequence.entropies):
                continue  # entropies are known of the first positions alone
            sequence.entropies.append(readout.entropy)
            if readout.entropy >= UNCERTAIN_NATS:
                sequence.likeliest.append((at, round(readout.p_first, 3), round(readout.p_second, 3)))
        self.sequences.extend(fork.child for fork in forks)
        for sequence in (*active, *(fork.child for fork in forks)):
            self._stopper.observe(self.run.prompt, sequence)
        self._put_in_order()
        return forks

    def extend(self, sequence: Sequence, tokens: Seq[int]) -> int:
        """Gives a sequence that may not branch tokens of which nothing else is known; returns how many it took.

        It takes none beyond its end. Its sums of entropies and log-probabilities are NaN from then on.
        """
        before = len(sequence.tokens)
        for token in tokens:
            if sequence.finish is not None:
                break
            sequence.tokens.append(token)
            self._stopper.observe(self.run.prompt, sequence)
        if tokens:
            sequence.logprob = sequence.entropy_sum = math.nan
        self._put_in_order()
        return len(sequence.tokens) - before

    def _put_in_order(self) -> None:
        """A tree that splits has its sequences in order of creation once all have finished."""
        if self._splits is not None and self.done:
            self.sequences.sort(key=lambda sequence: (len(sequence.path) > 1, sequence.own_from, sequence.path))

    def _fork(self, readouts: Seq[Readout], active: Seq[Sequence]) -> Forked:
        """`top2`: who passes the gate takes its most likely token, its child the second."""
        assert self._gate is not None
        candidates = self._candidates(readouts, active)
        chosen = self._gate.choose(candidates, sequences=len(self.sequences), active=len(active))
        forks, not_drawn = [], {}
        for place in sorted(chosen, key=lambda place: (*active[place].path, len(active[place].tokens))):  # child's path
            sequence, readout = active[place], readouts[place]
            path = (*sequence.path, len(sequence.tokens))
            child = sequence.fork(path, readout.second, readout.entropy, readout.logprob_second)
            parent_share, child_share = readout.shares
            child.weight *= child_share
            sequence.weight *= parent_share
            not_drawn[place] = (readout.first, readout.logprob_first)
            forks.append(Fork(sequence, child))
        return forks, not_drawn

    def _split(self, readouts: Seq[Readout], active: Seq[Sequence]) -> Forked:
        """`systematic`: who opens deals its copies to its strata; what does not branch at all never does."""
        forks: list[Fork] = []
        not_drawn: dict[int, tuple[int, float]] = {}
        for place, (sequence, readout) in enumerate(zip(active, readouts, strict=True)):
            if self._splits is None or not opens(readout, self._splits):
                continue
            assert sequence.copies is not None, "what splits has copies"
            assert self.run.copies is not None, "what splits has copies"
            strata = len(readout.strata)
            left_over = sequence.copies % strata
            first = shift(self.run.prompt, sequence, strata, self._splits.seed) if left_over else 0
            going_on, *others = deal(sequence.copies, readout.strata, first)
            for token, logprob, copies in others:
                child = sequence.fork((*sequence.path, len(sequence.tokens), token), token, readout.entropy, logprob)
                child.copies, child.weight = copies, copies / self.run.copies
                forks.append(Fork(sequence, child))
            sequence.copies, sequence.weight = going_on.copies, going_on.copies / self.run.copies
            not_drawn[place] = (going_on.token, going_on.logprob)
        return forks, not_drawn

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
