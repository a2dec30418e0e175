"""The tensors of the transformers engine: prefill, and decode over slots."""

from __future__ import annotations

import inspect
import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from collections.abc import Sequence as Seq
from contextlib import contextmanager
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import DynamicCache, PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from eager_lmeval.algorithm.readout import Readout
from eager_lmeval.engine.runner import OutOfMemory, Prefix, Slot, length_class
from eager_lmeval.engine.sampling import Sampling, read
from eager_lmeval.engine.transformers.attention import (
    NotByClass,
    Part,
    PassCache,
    attention_by_class,
    can_attend_by_class,
)
from eager_lmeval.engine.transformers.cache import Snapshot
from eager_lmeval.engine.transformers.classes import SlotClasses
from eager_lmeval.engine.transformers.support import (
    cache_argument,
    require_supported,
    take_experts_of_its_dtype,
    text_config,
    unwrapped,
)

__all__ = ["ModelRunner"]

log = logging.getLogger(f"lm_eval.{__name__}")  # the harness shows the loggers below its own

MASK = Tensor | dict[str, Tensor]


class _Row(NamedTuple):
    """A row of a decode step: its slot, its newest token, and the positions before that."""

    of_class: int
    place: int
    token: int
    length: int


class ModelRunner:
    """Runs a transformers causal LM over slots. Implements `engine.runner.Runner`.

    ``max_length`` is the most positions that any row will have. Raises UsageError for a model that cannot be served.
    """

    def __init__(self, model: PreTrainedModel, autocast_dtype: torch.dtype | None = None, max_length: int = 0) -> None:
        require_supported(model, max_length)
        take_experts_of_its_dtype(model)
        self._model = model
        self._autocast_dtype = autocast_dtype
        self._windows = _windows_by_type(text_config(model))
        self._slots = SlotClasses(text_config(model).num_hidden_layers)
        self._cache = PassCache(text_config(model).num_hidden_layers)
        self._attends_by_class = can_attend_by_class(unwrapped(model), text_config(model))
        self._cache_argument = cache_argument(model)
        self._keeps_logits = "logits_to_keep" in inspect.signature(unwrapped(model).forward).parameters

    @property
    def device(self) -> torch.device:
        """Where the model takes its input: that of its embeddings, which need not be that of every layer."""
        embeddings: Any = self._model.get_input_embeddings()
        device: torch.device = embeddings.weight.device
        if device.type == "meta":  # accelerate has offloaded them, and brings them where they run
            return torch.device(embeddings._hf_hook.execution_device)
        return device

    @property
    def vocabulary(self) -> int:
        return int(text_config(self._model).vocab_size)

    @property
    def slots(self) -> Counter[int]:
        return self._slots.slots

    @torch.inference_mode()
    def prefill(self, prompts: list[list[int]]) -> list[Prefix]:
        """One forward pass over right-padded prompts: causal attention keeps the padding out of what comes before."""
        length = max(map(len, prompts))
        ids = torch.zeros((len(prompts), length), dtype=torch.long)
        for row, prompt in enumerate(prompts):
            ids[row, : len(prompt)] = torch.tensor(prompt)
        last = torch.tensor([len(prompt) - 1 for prompt in prompts])
        kept, place = torch.unique(last, return_inverse=True)
        cache = DynamicCache()
        with self._running():
            logits = self._forward(
                ids, torch.arange(length).expand(len(prompts), -1), None, cache, kept.to(self.device)
            )  # (prompts, kept, vocab)
            if not self._keeps_logits:
                logits = logits[:, kept.to(logits.device)]
            prefixes = []
            for row, prompt in enumerate(prompts):
                layers = [
                    (layer.keys[row, :, : len(prompt)].clone(), layer.values[row, :, : len(prompt)].clone())
                    for layer in cache.layers
                    if isinstance(layer, DynamicLayer) and layer.keys is not None and layer.values is not None
                ]
                prefixes.append(Prefix(Snapshot(layers), logits[row, place[row]].clone()))
        self._slots.like = prefixes[0].snapshot
        return prefixes

    @torch.inference_mode()
    def decode(
        self,
        tokens: list[int],
        lengths: list[int],
        first_logits: list[Tensor],
        uniforms: NDArray[np.float64],
        sampling: Sampling,
        limit: int,
        strata: NDArray[np.int64] | None = None,
    ) -> list[Readout]:
        with self._running():
            parts = self._decode_rows(tokens, lengths, limit)
            if first_logits:
                parts.append(torch.stack(first_logits))
            logits = torch.cat(parts) if len(parts) > 1 else parts[0]  # (rows, vocab)
            return read(logits, torch.from_numpy(uniforms).to(logits.device), sampling, strata)

    def _decode_rows(self, tokens: list[int], lengths: list[int], limit: int) -> list[Tensor]:
        """Logits of rows that hold so many positions and take these tokens, a tensor (rows, vocab) a forward pass."""
        try:
            return [self._decode_pass(rows) for rows in self._passes(tokens, lengths, limit)]
        except NotByClass as reason:
            log.warning(
                "model type %r %s; from now on, rows of each length class take a forward pass of their own",
                *(text_config(self._model).model_type, reason),
            )
        self._attends_by_class = False
        return self._decode_rows(tokens, lengths, limit)

    def _passes(self, tokens: list[int], lengths: list[int], limit: int) -> Iterator[list[_Row]]:
        """Rows in forward passes of equal size: of all classes where attention can tell them apart, else of one."""
        rows = []
        for of_class, own in groupby(zip(tokens, lengths, strict=True), lambda row: length_class(row[1] + 1)):
            rows += [_Row(of_class, place, *row) for place, row in enumerate(own)]
        for _, group in groupby(rows, lambda row: 0 if self._attends_by_class else row.of_class):
            together = list(group)
            passes = -(-len(together) // limit)
            size = -(-len(together) // passes)
            yield from (together[start : start + size] for start in range(0, len(together), size))

    def _decode_pass(self, rows: list[_Row]) -> Tensor:
        """Logits (rows, vocab) of rows that each take one token at its own position."""
        ids, positions = torch.tensor([[row.token, row.length] for row in rows], device=self.device).T  # (rows,) each
        parts, start = [], 0
        for of_class, group in groupby(rows, lambda row: row.of_class):
            own = list(group)
            longest = max(row.length for row in own) + 1
            parts.append(Part(self._slots[of_class], own[0].place, positions[start : start + len(own)], longest))
            start += len(own)
        self._cache.take(parts)
        mask = self._mask(positions, self._cache.length)
        if len(parts) == 1:
            return self._forward(ids[:, None], positions[:, None], mask, self._cache, 1)[:, -1]
        masks = list(mask.values()) if isinstance(mask, dict) else [mask]
        with attention_by_class(text_config(self._model), self._cache, masks):
            return self._forward(ids[:, None], positions[:, None], mask, self._cache, 1)[:, -1]

    def _forward(
        self, ids: Tensor, positions: Tensor, mask: MASK | None, cache: PassCache | DynamicCache, keep: int | Tensor
    ) -> Tensor:
        device = self.device
        options: dict[str, Any] = {self._cache_argument: cache}
        if self._keeps_logits:
            options["logits_to_keep"] = keep
        logits: Tensor = self._model(
            input_ids=ids.to(device),
            position_ids=positions.to(device),
            attention_mask=mask,
            use_cache=True,
            **options,
        ).logits
        return logits

    def _mask(self, positions: Tensor, length: int) -> MASK:
        """What each row may see: its own positions up to the newest, within each layer type's window.

        Additive, (rows, 1, 1, length); a dict by layer type for models that mix them.
        """
        column = torch.arange(length, device=positions.device)
        behind = positions[:, None] - column  # (rows, length)
        masks = {}
        for layer_type, window in self._windows.items():
            hidden = behind < 0 if window is None else (behind < 0) | (behind >= window)
            mask = torch.zeros(hidden.shape, dtype=self._model.dtype, device=positions.device)
            masks[layer_type] = mask.masked_fill_(hidden, torch.finfo(mask.dtype).min)[:, None, None]
        return masks if len(masks) > 1 else next(iter(masks.values()))

    def room(self, needs: Seq[int]) -> int:
        return self._slots.room(needs)

    def reserve(self, needs: Seq[int], limit: int) -> None:
        with self._running(), torch.inference_mode():
            self._slots.reserve(needs, limit)

    @torch.inference_mode()
    def shrink(self, kept: Mapping[int, int]) -> None:
        self._slots.shrink(kept)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    @torch.inference_mode()
    def copy(self, moves: Seq[tuple[Slot, Slot]], length: int) -> None:
        self._slots.copy(moves, length)

    @torch.inference_mode()
    def park(self, slot: Slot, length: int) -> Snapshot:
        return self._slots.snapshot(slot, length)

    @torch.inference_mode()
    def restore(self, first: Slot, number: int, snapshot: Snapshot) -> None:
        with _translated_memory_errors():
            self._slots.restore(first, number, snapshot)

    @contextmanager
    def _running(self) -> Iterator[None]:
        """Autocast where it was asked for; the device's lack of memory in the loop's terms."""
        autocast = torch.autocast(
            self.device.type, dtype=self._autocast_dtype, enabled=self._autocast_dtype is not None
        )
        with _translated_memory_errors(), autocast:
            yield


@contextmanager
def _translated_memory_errors() -> Iterator[None]:
    """The device's lack of memory in the loop's terms."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise OutOfMemory(str(error).partition("\n")[0]) from error


def _windows_by_type(config: PreTrainedConfig) -> dict[str, int | None]:
    """The attention window, in positions, of each layer type of the model; None where it sees all positions."""
    layers = DynamicCache(config=config).layers
    types = getattr(config, "layer_types", None) or ["all"] * len(layers)
    return {
        layer_type: layer.sliding_window if isinstance(layer, DynamicSlidingWindowLayer) else None
        for layer_type, layer in zip(types, layers, strict=True)
        if isinstance(layer, DynamicLayer)
    }
