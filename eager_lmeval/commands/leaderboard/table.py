"""Runs as rows of a leaderboard, and who of them can be told from whom."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from eager_lmeval.errors import UsageError
from eager_lmeval.runs.conditions import Side, but_for_its_seed, ranked
from eager_lmeval.runs.documents import Columns, Key, columns
from eager_lmeval.runs.run import Run, find_runs
from eager_lmeval.scores.paired import holm, pooled_test
from eager_lmeval.scores.stats import half_width, mean, standard_error

__all__ = ["Board", "Cell", "Row", "make_board"]

AVERAGE, VOTE = "pass_rate_w", "cons_w@max"
"""Weighted by path (SPEC 6), so that trees and independent samples compare; of the latter all weights are equal."""


class Cell(NamedTuple):
    """One task of a row."""

    average: float
    half_width: float
    """Half of the interval; NaN for fewer than two documents."""
    sampling: float
    """Half of the interval of these documents alone."""
    sampling_is_bound: bool
    """Whether that is ``half_width``, since draws do not tell."""
    vote: float
    """NaN where the task has no vote."""
    tokens: float
    """Decoded a document; NaN where that is not known."""
    device_seconds: float
    """A document; NaN where that is not known."""
    documents: int
    bounds: tuple[float, float] | None
    """The average if all answers without a verdict were wrong, and if all were right; None where there are none."""


@dataclass
class Row:
    """One model, made in one way; several seeds of it are averaged document by document."""

    model: str
    method: str
    n: int | None
    """Sequences a document may have; None for a model without trees."""
    seeds: int
    labels_used: bool
    cells: dict[str, Cell]
    values: dict[str, list[dict[Key, float]]] = field(repr=False)
    """By task: what counts, and where answers have no verdict, with all of them wrong and with all of them right."""
    read: dict[str, Columns] = field(repr=False)
    """Of the first of its runs."""
    marks: list[int] = field(default_factory=list)
    """Numbers of the board's remarks on it."""
    best_rank: int | None = None
    """With what the documents can tell; None where the row is not ranked."""
    worst_rank: int | None = None
    ties_with_best: bool = False
    average: float = math.nan
    """Mean of the tasks' averages; NaN where a task is missing."""
    half_width: float = math.nan
    sampling: float = math.nan
    sampling_is_bound: bool = True
    tokens: float = math.nan
    device_seconds: float = math.nan

    @property
    def rank(self) -> str:
        if self.best_rank is None:
            return "–"
        return f"{self.best_rank}" if self.best_rank == self.worst_rank else f"{self.best_rank}–{self.worst_rank}"


@dataclass(frozen=True)
class Board:
    """The ranked rows, best first, and those that are not ranked."""

    tasks: list[str]
    metric: str
    confidence: float
    price_per_hour: float | None
    """Of a device."""
    ranked: list[Row]
    unranked: list[Row]
    """That lack a task."""
    labelled: list[Row]
    """Made with labels."""
    remarks: list[str]
    """In what rows differ from the first one; a row's ``marks`` point here, from 1 on."""


def make_board(
    paths: Sequence[Path],
    metric: str | None = None,
    confidence: float = 0.95,
    allow_different: bool = False,
    price_per_hour: float | None = None,
) -> Board:
    """Reads and ranks runs. UsageError for runs that cannot be read, and for those that differ in prompts, task
    versions, documents or sampling, unless that is allowed: then the board's remarks say so.

    Two rows are told apart by a two-sided paired test of the mean of their tasks' averages (the documents of a task are
    a stratum), corrected by Holm over all pairs. A row's rank runs from 1 + how many are shown to be better to how many
    are not shown to be worse; with the best ties who is not shown to be worse than the row with the highest average.
    """
    groups = _grouped(find_runs(*paths))
    tasks = list(dict.fromkeys(task for runs in groups for task in runs[0].tasks))
    named = metric or AVERAGE
    rows = [_row(runs, tasks, named, metric is None, confidence) for runs in groups]
    remarks = _differences([runs[0] for runs in groups], rows, tasks)
    if refused := [remark for remark, is_refused in remarks if is_refused]:
        _refuse(refused, allow_different)
    complete = [row for row in rows if not row.labels_used and len(row.cells) == len(tasks)]
    complete.sort(key=lambda row: -row.average)
    _rank(complete, tasks, 1 - confidence)
    return Board(
        tasks,
        "avg@n" if metric is None else metric,
        confidence,
        price_per_hour,
        complete,
        [row for row in rows if not row.labels_used and len(row.cells) < len(tasks)],
        sorted((row for row in rows if row.labels_used), key=lambda row: (math.isnan(row.average), -row.average)),
        [remark for remark, _ in remarks],
    )


