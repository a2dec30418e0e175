"""The worker process that computes with sympy. Run as ``python -m``; one JSON line in, one out.

It answers whether the two are equal, the reason where math-verify failed on the text ("" elsewhere), and CPU seconds:
``[true, "", 0.02]``. Each comparison runs under alarms with the default action, of CPU time and, much later, of the
clock, so the kernel ends a process that hangs, in C code too and even when its parent is gone; the parent's own
deadline is the last line of defence.
"""

from __future__ import annotations

import cmath
import functools
import json
import logging
import os
import re
import resource
import signal
import sys
import time
import zlib
from collections.abc import Sequence
from typing import Any

_MEMORY_BYTES = 4 << 30
_GAMMA = re.compile(r"\\gamma(?![A-Za-z])")  # \gamma
"""A letter, where math-verify reads the gamma function before a sign: a name that no text has stands for it."""
_DIFFERENT = 1e-6
"""Relative to the larger value: further apart than what rounding to six decimals makes equal."""
_MOST_OPERATIONS = 500
_SAME = 1e-8
_SAME_ROUNDED = 1e-5


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    logging.disable(logging.CRITICAL)
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # a library that prints does not print into the replies
    for alarm in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(alarm, signal.SIG_DFL)
    _compare("x+1", "1+x")  # imports and warms up what the first comparison would pay for
    print(json.dumps(["ready"]), file=replies, flush=True)
    for line in sys.stdin:
        gold, answer, limit_s, wall_s = json.loads(line)
        started = time.process_time()
        signal.setitimer(signal.ITIMER_PROF, limit_s)
        signal.setitimer(signal.ITIMER_REAL, wall_s)
        try:
            reply: list[Any] = [_compare(gold, answer), ""]
        except (Exception, RecursionError, MemoryError) as error:  # whatever the text provoked, it is not equal
            reply = [False, f"{type(error).__name__}: {error}"[:200]]
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(json.dumps([*reply, time.process_time() - started]), file=replies, flush=True)


def _compare(gold: str, answer: str) -> bool:
    from math_verify import verify
    from sympy import Ne

    if "\\approx" in gold and "\\approx" in answer:  # else math-verify reads what stands before it
        gold, answer = gold.replace("\\approx", "="), answer.replace("\\approx", "=")
    expected, given = _parsed(gold), _parsed(answer)
    if not expected or not given:
        return False
    if all(isinstance(side[0], Ne) for side in (expected, given)):  # math-verify fails on these
        return _same_equation(expected[0], given[0])
    if (same := _same_equations(expected[0], given[0])) is not None:
        return same
    if _differ_at_points(expected, given):
        return False
    equal = verify(expected, given, allow_set_relation_comp=True, timeout_seconds=None, raise_on_error=True)
    return bool(equal) and _close_as_constants(expected[0], given[0])


def _same_equations(expected: Any, given: Any) -> bool | None:
    """Whether each equation has the other's sides, or its difference of sides up to a factor.

    math-verify compares solutions: all equations that have none, or are true, would be equal. None where one of the two
    is no equation: that is math-verify's to judge.
    """
    from sympy import And, Eq

    ours, theirs = (
        list(side.args) if isinstance(side, And) else [side] if isinstance(side, Eq) else []
        for side in (expected, given)
    )
    if not ours or not theirs or not all(isinstance(one, Eq) for one in ours + theirs):
        return None
    if len(ours) != len(theirs):
        return False
    return all(any(_same_equation(one, other) for other in theirs) for one in ours)


def _same_equation(one: Any, other: Any) -> bool:
    from math_verify.grader import sympy_expr_eq
    from sympy import simplify

    def same(first: Any, second: Any) -> bool:
        return bool(sympy_expr_eq(first, second, 6, 15)) and _close_as_constants(first, second)

    if (same(one.lhs, other.lhs) and same(one.rhs, other.rhs)) or (
        same(one.lhs, other.rhs) and same(one.rhs, other.lhs)
    ):
        return True
    first, second = one.lhs - one.rhs, other.lhs - other.rhs
    if not first.free_symbols or not second.free_symbols:
        return False
    factor = simplify(first / second)
    return not factor.is_zero and all(
        part.is_number or part.is_Symbol or (part.is_Pow and part.base.is_Symbol)
        for part in factor.as_ordered_factors()
    )


