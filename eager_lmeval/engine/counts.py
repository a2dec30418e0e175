"""What an engine did, in numbers."""

from __future__ import annotations

import operator
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

C = TypeVar("C", bound="_Counts")

__all__ = ["EngineCounts", "TreeCounts"]


@dataclass
class _Counts:
    """Figures of one process that add up over processes; of those marked so, the largest of any process stands."""

    def __add__(self: C, other: C) -> C:
        figures = [(one.name, one.metadata.get("joined_by", operator.add)) for one in fields(self)]
        return type(self)(**{name: join(getattr(self, name), getattr(other, name)) for name, join in figures})


@dataclass
class TreeCounts(_Counts):
    """Sums over trees."""

    sequences: int = 0
    branches: int = 0
    tokens: int = 0
    tokens_independent: int = 0
    prefill_tokens: int = 0
    tokens_reused: int = 0
    """Tokens that came from the journal."""
    spent: int = 0
    """Sequences that stage 2 made."""


@dataclass
class EngineCounts(_Counts):
    """What the engine did; counts since its creation."""

    max_rows: int = field(default=0, metadata={"joined_by": max})
    steps: int = 0
    tokens: int = 0
    """Tokens decoded, by rows in use: a forked token counts once, where a tree counts each side's."""
    prefill_tokens: int = 0
    roots: int = 0
    forks: int = 0
    parked: int = 0
    wasted_tokens: int = 0
    """Decoded ahead of what was decided, and thrown away: on vLLM, and of roots that ran ahead in their race."""
    recomputed_tokens: int = 0
    """Computed again because memory was too small for all sequences: on vLLM."""
    out_of_memory: int = 0
    rows_used: int = 0
    rows_offered: int = 0
    rows_used_waiting: int = 0
    rows_offered_waiting: int = 0

    def count(self, rows: int, limit: int, waiting: bool) -> None:
        """One step with ``rows`` rows in use of the ``limit`` that it could have had."""
        offered = limit * -(-rows // limit)
        self.steps += 1
        self.tokens += rows
        self.rows_used += rows
        self.rows_offered += offered
        if waiting:
            self.rows_used_waiting += rows
            self.rows_offered_waiting += offered

    def to_record(self) -> dict[str, Any]:
        """Plain JSON data; shares are None where there was nothing to share."""
        return {
            "max_rows": self.max_rows,
            "steps": self.steps,
            "prefill_tokens": self.prefill_tokens,
            "parked_growths": self.parked,
            "wasted_tokens": self.wasted_tokens,
            "recomputed_tokens": self.recomputed_tokens,
            "out_of_memory": self.out_of_memory,
            "rows_in_use": self.rows_used / self.rows_offered if self.rows_offered else None,
            "rows_in_use_while_prompts_wait": (
                self.rows_used_waiting / self.rows_offered_waiting if self.rows_offered_waiting else None
            ),
        }
