"""`code`: the text's program run against the dataset's tests, in a jail (`eager_lmeval.verify.jail`)."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from eager_lmeval.errors import UsageError
from eager_lmeval.verify.base import Graded
from eager_lmeval.verify.program import extract_program, setup_of_prompt
from eager_lmeval.verify.sandbox import ISOLATIONS, Outcome, run_in_jail

__all__ = ["ISOLATION_VARIABLE", "CodeVerifier"]

_log = logging.getLogger(__name__)

ISOLATION_VARIABLE = "EAGER_LMEVAL_ISOLATION"
"""The environment variable that says how programs are isolated."""
_CACHE_SIZE = 10_000
_FIELDS = ("prompt", "entry_point", "test")


class _Problem(NamedTuple):
    prompt: str
    entry_point: str
    test: str


class CodeVerifier:
    """Right if the program passes the tests within its limits.

    The label is a JSON object with ``entry_point``, the name that the tests call; ``test``, Python that defines
    ``check(candidate)`` or asserts directly; and ``prompt``, the beginning of the program, for texts that only
    continue it (optional). Programs vote by their text: two classes may well do the same.

    The environment variable `ISOLATION_VARIABLE` is one of `ISOLATIONS`, ``auto`` without it. A program that reached a
    time limit is marked ``timed_out``; the note says why one failed, and of every result which isolation was in force.
    """

    name = "code"

    def __init__(self) -> None:
        if sys.platform != "linux":
            raise UsageError(f"verifier=code confines programs with means of Linux; this is {sys.platform}")
        self._isolation = os.environ.get(ISOLATION_VARIABLE) or "auto"
        if self._isolation not in ISOLATIONS:
            raise UsageError(
                f"verifier=code: {ISOLATION_VARIABLE}={self._isolation!r}; accepted: {', '.join(ISOLATIONS)}"
            )
        # raises here, before anything is generated, where the machine cannot isolate programs as it was asked to
        run_in_jail("def one(): return 1", "one", "one()", isolation=self._isolation)
        self._cache: dict[tuple[str, _Problem], Outcome] = {}
        self._lock = threading.Lock()
        self._warned = False

    def grade(self, texts: Sequence[str | None], label: str | None) -> list[Graded]:
        if label is None:
            raise UsageError("verifier=code runs programs against a label's tests and does not know equal ones")
        problem = _read_label(label)
        programs = [text and extract_program(text, problem.entry_point, problem.prompt) for text in texts]
        self._run_all(problem, {program for program in programs if program})
        classes: dict[str, int] = {}
        graded = []
        for program in programs:
            if not program:
                graded.append(Graded(False, None, None))
                continue
            outcome = self._cache[program, problem]
            number = classes.setdefault(program, len(classes))
            graded.append(Graded(outcome.passed, program, number, outcome.timed_out, outcome.note))
        return graded

    def _run_all(self, problem: _Problem, programs: set[str]) -> None:
        setup = setup_of_prompt(problem.prompt)

        def run(program: str) -> None:
            self._cache[program, problem] = run_in_jail(
                program, problem.entry_point, problem.test, setup, isolation=self._isolation
            )

        with self._lock:
            new = sorted(program for program in programs if (program, problem) not in self._cache)
            if len(self._cache) + len(new) > _CACHE_SIZE:
                self._cache = {key: value for key, value in self._cache.items() if key[1] == problem}
            with ThreadPoolExecutor(min(4, len(os.sched_getaffinity(0)))) as pool:
                list(pool.map(run, new))
            self._warn_once(self._cache[program, problem] for program in new)

    def _warn_once(self, outcomes: Iterable[Outcome]) -> None:
        bare = next((outcome for outcome in outcomes if outcome.isolation == "limits"), None)
        if bare is not None and not self._warned and self._isolation != "limits":
            self._warned = True
            _log.warning("programs run less confined than they should be, see the notes of the results: %s", bare.note)


def _read_label(label: str) -> _Problem:
    try:
        fields = json.loads(label)
        problem = _Problem(*(fields.get(field, "") for field in _FIELDS))
    except (ValueError, AttributeError) as error:
        raise UsageError(
            f"verifier=code: the label has to be a JSON object with {_FIELDS}; got {label!r:.200}"
        ) from error
    if not all(isinstance(value, str) for value in problem) or not problem.test.strip():
        raise UsageError(
            f"verifier=code: {_FIELDS} of the label are strings and `test` is not empty; got {label!r:.200}"
        )
    if not problem.entry_point.isidentifier():
        raise UsageError(f"verifier=code: entry_point={problem.entry_point!r} is not the name of a function")
    return problem
