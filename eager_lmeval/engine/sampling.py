"""Logits in, one `Readout` a row out: entropies, draws and fork probabilities (SPEC 2, 4, 6).

No vocabulary is sorted. What a row says is nearly always settled by its largest logits, the candidates: which tokens
pass the cuts, and which of them is drawn. Where it is not, more candidates are looked at, and where they do not settle
it either, the whole row goes through the processors of transformers. All ways say the same.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from eager_lmeval.algorithm.readout import Readout, Stratum
from eager_lmeval.engine.truncation import cut

__all__ = ["Sampling", "read", "top_k_entropy"]

CANDIDATES = (64, 2048)
"""How many of a row's logits are looked at before all are."""

PART = 1 << 17
"""Probabilities that a CPU computes at once: more do not stay in the cache of a core."""

HOST = "cpu"
"""The type of device that may be asked for values between two operations; others are not waited for."""

GROUP = 8
"""Logits that stand for one in the search for the largest."""

BLOCK = 64
"""Tokens that stand for one in the search for the one drawn."""

TOKENS = 3
"""The first fields of a `Readout`, which are token ids."""

FIELDS = 9
"""Those before its strata."""


@dataclass(frozen=True)
class Sampling:
    """How a pool samples; the fields are the options of the same names. ``temperature`` 0 means argmax."""

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    entropy_top_k: int = 20
    entropy_of: Literal["raw", "tempered"] = "raw"

    @property
    def divisor(self) -> float:
        """What logits are divided by: the temperature, or 1 where that is 0 (SPEC 6)."""
        return self.temperature or 1.0

    def cuts(self) -> LogitsProcessorList:
        """The processors of transformers that keep tokens out, after the temperature: top_k, top_p, min_p (SPEC 6)."""
        steps = LogitsProcessorList()
        if self.top_k:
            steps.append(TopKLogitsWarper(self.top_k))
        if self.top_p is not None and self.top_p < 1.0:
            steps.append(TopPLogitsWarper(self.top_p))
        if self.min_p:
            steps.append(MinPLogitsWarper(self.min_p))
        return steps


def top_k_entropy(largest: Tensor) -> Tensor:
    """H in nats over the K largest logits alone. (rows, K) -> (rows,)"""
    log_p = torch.log_softmax(largest, dim=-1)
    return -(log_p.exp() * log_p).nan_to_num(nan=0.0).sum(dim=-1)


def read(
    logits: Tensor, uniforms: Tensor, sampling: Sampling, strata: NDArray[np.int64] | None = None
) -> list[Readout]:
    """One readout a row. ``logits`` (rows, vocab) in any dtype, ``uniforms`` (rows,) float64 in [0, 1).

    ``strata`` (rows,) says how many strata each row would be dealt over if it opened, 0 for rows that cannot; without
    it none can. Their tokens are drawn from the same cumulative distribution as the row's own token.

    Everything is computed in float32 (float64 for float64 logits), sums of probabilities in float64, and reaches the
    host in one transfer.
    """
    logits = logits if logits.dtype in (torch.float32, torch.float64) else logits.float()
    draws = torch.cat([uniforms[:, None], _strata(uniforms, strata)], dim=-1)  # (rows, draws)
    table = read_table(logits, draws, sampling, CANDIDATES).cpu().numpy()
    of_draws = table[:, FIELDS:].reshape(len(table), 2, -1)  # (rows, tokens and log-probabilities, draws)
    readouts = []
    for place, row in enumerate(table[:, :FIELDS].tolist()):
        dealt = of_draws[place, :, 1 : 1 + strata[place]].T.tolist() if strata is not None and strata[place] else ()
        split = tuple(Stratum(int(token), logprob) for token, logprob in dealt)
        readouts.append(Readout._make([*map(int, row[:TOKENS]), *row[TOKENS:], False, split]))
    return readouts


def entropies_of(largest: Tensor, sampling: Sampling) -> Tensor:
    """NaN where the largest is no number or infinite. (rows, at least K), descending -> (rows,)"""
    scores = largest[:, : sampling.entropy_top_k]
    if sampling.entropy_of == "tempered":
        scores = scores / sampling.divisor
    return torch.where(largest[:, 0].isfinite(), top_k_entropy(scores), torch.nan)  # topk takes NaN for the largest


def _strata(uniforms: Tensor, strata: NDArray[np.int64] | None) -> Tensor:
    """(g + u)/f for g = 0 … f − 1, f being a row's number of strata; its last one repeated up to the most of any row.

    A row of none has u throughout. (rows,), (rows,) -> (rows, n), n = 0 where all rows have none
    """
    if strata is None or not strata.any():
        return uniforms.new_empty((len(uniforms), 0))
    f = torch.from_numpy(strata.clip(min=1)).to(uniforms.device)[:, None]
    g = torch.arange(int(strata.max()), device=uniforms.device).minimum(f - 1)
    return (g + uniforms[:, None]) / f


