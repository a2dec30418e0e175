"""The documents that two runs share, aligned: refused where the runs may not be compared (`runs.conditions`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from eager_lmeval.errors import UsageError
from eager_lmeval.runs.conditions import Side, compared
from eager_lmeval.runs.documents import Columns, Key, columns
from eager_lmeval.runs.run import Run
from eager_lmeval.scores.figures import UNSCORED
from eager_lmeval.scores.paired import Pairs

__all__ = ["Metric", "TaskPair", "pair_runs", "pair_task"]

Read = Callable[[Run, str], Columns]
_LISTED = 10
"""Documents without a partner that are named; the JSON of a comparison has all."""


@dataclass(frozen=True)
class Metric:
    """One metric of the shared documents."""

    name: str
    pairs: Pairs
    undefined: int
    """Shared documents left out because one of the runs has no value."""
    higher_is_better: bool | None = None
    """What the task says; None where it says nothing."""
    doubtful: int = 0
    """Shared documents whose score hangs on answers without a verdict, in one of the runs or both."""
    bounds: tuple[Pairs, ...] = ()
    """Where there are any: with the candidate's doubts taken for wrong and the baseline's for right, and the other way.
    These documents are in both, the unscored ones too."""


@dataclass(frozen=True)
class TaskPair:
    """One task of two runs; ``only_*`` are the ``doc_id`` of documents without a partner."""

    task: str
    documents: int
    metrics: list[Metric]
    only_baseline: list[int] = field(default_factory=list)
    only_candidate: list[int] = field(default_factory=list)

    @property
    def unscored(self) -> list[str]:
        """What hangs on answers without a verdict, a line a score."""
        return [
            f"{self.task}: {metric.name} of {metric.doubtful:,} shared documents hangs on answers without a verdict; "
            f"it moves by {moved[0]:+.4g} if the candidate's are wrong and the baseline's right, and by "
            f"{moved[1]:+.4g} the other way"
            for metric in self.metrics
            if metric.doubtful
            and len(moved := [float((bound.candidate - bound.baseline).mean()) for bound in metric.bounds]) > 1
        ]

    @property
    def unpaired(self) -> list[str]:
        """The documents without a partner, a line a run."""
        return [
            f"{self.task}: {len(ids)} {'document' if len(ids) == 1 else 'documents'} only in the {side} (doc_id "
            + ", ".join(map(str, ids[:_LISTED]))
            + (", …)" if len(ids) > _LISTED else ")")
            for side, ids in (("baseline", self.only_baseline), ("candidate", self.only_candidate))
            if ids
        ]


def pair_runs(
    baseline: Run, candidate: Run, only: Sequence[str], allow_different: bool, read: Read = columns
) -> tuple[list[TaskPair], list[str]]:
    """The shared tasks of two runs, those in ``only`` where it names any, and in what the runs differ, a line each.

    UsageError where they share nothing, and where they differ in more than the model unless that is allowed.
    """
    tasks, differences = _tasks(baseline, candidate, only)
    noted: list[str] = []
    pairs = []
    for task in tasks:
        sides = [
            Side(name, run, read(run, task)) for name, run in (("the baseline", baseline), ("the candidate", candidate))
        ]
        for difference in compared(task, *sides):
            (differences if difference.refused else noted).append(difference.text)
        pairs.append(pair_task(task, *sides))
    _refuse(differences, allow_different)
    if strangers := [pair.task for pair in pairs if not pair.documents]:
        raise UsageError(f"the runs share no document of {', '.join(strangers)}: they were made from different data")
    unpaired = [line for pair in pairs for line in pair.unpaired]
    _refuse(unpaired, allow_different)
    return pairs, [*differences, *unpaired, *noted]


def pair_task(task: str, first: Side, second: Side) -> TaskPair:
    """Aligns the documents of a task by their hashes."""
    ours, theirs = first.documents, second.documents
    shared = [key for key in ours.ids if key in theirs.ids]
    metrics = []
    better = {**_higher_is_better(second.run, task), **_higher_is_better(first.run, task)}
    for name in ours.values:
        if name not in theirs.values:
            continue
        found = _pairs(name, shared, (ours, theirs))
        plain = name.partition(",")[0]
        if found is None or (plain == UNSCORED and not (found.baseline.any() or found.candidate.any())):
            continue
        doubtful = sum(any(key in side.doubts.get(name, {}) for side in (ours, theirs)) for key in shared)
        bounds = [_pairs(name, shared, (ours, theirs), taken) for taken in ((1, 0), (0, 1)) if doubtful]
        undefined = len(shared) - found.documents
        metrics.append(
            Metric(name, found, undefined, better.get(plain), doubtful, tuple(pairs for pairs in bounds if pairs))
        )
    return TaskPair(
        task,
        len(shared),
        metrics,
        sorted(doc_id for key, doc_id in ours.ids.items() if key not in theirs.ids),
        sorted(doc_id for key, doc_id in theirs.ids.items() if key not in ours.ids),
    )


def _pairs(name: str, keys: Sequence[Key], sides: Sequence[Columns], taken: Sequence[int] = ()) -> Pairs | None:
    """A metric where both sides have a value; None where they never have. Each side's doubts are ``taken`` for wrong
    (0) or right (1), where that is said."""
    table = np.array([[side.values[name].get(key, np.nan) for key in keys] for side in sides])
    for row, side, right in zip(table, sides, taken, strict=False):
        doubts = side.doubts.get(name, {})
        row[:] = [doubts[key][right] if key in doubts else value for key, value in zip(keys, row, strict=True)]
    spreads = np.array([[side.spreads.get(name, {}).get(key, np.nan) for key in keys] for side in sides]).sum(axis=0)
    known = ~np.isnan(table).any(axis=0)
    return Pairs(table[0, known], table[1, known], spreads[known]) if known.any() else None


def _refuse(differences: list[str], allow_different: bool) -> None:
    if differences and not allow_different:
        raise UsageError(
            "the runs differ in more than the model:\n  "
            + "\n  ".join(differences)
            + "\nrun them alike, or compare them as they are with --allow-different"
        )


def _tasks(baseline: Run, candidate: Run, only: Sequence[str]) -> tuple[list[str], list[str]]:
    """The tasks to compare, and those that only one of the runs has, a line each."""
    for task in only:
        baseline.require_task(task, "the baseline")
        candidate.require_task(task, "the candidate")
    shared = [task for task in baseline.tasks if task in candidate.tasks and (not only or task in only)]
    if not shared:
        raise UsageError(
            f"the runs have no task in common: {', '.join(baseline.tasks)} and {', '.join(candidate.tasks)}"
        )
    alone = [] if only else sorted({*baseline.tasks} ^ {*candidate.tasks})
    return shared, [f"task {task} is only in the {_side(task, baseline)}" for task in alone]


def _side(task: str, baseline: Run) -> str:
    return "baseline" if task in baseline.tasks else "candidate"


def _higher_is_better(run: Run, task: str) -> Mapping[str, bool | None]:
    return (run.results.get("higher_is_better") or {}).get(task) or {}
