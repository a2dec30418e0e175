"""The cases of `verify.py`: texts and labels whose verdict is known.

What models and datasets wrote (`verify_corpus/README.md`), and answers of MATH composed into the ways in which models
write them: each once right, in another dress, and once wrong, changed in one place.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from eager_lmeval.verify.structure import parse_answer

CORPUS = Path(__file__).parent / "verify_corpus"
AWKWARD = Path(__file__).parents[1] / "tests" / "verify" / "awkward_answers.jsonl"


class Case(NamedTuple):
    source: str
    text: str
    gold: str
    is_right: bool


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


def formulas() -> dict[str, list[tuple[str, str]]]:
    """Different formulas that only computer algebra can compare, each in two spellings, by where they are from."""
    made = [
        (rf"\frac{{{a}x+{b}}}{{x+{b + 11}}}", rf"\frac{{{b}+{a}x}}{{{b + 11}+x}}")
        for a in range(1, 11)
        for b in range(1, 11)
    ]
    golds = (CORPUS / "math_golds.txt").read_text().splitlines()
    bare = [gold for gold in golds if not re.search(r"[,=<>]|\\(?:text|mbox|begin|infty|pm|in|le|ge|circ)", gold)]
    dice = random.Random(24)
    own = [gold for gold in bare if (answer := parse_answer(gold)).key is None and not answer.items]
    return {"fractions in x": made, "answers of MATH": [(gold, dressed(gold, dice)) for gold in own]}
