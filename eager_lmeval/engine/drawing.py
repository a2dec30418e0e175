"""Tokens off logits and nothing else, as `sampling.read` would say them: on a GPU without waiting for it (SPEC 4).

No vocabulary is sorted there. Where tokens are cut, most rows are settled by their largest logits; those that are not
go through all of theirs, as far as there is room for them, and of the rest the caller is told.
"""

from __future__ import annotations

import torch
from torch import Tensor

from eager_lmeval.engine import sampling as reading
from eager_lmeval.engine.sampling import (
    FIELDS,
    Sampling,
    draw_by_block,
    draw_first_above,
    entropies_of,
    largest_of,
    read_table,
    sum_rows,
)
from eager_lmeval.engine.truncation import cut
from eager_lmeval.engine.unsorted import cut_largest, cut_unsorted

__all__ = ["draw", "draw_mostly", "entropies", "passes"]

PART = 1 << 25
"""Logits that a GPU draws from at once, some 200 rows of a large vocabulary: what it needs besides is some thirty bytes
for each of them, and with fewer the start of kernels would cost more than their work."""

LARGEST = 2048
"""Logits that most rows are settled by, on a GPU."""

SPARE = 8
"""One row in so many may go through all of its logits besides."""


def draw(logits: Tensor, uniforms: Tensor, sampling: Sampling) -> Tensor:
    """(rows, vocab), (rows,) float64 in [0, 1) -> (rows,)"""
    if sampling.temperature == 0:
        return logits.argmax(dim=-1)
    if sampling.cuts() and _on_host(logits):
        return read_table(logits.float(), uniforms[:, None], sampling, reading.CANDIDATES)[:, FIELDS].long()
    return torch.cat([_draw_whole(*part, sampling) for part in _parts(logits, uniforms)])


def draw_mostly(logits: Tensor, uniforms: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """The same, cheaper on a GPU, and for which rows it is so; for the others `draw` is to be asked.

    (rows, vocab), (rows,) float64 in [0, 1) -> (rows,), (rows,)
    """
    flat = sampling.temperature == 0 or sampling.temperature > 1  # more rows would be unsettled than have room
    if flat or not sampling.cuts() or _on_host(logits) or logits.shape[-1] < 4 * LARGEST:
        tokens = draw(logits, uniforms, sampling)
        return tokens, torch.ones_like(tokens, dtype=torch.bool)
    drawn = [_draw_from_largest(*part, sampling) for part in _parts(logits, uniforms)]
    tokens, settled = (torch.cat(column) for column in zip(*drawn, strict=True))
    spare = min(len(logits), max(4, len(logits) // SPARE))
    doubtful = (~settled).to(torch.uint8).topk(spare).indices  # without a word to the host: all that are, if they fit
    again = _draw_from_all(logits.index_select(0, doubtful), uniforms.index_select(0, doubtful), sampling)
    return tokens.index_copy(0, doubtful, again), settled.index_fill(0, doubtful, True)


def passes(logits: Tensor, tokens: Tensor, sampling: Sampling) -> Tensor:
    """Whether each row's token passes top_k, top_p and min_p. (rows, vocab), (rows,) -> (rows,)"""
    scores, cuts = logits.float() / sampling.divisor, sampling.cuts()
    kept = cut(scores, None, cuts).scores if _on_host(logits) else cut_unsorted(scores, cuts)
    return kept.gather(-1, tokens[:, None])[:, 0] > -torch.inf


def entropies(logits: Tensor, sampling: Sampling) -> Tensor:
    """The top-K entropy in nats of each row (SPEC 2). (rows, vocab) -> (rows,)"""
    return entropies_of(largest_of(logits.float(), min(sampling.entropy_top_k, logits.shape[-1]))[0], sampling)


def _on_host(logits: Tensor) -> bool:
    return logits.device.type == reading.HOST


def _parts(logits: Tensor, uniforms: Tensor) -> list[tuple[Tensor, Tensor]]:
    rows = max(1, PART // logits.shape[-1])
    return [(logits[start : start + rows], uniforms[start : start + rows]) for start in range(0, len(logits), rows)]


def _draw_whole(logits: Tensor, uniforms: Tensor, sampling: Sampling) -> Tensor:
    scores, divisor = logits.float(), sampling.divisor
    if cuts := sampling.cuts():
        scores, divisor = cut_unsorted(scores / divisor, cuts), 1.0
    top = scores.amax(dim=-1, keepdim=True)
    return draw_by_block(scores, divisor, top, sum_rows(scores, divisor, top, by_block=True), uniforms[:, None])[:, 0]


def _draw_from_largest(logits: Tensor, uniforms: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """Tokens, and for which rows they are settled: where all that passes, and what equals the last of it, is looked
    at."""
    scores = logits.float() / sampling.divisor
    largest, ids = scores.topk(LARGEST, dim=-1, sorted=False)
    ids, order = ids.sort(dim=-1)
    seen = largest.gather(-1, order)
    whole = scores.sub_(seen.amax(dim=-1, keepdim=True)).exp_().sum(dim=-1, keepdim=True, dtype=torch.float64)
    passed = cut_largest(seen, (seen.amin(dim=-1), whole), sampling.cuts())
    return ids.gather(-1, _draw_passed(passed.scores, uniforms))[:, 0], passed.settled


def _draw_from_all(logits: Tensor, uniforms: Tensor, sampling: Sampling) -> Tensor:
    """Of few rows, whose vocabulary may be sorted."""
    passed = cut_largest(logits.float() / sampling.divisor, None, sampling.cuts())
    return _draw_passed(passed.scores, uniforms)[:, 0]


def _draw_passed(scores: Tensor, uniforms: Tensor) -> Tensor:
    """Places of the tokens drawn. (rows, n), (rows,) -> (rows, 1)"""
    cumulative = torch.softmax(scores, dim=-1).cumsum(dim=-1, dtype=torch.float64)
    return draw_first_above(cumulative, uniforms[:, None])
