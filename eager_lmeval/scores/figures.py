"""From documents' values to a task's figures: which metrics there are, and how each is aggregated (SPEC 8)."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from eager_lmeval.scores.rules import Rules
from eager_lmeval.scores.stats import interval, mean, sampling_error, standard_error, total

__all__ = ["CLUSTER", "COSTS", "IF_RIGHT", "SAMPLING", "UNSCORED", "Metric", "figures", "metrics", "table_metrics"]

COSTS = ("tokens", "sequences", "branches")
"""Metrics that are amounts and no scores; their sums over the documents stand in a result beside their means."""

_IN_TABLE = ("pass@max", "cons_w@max", "pass_rate_w", "tokens", "sequences")
"""The scores to look at first and what they cost: what the harness's table shows, with pass@k up to `_MOST_ROWS`."""
_MOST_ROWS = 10

UNSCORED = "unscored"
"""Of a document 1 where its verifier came to no verdict, or cannot read its label."""
SAMPLING = "_stderr_sampling"
"""After a score's name: of a document its variance over draws, of a task the root of their sum over D."""
CLUSTER = "clusters"
"""Of a document the name of its cluster, where the rules name a column; of a task how many there are."""
IF_RIGHT = "_if_right"
"""After a score's name: what it would be were all answers right on which the verifier came to no verdict."""


class Metric(NamedTuple):
    """One line of a result: how the documents' values become it."""

    name: str
    aggregate: Callable[..., Any]
    """Of the values of the documents that have one; ``by_cluster``, of their clusters as well, where they have any."""
    higher_is_better: bool | None = None
    by_cluster: bool = False

    def of(self, documents: Sequence[Mapping[str, Any]]) -> Any:
        """What the documents come to, by what `score` gave of each."""
        having = [document for document in documents if self.name in document]
        values = [document[self.name] for document in having]
        if self.by_cluster and all(CLUSTER in document for document in having):
            return self.aggregate(values, clusters=[document[CLUSTER] for document in having])
        return self.aggregate(values)


def metrics(rules: Rules) -> dict[str, Metric]:
    """All metrics of a task by name.

    ``X_stderr`` and ``X_ci95`` belong to the score X and get the values of X: its error as a sample of documents.
    ``X_stderr_sampling`` gets each document's variance over draws: the error of these documents alone.
    """
    scores = ["pass@max", "cons@max", "pass_rate", "pass_rate_w", "cons_w@max"]
    counts = [Metric("scored", _count)]
    for k in rules.ks:
        scores += [f"pass@{k}", f"pass^{k}", f"cons@{k}"]
        counts += [Metric(f"scored@{k}", _count)]
    table = []
    for name in scores:
        table.append(Metric(name, mean, True))
        table.append(Metric(f"{name}_stderr", standard_error, by_cluster=True))  # the harness prints it beside X
        table.append(Metric(f"{name}_ci95", _interval, by_cluster=True))
        table.append(Metric(f"{name}_stderr_sampling", sampling_error))
    rates = ("tie_rate", "no_answer_rate", "truncation_rate", "timeout_rate", "failure_rate")
    table += counts
    table += [Metric(name, mean, False) for name in rates]
    table += [Metric(name, _amount, False if name == "tokens" else None) for name in COSTS]
    table += [Metric(f"mean_{name}", mean, False if name == "tokens" else None) for name in COSTS]
    table += [Metric(name, _common) for name in ("strategy", "max_sequences", "entropy_threshold", "temperature")]
    table += [Metric("settled", mean), Metric("cut_rate", mean), Metric("rounds", mean)]
    table += [Metric("unscored", _count, False), Metric(CLUSTER, _count_names)]
    table += [Metric("labels_used", max), Metric("verifier_note", _common_notes)]
    return {metric.name: metric for metric in table}


def table_metrics(values: Mapping[str, Any]) -> list[str]:
    """Those of a document's metrics that the harness's table shows, each score with its errors behind it.

    Over draws only where it is more than a bound.
    """
    at_k = [name for name in values if re.fullmatch(r"pass@\d+", name)]
    rows = [name for name in (*_IN_TABLE, *at_k) if name in values][:_MOST_ROWS]
    shown = [name for row in rows for name in (row, f"{row}_stderr", f"{row}_stderr_sampling") if name in values]
    return [name for name in shown if not (name.endswith("_sampling") and math.isnan(values[name]))]


def figures(documents: Sequence[Mapping[str, Any]], table: Mapping[str, Metric], name: str) -> dict[str, Any]:
    """What a task comes to: every metric that some document has, as the harness writes it under the filter ``name``.

    An error over draws that is not known is at most the error over documents, which draws are a part of: it is given
    that, and ``sampling_bounds`` names the scores for which this is so. Where there are answers without a verdict,
    ``X_bounds`` has the score X over all documents if all of those were wrong, and if all were right.
    """
    known = dict.fromkeys(metric for document in documents for metric in document if metric in table)
    made = {metric: table[metric].of(documents) for metric in known}
    scores = [metric for metric in known if f"{metric}_stderr_sampling" in table and f"{metric}_stderr" in known]
    bounded = [metric for metric in scores if math.isnan(made.get(f"{metric}_stderr_sampling", math.nan))]
    made |= {f"{metric}_stderr_sampling": made[f"{metric}_stderr"] for metric in bounded}
    if scores:
        made["sampling_bounds"] = bounded
    for metric in scores:
        if any(metric + IF_RIGHT in document for document in documents):
            values = [document[metric] for document in documents if metric in document]
            at_best = [
                document.get(metric + IF_RIGHT, document[metric]) for document in documents if metric in document
            ]
            made[f"{metric}_bounds"] = [mean([0.0 if math.isnan(value) else value for value in values]), mean(at_best)]
    return {f"{metric},{name}": value for metric, value in made.items()}


def _count(values: Sequence[float]) -> int:
    """How many documents were scored."""
    return int(sum(values))


def _count_names(names: Sequence[str]) -> int:
    """How many different ones there are."""
    return len(set(names))


def _amount(values: Sequence[float]) -> float:
    """A sum, which is whole where it is known."""
    value = total(values)
    return value if math.isnan(value) else int(value)


def _interval(values: Sequence[float], clusters: Sequence[str] | None = None) -> list[float]:
    """95% interval over documents like these; 4 digits."""
    return [round(bound, 4) for bound in interval(values, clusters=clusters)]


def _common(values: Sequence[Any]) -> Any:
    """What all documents have in common, or ``mixed``."""
    return values[0] if len({repr(value) for value in values}) == 1 else "mixed"


def _common_notes(values: Sequence[list[str] | None]) -> str:
    """What is noted of every document that has answers."""
    noted = [set(value) for value in values if value is not None]
    return "; ".join(sorted(set.intersection(*noted))) or "none" if noted else "none"
