"""A model's forward pass in float64, without a second copy of the model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

__all__ = ["in_float64"]


@contextmanager
def in_float64(model: nn.Module) -> Iterator[None]:
    """Within this context, a module has its parameters in float64 while it runs, and its own again when it has run.

    So the context takes the memory of the largest module in float64, not of the model. What a model computes in float32
    whatever its dtype, as many do in their norms, stays so.
    """
    kept: dict[nn.Module, dict[str, nn.Parameter]] = {}

    def widen(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        kept[module] = dict(module.named_parameters(recurse=False))
        for name, parameter in kept[module].items():
            if parameter.is_floating_point():
                setattr(module, name, nn.Parameter(parameter.double(), requires_grad=False))
        # Some modules, such as PEFT's, cast what they hand on to the dtype that they see before its module runs.
        return tuple(
            given.double() if torch.is_tensor(given) and given.is_floating_point() else given for given in inputs
        )

    def restore(module: nn.Module, inputs: Any, output: Any) -> None:
        for name, parameter in kept.pop(module, {}).items():
            setattr(module, name, parameter)

    handles = []
    for module in model.modules():
        if next(module.parameters(recurse=False), None) is not None:
            handles.append(module.register_forward_pre_hook(widen))
            handles.append(module.register_forward_hook(restore, always_call=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for module in list(kept):
            restore(module, None, None)
