"""The gate (SPEC 3): entropies and counts in, who branches out. Does not know which engine runs."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from sortedcontainers import SortedList

from eager_lmeval.algorithm.tree import Path

__all__ = ["Candidate", "Gate", "GateSettings"]

ROUNDING_NATS = 1e-5
"""What the percentile is lowered by: a prompt's later runs meet entropies of earlier ones again, equal up to rounding,
and must not depend on it. Far below the 0.005 nat that a streaming estimate may be off by."""


@dataclass(frozen=True)
class GateSettings:
    """When a prompt's sequences may branch; the fields are the options of the same names (SPEC 3)."""

    threshold: float
    """θ, in nats."""
    cap: int
    """Branching stops once the prompt has this many sequences."""
    count: Literal["all", "active"] = "all"
    window: int | None = None
    """Decode steps without a branch after which the gate closes for good; ``None``: never."""
    percentile: float | None = None
    """The threshold rises to this percentile of the prompt's entropies so far; ``None``: it does not."""
    until_thought_ends: bool = True
    """Whether a sequence stops branching once it has produced the end-of-thinking marker."""


class Candidate(NamedTuple):
    """A sequence that is about to produce a token."""

    path: Path
    entropy: float
    """Top-K entropy of its next-token distribution, in nats."""
    thought_ended: bool


class Gate:
    """One prompt's gate over one run of Algorithm 1.

    ``entropies_so_far`` (nats) are those of the positions that the prompt decoded in earlier runs: the dynamic
    threshold is a percentile over all that the prompt has decoded.
    """

    def __init__(self, settings: GateSettings, entropies_so_far: Iterable[float] = ()) -> None:
        self.settings = settings
        self.steps_without_branch = 0
        self.closed = False
        self._entropies: SortedList | None = None
        if settings.percentile is not None:
            self._entropies = SortedList(entropies_so_far)

    def threshold(self) -> float:
        """θ_i(t) in nats for the coming step."""
        if not self._entropies:
            return self.settings.threshold
        assert self.settings.percentile is not None
        dynamic = percentile(self._entropies, self.settings.percentile) - ROUNDING_NATS
        return max(self.settings.threshold, dynamic)

    def over(self, sequences: int) -> bool:
        """Whether nothing can pass any more. ``sequences`` are the prompt's, all of them."""
        return self.closed or (self.settings.count == "all" and sequences >= self.settings.cap)

    def choose(self, candidates: list[Candidate], sequences: int, active: int) -> list[int]:
        """Who branches in this step: indices into ``candidates``, highest entropy first, ties to the smaller path.

        ``sequences`` and ``active`` are the prompt's sequences before the step, all of them and the unfinished ones.
        Must be called once a step, in order: it also advances the window and the dynamic threshold.
        """
        chosen = self.passing(candidates, sequences, active)
        self.closed = self.over(sequences)
        if self._entropies is not None:
            self._entropies.update(candidate.entropy for candidate in candidates)
        self.steps_without_branch = 0 if chosen else self.steps_without_branch + 1
        if self.settings.window is not None and self.steps_without_branch >= self.settings.window:
            self.closed = True
        return chosen

    def passing(self, candidates: list[Candidate], sequences: int, active: int) -> list[int]:
        """What `choose` would return; changes nothing."""
        room = self.settings.cap - (sequences if self.settings.count == "all" else active)
        if self.over(sequences) or room <= 0:
            return []
        threshold = self.threshold()
        over = [
            index
            for index, candidate in enumerate(candidates)
            if candidate.entropy >= threshold and not (self.settings.until_thought_ends and candidate.thought_ended)
        ]
        return sorted(over, key=lambda index: (-candidates[index].entropy, candidates[index].path))[:room]


def percentile(ascending: SortedList, q: float) -> float:
    """The q-th percentile (0 to 100) of sorted values, with linear interpolation, as ``numpy.percentile`` has it."""
    place = q / 100 * (len(ascending) - 1)
    below = math.floor(place)
    low, high = ascending[below], ascending[min(below + 1, len(ascending) - 1)]
    return float(low + (high - low) * (place - below))
