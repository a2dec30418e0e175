"""Computer algebra with a limit of CPU time that holds: a worker process that is killed when it passes it."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from typing import NamedTuple

from eager_lmeval.verify.base import Unavailable

__all__ = ["Comparison", "SymbolicWorker"]

_START_LIMIT_S = 120.0
_WALL = 10.0
"""The clock's limit, in limits of CPU time: a second line for what waits, far off so that load decides no verdict."""
_GRACE_S = 1.0
"""How much longer than the worker's own alarm the parent waits before it kills."""
_ALARMED = {-signal.SIGPROF, -signal.SIGALRM}
"""Return codes of a worker that its own alarms ended."""


class Comparison(NamedTuple):
    """Whether two expressions are equal; False where that could not be found out, and why."""

    equal: bool
    timed_out: bool = False
    note: str = ""
    cpu_s: float = 0.0
    """CPU time that it took."""


class SymbolicWorker:
    """Compares LaTeX expressions in a process of its own, started when first needed and again after it was killed.

    A fresh interpreter, not a fork: the caller holds threads, CUDA and memory that a fork must not carry along.
    Any thread may call; comparisons queue up. Results are cached per pair, timeouts too, so that a text that hangs
    costs its limit once.
    """

    def __init__(self, limit_s: float, cache_size: int = 100_000) -> None:
        self.limit_s = limit_s
        self.kills = 0
        self._cache_size = cache_size
        self._cache: dict[tuple[str, str], Comparison] = {}
        self._lock = threading.Lock()
        self._owner = os.getpid()
        self._process: subprocess.Popen[bytes] | None = None
        atexit.register(self.close)

    def compare(self, gold: str, answer: str) -> Comparison:
        with self._lock:
            cached = self._cache.get((gold, answer))
            if cached is None:
                if len(self._cache) >= self._cache_size:
                    self._cache.clear()
                cached = self._cache[gold, answer] = self._ask(gold, answer)
            return cached

    def close(self) -> None:
        process, self._process = self._process, None
        if process is not None and self._owner == os.getpid():  # a fork leaves the worker to its parent
            _kill(process)

    def _ask(self, gold: str, answer: str) -> Comparison:
        process = self._running()
        try:
            assert process.stdin is not None
            process.stdin.write(json.dumps([gold, answer, self.limit_s, _WALL * self.limit_s]).encode() + b"\n")
            process.stdin.flush()
            reply = json.loads(_read_line(process, _WALL * self.limit_s + _GRACE_S))
            return Comparison(reply[0] is True, note=reply[1], cpu_s=reply[2])
        except (TimeoutError, EOFError, BrokenPipeError) as error:
            self.close()
            self.kills += 1
            if isinstance(error, TimeoutError) or process.returncode in _ALARMED:
                return Comparison(
                    False, timed_out=True, cpu_s=self.limit_s, note=f"comparison ended after {self.limit_s:g} s"
                )
            return Comparison(False, note=f"the worker died ({process.returncode}), out of memory perhaps")

    def _running(self) -> subprocess.Popen[bytes]:
        if self._owner != os.getpid():
            self._owner, self._process = os.getpid(), None
        if self._process is not None and self._process.poll() is None:
            return self._process
        self._process = process = subprocess.Popen(
            [sys.executable, "-m", "eager_lmeval.verify.symbolic_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            start_new_session=True,  # an interrupt at the terminal is for the run, which then closes the worker
        )
        try:
            json.loads(_read_line(process, _START_LIMIT_S))
        except (TimeoutError, EOFError) as error:
            _kill(process)
            self._process = None
            raise Unavailable(
                "the worker for symbolic answers did not start; `python -m eager_lmeval.verify.symbolic_worker` "
                "says why (is math-verify installed?)"
            ) from error
        return process


def _read_line(process: subprocess.Popen[bytes], limit_s: float) -> bytes:
    """One line of the worker's output; TimeoutError past the limit, EOFError where the worker ended."""
    assert process.stdout is not None
    deadline = time.monotonic() + limit_s
    line = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while not line.endswith(b"\n"):
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise TimeoutError
            piece = os.read(process.stdout.fileno(), 1 << 16)
            if not piece:
                process.wait(_GRACE_S)
                raise EOFError
            line += piece
    return line


def _kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
