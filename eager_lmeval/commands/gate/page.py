"""The page of a history: every metric over the runs, what was decided about them, and where it stepped."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from eager_lmeval.commands.gate.history import Entry, History
from eager_lmeval.commands.gate.output import step_line
from eager_lmeval.commands.gate.pairing import pair_task
from eager_lmeval.commands.gate.trend import ALPHA, Trend, shown_drifts, shown_steps, trends, unlike, watched
from eager_lmeval.commands.plots import TrendPoint, trend
from eager_lmeval.commands.writing import render
from eager_lmeval.errors import UsageError
from eager_lmeval.pools.marks import UPPER_BOUND
from eager_lmeval.runs.conditions import Side
from eager_lmeval.scores.figures import COSTS
from eager_lmeval.scores.stats import standard_error

__all__ = ["to_html"]


def to_html(history: History, metrics: Sequence[str] = ()) -> str:
    """The whole page, without scripts; it opens from disk. UsageError where there is no baseline to measure by."""
    from markupsafe import Markup

    if not history.blessed:
        raise UsageError(f"{history.path} has no baseline; choose one on purpose with eager-lmeval track bless")
    blessed = next(entry for entry in reversed(history.entries) if entry.run in history.blessed)
    made = blessed.to_run()
    sides = {task: Side("the baseline", made, recorded.to_columns()) for task, recorded in blessed.tasks.items()}
    pairs = [pair_task(task, side, side) for task, side in sides.items()]
    found = trends(history, blessed, watched(pairs, metrics))
    steps = {(line.task, line.metric): line for line in shown_steps(found, ALPHA)}
    return render(
        __package__,
        tasks=[
            {
                "name": task,
                "plots": [
                    Markup(_plot(history, blessed, one, steps.get((task, one.metric))))
                    for one in _cost_beside_quality([one for one in found if one.task == task])
                ],
                "still": ", ".join(one.metric for one in found if one.task == task and not one.moves),
            }
            for task in blessed.tasks
        ],
        findings=[line.message for line in shown_drifts(found, ALPHA)] + [step_line(one) for one in steps.values()],
        runs=[_row(history, blessed, entry) for entry in reversed(history.entries)],
        upper_bound=UPPER_BOUND,
        file=history.path.name,
    )


def _cost_beside_quality(found: Sequence[Trend]) -> list[Trend]:
    """The first score, then the costs, then the rest; what never moved is left out."""
    moving = [one for one in found if one.moves]
    costs = [one for one in moving if one.metric in COSTS]
    others = [one for one in moving if one.metric not in COSTS]
    return [*others[:1], *costs, *others[1:]]


def _plot(history: History, blessed: Entry, shown: Trend, stepped: Trend | None) -> str:
    """All runs that have the metric; those that do not count stand in the plot as what they are."""
    points: list[TrendPoint] = []
    place_of: dict[str, int] = {}
    for entry in history.entries:
        recorded = entry.tasks.get(shown.task)
        if recorded is None or shown.metric not in recorded.values:
            continue
        place_of[entry.run] = len(points)
        values = [math.nan if value is None else value for value in recorded.values[shown.metric]]
        known = np.array([value for value in values if not math.isnan(value)])
        mean, error = (float(known.mean()) if len(known) else math.nan), 1.96 * standard_error(values)
        kind = _kind(history, blessed, entry, shown.task)
        title = (
            f"{entry.run}, {entry.date[:10]}, commit {entry.commit or 'unknown'}, seed {entry.seed}: {mean:.4g}, {kind}"
        )
        points.append(TrendPoint(mean, mean - error, mean + error, entry.commit or entry.date[5:10], title, kind))
    cut = None
    if stepped and stepped.step:
        runs = [stepped.entries[place].run for place in (stepped.step.at, stepped.step.low, stepped.step.high)]
        at, low, high = (place_of[run] for run in runs)
        cut = (at, low, high)
    return trend(points, shown.metric, cut)


def _kind(history: History, blessed: Entry, entry: Entry, task: str) -> str:
    if entry.run in history.quarantined:
        return "quarantined"
    if entry.run in history.blessed:
        return "blessed"
    return "different" if unlike(blessed, entry, task) else "counted"


def _row(history: History, blessed: Entry, entry: Entry) -> dict[str, Any]:
    kinds = {_kind(history, blessed, entry, task) for task in entry.tasks}
    kind = "different" if "different" in kinds else min(kinds)
    differences = [line for task in entry.tasks for line in unlike(blessed, entry, task)]
    return {
        "run": entry.run,
        "date": entry.date[:16].replace("T", " "),
        "commit": entry.commit or "–",
        "seed": entry.seed,
        "model": entry.to_run().model,
        "kind": kind,
        "reason": history.quarantined.get(entry.run, "; ".join(differences) if kind == "different" else ""),
        "labels_used": entry.to_run().labels_used,
        "tokens": "–" if math.isnan(entry.tokens) else f"{entry.tokens:,.0f}",
        "environment": ", ".join(f"{name} {value}" for name, value in entry.environment.items() if value),
        "report": entry.report if _is_link(entry.report) else None,
    }


def _is_link(text: str | None) -> bool:
    """A web address or a path; nothing that a browser would run."""
    return bool(text) and urlsplit(text or "").scheme in ("http", "https", "")
