"""Is the newest run of a history as good as its baseline, and has the configuration drifted?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from eager_lmeval.commands.compare.limits import Limit
from eager_lmeval.commands.compare.output import Comparison, rows
from eager_lmeval.commands.compare.pairing import Documents, Key, Metric, TaskPair, compare_settings, pair_runs
from eager_lmeval.commands.compare.verdict import Check, Verdict, decide, holm
from eager_lmeval.commands.runs import Run
from eager_lmeval.commands.track.history import Entry, History
from eager_lmeval.errors import UsageError, near_name
from eager_lmeval.scores.history import Step, drift, step
from eager_lmeval.scores.paired import margin_test, pooled_test, spread_allowed

__all__ = [
    "ALPHA",
    "Change",
    "Flip",
    "Judgement",
    "Line",
    "Outcome",
    "Trend",
    "judge",
    "name_of",
    "shown_drifts",
    "shown_steps",
    "trends",
    "unlike",
    "watched",
]

ALL_TASKS = "all tasks"
ALPHA = 0.05
"""Of what the page says by itself."""


class Outcome(Enum):
    """What `track check` says; the value is the exit status."""

    PASS = 0
    REGRESSION = 1
    INCONCLUSIVE = 3
    IMPROVEMENT = 4


class Line(NamedTuple):
    """One finding, and what it means for the verdict."""

    outcome: Outcome
    message: str


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
    """Two-sided, corrected by Holm over all tests of the verdict."""
    alpha: float

    @property
    def line(self) -> Line:
        moved = f"{100 * self.moved:+.3g}%" if self.relative else f"{self.moved:+.4g}"
        said = f"{self.task}: {self.metric} moved by {moved} on {self.documents:,} documents (p = {self.p_value:.2g})"
        if self.p_value > self.alpha or self.better is None:
            return Line(Outcome.PASS, f"{said}: no change is shown")
        if self.better:
            return Line(Outcome.IMPROVEMENT, f"{said}: better than chance explains, as by a broken extractor too")
        return Line(Outcome.REGRESSION, f"{said}: worse than chance explains")


@dataclass(frozen=True)
class Trend:
    """One metric of one task over the counted runs that are made as the baseline is."""

    task: str
    metric: str
    higher_is_better: bool | None
    entries: list[Entry]
    means: NDArray[np.float64]
    """Over the documents that all of the runs have. # (runs,)"""
    documents: int
    fall: float
    """The largest value that the e-process against "it does not fall" has had."""
    rise: float
    step: Step | None

    @property
    def p_value(self) -> float:
        """Of no drift either way, at any time."""
        return min(1.0, 2 / max(self.fall, self.rise))

    @property
    def moves(self) -> bool:
        """Whether any run differs from another."""
        return bool((self.means != self.means[0]).any())

    @property
    def better(self) -> bool:
        return (self.rise > self.fall) is bool(self.higher_is_better)

    def named(self, place: int) -> str:
        return name_of(self.entries[place])


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
    drifts: list[Line]
    steps: list[Trend]
    """Whose step a permutation test finds, corrected over tasks and metrics."""
    repeats: list[str]
    flips: list[Flip] = field(default_factory=list)

    @property
    def lines(self) -> list[Line]:
        found = [Line(Outcome[check.verdict.name], check.message) for check in self.comparison.checks]
        return [*found, *(change.line for change in self.changes), *self.drifts]

    @property
    def outcome(self) -> Outcome:
        found = {line.outcome for line in self.lines}
        order = (Outcome.REGRESSION, Outcome.IMPROVEMENT, Outcome.INCONCLUSIVE)
        return next((outcome for outcome in order if outcome in found), Outcome.PASS)

    @property
    def summary(self) -> str:
        return {
            Outcome.PASS: "PASS: every limit was shown to hold, and no change is shown"
            if self.comparison.checks
            else "PASS: no change is shown",
            Outcome.REGRESSION: "REGRESSION: worse than the baseline",
            Outcome.INCONCLUSIVE: "INCONCLUSIVE: the documents cannot say",
            Outcome.IMPROVEMENT: "IMPROVEMENT: better than the baseline; look at the fixed documents, then bless the "
            "run or put it into quarantine",
        }[self.outcome] + f" (confidence {self.comparison.confidence:g})."