def read_table(logits: Tensor, draws: Tensor, sampling: Sampling, numbers: Seq[int]) -> Tensor:
    """What `_columns` returns, with as few candidates as settle each row: ``numbers`` says how many to try."""
    least = max(3, sampling.entropy_top_k, (sampling.top_k or 0) + 1)
    numbers = [number for number in numbers if least <= number < logits.shape[-1]]
    if not numbers:
        return _columns(_all_of(logits, sampling), logits, draws, sampling)[0]
    table, settled = _columns(_candidates(logits, numbers[0]), logits, draws, sampling)
    if not settled.all():
        left = ~settled
        table[left] = read_table(logits[left], draws[left], sampling, numbers[1:])
    return table


class _Looked(NamedTuple):
    """What is looked at of each row's logits: its candidates, or all."""

    largest: Tensor
    """(rows, K) the largest, descending; at least as many as the entropy is of."""
    ids: Tensor
    """(rows, n) ascending."""
    logits: Tensor
    """(rows, n) of those ids."""
    floor: Tensor | None
    """(rows,) no other logit is larger; None where there is no other."""


def _all_of(logits: Tensor, sampling: Sampling) -> _Looked:
    vocab = logits.shape[-1]
    largest = logits.topk(min(max(3, sampling.entropy_top_k), vocab), dim=-1).values
    return _Looked(largest, torch.arange(vocab, device=logits.device).expand_as(logits), logits, None)


def _candidates(logits: Tensor, number: int) -> _Looked:
    largest, places = largest_of(logits, number)
    ids, order = places.sort(dim=-1)
    return _Looked(largest, ids, largest.gather(-1, order), largest[:, -1])


