"""Slots of one length class: keys and values of its rows, preallocated, written in place."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["SlotCache", "SlotLayer", "Snapshot"]

LENGTH_STEP = 64
"""Slots grow by at least this many positions, and by a quarter of what is asked for."""


class Snapshot(NamedTuple):
    """One row's keys and values, a pair a layer, each (kv_heads, length, head_dim)."""

    layers: list[tuple[Tensor, Tensor]]

    @property
    def length(self) -> int:
        return int(self.layers[0][0].shape[1])

    def bytes_per_position(self) -> dict[torch.device, int]:
        """What one position of a slot takes on each device."""
        taken: dict[torch.device, int] = {}
        for tensor in (tensor for pair in self.layers for tensor in pair):
            heads, _, dim = tensor.shape
            taken[tensor.device] = taken.get(tensor.device, 0) + heads * dim * tensor.element_size()
        return taken


class SlotLayer:
    """One layer's slots: ``keys`` and ``values``, (slots, kv_heads, capacity, head_dim) each, None before `reserve`."""

    def __init__(self) -> None:
        self.keys: Tensor | None = None
        self.values: Tensor | None = None

    @property
    def tensors(self) -> tuple[Tensor, Tensor]:
        assert self.keys is not None, "slots are reserved before they are used"
        assert self.values is not None
        return self.keys, self.values

    def reserve(self, slots: int, length: int, like: tuple[Tensor, Tensor]) -> None:
        """Grows to (slots, length); ``like`` gives heads, dimensions, dtype and device when there is nothing yet."""
        self.keys = _resized(self.keys, slots, length, like[0])
        self.values = _resized(self.values, slots, length, like[1])

    def shrink(self, slots: int) -> None:
        for name in ("keys", "values"):
            if getattr(self, name) is not None:  # memory may have ended between the two
                self._shrink(name, slots)

    def _shrink(self, name: str, slots: int) -> None:
        """Where there is no memory for a copy on the device, it is made on the host."""
        try:
            setattr(self, name, getattr(self, name)[:slots].clone())
        except torch.OutOfMemoryError:
            device = getattr(self, name).device
            kept = getattr(self, name)[:slots].cpu()
            setattr(self, name, None)
            setattr(self, name, kept.to(device))


def _resized(old: Tensor | None, slots: int, length: int, like: Tensor) -> Tensor:
    """A zeroed tensor (slots, heads, length, dim) that begins with what ``old`` holds; ``like`` is (heads, _, dim).

    Zeros matter: positions that no row has written are masked, and a masked NaN would still be a NaN. ``old`` may be
    the larger one, where memory ran out after some layers had grown; what it has beyond was never used.
    """
    new = torch.zeros((slots, like.shape[0], length, like.shape[2]), dtype=like.dtype, device=like.device)
    if old is not None:
        kept = old[:slots, :, :length]
        new[: kept.shape[0], :, : kept.shape[2]] = kept
    return new


class SlotCache:
    """The slots of one length class in all layers."""

    def __init__(self, num_layers: int, longest: int) -> None:
        self.layers = [SlotLayer() for _ in range(num_layers)]
        self._longest = longest
        """Positions that no slot needs more of."""
        self.slots = 0
        """Slots that there is room for."""
        self.capacity = 0
        """Positions that each slot has room for."""

    def fitting(self, slots: int, length: int) -> int:
        """The capacity that `reserve` would give: what there is if it suffices and more slots would not waste it."""
        grown = min(self._longest, -(-length * 5 // 4 // LENGTH_STEP) * LENGTH_STEP)
        keeps = length <= self.capacity and (slots <= self.slots or self.capacity <= 2 * grown)
        return self.capacity if keeps else grown

    def reserve(self, slots: int, length: int, like: Snapshot) -> None:
        """Room for at least (slots, length). Grows layer by layer, so no more than one layer is ever held twice.

        Where slots become longer, only the first ``slots`` are sure to stay; slots that are much longer than ``length``
        are cut where there should be more of them.
        """
        if slots <= self.slots and length <= self.capacity:
            return
        length = self.fitting(slots, length)
        for layer, tensors in zip(self.layers, like.layers, strict=True):
            layer.reserve(slots, length, tensors)
        self.slots, self.capacity = slots, length

    def shrink(self, slots: int) -> None:
        """Gives back the memory of all but the first ``slots`` slots."""
        for layer in self.layers:
            layer.shrink(slots)
        self.slots = min(slots, self.slots)
        if not self.slots:
            self.capacity = 0

    def copy(self, sources: list[int], destinations: list[int], length: int) -> None:
        """Copies the first ``length`` positions of slots to other slots; no destination is a source."""
        for layer in self.layers:
            for tensor in layer.tensors:
                try:
                    tensor[destinations, :, :length] = tensor[sources, :, :length]
                except torch.OutOfMemoryError:  # one by one they need no memory besides
                    for source, destination in zip(sources, destinations, strict=True):
                        tensor[destination, :, :length] = tensor[source, :, :length]

    def snapshot(self, slot: int, length: int, device: torch.device) -> Snapshot:
        """A copy of a slot's first ``length`` positions on ``device``, head by head: it takes no memory besides."""
        layers = []
        for layer in self.layers:
            keys, values = (
                torch.stack([head[:length].to(device, copy=True) for head in tensor[slot]]) for tensor in layer.tensors
            )
            layers.append((keys, values))
        return Snapshot(layers)

    def restore(self, first: int, number: int, snapshot: Snapshot) -> None:
        """Writes a snapshot to so many slots, one behind the other."""
        for layer, (keys, values) in zip(self.layers, snapshot.layers, strict=True):
            for tensor, saved in zip(layer.tensors, (keys, values), strict=True):
                tensor[first : first + number, :, : saved.shape[1]] = saved
