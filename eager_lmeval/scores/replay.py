"""Recorded answers raced again (SPEC 5): what the vote of a race would have been, and what it would have cost.

By the project's own rule. Knows no files and no models.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np

from eager_lmeval.algorithm.race import RaceSettings, run_race
from eager_lmeval.scores.metrics import Vote, consensus
from eager_lmeval.scores.stats import mean

__all__ = ["Recorded", "Replay", "replay"]

SEED = 20251010


class Recorded(NamedTuple):
    """One independent answer to a question."""

    answer: Hashable | None
    """Its class of equal answers; None for no answer."""
    correct: bool
    tokens: int


class Replay(NamedTuple):
    """Races beside votes of all M answers, over questions and orders of their answers."""

    questions: int
    """Those with M answers or more; the others are left out."""
    all: float
    """Mean score of the vote of M."""
    race: float
    """Mean score of the vote of the race."""
    difference: float
    tokens: float
    """Of the races, of those of M answers: a ratio of sums."""
    time: float
    """The longest way through a race, of the longest answer of M: a ratio of sums."""
    settled: float
    """Share of the races whose vote was settled."""


def replay(questions: Sequence[Sequence[Recorded]], settings: RaceSettings, orders: int = 8) -> Replay:
    """Races every question in so many random orders of its answers, always the same ones; NaN without questions."""
    rng = np.random.default_rng(SEED)
    asked = [answers for answers in questions if len(answers) >= settings.max_sequences]
    whole, raced, settled = [], [], []
    tokens = all_tokens = time = all_time = 0
    for answers in asked:
        for _ in range(orders):
            drawn = [answers[place] for place in rng.permutation(len(answers))[: settings.max_sequences]]
            race = run_race([one.tokens for one in drawn], [one.answer for one in drawn], settings)
            votes = [Vote(one.answer, one.correct) for one in drawn]
            whole.append(consensus(votes))
            raced.append(consensus([votes[root] for root in sorted(race.lengths)]))
            settled.append(race.settled)
            tokens += race.tokens
            all_tokens += sum(one.tokens for one in drawn)
            time += race.last
            all_time += max(one.tokens for one in drawn)
    if not asked:
        return Replay(0, *[math.nan] * 6)
    return Replay(
        len(asked),
        mean(whole),
        mean(raced),
        mean(raced) - mean(whole),
        tokens / all_tokens,
        time / all_time,
        mean(list(map(float, settled))),
    )
