"""The tensors of an engine as the loop sees them: a model, and slots that hold keys and values."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from eager_lmeval.algorithm.readout import Readout
from eager_lmeval.engine.sampling import Sampling

__all__ = ["OutOfMemory", "Prefix", "Runner"]


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

    def copy(self, moves: list[tuple[int, int]], length: int) -> None:
        """Copies slots' first ``length`` positions, (source, destination); no destination is a source."""

    def park(self, slot: int, length: int) -> Any:
        """A snapshot of a slot's first ``length`` positions, kept where memory is not scarce."""

    def room(self, length: int) -> int:
        """For how many slots of so many positions there is memory, those that there are now included; may be 0."""

    def reserve(self, slots: int, length: int) -> None:
        """Makes room for so many slots of so many positions, or more; slots beyond them may go. Raises OutOfMemory."""

    @property
    def slots(self) -> int:
        """Slots that there is room for."""

    def restore(self, slot: int, snapshot: Any) -> None:
        """Writes a snapshot to a slot. Raises OutOfMemory."""

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
        """One step. Slot i holds ``lengths[i]`` positions and takes ``tokens[i]``; fresh rows follow with their logits.

        At most ``limit`` rows go through the model at once. ``uniforms`` (rows,) has one draw a row, fresh ones last;
        ``strata`` (rows,) how many strata it would be dealt over, 0 where it cannot open: none can without it. Raises
        OutOfMemory.
        """

    def read_exactly(
        self,
        token_ids: list[int],
        uniforms: NDArray[np.float64],
        sampling: Sampling,
        strata: NDArray[np.int64] | None = None,
    ) -> Readout:
        """The readout after these tokens, prompt and generated, from them alone and in float64. Raises OutOfMemory.

        ``uniforms`` (1,) is the draw, ``strata`` (1,) as for `decode`. Slots are neither read nor written.
        """

    def shrink(self, slots: int) -> None:
        """Gives the memory of all but the first ``slots`` slots back."""
