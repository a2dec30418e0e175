"""What `math` and `choice` add to math-verify alone, on some five thousand answers whose truth is known, and the time.

    python benchmarks/verify.py [EXAMPLES]

The corpus (`verify_corpus/README.md`) is what models and datasets wrote, and answers of MATH composed into the ways in
which models write them: each once right, in another dress, and once wrong, changed in one place. math-verify alone is
called as the harness's tasks call it: `verify(parse(gold), parse(text))` for mathematics, with its letters for choices.
Layers are taken away one at a time. EXAMPLES (default 15) cases of each disagreement are printed; seconds are CPU
seconds, workers included; the last line of stdout is one JSON document.
"""

from __future__ import annotations

import json
import random
import re
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from eager_lmeval.errors import UsageError
from eager_lmeval.verify.choice import ChoiceVerifier
from eager_lmeval.verify.extract import final_answer
from eager_lmeval.verify.latex import plain
from eager_lmeval.verify.math import MathVerifier, extract_answer
from eager_lmeval.verify.symbolic import SymbolicWorker

CORPUS = Path(__file__).parent / "verify_corpus"
AWKWARD = Path(__file__).parents[1] / "tests" / "verify" / "awkward_answers.jsonl"
LIMIT_S = 5.0


class Case(NamedTuple):
    source: str
    text: str
    gold: str
    is_right: bool


Judge = Callable[[str, str], bool]  # text, gold

SURROUNDINGS = (
    "Therefore the value we want is $\\boxed{X}$.",
    "We add both and get \\[\\boxed{X}.\\]",
    "So there it is.\n\n**Final Answer**\n\\boxed{X}",
    "The answer is $X$.",
    "Final Answer: The final answer is $X$. I hope it is correct.",
    "Hence, the final answer is: $X$",
    "Adding up, we are done.\n\n**Answer:** \\(X\\)",
    "Step 3: simplify.\n#### $X$",
    "Thus the answer is indeed $X$.",
)
LETTERS = (
    "\\boxed{X}", "The answer is (X).", "Answer: X", "**X**", "The correct answer is X, since the mass is conserved.",
    "Option X is correct.", "After elimination, the best choice is X.", "X. Y", "(X) Y", "I choose X.",
    "**Answer: X) Y**",
    "Let us see. (W) is wrong, because of friction.\n\nSo the answer must be (X).", "The correct option is **X**.",
)  # fmt: skip
NO_LETTERS = (
    "A. M\nB. N\nC. O\nD. P",
    "(A) M (B) N (C) O (D) P",
    "The answer is a matter of taste.",
    "Option X is incorrect.",
)
SUBSTANCES = ("neon", "nitrogen", "argon", "xenon", "carbon", "sulfur", "iron", "a gas", "light", "both of these")


def dressed(gold: str, dice: random.Random) -> str:
    """The same answer, written differently."""
    text = gold = re.sub(r",\s*\\!\s*(?=\d{3})", ",", gold)
    fraction = re.fullmatch(r"(-?)\\d?frac\{(\d+)\}\{(\d+)\}", gold)
    integer = re.fullmatch(r"-?\d{1,3}(?:,?\d{3})*", gold)
    parts = gold.split(",")
    if fraction:
        sign, top, bottom = fraction[1], int(fraction[2]), int(fraction[3])
        value = Fraction(top, bottom)
        ways = [
            f"{sign}{top}/{bottom}",
            f"{sign}\\frac{{{3 * top}}}{{{3 * bottom}}}",
            f"\\dfrac{{{sign}{top}}}{{{bottom}}}",
        ]
        if value.denominator in {2, 4, 5, 8, 10, 16, 20, 25, 40, 50}:
            ways.append(f"{sign}{float(value)}")
        return dice.choice(ways)
    if integer:
        number = int(gold.replace(",", ""))
        ways = [
            f"{number}",
            f"{number}.0",
            f"{number:,}",
            f"x = {number}",
            f"{number:,}".replace(",", "{,}"),
            f"\\frac{{{2 * number}}}{{2}}",
        ]
        return dice.choice(ways)
    if len(parts) > 1 and not re.search(r"[()\[\]{}]", gold) and not re.search(r"\d,\d{3}", gold):
        return dice.choice([", ".join(map(str.strip, reversed(parts))), " \\text{ and } ".join(map(str.strip, parts))])
    if unit := re.fullmatch(r"(-?[\d.]+)\s*\\(?:text|mbox|textrm)\{[^{}]*\}(?:\^\d)?", gold):
        return dice.choice([unit[1], gold])
    if dice.random() < 0.5:
        text = text.replace("\\frac", "\\dfrac")
    if dice.random() < 0.5:
        text = (
            text.replace("(", "\\left(").replace(")", "\\right)")
            if "\\left" not in text
            else text.replace("\\left", "").replace("\\right", "")
        )
    text = re.sub(r"\\sqrt\{(\d)\}", r"\\sqrt\1", text) if dice.random() < 0.3 else text
    text = re.sub(r"(?<=\d)(?=\\pi|\\sqrt)", " \\\\cdot ", text) if dice.random() < 0.3 else text
    terms = re.fullmatch(r"([^-+,()\[\]{}\\=<>]+)\+([^-+,()\[\]{}\\=<>]+)", text)
    return f"{terms[2]}+{terms[1]}" if terms else text


