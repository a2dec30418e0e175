"""Votes of a prompt's sequences: the response they choose (SPEC 7), when they are settled. Sees no label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eager_lmeval.algorithm.lanes import Classify
from eager_lmeval.algorithm.options import Options
from eager_lmeval.algorithm.tree import Tree
from eager_lmeval.errors import UsageError
from eager_lmeval.verify import Verifier, get_verifier
from eager_lmeval.verify.vote import leaders

__all__ = ["elect", "get_classify", "get_voter"]


def get_voter(task: str, options: Options) -> Verifier | None:
    """The verifier that says which answers are equal; None where nothing is voted on. UsageError if it cannot."""
    return _without_label(task, options, "respond=vote") if options.respond == "vote" else None


def get_classify(task: str, options: Options) -> Classify | None:
    """Which answers are equal, for a race. UsageError if that cannot be told."""
    if options.strategy != "consistency":
        return None
    verifier = _without_label(task, options, "strategy=consistency")

    def classify(answers: Sequence[str | None]) -> list[int | None]:
        return [graded.answer_class for graded in verifier.grade(answers, None)]

    return classify


def _without_label(task: str, options: Options, asking: str) -> Verifier:
    if options.verifier is None:
        raise UsageError(
            f"task {task!r}: {asking} needs a verifier to tell which answers are equal; give verifier=math, choice or "
            f"exact"
        )
    verifier = get_verifier(options.verifier)
    try:
        verifier.grade([], None)
    except Exception as error:  # another package's verifier may know of no grading without a label
        raise UsageError(
            f"task {task!r}: {asking} cannot be had with verifier={options.verifier} ({error}); give verifier=math, "
            f"choice or exact"
        ) from error
    return verifier


def elect(tree: Tree, record: Mapping[str, Any], verifier: Verifier) -> int | None:
    """The place of the first sequence of the class with the most weight, the earliest such class where several tie.

    ``record`` is that of the tree, whose weights are those of the scores. None where no sequence has an answer; one
    that was cut off while it thought has none.
    """
    graded = verifier.grade([sequence.answer for sequence in tree.sequences], None)
    classes = [grade.answer_class for grade in graded]
    winners = leaders(classes, [sequence["weight"] for sequence in record["sequences"]])
    return classes.index(winners[0]) if winners else None
