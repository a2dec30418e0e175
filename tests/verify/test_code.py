"""The code verifier on honest programs: finding them in texts, running them, and what may pass to and fro."""

from __future__ import annotations

import contextlib
import json
import socket
import sys
from collections import deque
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eager_lmeval.errors import UsageError
from eager_lmeval.verify import get_verifier
from eager_lmeval.verify.code import ISOLATION_VARIABLE, CodeVerifier
from eager_lmeval.verify.jail.bubblewrap import bubblewrap_refusal
from eager_lmeval.verify.jail.failures import to_exception
from eager_lmeval.verify.jail.messages import UnsupportedValue, receive, send
from eager_lmeval.verify.jail.values import Values
from eager_lmeval.verify.program import extract_program
from eager_lmeval.verify.sandbox import Outcome, run_in_jail

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the jail is made of Linux")

PROMPT = '''from typing import List

def helper(n):
    return n * 10

def total(numbers: List[int]) -> int:
    """ Sum of the numbers.
    >>> total([1, 2])
    3
    """
'''
TEST = """
import numpy as np

def assertion(out, exp, atol):
    if atol == 0 and isinstance(exp, float):
        atol = 1e-6
    assert np.allclose(out, exp, rtol=1e-07, atol=atol) if atol else out == exp

def check(candidate):
    inputs = [[[1, 2]], [[]], [[helper(1), 5]]]
    results = [3, 0, 15]
    for inp, exp in zip(inputs, results):
        assertion(candidate(*inp), exp, 0)
    assertion(candidate([0.5]), 0.5, 0)
"""
LABEL = json.dumps({"prompt": PROMPT, "entry_point": "total", "test": TEST, "task_id": "T/0"})
DEFINITION = "def total(numbers):\n    return sum(numbers)\n"


def correct(text: str, label: str = LABEL) -> bool:
    return get_verifier("code").grade([text], label)[0].correct


def test_programs_are_run_against_the_tests_and_vote_by_their_text() -> None:
    texts = [
        f"```python\n{DEFINITION}```",
        "```python\ndef total(n):\n    return 3\n```",
        None,
        "I give up.",
        f"So:\n```\n{DEFINITION}```",
    ]
    graded = get_verifier("code").grade(texts, LABEL)
    assert [one.correct for one in graded] == [True, False, False, False, True]
    assert [one.answer_class for one in graded] == [0, 1, None, None, 0]
    assert "AssertionError" in graded[1].note
    assert not any(one.timed_out for one in graded)


@pytest.mark.parametrize(
    "text",
    [
        f"Here it is:\n\n```python\n{DEFINITION}```\n\nIt sums.\n```python\nprint(total([1]))\n```",
        f"```py\n{DEFINITION}",
        "1. First:\n   ```python\n   def total(numbers):\n       return sum(numbers)\n   ```",
        f"```bash\nls\n```\n~~~python\n{DEFINITION}~~~",
        DEFINITION,
        f"Sure! The function:\n\n{DEFINITION}\n\nThis adds them up, doesn't it?",
        "    return sum(numbers)\n",
        "    return sum(numbers)\n\nThat's it, isn't it?",
        "return sum(numbers)",
        "    # first\n    result = 0\n    for n in numbers:\n        result += n\n    return result\n\n\nassert True\n",
        "```python\n    return sum(numbers)\n```",
        f"```python\nfrom typing import List\n\nclass Unused: pass\n\n{DEFINITION}\n```",
        "total = lambda numbers: sum(numbers)",
        f"```python\nfrom __future__ import annotations\n\n{DEFINITION}```",
        "result = 0\n    for n in numbers:\n        result += n\n    return result\n",
        "```python\nresult = 0\nfor n in numbers:\n    result += n\nreturn result\n```",
        '```python\ndef total(numbers):\n    """Sum.\n\n    ```\n    total([1])\n    ```\n    """\n'
        "    return sum(numbers)\n```",
        f"```python\n{DEFINITION}\nassert total([1]) == 2\n```",
        f"```python\n{DEFINITION}\nline = input()\nprint(total(eval(line)))\n```",
        f"```python\n{DEFINITION}\nif __name__ == '__main__':\n    total = None\n```",
        "```python\ntry:\n    from math import fsum\nexcept ImportError:\n    fsum = sum\n\n"
        "def total(numbers):\n    return round(add(numbers))\n\ndef add(numbers):\n    return fsum(numbers)\n```",
    ],
)
def test_the_program_is_found_in_a_text(text: str) -> None:
    program = extract_program(text, "total", PROMPT)
    assert program is not None
    namespace: dict[str, Any] = {}
    exec(program, namespace)
    assert namespace["total"]([1, 2, 3]) == 6


