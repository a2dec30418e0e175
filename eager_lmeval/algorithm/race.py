"""The race (SPEC 5): when a prompt's independent roots start, and which of them are cut once its vote is settled.

Adaptive-Consistency (Aggarwal et al. 2023, arXiv 2305.11860) with many samples in flight. Ints and floats only: knows
no tokens, no texts and no label. Roots run in virtual time, one token a tick, so what comes out depends on their
lengths and answers alone, however far ahead of the others any of them was decoded.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from collections.abc import Sequence as Seq
from dataclasses import dataclass

from scipy.special import betainc

__all__ = ["Classes", "Race", "RaceSettings", "certainty", "run_race"]

Classes = Callable[[Seq[int]], Seq[Hashable | None]]
"""The classes of equal answers among some roots; None is a root without an answer, which does not vote."""


@dataclass(frozen=True)
class RaceSettings:
    """``first_lanes`` roots are made and finished whatever is found, ``max_sequences`` at most; a vote is settled when
    its leader is the mode with probability ``settled_at``."""

    first_lanes: int
    max_sequences: int
    settled_at: float


class Race:
    """One prompt's race. A decoder reports with `advance`, and decodes what is in ``running``.

    1. At 0 the first roots start.
    2. All that end at one time are counted together; those with an answer vote, each once.
    3. Where that settles the vote, all but the first lanes are cut. The first lanes go on to their own end, and vote.
    4. Where it does not, further roots start at that time: as many run as have ended, and at least ``first_lanes``.
    5. It is over when none runs.
    """

    def __init__(self, settings: RaceSettings, classes: Classes) -> None:
        self.settings = settings
        self.starts: list[int] = []
        """By root: when it started."""
        self.running: dict[int, int] = {}
        """Roots that have started and not ended, with their starts."""
        self.lengths: dict[int, int] = {}
        """Tokens of the roots that have ended."""
        self.cut: dict[int, int] = {}
        """Roots that were cut, with the tokens that they had then."""
        self.settled_time: int | None = None
        self.last = 0
        """The latest end so far."""
        self._classes = classes
        self._start(0)

    @property
    def over(self) -> bool:
        return not self.running

    @property
    def settled(self) -> bool:
        return self.settled_time is not None

    @property
    def time(self) -> int:
        """When the vote was settled, or the last root ended."""
        return self.last if self.settled_time is None else self.settled_time

    @property
    def ended(self) -> list[int]:
        """Roots by when they ended, those of one time by number, and last the first lanes that went on after the vote
        was settled, by number."""
        ends = {root: self.starts[root] + length for root, length in self.lengths.items()}
        return sorted(ends, key=lambda root: (min(ends[root], self.time + 1), root))

    @property
    def tokens(self) -> int:
        return sum(self.lengths.values()) + sum(self.cut.values())

    def advance(self, tokens: Mapping[int, int], ended: Collection[int]) -> None:
        """Decides all that can be decided: ``tokens`` by running root so far, ``ended`` those that have no more.

        Nothing is decided at a time that some running root has not reached. Roots that it starts are not looked at in
        the same call unless ``tokens`` has them.
        """
        while (time := self._next_end(tokens, ended)) is not None:
            at_once = [root for root, start in self.running.items() if root in ended and start + tokens[root] == time]
            for root in at_once:
                del self.running[root]
                self.lengths[root] = tokens[root]
            self.last = time
            if self.settled:
                continue
            if certainty(self._classes(list(self.lengths))) >= self.settings.settled_at:
                self.settled_time = time
                self._cut(time)
            else:
                self._start(time)

    def _next_end(self, tokens: Mapping[int, int], ended: Collection[int]) -> int | None:
        """When the next root ends; None where a running one has not come so far, or nobody has ended."""
        ends = [start + tokens[root] for root, start in self.running.items() if root in ended]
        if not ends:
            return None
        time = min(ends)
        return time if all(start + tokens.get(root, 0) >= time for root, start in self.running.items()) else None

    def _start(self, time: int) -> None:
        most = max(self.settings.first_lanes, len(self.lengths))
        while len(self.running) < most and len(self.starts) < self.settings.max_sequences:
            self.running[len(self.starts)] = time
            self.starts.append(time)

    def _cut(self, time: int) -> None:
        for root in [root for root in self.running if root >= self.settings.first_lanes]:
            self.cut[root] = time - self.running.pop(root)


def certainty(classes: Iterable[Hashable | None]) -> float:
    """The posterior probability that the leading class is the mode of the model's answers, 0.5 where nothing voted."""
    counts = sorted(Counter(one for one in classes if one is not None).values(), reverse=True)
    first, second = [*counts, 0, 0][:2]
    return _leads(first, second)


@functools.cache
def _leads(first: int, second: int) -> float:
    """I_{1/2}(v₂ + 1, v₁ + 1) for the votes of the two leading classes."""
    return float(betainc(second + 1, first + 1, 0.5))


def run_race(lengths: Seq[int], answers: Seq[Hashable | None], settings: RaceSettings) -> Race:
    """The race of roots whose lengths (tokens, EOS counted) and answers are known already, at least
    ``max_sequences`` of them."""
    race = Race(settings, lambda roots: [answers[root] for root in roots])
    race.advance(dict(enumerate(lengths)), range(len(lengths)))
    return race
