"""Means over documents, their error bars, and McNemar's test (SPEC 8). `paired` compares two runs with them.

A document is the unit of everything here. A document that has no value (NaN) is left out and never counted as 0.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, ndtri, stdtrit  # scipy.stats takes longer to import than all of this to compute

__all__ = [
    "half_width",
    "interval",
    "known",
    "mcnemar_mid_p",
    "mean",
    "percentile_interval",
    "resampled_means",
    "sampling_error",
    "sampling_interval",
    "standard_error",
    "total",
    "wilson",
]

RESAMPLES = 10_000
SEED = 20251011
"""All bootstraps here draw the same resamples, so a run scored twice has the same intervals."""

_ANSWERS_PER_DOCUMENT = 1.5
"""Documents whose values hardly differ tell less than they seem to: the next one may be the first to fail."""

_FEWEST_SPREAD = 5
"""Documents, by (Σ|v|)² / Σv², that an error over draws must come from."""

_CELLS_AT_ONCE = 2_000_000
"""Resampled values held in memory at once."""


def known(values: Sequence[float]) -> list[float]:
    """The values that are not NaN, in their order."""
    return [value for value in values if not math.isnan(value)]


def mean(values: Sequence[float]) -> float:
    """Mean of the known values, whatever their order; NaN if there are none."""
    scored = known(values)
    return math.fsum(scored) / len(scored) if scored else math.nan


def total(values: Sequence[float]) -> float:
    """Sum of the known values; NaN if there are none."""
    scored = known(values)
    return math.fsum(scored) if scored else math.nan


def standard_error(values: Sequence[float], clusters: Sequence[Hashable] | None = None) -> float:
    """Of the mean of the D known values, as a sample of documents: sd(ddof=1) / √D; NaN for fewer than two.

    With ``clusters``, one a value, the documents of a cluster (several questions on one text) count as one draw: the
    root of Σ over clusters of (Σ of its deviations)², over D, times √(G / (G − 1)) for G clusters (Liang and Zeger
    1986; Miller, arXiv 2411.00640). Where each document is a cluster of its own, that is the same.
    """
    scored = known(values)
    groups = _clusters(values, clusters)
    if len(groups) < 2:
        return math.nan
    center = mean(scored)
    squares = math.fsum(math.fsum(value - center for value in group) ** 2 for group in groups)
    if len(groups) == len(scored):
        return math.sqrt(squares / (len(scored) - 1) / len(scored))
    return math.sqrt(squares * len(groups) / (len(groups) - 1)) / len(scored)


def interval(
    values: Sequence[float], level: float = 0.95, clusters: Sequence[Hashable] | None = None
) -> tuple[float, float]:
    """Confidence interval of the mean over documents like these; NaN, NaN for fewer than two known values or clusters.

    For values within [0, 1] it is Wilson's, with the number of yes-or-no answers that would have the same standard
    error, at most `_ANSWERS_PER_DOCUMENT` a document (a cluster), and Student's quantile. It keeps its level for few
    documents and rates near 0 or 1, where the mean ± 1.96 errors and bootstraps are far too narrow
    (`study/intervals.py`). Other amounts get the mean ± the quantile times their standard error.
    """
    scored = known(values)
    groups = len(_clusters(values, clusters))
    if groups < 2:
        return math.nan, math.nan
    error, center = standard_error(values, clusters), mean(scored)
    quantile = float(stdtrit(groups - 1, (1 + level) / 2))
    if not all(0 <= value <= 1 for value in scored):
        return center - quantile * error, center + quantile * error
    return wilson(center, error, quantile, most=_ANSWERS_PER_DOCUMENT * groups)


def sampling_interval(values: Sequence[float], variances: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Confidence interval of what the same documents give on average, from their ``variances`` over draws.

    Wilson's, as `interval`, with the normal quantile. Where `sampling_error` is not known it is the interval over
    documents, of whose width draws are a part: a bound. NaN, NaN without known values.
    """
    error = sampling_error([spread for value, spread in zip(values, variances, strict=True) if not math.isnan(value)])
    if math.isnan(error):
        return interval(values, level)
    return wilson(mean(values), error, float(ndtri((1 + level) / 2)), most=math.inf)


