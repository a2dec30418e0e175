"""One forward pass over rows of several length classes: attention reads the rows of each class from its own slots.

transformers looks a model's attention function up by a name. Under the one that is registered here, `sdpa` runs once a
class; all that a layer does besides is done for all rows at once. The function finds the slots by an argument that
models hand on to their attention, which is how vLLM's kernels find theirs in models of transformers.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence as Seq
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import AttentionInterface, Cache, PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import CacheLayerMixin
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from eager_lmeval.engine.transformers.cache import SlotCache

__all__ = ["Part", "PassCache", "attention_by_class", "can_attend_by_class"]

NAME = "eager_lmeval_by_class"


class Part(NamedTuple):
    """Neighbouring slots of one class, each of which decodes one token at its own position."""

    slots: SlotCache
    start: int
    positions: Tensor
    """(rows,) where each row's new token goes."""
    length: int
    """Positions that any of them can see: the largest position plus 1."""


class PassCache(Cache):
    """What a forward pass sees of the slots: a transformers cache of the rows that `take` has named.

    Of one class: any model reads its keys and values. Of several: those that `can_attend_by_class`, under
    `attention_by_class` and with this cache as ``slots``.
    """

    def __init__(self, num_layers: int) -> None:
        self.parts: list[Part] = []
        self.attended = 0
        """Layers of the pass that have attended class by class."""
        super().__init__(layers=[_PassLayer(self, layer) for layer in range(num_layers)])

    def take(self, parts: Seq[Part]) -> None:
        """The next forward pass decodes the rows of these parts, in this order."""
        self.parts, self.attended = list(parts), 0
        self._rows = [torch.arange(len(part.positions), device=part.positions.device) for part in parts]

    @property
    def length(self) -> int:
        """Positions that any row of the pass can see."""
        return max((part.length for part in self.parts), default=0)

    def views(self, layer: int) -> list[tuple[Tensor, Tensor]]:
        """Each part's keys and values, (rows, kv_heads, length, head_dim) each. Whoever keeps them keeps the slots."""
        views = []
        for part in self.parts:
            place = slice(part.start, part.start + len(part.positions))
            keys, values = (tensor[place, :, : part.length] for tensor in part.slots.layers[layer].tensors)
            views.append((keys, values))
        return views

    def attend(self, module: Any, query: Tensor, mask: Tensor, **options: Any) -> Tensor:
        """`sdpa` of each part's rows (rows, heads, 1, head_dim) over its slots."""
        self.attended += 1
        sdpa, sizes = ALL_ATTENTION_FUNCTIONS["sdpa"], [len(part.positions) for part in self.parts]
        outputs = [
            sdpa(module, own_query, keys, values, own_mask[..., : keys.shape[2]], **options)[0]
            for own_query, own_mask, (keys, values) in zip(
                torch.split(query, sizes), torch.split(mask, sizes), self.views(module.layer_idx), strict=True
            )
        ]
        return torch.cat(outputs)


class _PassLayer(CacheLayerMixin):
    is_sliding = False

    def __init__(self, cache: PassCache, layer: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # transformers leaves it without types
        self._cache, self._layer = cache, layer

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        raise AssertionError("slots are reserved before they are written")

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Writes one position a row, in place. States are (rows, kv_heads, 1, head_dim).

        Returns what the rows of one part can see; where there are several, states of the longest one's shape, for
        models that look at it: `PassCache.attend` reads the slots.
        """
        views, start = self._cache.views(self._layer), 0
        for part, row, held in zip(self._cache.parts, self._cache._rows, views, strict=True):
            own = slice(start, start := start + len(row))
            for tensor, states in zip(held, (key_states, value_states), strict=True):
                place, position = row.to(tensor.device), part.positions.to(tensor.device)
                tensor[place, :, position] = states[own, :, 0].to(tensor.dtype)  # autocast makes them of several dtypes
        if len(views) == 1:
            return views[0]
        shape = (-1, -1, self._cache.length, -1)
        return key_states.expand(shape), value_states.expand(shape)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self._cache.length, 0

    def get_seq_length(self) -> int:
        return max(0, self._cache.length - 1)

    def get_max_length(self) -> int:
        return -1

    def get_max_cache_shape(self) -> int:
        """What transformers up to 5.12 calls `get_max_length`."""
        return self.get_max_length()


def _attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor, *, slots: PassCache, **options: Any
) -> tuple[Tensor, None]:
    return slots.attend(module, query, attention_mask, **options), None


AttentionInterface.register(NAME, _attend)


def can_attend_by_class(model: PreTrainedModel, config: PreTrainedConfig) -> bool:
    """Whether the model looks its attention up in transformers' registry, and finds `sdpa`, which splits by rows."""
    return config._attn_implementation == "sdpa" and model._supports_attention_backend


@contextmanager
def attention_by_class(config: PreTrainedConfig) -> Iterator[None]:
    """Within it, the attention of models with this config is that of `PassCache.attend`."""
    before = config._attn_implementation
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = before
