"""Each hostile program gets a folder of its own, with a home in it, and may leave nothing behind."""

from __future__ import annotations

import functools
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from machines import BUBBLEWRAP, LIMITS_ONLY, Machine, Run, new_place, processes_of, run_driver, usable, wait_until

collect_ignore_glob = [] if sys.platform == "linux" else ["test_*.py"]  # the jail is made of Linux


@pytest.fixture
def machine() -> Machine:
    return BUBBLEWRAP if usable(BUBBLEWRAP) else LIMITS_ONLY


@pytest.fixture
def place(machine: Machine) -> Iterator[Path]:
    """A folder with a home in it, looked at afterwards: is all there, and has nothing been left running?"""
    place = new_place(machine)
    yield place
    kept = (place / "home" / "keepsake").read_text()
    wait_until(lambda: processes_of(place) == [], 5.0)
    shutil.rmtree(place)
    assert kept == "kept"


@pytest.fixture
def run(machine: Machine, place: Path) -> Run:
    """Runs a program in a capped process of its own."""
    chosen = usable(machine)
    if chosen is None:
        pytest.skip(f"this machine gives us no {machine.isolation}, or we are not root, which {machine} needs")
    return functools.partial(run_driver, chosen, place)