def half_width(bound: float, variances: Iterable[float], level: float = 0.95) -> tuple[float, bool]:
    """Half of the normal interval of the mean of these documents alone, and whether it is only a bound.

    From the documents' ``variances`` over draws; where they do not tell from ``bound``, the error over documents, of
    which draws are a part. NaN where that is 0 or not known either.
    """
    error = sampling_error(list(variances))
    is_bound = math.isnan(error)
    return float(ndtri((1 + level) / 2)) * ((bound or math.nan) if is_bound else error), is_bound


def sampling_error(variances: Sequence[float]) -> float:
    """Of the mean over D documents with these variances, the documents as they are: √Σ / D.

    NaN where one is unknown, and where nearly all of it comes from fewer than `_FEWEST_SPREAD` documents: so few do not
    tell what those add that happened to come out alike.
    """
    squares = math.fsum(variance * variance for variance in variances)
    if math.isnan(squares) or not squares:
        return math.nan
    if math.fsum(map(abs, variances)) ** 2 / squares < _FEWEST_SPREAD:
        return math.nan
    return math.sqrt(max(0.0, math.fsum(variances))) / len(variances)


def wilson(rate: float, error: float, quantile: float, most: float) -> tuple[float, float]:
    """Wilson's score interval of a rate in [0, 1]: that of as many yes-or-no answers as have the standard ``error``.

    ``most`` are the most answers that the data may stand for: the number where the error is 0 or not to be believed.
    """
    answers = min(most, rate * (1 - rate) / error**2) if error > 0 and 0 < rate < 1 else most
    square = quantile**2 / answers
    center = (rate + square / 2) / (1 + square)
    half = math.sqrt(square * (rate * (1 - rate) + square / 4)) / (1 + square)
    return max(0.0, center - half), min(1.0, center + half)


def _clusters(values: Sequence[float], clusters: Sequence[Hashable] | None) -> list[list[float]]:
    """The known values, those of one cluster together."""
    if clusters is None:
        return [[value] for value in known(values)]
    groups: dict[Hashable, list[float]] = {}
    for value, cluster in zip(values, clusters, strict=True):
        if not math.isnan(value):
            groups.setdefault(cluster, []).append(value)
    return list(groups.values())


def percentile_interval(resampled: NDArray[np.float64], level: float) -> tuple[float, float]:
    """The quantiles between which the share ``level`` of the resampled values lies."""
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def mcnemar_mid_p(only_first: int, only_second: int) -> float:
    """Two-sided McNemar mid-p value for paired 0/1 outcomes, from the counts of the discordant documents.

    Fagerland, Lydersen, Laake, BMC Medical Research Methodology 13:91 (2013): twice the binomial tail, less the
    probability of the observed split; 1 when the split is even.
    """
    n, fewer = only_first + only_second, min(only_first, only_second)
    if only_first == only_second:
        return 1.0
    return float(bdtr(fewer, n, 0.5) + (bdtr(fewer - 1, n, 0.5) if fewer else 0.0))


def resampled_means(values: NDArray[np.float64], seed: int = SEED) -> NDArray[np.float64]:
    """Means of RESAMPLES draws of as many values as there are, with replacement. # (RESAMPLES,)"""
    generator = np.random.default_rng(seed)
    at_once = max(1, _CELLS_AT_ONCE // len(values))
    means = []
    for start in range(0, RESAMPLES, at_once):
        rows = min(at_once, RESAMPLES - start)
        means.append(values[generator.integers(0, len(values), size=(rows, len(values)))].mean(axis=1))
    return np.concatenate(means)
