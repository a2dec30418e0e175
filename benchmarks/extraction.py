"""What finding an answer costs on texts made to cost much: CPU seconds at 1 k to 1 M characters.

    python benchmarks/extraction.py [LARGEST]

Every text is one short piece, repeated, in one of several surroundings; each verifier's own reading of it (no computer
algebra, no program is run) is timed. The table shows each verifier's slowest text at every size and the mean over all
texts; a column that grows by ten from size to size is linear. The last line of stdout is one JSON document.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator

from eager_lmeval.verify.choice import ChoiceVerifier
from eager_lmeval.verify.exact import ExactVerifier
from eager_lmeval.verify.math import extract_answer
from eager_lmeval.verify.program import extract_program
from eager_lmeval.verify.structure import equal_answers, parse_answer

SIZES = (1_000, 10_000, 100_000, 1_000_000)
LETTER, TEXT_OF_OPTION = "B", json.dumps({"answer": "B", "options": ["neon", "nitrogen", "argon", "xenon"]})
PROMPT = 'def total(numbers):\n    """Their sum."""\n'

PIECES = (
    *" \n\t*_-.,;:$\\{}()[]=+<>%^/&#'\"`~@1aA|!√½π",
    '\\boxed{', '\\boxed ', '\\boxed', '\\fbox{', '\\text{', '\\text{a}', '\\frac{', '\\frac1', '\\sqrt', '\\left(',
    '\\pm ', '\\{', '\\}', '\\( ', '\\[', '$$', '\\circ', '^{', 'a_', '_{', '_{1}:', 'x=', '=1,', '(x=1,', '1,',
    '1,000', ',000', '1 ', '1.000', '1e', '10^', '1/', '1 cm^2 ', '5 m/', 'answer', 'answer ', 'answer is ',
    'The answer is . ', 'answer to ', 'answer, ', '#### ', '####\n', 'is correct ', ' and ', ' or ', 'A. ', 'A. a\n',
    '(A) ', '**A', '** ', 'A or ', 'option ', 'option A is ', 'I choose ', 'not ', 'def ', 'def f(',
    'def total(n):\n', 'def total(n):\n    return n\n', 'class ', 'from ', 'from a ', 'import a\n', '@a\n',
    'if 1:\n ', 'try:\n ', '```', '```\n', '```python\n', '~~~\n', '"""', "f'{", 'lambda:', 'total', 'total ',
    'total=1\n', 'total=(\n', 'the ', 'ﷺ', '⁰', '\\begin{', '\r', '\u2028', '\x85',
)  # fmt: skip
SURROUNDINGS = (
    ("", ""),
    ("\\boxed{", "}"),
    ("The answer is ", "."),
    ("answer", ""),
    ("", " B"),
    ("A", "\n"),
    ("```", ""),
    ("total = ", "\n"),
    ("def total(n):\n    return n\n", "\n("),
)


def texts(size: int) -> Iterator[str]:
    for piece in PIECES:
        for before, after in SURROUNDINGS:
            yield before + piece * ((size - len(before) - len(after)) // len(piece)) + after


def read_math(text: str) -> None:
    """All of `math` but computer algebra."""
    written = extract_answer(text)
    if written is not None:
        answer = parse_answer(written)
        equal_answers(parse_answer("(1, x]"), answer, lambda *_: False)
        equal_answers(answer, answer, lambda *_: False)
        _ = answer.canonical


def main(largest: int = SIZES[-1]) -> None:
    choice, exact = ChoiceVerifier(), ExactVerifier()
    readers: dict[str, Callable[[str], object]] = {
        "math": read_math,
        "choice, a letter": lambda text: choice.grade([text], LETTER),
        "choice, with options": lambda text: choice.grade([text], TEXT_OF_OPTION),
        "code": lambda text: extract_program(text, "total", PROMPT),
        "exact": lambda text: exact.grade([text], "B"),
    }
    result: dict[str, dict[str, tuple[float, float, str]]] = {name: {} for name in readers}
    sizes = [size for size in SIZES if size <= largest]
    for name, read in readers.items():
        for size in sizes:
            timed = []
            for text in texts(size):
                started = time.process_time()
                read(text)
                timed.append((time.process_time() - started, text[:40]))
            result[name][f"{size:,}"] = (
                max(timed)[0],
                sum(seconds for seconds, _ in timed) / len(timed),
                max(timed)[1],
            )
    print("CPU seconds of the slowest text (and the mean)")
    print(f"{'':<22}" + "".join(f"{size:>20,}" for size in sizes))
    for name, by_size in result.items():
        print(f"{name:<22}" + "".join(f"{f'{worst:.4f} ({mean:.4f})':>20}" for worst, mean, _ in by_size.values()))
    for name, by_size in result.items():
        print(f"slowest for {name}: {list(by_size.values())[-1][2]!r} …")
    print(json.dumps(result))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