def judge(
    history: History,
    limits: Sequence[Limit],
    *,
    confidence: float = 0.95,
    power: float = 0.8,
    metrics: Sequence[str] = (),
    tasks: Sequence[str] = (),
    allow_different: bool = False,
    repeat: int = 0,
    run: str | None = None,
) -> Judgement:
    """Judges the newest counted run, or ``run``, as of its date. UsageError where it cannot be compared."""
    candidates, baselines = _sides(history, run)
    newest, blessed = candidates[-1], baselines[-1]
    runs = (blessed.to_run(), newest.to_run())

    def read(made: Run, task: str) -> Documents:
        return _mean(baselines if made is runs[0] else candidates, task)

    prompts = _prompts_differ(blessed, newest, tasks)
    if prompts and not allow_different:
        raise UsageError(
            "the runs differ in more than the model:\n  "
            + "\n  ".join(prompts)
            + "\nundo the change of the prompt, bless a run that has it, or judge as it is with --allow-different"
        )
    pairs, notes = pair_runs(*runs, tasks, allow_different, read)
    chosen = watched(pairs, metrics)
    limited = {limit.metric for limit in limits}
    tests = [_test(pair.task, [metric]) for pair, metric in chosen]
    tests += [_test(ALL_TASKS, found) for found in _over_tasks(chosen)]
    checks = decide(pairs, limits, confidence, power, [test.p_value for test in tests]) if limits else []
    beyond = [check.p_beyond for check in checks]  # corrected already, which only makes the others' correction larger
    corrected = holm([*(test.p_value for test in tests), *beyond])[: len(tests)]
    alpha = 1 - confidence
    changes = []
    for test, p_value in zip(tests, corrected, strict=True):
        worse_is_limited = test.metric in limited and test.better is not True
        if not worse_is_limited:  # what may get worse by how much is then the limit's to say
            changes.append(Change(*test[:-1], p_value, alpha))
    found = trends(history, blessed, chosen, until=newest)
    comparison = Comparison(
        *runs, confidence, power, [(pair, rows(pair, confidence, power)) for pair in pairs], checks, [*prompts, *notes]
    )
    return Judgement(
        history,
        baselines,
        candidates,
        comparison,
        changes,
        shown_drifts(found, alpha),
        shown_steps(found, alpha),
        _repeats(checks, pairs, baselines, candidates, repeat, confidence, power) if repeat else [],
        _flips([(pair, read(runs[0], pair.task), read(runs[1], pair.task)) for pair in pairs]),
    )


def trends(
    history: History, blessed: Entry, chosen: Iterable[tuple[TaskPair, Metric]], until: Entry | None = None
) -> list[Trend]:
    """Each watched metric over the runs that are made as the baseline is, from the first blessed one on."""
    start = min((entry.date for entry in history.entries if entry.run in history.blessed), default=blessed.date)
    end = until.date if until else "~"
    comparable: dict[str, list[Entry]] = {}
    found = []
    for pair, metric in chosen:
        if pair.task not in comparable:
            comparable[pair.task] = [
                entry
                for entry in history.counted
                if start <= entry.date <= end and not unlike(blessed, entry, pair.task)
            ]
        entries = comparable[pair.task]
        means, documents = _means(entries, pair.task, metric.name)
        if len(entries) > 1 and documents:
            fall, rise = drift(means)
            found.append(
                Trend(
                    pair.task,
                    metric.name,
                    metric.higher_is_better,
                    entries,
                    means,
                    documents,
                    float(fall.max()),
                    float(rise.max()),
                    step(means),
                )
            )
    return found


