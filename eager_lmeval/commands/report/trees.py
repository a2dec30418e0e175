"""One document of a samples file as the page shows it: its tree without what the page can rebuild."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eager_lmeval.algorithm.tree import parent_path
from eager_lmeval.errors import UsageError
from eager_lmeval.scores.samples import Sample
from eager_lmeval.scores.scoring import Rules, answer_text
from eager_lmeval.verify import Graded, get_verifier

__all__ = ["Document", "read_document"]

_GRADED_AGAIN = frozenset({"math", "choice", "exact"})
"""Verifiers that only read a text. Others may run what a model wrote, which nobody asks for who opens a report."""
_BINS = 96
"""Points of a sequence's entropy curve; a bin shows its highest entropy."""


@dataclass(frozen=True)
class Document:
    """One document: what a list shows of it, and its tree for when it is opened."""

    doc_id: int
    question: str
    label: str | None
    max_sequences: int | None
    pool_key: tuple[Any, ...]
    """What tells the pools of a task apart."""
    sequences: list[dict[str, Any]]
    num_sequences: int
    num_correct: int | None
    """None where the file has no label to grade with."""
    tokens: int | None
    truncated: int
    answers: list[str]
    branch_positions: list[int]


def read_document(sample: Sample) -> Document:
    """A sample with or without a tree; without one its responses stand as sequences of unknown cost."""
    record: Mapping[str, Any] = sample.tree or _plain(sample.logged)
    sequences: list[Mapping[str, Any]] = record["sequences"]
    label, graded = _grade(sample.column, record)
    places = {tuple(sequence["path"]): place for place, sequence in enumerate(sequences)}
    shown = []
    for sequence, grade in zip(sequences, graded, strict=True):
        at = sequence.get("branch_at")
        parent = None if at is None else places.get(parent_path(tuple(sequence["path"]), at))
        shown.append(_shown(sequence, None if parent is None else sequences[parent], parent, grade))
    known = [grade for grade in graded if grade is not None]
    return Document(
        doc_id=sample.logged["doc_id"],
        question=_question(sample.logged),
        label=label,
        max_sequences=record.get("max_sequences"),
        pool_key=pool_key(record),
        sequences=shown,
        num_sequences=len(sequences),
        num_correct=sum(grade.correct for grade in known) if known else None,
        tokens=record.get("tokens"),
        truncated=sum(sequence.get("finish") == "length" for sequence in sequences),
        answers=list(dict.fromkeys(grade.answer for grade in known if grade.answer is not None)),
        branch_positions=[sequence["branch_at"] for sequence in sequences if sequence.get("branch_at") is not None],
    )


def pool_key(options: Mapping[str, Any]) -> tuple[Any, ...]:
    """Equal for a pool's options and for the records of its documents."""
    return tuple(
        options.get(name) for name in ("strategy", "max_sequences", "entropy_threshold", "temperature", "seed")
    )


def _grade(column: Mapping[str, Any], record: Mapping[str, Any]) -> tuple[str | None, list[Graded | None]]:
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


def _shown(
    sequence: Mapping[str, Any], parent: Mapping[str, Any] | None, parent_place: int | None, grade: Graded | None
) -> dict[str, Any]:
    """What the page needs; ``text`` begins at ``cut``, where it leaves the parent's text."""
    text: str = sequence["text"]
    cut = _common(text, parent["text"]) if parent else 0
    shown = {
        "path": sequence["path"],
        "parent": parent_place,
        "cut": cut,
        "text": text[cut:],
        "answerAt": sequence.get("answer_at"),
        "finish": sequence.get("finish"),
        "tokens": sequence.get("num_tokens"),
        "at": sequence.get("branch_at"),
        "entropy": sequence.get("branch_entropy"),
        "weight": sequence.get("weight"),
        "meanEntropy": sequence.get("mean_entropy"),
        "curve": _curve(sequence.get("entropies") or []),
    }
    if parent and sequence.get("branch_at") is not None:
        own_from = parent.get("branch_at") or 0
        shown["taken"] = _token(sequence, 0)
        shown["notTaken"] = _token(parent, sequence["branch_at"] - own_from)
    if grade:
        shown |= {"correct": grade.correct, "answer": grade.answer, "class": grade.answer_class}
    return shown


def _token(sequence: Mapping[str, Any], place: int) -> int | None:
    ids = sequence.get("token_ids") or []
    return ids[place] if 0 <= place < len(ids) else None


def _common(text: str, other: str) -> int:
    """Length of the common prefix, by halving: both texts may be long and mostly equal."""
    low, high = 0, min(len(text), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if text.startswith(other[low:middle], low) else (low, middle - 1)
    return low


def _curve(entropies: Sequence[float]) -> list[int]:
    """Hundredths of a nat, at most ``_BINS`` of them."""
    size = -(-len(entropies) // _BINS) or 1
    return [round(100 * max(entropies[start : start + size])) for start in range(0, len(entropies), size)]


def _question(sample: Mapping[str, Any]) -> str:
    """The prompt as the model saw it."""
    arguments = sample.get("arguments")
    if isinstance(arguments, Mapping):
        arguments = [list(request.values()) for request in arguments.values() if isinstance(request, Mapping)]
    try:
        prompt = arguments[0][0]  # type: ignore[index]  # a list of requests, or nothing of the kind
    except (IndexError, KeyError, TypeError):
        prompt = ""
    return prompt if isinstance(prompt, str) else str(prompt)


def _plain(sample: Mapping[str, Any]) -> dict[str, Any]:
    """The responses of a task that leaves no tree."""
    responses = (sample.get("resps") or [[]])[0]
    texts = [str(text) for text in (responses if isinstance(responses, list) else [responses])]
    return {"sequences": [{"path": [place], "text": text, "answer_at": 0} for place, text in enumerate(texts)]}
