"""Runs programs against tests in one plain Python process each, and as the two sides of a jail without its walls.

Reads ``[[setup, program, test], ...]`` from standard input, writes ``[[plain, jail, note], ...]``, both JSON. The
verdicts of the jail depend on its sides alone; what keeps a program in is tested elsewhere.
"""

import json
import os
import socket
import sys
import types
from collections.abc import Callable

from eager_lmeval.verify.jail.sides import run_program, run_tests

ENTRY_POINT = "f"


def in_child(work: Callable[[], None]) -> int:
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return child


def plain(setup: str, program: str, test: str) -> bool:
    def work() -> None:
        module = types.ModuleType("plain")
        sys.modules["plain"] = module
        exec(setup + program, module.__dict__)
        exec(test, module.__dict__)

    return os.waitpid(in_child(work), 0)[1] == 0


def jail(setup: str, program: str, test: str) -> tuple[bool, str]:
    ours, theirs = socket.socketpair()
    report, report_end = os.pipe()

    def tests() -> None:
        theirs.close()
        run_tests(ours, {"setup": setup, "test": test, "entry_point": ENTRY_POINT, "report_fd": report_end})

    def answers() -> None:
        ours.close()
        run_program(theirs, {"source": setup + program, "entry_point": ENTRY_POINT})

    children = [in_child(tests), in_child(answers)]
    for end in (ours, theirs):
        end.close()
    os.close(report_end)
    with open(report) as lines:
        verdict = json.loads(lines.readline())
    for child in children:
        os.waitpid(child, 0)
    return verdict["passed"], verdict["note"]


if __name__ == "__main__":
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what plain Python says of tests that fail
    print(json.dumps([[plain(*case), *jail(*case)] for case in json.load(sys.stdin)]))
