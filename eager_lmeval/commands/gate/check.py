"""Is the newest run of a history as good as its baseline, and has the configuration drifted?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from eager_lmeval.commands.gate.comparison import Comparison
from eager_lmeval.commands.gate.history import Entry, History
from eager_lmeval.commands.gate.limits import Asked
from eager_lmeval.commands.gate.pairing import Metric, TaskPair, pair_runs
from eager_lmeval.commands.gate.policy import Policy
from eager_lmeval.commands.gate.repeats import repeats
from eager_lmeval.commands.gate.trend import Trend, shown_drifts, shown_steps, trends, unlike, watched
from eager_lmeval.commands.gate.verdict import Check, Finding, Verdict, decide, overall
from eager_lmeval.errors import UsageError
from eager_lmeval.runs.documents import Columns, Key
from eager_lmeval.runs.run import Run
from eager_lmeval.scores.paired import holm, margin_test, pooled_test
from eager_lmeval.scores.stats import mean

__all__ = ["Change", "Flip", "Judgement", "judge", "look"]

ALL_TASKS = "all tasks"


@dataclass(frozen=True)
class Change:
    """One metric of a task, or of all tasks at once, tested for any change."""

    task: str
    metric: str
    documents: int
    moved: float
    """Candidate less baseline; of all tasks a share of the baseline where the metric is no share itself."""
    relative: bool
    better: bool | None
    """Whether the movement is for the better; None for none."""
    p_value: float
    """Two-sided; in a verdict corrected by Holm over all of its tests."""
    alpha: float

    @property
    def finding(self) -> Finding:
        moved = f"{100 * self.moved:+.3g}%" if self.relative else f"{self.moved:+.4g}"
        said = f"{self.task}: {self.metric} moved by {moved} on {self.documents:,} documents (p = {self.p_value:.2g})"
        if self.p_value > self.alpha or self.better is None:
            return Finding(Verdict.PASS, f"{said}: no change is shown")
        if self.better:
            return Finding(Verdict.IMPROVEMENT, f"{said}: better than chance explains, as by a broken extractor too")
        return Finding(Verdict.REGRESSION, f"{said}: worse than chance explains")


class Flip(NamedTuple):
    """A document whose 0/1 score changed."""

    task: str
    metric: str
    doc_id: int
    doc_hash: str
    fixed: bool


@dataclass(frozen=True)
class Judgement:
    """All that a check found."""

    history: History
    baseline: list[Entry]
    candidate: list[Entry]
    """The newest run, and those of its commit."""
    comparison: Comparison
    changes: list[Change]
    drifts: list[Finding]
    steps: list[Trend]
    """Whose step a permutation test finds, corrected over tasks and metrics."""
    repeats: list[str]
    flips: list[Flip] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    """Tasks of the policy that the candidate or the baseline lacks."""
    policy: Policy | None = None

    @property
    def findings(self) -> list[Finding]:
        found = [(check.task, check.finding) for check in self.comparison.checks]
        absent = "is missing in the candidate or the baseline, which is a failure"
        found += [(task, Finding(Verdict.REGRESSION, f"{task} {absent}")) for task in self.missing]
        found += [(change.task, change.finding) for change in self.changes]
        warned = self.policy.may_warn if self.policy else ()
        return [*(finding._replace(warns=task in warned) for task, finding in found), *self.drifts]

    @property
    def verdict(self) -> Verdict:
        return overall(finding.verdict for finding in self.findings if not finding.warns)

    @property
    def summary(self) -> str:
        return {
            Verdict.PASS: "PASS: every limit was shown to hold, and no change is shown"
            if self.comparison.checks
            else "PASS: no change is shown",
            Verdict.REGRESSION: "REGRESSION: worse than the baseline",
            Verdict.INCONCLUSIVE: "INCONCLUSIVE: the documents cannot say",
            Verdict.IMPROVEMENT: "IMPROVEMENT: better than the baseline; look at the fixed documents, then bless the "
            "run or put it into quarantine",
        }[self.verdict] + f" (confidence {self.comparison.asked.confidence:g})."


def judge(
    history: History,
    asked: Asked,
    *,
    metrics: Sequence[str] = (),
    repeat: int = 0,
    run: str | None = None,
    policy: Policy | None = None,
) -> Judgement:
    """Judges the newest counted run, or ``run``, as of its date. UsageError where it cannot be compared.

    A ``policy`` names the tasks, the limits and the metric; `look` is asked of each of its tiers.
    """
    candidates, baselines = _sides(history, run)
    newest, blessed = candidates[-1], baselines[-1]
    missing: list[str] = []
    if policy:
        named = [*policy.must_hold, *policy.may_warn]
        missing = [task for task in named if task not in newest.tasks or task not in blessed.tasks]
        there = [task for task in named if task not in missing]
        if not there:
            raise UsageError(f"the policy's tasks are {', '.join(named)}; the runs have {', '.join(newest.tasks)}")
        asked, metrics = asked._replace(tasks=there), [policy.metric]
    runs = (blessed.to_run(), newest.to_run())

    def read(made: Run, task: str) -> Columns:
        return _mean(baselines if made is runs[0] else candidates, task)

    pairs, notes = pair_runs(*runs, asked.tasks, asked.allow_different, read)
    chosen = watched(pairs, metrics)
    alpha = 1 - asked.confidence
    if policy is None:
        checks, changes = look(pairs, chosen, asked, _over_tasks(chosen))
    else:
        checks, changes = [], []
        for tier in (policy.must_hold, policy.may_warn):
            of_tier = [(pair, metric) for pair, metric in chosen if pair.task in tier]
            weights = [tier[pair.task].weight for pair, _ in of_tier]
            suite = [[metric for _, metric in of_tier]] if tier is policy.must_hold and len(of_tier) > 1 else []
            limits = [limit for limit in policy.limits(tier) if limit.task not in missing]
            found_checks, found_changes = look(pairs, of_tier, asked._replace(limits=limits), suite, weights)
            checks += found_checks
            changes += found_changes
    found = trends(history, blessed, chosen, until=newest)
    return Judgement(
        history,
        baselines,
        candidates,
        Comparison(*runs, asked, pairs, checks, notes),
        changes,
        shown_drifts(found, alpha),
        shown_steps(found, alpha),
        repeats(checks, pairs, baselines, candidates, repeat, asked) if repeat else [],
        _flips([(pair, read(runs[0], pair.task), read(runs[1], pair.task)) for pair in pairs]),
        missing,
        policy,
    )


def look(
    pairs: Sequence[TaskPair],
    chosen: Sequence[tuple[TaskPair, Metric]],
    asked: Asked,
    over: Sequence[Sequence[Metric]],
    weights: Sequence[float] | None = None,
) -> tuple[list[Check], list[Change]]:
    """One look: the limits that are asked for, and tests of any change in the ``chosen`` metrics and ``over`` tasks.

    All of them together raise a false alarm with a chance of 1 - confidence at most (Holm). With ``weights``, those of
    the tasks in the mean over them, that one mean has half of the error rate: what is worse everywhere shows there
    first.
    """
    alpha = 1 - asked.confidence
    tests = [_test(pair.task, [metric], alpha) for pair, metric in chosen]
    shares = [1.0] * len(tests) + [float(len(tests)) if weights else 1.0] * len(over)
    tests += [_test(ALL_TASKS, found, alpha, weights) for found in over]
    beside = [(test.p_value, share) for test, share in zip(tests, shares, strict=True)]
    checks = decide(pairs, asked.limits, asked.confidence, asked.power, beside) if asked.limits else []
    beyond = [check.p_beyond for check in checks]  # corrected already, which only makes the others' correction larger
    corrected = holm([*(test.p_value for test in tests), *beyond], [*shares, *(1.0 for _ in beyond)])
    limited = {(limit.metric, limit.task) for limit in asked.limits}
    changes = []
    for test, p_value in zip(tests, corrected, strict=False):
        worse_is_limited = {(test.metric, None), (test.metric, test.task)} & limited and test.better is not True
        if not worse_is_limited:  # what may get worse by how much is then the limit's to say
            changes.append(replace(test, p_value=p_value))
    return checks, changes


def _sides(history: History, run: str | None) -> tuple[list[Entry], list[Entry]]:
    """The candidate with the runs of its commit before it, of equal seeds the newest, and the baseline's runs."""
    if not history.blessed:
        raise UsageError(
            f"{history.path} has no baseline; choose one on purpose: eager-lmeval track bless RUN --history "
            f"{history.path}"
        )
    baselines = [entry for entry in history.counted if entry.run in history.blessed]
    if run is not None:
        newest = history.find(run)
        if newest.run in history.quarantined:
            raise UsageError(f"run {newest.run} is in quarantine: {history.quarantined[newest.run]}")
    else:
        newest = history.counted[-1]
    if newest.run in history.blessed:
        raise UsageError(f"run {newest.run} is the baseline itself; add a newer run, or name another one with --run")
    same = {
        entry.run if entry.seed is None else entry.seed: entry
        for entry in history.counted
        if entry.commit
        and entry.commit == newest.commit
        and entry.to_run().model == newest.to_run().model
        and entry.date <= newest.date
        and entry.run not in {*history.blessed, newest.run}
        and (entry.seed is None or entry.seed != newest.seed)
        and not any(unlike(newest, entry, task) for task in newest.tasks)
    }
    return [*same.values(), newest], baselines


