"""What `math` and `choice` add to math-verify alone, on some five thousand answers whose truth is known, and the time.

    python benchmarks/verify.py                 all parts, some eight minutes
    python benchmarks/verify.py --only classes  a part or several: math, spoiled, choice, classes

math-verify alone is called as the harness's tasks call it: `verify(parse(gold), parse(text))` for mathematics, with its
letters for choices. Layers are taken away one at a time. `spoiled` are answers of MATH changed in one place, all wrong.
`classes` is a vote: which of many formulas are equal. Of each disagreement ``--examples`` are printed. Seconds are CPU
seconds, workers included; the last line of stdout is one JSON document. Cases are those of `verify_cases.py`.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from verify_cases import Case, choices, formulas, mathematics, spoiled_golds

from eager_lmeval.errors import UsageError
from eager_lmeval.verify.choice import ChoiceVerifier
from eager_lmeval.verify.extract import final_answer
from eager_lmeval.verify.latex import plain
from eager_lmeval.verify.math import MathVerifier, extract_answer
from eager_lmeval.verify.symbolic import SymbolicWorker

LIMIT_S = 5.0
VOTES = ((46, 46), (100, 46), (100, 100))
"""Answers of a vote, and how many formulas they are drawn from."""

Judge = Callable[[str, str], bool]  # text, gold


def graded(verifier: MathVerifier, text: str, gold: str) -> bool:
    try:
        return verifier.grade([text], gold)[0].correct
    except UsageError:  # a label that holds no answer
        return False


def math_verify_alone() -> Judge:
    from math_verify import parse, verify

    def judge(text: str, gold: str) -> bool:
        target = gold if "\\boxed" in gold else f"\\boxed{{{gold}}}"
        try:
            return bool(verify(parse(target), parse(text)))
        except Exception:
            return False

    return judge


def letters_alone() -> Judge:
    from math_verify import StringExtractionConfig, parse, verify

    reading = [StringExtractionConfig(strings=("A", "B", "C", "D"), lowercase=False)]
    return lambda text, gold: bool(verify(parse(gold, reading), parse(text, reading)))


def without_reading(worker: SymbolicWorker, spell: Callable[[str], str]) -> Judge:
    """Our search for the answer and then computer algebra at once: no numbers, no lists, no prose."""

    def judge(text: str, gold: str) -> bool:
        answer = extract_answer(text)
        target = final_answer(gold) or gold
        return answer is not None and worker.compare(spell(target), spell(answer)).equal

    return judge


def without_search(verifier: MathVerifier) -> Judge:
    """math-verify's search for the answer, and all the rest ours."""
    from math_verify import parse

    def judge(text: str, gold: str) -> bool:
        found = [item for item in parse(text) if isinstance(item, str)]
        return bool(found) and graded(verifier, f"\\boxed{{{found[-1]}}}", gold)

    return judge


def cpu_s() -> float:
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def judged(
    cases: list[Case], judge: Judge, close: Callable[[], None] = lambda: None
) -> tuple[list[bool], float, float]:
    """Verdicts, CPU seconds and wall seconds; ``close`` ends the workers, whose seconds count only then."""
    cpu, wall = cpu_s(), time.perf_counter()
    verdicts = [judge(case.text, case.gold) for case in cases]
    wall = time.perf_counter() - wall
    close()
    return verdicts, cpu_s() - cpu, wall


def compare(cases: list[Case], ours: list[bool], theirs: list[bool], examples: int) -> dict[str, dict[str, int]]:
    table: dict[str, Counter[str]] = {}
    shown: dict[str, list[Case]] = {"only ours is right": [], "only math-verify is right": [], "neither is right": []}
    for case, our, their in zip(cases, ours, theirs, strict=True):
        outcome = {
            (True, True): "both are right",
            (True, False): "only ours is right",
            (False, True): "only math-verify is right",
        }
        column = outcome.get((our == case.is_right, their == case.is_right), "neither is right")
        for row in (case.source, "all"):
            table.setdefault(row, Counter())[column] += 1
            table[row]["cases"] += 1
            table[row]["the two agree"] += our == their
        shown.get(column, []).append(case)
    columns = ("cases", "the two agree", "both are right", *shown)
    print(f"| source | {' | '.join(columns)} |\n| --- |{' ---: |' * len(columns)}")
    for row, counts in sorted(table.items(), key=lambda item: item[0] == "all"):
        print(f"| {row} | {' | '.join(str(counts[column]) for column in columns)} |")
    for column, found in shown.items():
        print(f"\n{column}:")
        for case in random.Random(1).sample(found, min(examples, len(found))):
            print(f"  {'right' if case.is_right else 'wrong'}: {case.text[-90:]!r} for {case.gold[-60:]!r}")
    print()
    return {row: dict(counts) for row, counts in table.items()}


