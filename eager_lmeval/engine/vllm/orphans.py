"""vLLM's processes end when the one that started them has been killed: they would hold the device's memory for ever.

A process that ends by itself takes them along. One that is killed cannot, and vLLM's engine then waits for requests
that never come, while the run that resumes finds no memory. So each worker watches who asked for the engine.
"""

from __future__ import annotations

import os
import select
import threading

__all__ = ["announce", "watch"]

_OWNER = "EAGER_LMEVAL_OWNER"
"""In the environment: the process that asked for an engine. Processes of an engine on other machines do not get it."""


def announce() -> None:
    """Says to the processes that this one will start whom they belong to."""
    os.environ[_OWNER] = str(os.getpid())


def watch() -> None:
    """Ends this process, in a thread, once the one that announced itself has ended, where the system can tell."""
    owner = int(os.environ.get(_OWNER, "0"))
    if owner in (0, os.getpid()) or not hasattr(os, "pidfd_open"):
        return
    try:
        handle = os.pidfd_open(owner)
    except ProcessLookupError:
        os._exit(1)
    except OSError:  # a system that cannot tell
        return
    threading.Thread(target=_end_after, args=(handle,), name="eager_lmeval owner", daemon=True).start()


def _end_after(handle: int) -> None:
    select.select([handle], [], [])  # readable once that process has ended
    os._exit(1)
