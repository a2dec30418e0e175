"""A run's documents, one after the other: each with its tree, its grades, its question and its metrics, in one pass."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from eager_lmeval.errors import UsageError
from eager_lmeval.pools.marks import own_filter
from eager_lmeval.runs.question import Question, find_question
from eager_lmeval.runs.run import UNGRADED, Run, iter_samples, sample_metrics
from eager_lmeval.runs.samples import LoggedTree, Sample
from eager_lmeval.scores.figures import IF_RIGHT, SAMPLING
from eager_lmeval.scores.rules import Rules
from eager_lmeval.scores.scoring import answer_text
from eager_lmeval.verify import Graded, get_verifier

__all__ = ["Columns", "Document", "Key", "columns", "documents"]

_GRADED_AGAIN = frozenset({"math", "choice", "exact"})
"""Verifiers that only read a text. Others may run what a model wrote, which nobody asks for who reads a run's files."""
_DIGEST = 12
"""Characters of a digest that are kept: two of a million are alike once in 500 times."""


_Table = dict[str, dict[str, dict["Key", Any]]]
"""By filter, metric and document."""


class Key(NamedTuple):
    """A document: its hash, and which of several equal ones it is."""

    doc_hash: str
    copy: int

    def __str__(self) -> str:
        return self.doc_hash + (f"+{self.copy}" if self.copy else "")


@dataclass(frozen=True)
class Document:
    """One document under one filter. What takes time is made when it is asked for, and kept."""

    sample: Sample
    key: Key

    @property
    def doc_id(self) -> int:
        return self.sample.logged["doc_id"]

    @property
    def filter(self) -> str:
        return self.sample.logged["filter"]

    @property
    def tree(self) -> LoggedTree | None:
        return self.sample.tree

    @cached_property
    def record(self) -> Mapping[str, Any]:
        """Its tree; without one its responses, as sequences of unknown cost."""
        return self.tree or {
            "sequences": [
                {"path": [place], "text": text, "answer_at": 0} for place, text in enumerate(self.sample.responses)
            ]
        }

    @cached_property
    def metrics(self) -> dict[str, float]:
        return sample_metrics(self.sample)

    @property
    def spreads(self) -> dict[str, float]:
        """Of its scores their variance over draws; NaN where one draw of the document does not tell."""
        return sample_metrics(self.sample, SAMPLING)

    @property
    def doubts(self) -> dict[str, tuple[float, float]]:
        """Of scores that hang on answers without a verdict: what they are if all of those are wrong, and if all are
        right."""
        at_best = sample_metrics(self.sample, IF_RIGHT)
        values = {name: self.metrics.get(name, math.nan) for name in at_best}
        return {
            name: (0.0 if math.isnan(value) else value, at_best[name])
            for name, value in values.items()
            if value != at_best[name]
        }

    @property
    def label(self) -> str | None:
        label = self.sample.column.get("label")
        return None if label is None else str(label)

    @cached_property
    def grades(self) -> list[Graded | None]:
        """Each sequence's verdict, which no samples file holds: made again by the rules that the run was scored with.

        None where the document names no verifier that may be asked again.
        """
        sequences = self.record["sequences"]
        verifier = self.sample.column.get("verifier")
        if self.label is not None and isinstance(verifier, str) and verifier in _GRADED_AGAIN:
            try:
                rules = Rules.read(self.record.get("scoring", {}))
                return list(get_verifier(verifier).grade([answer_text(one, rules) for one in sequences], self.label))
            except UsageError:
                pass
        return [None] * len(sequences)

    @cached_property
    def question(self) -> Question:
        return find_question(self.sample.prompt, self.sample.logged["doc"])


class Columns(NamedTuple):
    """One task of one run, document by document."""

    values: Mapping[str, Mapping[Key, float]]
    """By metric; undefined is NaN."""
    ids: Mapping[Key, int]
    """Each document's ``doc_id``."""
    prompts: Mapping[Key, str]
    """The harness's hashes of the prompts; empty where they are not at hand."""
    prompts_digest: str
    """Of all of them, whatever their order; empty where the harness logged none."""
    spreads: Mapping[str, Mapping[Key, float]] = {}
    """By metric; `Document.spreads`."""
    doubts: Mapping[str, Mapping[Key, tuple[float, float]]] = {}
    """By metric, of the documents that have any; `Document.doubts`."""


def documents(run: Run, task: str) -> Iterator[Document]:
    """A task's documents in the order of its samples; UsageError as for `read_samples`."""
    copies: Counter[tuple[str, str]] = Counter()
    for sample in iter_samples(run, task):
        name, doc_hash = own_filter(sample.logged["filter"]), sample.logged["doc_hash"]
        yield Document(sample, Key(doc_hash, copies[name, doc_hash]))
        copies[name, doc_hash] += 1


def columns(run: Run, task: str) -> Columns:
    """A task's metrics; of several filters they get their names. UsageError as for `documents`, and of ungraded runs.

    A run that was made with labels has the same metrics as one that was not; the comparison says elsewhere which was.
    """
    tables: tuple[_Table, ...] = ({}, {}, {})
    """Values, spreads and doubts, each by filter and metric."""
    ids: dict[Key, int] = {}
    prompts: dict[Key, str] = {}
    for document in documents(run, task):
        if UNGRADED in document.sample.logged["metrics"]:
            raise UsageError(
                f"{run.samples_file(task)} is of a run with --predict_only, which graded nothing; grade it with "
                f"eager-lmeval rescore, if it is of a task with trees"
            )
        ids[document.key] = document.doc_id
        prompt = {**document.sample.logged}.get("prompt_hash")
        if isinstance(prompt, str):
            prompts[document.key] = prompt
        rows: tuple[Mapping[str, Any], ...] = (document.metrics, document.spreads, document.doubts)
        for table, found in zip(tables, rows, strict=True):
            of_filter = table.setdefault(own_filter(document.filter), {})
            for metric, value in found.items():
                of_filter.setdefault(metric, {})[document.key] = value
    hashes = sorted({(key.doc_hash, prompt) for key, prompt in prompts.items()})
    digest = hashlib.sha256(repr(hashes).encode()).hexdigest()[:_DIGEST] if prompts.keys() == ids.keys() else ""
    values, spreads, doubts = (_by_metric(table) for table in tables)
    return Columns(values, ids, prompts, digest, spreads, doubts)


def _by_metric(by_filter: _Table) -> dict[str, dict[Key, Any]]:
    """Of several filters the metrics get their names."""
    if len(by_filter) == 1:
        return next(iter(by_filter.values()))
    return {f"{metric},{name}": values for name, table in by_filter.items() for metric, values in table.items()}