@functools.lru_cache(maxsize=1024)
def _parsed(text: str) -> list[Any]:
    """The expression of a text; empty where math-verify finds none.

    What comes back as a bare string is spelling, which the caller has compared already.
    """
    from latex2sympy2_extended import NormalizationConfig
    from math_verify import LatexExtractionConfig, parse

    spelling = NormalizationConfig(
        basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="all", equations=False
    )
    found = parse(
        rf"\boxed{{{_GAMMA.sub('{g_{Y}}', text)}}}",
        extraction_config=[LatexExtractionConfig(boxed_match_priority=0, normalization_config=spelling)],
        parsing_timeout=None,
    )
    return [_with_constants(expression) for expression in found if not isinstance(expression, str)]


def _with_constants(expression: Any) -> Any:
    """The imaginary unit and Euler's number for the letters i and e, which math-verify takes for variables."""
    from sympy import E, Expr, I

    if not isinstance(expression, Expr):
        return expression
    letters = {symbol: {"i": I, "e": E}[symbol.name] for symbol in expression.free_symbols if symbol.name in {"i", "e"}}
    return expression.subs(letters) if letters else expression


def _differ_at_points(expected: Sequence[Any], given: Sequence[Any]) -> bool:
    """Whether two formulas have different values somewhere, so that no algebra need be asked.

    That is what makes classes of many distinct formulas cheap: a value is computed once a text. False where a value is
    not known, and for decimals, which may be rounded.
    """
    from sympy import Expr

    if len(expected) != 1 or len(given) != 1 or not isinstance(expected[0], Expr) or not isinstance(given[0], Expr):
        return False
    ours, theirs = _values(expected[0]), _values(given[0])
    pairs = zip(ours, theirs, strict=True) if ours and theirs else ()
    return any(abs(one - other) > _DIFFERENT * max(1.0, abs(one), abs(other)) for one, other in pairs)


@functools.lru_cache(maxsize=4096)
def _values(expression: Any) -> tuple[complex, ...]:
    """A formula's values where its letters are numbers that their names decide, above 0; none where it has none."""
    from sympy import Derivative, Float, Integral, Limit, Product, Sum
    from sympy.core.function import AppliedUndef

    if expression.count_ops() > _MOST_OPERATIONS or expression.has(
        Float, AppliedUndef, Derivative, Integral, Limit, Product, Sum
    ):
        return ()
    letters = sorted(expression.free_symbols, key=str)
    found = []
    for point in (1, 2):
        numbers = {letter: _number(letter.name, point) for letter in letters}
        try:
            value = complex(expression.evalf(20, subs=numbers, maxn=60))
        except (TypeError, ValueError, OverflowError, ArithmeticError):
            return ()
        if not cmath.isfinite(value):
            return ()
        found.append(value)
    return tuple(found)


def _number(name: str, point: int) -> Any:
    """Between 1/2 and 5/2; the same for a letter in either case, which graders take for one another."""
    from sympy import Rational

    return Rational(500 + zlib.crc32(f"{point}{name.lower()}".encode()) % 2000, 1000)


def _close_as_constants(expected: Any, given: Any) -> bool:
    """math-verify rounds to six decimals, which makes all tiny constants equal: ask for relative closeness too."""
    from sympy import Expr, Float

    if not all(isinstance(side, Expr) and side.is_number for side in (expected, given)):
        return True
    exact = [side.doit() for side in (expected, given)]
    if all(side.is_Rational for side in exact):
        return bool(exact[0] == exact[1])
    one, other = expected.evalf(30), given.evalf(30)  # sympy's floats: 1/2004! would be 0 as a machine number
    rounded = expected.has(Float) or given.has(Float)
    scale = max(abs(one), abs(other))
    return bool(abs(one - other) <= (_SAME_ROUNDED if rounded else _SAME) * scale)


if __name__ == "__main__":
    main()
