"""top_k, top_p and min_p without a word to the host (SPEC 4), for devices: a GPU is never waited for.

What the processors of transformers keep. Of equal scores on the edge of top_p as many are kept, those with the larger
ids, as an ascending stable sort would. Vocabularies of all rows of a batch are not sorted: that would take longer than
all else that is done with logits.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from transformers import LogitsProcessorList, MinPLogitsWarper, TopPLogitsWarper

from eager_lmeval.engine.truncation import NO_IDS, Passed

__all__ = ["cut_largest", "cut_unsorted"]


def cut_unsorted(scores: Tensor, cuts: LogitsProcessorList) -> Tensor:
    """``scores`` (rows, vocab) float32 as they came, and -inf where a token was cut: for many rows."""
    return _cut(scores, None, cuts, _by_bisection).scores


def cut_largest(scores: Tensor, rest: tuple[Tensor, Tensor] | None, cuts: LogitsProcessorList) -> Passed:
    """The same of a row's largest scores, or of few rows, in the order of their ids.

    Where they are not all of the row, ``rest`` says what no other score exceeds (rows,), and the sum of the whole row's
    exponentials in float64, less that of the largest (rows, 1).
    """
    return _cut(scores, rest, cuts, _by_sort)


def _cut(
    scores: Tensor,
    rest: tuple[Tensor, Tensor] | None,
    cuts: LogitsProcessorList,
    reach: Callable[[Tensor, Tensor, Tensor], Tensor],
) -> Passed:
    settled = torch.ones_like(scores[:, 0], dtype=torch.bool)
    floor, total = rest if rest is not None else (None, None)
    for processor in cuts:
        if isinstance(processor, TopPLogitsWarper):
            weights = (scores - scores.amax(dim=-1, keepdim=True)).exp()
            whole = weights.sum(dim=-1, keepdim=True, dtype=torch.float64) if total is None else total
            scores = scores.masked_fill(reach(scores, weights, processor.top_p * whole), -torch.inf)
        elif isinstance(processor, MinPLogitsWarper):
            probabilities = torch.softmax(scores, dim=-1)
            least = processor.min_p * probabilities.amax(dim=-1, keepdim=True)
            scores = scores.masked_fill(probabilities < least, -torch.inf)
        else:
            scores = processor(NO_IDS, scores)
        if floor is not None:  # what has been cut once is settled
            settled &= scores.masked_fill(scores == -torch.inf, torch.inf).amin(dim=-1) > floor
            floor, total = torch.full_like(floor, -torch.inf), None
    return Passed(scores, settled)


def _by_sort(scores: Tensor, weights: Tensor, needed: Tensor) -> Tensor:
    """Which tokens are cut: those before which there is as much as ``needed`` (rows, 1). (rows, n) -> (rows, n)"""
    places = scores.flip(-1).argsort(dim=-1, descending=True, stable=True)  # of equal ones the larger id first
    order = scores.shape[-1] - 1 - places
    likely = weights.gather(-1, order)
    before = likely.cumsum(dim=-1, dtype=torch.float64) - likely
    return torch.zeros_like(scores, dtype=torch.bool).scatter(-1, order, before >= needed)


def _by_bisection(scores: Tensor, weights: Tensor, needed: Tensor) -> Tensor:
    """The same: the lowest score that is kept by bisection over its bits."""
    bits = scores.contiguous().view(torch.int32)
    order = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits)  # integers in the order of the scores
    # The largest low with weight enough at and above it is in low … high.
    low = order.amin(dim=-1, keepdim=True).long()
    high = order.amax(dim=-1, keepdim=True).long()
    for _ in range(32):
        middle = low + (high - low + 1) // 2
        enough = _weight(weights, order >= middle.int()) >= needed
        low, high = low.where(~enough, middle), high.where(enough, middle - 1)
    tied = order == low.int()
    each = weights.masked_fill(~tied, 0.0).amax(dim=-1, keepdim=True).double()
    kept = ((needed - _weight(weights, order > low.int())) / each).ceil().clamp(min=1)
    from_end = tied.sum(dim=-1, keepdim=True) - tied.cumsum(dim=-1)  # equal scores with larger ids
    return (order < low.int()) | (tied & (from_end >= kept))


def _weight(weights: Tensor, which: Tensor) -> Tensor:
    """(rows, vocab), (rows, vocab) bool -> (rows, 1) float64"""
    return weights.masked_fill(~which, 0.0).sum(dim=-1, keepdim=True, dtype=torch.float64)
