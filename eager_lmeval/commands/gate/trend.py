"""The metrics of one configuration over its runs: have they drifted, and where do they step?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eager_lmeval.commands.gate.history import Entry, History
from eager_lmeval.commands.gate.pairing import Metric, TaskPair
from eager_lmeval.commands.gate.verdict import Finding, Verdict
from eager_lmeval.errors import UsageError, near_name
from eager_lmeval.runs.conditions import Side, compared
from eager_lmeval.scores.history import Step, drift, step
from eager_lmeval.scores.paired import holm

__all__ = ["ALPHA", "Trend", "name_of", "shown_drifts", "shown_steps", "trends", "unlike", "watched"]

ALPHA = 0.05
"""Of what the page says by itself."""


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
    sides = [
        Side(name, run.to_run(), run.tasks[task].to_columns())
        for name, run in (("the baseline", blessed), ("this run", entry))
    ]
    same = sides[0].documents.ids.keys() == sides[1].documents.ids.keys()
    other = [] if same else [f"{task}: other documents"]
    return other + [difference.text for difference in compared(task, *sides) if difference.refused]


def name_of(entry: Entry) -> str:
    """A run in a sentence."""
    return f"{entry.run} ({'commit ' + entry.commit if entry.commit else 'of ' + entry.date[:10]})"


def shown_drifts(found: Sequence[Trend], alpha: float) -> list[Finding]:
    """What an anytime-valid test shows, corrected over tasks and metrics."""
    lines = []
    for trend, p_value in zip(found, holm([trend.p_value for trend in found]), strict=True):
        if p_value <= alpha and trend.higher_is_better is not None:
            way = "rises" if trend.rise > trend.fall else "falls"
            lines.append(
                Finding(
                    Verdict.IMPROVEMENT if trend.better else Verdict.REGRESSION,
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


def _means(entries: Sequence[Entry], task: str, metric: str) -> tuple[NDArray[np.float64], int]:
    """The runs' means over the documents on which all have a value, and how many those are."""
    found = [entry.tasks[task].to_columns().values.get(metric, {}) for entry in entries]
    shared = [
        key for key in (found[0] if found else ()) if all(not math.isnan(values.get(key, math.nan)) for values in found)
    ]
    table = np.array([[values[key] for key in shared] for values in found])
    return (table.mean(axis=1) if shared else np.zeros(len(found))), len(shared)
