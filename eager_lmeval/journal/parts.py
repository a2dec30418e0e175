"""Parts: what is journaled of a prompt in one go, and the names that say what each is (docs/journal.md)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

__all__ = ["ROUNDS", "TREE", "grant_part", "roots_part", "successive_roots"]

TREE = "tree"
"""Stage 1 of a prompt: one root and what branched off it."""
ROUNDS = "rounds"
"""Stage 1 of `consistency`: root after root until the vote was settled."""


def roots_part(first: int, roots: int) -> str:
    """Stage 1 of `parallel`, or some of it: roots ``first`` … ``first + roots − 1``."""
    return f"roots {first}+{roots}"


def grant_part(grant: int, threshold_decay: float) -> str:
    """Stage 2: the sequences that a prompt was granted, and how θ fell for them."""
    return f"grant {grant} decay {threshold_decay!r}"


def successive_roots(parts: Iterable[str], wanted: int) -> Iterator[tuple[str, int]]:
    """Parts that together hold the first roots, without a gap, up to ``wanted``; each with how many roots to take.

    Where several begin at the same root, the longest is taken.
    """
    spans = {_span(part): part for part in parts if part.startswith("roots ")}
    have = 0
    while have < wanted and (following := [span for span in spans if span.first == have]):
        longest = max(following)
        take = min(longest.roots, wanted - have)
        yield spans[longest], take
        have += take


class _Span(NamedTuple):
    first: int
    roots: int


def _span(part: str) -> _Span:
    first, roots = part.removeprefix("roots ").split("+")
    return _Span(int(first), int(roots))