def show(name: str, **figures: Any) -> dict[str, Any]:
    print(f"{name:<36}" + ", ".join(f"{what.replace('_', ' ')} {figure}" for what, figure in figures.items()))
    return {"name": name} | figures


def part_math(examples: int) -> dict[str, Any]:
    cases = list(mathematics())
    verifier, rest = MathVerifier(LIMIT_S), MathVerifier(LIMIT_S)
    spelled, bare = SymbolicWorker(LIMIT_S), SymbolicWorker(LIMIT_S)
    judges: dict[str, tuple[Judge, Callable[[], None]]] = {
        "math": (lambda text, gold: graded(verifier, text, gold), verifier.close),
        "math-verify alone": (math_verify_alone(), lambda: None),
        "without our search for the answer": (without_search(rest), rest.close),
        "without numbers and structure": (without_reading(spelled, plain), spelled.close),
        "and without plain spelling": (without_reading(bare, str), bare.close),
    }
    verdicts, lines = {}, []
    for name, (judge, close) in judges.items():
        verdicts[name], cpu, wall = judged(cases, judge, close)
        pairs = list(zip(verdicts[name], (case.is_right for case in cases), strict=True))
        right, accepted = sum(a == b for a, b in pairs), sum(a and not b for a, b in pairs)
        lines.append(
            show(name, judged_right=right, wrong_accepted=accepted, cpu_s=round(cpu, 1), wall_s=round(wall, 1))
        )
    table = compare(cases, verdicts["math"], verdicts["math-verify alone"], examples)
    return {"sources": table, "layers": lines}


def part_spoiled(examples: int) -> list[dict[str, Any]]:
    cases, verifier = list(spoiled_golds()), MathVerifier(LIMIT_S)
    verdicts, cpu, wall = judged(cases, lambda text, gold: graded(verifier, text, gold), verifier.close)
    taken = [case for case, verdict in zip(cases, verdicts, strict=True) if verdict]
    for case in taken[: 2 * examples]:
        print(f"  accepted, though wrong: {case.text[-90:]!r} for {case.gold[-60:]!r}")
    accepted = Counter(case.source for case in taken)
    lines = [
        show(kind, cases=count, wrong_accepted=accepted[kind])
        for kind, count in Counter(case.source for case in cases).items()
    ]
    everything = {"cases": len(cases), "wrong_accepted": len(taken), "cpu_s": round(cpu, 1), "wall_s": round(wall, 1)}
    return [*lines, show("spoiled, all", **everything)]


def part_choice(examples: int) -> dict[str, Any]:
    cases, choice = list(choices()), ChoiceVerifier()
    ours, cpu, wall = judged(cases, lambda text, gold: choice.grade([text], gold)[0].correct)
    theirs, their_cpu, their_wall = judged(cases, letters_alone())
    return {
        "sources": compare(cases, ours, theirs, examples),
        "layers": [
            show("choice", cpu_s=round(cpu, 2), wall_s=round(wall, 2)),
            show("letters of math-verify", cpu_s=round(their_cpu, 2), wall_s=round(their_wall, 2)),
        ],
    }


def part_classes(examples: int) -> list[dict[str, Any]]:
    """Votes over formulas, as a table: one call of `grade` without a label, in a worker of its own."""
    dice, rows = random.Random(23), []
    print("| formulas | answers | of them different | classes | CPU |\n| --- | ---: | ---: | ---: | ---: |")
    for kind, pairs in formulas().items():
        for answers, different in VOTES:
            drawn = dice.sample(pairs, different)
            written = [one for one, _ in drawn] + [other for _, other in dice.choices(drawn, k=answers - different)]
            verifier, cpu, wall = MathVerifier(LIMIT_S), cpu_s(), time.perf_counter()
            grades = verifier.grade([f"\\boxed{{{formula}}}" for formula in written], None)
            verifier.close()
            cpu, wall = cpu_s() - cpu, time.perf_counter() - wall
            classes = len({grade.answer_class for grade in grades})
            print(f"| {kind} | {answers} | {different} | {classes} | {cpu:.1f} s |")
            row = {"formulas": kind, "answers": answers, "different": different, "classes": classes}
            rows.append(row | {"cpu_s": cpu, "wall_s": wall})
    return rows


PARTS: dict[str, Callable[[int], Any]] = {
    "math": part_math,
    "spoiled": part_spoiled,
    "choice": part_choice,
    "classes": part_classes,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="parts (default all)")
    parser.add_argument("--examples", type=int, default=15, help="of each disagreement (default 15)")
    args = parser.parse_args()
    print(json.dumps({part: PARTS[part](args.examples) for part in args.only}))


if __name__ == "__main__":
    main()
