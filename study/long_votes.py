"""What the answers of long trees are worth: votes and coverage beside tokens, with rounds.

Assumed is where an answer is decided, how often it is right, and how wrong ones agree. That a forced branch may change
what an answer is, is left out: `estimates.py` measures that.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
from long_process import VERY_UNCERTAIN_NATS, Assumption, Question, questions
from long_trees import FAN_2, NONE, SYSTEMATIC, TOP2, Design, Leaf, grow
from numpy.typing import NDArray
from scipy.special import betainc

from eager_lmeval.algorithm.options import Options
from eager_lmeval.scores.metrics import Vote, consensus

__all__ = ["votes"]

BASE = Assumption()
KINDS: dict[str, tuple[float, float]] = {"easy": (4, 1), "mixed": (1, 1), "hard": (1, 3)}
"""Beta distribution of a question's chance of a right answer."""
WRONG = 5
"""Wrong answers of a question; how they share the rest is drawn from a Dirichlet distribution with 0.5 each."""
DECIDED = ("anywhere", "where θ is reached")
"""Which tokens decide the answer: any, or those alone at which a tree may branch, which is the best case for trees."""
SETTLED_AT = float(Options.model_fields["settled_at"].default)


class Answers:
    """What the answers of one question are: class 0 is right.

    One token of the answer, drawn evenly over its length, decides which (or the next one at or above θ): sequences that
    separate there or before it answer independently, those that separate after it alike.
    """

    def __init__(self, question: Question, kind: str, decided: str) -> None:
        self._rng = np.random.default_rng([question.prompt.index, list(KINDS).index(kind)])
        right = self._rng.beta(*KINDS[kind])
        self._chances = np.concatenate([[right], (1 - right) * self._rng.dirichlet(np.full(WRONG, 0.5))])
        self._decided_at = int(self._rng.random() * question.median)
        if decided == "where θ is reached" and (found := question.root(0).next(self._decided_at)):
            self._decided_at = found[0]

    def of(self, leaves: Sequence[Leaf]) -> list[int]:
        classes: list[int] = []
        for leaf, drawn in zip(leaves, self._rng.choice(len(self._chances), len(leaves), p=self._chances), strict=True):
            inherits = leaf.parent is not None and leaf.branch_at > self._decided_at
            classes.append(classes[leaf.parent] if inherits and leaf.parent is not None else int(drawn))
        return classes


class Outcome:
    """What a question has come to so far: its answers' classes, each with the copies that gave it."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self.classes: list[int] = []
        self.copies: list[float] = []
        self.tokens = self.roots = 0

    def add(self, leaves: Sequence[Leaf], copies: int) -> None:
        self.classes += self._answers.of(leaves)
        self.copies += [leaf.weight * copies for leaf in leaves]
        self.tokens += sum(leaf.own_tokens for leaf in leaves)
        self.roots += 1

    @property
    def sure(self) -> float:
        """The probability that the vote's leader is the mode: `race.certainty`, on trees by their weights."""
        shares: dict[int, float] = {}
        for cls, copies in zip(self.classes, self.copies, strict=True):
            shares[cls] = shares.get(cls, 0.0) + copies / sum(self.copies)
        first, second = heapq.nlargest(2, [*shares.values(), 0.0, 0.0])
        return float(betainc(len(self.classes) * second + 1, len(self.classes) * first + 1, 0.5))

    def figures(self) -> tuple[float, ...]:
        """Tokens, the weighted vote's score, whether an answer is right, sequences, and roots (or rounds)."""
        ballots = [Vote(cls, cls == 0, copies) for cls, copies in zip(self.classes, self.copies, strict=True)]
        return self.tokens, consensus(ballots), 0 in self.classes, len(ballots), self.roots


@dataclass(frozen=True)
class Strategy:
    """Roots of ``each`` copies until the vote is settled or the copies reach ``most``, as `consistency` of release 0.1
    grew them. Where ``each`` is ``most`` it is one tree, or under `none` `parallel`."""

    design: Design
    theta: float = VERY_UNCERTAIN_NATS
    most: int = 32
    each: int = 32

    def first_stage(self, roots: Callable[[Design, int, int], list[Leaf]], answers: Answers) -> Outcome:
        outcome = Outcome(answers)
        for root in range(0, self.most, self.each):
            if root and outcome.sure >= SETTLED_AT:
                break
            outcome.add(roots(self.design, self.each, root), self.each)
        return outcome


STRATEGIES = {
    "parallel": Strategy(NONE),
    "parallel, M 28": Strategy(NONE, most=28, each=28),
    "parallel, M 24": Strategy(NONE, most=24, each=24),
    "parallel, M 16": Strategy(NONE, most=16, each=16),
    "parallel, M 8": Strategy(NONE, most=8, each=8),
    "systematic, θ 1": Strategy(SYSTEMATIC, 1.0),
    "systematic, θ 2": Strategy(SYSTEMATIC, 2.0),
    "systematic, θ 2.5": Strategy(SYSTEMATIC, 2.5),
    "systematic, fan_out 2, θ 2.5": Strategy(FAN_2, 2.5),
    "top2, θ 2": Strategy(TOP2, 2.0),
    "top2, θ 2.5": Strategy(TOP2, 2.5),
    "rounds of 8 answers": Strategy(NONE, each=8),
    "rounds of 4 answers": Strategy(NONE, each=4),
    "rounds of 1 answer": Strategy(NONE, each=1),
    "rounds of 8 copies, θ 2": Strategy(SYSTEMATIC, 2.0, each=8),
    "rounds of 8 copies, θ 2.5": Strategy(SYSTEMATIC, 2.5, each=8),
}
"""M is 32 where none is given. `parallel` is the first: the others are held against it."""


def votes(number: int) -> list[dict[str, Any]]:
    """A row for each length, kind of question and strategy; differences are to `parallel`, paired by question."""
    rows = []
    for length, decided in itertools.product((3_000, 10_000), DECIDED):
        outcomes: dict[tuple[str, str], list[Outcome]] = {(kind, name): [] for kind in KINDS for name in STRATEGIES}
        for theta in sorted({strategy.theta for strategy in STRATEGIES.values()}):
            for question in questions(BASE, length, theta, number):
                roots = cache(partial(grow, question))
                for (kind, name), made in outcomes.items():
                    if STRATEGIES[name].theta == theta:
                        made.append(STRATEGIES[name].first_stage(roots, Answers(question, kind, decided)))
        base: dict[str, NDArray[np.float64]] = {}
        for (kind, name), made in outcomes.items():
            figures = np.array([outcome.figures() for outcome in made], dtype=np.float64)
            gains = figures - base.setdefault(kind, figures)
            row: dict[str, Any] = {"length": length, "decided": decided, "kind": kind, "strategy": name}
            row["saved"] = 1 - float(figures[:, 0].sum() / base[kind][:, 0].sum())
            for place, figure in ((1, "vote"), (2, "pass_at_max")):
                row |= {figure: float(figures[:, place].mean()), f"{figure}_gain": float(gains[:, place].mean())}
                row[f"{figure}_gain_error"] = float(gains[:, place].std(ddof=1) / math.sqrt(number))
            rows.append(row | {"sequences": float(figures[:, 3].mean()), "rounds": float(figures[:, 4].mean())})
    return rows
