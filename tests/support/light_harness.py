"""The harness's command without what takes seconds: reading thousands of task files, listing the installed packages.

    python -m light_harness run --model eager …     what `lm_eval run --model eager …` does

Only the tasks of ``--include_path`` are known. ``tests/support`` has to be in PYTHONPATH, see `environment`.
"""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path

MODULE = Path(__file__).stem


def environment(*folders: Path) -> dict[str, str]:
    """The environment in which ``python -m light_harness`` finds this file, and modules in ``folders``."""
    found = [str(Path(__file__).parent), *map(str, folders), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(found)}


def lighten() -> None:
    """The harness knows the tasks of an include path alone from here on, in this process, and lists no packages."""
    import lm_eval.tasks
    import torch.utils.collect_env

    torch.utils.collect_env.get_pretty_env_info = str
    lm_eval.tasks.TaskManager = partial(lm_eval.tasks.TaskManager, include_defaults=False)


if __name__ == "__main__":
    from lm_eval.__main__ import cli_evaluate

    lighten()
    sys.argv[0] = "lm_eval"  # by which the package knows that this is the harness's own process
    cli_evaluate()
