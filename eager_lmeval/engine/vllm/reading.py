"""Readouts from the log-probabilities that vLLM reports: each token's own and the K largest, raw."""

from __future__ import annotations

import math
from collections.abc import Sequence as Seq
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from eager_lmeval.algorithm.readout import Readout
from eager_lmeval.engine.sampling import Sampling

__all__ = ["Reported", "number_of_logprobs", "read_reported"]

ROUNDING = 1e-5
"""What a probability may be off by, relatively, as it is computed here from float32 log-probabilities."""


class Reported(NamedTuple):
    """What vLLM says of one token: ids and raw log-probabilities, the token's own first, then the largest."""

    ids: Seq[int]
    logprobs: Seq[float]


def number_of_logprobs(sampling: Sampling, vocabulary: int) -> int:
    """How many of the largest log-probabilities a readout is made from; a third says whether two are the largest."""
    return min(max(3, sampling.entropy_top_k), vocabulary)


def read_reported(reported: Seq[Reported], sampling: Sampling, vocabulary: int) -> list[Readout]:
    """One readout a token.

    ``shares_unsure`` says that the log-probabilities do not tell whether the second most likely token passes the cuts,
    ``p_first`` and ``p_second`` then being those of one that does. They are shares: the two sum to 1.
    """
    ids = np.array([of_token.ids for of_token in reported])  # (tokens, 1 + K)
    logprobs = np.array([of_token.logprobs for of_token in reported], dtype=np.float64)  # (tokens, 1 + K)
    order = np.lexsort((ids[:, 1:], -logprobs[:, 1:]))  # of equal ones the smaller id first (SPEC 2)
    likely = np.take_along_axis(ids[:, 1:], order, axis=1)
    largest = np.take_along_axis(logprobs[:, 1:], order, axis=1)
    entropy = _entropy(largest, sampling)
    two = min(2, largest.shape[1]) - 1  # the place of the second, which a vocabulary of one token has not
    first, second = largest[:, 0], largest[:, two]
    divisor = sampling.temperature or 1.0
    with np.errstate(over="ignore", invalid="ignore"):
        p_first = 1 / (1 + np.exp((second - first) / divisor))
        kept, surely = _second_passes(largest, sampling, vocabulary)
    p_first = np.where(kept | ~surely, p_first, 1.0)
    token = ids[:, 0] if sampling.temperature > 0 else likely[:, 0]
    own = logprobs[:, 0] if sampling.temperature > 0 else first
    columns = (token, likely[:, 0], likely[:, two], entropy, p_first, 1 - p_first, own, first, second)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [Readout(*row)._replace(shares_unsure=not sure) for row, sure in zip(rows, surely.tolist(), strict=True)]


def _entropy(largest: NDArray[np.float64], sampling: Sampling) -> NDArray[np.float64]:
    """H in nats over the K largest alone (SPEC 2). (tokens, at least K) -> (tokens,)"""
    scores = largest[:, : sampling.entropy_top_k]
    if sampling.entropy_of == "tempered" and sampling.temperature > 0:
        scores = scores / sampling.temperature
    with np.errstate(invalid="ignore", divide="ignore"):
        p = np.exp(scores - scores[:, :1])
        p /= p.sum(axis=1, keepdims=True)
        entropy: NDArray[np.float64] = -np.where(p > 0, p * np.log(p), 0.0).sum(axis=1)
    return np.where(np.isfinite(largest[:, 0]), entropy, np.nan)


def _second_passes(
    largest: NDArray[np.float64], sampling: Sampling, vocabulary: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether the second most likely token passes top_k, top_p and min_p, and whether that is sure. (tokens,) each

    It passes top_p if the first alone is below it. How probable the first is, after the temperature and top_k, is known
    within the bounds of what the tokens that are not among the K can add up to.
    """
    kept = np.ones(len(largest), dtype=np.bool_)
    surely = np.ones(len(largest), dtype=np.bool_)
    if largest.shape[1] == 1:
        return kept, surely
    divisor = sampling.temperature or 1.0
    first, second = largest[:, 0], largest[:, 1]
    if sampling.top_k == 1:
        kept &= first == second
    if sampling.top_p is not None and sampling.top_p < 1.0:
        low, high = _first_probability(largest, divisor, sampling.top_k or vocabulary, vocabulary)
        kept &= low < sampling.top_p
        surely &= (high * (1 + ROUNDING) < sampling.top_p) | (low * (1 - ROUNDING) >= sampling.top_p)
    if sampling.min_p:
        distance = (first - second) / divisor + math.log(sampling.min_p)
        kept &= distance <= 0
        surely &= np.abs(distance) > ROUNDING
    return kept, surely


def _first_probability(
    largest: NDArray[np.float64], divisor: float, top_k: int, vocabulary: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Bounds of the most likely token's probability after temperature and top_k, from the K largest. (tokens,) each

    With mass m left for the n tokens below them, each of at most p_K, Σ p^(1/T) lies between m·p_K^(1/T − 1) and
    n·(m/n)^(1/T): p^(1/T) is convex in p for T < 1, where the first is the larger, and concave for T > 1.
    """
    seen = largest[:, :top_k]
    known = np.exp((seen - seen[:, :1]) / divisor).sum(axis=1)
    others = vocabulary - largest.shape[1]
    if top_k <= largest.shape[1] or not others:
        return 1 / known, 1 / known
    mass = np.maximum(1 - np.exp(largest).sum(axis=1), 0.0) + ROUNDING
    smallest = np.exp(largest[:, -1])
    ends = (
        mass * np.power(smallest, 1 / divisor - 1),
        others * np.power(mass / others, 1 / divisor),
    )
    scale = np.exp(-largest[:, 0] / divisor)
    low, high = (np.minimum(*ends) * scale, np.maximum(*ends) * scale)
    if top_k < vocabulary:
        low = np.zeros_like(low)
    return 1 / (known + high), 1 / (known + low)
