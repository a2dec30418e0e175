"""Near ties: could rounding have decided a draw or a fork otherwise?

The rounding of a forward pass depends on what else is in the batch. It changes a result only where a decision is close:
a uniform next to a boundary between two tokens, two logits next to each other. Such decisions are found here, and taken
again in float64 by the engine, whose answer does not depend on the batch: a cheap test first, the exact computation
only where that cannot tell.

A ``margin`` is what a score may be off by. So two scores change order only if they are within twice the margin, and the
odds of any event change by no more than a factor exp(±2·margin). All figures are to first order in the margin.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from transformers import MinPLogitsWarper, TopPLogitsWarper

__all__ = ["entropy_margin", "loose_mass", "near_boundary", "near_order"]


def near_order(largest: Tensor, places: int, margin: float) -> Tensor:
    """Whether rounding could change which tokens stand at the first ``places``. (rows, K) descending -> (rows,)"""
    gaps = -largest[:, : places + 1].diff(dim=-1)
    return (gaps <= 2 * margin).any(dim=-1)


def near_boundary(below: Tensor, through: Tensor, target: Tensor, margin: float, loose: Tensor) -> Tensor:
    """Whether rounding could make another token the one whose span of cumulative probability holds a target.

    All are shares of the total: the targets (rows, n), and the cumulative probability before the token that each picks
    and with it. ``loose`` (rows,) is what may enter or leave the distribution in addition, because a cut moved. Returns
    (rows, n).
    """
    bounds = torch.stack([below, through], dim=-1)  # (rows, n, 2)
    reach = (2 * margin) * bounds * (1 - bounds) + loose[:, None, None]
    return ((bounds - target[..., None]).abs() <= reach).any(dim=-1)


def loose_mass(
    before: Tensor, after: Tensor, warper: object, probabilities: Tensor | None, margin: float, norm: Tensor
) -> Tensor:
    """The probability of all that rounding could let past a cut (top_k, top_p, min_p), or keep from passing it. (rows,)

    ``before`` and ``after`` (rows, n) are the scores that the warper got and gave; it keeps the largest.
    ``probabilities`` (rows, n) are those that top_p counts, None for the others. ``norm`` (rows, 1) is the logsumexp of
    what passed all cuts.
    """
    passed = after > -torch.inf
    lowest = after.masked_fill(~passed, torch.inf).amin(dim=-1, keepdim=True)  # the last score that passed
    highest = before.masked_fill(passed, -torch.inf).amax(dim=-1, keepdim=True)  # the first that did not
    by_mass = torch.zeros_like(norm)
    if isinstance(warper, MinPLogitsWarper):
        limit = before.amax(dim=-1, keepdim=True) + math.log(warper.min_p)
        loose = (before - limit).abs() <= 2 * margin
    else:
        loose = (before >= lowest - 2 * margin) & (before <= highest + 2 * margin)
    if isinstance(warper, TopPLogitsWarper):
        assert probabilities is not None, "top_p counts probabilities"
        through = probabilities.where(before >= lowest, 0.0).sum(dim=-1, keepdim=True)
        above = probabilities.where(before > lowest, 0.0).sum(dim=-1, keepdim=True)
        near = torch.zeros_like(norm, dtype=torch.bool)
        for mass in (through, above):
            near |= (mass - warper.top_p).abs() <= 2 * margin * mass * (1 - mass)
        reach = 2 * margin * (1 - through)  # tokens of so much mass may lie between the cut and where it should be
        by_mass = (2 * reach + 2 * (lowest - norm).exp()).where(near, 0.0)
    by_rank = 2 * (before - norm).exp().where(loose, 0.0).sum(dim=-1, keepdim=True)
    return (by_mass + by_rank)[:, 0]


def entropy_margin(margin: float, top_k: int) -> float:
    """What the entropy (nats) of ``top_k`` scores may be off by.

    dH = −Σ p_j (ln p_j + H) dz_j, so it is at most the margin times the standard deviation of ln p, which over K tokens
    is at most √(1 + ln²(K−1)/4) (Reeb and Wolf 2015, the largest varentropy).
    """
    return margin * (1 + math.log(max(1, top_k - 1)) / 2)
