"""How much a document's score would vary if the same document were sampled again: its variance over draws.

The other reading of an error bar (NIST AI 800-3): of these documents, not of documents like these. Everything here is
of n independent draws, c of them correct. Sequences of a tree are none, and their score's variance cannot be told from
one tree; nor can that of pass@max, which hangs on answers that were not drawn.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np

from eager_lmeval.scores.metrics import Tie, Vote
from eager_lmeval.scores.stats import SEED

__all__ = ["consensus_variance", "pass_at_k_variance", "pass_hat_k_variance"]

_RESAMPLES = 400


def pass_at_k_variance(n: int, c: int, k: int) -> float:
    """Unbiased, of `metrics.pass_at_k`; at k = 1 it is p̂(1 − p̂) / (n − 1). NaN if n < 2k.

    With q_j the chance that j of the draws are all wrong, the estimate is q_k² − q_2k: q_2k is that of two disjoint
    choices of k (Hoeffding 1948, of U-statistics). Below 0 where wrong draws are few, as an unbiased estimate may be.
    """
    return _variance(n, n - c, k)


def pass_hat_k_variance(n: int, c: int, k: int) -> float:
    """Unbiased, of `metrics.pass_hat_k`; NaN if n < 2k."""
    return _variance(n, c, k)


def consensus_variance(votes: Sequence[Vote], size: int, tie: Tie = "mean", seed: int = SEED) -> float:
    """Of the vote of ``size`` draws like these, every one counted alike; NaN for fewer than two draws.

    A bootstrap over the draws, enlarged by n / (n − 1), by which a bootstrap's variance is too small.
    """
    n = len(votes)
    if n < 2:
        return math.nan
    right: dict[Hashable, bool] = {vote.answer: vote.correct for vote in votes if vote.answer is not None}
    if len(right) < 2 and all(vote.answer is not None for vote in votes):
        return 0.0
    counts = np.array([sum(vote.answer == answer for vote in votes) for answer in right])
    silent = n - counts.sum()
    drawn = np.random.default_rng(seed).multinomial(size, [*(counts / n), silent / n], size=_RESAMPLES)[:, :-1]
    most = drawn.max(axis=1, keepdims=True, initial=0)
    winners = (drawn == most) & (most > 0)  # (resamples, classes), in order of first appearance
    correct = np.array(list(right.values()), dtype=bool)
    if tie == "first":
        scores = (correct[winners.argmax(axis=1)] & winners.any(axis=1)).astype(float) if len(correct) else np.zeros(1)
    else:
        scores = (winners & correct).sum(axis=1) / np.maximum(winners.sum(axis=1), 1)
    return float(scores.var() * n / (n - 1))


def _variance(n: int, chosen: int, k: int) -> float:
    """q_k² − q_2k, where q_j is the chance that j of n draws are all among the ``chosen``."""
    if n < 2 * k:
        return math.nan
    once = math.comb(chosen, k) / math.comb(n, k)
    return once * once - math.comb(chosen, 2 * k) / math.comb(n, 2 * k)