def spoiled(gold: str, others: list[str], dice: random.Random) -> str | None:
    """The answer, wrong in one place; None where that is hard to be sure of."""
    ways = []
    digits = [
        match
        for match in re.finditer(r"\d", gold)
        if not gold[: match.start()].endswith(("_{", "^{", "_", "^", "\\frac"))
    ]
    if digits and not re.search(r"\\(?:begin|infty|pm)|\.\d*0$", gold):
        at = dice.choice(digits).start()
        other = dice.choice([digit for digit in range(1, 10) if digit != int(gold[at])])
        ways.append(f"{gold[:at]}{other}{gold[at + 1 :]}")
    if re.fullmatch(r"-?(?:[1-9][\d.]*|\\frac\{\d+\}\{\d+\}|[1-9]?\\(?:pi|sqrt\{\d+\}))", gold):
        ways.append(gold[1:] if gold.startswith("-") else "-" + gold)
    if pair := re.fullmatch(r"([(\[])([^,()\[\]]+),([^,()\[\]]+)([)\]])", gold):
        if pair[1] + pair[4] == "()" and pair[2].strip() != pair[3].strip():
            ways.append(f"({pair[3]},{pair[2]})")
        ways.append(f"{pair[1]}{pair[2]},{pair[3]},{pair[3]}{pair[4]}")
    if "," in gold and not re.search(r"[()\[\]{}]|,\d{3}", gold):
        ways.append(gold.rpartition(",")[0])
    if "+" in gold and not re.search(r"[(\[,=]", gold):
        ways.append(gold.replace("+", "-", 1))
    if not ways and re.fullmatch(r"\\text\{[^{}]*\}|[A-Za-z ]+", gold):
        ways.append(dice.choice([other for other in others if bare_words(other) != bare_words(gold)]))
    return dice.choice(ways) if ways else None


def bare_words(gold: str) -> str:
    return re.sub(r"\\text|\W", "", gold).casefold()


def mathematics() -> Iterator[Case]:
    dice = random.Random(20)
    golds = (CORPUS / "math_golds.txt").read_text().splitlines()
    words = [gold for gold in golds if re.fullmatch(r"\\text\{[A-Za-z ]+\}", gold)]
    for gold in golds:
        yield Case("MATH, right", dice.choice(SURROUNDINGS).replace("X", dressed(gold, dice)), gold, True)
        if (wrong := spoiled(gold, words, dice)) is not None:
            yield Case("MATH, wrong", dice.choice(SURROUNDINGS).replace("X", wrong), gold, False)
    for number in dice.sample(range(1000), 200):  # AIME: three digits
        given = dice.choice((number, number, dice.randrange(1000)))
        text = dice.choice(SURROUNDINGS).replace("X", dice.choice((f"{given}", f"{given:03}", f"m+n = {given}")))
        yield Case("AIME", text, str(number), given == number)
    for line in (CORPUS / "gsm8k_solutions.jsonl").read_text().splitlines():
        gold, text, is_right = json.loads(line)
        yield Case("GSM8K, models", text, gold, is_right)
    for line in (CORPUS / "math_verify_tests.jsonl").read_text().splitlines():
        gold, text, is_right = json.loads(line)
        is_bare = not re.search(r"boxed|answer|[A-Za-z]{2,} [a-z]{2,}", text, re.IGNORECASE)
        stated = f"The answer is {text}" if is_bare else text
        yield Case("math-verify's tests", stated, gold, is_right)

    for line in AWKWARD.read_text().splitlines():
        row = json.loads(line)
        yield Case("awkward answers, our own", row["text"], row["target"], row["expected"] == "right")


