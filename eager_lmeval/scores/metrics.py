"""Estimators over one document's sequences (SPEC 8). Undefined is NaN, never 0."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Literal, NamedTuple

from eager_lmeval.verify.vote import leaders

__all__ = [
    "Tie",
    "Vote",
    "consensus",
    "consensus_at_k",
    "is_tied",
    "pass_at_k",
    "pass_at_max",
    "pass_hat_k",
    "pass_rate",
    "share",
]

Tie = Literal["mean", "first"]


class Vote(NamedTuple):
    """One sequence's vote."""

    answer: Hashable | None
    """Its answer's equivalence class; None for a sequence without an answer, which does not vote."""
    correct: bool
    weight: float = 1.0
    """1 counts every sequence the same; path weights (SPEC 6) estimate what independent sampling would give."""


def pass_at_max(votes: Sequence[Vote]) -> float:
    """1 if any sequence is correct; NaN without sequences."""
    return float(any(vote.correct for vote in votes)) if votes else math.nan


def pass_rate(votes: Sequence[Vote]) -> float:
    """Share of correct sequences by weight; NaN without sequences."""
    total = sum(vote.weight for vote in votes)
    return sum(vote.weight for vote in votes if vote.correct) / total if total else math.nan


def pass_at_k(n: int, c: int, k: int) -> float:
    """Unbiased chance that k of n independent samples, c of them correct, hold a correct one; NaN if n < k.

    Chen et al., arXiv 2107.03374. The leaves of a tree are not independent draws.
    """
    if not 0 <= c <= n or k < 1:
        raise ValueError(f"pass@k needs 0 <= c <= n and k >= 1, not n={n}, c={c}, k={k}")
    return math.nan if n < k else 1.0 - math.comb(n - c, k) / math.comb(n, k)


def pass_hat_k(n: int, c: int, k: int) -> float:
    """Unbiased chance that all of k independent samples are correct, of n with c correct ones; NaN if n < k.

    Yao et al., "tau-bench", arXiv 2406.12045: how reliable a model is, where pass@k is how capable.
    """
    if not 0 <= c <= n or k < 1:
        raise ValueError(f"pass^k needs 0 <= c <= n and k >= 1, not n={n}, c={c}, k={k}")
    return math.nan if n < k else math.comb(c, k) / math.comb(n, k)


def consensus(votes: Sequence[Vote], tie: Tie = "mean") -> float:
    """Whether the class with the most weight is correct; 0 without votes.

    Tied classes score the share of them that is correct (``mean``), or as the earliest one does (``first``).
    """
    winners = _winners(votes)
    if not winners:
        return 0.0
    return float(winners[0]) if tie == "first" else sum(winners) / len(winners)


def consensus_at_k(votes: Sequence[Vote], k: int, tie: Tie = "mean") -> float:
    """The consensus of the first ``k`` sequences in order of creation; NaN where there are fewer."""
    return consensus(votes[:k], tie) if len(votes) >= k else math.nan


def is_tied(votes: Sequence[Vote]) -> bool:
    """Whether more than one class has the most weight."""
    return len(_winners(votes)) > 1


def share(flags: Sequence[bool]) -> float:
    """Share of the flags that are set; NaN without any."""
    return sum(flags) / len(flags) if flags else math.nan


def _winners(votes: Sequence[Vote]) -> list[bool]:
    """Of each class with the most weight, in order of first appearance, whether it is correct; none if all weigh 0."""
    correct = {vote.answer: vote.correct for vote in reversed(votes)}
    return [correct[answer] for answer in leaders([vote.answer for vote in votes], [vote.weight for vote in votes])]
