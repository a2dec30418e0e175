"""What the host learns of one sequence in one step: the one thing that an engine hands to the algorithm."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Readout", "Stratum"]


class Stratum(NamedTuple):
    """What one stratum of a row that may open would take (SPEC 3.2)."""

    token: int
    logprob: float
    """Its raw log-probability in nats."""


class Readout(NamedTuple):
    """What the host learns of one row in one step."""

    token: int
    """The token drawn, or the most likely one at temperature 0."""
    first: int
    """The most likely token by raw logits; ties go to the smaller id."""
    second: int
    """The second most likely; equal to ``first`` only in a vocabulary of one token."""
    entropy: float
    """Top-K entropy in nats; NaN where the logits hold NaN or +inf, or nothing but -inf."""
    p_first: float
    p_second: float
    logprob: float
    """Raw log-probability of ``token`` in nats; the two below those of ``first`` and ``second``."""
    logprob_first: float
    logprob_second: float
    shares_unsure: bool = False
    """Whether an engine that sees the largest log-probabilities alone cannot tell `shares` from them."""
    strata: tuple[Stratum, ...] = ()
    """By number, if they were asked for: stratum g of f takes the token that (g + u)/f picks."""

    @property
    def shares(self) -> tuple[float, float]:
        """How a fork splits a weight: p₁/(p₁+p₂) and p₂/(p₁+p₂); 1 and 0 where both vanish."""
        both = self.p_first + self.p_second
        return (self.p_first / both, self.p_second / both) if both > 0 else (1.0, 0.0)
