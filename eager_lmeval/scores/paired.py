"""Two runs on the same documents: differences, their uncertainty, and tests against a margin (SPEC 8)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri, stdtr

from eager_lmeval.scores.stats import half_width, mcnemar_mid_p, percentile_interval, resampled_means

__all__ = [
    "Difference",
    "MarginTest",
    "Pairs",
    "detectable",
    "difference",
    "holm",
    "least_p",
    "margin_test",
    "pooled_test",
    "spread_allowed",
]

Values = NDArray[np.float64]


class Difference(NamedTuple):
    """Candidate minus baseline over the shared documents."""

    documents: int
    baseline: float
    candidate: float
    difference: float
    low: float
    high: float
    """NaN, as is ``low``, where there are too few documents for an interval of that confidence (`least_p`)."""
    p_value: float
    """Two-sided, of no difference: McNemar's mid-p for 0/1 outcomes, a paired bootstrap for the rest."""
    detectable: float
    """The smallest true difference that a two-sided test on so many documents finds with the stated power; NaN where
    the documents show no spread to tell it from."""
    sampling: float
    """Half of the interval of these documents alone, were both runs made again."""
    sampling_is_bound: bool
    """Whether that is half of the interval over documents instead, which is wider."""


class MarginTest(NamedTuple):
    """Whether the mean worsening lies beyond a margin or within it; both one-sided."""

    p_beyond: float
    """Of the hypothesis that it is at most the margin: small means a regression."""
    p_within: float
    """Of the hypothesis that it is at least the margin: small means non-inferior."""
    standard_error: float
    """NaN for fewer than two documents."""


@dataclass(frozen=True)
class Pairs:
    """The values of the documents that both runs scored, in one order; none is NaN."""

    baseline: Values
    candidate: Values
    spreads: Values | None = None
    """Of each document the variance over draws of both values together; NaN or None where that is not known."""

    @property
    def documents(self) -> int:
        return len(self.baseline)

    @property
    def negative(self) -> bool:
        """Whether any value is below 0."""
        return bool((self.baseline < 0).any() or (self.candidate < 0).any())

    @property
    def binary(self) -> bool:
        return bool(np.isin(self.baseline, (0, 1)).all() and np.isin(self.candidate, (0, 1)).all())

    @property
    def bounded(self) -> bool:
        """Whether the metric can be taken for a share: all values lie between 0 and 1."""
        both = (self.baseline, self.candidate)
        return all(bool(((values >= 0) & (values <= 1)).all()) for values in both)


def difference(pairs: Pairs, confidence: float, power: float) -> Difference:
    """Both means, the difference with its interval and p-value, and the smallest detectable one."""
    delta = pairs.candidate - pairs.baseline
    mean = float(delta.mean())
    error = _standard_error(delta, pairs.bounded)
    if pairs.binary:
        gains, losses = int((delta > 0).sum()), int((delta < 0).sum())
        low, high = _score_interval(gains, losses, len(delta), confidence)
        p_value = mcnemar_mid_p(gains, losses)
    else:
        means, least = resampled_means(delta), 2 * least_p(len(delta))
        low, high = percentile_interval(means, confidence) if least <= 1 - confidence else (math.nan, math.nan)
        p_value = max(least, float((1 + (np.abs(means - mean) >= abs(mean) - 1e-12).sum()) / (len(means) + 1)))
    return Difference(
        len(delta),
        float(pairs.baseline.mean()),
        float(pairs.candidate.mean()),
        mean,
        low,
        high,
        p_value,
        detectable(error, (1 - confidence) / 2, power),
        *half_width(error, [] if pairs.spreads is None else pairs.spreads.tolist(), confidence),
    )


def holm(p_values: Sequence[float], weights: Sequence[float] | None = None) -> list[float]:
    """Holm's step-down correction, in the order given; with ``weights`` each test has that part of the error rate
    (Scandinavian Journal of Statistics 6:65, 1979, section 4)."""
    weights = [1.0] * len(p_values) if weights is None else weights
    corrected = [1.0] * len(p_values)
    highest, left = 0.0, math.fsum(weights)
    for place in sorted(range(len(p_values)), key=lambda place: p_values[place] / weights[place]):
        highest = max(highest, min(1.0, p_values[place] / weights[place] * left))
        corrected[place] = highest
        left -= weights[place]
    return corrected


def detectable(standard_error: float, alpha: float, power: float) -> float:
    """The true value that a one-sided test at ``alpha`` tells from 0 with probability ``power``.

    NaN for a standard error of 0 or NaN: values that do not vary at all do not say how much others would.
    """
    return float((ndtri(1 - alpha) + ndtri(power)) * standard_error) if standard_error else math.nan


def least_p(documents: int) -> float:
    """2^-D, the smallest one-sided p-value that a sign-flip test of D documents can give.

    Fisher, The Design of Experiments, section 21 (1935): without a difference each document is as likely to fall on the
    one side as on the other. No p-value of `margin_test` or of the bootstrap is smaller. The mean of values without
    bounds cannot be tested without some such assumption (Bahadur and Savage, Annals of Mathematical Statistics 27:1115,
    1956), and the t-test's own, that they are normal, turns two or three documents that hardly vary into certainty.
    """
    return 0.5**documents