def unlike(blessed: Entry, entry: Entry, task: str) -> list[str]:
    """In what two runs of a task differ beside model and seed; a run with any of it stands in no trend."""
    if task not in entry.tasks or task not in blessed.tasks:
        return [f"{task}: only one of the runs has it"]
    ours, theirs = blessed.tasks[task], entry.tasks[task]
    found = [] if set(ours.documents) == set(theirs.documents) else [f"{task}: other documents"]
    found += [] if found or ours.prompts == theirs.prompts else [f"{task}: other prompts"]
    return found + compare_settings(blessed.to_run(), entry.to_run(), task).refused


def name_of(entry: Entry) -> str:
    """A run in a sentence."""
    return f"{entry.run} ({'commit ' + entry.commit if entry.commit else 'of ' + entry.date[:10]})"


class _Test(NamedTuple):
    task: str
    metric: str
    documents: int
    moved: float
    relative: bool
    better: bool | None
    p_value: float


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


def _mean(entries: Sequence[Entry], task: str) -> Documents:
    """Each document's mean over the runs that have a value; one run's values as they are."""
    found = [entry.tasks[task].to_documents() for entry in entries if task in entry.tasks]
    if len(found) == 1:
        return found[0]
    last = found[-1]
    keys = [key for key in last.ids if all(key in documents.ids for documents in found)]
    names = [name for name in last.values if all(name in documents.values for documents in found)]
    values = {}
    for name in names:
        columns = [[documents.values[name][key] for documents in found] for key in keys]
        values[name] = {key: _known_mean(column) for key, column in zip(keys, columns, strict=True)}
    return Documents(values, {key: last.ids[key] for key in keys})


def _known_mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return math.fsum(known) / len(known) if known else math.nan


def _means(entries: Sequence[Entry], task: str, metric: str) -> tuple[NDArray[np.float64], int]:
    """The runs' means over the documents on which all have a value, and how many those are."""
    found = [entry.tasks[task].to_documents().values.get(metric, {}) for entry in entries]
    shared = [
        key for key in (found[0] if found else ()) if all(not math.isnan(values.get(key, math.nan)) for values in found)
    ]
    table = np.array([[values[key] for key in shared] for values in found])
    return (table.mean(axis=1) if shared else np.zeros(len(found))), len(shared)


def _prompts_differ(blessed: Entry, newest: Entry, only: Sequence[str]) -> list[str]:
    return [
        f"{task}: the prompts of the candidate are not those of the baseline, under the same task version"
        for task in blessed.tasks
        if task in newest.tasks
        and (not only or task in only)
        and set(blessed.tasks[task].documents) == set(newest.tasks[task].documents)
        and blessed.tasks[task].prompts != newest.tasks[task].prompts
    ]


def watched(pairs: Sequence[TaskPair], metrics: Sequence[str]) -> list[tuple[TaskPair, Metric]]:
    """The named metrics; where none is named, all of which their tasks say what is better."""
    known = list(dict.fromkeys(metric.name for pair in pairs for metric in pair.metrics))
    for name in metrics:
        if name not in known:
            near = near_name(name, known)
            raise UsageError(f"no task has the metric {name!r}; {f'did you mean {near!r}?' if near else known}")
    return [
        (pair, metric)
        for pair in pairs
        for metric in pair.metrics
        if (metric.name in metrics if metrics else metric.higher_is_better is not None)
    ]


def _over_tasks(watched: Sequence[tuple[TaskPair, Metric]]) -> list[list[Metric]]:
    """Metrics that several tasks have."""
    by_name: dict[str, list[Metric]] = {}
    for _, metric in watched:
        by_name.setdefault(metric.name, []).append(metric)
    return [found for found in by_name.values() if len(found) > 1]


def _test(task: str, found: Sequence[Metric]) -> _Test:
    """Two-sided: twice the smaller one-sided p-value of the gate's own test."""
    bounded = all(metric.pairs.bounded for metric in found)
    binary = all(metric.pairs.binary for metric in found)
    relative = len(found) > 1 and not bounded
    strata = []
    for metric in found:
        delta = metric.pairs.candidate - metric.pairs.baseline
        level = abs(float(metric.pairs.baseline.mean())) if relative else 1.0
        if level:
            strata.append(delta / level)
    tested = margin_test(strata[0], 0.0, binary, bounded) if len(strata) == 1 else pooled_test(strata, binary, bounded)
    documents = sum(map(len, strata))
    moved = math.fsum(float(stratum.sum()) for stratum in strata) / documents if documents else 0.0
    higher = found[0].higher_is_better
    better = None if not moved or higher is None else (moved > 0) is higher
    return _Test(
        task, found[0].name, documents, moved, relative, better, min(1.0, 2 * min(tested.p_beyond, tested.p_within))
    )


