"""Means over documents, their error bars, and McNemar's test (SPEC 8). `paired` compares two runs with them.

A document is the unit of everything here. A document that has no value (NaN) is left out and never counted as 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr  # scipy.stats takes longer to import than all of this to compute

__all__ = [
    "bootstrap_interval",
    "known",
    "mcnemar_mid_p",
    "mean",
    "percentile_interval",
    "resampled_means",
    "standard_error",
    "total",
]

RESAMPLES = 10_000
SEED = 20251011
"""All bootstraps here draw the same resamples, so a run scored twice has the same intervals."""

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


def standard_error(values: Sequence[float]) -> float:
    """sd(ddof=1) / √D of the D known values; NaN for fewer than two."""
    scored = known(values)
    if len(scored) < 2:
        return math.nan
    center = mean(scored)
    return math.sqrt(math.fsum((value - center) ** 2 for value in scored) / (len(scored) - 1) / len(scored))


def bootstrap_interval(values: Sequence[float], level: float = 0.95, seed: int = SEED) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean over whole documents; NaN, NaN for fewer than two known values.

    The values' order does not matter. With few documents percentile intervals are too narrow: by a factor of about
    √((D − 1) / D), and for a rate near 0 or 1 by more; where no document differs from another, they have no width.
    """
    scored = np.sort(np.array(known(values)))
    if len(scored) < 2:
        return math.nan, math.nan
    return percentile_interval(resampled_means(scored, seed), level)


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