def _grouped(runs: Sequence[Run]) -> list[list[Run]]:
    """Runs that differ in nothing but their seed, and of equal seeds the newest."""
    groups: dict[str, dict[str, Run]] = {}
    for run in runs:
        groups.setdefault(but_for_its_seed(run), {})[str(run.config.get("torch_seed"))] = run
    return [list(group.values()) for group in groups.values()]


def _row(runs: Sequence[Run], tasks: Sequence[str], metric: str, votes: bool, confidence: float) -> Row:
    run = runs[0]
    pools = run.all_pools
    cells, values, read = {}, {}, {}
    for task in run.tasks:
        documents = [columns(run, task) for run in runs]
        read[task], found = documents[0], [one.values for one in documents]
        if metric not in found[0]:
            raise UsageError(
                f"{run.results_file}: task {task} has no {metric}; name a metric that all have with --metric, such as "
                f"{', '.join(found[0]) or 'none'}"
            )
        scored = _averaged([one[metric] for one in found])
        vote = _averaged([one.get(VOTE, {}) for one in found]) if votes else {}
        cost = _averaged([one.get("tokens", {}) for one in found])
        numbers = list(scored.values())
        spreads = [_spread(documents, metric, key) for key in scored]
        error = standard_error(numbers)
        graded = [_averaged([_taken(one, metric, right) for one in documents]) for right in (0, 1)]
        doubtful = any(one.doubts.get(metric) for one in documents)
        cells[task] = Cell(
            mean(numbers),
            _half_width(error, confidence),
            *half_width(error, spreads, confidence),
            mean([*vote.values()]),
            mean([*cost.values()]),
            math.fsum(one.device_seconds(task) for one in runs) / len(runs) / (len(scored) or math.nan),
            len(scored),
            (mean([*graded[0].values()]), mean([*graded[1].values()])) if doubtful else None,
        )
        values[task] = [scored, *(graded if doubtful else [])]
    row = Row(
        model=run.model,
        method=_method(pools),
        n=max((pool["options"]["max_sequences"] for pool in pools), default=None),
        seeds=len(runs),
        labels_used=any(run.labels_used for run in runs),
        cells={task: cells[task] for task in tasks if task in cells},
        values=values,
        read=read,
    )
    if len(row.cells) == len(tasks):
        row.average = math.fsum(cell.average for cell in row.cells.values()) / len(tasks)
        row.half_width = math.hypot(*(cell.half_width for cell in row.cells.values())) / len(tasks)
        row.sampling = math.hypot(*(cell.sampling for cell in row.cells.values())) / len(tasks)
        row.sampling_is_bound = any(cell.sampling_is_bound for cell in row.cells.values())
        row.device_seconds = math.fsum(cell.device_seconds for cell in row.cells.values()) / len(tasks)
        row.tokens = math.fsum(cell.tokens for cell in row.cells.values()) / len(tasks)
    return row


def _method(pools: Sequence[Mapping[str, Any]]) -> str:
    """``init top2 θ=0.5``, of several pools what they have in common and the range of the rest."""
    if not pools:
        return "–"
    strategies, branchings, thresholds = (
        "/".join(dict.fromkeys(str(pool["options"].get(name, absent)) for pool in pools))
        for name, absent in (("strategy", None), ("branching", "top2"), ("entropy_threshold", None))
    )
    if any(pool["options"]["strategy"] == "parallel" for pool in pools):
        return strategies
    return f"{strategies} {branchings}" + ("" if thresholds == "None" else f" θ={thresholds}")


def _averaged(columns: Sequence[Mapping[Key, float]]) -> dict[Key, float]:
    """Each document's mean over the runs; those without a value in one of them are left out."""
    keys = [key for key in columns[0] if all(not math.isnan(column.get(key, math.nan)) for column in columns)]
    return {key: math.fsum(column[key] for column in columns) / len(columns) for key in keys}


