"""One forward pass over rows of several length classes: attention reads the rows of each class from its own slots.

transformers looks a model's attention function up by a name. Under the one that is registered here, `sdpa` runs once a
class; all that a layer does besides is done for all rows at once. vLLM reaches models of transformers in the same way,
through arguments that models hand on; not all of them do, so here the function finds the slots in a context.

A model may do something to keys and values between its cache and its attention, or make a mask of its own of them. Then
what stands in the slots is not what it attends to, and `NotByClass` says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence as Seq
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import AttentionInterface, Cache, PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import CacheLayerMixin
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from eager_lmeval.engine.transformers.cache import SlotCache

__all__ = ["NotByClass", "Part", "PassCache", "attention_by_class", "can_attend_by_class"]

NAME = "eager_lmeval_by_class"


class NotByClass(RuntimeError):
    """The model's attention cannot be taken class by class after all. The message goes on after its name."""


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
    `attention_by_class`.
    """

    def __init__(self, num_layers: int) -> None:
        self.parts: list[Part] = []
        self._handed_out: dict[int, tuple[Tensor, Tensor]] = {}
        """What the model was given of several parts, by layer, until its attention has brought it back. Kept, so that
        nothing else can come to stand at the same address."""
        super().__init__(layers=[_PassLayer(self, layer) for layer in range(num_layers)])

    def take(self, parts: Seq[Part]) -> None:
        """The next forward pass decodes the rows of these parts, in this order."""
        self.parts = list(parts)
        self.masks: list[Tensor] = []
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

    def hand_out(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Stands for the rows' keys and values, which are in several tensors: new ones in the longest part's shape."""
        shape = (-1, -1, self.length, -1)
        self._handed_out[layer] = keys.expand(shape), values.expand(shape)
        return self._handed_out[layer]

    def attend(self, module: Any, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor, **options: Any) -> Tensor:
        """`sdpa` of each part's rows (rows, heads, 1, head_dim) over its slots, for what `hand_out` has returned.

        Raises NotByClass for anything else.
        """
        if _identities(*self._handed_out.pop(module.layer_idx, ())) != _identities(keys, values):
            raise NotByClass("changes keys and values after they were cached")
        if mask is None or all(mask.data_ptr() != given.data_ptr() for given in self.masks):
            raise NotByClass("makes masks of its own")
        sdpa, sizes = ALL_ATTENTION_FUNCTIONS["sdpa"], [len(part.positions) for part in self.parts]
        outputs = [
            sdpa(module, own_query, own_keys, own_values, own_mask[..., : own_keys.shape[2]], **options)[0]
            for own_query, own_mask, (own_keys, own_values) in zip(
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

        Returns what the rows of one part can see; where there are several, what `PassCache.attend` takes.
        """
        views, start = self._cache.views(self._layer), 0
        for part, row, held in zip(self._cache.parts, self._cache._rows, views, strict=True):
            own = slice(start, start := start + len(row))
            for tensor, states in zip(held, (key_states, value_states), strict=True):
                place, position = row.to(tensor.device), part.positions.to(tensor.device)
                tensor[place, :, position] = states[own, :, 0].to(tensor.dtype)  # autocast makes them of several dtypes
        if len(views) == 1:
            return views[0]
        return self._cache.hand_out(self._layer, key_states, value_states)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self._cache.length, 0

    def get_seq_length(self) -> int:
        return max(0, self._cache.length - 1)

    def get_max_length(self) -> int:
        return -1

    def get_max_cache_shape(self) -> int:
        """What transformers up to 5.12 calls `get_max_length`."""
        return self.get_max_length()


_decoding: ContextVar[PassCache] = ContextVar("decoding")
"""The cache of the forward pass that is under way."""


def _identities(*tensors: Tensor) -> tuple[tuple[int, torch.Size], ...]:
    """Equal for the same tensors, and for views of all of them."""
    return tuple((tensor.data_ptr(), tensor.shape) for tensor in tensors)


def _attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor, **options: Any
) -> tuple[Tensor, None]:
    return _decoding.get().attend(module, query, key, value, attention_mask, **options), None


AttentionInterface.register(NAME, _attend)


def can_attend_by_class(model: PreTrainedModel, config: PreTrainedConfig) -> bool:
    """Whether the model looks its attention up in transformers' registry, and finds `sdpa`, which splits by rows."""
    return config._attn_implementation == "sdpa" and model._supports_attention_backend


@contextmanager
def attention_by_class(config: PreTrainedConfig, cache: PassCache, masks: Seq[Tensor]) -> Iterator[None]:
    """Within it, the attention of models with this config is the cache's `PassCache.attend`.

    ``masks`` are those that the model is given: others, made of what stands for keys and values, cannot be used.
    Raises NotByClass where a layer has asked for something else, or not for all that it was given.
    """
    before, token = config._attn_implementation, _decoding.set(cache)
    config._attn_implementation = NAME
    cache.masks = list(masks)
    cache._handed_out.clear()
    try:
        yield
    finally:
        config._attn_implementation = before
        _decoding.reset(token)
    if cache._handed_out:
        raise NotByClass("does not look up the attention of all its layers")
