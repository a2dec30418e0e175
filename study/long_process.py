"""Where an answer of thousands of tokens is uncertain, and how its next token is distributed there: an assumed process.

Fitted to two figures, whatever else is assumed (`Assumption`): the share of tokens whose entropy is at least 0.67 nats,
and the share at 2 nats or more. Tokens below the threshold of a run change nothing in its tree, so they are not made: a
`Plan` goes from one uncertain token to the next. Every number is a function of what it is for, as in the project, so
runs that differ in M or in how they branch meet the same questions.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from eager_lmeval.algorithm.streams import stream_key, uniforms
from eager_lmeval.algorithm.tree import Prompt

UNCERTAIN_NATS, VERY_UNCERTAIN_NATS = 0.67, 2.0
TOP_K = 20
"""Tokens that the entropy is taken over (SPEC 2), and those that an uncertain token is drawn from."""
LEVELS = np.round(np.arange(67, 299) / 100, 2)
"""Entropies (nats) that an uncertain token may have; ln 20 = 2.996 is the most there is."""
FIRST = 1
"""Token id of the most likely token at an uncertain place; the others follow in order of probability. 0 is EOS."""
POWERS = {"geometric": 1.0, "rivals": 4.0}
LONGEST = 3
"""The longest answer, in median lengths."""
BURSTS = ((400, 0.5), (100, 3.0))
"""Mean tokens of a calm and of a tense stretch, and how many uncertain tokens each has, as a multiple of the mean."""
PHASES = ((0.6, 1.5), (0.4, 0.25))
"""Shares of the median length, and the multiples there."""
STANDARD = NormalDist()


@dataclass(frozen=True)
class Assumption:
    """What is taken for granted of a model's answers. The defaults are the base case."""

    name: str = "base"
    uncertain: float = 0.2
    """Share of tokens at 0.67 nats or more."""
    very_uncertain: float = 0.0075
    """Share at 2 nats or more; between the two, and beyond, entropies fall off exponentially up to ln 20."""
    rhythm: str = "even"
    """`even`: uncertain tokens fall independently; `bursts`: in stretches, the same for all answers of a question; `two
    phases`: dense in the first 60% of the median length, rare after that; `questions differ`: each question has its own
    share, log-normal with σ 1."""
    family: str = "geometric"
    """Probabilities at an uncertain token: falling off geometrically; `rivals`: nearly equal ones, then nothing;
    `leader`: one token, and 19 equal ones."""
    temperature: float = 1.0
    """What the probabilities are drawn at; entropies are those of temperature 1 (`entropy_of=raw`)."""
    spread: float = 0.0
    """σ of the log-normal lengths of one question's answers around its median."""

    @cached_property
    def survival(self) -> NDArray[np.float64]:
        """Share of tokens at or above each of `LEVELS`. (levels,)"""
        most = math.log(TOP_K) - UNCERTAIN_NATS

        def beyond(rate: float, nats: float) -> float:
            return (math.exp(-rate * nats) - math.exp(-rate * most)) / -math.expm1(-rate * most)

        wanted = self.very_uncertain / self.uncertain
        rate = brentq(lambda rate: beyond(rate, VERY_UNCERTAIN_NATS - UNCERTAIN_NATS) - wanted, 1e-3, 50.0)
        return np.array([self.uncertain * beyond(rate, level - UNCERTAIN_NATS) for level in LEVELS])

    @cached_property
    def probabilities(self) -> NDArray[np.float64]:
        """Of the next token at each of `LEVELS`, in order of probability. (levels, 20)"""
        return np.array([tempered(distribution(level, self.family), self.temperature) for level in LEVELS])

    @cached_property
    def cumulative(self) -> NDArray[np.float64]:
        """Sums of the probabilities, the last one 1. (levels, 20)"""
        sums = np.cumsum(self.probabilities, axis=1)
        sums[:, -1] = 1.0
        return sums

    def share(self, threshold: float) -> float:
        """Of tokens at or above a threshold (nats) of at least 0.67."""
        lowest = int(np.searchsorted(LEVELS, threshold))
        return float(self.survival[lowest]) if lowest < len(LEVELS) else 0.0

    def length(self, median: int, u: float, beyond: int = 0) -> int:
        """The length that the number ``u`` of (0, 1) picks among those of more than ``beyond`` + 1 tokens."""
        if self.spread == 0:
            return median
        below = STANDARD.cdf(math.log((beyond + 2) / median) / self.spread)
        place = min(max(below + (1 - below) * u, 1e-9), 1 - 1e-9)
        length = round(median * math.exp(self.spread * STANDARD.inv_cdf(place)))
        return min(max(length, beyond + 2), max(LONGEST * median, beyond + 2))


def distribution(entropy: float, family: str) -> NDArray[np.float64]:
    """Probabilities of 20 tokens with that entropy (nats), the most likely first. (20,)"""
    ranks = np.arange(TOP_K, dtype=np.float64)

    def shaped(parameter: float) -> NDArray[np.float64]:
        if family == "leader":
            return np.where(ranks == 0, parameter, (1 - parameter) / (TOP_K - 1))
        weights = np.exp(-((ranks / parameter) ** POWERS[family]))
        return np.asarray(weights / weights.sum())

    def off(parameter: float) -> float:
        p = shaped(parameter)
        return float(-(p[p > 0] * np.log(p[p > 0])).sum()) - entropy

    between = (1 / TOP_K, 1 - 1e-9) if family == "leader" else (0.05, 1e4)
    return shaped(float(brentq(off, *between)))