def margin_test(worsening: Values, margin: float, binary: bool, bounded: bool) -> MarginTest:
    """Tests the mean of the per-document ``worsening`` against ``margin``.

    A t-test, because the bootstrap's false alarms were 6 to 10 % at a nominal 5 % on 20 to 240 documents of skewed
    values. For shares its variance gets two imagined documents of opposite sign, so that runs without a difference on
    few documents do not look certain. For 0/1 outcomes the larger p-value of it and of Tango's score test counts
    (Statistics in Medicine 17:891, 1998): each is too bold where changes are few, the one on the one side, the other
    on the other. No p-value is below `least_p`.
    """
    documents = len(worsening)
    if documents < 2:
        return MarginTest(1.0, 1.0, math.nan)
    error = _standard_error(worsening, bounded)
    excess = float(worsening.mean()) - margin
    t = excess / error if error else math.copysign(math.inf, excess) if excess else 0.0
    beyond, within = float(stdtr(documents - 1, -t)), float(stdtr(documents - 1, t))
    if binary:
        worse, better = int((worsening > 0).sum()), int((worsening < 0).sum())
        z = _score(worse, better, documents, margin)
        beyond, within = max(beyond, float(ndtr(-z))), max(within, float(ndtr(z)))
    least = least_p(documents)
    return MarginTest(max(beyond, least), max(within, least), error)


def pooled_test(
    strata: Sequence[Values], binary: bool, bounded: bool, weights: Sequence[float] | None = None
) -> MarginTest:
    """`margin_test` at a margin of 0 over several tasks, each a stratum of its own: of the mean over all documents, or
    of the tasks' means by their ``weights``.

    The variance is taken within the strata, so that tasks which differ in level or in noise do not blur one another.
    """
    given = [len(stratum) for stratum in strata] if weights is None else weights
    kept = [(stratum, weight) for stratum, weight in zip(strata, given, strict=True) if len(stratum) > 1]
    documents = sum(len(stratum) for stratum, _ in kept)
    if not documents:
        return MarginTest(1.0, 1.0, math.nan)
    whole = math.fsum(weight for _, weight in kept)
    strata, shares = [stratum for stratum, _ in kept], [weight / whole for _, weight in kept]
    mean = math.fsum(weight * float(stratum.mean()) for weight, stratum in zip(shares, strata, strict=True))
    errors = [weight * _standard_error(stratum, bounded) for weight, stratum in zip(shares, strata, strict=True)]
    error = math.hypot(*errors)
    t = mean / error if error else math.copysign(math.inf, mean) if mean else 0.0
    freedom = documents - len(strata)
    beyond, within = float(stdtr(freedom, -t)), float(stdtr(freedom, t))
    if binary and weights is None:
        joined = np.concatenate(strata)
        z = _score(int((joined > 0).sum()), int((joined < 0).sum()), documents, 0.0)
        beyond, within = max(beyond, float(ndtr(-z))), max(within, float(ndtr(z)))
    least = least_p(documents)
    return MarginTest(max(beyond, least), max(within, least), error)


def spread_allowed(delta: Values, bounded: bool, distance: float, alpha: float, power: float) -> float:
    """By which factor the squares of ``delta`` have to shrink for `margin_test` to tell an unchanged mean from
    ``distance`` with that power; 1 or more: they need not, 0 or less: no shrinking does it on so many documents.

    Averaging k runs a side shrinks the squares to a k-th where sampling is all that makes the runs differ.
    """
    documents, squares = len(delta), float((delta * delta).sum())
    if documents < 2 or least_p(documents) > alpha:
        return 0.0
    error = distance / float(ndtri(1 - alpha) + ndtri(power))
    variance = documents * error * error  # of one document
    allowed = variance * (documents + 2) - 1 if bounded else variance * (documents - 1)
    return allowed / squares if squares else math.copysign(math.inf, allowed)


def _standard_error(delta: Values, bounded: bool) -> float:
    """Of the mean; a share's variance counts two more documents, one each a full step up and down."""
    documents = len(delta)
    if documents < 2:
        return math.nan
    if not bounded:
        return float(delta.std(ddof=1) / math.sqrt(documents))
    total, squares = float(delta.sum()), float((delta * delta).sum())
    variance = (squares + 1) / (documents + 2) - (total / (documents + 2)) ** 2
    return math.sqrt(variance / documents)


def _score(worse: int, better: int, documents: int, margin: float) -> float:
    """Tango's score statistic of "the share that got worse less the share that got better is ``margin``"."""
    if margin < 0:
        return -_score(better, worse, documents, -margin)
    a = 2 * documents
    b = -(worse + better) + margin * (2 * documents - worse + better)
    c = -better * margin * (1 - margin)
    share_better = (-b + math.sqrt(max(0.0, b * b - 4 * a * c))) / (2 * a)
    variance = documents * (2 * share_better + margin - margin * margin)
    excess = worse - better - documents * margin
    return excess / math.sqrt(variance) if variance > 1e-12 else 0.0


def _score_interval(gains: int, losses: int, documents: int, confidence: float) -> tuple[float, float]:
    """All differences that the score test does not reject; its statistic falls as the difference rises."""
    limit = float(ndtri((1 + confidence) / 2))

    def crossing(level: float) -> float:
        low, high = -1.0, 1.0
        for _ in range(50):
            middle = (low + high) / 2
            low, high = (middle, high) if _score(gains, losses, documents, middle) > level else (low, middle)
        return (low + high) / 2

    return crossing(limit), crossing(-limit)