@pytest.mark.parametrize("text", ["", "   ", "I cannot do that.", "The answer is 3.", "x" * 300_000])
def test_a_text_without_code_is_no_answer(text: str) -> None:
    assert extract_program(text, "total", PROMPT) is None


def test_a_bare_completion_runs_with_the_prompt() -> None:
    assert correct("    return sum(numbers)\n")


def test_a_program_that_does_not_parse_is_a_wrong_answer() -> None:
    graded = get_verifier("code").grade(["```python\ndef total(numbers:\n```"], LABEL)[0]
    assert graded.answer is not None
    assert not graded.correct
    assert "SyntaxError" in graded.note


def test_tests_may_assert_without_a_check_function() -> None:
    label = json.dumps(
        {"entry_point": "pair", "test": "assert pair(1, b=2) == (1, 2)\nassert pair([1], b=None) == ([1], None)\n"}
    )
    assert correct("```python\ndef pair(a, b):\n    return a, b\n```", label)
    assert not correct("```python\ndef pair(a, b):\n    return [a, b]\n```", label)


def test_tests_see_the_exceptions_of_the_program() -> None:
    test = """
def check(candidate):
    try:
        candidate(-1)
    except ValueError as error:
        assert "negative" in str(error)
    else:
        raise AssertionError("no error")
"""
    label = json.dumps({"entry_point": "root", "test": test})
    assert correct("class Negative(ValueError): pass\ndef root(x):\n    raise Negative('negative')\n", label)
    assert not correct("def root(x):\n    raise KeyError('negative')\n", label)


@pytest.mark.parametrize(
    "label",
    [
        "",
        "def check(c): pass",
        "[]",
        '{"entry_point": "f"}',
        '{"entry_point": "a b", "test": "pass"}',
        '{"entry_point": "f", "test": 3}',
    ],
)
def test_a_label_that_is_no_problem_is_refused_before_any_text(label: str) -> None:
    with pytest.raises(UsageError, match="verifier=code"):
        get_verifier("code").grade([], label)


INSTALLED = "limits" if bubblewrap_refusal() else "bubblewrap"


def test_every_result_says_which_isolation_was_in_force(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ISOLATION_VARIABLE, INSTALLED)
    verifier = CodeVerifier()
    label = json.dumps({"entry_point": "one", "test": "assert one() == 1"})
    notes = [one.note for one in verifier.grade(["def one(): return 1", "def one(): return 2"], label)]
    assert notes[0].startswith(f"isolation: {INSTALLED}")
    assert notes[1].startswith(f"AssertionError; isolation: {INSTALLED}")


def test_an_unknown_isolation_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ISOLATION_VARIABLE, "docker")
    with pytest.raises(UsageError, match=f"{ISOLATION_VARIABLE}='docker'; accepted: auto, bubblewrap, limits"):
        CodeVerifier()


