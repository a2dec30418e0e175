"""The process that stands between a run and its caller: starts both sides, watches, ends everything.

Started as ``python -I`` with one JSON argument. Who owns what:

| descriptor | tests | program | supervisor |
| --- | --- | --- | --- |
| report (write end) | verdict | closed first | how the run ended, last line |
| tests, program (job files) | reads tests | reads program | closed once both sides are started |
| leash (its other end is the caller's) | closed first | closed first | end of file: the caller is gone, so end |
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

from eager_lmeval.verify.jail import kernel
from eager_lmeval.verify.jail.files import DEVICES, WORK, files_refusal, restrict_files, visible_paths
from eager_lmeval.verify.jail.identity import Identity, Limits, choose_identity, confine
from eager_lmeval.verify.jail.memory import held_by_process
from eager_lmeval.verify.jail.sides import run_program, run_tests
from eager_lmeval.verify.jail.syscalls import filter_system_calls

__all__ = ["UNREADABLE", "main"]

UNREADABLE = "other users cannot read the interpreter in"

_POLL_S = 0.02
_MAX_FILES = 10_000
"""Files and folders of a run, for each of which the kernel keeps memory beside what is in it."""
_TESTS_MEMORY_FACTOR = 4
_HUNT_S = 5.0
_NEARLY = 0.5
"""Two clocks: the kernel kills by the ticks that it saw, and reports what was run, on a busy machine a tenth less."""
_OUT_OF_CPU = {signal.SIGKILL, signal.SIGXCPU}
_LAST_WORDS_S = 1.0
"""How long to wait for the program's exit status, which says whether a limit ended it."""


def main() -> NoReturn:
    job = json.loads(sys.argv[1])
    limits, identity = Limits(**job["limits"]), choose_identity()
    if job["isolation"] == "bubblewrap":
        if identity.separate:
            os.chown(WORK, identity.users[0], identity.groups[0])
        _be_process_one(job, limits, identity)
    kernel.become_subreaper()
    kernel.forbid_dumps()
    if identity.separate:
        os.chown(job["place"], identity.users[0], identity.groups[0])
        os.chmod(job["place"], 0o700)
    watch = _Watch(job, limits, identity, job["place"])
    if identity.separate and not _can_read_interpreter(identity):
        watch.refuse(f"{UNREADABLE} {sys.base_prefix}")
    watch.run()
    _hunt_down(identity)
    watch.report()
    os._exit(0)


def _be_process_one(job: dict[str, Any], limits: Limits, identity: Identity) -> NoReturn:
    kernel.forbid_dumps()
    watch = _Watch(job, limits, identity, WORK)
    watch.run()
    watch.report()
    os._exit(0)  # and with process 1 the kernel ends all others


