"""The tensors of an engine as the loop sees them: a model, and slots that hold keys and values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from collections.abc import Sequence as Seq
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from eager_lmeval.algorithm.readout import Readout
from eager_lmeval.engine.sampling import Sampling

__all__ = ["OutOfMemory", "Prefix", "Runner", "Slot", "length_class", "longest_of"]

SHORT = 1024
"""Positions of the longest rows of the first length class; those of each further one are twice as long."""


def longest_of(length_class: int) -> int:
    """The positions of a length class's longest rows."""
    return SHORT << length_class


def length_class(positions: int) -> int:
    """The class of the slots that a row of so many positions stands on: 0 is that of the shortest."""
    return ((positions - 1) // SHORT).bit_length()


class Slot(NamedTuple):
    """Where a row's keys and values stand. A class's slots are all as long as its longest row needs."""

    length_class: int
    place: int


class OutOfMemory(RuntimeError):
    """The device could not hold a step; the runner's state is as before it."""


class Prefix(NamedTuple):
    """A prefilled prompt: its keys and values, and the logits of its first generated token. Opaque to the loop."""

    snapshot: Any
    logits: Any


class Runner(Protocol):
    """The tensors of an engine: a model, and slots that hold keys and values."""

    def prefill(self, prompts: list[list[int]]) -> list[Prefix]:
        """Pushes whole prompts through the model. Raises OutOfMemory."""

    def copy(self, moves: Seq[tuple[Slot, Slot]], length: int) -> None:
        """Copies slots' first ``length`` positions, (source, destination), of one class; no destination is a source."""

    def park(self, slot: Slot, length: int) -> Any:
        """A snapshot of a slot's first ``length`` positions, kept where memory is not scarce."""

    def room(self, needs: Seq[int]) -> int:
        """How many of the first of these rows, each of so many positions, there is memory for in slots; may be 0."""

    def reserve(self, needs: Seq[int], limit: int) -> None:
        """Makes room for rows of so many positions each, and as far as memory goes for more, ``limit`` in all.

        Raises OutOfMemory. Slots that none of these rows need may go.
        """

    @property
    def slots(self) -> Counter[int]:
        """Slots that there is room for, by class."""

    def restore(self, first: Slot, number: int, snapshot: Any) -> None:
        """Writes a snapshot to so many slots of a class, one behind the other. Raises OutOfMemory."""

    def decode(
        self,
        tokens: list[int],
        lengths: list[int],
        first_logits: list[Any],
        uniforms: NDArray[np.float64],
        sampling: Sampling,
        limit: int,
        strata: NDArray[np.int64] | None = None,
    ) -> list[Readout]:
        """One step. Rows come class by class, in the order of their slots, which are the first of their class.

        Row i holds ``lengths[i]`` positions and takes ``tokens[i]``; fresh rows follow with their logits. At most
        ``limit`` rows go through the model at once. ``uniforms`` (rows,) has one draw a row, fresh ones last;
        ``strata`` (rows,) how many strata it would be dealt over, 0 where it cannot open: none can without it. Raises
        OutOfMemory.
        """

    def shrink(self, kept: Mapping[int, int]) -> None:
        """Gives back the memory of all slots but the first so many of each class."""