def tempered(probabilities: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    powers = probabilities ** (1 / temperature)
    return np.asarray(powers / powers.sum())


def draws(prompt: Prompt, path: tuple[int, ...], first: int, number: int = 1) -> NDArray[np.float64]:
    """Draws ``first``, ``first`` + 1 … of a path's stream (SPEC 4), of seed 0. (number,)"""
    key = stream_key(0, prompt.task, prompt.context, path)
    steps = np.arange(first, first + number, dtype=np.uint64)
    return uniforms(np.full(number, key, dtype=np.uint64), steps)


class Question:
    """One prompt whose answers have ``median`` tokens, seen by runs with one threshold (nats)."""

    def __init__(self, assumption: Assumption, prompt: Prompt, median: int, threshold: float) -> None:
        self.assumption, self.prompt, self.median, self.threshold = assumption, prompt, median, threshold
        share = assumption.share(threshold) * rhythm(assumption.rhythm, prompt.index, median)
        hazard = -np.log1p(-np.minimum(share, 0.95))
        self.lowest = int(np.searchsorted(LEVELS, threshold))
        """The first of `LEVELS` at the threshold; their number where none is."""
        self.hazards = np.concatenate([[0.0], np.cumsum(hazard)])
        """Before each position, so that the chance of no uncertain token from a to b is exp of their difference."""

    def root(self, number: int) -> Plan:
        return Plan(self, (number,), 0)


def questions(assumption: Assumption, median: int, threshold: float, number: int) -> Iterator[Question]:
    for index in range(number):
        yield Question(assumption, Prompt(index, "long", f"question {index}", []), median, threshold)


@lru_cache(maxsize=64)
def rhythm(name: str, number: int, median: int) -> NDArray[np.float64]:
    """By position, how many uncertain tokens there are, as a multiple of the mean. (longest,)"""
    longest = LONGEST * median
    rng = np.random.default_rng([number, median])
    if name == "even":
        return np.ones(longest)
    if name == "questions differ":
        return np.full(longest, math.exp(rng.normal() - 0.5))
    if name == "two phases":
        early = round(PHASES[0][0] * median)
        return np.concatenate([np.full(early, PHASES[0][1]), np.full(longest - early, PHASES[1][1])])
    assert name == "bursts", name
    tense = rng.random() < BURSTS[1][0] / (BURSTS[0][0] + BURSTS[1][0])
    stretches: list[NDArray[np.float64]] = []
    while sum(map(len, stretches)) < longest:
        mean, multiple = BURSTS[tense]
        stretches.append(np.full(rng.geometric(1 / mean), multiple))
        tense = not tense
    return np.concatenate(stretches)[:longest]


class Plan:
    """How a sequence goes on from position ``start``, unless an uncertain token turns out other than most likely.

    ``history`` says which plan it is: what such tokens were, and where.
    """

    def __init__(self, question: Question, history: tuple[int, ...], start: int) -> None:
        self._question, self._history = question, history
        self.length = question.assumption.length(question.median, float(self._draws(0, 1)[0]), start)
        """Tokens of the answer, its EOS counted."""
        self._places: list[int] = []
        self._levels: list[int] = []
        self._drawn = 0
        self._hazard = float(question.hazards[min(start, len(question.hazards) - 1)])

    def next(self, at: int) -> tuple[int, int] | None:
        """The first uncertain token from position ``at`` on: its position, and which of `LEVELS` its entropy has."""
        end = self.length - 1
        while not self._places or self._places[-1] < min(at, end):
            self._extend()
        place = bisect.bisect_left(self._places, at)
        if place == len(self._places) or self._places[place] >= end:
            return None
        return self._places[place], self._levels[place]

    def turn(self, at: int, token: int) -> Plan:
        """The plan of a sequence that took ``token`` at the uncertain position ``at``."""
        return self if token == FIRST else Plan(self._question, (*self._history, at, token), at + 1)

    def _extend(self, number: int = 8) -> None:
        """Further uncertain tokens. A position is one with the chance 1 − exp(−its hazard), independently of the
        others: it is where a Poisson process in the hazard's time has one point or more."""
        hazards, survival, lowest = self._question.hazards, self._question.assumption.survival, self._question.lowest
        u = self._draws(1 + self._drawn, 2 * number)
        self._drawn += 2 * number
        times = self._hazard + np.cumsum(-np.log1p(-u[:number]))
        self._hazard = float(times[-1])
        wanted = (1 - u[number:]) * (survival[lowest] if lowest < len(LEVELS) else 0.0)
        levels = np.maximum(len(LEVELS) - 1 - np.searchsorted(survival[::-1], wanted), lowest)
        for place, level in zip(np.searchsorted(hazards, times) - 1, levels, strict=True):
            if not self._places or place > self._places[-1]:
                self._places.append(int(place))
                self._levels.append(int(level))

    def _draws(self, first: int, number: int) -> NDArray[np.float64]:
        return draws(self._question.prompt, (-2, *self._history), first, number)