def _mean(entries: Sequence[Entry], task: str) -> Columns:
    """Each document's mean over the runs that have a value, its doubts too; one run's values as they are."""
    found = [entry.tasks[task].to_columns() for entry in entries if task in entry.tasks]
    last = found[-1]
    if len(found) == 1:
        return last
    keys = [key for key in last.ids if all(key in documents.ids for documents in found)]
    names = [name for name in last.values if all(name in documents.values for documents in found)]
    values = {name: {key: mean([documents.values[name][key] for documents in found]) for key in keys} for name in names}
    doubts: dict[str, dict[Key, tuple[float, float]]] = {}
    for name in {name for documents in found for name in documents.doubts if name in values}:
        doubtful = [key for key in keys if any(key in documents.doubts.get(name, {}) for documents in found)]
        doubts[name] = {key: _mean_doubt([_doubt(documents, name, key) for documents in found]) for key in doubtful}
    return last._replace(values=values, ids={key: last.ids[key] for key in keys}, spreads={}, doubts=doubts)


def _doubt(documents: Columns, name: str, key: Key) -> tuple[float, float]:
    """What a score is at worst and at best; twice itself where nothing is in doubt."""
    value = documents.values[name].get(key, math.nan)
    return documents.doubts.get(name, {}).get(key, (value, value))


