"""The harness's own command, `lm_eval`: what we let it say below its table."""

from __future__ import annotations

import atexit
import sys
from collections.abc import Iterable
from pathlib import Path

__all__ = ["print_below_the_table"]


def print_below_the_table(lines: Iterable[str]) -> None:
    """Each line once, when the process ends, for the table is the last that the command prints.

    Nothing where another program calls the harness.
    """
    once = list(dict.fromkeys(lines))
    if once and _is_this_process():
        atexit.register(print, "\n".join(once))


def _is_this_process() -> bool:
    program = Path(sys.argv[0])
    return program.stem in ("lm_eval", "lm-eval") or (program.name, program.parent.name) == ("__main__.py", "lm_eval")
