"""Programs that want to use up the machine: time, processes, memory, disk.

Written so that they could not do harm if the jail did nothing at all: sizes are scaled down, loops are bounded, the
home directory is a temporary one, what would be overwritten is opened and closed again, and `jail_driver` caps
processor time, memory and file sizes around each run. Where a program reports how far it got, the test that it is run
against says what is contained: passing it means that the jail held.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from machines import (
    ADDS,
    DRIVER,
    LIMITS,
    Machine,
    Run,
    bare_too,
    environment,
    in_namespaces,
    processes_of,
    wait_until,
)


@bare_too
def test_a_program_that_solves_the_problem_passes(run: Run, machine: Machine) -> None:
    outcome = run("def add(a, b):\n    return a + b\n")
    assert outcome.passed
    assert not outcome.timed_out
    assert outcome.isolation == machine.isolation
    assert outcome.note.startswith(f"isolation: {machine.isolation}")
    assert ("no namespaces" in outcome.note) == (machine.isolation == "limits")
    assert ("caller's own user" in outcome.note) == (machine.user is not None and machine.isolation == "limits")


def test_an_endless_loop_is_a_timeout(run: Run) -> None:
    """Also where the program ignores the signal that asks it to stop."""
    outcome = run(
        "import signal\nsignal.signal(24, signal.SIG_IGN)\ndef add(a, b):\n    while True: pass\n", wall_s=30.0
    )
    assert not outcome.passed
    assert outcome.timed_out
    assert "processor time" in outcome.note


def test_sleeping_is_a_timeout_too(run: Run) -> None:
    outcome = run("import time\ndef add(a, b): time.sleep(30)", wall_s=1.0)
    assert (outcome.passed, outcome.timed_out) == (False, True)
    assert "wall time" in outcome.note


@bare_too
def test_a_fork_bomb_gets_no_further_than_its_processes(run: Run) -> None:
    bomb = """
import os, time
def add():
    started = 0
    for _ in range(60):
        try:
            if os.fork() == 0:
                time.sleep(2)
                os._exit(0)
            started += 1
        except OSError:
            break
    return started
"""
    assert run(bomb, "def check(candidate):\n    assert 1 <= candidate() <= 12\n").passed


@bare_too
def test_a_fork_bomb_that_multiplies_is_over_when_the_run_is(run: Run) -> None:
    bomb = """
import os, time
until = time.monotonic() + 3
for _ in range(6):  # 64 processes at most
    try:
        os.fork()
    except OSError:
        pass
while time.monotonic() < until:
    time.sleep(0.1)
os._exit(0)
"""
    assert not run(bomb, wall_s=1.0).passed


def test_threads_count_as_processes(run: Run) -> None:
    threads = """
import threading, time
def add():
    started = 0
    for _ in range(60):
        try:
            threading.Thread(target=time.sleep, args=(1,), daemon=True).start()
        except RuntimeError:
            break
        started += 1
    return started
"""
    assert run(threads, "def check(candidate):\n    assert 1 <= candidate() <= 12\n").passed


def test_memory_ends_at_the_limit(run: Run) -> None:
    hoard = """
def add():
    hoard = []
    try:
        for _ in range(40):
            hoard.append(bytearray(16 << 20))
    except MemoryError:
        pass
    return len(hoard) * 16
"""
    assert run(hoard, "def check(candidate):\n    assert 16 <= candidate() <= 256\n").passed


@bare_too
def test_memory_of_all_processes_together_ends_at_the_limit(run: Run) -> None:
    hoard = """
import os, time
for _ in range(5):
    if os.fork() == 0:
        hoard = b"x" * (90 << 20)
        time.sleep(3)
        os._exit(0)
def add(a, b):
    time.sleep(3)
    return a + b
"""
    outcome = run(hoard)
    assert not outcome.passed
    assert "limit of memory" in outcome.note


def test_output_goes_nowhere_and_files_end_at_their_size(run: Run) -> None:
    writes = """
import os
def add():
    for _ in range(64):
        print("x" * (1 << 19))
        os.write(2, b"x" * (1 << 19))
    written = 0
    try:
        with open("big", "wb", buffering=0) as file:
            for _ in range(64):
                written += file.write(b"x" * (1 << 18))
    except OSError:
        pass
    return written
"""
    assert run(writes, "def check(candidate):\n    assert 0 < candidate() <= 1 << 20\n").passed


@in_namespaces
def test_many_files_end_at_the_size_of_the_disk(run: Run) -> None:
    writes = """
def add():
    written = 0
    try:
        for number in range(30):
            with open(f"file{number}", "wb") as file:
                written += file.write(b"x" * (1 << 19))
    except OSError:
        pass
    return written
"""
    assert run(writes, "def check(candidate):\n    assert 0 < candidate() <= 8 << 20\n").passed


@bare_too
def test_children_left_behind_end_with_the_run(run: Run) -> None:
    leaves = """
import os, time
def add(a, b):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(20)
        os._exit(0)
    return a + b
"""
    assert run(leaves).passed  # it solves the problem; what it leaves behind is looked for after each test


def test_when_the_caller_is_killed_nothing_goes_on(place: Path) -> None:
    job = {
        "source": "import time\ndef add(a, b): time.sleep(20)", "entry_point": "add", "test": ADDS, "announce": True,
        "limits": {**LIMITS, "wall_s": 20.0},
    }  # fmt: skip
    driver = subprocess.Popen(
        [sys.executable, str(DRIVER)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(place),
    )
    with driver:
        assert driver.stdin is not None
        assert driver.stdout is not None
        driver.stdin.write(json.dumps(job).encode())
        driver.stdin.close()
        assert int(driver.stdout.readline()) == driver.pid
        wait_until(lambda: len(processes_of(place)) >= 3)
        os.kill(driver.pid, signal.SIGKILL)
    wait_until(lambda: processes_of(place) == [])
