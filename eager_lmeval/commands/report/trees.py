"""One document of a samples file as the page shows it: its tree without what the page can rebuild."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eager_lmeval.algorithm.tree import parent_path
from eager_lmeval.runs.documents import Document
from eager_lmeval.runs.run import ROUNDS
from eager_lmeval.verify import Graded

__all__ = ["Shown", "shown"]

_BEFORE, _AFTER = 64, 40
"""Characters shown before a fork, and of what each of its sides goes on with."""


@dataclass(frozen=True)
class Shown:
    """One document: what a list shows of it, and its tree for when it is opened."""

    doc_id: int
    doc_hash: str
    title: str
    search: str
    """What a search looks through: the question, the label and the answers."""
    max_sequences: int | None
    pool_key: tuple[Any, ...]
    """What tells the pools of a task apart."""
    num_sequences: int
    num_correct: int | None
    """None where the file has no label to grade with."""
    tokens: int | None
    tokens_independent: int | None
    """What its sequences would have cost had nothing been shared."""
    truncated: int
    branch_positions: list[int]
    packed: str | None
    """What the page draws of it (`packing`); None where nobody asked for that."""


def shown(document: Document, pack: Callable[[Mapping[str, Any]], str] | None) -> Shown:
    """A document with or without a tree."""
    record, label, graded = document.record, document.label, document.grades
    sequences: list[Mapping[str, Any]] = record["sequences"]
    known = [grade for grade in graded if grade is not None]
    answers = dict.fromkeys(grade.answer for grade in known if grade.answer is not None)
    prompt, question = document.sample.prompt, document.question
    lengths = [sequence.get("num_tokens") for sequence in sequences]
    return Shown(
        doc_id=document.doc_id,
        doc_hash=document.key.doc_hash,
        title=question.title,
        search="\n".join([prompt[question.start : question.end], label or "", *answers]).lower(),
        max_sequences=record.get("max_sequences"),
        pool_key=pool_key(record),
        num_sequences=len(sequences),
        num_correct=sum(grade.correct for grade in known) if known else None,
        tokens=record.get("tokens"),
        tokens_independent=None if None in lengths else sum(lengths),  # type: ignore[arg-type]  # no None is left
        truncated=sum(sequence.get("finish") == "length" for sequence in sequences),
        branch_positions=[sequence["branch_at"] for sequence in sequences if sequence.get("branch_at") is not None],
        packed=pack
        and pack(
            {
                "prompt": prompt,
                "question": [question.start, question.end],
                "label": label,
                "strategy": record.get("strategy"),
                "threshold": record.get("entropy_threshold"),
                "rounds": record.get("rounds"),
                "settled": record.get("settled"),
                "settledTime": record.get("settled_time"),
                "sequences": _shown(sequences, graded),
            }
        ),
    )


def pool_key(options: Mapping[str, Any]) -> tuple[Any, ...]:
    """Equal for a pool's options and for the records of its documents."""
    strategy = "consistency" if options.get("strategy") == ROUNDS else options.get("strategy")
    names = ("max_sequences", "entropy_threshold", "temperature", "seed")
    return strategy, *(options.get(name) for name in names)


def _shown(sequences: Sequence[Mapping[str, Any]], graded: Sequence[Graded | None]) -> list[dict[str, Any]]:
    """What the page needs of each; ``text`` begins at ``cut``, where it leaves the parent's text."""
    places = {tuple(sequence["path"]): place for place, sequence in enumerate(sequences)}
    shown = []
    for sequence, grade in zip(sequences, graded, strict=True):
        at = sequence.get("branch_at")
        place = None if at is None else places.get(parent_path(tuple(sequence["path"]), at))
        parent = None if place is None else sequences[place]
        cut = _common(sequence["text"], parent["text"]) if parent else 0
        shown.append(_one(sequence, cut) | {"parent": place, "fork": _fork(sequence, parent, cut) if parent else None})
        if grade:
            shown[-1] |= {"correct": grade.correct, "answer": grade.answer, "class": grade.answer_class}
    return shown


def _one(sequence: Mapping[str, Any], cut: int) -> dict[str, Any]:
    entropies = [round(100 * entropy) for entropy in sequence.get("entropies") or []]
    return {
        "path": sequence["path"],
        "cut": cut,
        "text": sequence["text"][cut:],
        "chars": sequence.get("token_chars"),
        "answerAt": sequence.get("answer_at"),
        "finish": sequence.get("finish"),
        "start": sequence.get("start"),
        "tokens": sequence.get("num_tokens"),
        "at": sequence.get("branch_at"),
        "weight": sequence.get("weight"),
        "copies": sequence.get("copies"),
        "meanEntropy": sequence.get("mean_entropy"),
        "entropies": entropies,
        "bin": 1,
    }


def _fork(sequence: Mapping[str, Any], parent: Mapping[str, Any], cut: int) -> dict[str, Any]:
    """A fork in words: what stood before it, and on either side the token and what came after it.

    Without the record's ``token_chars`` the sides begin where the texts differ, which may be inside of the token.
    """
    at = sequence["branch_at"]
    took, went_on = _span(sequence, at), _span(parent, at)
    logprob = sequence.get("branch_logprob")
    return {
        "entropy": sequence.get("branch_entropy"),
        "p": None if logprob is None else round(math.exp(min(0.0, logprob)), 6),
        "before": sequence["text"][max(0, (took[0] if took else cut) - _BEFORE) : took[0] if took else cut],
        "took": _side(sequence["text"], took or (cut, cut)),
        "wentOn": _side(parent["text"], went_on or (cut, cut)),
    }


def _side(text: str, token: tuple[int, int]) -> list[str]:
    start, end = token
    return [text[start:end], text[end : end + _AFTER]]


def _span(sequence: Mapping[str, Any], at: int) -> tuple[int, int] | None:
    """Where in its text a sequence's token ``at`` stands, its own; None where the record does not say."""
    lengths, place = sequence.get("token_chars"), at - (sequence.get("branch_at") or 0)
    if lengths is None or not 0 <= place < len(lengths):
        return None
    start = len(sequence["text"]) - sum(lengths[place:])
    return start, start + lengths[place]


def _common(text: str, other: str) -> int:
    """Length of the common prefix, by halving: both texts may be long and mostly equal."""
    low, high = 0, min(len(text), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if text.startswith(other[low:middle], low) else (low, middle - 1)
    return low