def shown_drifts(found: Sequence[Trend], alpha: float) -> list[Line]:
    """What an anytime-valid test shows, corrected over tasks and metrics."""
    lines = []
    for trend, p_value in zip(found, holm([trend.p_value for trend in found]), strict=True):
        if p_value <= alpha and trend.higher_is_better is not None:
            way = "rises" if trend.rise > trend.fall else "falls"
            lines.append(
                Line(
                    Outcome.IMPROVEMENT if trend.better else Outcome.REGRESSION,
                    f"{trend.task}: {trend.metric} {way} over {len(trend.entries)} runs, whatever single ones say "
                    f"(anytime-valid p = {p_value:.2g})",
                )
            )
    return lines


def shown_steps(found: Sequence[Trend], alpha: float) -> list[Trend]:
    """The trends whose step a permutation test finds, corrected over tasks and metrics."""
    known = [trend for trend in found if trend.step]
    corrected = holm([trend.step.p_value for trend in known if trend.step])
    return [trend for trend, p_value in zip(known, corrected, strict=True) if p_value <= alpha]


def _repeats(
    checks: Sequence[Check],
    pairs: Sequence[TaskPair],
    baselines: Sequence[Entry],
    candidates: Sequence[Entry],
    most: int,
    confidence: float,
    power: float,
) -> list[str]:
    """For each inconclusive limit, the runs that would settle it, a line each."""
    by_name = {(pair.task, metric.name): metric for pair in pairs for metric in pair.metrics}
    unclear = [check for check in checks if check.verdict is Verdict.INCONCLUSIVE]
    if not unclear:
        return ["no verdict is inconclusive: no repeat is needed"]
    used = {entry.seed for entry in (*baselines, *candidates)}
    seeds = [seed for seed in range(1, most + len(used) + 1) if seed not in used][:most]
    cost = baselines[-1].tokens + candidates[-1].tokens
    lines = []
    for check in unclear:
        pairs_of = by_name[check.task, check.limit.metric].pairs
        relative = check.limit.relative
        sign = 1 if check.limit.direction == "increase" else -1
        factor = 1 + sign * check.limit.amount if relative else 1.0
        distance = check.limit.amount * (check.baseline if relative else 1.0)
        allowed = spread_allowed(
            pairs_of.candidate - factor * pairs_of.baseline, pairs_of.bounded, distance, 1 - confidence, power
        )
        now = 1 / len(baselines) + 1 / len(candidates)
        shrunk = [(1 / (len(baselines) + m) + 1 / (len(candidates) + m)) / now for m in range(1, most + 1)]
        needed = next((m for m, share in enumerate(shrunk, 1) if share <= allowed), None)
        what = f"{check.task}: {check.limit}"
        if allowed <= 0:
            lines.append(f"{what}: no number of repeats settles it on {check.documents:,} documents; take more of them")
        elif needed is None:
            lines.append(f"{what}: {most} more runs a side are too few, even if nothing changed")
        else:
            named = ", ".join(map(str, seeds[:needed]))
            tokens = "an unknown number of tokens" if math.isnan(cost) else f"about {needed * cost:,.0f} tokens"
            lines.append(
                f"{what}: {needed} more {'run' if needed == 1 else 'runs'} a side, with --seed {named}, settle it with "
                f"power {power:g} if nothing changed: {tokens}"
            )
    return lines


def _flips(found: Sequence[tuple[TaskPair, Documents, Documents]]) -> list[Flip]:
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
                flips.append(Flip(pair.task, metric.name, doc_id, _hash(key), after > before))
    return flips


def _hash(key: Key) -> str:
    return key.doc_hash + (f"+{key.copy}" if key.copy else "")
