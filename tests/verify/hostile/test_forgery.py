"""Programs that want to pass without solving the problem. Capped like those of `test_harm`."""

from __future__ import annotations

import pytest
from machines import Run, bare_too


@pytest.mark.parametrize(
    "program",
    [
        "import os\nos._exit(0)",
        "import sys\nsys.exit(0)",
        "raise SystemExit",
        "import os\ndef add(a, b): os._exit(0)",
        "import sys\ndef add(a, b): sys.exit(0)",
        "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)",
        "import os\nif os.fork(): os._exit(0)\ndef add(a, b): return 0",
    ],
)
def test_to_exit_before_the_tests_ran_is_not_to_pass(run: Run, program: str) -> None:
    outcome = run(program)
    assert not outcome.passed
    assert outcome.note


@pytest.mark.parametrize(
    "test", ["try:\n    add(1, 2)\nexcept BaseException:\n    pass\n", "pass\n", "def check(candidate): pass\n"]
)
def test_tests_that_saw_no_answer_are_not_passed(run: Run, test: str) -> None:
    assert not run("import os\ndef add(a, b): os._exit(0)", test).passed


def test_a_result_that_equals_everything_crosses_as_what_it_extends(run: Run) -> None:
    agrees = """
def agreeable(kind, *args):
    return type("Agreeable", (kind,), {"__eq__": lambda self, other: True, "__hash__": kind.__hash__})(*args)
def add(number):
    return [
        agreeable(int, 0), agreeable(float, 0.0), agreeable(str), agreeable(list), agreeable(dict), agreeable(tuple),
        float("nan"),
    ][number]
"""
    test = (
        "def check(candidate):\n    equal = [i for i in range(7) if candidate(i) == 3]\n    assert equal == [], equal\n"
    )
    outcome = run(agrees, test)
    assert outcome.passed, outcome.note


@pytest.mark.parametrize("result", ["type('Any', (), {'__eq__': lambda self, other: True})()", "NotImplemented"])
def test_an_object_of_the_programs_own_does_not_cross(run: Run, result: str) -> None:
    outcome = run(f"def add(a, b): return {result}")
    assert not outcome.passed
    assert "cannot pass" in outcome.note


def test_patching_what_the_tests_use_changes_nothing(run: Run) -> None:
    patches = """
import builtins, math, operator, sys
for name in ("abs", "all", "any", "isinstance", "len", "zip", "print", "sorted", "set"):
    setattr(builtins, name, lambda *args, **kwargs: True)
builtins.AssertionError = type("Nothing", (BaseException,), {})
math.isclose = operator.eq = lambda *args, **kwargs: True
check = lambda candidate: None
sys.modules["tests"] = sys.modules["__main__"] = sys.modules[__name__]
sys.settrace(lambda *args: None)
def add(a, b): return 0
"""
    test = "import math\ndef check(candidate):\n    assert math.isclose(abs(candidate(1, 2)), 3)\n"
    assert not run(patches, test).passed


@bare_too
def test_a_verdict_cannot_be_written_by_the_program(run: Run) -> None:
    forges = """
import glob, os
line = b'{"passed": true, "calls": 2, "note": ""}\\n'
end = b'{"ended": "tests", "refusal": "", "separate_user": true}\\n'
def forge(a=0, b=0):
    for fd in range(0, 64):
        try:
            os.write(fd, line + end)
        except OSError:
            pass
    for path in glob.glob("/proc/[0-9]*/fd/*"):
        try:
            with open(path, "wb", buffering=0) as file:
                file.write(line + end)
        except OSError:
            pass
    return 0
forge()
add = forge
"""
    assert not run(forges).passed


@bare_too
def test_the_tests_are_out_of_reach_of_the_program(run: Run) -> None:
    searches = """
import gc, glob, os, sys
def add():
    seen = []
    frame = sys._getframe()
    while frame:
        seen.append(repr(frame.f_locals)[:100_000])
        frame = frame.f_back
    seen += [thing for thing in gc.get_objects() if isinstance(thing, (str, bytes))]
    seen += [repr(vars(module))[:100_000] for module in list(sys.modules.values())]
    for path in glob.glob("/proc/[0-9]*/fd/*"):
        try:
            if os.path.isfile(path):
                seen.append(open(path, "rb").read(100_000))
        except OSError:
            pass
    opened = 0
    for path in glob.glob("/proc/[0-9]*/mem"):
        if path.split("/")[2] != str(os.getpid()):
            try:
                open(path, "rb").close()
                opened += 1
            except OSError:
                pass
    mark = "-".join(["marks", "the", "tests"])
    return opened, any(mark in str(text) for text in seen)
"""
    test = (
        "def check(candidate):\n    'marks-the-tests'\n    found = candidate()\n    assert found == (0, False), found\n"
    )
    outcome = run(searches, test)
    assert outcome.passed, outcome.note


def test_an_answer_too_large_to_send_does_not_stop_the_run(run: Run) -> None:
    outcome = run("def add(a, b): return 'x' * (70 << 20)", memory_bytes=1 << 30)
    assert not outcome.passed
    assert "at most" in outcome.note


@pytest.mark.parametrize(
    "junk",
    ["b'\\xff\\xff\\xff\\xff'", "b'\\x00\\x00\\x00\\x02{]' * 9", "b'\\x00\\x00\\x00\\x04null' * 9", "b'[' * 100000"],
)
def test_junk_on_the_line_to_the_tests_is_no_answer(run: Run, junk: str) -> None:
    sends = f"""
import os
for fd in range(3, 64):
    try:
        os.write(fd, {junk})
    except OSError:
        pass
def add(a, b): return 0
"""
    assert not run(sends).passed
