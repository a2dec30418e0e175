"""A race (SPEC 5) as an engine sees it: a growth whose roots start, end and are cut by the rule of `race`.

Roots advance as they come, and any of them may run ahead of the others in virtual time. What they decoded beyond the
place where they are cut is taken off again, and counted as wasted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field

from eager_lmeval.algorithm.growth import Fork, Growth, Run, Stopper
from eager_lmeval.algorithm.race import Race, RaceSettings
from eager_lmeval.algorithm.readout import Readout
from eager_lmeval.algorithm.tree import Sequence

__all__ = ["Classify", "Lanes", "RaceRun"]

Classify = Callable[[Seq[str | None]], Seq[Hashable | None]]
"""Numbers the classes of equal answers among some texts; None is a text without an answer, or no text at all."""


@dataclass(frozen=True, kw_only=True)
class RaceRun(Run):
    """All roots of a prompt. ``ended`` holds those that are known to their end already; each end goes to ``on_end``."""

    settings: RaceSettings
    classify: Classify
    ended: Mapping[int, Sequence] = field(default_factory=dict)
    on_end: Callable[[Sequence], object] = lambda sequence: None

    def begin(self, stopper: Stopper) -> Lanes:
        return Lanes(self, stopper)


class Lanes(Growth):
    """The state of a race: `Growth` with roots that start when the rule says so, and may be cut."""

    races = True

    def __init__(self, run: RaceRun, stopper: Stopper) -> None:
        super().__init__(run, stopper)
        self._of_race = run
        self._by_root: dict[int, Sequence] = {}
        self._race = Race(run.settings, self._classes)
        self._decide()

    @property
    def waiting_roots(self) -> int:
        return len(self._race.starts) - len(self._by_root)

    @property
    def done(self) -> bool:
        return self._race.over

    @property
    def settled_time(self) -> int | None:
        return self._race.settled_time

    def start_root(self) -> Sequence:
        root = next(root for root in self._race.running if root not in self._by_root)
        sequence = Sequence(path=(root,), copies=1, start=self._race.starts[root])
        self._stopper.begin(self.run.prompt, sequence)
        self._add(sequence)
        return sequence

    def advance(self, readouts: Seq[Readout], active: Seq[Sequence]) -> list[Fork]:
        forks = super().advance(readouts, active)
        self._after(active)
        return forks

    def extend(self, sequence: Sequence, tokens: Seq[int]) -> int:
        taken = super().extend(sequence, tokens)
        self._after([sequence])
        return taken

    def _add(self, sequence: Sequence) -> None:
        self._by_root[sequence.path[0]] = sequence
        self.sequences.append(sequence)

    def _after(self, stepped: Seq[Sequence]) -> None:
        for sequence in stepped:
            if sequence.finish is not None:
                self._of_race.on_end(sequence)
        self._decide()

    def _decide(self) -> None:
        """Plays the race as far as its roots have come; known ones are there as soon as they start."""
        race = self._race
        while True:
            for root in [root for root in race.running if root not in self._by_root and root in self._of_race.ended]:
                known = self._of_race.ended[root]
                known.start = race.starts[root]
                self._add(known)
            here = {root: self._by_root[root] for root in race.running if root in self._by_root}
            ended = {root for root, sequence in here.items() if sequence.finish is not None}
            started = len(race.starts)
            if ended:
                race.advance({root: len(sequence.tokens) for root, sequence in here.items()}, ended)
            if len(race.starts) == started:
                break
        for root, tokens in race.cut.items():
            if self._by_root[root].finish != "cut":
                self._cut(self._by_root[root], tokens)
        if race.over:
            self.sequences.sort(key=lambda sequence: sequence.path)

    def _cut(self, sequence: Sequence, tokens: int) -> None:
        """What is known of a root no longer depends on how far ahead it ran; its sum of log-probabilities would."""
        if sequence.path[0] not in self._of_race.ended:
            self.wasted_tokens += len(sequence.tokens) - tokens
        whole = len(sequence.entropies) >= tokens
        del sequence.tokens[tokens:]
        del sequence.entropies[tokens:]
        sequence.likeliest = [one for one in sequence.likeliest if one[0] < tokens]
        sequence.entropy_sum = sum(sequence.entropies) if whole else math.nan
        sequence.logprob = math.nan
        self._stopper.cut(sequence)

    def _classes(self, roots: Seq[int]) -> Seq[Hashable | None]:
        return self._of_race.classify([self._by_root[root].answer for root in roots])
