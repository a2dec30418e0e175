"""The gate: what may get worse by how much, and what the documents can say about it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from eager_lmeval.commands.gate.limits import Limit
from eager_lmeval.commands.gate.pairing import Metric, TaskPair
from eager_lmeval.errors import UsageError
from eager_lmeval.scores.figures import COSTS
from eager_lmeval.scores.paired import MarginTest, Pairs, detectable, holm, least_p, margin_test

__all__ = ["Check", "Finding", "Verdict", "decide", "overall"]


class Verdict(Enum):
    """What a gate says; the value is the exit status. Two runs without a history never show an improvement."""

    PASS = 0
    REGRESSION = 1
    INCONCLUSIVE = 3
    IMPROVEMENT = 4


class Finding(NamedTuple):
    """One thing that was found, and what it means for the verdict."""

    verdict: Verdict
    message: str
    warns: bool = False
    """Whether it only warns, and decides no verdict."""

    @property
    def name(self) -> str:
        return f"WARNING: {self.verdict.name}" if self.warns and self.verdict is not Verdict.PASS else self.verdict.name


@dataclass(frozen=True)
class Check:
    """One limit on one task."""

    task: str
    limit: Limit
    documents: int
    baseline: float
    """Mean of the baseline over the documents."""
    moved: float
    """Mean of the candidate less that of the baseline."""
    p_beyond: float
    """Of "it got worse by at most the limit"; corrected by Holm over all checks."""
    p_within: float
    """Of "it got worse by at least the limit"."""
    verdict: Verdict
    detectable: float
    """The smallest true worsening that these documents would show to be beyond the limit, at the stated power:
    absolute, or a share of the baseline where the limit is relative; NaN where they show no spread to tell it from."""
    documents_needed: int | None
    """How many documents would do to pass if nothing had changed, at the stated power; None: no number would."""
    doubtful: int = 0
    """Documents whose answers without a verdict move this one, so that it is inconclusive."""

    @property
    def observed(self) -> float:
        """Mean worsening: absolute, or a share of the baseline where the limit is relative; NaN for a share of 0."""
        worsening = self.moved if self.limit.direction == "increase" else -self.moved
        return (_share(worsening, self.baseline) if self.limit.relative else worsening) + 0.0

    @property
    def finding(self) -> Finding:
        return Finding(self.verdict, self.message)

    @property
    def message(self) -> str:
        return f"{self.task}: {self.limit}; it moved by {self._movement} on {self._counted}: {self._reason}"

    @property
    def _counted(self) -> str:
        return "1 document" if self.documents == 1 else f"{self.documents:,} documents"

    @property
    def _movement(self) -> str:
        if self.limit.relative and self.baseline:
            return f"{100 * self.moved / self.baseline + 0.0:+.4g}%"  # + 0.0 turns -0.0 into 0.0
        return f"{self.moved + 0.0:+.4g}"

    @property
    def _reason(self) -> str:
        if self.verdict is Verdict.REGRESSION:
            return f"beyond the limit (p = {self.p_beyond:.2g})"
        if self.verdict is Verdict.PASS:
            reachable = self.limit.direction == "increase" or self.baseline > self._allowed or self.baseline < 0
            beware = "" if reachable else f"; a baseline of {self.baseline:.4g} cannot drop by more than the limit"
            return f"within the limit (p = {self.p_within:.2g})" + beware
        if self.doubtful:
            what = "document hangs" if self.doubtful == 1 else "documents hang"
            return f"{self.doubtful:,} {what} on answers without a verdict, right or wrong, and so does this"
        if self.documents < 2:
            return "one document says nothing about others; compare more"
        if self._allowed == 0:
            if self.limit.amount:
                return "no percentage of a baseline of 0 allows anything; give the limit as an amount"
            return "a limit of 0 can be shown to be exceeded and never to hold; allow some worsening"
        if self.documents_needed is not None and self.documents_needed > self.documents:
            return f"too few to say; if nothing changed, about {self.documents_needed:,} documents would do"
        caught = f"{100 * self.detectable:.3g}%" if self.limit.relative else f"{self.detectable:.3g}"
        return "neither is shown: the change is too near to the limit" + (
            "" if math.isnan(self.detectable) else f" (a worsening of {caught} would be caught)"
        )

    @property
    def _allowed(self) -> float:
        """The limit as an amount of the metric."""
        return self.limit.amount * (self.baseline if self.limit.relative else 1.0)


def decide(
    tasks: Sequence[TaskPair],
    limits: Iterable[Limit],
    confidence: float,
    power: float,
    beside: Sequence[tuple[float, float]] = (),
) -> list[Check]:
    """Every limit on every task that has its metric; ``beside`` are p-values and weights of other tests of the verdict.

    A regression is what was shown to be beyond its limit, with Holm's correction over all tests, so that the chance
    of any false alarm is at most 1 - confidence. A pass needs every check to be shown within its limit, each at that
    confidence: requiring all of them needs no correction (an intersection-union test). Either has to hold however the
    answers without a verdict would have been graded (`Metric.bounds`).
    """
    alpha = 1 - confidence
    found = [(task, metric, limit) for limit in limits for task, metric in _with_metric(tasks, limit)]
    for _, metric, limit in found:
        _require_sense(metric, limit)
    tests, corrected, verdicts = _verdicts([(metric.pairs, limit) for _, metric, limit in found], alpha, beside)
    least = min((len(metric.bounds) for _, metric, _ in found if metric.bounds), default=0)
    bounds = [
        _verdicts([((metric.bounds or [metric.pairs] * 2)[at], limit) for _, metric, limit in found], alpha, beside)[2]
        for at in range(least)
    ]
    checks = []
    for place, ((task, metric, limit), test, p_beyond) in enumerate(zip(found, tests, corrected, strict=True)):
        baseline = float(metric.pairs.baseline.mean())
        scale = baseline if limit.relative else 1.0
        size = detectable(test.standard_error, alpha / (len(found) + len(beside)), power)
        moved = any(bound[place] is not verdicts[place] for bound in bounds)
        checks.append(
            Check(
                task=task.task,
                limit=limit,
                documents=metric.pairs.documents,
                baseline=baseline,
                moved=float((metric.pairs.candidate - metric.pairs.baseline).mean()),
                p_beyond=p_beyond,
                p_within=test.p_within,
                verdict=Verdict.INCONCLUSIVE if moved else verdicts[place],
                detectable=limit.amount + _share(size, scale),
                documents_needed=_needed(test, limit.amount * scale, metric.pairs.documents, alpha, power),
                doubtful=metric.doubtful if moved else 0,
            )
        )
    return checks


def overall(verdicts: Iterable[Verdict]) -> Verdict:
    """A regression anywhere is one, then an improvement; a pass needs all."""
    found = set(verdicts)
    order = (Verdict.REGRESSION, Verdict.IMPROVEMENT, Verdict.INCONCLUSIVE)
    return next((verdict for verdict in order if verdict in found), Verdict.PASS)


def _with_metric(tasks: Sequence[TaskPair], limit: Limit) -> list[tuple[TaskPair, Metric]]:
    found = [
        (task, metric)
        for task in tasks
        for metric in task.metrics
        if metric.name == limit.metric and limit.task in (None, task.task)
    ]
    if not found:
        from eager_lmeval.errors import near_name

        names = list(dict.fromkeys(metric.name for task in tasks for metric in task.metrics))
        near = near_name(limit.metric, names)
        hint = f"did you mean {near!r}? " if near else ""
        which = "no compared task has" if limit.task is None else f"task {limit.task} does not have"
        raise UsageError(f"{which} the metric {limit.metric!r}; {hint}there are {', '.join(names)}")
    return found


def _require_sense(metric: Metric, limit: Limit) -> None:
    """UsageError for a limit that nothing could exceed, or that forbids what its task calls better."""
    bounded = metric.pairs.bounded and metric.name.partition(",")[0] not in COSTS
    if metric.higher_is_better is (limit.direction == "increase"):
        better, other = ("higher", "drop") if metric.higher_is_better else ("lower", "increase")
        raise UsageError(f"{limit.typed}: {better} is better for {metric.name}; did you mean --max-{other}?")
    if not limit.relative and bounded and limit.amount >= 1:
        points = limit.amount / 100
        hint = f"did you mean {limit.metric}={points:g} or {limit.metric}={limit.amount:g}%?"
        raise UsageError(
            f"{limit.typed} could never be exceeded: the values of {metric.name} lie between 0 and 1; "
            + (hint if points < 1 else "give an amount below 1")
        )
    if limit.relative and limit.direction == "drop" and limit.amount >= 1 and not metric.pairs.negative:
        raise UsageError(f"{limit.typed} could never be exceeded: nothing drops by more than 100%; give less")
    if limit.relative and metric.pairs.baseline.mean() < 0:
        raise UsageError(
            f"{limit.typed}: the baseline's mean is negative, and a percentage of it is no limit; give an amount"
        )


def _verdicts(
    found: Sequence[tuple[Pairs, Limit]], alpha: float, beside: Sequence[tuple[float, float]]
) -> tuple[list[MarginTest], list[float], list[Verdict]]:
    """Each limit's test, its p-value of "at most the limit" corrected by Holm, and what they say."""
    tests = [_test(pairs, limit) for pairs, limit in found]
    each = [*((test.p_beyond, 1.0) for test in tests), *beside]
    corrected = holm([p_value for p_value, _ in each], [weight for _, weight in each])[: len(tests)]
    verdicts = [
        Verdict.REGRESSION if p_beyond <= alpha else Verdict.PASS if test.p_within <= alpha else Verdict.INCONCLUSIVE
        for test, p_beyond in zip(tests, corrected, strict=True)
    ]
    return tests, corrected, verdicts


def _test(pairs: Pairs, limit: Limit) -> MarginTest:
    """A relative limit r is tested as a mean of candidate - (1 + r) * baseline, so its own noise is counted."""
    sign = 1.0 if limit.direction == "increase" else -1.0
    factor = 1 + sign * limit.amount if limit.relative else 1.0
    worsening = sign * (pairs.candidate - factor * pairs.baseline)
    margin = 0.0 if limit.relative else limit.amount
    return margin_test(worsening, margin, pairs.binary and not limit.relative and margin < 1, pairs.bounded)


def _share(value: float, whole: float) -> float:
    return value / whole if whole else math.nan


def _needed(test: MarginTest, distance: float, documents: int, alpha: float, power: float) -> int | None:
    """Documents at which an unchanged metric is shown to be ``distance`` away from its limit."""
    if distance <= 0 or math.isnan(test.standard_error):
        return None
    by_spread: float = documents * (detectable(test.standard_error, alpha, power) / distance) ** 2
    fewest = next(number for number in itertools.count(2) if least_p(number) <= alpha)
    return fewest if math.isnan(by_spread) else max(fewest, math.ceil(by_spread))
