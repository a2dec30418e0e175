"""What a model wrote, and what a dataset calls right, never raises and takes linear time to read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiers import sized

from eager_lmeval.errors import UsageError
from eager_lmeval.verify.choice import ChoiceVerifier
from eager_lmeval.verify.math import MathVerifier
from eager_lmeval.verify.program import extract_program
from eager_lmeval.verify.symbolic import Comparison

CORPUS = Path(__file__).parents[2] / "benchmarks" / "verify_corpus"
GOLDS = (CORPUS / "math_golds.txt").read_text().splitlines()
PIECES = (
    *" \n=<>,;:.+-*/^_%$'!|&#~`()[]{}019aeixPX\\½√π°±∞",
    "\\boxed{", "\\{", "\\}", "\\frac", "\\frac{", "}{", "\\sqrt", "\\text{", "\\pm", "\\mp", "\\cup", "\\in ",
    "\\infty", "\\circ", "\\left(", "\\right)", "\\sum_{k=1}^{3}", "\\begin{pmatrix}", "\\end{pmatrix}",
    "\\overline{", "\\binom", "\\ldots", "\\log_2", "(x=1, y=2)", "P(X=2)", " and ", " or ", "1,000", "10^{", "e^",
    "_{5}", "\\%", " cm", "answer is ", "#### ", "x\\in", "def f(", "```",
)  # fmt: skip
LATEX = st.lists(st.sampled_from(PIECES), max_size=30).map("".join)


@st.composite
def damaged(draw: st.DrawFn) -> str:
    """A real answer, or one that lacks a part, holds a foreign one or is glued to another."""
    text = draw(st.sampled_from(GOLDS))
    at, end = (draw(st.integers(0, len(text))) for _ in range(2))
    return text[:at] + draw(st.one_of(st.just(""), LATEX, st.sampled_from(GOLDS))) + text[end:]


ANSWERS = st.one_of(LATEX, damaged(), st.text(max_size=50))


@pytest.fixture(scope="module")
def reader() -> MathVerifier:
    """`math` without computer algebra, which runs elsewhere and is killed there."""
    verifier = MathVerifier()
    verifier._worker.compare = lambda gold, answer: Comparison(len(gold) == len(answer))  # type: ignore[method-assign]
    return verifier


@given(ANSWERS, ANSWERS, st.booleans())
@settings(max_examples=sized(150, 1500), deadline=None)
def test_neither_an_answer_nor_a_gold_raises(reader: MathVerifier, answer: str, gold: str, boxed: bool) -> None:
    text = f"\\boxed{{{answer}}}" if boxed else f"The answer is {answer}"
    try:
        (graded,) = reader.grade([text], gold)
    except UsageError:  # the gold holds no answer
        return
    assert not graded.failed
    assert (graded.answer is None) == (graded.answer_class is None)


@given(ANSWERS)
@settings(max_examples=sized(50, 500), deadline=None)
def test_an_answer_equals_itself(reader: MathVerifier, answer: str) -> None:
    try:
        (graded,) = reader.grade([f"\\boxed{{{answer}}}"], f"\\boxed{{{answer}}}")
    except UsageError:
        return
    assert graded.correct or graded.answer is None


@given(ANSWERS, ANSWERS)
@settings(max_examples=sized(50, 500), deadline=None)
def test_no_text_makes_choice_or_the_search_for_a_program_raise(text: str, option: str) -> None:
    label = json.dumps({"answer": "B", "options": [option, "nitrogen " + option]})
    (graded,) = ChoiceVerifier().grade([text], label)
    assert graded.answer in {None, "A", "B"}
    extract_program(text, "total", "def total(numbers):\n")


def test_every_gold_of_math_equals_itself_in_another_dress(reader: MathVerifier) -> None:
    for gold in GOLDS:
        dressed = gold.replace("\\frac", "\\dfrac").replace("(", "\\left( ").replace(",", " , ")
        if "," not in gold or "(" in gold:  # a comma may as well group thousands
            assert reader.grade([f"So the answer is $\\boxed{{ {dressed} }}$."], gold)[0].correct, gold


LONG = 300_000
HOSTILE = (
    ("*", "", ""), ("-", "\\boxed{", "}"), ("*", "\\boxed{", "}"), ("-", "\\boxed{", ""), (" ", "answer", ""),
    ("\n", "answer", "x"), (" ", "\\boxed{a", "b}"), (".", "\\boxed{", "a}"), ("_", "\\boxed{", "}"),
    ("**", "", "B"), ("answer ", "", ""), ("answer is . ", "", ""), ("\\boxed", "", "{"), ("\\boxed{", "", "}"),
    ("$", "The answer is ", ""), ("^ ", "\\boxed{1", "}"), ("1,", "\\boxed{", "}"), ("1 ", "The answer is ", ""),
    ("a^1 ", "\\boxed{5 ", "}"), ("(", "\\boxed{", "}"), ("{", "\\boxed{", "}"), ("I choose ", "", ""),
    ("A or ", "The answer is ", ""), ("A. ", "", ""), ("(A", "", ""), ("\\text{", "\\boxed{", "}"),
    ("def total(n):\n    return n\n", "", ""), ("it isn't\n", "def total(n):\n    return n\n", ""), ("`", "", ""),
    ("a", "```", ""), ("import a\n", "", "x"), ("total ", "", ""), (" ", "```", "`"),
    ("try:\n ", "def total(n):\n", ""),
)  # fmt: skip
NESTED_FINALLY = "def total(n):\n" + "".join(
    f"{'  ' * i}  try:\n{'  ' * i}    n\n{'  ' * i}  finally:\n" for i in range(19)
)

READ_ALL = f"""
import json, sys
from benchmarks.extraction import read_math
from eager_lmeval.verify.choice import ChoiceVerifier
from eager_lmeval.verify.program import extract_program
for piece, before, after in json.load(sys.stdin):
    text = before + piece * ({LONG} // len(piece)) + after
    read_math(text)
    ChoiceVerifier().grade([text], "B")
    extract_program(text, "total", "def total(n):\\n")
    extract_program(text[:90_000], "total", "def total(n):\\n")
"""


def test_no_text_takes_more_than_linear_time_to_read() -> None:
    """All of it takes seconds; where one pattern or loop is quadratic, one text takes many minutes."""
    nested = (NESTED_FINALLY + "    " * 19 + "n\n", "", "")
    subprocess.run(
        [sys.executable, "-c", READ_ALL],
        input=json.dumps([*HOSTILE, nested]).encode(),
        cwd=CORPUS.parents[1],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(CORPUS.parents[1]), *filter(None, sys.path)])},
        check=True,
        timeout=180,
    )
