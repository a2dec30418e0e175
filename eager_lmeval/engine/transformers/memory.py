"""How much memory the slots may take: what is free where their layers are, but for a part that the passes need."""

from __future__ import annotations

import os

import psutil
import torch

__all__ = ["for_slots"]

SHARE = {"cpu": 0.5, "cuda": 0.85}
"""Of the free memory. Activations and parked rows need some of the rest, and on a CPU whatever else runs."""


def for_slots(device: torch.device) -> int:
    """Bytes of free memory on ``device`` that slots may take in addition to what they have."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(
            device
        )  # torch has it, and it is free
        return int(SHARE["cuda"] * (free + cached))
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return int(SHARE["cpu"] * psutil.virtual_memory().available / processes)
