"""The verdicts on a document's sequences, which no samples file holds: made again where that runs nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eager_lmeval.errors import UsageError
from eager_lmeval.runs.samples import Sample
from eager_lmeval.scores.replay import Recorded
from eager_lmeval.scores.scoring import Rules, answer_text
from eager_lmeval.verify import Graded, get_verifier

__all__ = ["graded_again", "recorded"]

_GRADED_AGAIN = frozenset({"math", "choice", "exact"})
"""Verifiers that only read a text. Others may run what a model wrote, which nobody asks for who reads a run's files."""


def graded_again(column: Mapping[str, Any], record: Mapping[str, Any]) -> tuple[str | None, list[Graded | None]]:
    """The label and each sequence's verdict, by the rules that the run was scored with; None where the document names
    no verifier that may be asked again."""
    sequences = record["sequences"]
    ungraded: list[Graded | None] = [None] * len(sequences)
    if column.get("label") is None:
        return None, ungraded
    label = str(column["label"])
    if not isinstance(column.get("verifier"), str) or column["verifier"] not in _GRADED_AGAIN:
        return label, ungraded
    try:
        rules = Rules.read(record.get("scoring", {}))
        answers = [answer_text(sequence, rules) for sequence in sequences]
        return label, list(get_verifier(column["verifier"]).grade(answers, label))
    except UsageError:
        return label, ungraded


def recorded(sample: Sample) -> list[Recorded]:
    """The answers of a document that was sampled independently. UsageError where they were not, or are not graded."""
    tree = sample.tree
    if tree is None or tree.get("strategy") != "parallel":
        raise UsageError(f"{sample.where}: answers to race again are those of a run with strategy=parallel")
    _, grades = graded_again(sample.column, tree)
    answers = []
    for sequence, grade in zip(tree["sequences"], grades, strict=True):
        if grade is None:
            raise UsageError(f"{sample.where}: its answers cannot be graded, which a race of them needs")
        answers.append(Recorded(grade.answer_class, grade.correct, sequence.get("num_tokens") or 0))
    return answers
