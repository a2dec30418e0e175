"""Tests and program are two processes; a verdict is nonetheless that of plain Python, where they are one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import eager_lmeval

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the jail is made of Linux")

PLAIN_PYTHON = yaml.safe_load((Path(__file__).parent / "plain_python.yaml").read_text())
TABLE = [
    pytest.param(case["program"], test, passes, id=f"{case['what']}, {'passed' if passes else 'failed'} {number}")
    for case in PLAIN_PYTHON["cases"]
    for passes, tests in ((True, case["passed"]), (False, case["failed"]))
    for number, test in enumerate(tests)
]

Verdicts = dict[tuple[str, str], tuple[bool, bool, str]]


@pytest.fixture(scope="module")
def verdicts() -> Verdicts:
    """Plain Python's verdict, the jail's, and its note."""
    cases = [(program, test) for program, test, _ in (case.values for case in TABLE)]
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parent / "both_ways.py")],
        input=json.dumps([(PLAIN_PYTHON["setup"], *case) for case in cases]),
        capture_output=True, text=True, check=True, timeout=120,
        env={"PYTHONPATH": str(Path(eager_lmeval.__file__).parent.parent), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    return {case: tuple(verdict) for case, verdict in zip(cases, json.loads(done.stdout), strict=True)}


@pytest.mark.parametrize(("program", "test", "passes"), TABLE)
def test_the_verdict_is_that_of_plain_python(verdicts: Verdicts, program: str, test: str, passes: bool) -> None:
    plain, jail, note = verdicts[program, test]
    assert plain == passes, "the table itself is wrong"
    assert jail == plain, note
