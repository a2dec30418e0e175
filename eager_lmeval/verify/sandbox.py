"""The caller's side of `eager_lmeval.verify.jail`: starts a run, waits no longer than it may take, reads its end."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, Any, NamedTuple

import eager_lmeval
from eager_lmeval.errors import UsageError
from eager_lmeval.verify.jail.bubblewrap import bubblewrap_command, bubblewrap_refusal
from eager_lmeval.verify.jail.identity import Limits
from eager_lmeval.verify.jail.supervisor import UNREADABLE

__all__ = ["ISOLATIONS", "Limits", "Outcome", "run_in_jail"]

ISOLATIONS = ("auto", "bubblewrap", "limits")
"""What keeps a program in: bubblewrap's namespaces, or none, with limits and filters of system calls and files alone.
``auto`` is the first of them that works here."""

_START_S = 10.0
"""What starting and ending a run may take on top of its wall time."""
_MAX_REPORT_BYTES = 1 << 16
_BOOT = (
    "import sys; sys.path.insert(0, {root!r}); from eager_lmeval.verify.jail import supervisor; "
    "sys.path.remove({root!r}); supervisor.main()"
)
_ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}


class Outcome(NamedTuple):
    """How a run ended. ``passed`` only if the tests ran to their end within every limit and found no fault."""

    passed: bool
    timed_out: bool
    note: str
    isolation: str
    """What was in force: one of `ISOLATIONS` but ``auto``, "" where the run did not get so far. The note says more."""


def run_in_jail(
    source: str,
    entry_point: str,
    test: str,
    setup: str = "",
    limits: Limits | None = None,
    isolation: str = "auto",
    python: str = sys.executable,
) -> Outcome:
    """Runs a program's ``entry_point`` against a test; ``setup`` defines what the test expects beside it.

    Never raises for what the program does, and returns after the wall time and a few seconds at the latest.
    ``python`` runs both sides. UsageError where the machine refuses the ``isolation`` asked for by name, and where it
    has no bubblewrap and the interpreter cannot be used by the user that the program would run as.
    """
    limits = limits or Limits()
    refusal = bubblewrap_refusal() if isolation in {"auto", "bubblewrap"} else "not asked for"
    if isolation == "bubblewrap" and refusal:
        raise UsageError(f"verifier=code: isolation=bubblewrap, but {refusal}; accepted: {', '.join(ISOLATIONS)}")
    chosen = "limits" if refusal else "bubblewrap"
    place = tempfile.mkdtemp(prefix="eager-program-")
    try:
        with tempfile.TemporaryFile() as program_file, tempfile.TemporaryFile() as tests_file:
            _write(program_file, {"source": source, "entry_point": entry_point})
            _write(tests_file, {"test": test, "setup": setup, "entry_point": entry_point})
            lines = _run(place, program_file, tests_file, limits, chosen, python)
    finally:
        with contextlib.suppress(RecursionError):  # folders in folders: a few of them are left to the system's cleaning
            shutil.rmtree(place, ignore_errors=True)
    return _judge(lines, limits, chosen, refusal)


def _write(file: IO[bytes], job: dict[str, str]) -> None:
    file.write(json.dumps(job).encode())
    file.flush()
    file.seek(0)


def _run(
    place: str, program_file: IO[bytes], tests_file: IO[bytes], limits: Limits, isolation: str, python: str
) -> list[dict[str, Any]]:
    """The lines of the report: the tests' verdict, if they came to one, and last how the run ended."""
    leash, leash_end = os.pipe()
    report, report_end = os.pipe()
    job = {
        "limits": limits.to_json(),
        "isolation": isolation,
        "place": place,
        "program_fd": program_file.fileno(),
        "tests_fd": tests_file.fileno(),
        "report_fd": report_end,
        "leash_fd": leash,
    }
    root = str(Path(eager_lmeval.__file__).resolve().parent.parent)
    rooms = bubblewrap_command(limits.disk_bytes) if isolation == "bubblewrap" else []
    try:
        supervisor = subprocess.Popen(
            [*rooms, python, "-I", "-B", "-c", _BOOT.format(root=root), json.dumps(job)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=_ENVIRONMENT,
            cwd=place,
            pass_fds=(program_file.fileno(), tests_file.fileno(), report_end, leash),
            start_new_session=True,
        )
        os.close(report_end)
        os.close(leash)
        lines = _read_report(report, limits.wall_s + _START_S)
    finally:
        os.close(leash_end)  # whatever happened, nothing outlives this
        os.close(report)
    try:
        supervisor.wait(_START_S)
    except subprocess.TimeoutExpired:
        supervisor.kill()
        supervisor.wait()
    return lines


def _read_report(report: int, limit_s: float) -> list[dict[str, Any]]:
    deadline = time.monotonic() + limit_s
    received = b""
    while len(received) < _MAX_REPORT_BYTES and select.select([report], [], [], max(0, deadline - time.monotonic()))[0]:
        piece = os.read(report, _MAX_REPORT_BYTES)
        if not piece:
            break
        received += piece
    return [json.loads(line) for line in received.splitlines()]


def _judge(lines: list[dict[str, Any]], limits: Limits, isolation: str, refusal: str) -> Outcome:
    """One verdict of the tests and, after it, the supervisor's word that they ended it: all else is no pass."""
    end = lines[-1] if lines and "ended" in lines[-1] else None
    if end is None:
        return Outcome(False, False, "the supervisor died", isolation="")
    if end["ended"].startswith(UNREADABLE):
        raise UsageError(
            f"verifier=code: no namespaces here ({refusal}), so programs would run as an unused user, and "
            f"{end['ended']}; install bubblewrap, run as an ordinary user, or use an interpreter that all may read"
        )
    said = f"isolation: {isolation}{_gaps(end, refusal)}"
    if end["ended"] in {"wall time", "processor time", "memory", "number of files"}:
        bound = {"wall time": f"{limits.wall_s:g} s", "processor time": f"{limits.cpu_s} s"}.get(end["ended"], "")
        note = f"ended by its limit of {end['ended']} {bound}".rstrip()
        return Outcome(False, end["ended"].endswith("time"), f"{note}; {said}", isolation)
    verdicts = lines[:-1]
    passed = end["ended"] == "tests" and len(verdicts) == 1 and verdicts[0]["passed"] is True
    note = str(verdicts[0]["note"]) if len(verdicts) == 1 else str(end["ended"])
    return Outcome(passed, False, f"{note}; {said}".removeprefix("; "), isolation)


def _gaps(end: dict[str, Any], refusal: str) -> str:
    """What of the isolation is missing, in words, for the note."""
    gaps = []
    if refusal:
        gaps.append(f"no namespaces ({refusal})")
        if not end["separate_user"]:
            gaps.append("run as the caller's own user")
        if end["reachable"]:
            gaps.append(end["reachable"])
    if end["unfiltered"]:
        gaps.append(end["unfiltered"])
    return "".join(f", {gap}" for gap in gaps).replace(";", ",")
