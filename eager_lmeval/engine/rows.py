"""Rows and where they stand: who leaves when they no longer fit, and how those that stay close ranks. No tensors."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import Any, NamedTuple

from eager_lmeval.algorithm.growth import Growth
from eager_lmeval.algorithm.tree import Sequence
from eager_lmeval.engine.runner import Prefix, Slot, length_class

__all__ = ["Placed", "Row", "Tenant", "by_class", "by_tenant", "close_gaps", "youngest"]


@dataclass(eq=False)
class Tenant:
    """A growth in the engine. ``age`` is its place in the order of admission; the oldest is never parked."""

    growth: Growth
    age: int
    prefix: Prefix | None


@dataclass
class Row:
    """An unfinished sequence. A fresh one has no token yet: its logits are its prompt's, not a decode step's."""

    tenant: Tenant
    sequence: Sequence
    key: int
    """Key of its stream of draws."""
    prompt_length: int
    first_logits: Any = None

    @property
    def fresh(self) -> bool:
        return not self.sequence.tokens

    @property
    def length(self) -> int:
        """Positions whose keys and values are stored: all but the newest token's."""
        return self.need - 1

    @property
    def need(self) -> int:
        """Positions that its next step takes."""
        return self.prompt_length + max(1, len(self.sequence.tokens))

    @property
    def length_class(self) -> int:
        return length_class(self.need)


class Placed(NamedTuple):
    """A row and where its keys and values stand: a slot, or a snapshot."""

    source: Slot | Any
    row: Row

    @property
    def standing(self) -> bool:
        """Whether it is on a slot of its class."""
        return isinstance(self.source, Slot) and self.source.length_class == self.row.length_class


def by_class(layout: Iterable[Placed]) -> dict[int, list[Placed]]:
    """Rows by the length class that they need, the classes in order."""
    classes: dict[int, list[Placed]] = {}
    for placed in layout:
        classes.setdefault(placed.row.length_class, []).append(placed)
    return dict(sorted(classes.items()))


def by_tenant(rows: Iterable[Row]) -> list[list[int]]:
    """Places of rows, those of one tenant together."""
    places: dict[int, list[int]] = {}
    for place, row in enumerate(rows):
        places.setdefault(row.tenant.age, []).append(place)
    return list(places.values())


def youngest(layout: Seq[Placed], limit: int) -> tuple[list[Placed], list[list[Placed]]]:
    """Who stays when only ``limit`` rows may, and who leaves, one tenant's together.

    Of the youngest growth first: in lockstep all its rows, unless it is the only one; else as many as are too many, the
    last ones, which are those that have just split off.
    """
    staying, leaving = list(layout), []
    while len(staying) > limit:
        tenants = {placed.row.tenant.age: placed.row.tenant for placed in staying}
        youngest = max(tenants)
        of_youngest = [placed for placed in staying if placed.row.tenant.age == youngest]
        if not tenants[youngest].growth.lockstep:
            of_youngest = of_youngest[-(len(staying) - limit) :]
        elif len(tenants) == 1:
            break
        leaving.append(of_youngest)
        gone = set(map(id, of_youngest))
        staying = [placed for placed in staying if id(placed) not in gone]
    return staying, leaving


def close_gaps(standing: Seq[Placed]) -> tuple[list[Placed], list[tuple[Slot, Slot]]]:
    """Rows on slots of one class brought to its places 0 … n−1, and the moves for it, as few as possible.

    A move is (from slot, to slot). Several rows may stand on one slot: a parent and the children that it has just
    forked.
    """
    closed: list[Placed | None] = [None] * len(standing)
    moving = []
    for placed in standing:
        place = placed.source.place
        if place < len(closed) and closed[place] is None:
            closed[place] = placed
        else:
            moving.append(placed)
    moves = []
    for placed, place in zip(moving, [place for place, kept in enumerate(closed) if kept is None], strict=True):
        gap = Slot(placed.source.length_class, place)
        closed[place] = Placed(gap, placed.row)
        moves.append((placed.source, gap))
    return [placed for placed in closed if placed is not None], moves
