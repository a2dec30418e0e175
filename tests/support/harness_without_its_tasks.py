"""The harness's command without its own tasks, for tests that start it: it reads thousands of files for 15 seconds.

    python -m harness_without_its_tasks run --model eager …     what `lm_eval run --model eager …` does

Only the tasks of ``--include_path`` are known. ``tests/support`` has to be in PYTHONPATH, see `environment`.
"""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path

MODULE = Path(__file__).stem


def environment(*folders: Path) -> dict[str, str]:
    """The environment in which ``python -m harness_without_its_tasks`` finds this file, and modules in ``folders``."""
    found = [str(Path(__file__).parent), *map(str, folders), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(found)}


def leave_them_out() -> None:
    """The harness's command in this process knows the tasks of ``--include_path`` alone from here on."""
    import lm_eval.tasks

    lm_eval.tasks.TaskManager = partial(lm_eval.tasks.TaskManager, include_defaults=False)


if __name__ == "__main__":
    from lm_eval.__main__ import cli_evaluate

    leave_them_out()
    sys.argv[0] = "lm_eval"  # by which the package knows that this is the harness's own process
    cli_evaluate()
