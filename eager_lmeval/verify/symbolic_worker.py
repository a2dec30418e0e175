"""The worker process that computes with sympy. Run as ``python -m``; one JSON line in, one out.

It answers ``[true]``, ``[false]`` or, where math-verify failed on the text, ``[false, "the reason"]``. Each comparison
runs under an alarm with the default action, so the kernel ends a process that hangs, in C code too and even when its
parent is gone; the parent's own deadline is the second line of defence.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import resource
import signal
import sys
from typing import Any

_MEMORY_BYTES = 4 << 30
_SAME = 1e-8
_SAME_ROUNDED = 1e-5


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    logging.disable(logging.CRITICAL)
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # a library that prints does not print into the replies
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    _compare("x+1", "1+x")  # imports and warms up what the first comparison would pay for
    print(json.dumps(["ready"]), file=replies, flush=True)
    for line in sys.stdin:
        gold, answer, limit_s = json.loads(line)
        signal.setitimer(signal.ITIMER_REAL, limit_s)
        try:
            reply: list[Any] = [_compare(gold, answer)]
        except (Exception, RecursionError, MemoryError) as error:  # whatever the text provoked, it is not equal
            reply = [False, f"{type(error).__name__}: {error}"[:200]]
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(json.dumps(reply), file=replies, flush=True)


def _compare(gold: str, answer: str) -> bool:
    from math_verify import verify

    expected, given = _parsed(gold), _parsed(answer)
    if not expected or not given:
        return False
    equal = verify(expected, given, allow_set_relation_comp=True, timeout_seconds=None, raise_on_error=True)
    return bool(equal) and _close_as_constants(expected[0], given[0])


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
        rf"\boxed{{{text}}}",
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


def _close_as_constants(expected: Any, given: Any) -> bool:
    """math-verify rounds to six decimals, which makes all tiny constants equal: ask for relative closeness too."""
    from sympy import Expr, Float

    if not all(isinstance(side, Expr) and side.is_number for side in (expected, given)):
        return True
    one, other = expected.evalf(30), given.evalf(30)  # sympy's floats: 1/2004! would be 0 as a machine number
    rounded = expected.has(Float) or given.has(Float)
    scale = max(abs(one), abs(other))
    return bool(abs(one - other) <= (_SAME_ROUNDED if rounded else _SAME) * scale)


if __name__ == "__main__":
    main()
