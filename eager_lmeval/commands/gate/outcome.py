"""What a check may find, and what that means."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

__all__ = ["Line", "Outcome"]


class Outcome(Enum):
    """What `track check` says; the value is the exit status."""

    PASS = 0
    REGRESSION = 1
    INCONCLUSIVE = 3
    IMPROVEMENT = 4


class Line(NamedTuple):
    """One finding, and what it means for the verdict."""

    outcome: Outcome
    message: str