def largest_of(logits: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """What ``topk`` returns, values and places. (rows, vocab) -> (rows, number) each

    On a CPU ``topk`` takes a row entry by entry, while maxima of groups are found many at once; and the largest logits
    are in the groups with the largest maxima.
    """
    groups, others = divmod(logits.shape[-1], GROUP)
    if logits.device.type != HOST or groups < 2 * number:
        values, places = logits.topk(number, dim=-1)
        return values, places
    maxima = logits[:, : GROUP * groups].reshape(len(logits), GROUP, groups).amax(dim=1)  # (rows, groups)
    best = largest_of(maxima, number)[1]
    places = (best[:, :, None] + groups * torch.arange(GROUP)).flatten(1)  # (rows, number * GROUP)
    if others:
        rest = torch.arange(GROUP * groups, logits.shape[-1])
        places = torch.cat([places, rest.expand(len(logits), -1)], dim=-1)
    values, chosen = logits.gather(-1, places).topk(number, dim=-1)
    return values, places.gather(-1, chosen)


def _two_most_likely(logits: Tensor) -> Tensor:
    """Places of the largest and second largest logit, ties to the smaller, which `topk` does not promise. (rows, 2)"""
    first = logits.argmax(dim=-1)
    if logits.shape[-1] == 1:
        return torch.stack([first, first], dim=-1)
    second = logits.scatter(-1, first[:, None], -torch.inf).argmax(dim=-1)
    other = (first == 0).long()  # a different one, for where all but the first are at -inf
    return torch.stack([first, torch.where(second == first, other, second)], dim=-1)


def _columns(looked: _Looked, logits: Tensor, draws: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """A readout's fields a row, and for which rows they are settled by what was looked at (rows,).

    The fields are (rows, FIELDS + 2 n) in float64, which holds any token id: those of `Readout` up to its strata, then
    the tokens that the ``draws`` (rows, n) pick, and their log-probabilities. The first draw is the row's own.
    """
    largest, ids, seen, floor = looked
    places = _two_most_likely(seen)  # (rows, 2)
    likely = ids.gather(-1, places)
    settled = torch.ones_like(likely[:, 0], dtype=torch.bool) if floor is None else largest[:, 1] > floor
    divisor = sampling.divisor

    entropy = entropies_of(largest, sampling)

    first = likely[:, :1]
    cuts = sampling.cuts()
    by_block = not cuts and floor is not None
    raw = tempered = sum_rows(logits, 1.0, largest[:, :1], by_block and divisor == 1)
    if divisor != 1 and (by_block or (floor is not None and isinstance(cuts[0], TopPLogitsWarper))):
        tempered = sum_rows(logits, divisor, largest[:, :1], by_block)
    if cuts or floor is None:
        whole = None if floor is None else (floor / divisor, tempered.likeliest)
        passed = cut(seen / divisor, whole, cuts)
        settled &= passed.settled
        probabilities = torch.softmax(passed.scores, dim=-1)
        p_likely = probabilities.gather(-1, places)
        tokens = ids.gather(-1, draw_first_above(probabilities.cumsum(dim=-1, dtype=torch.float64), draws))
    else:
        top = largest[:, :1]
        p_likely = ((logits.gather(-1, likely) - top) / divisor).exp() * tempered.likeliest
        tokens = draw_by_block(logits, divisor, top, tempered, draws)
    if sampling.temperature == 0:
        tokens[:, :1] = first

    taken = torch.cat([likely, tokens], dim=-1)
    logprobs = logits.gather(-1, taken) - largest[:, :1] + raw.likeliest.log()
    own = [tokens[:, :1], likely, entropy[:, None], p_likely, logprobs[:, 2:3], logprobs[:, :2]]
    return torch.cat([column.double() for column in (*own, tokens, logprobs[:, 2:])], dim=-1), settled


class _Summed(NamedTuple):
    """Of the softmax over whole rows."""

    likeliest: Tensor
    """(rows, 1) the largest probability."""
    blocks: Tensor | None
    """(rows, blocks) the probability of each `BLOCK` tokens, those that are left over last; None if not asked for."""


def sum_rows(logits: Tensor, divisor: float, top: Tensor, by_block: bool) -> _Summed:
    """Of logits (rows, vocab) divided by ``divisor``, part by part. ``top`` (rows, 1) is the largest of each row.

    Exponentials are made and added up while they are in the cache, and never divided by their sum as a softmax does.
    """
    vocab = logits.shape[-1]
    part = len(logits) if logits.device.type != HOST else max(1, PART // vocab)
    whole = vocab // BLOCK * BLOCK
    totals, blocks = torch.empty_like(top), logits.new_empty((len(logits), vocab // BLOCK + 1)) if by_block else None
    for start in range(0, len(logits), part):
        rows = slice(start, start + part)
        weights = logits[rows] - top[rows]
        if divisor != 1:
            weights /= divisor
        weights.exp_()
        if blocks is not None:
            torch.sum(weights[:, :whole].reshape(len(weights), -1, BLOCK), dim=-1, out=blocks[rows, :-1])
            torch.sum(weights[:, whole:], dim=-1, out=blocks[rows, -1])
        torch.sum(weights, dim=-1, keepdim=True, out=totals[rows])
    return _Summed(1 / totals, None if blocks is None else blocks / totals)


def draw_first_above(cumulative: Tensor, draws: Tensor) -> Tensor:
    """The first place whose cumulative probability exceeds each draw. (rows, n) float64, (rows, draws) -> (rows, draws)

    The draws are shares of the whole: the sum of float32 probabilities is not exactly 1.
    """
    return _place(cumulative, draws * cumulative[:, -1:])


def draw_by_block(logits: Tensor, divisor: float, top: Tensor, summed: _Summed, draws: Tensor) -> Tensor:
    """As `draw_first_above`, over whole rows: the block first, then the token in it. ``top`` (rows, 1): the largest."""
    assert summed.blocks is not None
    vocab = logits.shape[-1]
    by_block = summed.blocks.cumsum(dim=-1, dtype=torch.float64)  # (rows, blocks)
    target = draws * by_block[:, -1:]
    block = _place(by_block, target)
    before = by_block.gather(-1, (block - 1).clamp(min=0)).where(block > 0, 0.0)
    tokens = block[..., None] * BLOCK + torch.arange(BLOCK, device=block.device)  # (rows, draws, BLOCK)
    inside = logits.gather(-1, tokens.clamp(max=vocab - 1).flatten(1)).view(tokens.shape)
    p = ((inside - top[..., None]) / divisor).exp() * summed.likeliest[..., None]
    cumulative = before[..., None] + p.masked_fill(tokens >= vocab, 0.0).cumsum(dim=-1, dtype=torch.float64)
    return (block * BLOCK + _place(cumulative, target[..., None])[..., 0]).clamp(max=vocab - 1)  # of logits of NaN too


def _place(cumulative: Tensor, target: Tensor) -> Tensor:
    """Where ``cumulative`` (…, n) first exceeds each target (…, draws); rounding may have left its end below one."""
    last = cumulative[..., -1:]
    reachable = target.minimum(last.nextafter(torch.zeros_like(last)))
    return torch.searchsorted(cumulative, reachable, right=True).clamp(max=cumulative.shape[-1] - 1)
