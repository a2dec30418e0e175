"""How long a stage still takes, judged by what it has done so far."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["steps_left"]


def steps_left(rooms: Sequence[int], coming: float, room: int, stopped: int, decoded: int, rows: float) -> float:
    """Decode steps until all sequences have ended: the live ones, and ``coming`` that have not begun.

    A live one may have ``rooms[i]`` further tokens, one to come ``room``; ``rows`` are decoded a step. Lengths are
    taken as exponentially distributed, cut off at the limit. The rate at which sequences stop is then best estimated,
    by maximum likelihood, as ``stopped`` ones per ``decoded`` token: the unfinished and the cut-off ones are censored.
    As long as none has stopped, all are taken to reach their limits.
    """
    rate = stopped / decoded if decoded else 0.0

    def expected(room: int) -> float:
        return -math.expm1(-rate * room) / rate if rate else room

    live = [expected(room) for room in rooms]
    return max([(sum(live) + coming * expected(room)) / rows, *live])
