"""top_k, top_p and min_p over whole rows without a sort and without a word to the host (SPEC 4), for devices.

What the processors of transformers keep. Of equal scores on the edge of top_p as many are kept, those with the larger
ids, as an ascending stable sort would. Nothing here depends on a value in Python, so a GPU is never waited for.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import LogitsProcessorList, MinPLogitsWarper, TopPLogitsWarper

from eager_lmeval.engine.truncation import NO_IDS

__all__ = ["cut_unsorted"]


def cut_unsorted(scores: Tensor, cuts: LogitsProcessorList) -> Tensor:
    """``scores`` (rows, vocab) float32 as they came, and -inf where a token was cut."""
    for processor in cuts:
        if isinstance(processor, TopPLogitsWarper):
            scores = _top_p(scores, processor.top_p)
        elif isinstance(processor, MinPLogitsWarper):
            probabilities = torch.softmax(scores, dim=-1)
            least = processor.min_p * probabilities.amax(dim=-1, keepdim=True)
            scores = scores.masked_fill(probabilities < least, -torch.inf)
        else:
            scores = processor(NO_IDS, scores)
    return scores


def _top_p(scores: Tensor, top_p: float) -> Tensor:
    """Keeps a token where those before it have less than ``top_p``: the lowest score, by bisection over its bits."""
    weights = (scores - scores.amax(dim=-1, keepdim=True)).exp()
    needed = top_p * weights.sum(dim=-1, keepdim=True, dtype=torch.float64)  # (rows, 1)
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
    return scores.masked_fill((order < low.int()) | (tied & (from_end >= kept)), -torch.inf)


def _weight(weights: Tensor, which: Tensor) -> Tensor:
    """(rows, vocab), (rows, vocab) bool -> (rows, 1) float64"""
    return weights.masked_fill(~which, 0.0).sum(dim=-1, keepdim=True, dtype=torch.float64)
