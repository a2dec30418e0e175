"""A scorer of the harness from 0.5 on, for documents with many values each of which has an aggregate of its own.

Imported only where the harness has scorers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lm_eval.scorers import GenScorer, ScoredDoc

__all__ = ["TableScorer"]


@dataclass(kw_only=True)
class TableScorer(GenScorer):
    """Keeps each document's values as they are, and aggregates each by the function that stands for its name.

    The harness's own would estimate standard errors by resampling 100,000 times whatever is not its `mean`, texts and
    intervals included. Here a metric ``X_stderr`` is the error of X, as in the harness without scorers.
    """

    def set_values(self, by_document: Mapping[int, Mapping[str, Any]]) -> None:
        """Takes the values of documents, by their numbers."""
        self.set_results({doc_id: ScoredDoc(doc_id, "", values) for doc_id, values in by_document.items()})

    def reduce(self, scored_docs: Mapping[int, ScoredDoc]) -> dict[int, Mapping[str, Any]]:
        return {doc_id: scored.scores for doc_id, scored in scored_docs.items()}

    def aggregate(
        self,
        reduced_docs: Mapping[int, Mapping[str, Any]],
        bootstrap_iters: int | None = None,
        aggregation_overrides: Mapping[str, Callable[[Sequence[Any]], Any]] | None = None,
    ) -> tuple[dict[str, Any], int]:
        """All aggregates by ``metric,name``, in the order of the documents' values, and how many documents there are.

        ``aggregation_overrides`` has a function for every name; without it, the metrics' own count.
        """
        functions = aggregation_overrides or {metric.name: metric.aggregation for metric in self.metrics or []}
        columns: dict[str, list[Any]] = {}
        for _, values in sorted(reduced_docs.items()):
            for name, value in values.items():
                columns.setdefault(name, []).append(value)
        aggregates: dict[str, Any] = {}
        for name, column in columns.items():
            aggregates[f"{name},{self.name}"] = functions[name](column)
            aggregates[f"{name}_stderr,{self.name}"] = "N/A"
        return aggregates, len(reduced_docs)

    @property
    def raw_docs(self) -> Mapping[int, ScoredDoc]:
        """None: there is one value a document, whatever its task's ``repeats``."""
        return {}