def spoiled_golds() -> Iterator[Case]:
    """Each different answer of MATH, up to twice changed in one place: sign, digit, factor, exponent or relation.

    Some have their left side as well, as textbooks print answers: only what is right of it is not the whole answer.
    """
    dice = random.Random(22)
    for gold in (CORPUS / "math_golds.txt").read_text().splitlines():
        ways = set()
        for place in (match.start() for match in re.finditer(r"(?<!\\frac)\d", gold)):
            other = dice.choice([digit for digit in "123456789" if digit != gold[place]])
            ways.add(gold[:place] + other + gold[place + 1 :])
        for place in (match.start() for match in re.finditer(r"(?<=[\w)} ])[-+](?= ?[\w\\(])", gold)):
            ways.add(gold[:place] + ("+" if gold[place] == "-" else "-") + gold[place + 1 :])
        ways |= {
            gold.replace(one, other, 1) for one, other in (("\\le", "<"), ("<", ">"), ("\\cup", "\\cap")) if one in gold
        }
        if re.search(r"\d|[xyz]", gold) and not re.search(
            r"[,=<>]|\\(?:text|mbox|begin|infty|pm|in|le|ge|circ)|_|^-?0", gold
        ):
            ways |= {f"2({gold})", f"-({gold})", f"({gold})^2" if gold not in {"1", "-1"} else f"3({gold})"}
        ways -= {gold}
        for wrong in dice.sample(sorted(ways), min(2, len(ways))):
            if (form := dice.randrange(4)) == 0 and not re.search(r"[,=<>]|\\(?:le|ge|in|pm|text|infty)", gold + wrong):
                name = dice.choice(("x^2", "\\log_2(t)", "\\sum_{k=1}^{n} a_k", "v_{\\text{avg}}", "\\gamma + 1"))
                yield Case("spoiled, with a left side", f"\\boxed{{{name}={wrong}}}", f"{name}={gold}", False)
            elif form == 1 and not re.search(r"[,=<>]|\\(?:le|ge|in|pm|text|infty)", gold + wrong):
                yield Case("spoiled, in a relation", f"\\boxed{{x^2+(9+{wrong})^2=0}}", f"x^2+(9+{gold})^2=0", False)
            else:
                yield Case("spoiled", f"\\boxed{{{wrong}}}", gold, False)


def choices() -> Iterator[Case]:
    dice = random.Random(21)
    for _ in range(1000):
        letter, right, other = (dice.choice("ABCD") for _ in range(3))
        filled = dice.choice(LETTERS).replace("X", letter).replace("W", "ABCD"["ABCD".index(letter) - 1])
        yield Case("a letter", filled.replace("Y", dice.choice(SUBSTANCES)), right, letter == right)
        m, n, o, p = dice.sample(SUBSTANCES, 4)
        nothing = dice.choice(NO_LETTERS).replace("X", other)
        for slot, substance in zip("MNOP", (m, n, o, p), strict=True):
            nothing = re.sub(rf"\b{slot}\b", substance, nothing)
        yield Case("no choice", nothing, right, False)


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


def main(examples: int = 15) -> None:
    cases, picks = list(mathematics()), list(choices())
    verifier, bare, spelled, rest = (
        MathVerifier(LIMIT_S),
        SymbolicWorker(LIMIT_S),
        SymbolicWorker(LIMIT_S),
        MathVerifier(LIMIT_S),
    )
    math_judges: dict[str, tuple[Judge, Callable[[], None]]] = {
        "math": (lambda text, gold: graded(verifier, text, gold), verifier.close),
        "math-verify alone": (math_verify_alone(), lambda: None),
        "without our search for the answer": (without_search(rest), rest.close),
        "without numbers and structure": (without_reading(spelled, plain), spelled.close),
        "and without plain spelling": (without_reading(bare, str), bare.close),
    }
    verdicts, lines = {}, {}
    for name, (judge, close) in math_judges.items():
        verdicts[name], cpu, wall = judged(cases, judge, close)
        right = sum(verdict == case.is_right for verdict, case in zip(verdicts[name], cases, strict=True))
        accepted = sum(verdict and not case.is_right for verdict, case in zip(verdicts[name], cases, strict=True))
        lines[name] = {
            "judged right": right,
            "wrong answers accepted": accepted,
            "cpu s": round(cpu, 1),
            "wall s": round(wall, 1),
        }
    result: dict[str, object] = {"math": compare(cases, verdicts["math"], verdicts["math-verify alone"], examples)}
    changed = list(spoiled_golds())
    by_kind = Counter(case.source for case in changed)
    spoiler = MathVerifier(LIMIT_S)
    verdicts["spoiled"], cpu, wall = judged(changed, lambda text, gold: graded(spoiler, text, gold), spoiler.close)
    taken = [case for case, verdict in zip(changed, verdicts["spoiled"], strict=True) if verdict]
    accepted_of = Counter(case.source for case in taken)
    for case in taken[: 2 * examples]:
        print(f"  accepted, though wrong: {case.text[-90:]!r} for {case.gold[-60:]!r}")
    for kind, count in by_kind.items():
        lines[kind] = {"cases": count, "wrong answers accepted": accepted_of[kind]}
    lines["spoiled golds, all"] = {
        "cases": len(changed),
        "wrong answers accepted": len(taken),
        "cpu s": round(cpu, 1),
        "wall s": round(wall, 1),
    }
    choice, letters = ChoiceVerifier(), letters_alone()
    ours, cpu, wall = judged(picks, lambda text, gold: choice.grade([text], gold)[0].correct)
    theirs, their_cpu, their_wall = judged(picks, letters)
    lines["choice"] = {"cpu s": round(cpu, 2), "wall s": round(wall, 2)}
    lines["letters of math-verify"] = {"cpu s": round(their_cpu, 2), "wall s": round(their_wall, 2)}
    result["choice"] = compare(picks, ours, theirs, examples)
    for name, line in lines.items():
        print(f"{name:<36}" + ", ".join(f"{what} {count}" for what, count in line.items()))
    print(json.dumps({**result, "layers": lines}))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
