"""Runs of one configuration over time: has it drifted, tested anew with every run, and where does a step lie.

A history is the runs' means over the same documents, # (..., runs), in the runs' order. What stands before the last
axis is many histories at once, as simulations have them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from eager_lmeval.scores.stats import SEED

__all__ = ["FEWEST", "Step", "drift", "e_process", "step"]

Values = NDArray[np.float64]

FEWEST = 4
"""Runs that a step is looked for in, at least: the orders of three are too few to tell one from chance."""
_MEMORY, _BOLDNESS, _MOST = 0.3, 2.0, 0.95
"""A bet is the places so far, averaged with this weight for the newest, times the boldness; a share of the capital,
never all of it. Any choice made before the run keeps the error rate; these found steps and slow declines soonest."""
_ORDERS, _ORDERS_OF_SIDES = 9999, 999
"""Random orders that a permutation test compares with, of whether there is a step and of where: the least p-values are
1 / 10,000, which leaves room for a correction over many metrics, and 1 / 1,000."""


class Step(NamedTuple):
    """Where a history is best cut in two, by the index of the first run after the cut."""

    at: int
    low: int
    """The step lies between runs ``low`` and ``high``, both included, at the stated confidence."""
    high: int
    before: float
    """Mean of the runs before it."""
    after: float
    p_value: float
    """Of no step: how often the same runs in a random order look as much like one."""


def drift(means: Values) -> tuple[Values, Values]:
    """E-processes against "it does not fall" and "it does not rise", after each run. # both (..., runs)

    Without a change, runs may come in any order. Then the place of each run's mean among those before it, that of its
    paired difference from any one of them, is uniform and independent of the earlier places (Renyi 1962; the conformal
    martingales of Vovk et al. rest on it): the share of earlier runs below it less the share above it lies in [-1, 1]
    and has mean 0. On it bets are made as in Waudby-Smith and Ramdas, "Estimating means of bounded random variables by
    betting" (JRSS B 86:1, 2024), each a function of the places before it (their predictable plug-in). The chance that a
    process ever reaches 1/α is then at most α, however often one looks (Ville's inequality), and 1 over its maximum is
    a p-value that holds at any time. Equal means count for neither side, so identical runs move nothing; and a single
    run, however far off it is, at most doubles a process.
    """
    places = _places(means)
    return _capital(-places), _capital(places)


def e_process(means: Values) -> Values:
    """Two-sided: the mean of both of `drift`. # (..., runs)"""
    fall, rise = drift(means)
    return (fall + rise) / 2


def _capital(places: Values) -> Values:
    """What one has after each run who began with 1 and bets that the places are high. # (..., runs)"""
    capital = np.ones(places.shape)
    lately = np.zeros(places.shape[:-1])
    for run in range(1, places.shape[-1]):
        bet = np.clip(_BOLDNESS * lately, 0, _MOST)
        capital[..., run] = capital[..., run - 1] * (1 + bet * places[..., run])
        lately = (1 - _MEMORY) * lately + _MEMORY * places[..., run]
    return capital


def _places(means: Values) -> Values:
    """The share of earlier runs below each run less the share above it; 0 for the first. # (..., runs)"""
    places = np.zeros(means.shape)
    for run in range(1, means.shape[-1]):
        places[..., run] = np.sign(means[..., run, None] - means[..., :run]).mean(axis=-1)
    return places


def step(means: Values, confidence: float = 0.95, seed: int = SEED) -> Step | None:
    """The likeliest step in the runs' means, # (runs,), and where it may lie; None for fewer than FEWEST runs.

    The cut with the largest sum of squares between its two sides (the least-squares and normal maximum-likelihood
    estimate). ``p_value`` is of a permutation test over all orders of the runs. The interval holds every cut that a
    permutation test within its two sides does not reject in favour of another one: under "the step is here" the runs
    of a side may come in any order, so the right one is rejected with probability 1 - confidence at most. One look is
    tested, not many: what may raise an alarm at any time is `drift`.
    """
    runs = len(means)
    if runs < FEWEST:
        return None
    generator = np.random.default_rng(seed)
    gains = _gains(means)
    cut = int(gains.argmax())
    shuffled = _gains(_shuffled(means, _ORDERS, generator)).max(axis=-1)
    allowed = [place for place in range(runs - 1) if _is_likely(means, gains, place, 1 - confidence, generator)] or [
        cut
    ]
    return Step(
        at=cut + 1,
        low=min(cut, *allowed) + 1,
        high=max(cut, *allowed) + 1,
        before=float(means[: cut + 1].mean()),
        after=float(means[cut + 1 :].mean()),
        p_value=_share_as_large(shuffled, float(gains.max())),
    )


def _is_likely(means: Values, gains: Values, place: int, alpha: float, generator: np.random.Generator) -> bool:
    """Whether a step after run ``place`` explains that another cut looks as good as it does."""
    excess = float(gains.max() - gains[place])
    if excess <= 0:
        return True
    sides = [_shuffled(side, _ORDERS_OF_SIDES, generator) for side in (means[: place + 1], means[place + 1 :])]
    found = _gains(np.concatenate(sides, axis=-1))
    return _share_as_large(found.max(axis=-1) - found[:, place], excess) > alpha


def _gains(means: Values) -> Values:
    """Sum of squares between the sides of each cut; cut k is after run k. # (..., runs - 1)"""
    runs = means.shape[-1]
    left = np.arange(1, runs)
    sums = np.cumsum(means, axis=-1)
    total, sums = sums[..., -1:], sums[..., :-1]
    difference = (total - sums) / (runs - left) - sums / left
    gains: Values = left * (runs - left) / runs * difference * difference
    return gains


def _shuffled(means: Values, orders: int, generator: np.random.Generator) -> Values:
    """Random orders. # (orders, runs)"""
    return generator.permuted(np.broadcast_to(means, (orders, len(means))), axis=-1)


def _share_as_large(found: Values, value: float) -> float:
    """A permutation test's p-value, the order that was seen among the orders."""
    return float((1 + (found >= value - 1e-12 * (1 + abs(value))).sum()) / (len(found) + 1))
