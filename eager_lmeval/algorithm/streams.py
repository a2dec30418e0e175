"""Randomness (SPEC 4): every draw is a pure function of what it is for, not of when or where it is made."""

from __future__ import annotations

import hashlib
import json

import numpy as np
from numpy.typing import NDArray

from eager_lmeval.algorithm.tree import Path

__all__ = ["shuffled", "stream_key", "uniforms"]

_INCREMENT = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def stream_key(seed: int, task: str, context: str, path: Path) -> int:
    """The 64-bit key of one sequence's stream of draws."""
    name = json.dumps(["eager", seed, task, context, list(path)], ensure_ascii=False, separators=(",", ":"))
    return int.from_bytes(hashlib.sha256(name.encode("utf-8")).digest()[:8], "little")


def uniforms(keys: NDArray[np.uint64], steps: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Draw ``steps[i]`` of stream ``keys[i]``: SplitMix64 at that place, as float64 in [0, 1). Both (rows,)."""
    z = keys + (steps + np.uint64(1)) * _INCREMENT
    z = (z ^ (z >> np.uint64(30))) * _MIX_1
    z = (z ^ (z >> np.uint64(27))) * _MIX_2
    z = z ^ (z >> np.uint64(31))
    draws: NDArray[np.float64] = (z >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return draws


def shuffled(number: int, turn: int, seed: int, task: str, context: str) -> list[int]:
    """A prompt's random order of ``number`` things, another one at each ``turn``: by draws of the stream of path
    ``(-2, turn)``, which no sequence has."""
    key = stream_key(seed, task, context, (-2, turn))
    draws = uniforms(np.full(number, key, dtype=np.uint64), np.arange(number, dtype=np.uint64))
    return [int(place) for place in np.argsort(draws, kind="stable")]
