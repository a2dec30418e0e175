"""The race of SPEC 5 played tick by tick, the slow and obvious way."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable
from collections.abc import Sequence as Seq
from typing import NamedTuple


class Outcome(NamedTuple):
    ended: dict[int, int]
    """Tokens by root, in the order of their ends."""
    cut: dict[int, int]
    settled: int | None
    """When the vote was."""


def at_least(most: int, flips: int) -> float:
    """The chance of at least ``most`` heads in so many flips of a fair coin."""
    return sum(math.comb(flips, heads) for heads in range(most, flips + 1)) / 2**flips


def tick_by_tick(
    lengths: Seq[int], answers: Seq[Hashable | None], first_lanes: int, most: int, settled_at: float
) -> Outcome:
    begun = min(first_lanes, most)
    has: dict[int, int] = dict.fromkeys(range(begun), 0)
    ended: dict[int, int] = {}
    cut: dict[int, int] = {}
    settled, now = None, 0
    while has:
        now += 1
        has = {root: tokens + 1 for root, tokens in has.items()}
        over = [root for root in has if has[root] == lengths[root]]
        ended |= {root: has.pop(root) for root in over}
        if not over or settled is not None:
            continue
        votes = sorted(Counter(answers[root] for root in ended if answers[root] is not None).values())
        first, second = [0, 0, *votes][-1], [0, 0, *votes][-2]
        if at_least(second + 1, first + second + 1) >= settled_at:
            settled = now
            cut = {root: has.pop(root) for root in list(has) if root >= first_lanes}
        while settled is None and len(has) < max(first_lanes, len(ended)) and begun < most:
            has[begun] = 0
            begun += 1
    return Outcome(ended, cut, settled)
