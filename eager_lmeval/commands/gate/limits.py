"""What is asked of the gate. How much a metric may get worse is typed ``pass@max=0.02`` or ``tokens=10%``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from eager_lmeval.commands.arguments import amount

__all__ = ["Asked", "Limit", "parse_limit"]


class Limit(NamedTuple):
    """How much a metric may get worse."""

    metric: str
    direction: Literal["drop", "increase"]
    amount: float
    relative: bool
    """Whether ``amount`` is a share of the baseline's mean."""
    task: str | None = None
    """The only task that it is for; None for all."""

    @property
    def shown_amount(self) -> str:
        return f"{100 * self.amount:g}%" if self.relative else f"{self.amount:g}"

    @property
    def typed(self) -> str:
        """As it stands on the command line."""
        return f"--max-{self.direction} {self.metric}={self.shown_amount}"

    def __str__(self) -> str:
        return f"{self.metric} may {'drop' if self.direction == 'drop' else 'rise'} by {self.shown_amount}"


class Asked(NamedTuple):
    """How two runs are to be judged."""

    limits: Sequence[Limit]
    confidence: float
    power: float
    tasks: Sequence[str]
    """Those to judge; empty for all."""
    allow_different: bool


def parse_limit(text: str, direction: Literal["drop", "increase"]) -> Limit:
    """``pass@max=0.02`` or ``tokens=10%``; ValueError in words for anything else."""
    metric, _, given = text.rpartition("=")
    try:
        value, percent = amount(given)
    except ValueError:
        metric = ""
    if not metric.strip():
        raise ValueError(f"{text!r} is no limit: give METRIC=AMOUNT, such as pass@max=0.02 or tokens=10%")
    return Limit(metric.strip(), direction, value, percent)
