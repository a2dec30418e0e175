"""Runs as figures and documents: everything that the page and the Markdown say."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from eager_lmeval.commands.report.trees import Shown, pool_key, shown
from eager_lmeval.errors import UsageError
from eager_lmeval.runs.documents import documents as documents_of
from eager_lmeval.runs.run import Run, find_runs
from eager_lmeval.scores.figures import COSTS, UNSCORED
from eager_lmeval.scores.stats import half_width, interval, known, mean, standard_error, total

__all__ = ["Estimate", "Flags", "Listed", "Scored", "estimated", "on_shared_documents", "read_runs"]


Pack = Callable[[Mapping[str, Any]], str]


class Estimate(NamedTuple):
    """A mean over the documents with its 95% intervals."""

    mean: float
    low: float
    high: float
    defined: int
    sampling: float = math.nan
    """Half of the interval of these documents alone."""
    sampling_is_bound: bool = True
    """Whether that is only a bound (`scores.stats.half_width`)."""
    bounds: tuple[float, float] | None = None
    """The mean if all answers without a verdict were wrong, and if all were right; None where there are none."""


class Flags(NamedTuple):
    """What the page filters by."""

    failing: bool
    saturated: bool
    truncated: bool
    granted: bool


class Listed(NamedTuple):
    """A document and what its run says of it."""

    document: Shown
    flags: Flags
    grant: int
    key: str
    """Equal for the same document of another run."""
    value: float
    """Of the run's headline metric."""


@dataclass(frozen=True)
class Scored:
    """One task of one run."""

    run: Run
    task: str
    metrics: dict[str, Estimate]
    totals: dict[str, float]
    documents: list[Listed]

    @property
    def pools(self) -> list[Mapping[str, Any]]:
        return self.run.pools(self.task)

    @property
    def labels_used(self) -> bool:
        return any(pool.get("labels_used") for pool in self.pools)

    @property
    def seconds(self) -> float | None:
        return sum(pool["seconds"] for pool in self.pools) if self.pools else None

    @property
    def device_seconds(self) -> float:
        return self.run.device_seconds(self.task)

    def option(self, name: str) -> str:
        """An option's value; several pools may have several, and θ means nothing where nothing branches."""
        if name == "entropy_threshold" and self.option("strategy") == "parallel":
            return "–"
        values = list(dict.fromkeys(str(pool["options"].get(name)) for pool in self.pools))
        return ", ".join(values) if values else "–"

    @property
    def branchings(self) -> list[str]:
        """How its pools branched; `parallel` does not, nor does a race."""
        pools = (pool["options"] for pool in self.pools)
        named = [got.get("branching", "top2") for got in pools if got.get("strategy") != "parallel"]
        return list(dict.fromkeys(name for name in named if name != "none"))

    @property
    def method(self) -> str:
        """``init systematic``; ``parallel``."""
        return " ".join(filter(None, [self.option("strategy"), ", ".join(self.branchings)]))

    @property
    def tokens_independent(self) -> int | None:
        """Tokens of all its sequences had nothing been shared; None where a document does not say."""
        counted = [listed.document.tokens_independent for listed in self.documents]
        return None if None in counted else sum(count or 0 for count in counted)

    @property
    def headline(self) -> str | None:
        """The metric of the trade-off plot, and of what a second run fixed or broke."""
        return _headline(self.metrics)

    def higher_is_better(self) -> bool:
        """Whether that is so of the headline metric; it is where the results do not say."""
        better = (self.run.results.get("higher_is_better") or {}).get(self.task) or {}
        return better.get(self.headline) is not False


def on_shared_documents(entries: Sequence[Scored]) -> tuple[list[list[Listed]], bool]:
    """Each run's documents that all runs have, or all of its own where they share none; and whether any was left out.

    Runs of different documents say nothing of each other unless they are looked at where they overlap.
    """
    keys = [{listed.key for listed in entry.documents} for entry in entries]
    shared = set.intersection(*keys)
    kept = [[listed for listed in entry.documents if not shared or listed.key in shared] for entry in entries]
    return kept, any(own != shared for own in keys)


def _headline(metrics: Iterable[str]) -> str | None:
    names = list(metrics)
    return "pass@max" if "pass@max" in names else next(iter(names), None)


