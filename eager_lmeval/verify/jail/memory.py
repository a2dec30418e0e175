"""What a process holds in memory, as the kernel tells it of any process."""

from __future__ import annotations

import contextlib
from pathlib import Path

__all__ = ["held_by_process"]

_COUNTED = ("RssAnon:", "RssShmem:", "VmSwap:", "VmPTE:")
"""Pages of files are the system's cache and are left out; what was moved to swap counts on."""


def held_by_process(pid: int) -> int:
    """Bytes in memory or swap; 0 where it has ended. What processes share is counted for each of them."""
    held = _held(f"/proc/{pid}/status")
    if held is None:  # the first thread has ended: the process goes on in the others, and only they show what it holds
        held = 0
        with contextlib.suppress(OSError):
            for thread in Path(f"/proc/{pid}/task").iterdir():
                held = max(held, _held(f"{thread}/status") or 0)
    return held


def _held(status: str) -> int | None:
    try:
        lines = Path(status).read_text(errors="replace").splitlines()
    except OSError:
        return None
    values = [int(line.split()[1]) for line in lines if line.startswith(_COUNTED)]
    return sum(values) << 10 if values else None
