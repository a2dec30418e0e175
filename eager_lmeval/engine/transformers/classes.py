"""The slots of all length classes, and the memory that they share.

A class's slots are all as long as its longest row needs, and are a tensor of their own a layer, so that one long row
makes neither the slots of short ones long nor their attention slow. Memory is counted in positions of slots.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from collections.abc import Sequence as Seq

import torch

from eager_lmeval.engine.runner import Slot, length_class, longest_of
from eager_lmeval.engine.transformers.cache import SlotCache, Snapshot
from eager_lmeval.engine.transformers.memory import for_slots

__all__ = ["SlotClasses"]


class SlotClasses:
    """A `SlotCache` a length class. ``like`` is any row's snapshot, for what keys and values look like."""

    def __init__(self, num_layers: int) -> None:
        self.like: Snapshot | None = None
        self._num_layers = num_layers
        self._caches: dict[int, SlotCache] = {}
        self._seen: tuple[int, int] = (-1, 0)
        """Positions that slots held when memory was last looked at, and how many there could be."""

    def __getitem__(self, of_class: int) -> SlotCache:
        if of_class not in self._caches:
            self._caches[of_class] = SlotCache(self._num_layers, longest_of(of_class))
        return self._caches[of_class]

    @property
    def slots(self) -> Counter[int]:
        return Counter({of_class: cache.slots for of_class, cache in self._caches.items()})

    def held(self, classes: Seq[int] | None = None) -> int:
        """Positions of the slots of these classes (default all)."""
        chosen = self._caches if classes is None else classes
        return sum(self[of_class].slots * self[of_class].capacity for of_class in chosen)

    def _positions(self) -> int:
        """How many positions slots may have, those that there are included; looked at anew when these have changed."""
        if self.like is None:
            return sys.maxsize
        held = self.held()
        if self._seen[0] != held:
            free = min(for_slots(device) // taken for device, taken in self.like.bytes_per_position().items())
            self._seen = (held, held + free)
        return self._seen[1]

    def room(self, needs: Seq[int]) -> int:
        """How many of the first of these rows fit, as slots would be reserved for them."""
        positions, longest = self._positions(), max(needs, default=1)
        if len(needs) * self[length_class(longest)].fitting(len(needs), longest) <= positions:
            return len(needs)
        classes: dict[int, tuple[int, int, int]] = {}  # rows, the longest, the capacity of a slot
        taken = 0
        for number, need in enumerate(needs):
            of_class = length_class(need)
            rows, longest, capacity = classes.get(of_class, (0, 0, 0))
            longest = max(longest, need)
            grown = self[of_class].fitting(rows + 1, longest)
            taken += (rows + 1) * grown - rows * capacity
            if taken > positions:
                return number
            classes[of_class] = (rows + 1, longest, grown)
        return len(needs)

    def reserve(self, needs: Seq[int], limit: int) -> None:
        """Slots for rows of so many positions each; where a class grows, up to twice as many as memory and limit allow.

        Classes give back what no row needs only where others could not grow otherwise.
        """
        assert self.like is not None, "something was prefilled before anything is decoded"
        rows: Counter[int] = Counter()
        longest: Counter[int] = Counter()
        for need in needs:
            of_class = length_class(need)
            rows[of_class] += 1
            longest[of_class] = max(longest[of_class], need)
        growing = {
            of_class: self[of_class].fitting(number, longest[of_class])
            for of_class, number in rows.items()
            if number > self[of_class].slots or longest[of_class] > self[of_class].capacity
        }
        if not growing:
            return
        others = [of_class for of_class in self._caches if of_class not in growing]
        least = sum(rows[of_class] * capacity for of_class, capacity in growing.items())
        free = self._positions() - least - self.held(others)
        if free < 0:
            self.shrink(rows)
            free = self._positions() - least - self.held(others)
        spare = limit - len(needs)
        for of_class, capacity in growing.items():
            more = max(0, min(spare, rows[of_class], free // capacity))
            self[of_class].reserve(rows[of_class] + more, longest[of_class], self.like)
            spare, free = spare - more, free - more * capacity

    def shrink(self, kept: Mapping[int, int]) -> None:
        for of_class, cache in self._caches.items():
            if cache.slots > kept.get(of_class, 0):
                cache.shrink(kept.get(of_class, 0))

    def copy(self, moves: Seq[tuple[Slot, Slot]], length: int) -> None:
        cache = self[moves[0][0].length_class]
        cache.copy([source.place for source, _ in moves], [destination.place for _, destination in moves], length)

    def snapshot(self, slot: Slot, length: int) -> Snapshot:
        """In the host's memory."""
        return self[slot.length_class].snapshot(slot.place, length, torch.device("cpu"))

    def restore(self, first: Slot, number: int, snapshot: Snapshot) -> None:
        self[first.length_class].restore(first.place, number, snapshot)
