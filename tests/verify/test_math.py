"""The math verifier against a table of awkward answers, and what holds however awkward they are."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eager_lmeval.errors import UsageError
from eager_lmeval.verify.base import answer_classes
from eager_lmeval.verify.math import MathVerifier
from eager_lmeval.verify.symbolic import Comparison

TABLE = [json.loads(line) for line in (Path(__file__).parent / "awkward_answers.jsonl").read_text().splitlines()]
HANGS = "\\boxed{9^{9^{9^{9^{9}}}}}"


@pytest.fixture(scope="module")
def verifier() -> Iterator[MathVerifier]:
    verifier = MathVerifier()
    yield verifier
    verifier.close()


@pytest.fixture
def impatient() -> Iterator[MathVerifier]:
    verifier = MathVerifier(limit_s=0.5)
    yield verifier
    verifier.close()


@pytest.mark.parametrize("row", TABLE, ids=[f"{number}" for number in range(len(TABLE))])
def test_a_careful_grader_would_say_the_same(row: dict[str, str], verifier: MathVerifier) -> None:
    """A row with a ``gap`` says why this verifier does not say what a careful grader would."""
    graded = verifier.grade([row["text"]], row["target"])[0]
    said = "none" if graded.answer is None else "right" if graded.correct else "wrong"
    assert (said == row["expected"]) == ("gap" not in row), (row, graded)
    assert not graded.timed_out


def test_the_table_is_a_table() -> None:
    assert len(TABLE) >= 200
    assert len({(row["text"], row["target"]) for row in TABLE}) == len(TABLE)
    judged = Counter(row["expected"] for row in TABLE)
    assert set(judged) == {"right", "wrong", "none"}
    assert judged["wrong"] > 40  # a verifier that says yes to all does not get far
    assert sum("gap" in row for row in TABLE) < 10


def test_spellings_of_one_number_vote_together(verifier: MathVerifier) -> None:
    texts = [
        "\\boxed{0.5}",
        "\\boxed{1/2}",
        "\\boxed{\\frac12}",
        "\\boxed{2}",
        None,
        "\\boxed{.5}",
        "no idea",
        "\\boxed{\\dfrac{4}{2}}",
    ]
    assert [graded.answer_class for graded in verifier.grade(texts, "7")] == [0, 0, 0, 1, None, 0, None, 1]
    assert [graded.answer_class for graded in verifier.grade(texts, "0.5")] == [0, 0, 0, 1, None, 0, None, 1]


def test_answers_that_need_algebra_vote_together(verifier: MathVerifier) -> None:
    texts = ["\\boxed{x^2-1}", "\\boxed{(x-1)(x+1)}", "\\boxed{x^2+1}", "\\boxed{1+x^2}"]
    assert [graded.answer_class for graded in verifier.grade(texts, "7")] == [0, 0, 1, 1]


def test_the_answer_comes_back_in_canonical_form(verifier: MathVerifier) -> None:
    texts = ["\\boxed{\\dfrac{2}{4}}", "The answer is 1,234.", "\\boxed{\\left( 0.5 , 1\\right)}"]
    assert [graded.answer for graded in verifier.grade(texts, "7")] == ["1/2", "1234", "(1/2, 1)"]


@given(st.lists(st.one_of(st.none(), st.integers(0, 6)), max_size=30), st.booleans())
def test_classes_take_at_most_one_comparison_per_class_and_answer(values: list[int | None], keyed: bool) -> None:
    asked: list[tuple[int, int]] = []

    def equal(first: int, other: int) -> bool:
        asked.append((first, other))
        return first % 4 == other % 4

    correct = [value is not None and value % 4 == 0 for value in values]
    numbers = answer_classes(values, correct, lambda value: value % 2 if keyed else None, equal)
    expected: dict[int, int] = {}
    for value, number in zip(values, numbers, strict=True):
        assert number == (None if value is None else expected.setdefault(value % 4, len(expected)))
    voters = sum(value is not None for value in values)
    assert len(asked) <= voters * len(expected.keys() - {0})
    assert all(first % 4 and other % 4 for first, other in asked)  # correct answers need none


def test_ten_thousand_integers_need_no_computer_algebra(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*pair: str) -> None:
        raise AssertionError(f"{pair} went to the worker")

    verifier = MathVerifier()
    monkeypatch.setattr(verifier._worker, "compare", refuse)
    texts = [f"Let me see. $x_{{{number}}} = 3$, so the answer is \\boxed{{{number}}}." for number in range(10_000)]
    graded = verifier.grade(texts, "77")
    graded += [verifier.grade([text], "77")[0] for text in texts]
    assert sum(one.correct for one in graded) == 2
    assert len({one.answer_class for one in graded}) == 10_000


def test_a_comparison_that_hangs_is_a_timeout_and_a_class_of_its_own(impatient: MathVerifier) -> None:
    graded = impatient.grade([HANGS, "\\boxed{7}", HANGS, "\\boxed{\\sqrt{49}}", "\\boxed{x}"], "7")
    assert [one.correct for one in graded] == [False, True, False, True, False]
    assert [one.timed_out for one in graded] == [True, False, True, False, False]
    assert [one.answer_class for one in graded] == [0, 1, 0, 1, 2]
    assert "0.5 s" in graded[0].note


def test_the_items_of_a_list_share_one_limit(monkeypatch: pytest.MonkeyPatch, impatient: MathVerifier) -> None:
    asked: list[str] = []

    def slow(gold: str, answer: str) -> Comparison:
        asked.append(answer)
        return Comparison(False, cpu_s=0.2)

    monkeypatch.setattr(impatient._worker, "compare", slow)
    items = ", ".join(f"\\sqrt{{{number}}}" for number in range(2, 40))
    graded = impatient.grade([f"\\boxed{{\\{{{items}\\}}}}"], "\\{x, y\\}")[0]
    assert graded.timed_out
    assert graded.note == "comparison ended after 0.5 s"
    assert not graded.correct
    assert len(asked) < 10  # of 76


def test_what_computer_algebra_fails_on_is_a_verdict_with_a_note(
    monkeypatch: pytest.MonkeyPatch, impatient: MathVerifier
) -> None:
    monkeypatch.setattr(impatient._worker, "compare", lambda *_: Comparison(False, note="ZeroDivisionError: x/0"))
    assert impatient.grade(["\\boxed{x/0}"], "x")[0][3:] == (False, "ZeroDivisionError: x/0", True)


@pytest.mark.parametrize(
    "answer",
    [
        "2^{" * 2500 + "2" + "}" * 2500,
        "(" * 4000 + "1" + ")" * 4000,
        "((x+1)^{99}+1)^{99}" * 500,
        "\\frac{1}{" * 1000 + "x" + "}" * 1000,
    ],
)
def test_ten_thousand_characters_stall_a_run_no_longer_than_the_limit(impatient: MathVerifier, answer: str) -> None:
    impatient.grade(["\\boxed{x+x}"], "2x")  # the worker runs
    graded = impatient.grade([f"\\boxed{{{answer}}}"], "7")[0]  # comes back at all: nothing here would by itself
    assert graded.answer is not None
    assert not graded.correct


@pytest.mark.parametrize(
    "text",
    [
        "\\boxed{" * 30_000,
        "answer is " * 30_000,
        "$" * 100_000,
        "\\boxed{" + "\\text{a" * 20_000 + "}" * 20_001,
        "{1," * 50_000,
        "\\boxed{" + "1," * 50_000 + "}",
    ],
)
def test_hundreds_of_kilobytes_of_brackets_are_no_answer(verifier: MathVerifier, text: str) -> None:
    assert not verifier.grade([text], "7")[0].correct  # takes minutes where reading is quadratic


def test_a_worker_that_is_killed_is_replaced(impatient: MathVerifier) -> None:
    assert impatient.grade(["\\boxed{\\sqrt{4}}"], "2")[0].correct
    process = impatient._worker._process
    assert process is not None
    process.kill()
    process.wait()
    assert impatient.grade(["\\boxed{\\sqrt{9}}"], "3")[0].correct


def test_the_worker_ends_when_its_parent_is_killed_in_mid_comparison() -> None:
    program = (
        "from eager_lmeval.verify.math import MathVerifier\n"
        "v = MathVerifier(limit_s=1.5)\n"
        "v.grade(['\\\\boxed{\\\\sqrt{4}}'], '2')\n"
        "print(v._worker._process.pid, flush=True)\n"
        f"v.grade([{HANGS!r}], '2')\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, env=environment) as caller:
        assert caller.stdout is not None
        worker = int(caller.stdout.readline())
        time.sleep(0.3)
        caller.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 60
    while Path(f"/proc/{worker}/stat").exists() and " Z " not in Path(f"/proc/{worker}/stat").read_text():
        assert time.monotonic() < deadline, "the worker goes on without its parent"
        time.sleep(0.1)


@pytest.mark.parametrize("label", ["", "   ", "\\boxed{}", "$$"])
def test_an_empty_label_is_refused_before_any_text(verifier: MathVerifier, label: str) -> None:
    with pytest.raises(UsageError, match="verifier=math"):
        verifier.grade([], label)


def test_the_label_may_be_a_whole_solution(verifier: MathVerifier) -> None:
    assert verifier.grade(["\\boxed{3}"], "We find $1+2=\\boxed{3}$.")[0].correct
    assert verifier.grade(["\\boxed{72}"], "He sold 48/2 = 24.\n#### 72")[0].correct


def test_many_distinct_formulas_are_told_apart_by_their_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """Algebra is asked about those that agree somewhere: of 60 answers with 30 formulas, each written in two ways."""
    from eager_lmeval.verify import symbolic_worker

    asked = []
    monkeypatch.setattr("math_verify.verify", lambda gold, answer, **_: asked.append((gold, answer)) or True)
    formulas = [
        (rf"\frac{{{a}x+{b}}}{{x+{b + 5}}}", rf"\frac{{{b}+{a}x}}{{{b + 5}+x}}")
        for a in range(1, 7)
        for b in range(1, 6)
    ]
    written = [form for pair in formulas for form in pair]
    equal = {(one, other) for one in written for other in written if symbolic_worker._compare(one, other)}
    assert len(equal) == 4 * len(formulas), "each of a pair with itself and the other"
    assert len(asked) == len(equal)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x+1", "1+x"),
        (r"\sqrt{x^2}", "|x|"),
        (r"\frac{x^2-1}{x-1}", "x+1"),
        (r"2\sqrt{2}", r"\sqrt{8}"),
        ("X+1", "x+1"),
    ],
)
def test_what_is_equal_has_equal_values(one: str, other: str) -> None:
    from eager_lmeval.verify.symbolic_worker import _differ_at_points, _parsed

    assert not _differ_at_points(_parsed(one), _parsed(other))
    assert _differ_at_points(_parsed(one), _parsed("x+7"))
