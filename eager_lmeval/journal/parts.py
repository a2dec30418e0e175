"""Parts: what is journaled of a prompt in one go, and the names that say what each is (docs/long-runs.md)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from eager_lmeval.algorithm.tree import Sequence as Grown

__all__ = ["RACE", "TREE", "fits", "grant_part", "roots_part", "single_roots", "successive_roots"]

TREE = "tree"
"""Stage 1 of a prompt: one root and what branched off it."""
RACE = "race"
"""Stage 1 of `consistency`: all roots of a race that is over. Until it is, each root that has ended is a part of its
own, as a root of `parallel` is."""


_GRANT = re.compile(r"grant ([1-9]\d{0,8}) decay \S+")


def roots_part(first: int, roots: int) -> str:
    """Stage 1 of `parallel`, or some of it, or of a race: roots ``first`` … ``first + roots − 1``."""
    return f"roots {first}+{roots}"


def grant_part(grant: int, threshold_decay: float) -> str:
    """Stage 2: the sequences that a prompt was granted, and how θ fell for them."""
    return f"grant {grant} decay {threshold_decay!r}"


def fits(part: str, sequences: Sequence[Grown]) -> bool:
    """Whether these sequences can be what a part of this name is said to hold."""
    roots = [one.path[0] for one in sequences if one.branch_at is None]
    raced = any(one.start is not None for one in sequences)
    if span := _span(part):
        return [one.path for one in sequences] == [(root,) for root in range(span.first, span.first + span.roots)]
    if part == RACE:
        return raced and len(sequences) == len(roots) and roots == list(range(len(roots)))
    if raced:
        return False
    if part == TREE:
        return roots == [0]
    if not (grant := _GRANT.fullmatch(part)) or 0 in roots:  # stage 2 comes after a tree
        return False
    copies = [one.copies for one in sequences]
    return None in copies or sum(number or 0 for number in copies) == int(grant[1])


def successive_roots(parts: Iterable[str], wanted: int) -> Iterator[tuple[str, int]]:
    """Parts that together hold the first roots, without a gap, up to ``wanted``; each with how many roots to take.

    Where several begin at the same root, the longest is taken.
    """
    spans = {span: part for part in parts if (span := _span(part))}
    have = 0
    while have < wanted and (following := [span for span in spans if span.first == have]):
        longest = max(following)
        take = min(longest.roots, wanted - have)
        yield spans[longest], take
        have += take


def single_roots(parts: Iterable[str]) -> dict[int, str]:
    """By number: the parts that hold one root alone."""
    spans = {part: span for part in parts if (span := _span(part))}
    return {span.first: part for part, span in spans.items() if span.roots == 1}


class _Span(NamedTuple):
    first: int
    roots: int


def _span(part: str) -> _Span | None:
    """None for a part that is no roots."""
    found = re.fullmatch(r"roots (\d{1,9})\+([1-9]\d{0,8})", part)
    return _Span(int(found[1]), int(found[2])) if found else None
