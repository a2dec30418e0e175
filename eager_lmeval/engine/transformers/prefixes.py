"""Keys and values in float64 of what near ties were read after, so that a later one pays for the tokens since alone."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

__all__ = ["Prefixes"]


class _Kept(NamedTuple):
    ids: list[int]
    cache: DynamicCache


class Prefixes:
    """Caches of token sequences, those that were used last, as many as fit into a number of bytes."""

    def __init__(self) -> None:
        self._kept: list[_Kept] = []
        """Least recently used first."""

    def take(self, ids: list[int]) -> DynamicCache:
        """The cache of as many of the first of ``ids`` as are kept, but not of the last one. It is the caller's own."""
        shared = [_shared(kept.ids, ids[:-1]) for kept in self._kept]
        length = max(shared, default=0)
        if not length:
            return DynamicCache()
        place = shared.index(length)
        if length == len(self._kept[place].ids):
            return self._kept.pop(place).cache
        cache = DynamicCache()
        for number, (keys, values) in enumerate(_layers(self._kept[place].cache)):
            cache.update(keys[:, :, :length].clone(), values[:, :, :length].clone(), number)
        return cache

    def keep(self, ids: list[int], cache: DynamicCache, limit_bytes: int) -> None:
        """Keeps the cache of ``ids``; the least recently used go where all would be more than the limit."""
        self._kept.append(_Kept(ids, cache))
        while self._kept and sum(_bytes(kept.cache) for kept in self._kept) > limit_bytes:
            del self._kept[0]

    def clear(self) -> None:
        self._kept.clear()

    def __bool__(self) -> bool:
        return bool(self._kept)


def _shared(one: list[int], other: list[int]) -> int:
    """How many of the first tokens are the same."""
    most = min(len(one), len(other))
    differ = np.nonzero(np.array(one[:most]) != np.array(other[:most]))[0]
    return int(differ[0]) if len(differ) else most


def _layers(cache: DynamicCache) -> list[tuple[Tensor, Tensor]]:
    """Keys and values, (1, kv_heads, length, head_dim) each."""
    return [
        (layer.keys, layer.values)
        for layer in cache.layers
        if isinstance(layer, DynamicLayer) and layer.keys is not None and layer.values is not None
    ]


def _bytes(cache: DynamicCache) -> int:
    return sum(keys.nbytes + values.nbytes for keys, values in _layers(cache))
