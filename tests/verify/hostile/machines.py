"""Where hostile programs are run: the machines, the caps around them, and looking for what they left behind."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import eager_lmeval
from eager_lmeval.verify.sandbox import Outcome

DRIVER = Path(__file__).parent / "jail_driver.py"
LIMITS = {
    "wall_s": 15.0,
    "cpu_s": 1,
    "memory_bytes": 256 << 20,
    "processes": 12,
    "file_bytes": 1 << 20,
    "disk_bytes": 8 << 20,
}
ADDS = "def check(candidate):\n    assert candidate(1, 2) == 3\n    assert candidate(5, 5) == 10\n"
SECRET = "a-secret-of-the-caller"

Run = Callable[..., Outcome]


class Machine(NamedTuple):
    """How a run is set up: the isolation, and as whom."""

    isolation: str
    user: int | None = None
    python: str = sys.executable


_ORDINARY = 12345
"""A user that is not root and that the machine does not have."""
LIMITS_ONLY = Machine("limits")
BUBBLEWRAP = Machine("bubblewrap")
BUBBLEWRAP_USER = Machine("bubblewrap", user=_ORDINARY)
BARE = Machine("limits", user=_ORDINARY)
"""No namespaces and no user of its own: limits hold, but the program can do what the caller can."""
_NAMESPACES = ["bwrap", "--unshare-pid", "--unshare-net", "--ro-bind", "/", "/", "--proc", "/proc", "true"]
"""Whether the kernel lets bubblewrap have namespaces here; containers often do not."""
_ROOMS = {
    "bubblewrap": BUBBLEWRAP,
    "bubblewrap, ordinary user": BUBBLEWRAP_USER,
}


def _on(machines: dict[str, Machine]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("machine", machines.values(), ids=machines)


in_namespaces = _on(_ROOMS)
everywhere = _on(_ROOMS | {"limits only": LIMITS_ONLY})
bare_too = _on(_ROOMS | {"limits only": LIMITS_ONLY, "bare": BARE})


@functools.cache
def usable(machine: Machine) -> Machine | None:
    """The set-up with an interpreter that it can use; None where this machine cannot do it.

    Asks the machine alone. A jail that works nowhere must fail these tests, not have them skipped.
    """
    if os.geteuid() != 0 and machine != BUBBLEWRAP:
        return None  # only root can become an ordinary user, or give a program a user of its own
    if machine.isolation == "bubblewrap" and not _runs(_NAMESPACES, machine.user):
        return None
    inner = _ORDINARY if machine == LIMITS_ONLY else machine.user
    imports = ["-c", "import eager_lmeval.verify.sandbox"]
    pythons = (python for python in (sys.executable, "/usr/bin/python3") if _runs([python, *imports], inner))
    return next((machine._replace(python=python) for python in pythons), None)


def _runs(command: Sequence[str], user: int | None) -> bool:
    """Whether this command succeeds as this user, None for that of the tests."""
    try:
        done = subprocess.run(
            command, env=environment(Path("/")), cwd="/", capture_output=True, timeout=60, check=False, **_as(user)
        )
    except OSError:
        return False
    return done.returncode == 0


def _as(user: int | None) -> dict[str, Any]:
    """Makes `subprocess` run something as this user."""
    return {} if user is None else {"user": user, "group": user, "extra_groups": []}


def new_place(machine: Machine) -> Path:
    place = Path(tempfile.mkdtemp(prefix="hostile-"))
    (place / "home").mkdir()
    (place / "home" / "keepsake").write_text("kept")
    if machine.user is not None:
        for path in (place, place / "home", place / "home" / "keepsake"):
            os.chown(path, machine.user, machine.user)
    return place


def run_driver(machine: Machine, place: Path, source: str, test: str = ADDS, **limits: Any) -> Outcome:
    job = {
        "source": source,
        "entry_point": "add",
        "test": test,
        "isolation": machine.isolation,
        "python": machine.python,
    }
    finished = subprocess.run(
        [machine.python, str(DRIVER)],
        input=json.dumps({**job, "limits": {**LIMITS, **limits}}),
        capture_output=True, text=True, timeout=60, env=environment(place), cwd="/", check=False, **_as(machine.user),
    )  # fmt: skip
    assert finished.returncode == 0, f"the run was harmed: {finished.stderr}"
    return Outcome(**json.loads(finished.stdout))


def environment(place: Path) -> dict[str, str]:
    return {
        "HOME": str(place / "home"), "TMPDIR": str(place), "PATH": os.environ["PATH"], "SECRET": SECRET,
        "PYTHONPATH": str(Path(eager_lmeval.__file__).parent.parent),
    }  # fmt: skip


def processes_of(place: Path) -> list[int]:
    """Processes of runs below this folder, living ones: their command lines name it, and forks inherit that."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and str(place).encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return [pid for pid in found if pid != os.getpid()]


def wait_until(condition: Callable[[], bool], limit_s: float = 10.0) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.05)
