"""Logits in, one `Readout` a row out: entropies, draws and fork probabilities (SPEC 2, 4, 6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from eager_lmeval.algorithm.readout import Readout, Stratum
from eager_lmeval.engine.ties import entropy_margin, loose_mass, near_boundary, near_order

__all__ = ["Sampling", "read", "top_k_entropy"]


_NO_IDS = cast(torch.LongTensor, torch.empty(0, dtype=torch.long))
"""Processors take the tokens so far; those of SPEC 4 do not look at them."""


@dataclass(frozen=True)
class Sampling:
    """How a pool samples; the fields are the options of the same names. ``temperature`` 0 means argmax."""

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    entropy_top_k: int = 20
    entropy_of: Literal["raw", "tempered"] = "raw"
    tie_margin: float = 0.0
    """What rounding may change a logit by; a readout says what that could have decided. 0: it does not ask."""

    @property
    def entropy_margin(self) -> float:
        """What rounding may change an entropy by, in nats."""
        tempered = self.entropy_of == "tempered" and self.temperature > 0
        return entropy_margin(self.tie_margin / (self.temperature if tempered else 1.0), self.entropy_top_k)

    def processors(self) -> LogitsProcessorList:
        """Temperature, top_k, top_p, min_p, in that order; at temperature 0 the distribution is that of 1 (SPEC 6)."""
        steps = LogitsProcessorList()
        if self.temperature not in (0.0, 1.0):
            steps.append(TemperatureLogitsWarper(self.temperature))
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
    vocab = logits.shape[-1]
    largest = logits.topk(min(max(3, sampling.entropy_top_k), vocab), dim=-1).values  # (rows, K)
    first, second = _two_most_likely(logits)  # (rows,) each

    entropy_logits = largest[:, : sampling.entropy_top_k]
    if sampling.entropy_of == "tempered" and sampling.temperature > 0:
        entropy_logits = entropy_logits / sampling.temperature
    entropy = top_k_entropy(entropy_logits)
    entropy = torch.where(largest[:, 0].isfinite(), entropy, torch.nan)  # topk takes NaN for the largest value

    scores = logits  # (rows, vocab)
    cuts = []
    for processor in sampling.processors():
        before, scores = scores, processor(_NO_IDS, scores)
        if not isinstance(processor, TemperatureLogitsWarper):
            cuts.append((before, scores, processor))
    probabilities = torch.softmax(scores, dim=-1)
    cumulative = probabilities.cumsum(dim=-1, dtype=torch.float64)  # (rows, vocab)
    target = uniforms * cumulative[:, -1]  # (rows,): the sum of float32 probabilities is not exactly 1
    token = _draw(cumulative, target[:, None])[:, 0] if sampling.temperature > 0 else first

    ids = torch.stack([token, first, second], dim=-1)  # (rows, 3)
    logprobs = logits.gather(-1, ids) - logits.logsumexp(dim=-1, keepdim=True)  # (rows, 3)
    columns = [ids, entropy[:, None], probabilities.gather(-1, ids[:, 1:]), logprobs]
    targets = _strata(uniforms, strata) * cumulative[:, -1:]  # (rows, most strata of a row)
    tokens = _draw(cumulative, targets)
    near = torch.zeros((len(logits), 3), dtype=torch.bool, device=logits.device)  # of the draw, a fork, the strata
    if margin := sampling.tie_margin:
        near[:, 1] = near_order(largest, 2, margin)
        if sampling.temperature > 0:
            margin /= sampling.temperature
            loose = torch.zeros_like(target)
            for cut in cuts:
                loose += loose_mass(*cut, margin, norm=scores.logsumexp(dim=-1))
            near[:, 0] = near_boundary(cumulative, target[:, None], token[:, None], margin, loose)
            near[:, 2] = near_boundary(cumulative, targets, tokens, margin, loose)
        else:
            near[:, 0] = near_order(largest, 1, margin)
    columns += [near, tokens, logits.gather(-1, tokens) - logits.logsumexp(dim=-1, keepdim=True)]
    table = torch.cat([column.double() for column in columns], dim=-1).cpu().numpy()  # float64 holds any token id
    of_strata = table[:, 12:].reshape(len(table), 2, -1)  # (rows, tokens and log-probabilities, most strata of a row)
    readouts = []
    for place, row in enumerate(table[:, :12].tolist()):
        dealt = of_strata[place, :, : strata[place]].T.tolist() if strata is not None and strata[place] else ()
        split = tuple(Stratum(int(token), logprob) for token, logprob in dealt)
        readouts.append(Readout._make([*map(int, row[:3]), *row[3:9], *map(bool, row[9:]), split]))
    return readouts


def _strata(uniforms: Tensor, strata: NDArray[np.int64] | None) -> Tensor:
    """(g + u)/f for g = 0 … f − 1, f being a row's number of strata; its last one repeated up to the most of any row.

    A row of none has u throughout. (rows,), (rows,) -> (rows, n), n = 0 where all rows have none
    """
    if strata is None or not strata.any():
        return uniforms.new_empty((len(uniforms), 0))
    f = torch.from_numpy(strata.clip(min=1)).to(uniforms.device)[:, None]
    g = torch.arange(int(strata.max()), device=uniforms.device).minimum(f - 1)
    return (g + uniforms[:, None]) / f


def _two_most_likely(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Ids of the largest and second largest logit, ties to the smaller id, which `topk` does not promise. (rows,)"""
    first = logits.argmax(dim=-1)
    if logits.shape[-1] == 1:
        return first, first
    second = logits.scatter(-1, first[:, None], -torch.inf).argmax(dim=-1)
    other = (first == 0).long()  # a different id, for where all but the first are at -inf
    return first, torch.where(second == first, other, second)


def _draw(cumulative: Tensor, target: Tensor) -> Tensor:
    """The smallest ids whose cumulative probability, in id order, exceeds each target.

    (rows, vocab), (rows, n) -> (rows, n)
    """
    return torch.searchsorted(cumulative, target, right=True).clamp(max=cumulative.shape[-1] - 1)
