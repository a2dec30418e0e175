"""Who wins a vote: from the classes and weights of answers alone, whatever is right."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import TypeVar

__all__ = ["leaders"]

C = TypeVar("C", bound=Hashable)


def leaders(classes: Sequence[C | None], weights: Sequence[float]) -> list[C]:
    """The answer classes with the most weight, in order of first appearance: several where they tie (SPEC 8).

    None is a sequence without an answer, which does not vote. Nobody leads where no vote has any weight.
    """
    totals: dict[C, float] = {}
    for answer, weight in zip(classes, weights, strict=True):
        if answer is not None:
            totals[answer] = totals.get(answer, 0.0) + weight
    most = max(totals.values(), default=0.0)
    return [answer for answer, total in totals.items() if most and math.isclose(total, most, rel_tol=1e-9)]
