"""The slow, obvious way to read logits: every row through transformers' processors, summed up in float64."""

from __future__ import annotations

from collections.abc import Sequence as Seq

import torch
from torch import Tensor

from eager_lmeval.engine.sampling import Sampling, top_k_entropy

__all__ = ["PlainReadout"]


class PlainReadout:
    """What SPEC 2, 4 and 6 say of one row of logits (vocab,), the draws aside."""

    def __init__(self, logits: Tensor, sampling: Sampling) -> None:
        logits = logits if logits.dtype == torch.float64 else logits.float()
        scores = sampling.cuts()(None, logits[None] / sampling.divisor)[0]
        self.kept: list[int] = (scores > -torch.inf).nonzero()[:, 0].tolist()
        self.probabilities = torch.softmax(scores, dim=-1)
        self.logprobs: list[float] = torch.log_softmax(logits.double(), dim=-1).tolist()
        ranked = sorted(range(len(logits)), key=lambda token: (-float(logits[token]), token))
        self.first, self.second = ranked[0], ranked[1 if len(ranked) > 1 else 0]
        largest = logits.sort(descending=True).values[: sampling.entropy_top_k]
        divisor = sampling.temperature if sampling.entropy_of == "tempered" and sampling.temperature else 1.0
        self.entropy = float(top_k_entropy(largest[None] / divisor))
        self._greedy = sampling.temperature == 0

    def tokens(self, draws: Seq[float], slack: float = 1e-6) -> list[set[int]]:
        """The token that each draw picks, and those that rounding of the sums may make of it."""
        cumulative = self.probabilities.cumsum(dim=-1, dtype=torch.float64)
        found = []
        for draw in draws:
            near = [min(max(draw + shift, 0.0), 1 - 1e-12) * float(cumulative[-1]) for shift in (-slack, 0.0, slack)]
            found.append({int((cumulative > target).nonzero()[0, 0]) for target in near})
        return [{self.first}] * len(draws) if self._greedy else found
