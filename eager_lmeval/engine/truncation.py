"""Which tokens pass top_k, top_p and min_p, known from a row's largest scores alone (SPEC 4).

Cuts keep the largest, so what they do to a row is known from the candidates, unless they reach down to logits that are
not among them. The cuts are those of transformers' processors; only top_p needs another way, because the probability
that it counts is the whole row's.
"""

from __future__ import annotations

import math
from typing import NamedTuple, cast

import torch
from torch import Tensor
from transformers import LogitsProcessorList, MinPLogitsWarper, TopPLogitsWarper

__all__ = ["NO_IDS", "Passed", "cut"]

DOUBT = 1e-6
"""What rounding may do to float32 sums of probabilities: so near to a cut, the processors decide on the whole row."""

NO_IDS = cast(torch.LongTensor, torch.empty(0, dtype=torch.long))
"""Processors take the tokens so far; those of SPEC 4 do not look at them."""


class Passed(NamedTuple):
    """What the cuts let pass."""

    scores: Tensor
    """(rows, n) as they came, and -inf where a token was cut."""
    settled: Tensor
    """(rows,) whether all that passed is among these."""


def cut(scores: Tensor, rest: tuple[Tensor, Tensor] | None, cuts: LogitsProcessorList) -> Passed:
    """What of ``scores`` (rows, n) passes the ``cuts``.

    The scores are of tokens in the order of their ids. Where they are not all of a row, ``rest`` says what no other
    score exceeds (rows,), and the largest probability in the whole row (rows, 1).
    """
    settled = torch.ones(len(scores), dtype=torch.bool, device=scores.device)
    if rest is None:
        return Passed(cuts(NO_IDS, scores), settled)
    floor, likeliest = rest
    for number, processor in enumerate(cuts):
        before, top = scores, scores.amax(dim=-1, keepdim=True)
        if isinstance(processor, TopPLogitsWarper):
            if number:
                likeliest = torch.softmax(before, dim=-1).amax(dim=-1, keepdim=True)
            scores, doubtful = _top_p(before, (before - top).exp() * likeliest, processor.top_p)
            settled &= ~doubtful & (_lowest(scores) > floor)
        elif isinstance(processor, MinPLogitsWarper):
            scores, limit = processor(NO_IDS, before), top + math.log(processor.min_p)
            settled &= ((before - limit).abs() > DOUBT).all(dim=-1) & (limit[:, 0] > floor)
        else:
            scores = processor(NO_IDS, before)
            settled &= _lowest(scores) > floor
        floor = torch.full_like(floor, -torch.inf)  # what is not among the scores has been cut
    return Passed(scores, settled)


def _top_p(scores: Tensor, probabilities: Tensor, top_p: float) -> tuple[Tensor, Tensor]:
    """What `TopPLogitsWarper` keeps of a row of which these are the largest scores, and in which rows that is doubtful.

    It keeps a token where those that come before it have less than ``top_p``. Doubtful is a cut through equal scores,
    which lie in the order of the processor's sort, and one that rounding may have placed.
    """
    order = scores.argsort(dim=-1, descending=True)
    likely = probabilities.gather(-1, order)
    above = likely.cumsum(dim=-1, dtype=torch.float64) - likely  # (rows, n)
    cut_away = torch.zeros_like(scores, dtype=torch.bool).scatter(-1, order, above >= top_p)
    passed = scores.masked_fill(cut_away, -torch.inf)
    highest = scores.masked_fill(~cut_away, -torch.inf).amax(dim=-1)
    doubtful = ((above - top_p).abs() <= DOUBT).any(dim=-1) | (highest >= _lowest(passed))
    return passed, doubtful


def _lowest(scores: Tensor) -> Tensor:
    """The last score that passed. (rows, n) -> (rows,)"""
    return scores.masked_fill(scores == -torch.inf, torch.inf).amin(dim=-1)