class _Watch:
    """One run from the start of both sides to its end."""

    def __init__(self, job: dict[str, Any], limits: Limits, identity: Identity, work: str) -> None:
        self._job = job
        self._limits = limits
        self._identity = identity
        self._work = work
        self._work_fd = os.open(work, os.O_PATH)  # the program may take the name away
        self._ended = ""
        self._unfiltered = self._reachable = ""
        self._program_ended = False
        self._out_of_cpu = False

    def run(self) -> None:
        kernel.forbid_new_privileges()
        self._unfiltered, self._reachable = filter_system_calls(), files_refusal()
        ours, theirs = socket.socketpair()
        tests = self._start(1, ours, theirs)
        program = self._start(0, theirs, ours)
        ours.close()
        theirs.close()
        os.close(self._job["tests_fd"])
        os.close(self._job["program_fd"])
        deadline = time.monotonic() + self._limits.wall_s
        while not self._ended:
            if select.select([self._job["leash_fd"]], [], [], _POLL_S)[0]:
                self._ended = "the caller is gone"
            elif time.monotonic() > deadline:
                self._ended = "wall time"
            elif self._too_many_files():
                self._ended = "number of files"
            elif sum(map(held_by_process, _descendants())) > self._limits.memory_bytes + self._limits.disk_bytes:
                self._ended = "memory"
            self._reap(tests, program)
        deadline = time.monotonic() + _LAST_WORDS_S
        while not self._program_ended and time.monotonic() < deadline:
            time.sleep(_POLL_S / 10)
            self._reap(tests, program)

    def _too_many_files(self) -> bool:
        """Only in bubblewrap: there the place is a file system of its own, which bubblewrap limits in bytes alone."""
        if self._work != WORK:
            return False
        place = os.fstatvfs(self._work_fd)
        return place.f_files - place.f_ffree > _MAX_FILES

    def _reap(self, tests: int, program: int) -> None:
        with contextlib.suppress(ChildProcessError):
            while (result := os.wait4(-1, os.WNOHANG))[0]:
                pid, status, usage = result
                if pid == tests and not self._ended:
                    self._ended = "tests" if status == 0 else "tests died"
                if pid in {tests, program}:
                    used_s = usage.ru_utime + usage.ru_stime
                    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) in _OUT_OF_CPU
                    self._out_of_cpu |= killed and used_s >= _NEARLY * self._limits.cpu_s
                self._program_ended |= pid == program

    def _start(self, side: int, mine: socket.socket, others: socket.socket) -> int:
        child = os.fork()
        if child:
            return child
        try:
            os.setsid()
            others.close()
            program = side == 0
            job_fd, others_fd = ("program_fd", "tests_fd") if program else ("tests_fd", "program_fd")
            os.close(self._job[others_fd])
            os.close(self._job["leash_fd"])
            os.close(self._work_fd)
            if program:
                os.close(self._job["report_fd"])
            with open(self._job[job_fd], "rb") as file:
                job = json.load(file)
            nowhere = os.open("/dev/null", os.O_RDWR)
            for standard in (0, 1, 2):
                os.dup2(nowhere, standard)
            os.close(nowhere)
            os.chdir(self._work if program else "/")  # the tests look nowhere where the program can put something
            os.environ["HOME"] = os.environ["TMPDIR"] = self._work
            sys.argv = [""]
            if program:
                self._job.clear()
                os.closerange(3, mine.fileno())
                os.closerange(mine.fileno() + 1, os.sysconf("SC_OPEN_MAX"))
            else:
                job["report_fd"] = self._job["report_fd"]
            confine(self._identity, side, self._limits, 1 if program else _TESTS_MEMORY_FACTOR)
            if program and not self._reachable:
                devices = [f"/dev/{device}" for device in DEVICES]
                restrict_files([*visible_paths(), "/proc"], devices, ".")
            (run_program if program else run_tests)(mine, job)
        finally:
            os._exit(1)

    def refuse(self, reason: str) -> NoReturn:
        self._ended = reason
        self.report()
        os._exit(0)

    def report(self) -> None:
        line = {
            "ended": "processor time" if self._out_of_cpu else self._ended,
            "unfiltered": self._unfiltered,
            "reachable": self._reachable,
            "separate_user": self._identity.separate,
        }
        with contextlib.suppress(OSError):
            os.write(self._job["report_fd"], json.dumps(line).encode() + b"\n")


def _can_read_interpreter(identity: Identity) -> bool:
    """Whether the run's own user may import: not where the interpreter lies in a home that is closed to others."""
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setresgid(*[identity.groups[0]] * 3)
        os.setresuid(*[identity.users[0]] * 3)
        os._exit(0 if os.access(os.__file__, os.R_OK) else 1)
    return os.waitpid(child, 0)[1] == 0


def _descendants() -> list[int]:
    """All processes below this one; in namespaces, all there are."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError):
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    found: list[int] = []
    layer = {os.getpid()}
    while layer:
        layer = {child for child, parent in parents.items() if parent in layer}
        found += layer
    return found


def _hunt_down(identity: Identity) -> None:
    """Without namespaces: ends what the run left behind. Sure where the run had users of its own."""
    if identity.separate:
        for side in (0, 1):
            killer = os.fork()
            if killer == 0:
                os.setresuid(*[identity.users[side]] * 3)
                with contextlib.suppress(OSError):
                    os.kill(-1, signal.SIGKILL)  # everything of that user; the caller of kill excepted
                os._exit(0)
            os.waitpid(killer, 0)
    deadline = time.monotonic() + _HUNT_S
    while (left := _descendants()) and time.monotonic() < deadline:
        for signal_number in (signal.SIGSTOP, signal.SIGKILL):  # stopped first, so that none forks between two kills
            for pid in left:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal_number)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(_POLL_S / 10)
