"""The table of a sweep, laid out as in the appendix of the EAGER paper: Full Parallel on top, then θ by θ."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

from eager_lmeval.commands.tables import Table, markdown_cell
from eager_lmeval.runs.run import ROUNDS, Run, is_companion

__all__ = ["Row", "means_of", "rows_of", "to_csv", "to_latex", "to_markdown"]

MEASURES = {"p@k": "pass@max", "c@max": "cons@max", "PR": "pass_rate"}
"""The paper's names for the metrics; a task without them is shown with its own. To either come the costs."""
_WEIGHTED = MEASURES | {"c@max": "cons_w@max", "PR": "pass_rate_w"}
"""The same where a sequence may stand for several samples."""
_COSTS = {"#T": "tokens", "#S": "sequences"}
"""Sums over the documents."""
_COLUMNS = ("strategy", "branching", "fan_out", "max_sequences", "temperature", "entropy_threshold", "seed")
"""Options with a place of their own in the tables."""
_NAMES = {
    "parallel": "Full Parallel",
    "init": "EAGER-init",
    "adapt": "EAGER-adapt",
    "eager": "EAGER (labels)",
    "consistency": "Consistency",
    ROUNDS: "Rounds",
}


class Row(NamedTuple):
    """One cell of a sweep on one task, or the mean of cells that differ in nothing but the seed."""

    task: str
    max_sequences: int
    strategy: str
    threshold: float | None
    """None for Full Parallel, which has none."""
    temperature: float
    measures: dict[str, float]
    """By the name of their column: the scores, then the costs."""
    branching: str
    fan_out: int | None = None
    seeds: tuple[int, ...] = ()
    others: tuple[tuple[str, Any], ...] = ()
    """What else the sweep varies."""

    @property
    def measure(self) -> str:
        """The column of the trade-off plot."""
        return next(iter(self.measures))

    @property
    def headline(self) -> float:
        return self.measures[self.measure]

    @property
    def method(self) -> str:
        name = _NAMES[self.strategy]
        if self.strategy != "parallel":
            name += f", {self.branching}" if self.fan_out is None else f", {self.branching}, fan_out {self.fan_out}"
        if self.threshold is not None:
            name += f", θ = {self.threshold:g}"
        return ", ".join([name, *(f"{option} {value}" for option, value in self.others)])

    @property
    def short(self) -> str:
        """What tells it from others of its strategy in the plot: how it branches, and θ."""
        parts = ["" if self.strategy == "parallel" else self.branching[:3], f"f{self.fan_out}" if self.fan_out else ""]
        return " ".join(filter(None, [*parts, "" if self.threshold is None else f"{self.threshold:g}"]))

    @property
    def weighted(self) -> bool:
        """Whether its vote and its rate are the weighted ones."""
        return _weighted(self.strategy, self.branching)

    @property
    def place(self) -> tuple[Any, ...]:
        order = list(_NAMES).index(self.strategy)
        branched = order, self.branching, self.fan_out or math.inf
        others = tuple(str(value) for _, value in self.others)
        return self.task, self.max_sequences, *branched, self.threshold or 0.0, self.temperature, others, self.seeds


def rows_of(runs: Sequence[Run], axes: Sequence[str] = ()) -> list[Row]:
    """One row a run and task, in the table's order; of the sweep's ``axes`` those without a column tell rows apart."""
    others = [name for name in axes if name not in _COLUMNS]
    rows = []
    for run in runs:
        for task in run.tasks:
            options = run.pools(task)[0]["options"]
            branching = options.get("branching", "top2")
            bare = options["strategy"] == "parallel" or branching == "none"
            rows.append(
                Row(
                    task,
                    options["max_sequences"],
                    options["strategy"],
                    None if bare else options["entropy_threshold"],
                    options["temperature"],
                    _scores(run, task, _weighted(options["strategy"], branching)) | _costs(run, task),
                    branching,
                    options.get("fan_out"),
                    (options["seed"],),
                    tuple((name, options[name]) for name in others),
                )
            )
    return sorted(rows, key=lambda row: row.place)