def _mean_doubt(found: Sequence[tuple[float, float]]) -> tuple[float, float]:
    worst, best = (mean(side) for side in zip(*found, strict=True))
    return worst, best


def _over_tasks(watched: Sequence[tuple[TaskPair, Metric]]) -> list[list[Metric]]:
    """Metrics that several tasks have."""
    by_name: dict[str, list[Metric]] = {}
    for _, metric in watched:
        by_name.setdefault(metric.name, []).append(metric)
    return [found for found in by_name.values() if len(found) > 1]


def _test(task: str, found: Sequence[Metric], alpha: float, weights: Sequence[float] | None = None) -> Change:
    """Two-sided: twice the smaller one-sided p-value of the gate's own test.

    Where answers without a verdict might change that, the largest p-value of all ways to grade them (`Metric.bounds`),
    which is 1 where they lead to both sides.
    """
    change = _tested(task, found, alpha, weights)
    if not any(metric.bounds for metric in found):
        return change
    graded = [[replace(one, pairs=(one.bounds or (one.pairs,) * 2)[at]) for one in found] for at in (0, 1)]
    ways = [_tested(task, metrics, alpha, weights) for metrics in graded]
    same = all(way.better is change.better for way in ways)
    return replace(change, p_value=max(way.p_value for way in (change, *ways)) if same else 1.0)


def _tested(task: str, found: Sequence[Metric], alpha: float, weights: Sequence[float] | None = None) -> Change:
    bounded = all(metric.pairs.bounded for metric in found)
    binary = all(metric.pairs.binary for metric in found)
    relative = len(found) > 1 and not bounded
    strata = []
    for metric in found:
        delta = metric.pairs.candidate - metric.pairs.baseline
        level = abs(float(metric.pairs.baseline.mean())) if relative else 1.0
        if level:
            strata.append(delta / level)
    each = weights if weights and len(weights) == len(strata) else None
    one = len(strata) == 1
    tested = margin_test(strata[0], 0.0, binary, bounded) if one else pooled_test(strata, binary, bounded, each)
    documents = sum(map(len, strata))
    parts = each or [len(stratum) for stratum in strata]
    means = [float(stratum.mean()) for stratum in strata]
    moved = math.fsum(part * mean for part, mean in zip(parts, means, strict=True)) / math.fsum(parts) if means else 0.0
    higher = found[0].higher_is_better
    better = None if not moved or higher is None else (moved > 0) is higher
    p_value = min(1.0, 2 * min(tested.p_beyond, tested.p_within))
    return Change(task, found[0].name, documents, moved, relative, better, p_value, alpha)


def _flips(found: Sequence[tuple[TaskPair, Columns, Columns]]) -> list[Flip]:
    """By a task's first score, the documents that went from mostly wrong to mostly right, and the other way."""
    flips = []
    for pair, ours, theirs in found:
        metric = next((metric for metric in pair.metrics if metric.higher_is_better and metric.pairs.bounded), None)
        if metric is None:
            continue
        for key, doc_id in ours.ids.items():
            before = ours.values[metric.name].get(key, math.nan)
            after = theirs.values[metric.name].get(key, math.nan)
            if (before < 0.5) != (after < 0.5) and not math.isnan(before + after):
                flips.append(Flip(pair.task, metric.name, doc_id, str(key), after > before))
    return flips
