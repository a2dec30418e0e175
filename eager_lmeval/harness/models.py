"""Models of the harness, at which its processes meet, whatever its release."""

from __future__ import annotations

from typing import Any

from lm_eval.api.model import LM
from lm_eval.models.huggingface import HFLM as InstalledHFLM

__all__ = ["HFLM", "MEETS_AT_MODELS"]

MEETS_AT_MODELS = hasattr(LM, "barrier")
"""Whether the harness calls a model where its processes meet; up to 0.4.11 it calls the model's accelerator instead."""


class HFLM(InstalledHFLM):
    """`hf` with `all_gather`, `gather_object` and `barrier`, which the harness calls where its processes meet.

    Where it calls the model's accelerator, `meet_here` puts one in its place that calls the model. Results are gathered
    past the model in 0.4.11 and 0.5.0.dev1, in a collective of `torch.distributed`.
    """

    accelerator: Any

    def meet_here(self) -> None:
        """Call once several processes have joined, before the harness counts their requests."""
        if not MEETS_AT_MODELS:
            self._installed_accelerator = self.accelerator
            self.accelerator = _CallingTheModel(self, self.accelerator)

    if not MEETS_AT_MODELS:

        def all_gather(self, tensor: Any) -> Any:
            return self._installed_accelerator.gather(tensor) if self.world_size > 1 else tensor

        def barrier(self) -> None:
            if self.world_size > 1:
                self._installed_accelerator.wait_for_everyone()

    if not hasattr(InstalledHFLM, "gather_object"):

        def gather_object(self, obj: Any, dst: int = 0) -> list[Any] | None:
            if self.world_size == 1:
                return [obj]
            import torch.distributed as dist

            gathered = [None] * self.world_size if self.rank == dst else None
            dist.gather_object(obj, gathered, dst=dst)
            return gathered


class _CallingTheModel:
    """An accelerator, but for what the harness lets processes do together."""

    def __init__(self, lm: HFLM, accelerator: Any) -> None:
        self._lm = lm
        self._accelerator = accelerator

    def __getattr__(self, name: str) -> Any:
        return getattr(self._accelerator, name)

    def gather(self, tensor: Any) -> Any:
        return self._lm.all_gather(tensor)

    def wait_for_everyone(self) -> None:
        self._lm.barrier()