@pytest.fixture
def bwrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where a bubblewrap would be found; there is none yet."""
    monkeypatch.setenv("PATH", str(tmp_path))
    bubblewrap_refusal.cache_clear()
    yield tmp_path / "bwrap"
    bubblewrap_refusal.cache_clear()


def run_one(isolation: str) -> Outcome:
    problem = ("def one(): return 1", "one", "assert one() == 1")
    try:
        return run_in_jail(*problem, isolation=isolation)
    except UsageError as error:
        if "cannot read the interpreter" not in str(error):
            raise
    return run_in_jail(*problem, isolation=isolation, python="/usr/bin/python3")


def confined_by_limits(outcome: Outcome, reason: str) -> None:
    assert outcome.passed
    assert outcome.isolation == "limits"
    assert outcome.note.startswith(f"isolation: limits, no namespaces ({reason})")


def test_without_bubblewrap_the_note_says_what_is_missing_and_by_name_it_is_refused(
    bwrap: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not bwrap.exists()
    confined_by_limits(run_one("auto"), "bubblewrap is not installed")
    monkeypatch.setenv(ISOLATION_VARIABLE, "bubblewrap")
    with pytest.raises(UsageError, match="bubblewrap is not installed"):
        CodeVerifier()


def test_a_bubblewrap_that_does_not_work_is_said(bwrap: Path) -> None:
    bwrap.write_text("#!/bin/sh\necho 'bwrap: setting up uid map: Permission denied' >&2\nexit 1\n")
    bwrap.chmod(0o755)
    said = "bubblewrap does not work here (setting up uid map: Permission denied)"
    confined_by_limits(run_one("auto"), said)
    with pytest.raises(UsageError, match="setting up uid map"):
        run_one("bubblewrap")


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
    | st.binary(max_size=5)
    | st.complex_numbers(allow_nan=False),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.integers() | st.text(max_size=3), inner, max_size=3)
        | st.frozensets(st.integers() | st.tuples(st.text(max_size=2)), max_size=3)
    ),
    max_leaves=12,
)


def over_the_wire(value: object) -> Any:
    here, there = socket.socketpair()
    with here, there:
        send(here, Values().dump(value))
        return Values().load(receive(there))


@given(VALUES)
def test_plain_values_arrive_as_they_were_sent(value: object) -> None:
    arrived = over_the_wire(value)
    assert arrived == value
    assert repr(arrived) == repr(value) or isinstance(value, frozenset | tuple | list | dict)
    assert type(arrived) is type(value)


@pytest.mark.parametrize(
    "value",
    [
        object(), len, [object()], iter(int, 1), int, range(3), {1: 2}.values(), deque([1]), bytearray(b"x"),
        np.array([1]), np.longdouble(1), Fraction(1, 3), Decimal("0.1"), Decimal("NaN"), date(2024, 2, 28), ...,
    ],
)  # fmt: skip
def test_what_neither_is_nor_equals_a_plain_value_does_not_pass(value: object) -> None:
    with pytest.raises(UnsupportedValue, match="cannot pass between tests and program"):
        Values().dump(value)


def test_the_note_of_a_result_says_what_did_not_pass() -> None:
    returned = run_in_jail("def f(): return (i for i in 'ab')", "f", "list(f())")
    assert returned.note.startswith("the program's answer: a value of type generator cannot pass between tests")
    given = run_in_jail("def f(x): return 1", "f", "f(iter([]))")
    assert given.note.startswith("the call did not reach the program: a value of type list_iterator cannot pass")


KINDS = ["list", "tuple", "dict", "set", "frozenset", "nan", "object"]
SCALARS = ["int", "nan", "bytes", "complex", "x"]
ATOMS = (
    st.none()
    | st.booleans()
    | st.integers(-2, 5)
    | st.text(max_size=3)
    | st.sampled_from(["int", "a", "00", "__class__"])
    | st.lists(st.integers(-1, 4), max_size=2)
    | st.dictionaries(st.sampled_from(SCALARS), st.text(max_size=3) | st.lists(st.integers(), max_size=3), max_size=2)
)
OBJECTS = st.lists(st.tuples(st.sampled_from(KINDS), ATOMS, ATOMS, ATOMS) | st.tuples(ATOMS) | ATOMS, max_size=4)
MESSAGES = st.fixed_dictionaries({"value": ATOMS, "objects": OBJECTS}) | ATOMS


@given(MESSAGES)
def test_whatever_the_program_sends_is_a_plain_value_or_refused(message: Any) -> None:
    message = json.loads(json.dumps(message))
    values = Values()
    values.dump([[1], {2: 3}])
    with contextlib.suppress(UnsupportedValue):
        repr(values.load(message))


@given(MESSAGES, st.text(max_size=3))
def test_whatever_the_program_raises_is_an_exception_or_refused(message: Any, text: str) -> None:
    message = json.loads(json.dumps(message))
    for kinds in ([["builtins", "ValueError"]], [[text, text], ["builtins", text]], message):
        with contextlib.suppress(UnsupportedValue):
            str(to_exception({"kinds": kinds, "text": text, "content": message}, Values(), {}))