def means_of(rows: Sequence[Row]) -> list[Row]:
    """Rows that differ in nothing but the seed as one, with the means of what both have."""
    alike: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        alike.setdefault((row.task, row.max_sequences, row.method, row.temperature), []).append(row)
    means = []
    for group in alike.values():
        names = [name for name in group[0].measures if all(name in row.measures for row in group)]
        measures = {name: statistics.fmean(row.measures[name] for row in group) for name in names}
        seeds = tuple(seed for row in group for seed in row.seeds)
        means.append(group[0]._replace(seeds=seeds, measures=measures))
    return means


def _weighted(strategy: str, branching: str) -> bool:
    return strategy != "parallel" and branching != "top2"


def _scores(run: Run, task: str, weighted: bool) -> dict[str, float]:
    """The paper's measures, under whichever filter they stand; for a task that has none of them, its own metrics."""
    paper = {name: run.value(task, metric) for name, metric in (_WEIGHTED if weighted else MEASURES).items()}
    if not all(map(math.isnan, paper.values())):
        return paper
    own = {key: value for key, value in run.values(task).items() if not is_companion(key[0])}
    return {metric if variant == "none" else f"{metric},{variant}": value for (metric, variant), value in own.items()}


def _costs(run: Run, task: str) -> dict[str, float]:
    return {name: float(sum(pool[cost] for pool in run.pools(task))) for name, cost in _COSTS.items()}


def to_markdown(rows: Sequence[Row]) -> str:
    parts = [f"### {markdown_cell(table.title)}\n\n{table.to_markdown()}" for table in _tables(rows)]
    if any(row.weighted for row in rows):
        parts.append("systematic, none: c@max and PR are weighted (cons_w@max, pass_rate_w).\n")
    if several := [row.seeds for row in rows if len(row.seeds) > 1]:
        parts.append(f"Means over up to {max(map(len, several))} seeds.\n")
    if any(row.strategy == "eager" for row in rows):
        parts.append("EAGER (labels): right answers decided who got the saved budget, an upper bound.\n")
    return "\n".join(parts)


def to_csv(rows: Sequence[Row]) -> str:
    """One line a cell and task; a column that a task has not is empty there."""
    names = list(dict.fromkeys(name for row in rows for name in row.measures))
    options = ["task", "max_sequences", "strategy", "branching", "fan_out", "entropy_threshold", "temperature", "seed"]
    others = [name for name, _ in rows[0].others]
    lines = []
    for row in rows:
        branched = (None, None) if row.strategy == "parallel" else (row.branching, row.fan_out)
        given = [row.task, row.max_sequences, row.strategy, *branched, row.threshold, row.temperature]
        measures = [row.measures.get(name) for name in names]
        lines.append([*given, *(row.seeds or [None]), *(value for _, value in row.others), *measures])
    return Table([*options, *others, *names], lines).to_csv()


def to_latex(rows: Sequence[Row]) -> str:
    """One tabular a task and M, for a document with booktabs."""
    return "\n".join(table.to_latex() for table in _tables(rows))


def _tables(rows: Sequence[Row]) -> list[Table]:
    """One a task and M: a row a method, a column a temperature and measure."""
    tables = []
    for task, most in dict.fromkeys((row.task, row.max_sequences) for row in rows):
        own = [row for row in rows if (row.task, row.max_sequences) == (task, most)]
        temperatures = sorted({row.temperature for row in own})
        names = list(own[0].measures)
        lines = []
        for method in dict.fromkeys(row.method for row in own):
            found = {row.temperature: row.measures for row in own if row.method == method}
            lines.append([method, *(_text(name, found.get(t, {}).get(name)) for t in temperatures for name in names)])
        headings = ["method", *(f"T = {t:g} {name}" for t in temperatures for name in names)]
        tables.append(Table(headings, lines, title=f"{task}, M = {most}"))
    return tables


def _text(name: str, value: float | None) -> str:
    if value is None or math.isnan(value):
        return "–"
    return f"{value:,.0f}" if name in _COSTS else f"{value:.3f}"
