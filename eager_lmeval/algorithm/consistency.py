"""When a vote is settled (SPEC 5): Adaptive-Consistency's rule (Aggarwal et al. 2023, arXiv 2305.11860) on trees.

Sees which answers are equal and what they weigh. Knows no label, no document and no prompt: what is right cannot be
asked for here.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from collections.abc import Sequence as Seq

from scipy.special import betainc

from eager_lmeval.algorithm.tree import Tree

__all__ = ["Classify", "agreement", "leader_probability"]

Classify = Callable[[Seq[str | None]], Seq[int | None]]
"""Numbers the classes of equal answers among some texts; None is a text without an answer, or no text at all."""


def leader_probability(classes: Seq[int | None], weights: Seq[float]) -> float:
    """The posterior probability that the leading class is the mode of the model's answers, 0.5 where nothing voted.

    I_{1/2}(n·w₂ + 1, n·w₁ + 1) for n sequences, w₁ and w₂ being the ``weights`` of the two leading classes; the weights
    of all sequences sum to 1. What has the class None does not vote.
    """
    totals: dict[int, float] = {}
    for number, weight in zip(classes, weights, strict=True):
        if number is not None:
            totals[number] = totals.get(number, 0.0) + weight
    first, second = heapq.nlargest(2, [*totals.values(), 0.0, 0.0])
    n = len(classes)
    return float(betainc(n * second + 1, n * first + 1, 0.5))


def agreement(tree: Tree, classify: Classify) -> float:
    """`leader_probability` of a tree's vote so far."""
    return leader_probability(classify([sequence.answer for sequence in tree.sequences]), tree.weights())