def _spread(runs: Sequence[Columns], metric: str, key: Key) -> float:
    """The variance over draws of a document's mean over runs: by its draws, and where they do not tell by the seeds."""
    drawn = math.fsum(run.spreads.get(metric, {}).get(key, math.nan) for run in runs) / len(runs) ** 2
    if math.isnan(drawn) and len(runs) > 1:
        return float(np.var([run.values[metric][key] for run in runs], ddof=1)) / len(runs)
    return drawn


def _taken(run: Columns, metric: str, right: int) -> dict[Key, float]:
    """A run's values, those that hang on answers without a verdict as if all were wrong (0) or right (1)."""
    return {**run.values[metric], **{key: pair[right] for key, pair in run.doubts.get(metric, {}).items()}}


def _half_width(error: float, confidence: float) -> float:
    return float(ndtri((1 + confidence) / 2)) * error


def _differences(runs: Sequence[Run], rows: Sequence[Row], tasks: Sequence[str]) -> list[tuple[str, bool]]:
    """In what each row differs from the first that has the task, and whether that is refused; marks the rows."""
    remarks: dict[str, bool] = {}

    def remark(row: Row, text: str, refused: bool) -> None:
        remarks.setdefault(text, refused)
        number = list(remarks).index(text) + 1
        if number not in row.marks:
            row.marks.append(number)

    for task in tasks:
        having = [(run, row) for run, row in zip(runs, rows, strict=True) if task in row.cells]
        for _, row in having:
            if bounds := row.cells[task].bounds:
                low, high = (f"{100 * bound:.1f}" for bound in bounds)
                remark(row, f"{task}: {low} if all answers without a verdict are wrong, {high} if all are right", False)
        reference = Side(having[0][1].model, having[0][0], having[0][1].read[task])
        for run, row in having[1:]:
            for difference in ranked(task, reference, Side("the marked row", run, row.read[task])):
                remark(row, *difference)
    return list(remarks.items())


def _refuse(differences: Sequence[str], allow_different: bool) -> None:
    if not allow_different:
        raise UsageError(
            "the runs cannot be ranked as they are:\n  "
            + "\n  ".join(differences)
            + "\nrun them alike, or rank them with --allow-different, and the table will say so"
        )


def _rank(rows: Sequence[Row], tasks: Sequence[str], alpha: float) -> None:
    """Sets the ranks of rows that are sorted by their averages."""
    pairs = list(itertools.combinations(range(len(rows)), 2))
    corrected = holm([_p_value(rows[first], rows[second], tasks) for first, second in pairs])
    told_apart = {pair for pair, p_value in zip(pairs, corrected, strict=True) if p_value <= alpha}
    for place, row in enumerate(rows):
        better = sum((other, place) in told_apart for other in range(place))
        worse = sum((place, other) in told_apart for other in range(place + 1, len(rows)))
        row.best_rank, row.worst_rank = 1 + better, len(rows) - worse
        others = range(1, len(rows)) if place == 0 else [place]
        row.ties_with_best = any((0, other) not in told_apart for other in others)


def _p_value(first: Row, second: Row, tasks: Sequence[str]) -> float:
    """Two-sided, of equal means of the tasks' means, on the documents that both have.

    Where answers have no verdict the largest, of the first row's all wrong and the second's all right, and so on; 1
    where these lead to both sides.
    """
    if all(len(row.values[task]) == 1 for row in (first, second) for task in tasks):
        return _tested(first, second, tasks, 0, 0)[0]
    ways = [_tested(first, second, tasks, *taken) for taken in ((0, 0), (1, 2), (2, 1))]
    return max(p_value for p_value, _ in ways) if len({better for _, better in ways}) == 1 else 1.0


def _tested(first: Row, second: Row, tasks: Sequence[str], *taken: int) -> tuple[float, bool]:
    """The p-value, and whether the first is better; ``taken`` are the places in `Row.values`."""
    strata: list[NDArray[np.float64]] = []
    bounded = True
    for task in tasks:
        ours, theirs = (
            row.values[task][at if len(row.values[task]) > 1 else 0]
            for row, at in zip((first, second), taken, strict=True)
        )
        table = np.array([[ours[key], theirs[key]] for key in ours if key in theirs]).reshape(-1, 2)
        bounded = bounded and bool(((table >= 0) & (table <= 1)).all())
        strata.append(table[:, 0] - table[:, 1])
    tested = pooled_test(strata, False, bounded, [1.0] * len(strata))
    return min(1.0, 2 * min(tested.p_beyond, tested.p_within)), tested.p_beyond < tested.p_within
