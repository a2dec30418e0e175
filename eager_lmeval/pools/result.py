"""What a pool came to, and what ranks send each other of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from eager_lmeval.algorithm.budget import Ledger
from eager_lmeval.algorithm.strategy import Standing
from eager_lmeval.algorithm.tree import Sequence, Tree
from eager_lmeval.engine.counts import TreeCounts

__all__ = ["Parcel", "PoolResult", "Races"]


class Parcel(NamedTuple):
    """What one rank sends to another when a pool has ended; prompts are meant by their places in the pool."""

    totals: TreeCounts
    """The sender's sums."""
    reused: frozenset[int]
    """Prompts of which the sender had something from the journal."""
    grown: list[tuple[int, list[Sequence], int]]
    """The receiver's prompts: their sequences and prefill tokens."""


class Races(NamedTuple):
    """What the races of a pool came to."""

    settled: float
    """Share of them whose vote was settled."""
    parallel_tokens: float
    """What all M sequences of every prompt would have cost, estimated (`Summary.tokens_of_all`)."""


@dataclass(frozen=True)
class PoolResult:
    """The trees of this rank's prompts in the prompts' order; the ledger and the sums are those of all ranks."""

    trees: list[Tree]
    ledger: Ledger
    totals: TreeCounts
    prompts_reused: int
    """Prompts of which something came from the journal, on any rank."""
    labels_used: bool
    standings: list[Standing]
    """By tree: what a reader has to know of how the strategy went."""
    race: Races | None
    """Of all ranks, where there were any."""