def read_runs(paths: Sequence[Path], pack: Pack | None = None) -> list[Scored]:
    """Every task of every run at the paths, in the order given; UsageError where one cannot be read.

    ``pack`` is given what a page draws of each document, in the order of the files, and returns what is kept of it.
    """
    scored = [_score(run, task, pack) for run in find_runs(*paths) for task in run.tasks]
    if not scored:
        raise UsageError(f"{', '.join(map(str, paths))}: the runs scored no task")
    return scored


def _score(run: Run, task: str, pack: Pack | None) -> Scored:
    columns: dict[str, list[float]] = {}
    spreads: dict[str, list[float]] = {}
    doubts: dict[str, list[tuple[float, float]]] = {}
    documents: list[Shown] = []
    failed: list[bool] = []
    values: list[Mapping[str, float]] = []
    first_filter: str | None = None
    for read in documents_of(run, task):
        name_of_filter = read.filter
        first_filter = name_of_filter if first_filter is None else first_filter
        several = name_of_filter != first_filter
        for name, value in read.metrics.items():
            shown_name = f"{name},{name_of_filter}" if several else name
            columns.setdefault(shown_name, []).append(value)
            spreads.setdefault(shown_name, []).append(read.spreads.get(name, math.nan))
            doubts.setdefault(shown_name, []).append(read.doubts.get(name, (value, value)))
        if not several:
            documents.append(shown(read, pack))
            failed.append(_failed(documents[-1], read.metrics))
            values.append(read.metrics)
    totals = {name: total(columns.pop(name)) for name in (*COSTS, UNSCORED) if name in columns}
    headline = _headline(columns)
    order = sorted(range(len(documents)), key=lambda place: documents[place].doc_id)
    grants = _grants(run.pools(task), [documents[place] for place in order])
    listed = [
        Listed(
            documents[place],
            _flags(documents[place], grant, failed[place]),
            grant,
            key,
            values[place].get(headline or "", math.nan),
        )
        for place, grant, key in zip(order, grants, _keys([documents[place] for place in order]), strict=True)
    ]
    metrics = {name: estimated(column, spreads[name], doubts[name]) for name, column in columns.items()}
    return Scored(run, task, metrics, totals, listed)


def _keys(documents: Sequence[Shown]) -> list[str]:
    """Hashes, with a number behind those of equal documents."""
    copies: Counter[str] = Counter()
    keys = []
    for document in documents:
        copies[document.doc_hash] += 1
        keys.append(f"{document.doc_hash[:16]}-{copies[document.doc_hash]}")
    return keys


def _failed(document: Shown, metrics: Mapping[str, float]) -> bool:
    """No correct sequence; where nothing could be graded, 0 in the first metric."""
    if document.num_correct is not None:
        return document.num_correct == 0
    return next(iter(metrics.values()), math.nan) == 0


def _flags(document: Shown, grant: int, failing: bool) -> Flags:
    most = document.max_sequences
    branching = document.pool_key[0] != "parallel"
    saturated = bool(most) and branching and document.num_sequences - grant >= (most or 0)
    return Flags(failing, saturated, document.truncated > 0, grant > 0)


def _grants(pools: Sequence[Mapping[str, Any]], documents: Sequence[Shown]) -> list[int]:
    """Each document's granted sequences: the ledger counts a pool's prompts in the dataset's order."""
    ledgers = {pool_key(pool["options"]): pool["ledger"].get("grants") or {} for pool in pools}
    counted: dict[tuple[Any, ...], int] = {}
    grants = []
    for document in documents:
        place = counted.get(document.pool_key, 0)
        counted[document.pool_key] = place + 1
        grants.append(int(ledgers.get(document.pool_key, {}).get(str(place), 0)))
    return grants


def estimated(
    values: Sequence[float], spreads: Sequence[float] = (), doubts: Sequence[tuple[float, float]] = ()
) -> Estimate:
    """The mean of what is defined, with its intervals; ``spreads`` are variances over draws, ``doubts`` what a document
    is at worst and at best."""
    kept = [spread for value, spread in zip(values, spreads, strict=False) if not math.isnan(value)]
    bounds = (mean([worst for worst, _ in doubts]), mean([best for _, best in doubts]))
    return Estimate(
        mean(values),
        *interval(values),
        len(known(values)),
        *half_width(standard_error(values), kept),
        bounds if bounds[0] < bounds[1] else None,
    )
