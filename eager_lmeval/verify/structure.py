"""Answers as lists, tuples, intervals and sets of simpler ones, and when two of them are equal.

What rational arithmetic and spelling decide is decided here, at once. The rest goes to ``symbolic``, a callable that
is told the two texts; it may be slow and may be wrong about what is not mathematics, so it is asked last.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from eager_lmeval.verify.latex import MAX_READ, plain
from eager_lmeval.verify.numbers import Quantity, parse_measure, parse_quantity

__all__ = ["Answer", "Symbolic", "equal_answers", "parse_answer"]

Symbolic = Callable[[str, str], bool]

_MAX_ITEMS = 50
_MAX_DEPTH = 20
"""Longer and deeper lists are compared as they are: no reader would check an answer of that size."""

_MANY_PLACES = re.compile(r"-?\d*\.(\d{6,})(?: ?\\(?:times|cdot) ?10 ?\^ ?\{? ?(-?\d{1,3}) ?\}?)?")  # 0.333333
_MAX_PLACES = 50
_SHORT_INTEGER = re.compile(r"-?[1-9][0-9]{0,17}|0")  # -42
"""What most answers are; reading them needs no more than this."""
_NAME = re.compile(  # f(x) = 5
    r"\s*(?P<name>\\?[A-Za-z]+ ?(?:_ ?(?:\{[^{}=]*\}|\w+))?'*(?:\s*\([^()]*\))?"
    r"|\|[A-Za-z]+\||\[[A-Z]{3,}\]|\\(?:angle|overline|triangle|vec) ?\{?[A-Z]+\}?"
    r"|\\frac\{[A-Z]{1,2}\}\{[A-Z]{1,2}\}|[A-Z](?:_\{?\w+\}?)? ?: ?[A-Z](?:_\{?\w+\}?)?)"  # ratios of lengths and areas
    r"\s*=\s*(?P<value>[^=\s].*)"
)
_NAMED_LAST = re.compile(r"(?P<value>[-+]?[\d.,/]+) ?= ?(?P<name>[A-Za-z])")  # 5 = x
_OPTION = re.compile(r"^\([A-E]\) (?=[\w\\$-])")  # (B) 7
"""The letter of an option in front of its value, as the American competitions print them."""
_EVALUATED = re.compile(  # \sin(x)
    r"(?:[^A-Za-z]|\b[ei]\b)*|\\(?:(?:arc)?(?:sin|cos|tan|cot|sec|csc)|log|ln|lim|max|min|sup|inf|det|gcd|arg|begin|int|sum|prod|mathbb)"
    r"(?![A-Za-z]).*|m?\\angle.*|\\frac ?\{[^{}=]*\} ?\{[^{}=]*\}|(?:[-+ ]*[A-Za-z]\(\d+\))+"
)
"""What has a value: a function applied, or constants alone."""
_HALF_LINE = re.compile(r"([a-z]) ?(<|>|\\le|\\ge)(?![A-Za-z]) ?([^<>=]+)")  # x \le 2
_BRACES_AND_BLANKS = re.compile(r"[\s{}]")  # { }
_SUM_OF_LETTERS = re.compile(r"\d*[A-Za-z](?: ?[-+] ?\d*[A-Za-z])+")  # m + n
_MEMBERSHIP = re.compile(r"\s*[A-Za-z]\s*\\in(?![A-Za-z])\s*(?P<value>.+)")  # x \in [0, 1]
_CONNECTED = re.compile(  # 1 and 2
    r"\s*,?\s+(?:and|or)\s+|(?<=[)\d}])(?:and|or)(?=[(\d\\-])|\s*\\(?:lor|land|vee|wedge)(?![A-Za-z])\s*"
    r"|\s*\\cup(?=\s*[a-z]\s*(?:[<>]|\\[lg]e))\s*"
)
_ALTERNATIVES = re.compile(r"\bor\b|\\(?:lor|vee|cup)(?![A-Za-z])")  # x<1 or x>2
_COMMANDS_OF_NUMBERS = re.compile(r"\\(?:times|cdot|sqrt|pi|div|binom|circ|[bp]?mod)(?![A-Za-z])")  # 3 \cdot 5
_WORDS = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}")  # no
_COMMANDS = re.compile(r"\\(?:begin|end)\{\w+\*?\}|\\[A-Za-z]+")  # \begin{array}
_FUNCTIONS = {"pi", "sin", "cos", "tan", "cot", "sec", "csc", "log", "ln", "exp", "sqrt", "arcsin", "arccos", "arctan",
              "max", "min", "mod", "gcd", "lcm", "infinity", "inf", "oo", "frac", "abs", "cis", "deg"}  # fmt: skip
_PRODUCT = re.compile(r"[abcdkmnpqrstuvwxyz]{2,3}")  # xy
_TEXTUAL = re.compile(r"\\ldots|^\s*\d+\s*:\s*\d+|_\{?\w*\}?\s*:|^--")  # 2 : 3
_TRIGONOMETRIC = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![A-Za-z])")  # \sin x
_DEGREES = re.compile(r"(\d+(?:\.\d+)?) ?\^\\circ")  # 30^\circ
_RELATION = re.compile(r"[<>]|\\(?:le|ge|lt|gt|ne|in)(?![A-Za-z])")  # x < 1
_GROUPED = re.compile(r"(?<![\d.,])[1-9]\d{0,2}(?:,\d{3})+(?![\d,])")  # 1,234
_ORDERED = {"()", "[]", "(]", "[)"}


@dataclass(frozen=True)
class Answer:
    """One answer in `plain` spelling; ``items`` where it is a list, with ``brackets`` around it ("" for none)."""

    text: str
    name: str = ""
    brackets: str = ""
    items: tuple[Answer, ...] = ()

    @cached_property
    def quantity(self) -> Quantity | None:
        return None if self.items or self.brackets else parse_quantity(self.text)

    @property
    def key(self) -> Fraction | None:
        """Two answers whose keys differ are unequal; None where that takes a comparison."""
        quantity = self.quantity
        return None if quantity is None or quantity.unit == "percent" else quantity.value

    @property
    def canonical(self) -> str:
        """The value as an exact rational where it is one, else the plain spelling."""
        if self.items or self.brackets:
            body = ", ".join(item.canonical for item in self.items)
            return f"{self.brackets[:1]}{body}{self.brackets[1:]}"
        return self.text if self.quantity is None else str(self.quantity)


def parse_answer(text: str) -> Answer:
    """Reads an answer as it was written."""
    return Answer(text) if _SHORT_INTEGER.fullmatch(text) else _parse(plain(text))


def _parse(text: str, depth: int = 0) -> Answer:
    if len(text) > MAX_READ or depth > _MAX_DEPTH:
        return Answer(text)
    name = ""
    text = _OPTION.sub("", text)
    if match := _NAMED_LAST.fullmatch(text):
        text = f"{match['name']} = {match['value']}"
    if match := _NAME.fullmatch(text):
        sides = _top_level_split(match["value"], "=")
        if len(sides) == 1 or not re.search(r"[,;]|\band\b|\bor\b", match["value"]):
            name, text = _BRACES_AND_BLANKS.sub("", match["name"]), sides[-1].strip()
    elif match := _MEMBERSHIP.fullmatch(text):
        text = match["value"].strip()
    elif chain := _constant_chain(text):
        text = chain
    if re.search(r"\\(?:pm|mp)(?![A-Za-z])", text) and "," not in text:
        return Answer(text, name, "", tuple(_parse(_with_sign(text, sign), depth + 1) for sign in "+-"))
    if brackets := _brackets(text):
        left, right, body = brackets
        pieces = _listed(body)
        if body.strip() == "" or 1 < len(pieces) <= _MAX_ITEMS or left == "{":
            items = tuple(_parse(piece.strip(), depth + 1) for piece in pieces[:_MAX_ITEMS] if piece.strip())
            return Answer(text, name, left + right, items)
        if left == "(" and parse_quantity(text) is None and _NAME.fullmatch(body):
            return _parse(body, depth + 1)
    if parse_quantity(text) is None:
        pieces = [piece for part in _CONNECTED.split(text) for piece in _listed(part)]
        pieces = [piece.strip() for piece in pieces if piece.strip()]
        if 1 < len(pieces) <= _MAX_ITEMS:
            return Answer(text, name, "", tuple(_parse(piece, depth + 1) for piece in pieces))
    return Answer(text.removeprefix("+").lstrip() or text, name)


def _with_sign(text: str, sign: str) -> str:
    text = re.sub(r"\\mp(?![A-Za-z])", "-" if sign == "+" else "+", text)
    return re.sub(r"\\pm(?![A-Za-z])", sign, text).lstrip("+ ")


def _constant_chain(text: str) -> str | None:
    """The result at the end of ``2 + 3 = 5``; None for an equation between expressions with variables."""
    first, *others = _top_level_split(text, "=")
    letters = re.sub(r"\\(?:frac|times|cdot|sqrt|pi|div|left|right|binom)(?![A-Za-z])", "", first)
    if not others or re.search(r"[A-Za-z<>]", letters) or re.search(r"[A-Za-z]", _COMMANDS.sub("", others[-1])):
        return None
    return others[-1].strip() or None


def _brackets(text: str) -> tuple[str, str, str] | None:
    """Left and right bracket and what is between them, where one pair encloses the whole text."""
    for left, right in ((r"\{", r"\}"), ("(", ")"), ("[", "]"), ("(", "]"), ("[", ")"), ("]", "["), ("{", "}")):
        inside = text[len(left) : -len(right)]
        if len(text) < len(left) + len(right) or not (text.startswith(left) and text.endswith(right)):
            continue
        if left == "]":
            return "(", ")", inside
        if _depth_stays_positive(inside):
            return left[-1], right[-1], inside
    return None


def _depth_stays_positive(inside: str) -> bool:
    depth = 0
    for character in inside:
        depth += (character in "([{") - (character in ")]}")
        if depth < 0:
            return False
    return depth == 0


def _listed(text: str) -> list[str]:
    """The parts of a list: between semicolons where there are any, else between commas."""
    parts = _top_level_split(text, ";")
    return parts if len(parts) > 1 else _top_level_split(text, ",")


def _top_level_split(text: str, separators: str) -> list[str]:
    """Splits at separators outside brackets; a comma between groups of three digits is no separator."""
    pieces: list[str] = []
    start = depth = 0
    grouping = {place for match in _GROUPED.finditer(text) for place in range(*match.span())}
    for place, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        if character in separators and depth <= 0 and place not in grouping:
            pieces.append(text[start:place])
            start = place + 1
    return [*pieces, text[start:]]


def equal_answers(gold: Answer, answer: Answer, symbolic: Symbolic) -> bool:
    """Whether a careful grader who expects ``gold`` takes ``answer``. Not symmetric where notations are loose."""
    if gold.name and answer.name and gold.name != answer.name and not _is_graph(gold.name, answer.name):
        return False
    if _spelling(gold.text) == _spelling(answer.text):
        return True
    if max(len(gold.text), len(answer.text)) > MAX_READ:
        return False
    if gold.items or answer.items or gold.brackets or answer.brackets:
        return _equal_structures(gold, answer, symbolic)
    return _equal_leaves(gold, answer, symbolic)


def _equal_leaves(gold: Answer, answer: Answer, symbolic: Symbolic) -> bool:
    if gold.quantity is not None and answer.quantity is not None:
        return gold.quantity.equals(answer.quantity) or _is_rounded(gold, answer) or _is_rounded(answer, gold)
    if gold.quantity is not None and (total := _total(answer.text)) is not None:
        return gold.quantity.equals(total)
    if (measures := _measures(gold, answer)) is not None:
        (value, unit), (given, other) = measures
        return (not unit or not other or unit == other) and equal_answers(Answer(value), Answer(given), symbolic)
    if any(_is_prose(text) or _TEXTUAL.search(text) for text in (gold.text, answer.text)):
        return _spelling(gold.text).casefold() == _spelling(answer.text).casefold()
    if _is_equation(gold.text) != _is_equation(answer.text) and not _RELATION.search(gold.text + answer.text):
        named, equation = (answer, gold) if _is_equation(gold.text) else (gold, answer)
        if named.name:
            return symbolic(equation.text, f"{named.name} = {named.text}")
        first, *_, value = _top_level_split(equation.text, "=")
        if equation is gold or not _EVALUATED.fullmatch(_COMMANDS_OF_NUMBERS.sub("", first.strip())):
            return False  # an equation is not the value of one of its sides
        return equal_answers(gold, _parse(value.strip()), symbolic)
    return symbolic(_symbolic_text(gold), _symbolic_text(answer))


def _is_graph(one: str, other: str) -> bool:
    """Whether the names are y and a function of x, such as f(x)."""
    return "y" in {one, other} and any(re.fullmatch(r"[A-Za-z]\(x\)", name) for name in (one, other))


def _measures(gold: Answer, answer: Answer) -> tuple[tuple[str, str], tuple[str, str]] | None:
    """Values and units, as in ``25\\pi cm^2``, where a side that is no `Quantity` has one; else None."""
    sides = [parse_measure(side.text) for side in (gold, answer)]
    if not any(sides):
        return None
    units = ["" if side.quantity is None else side.quantity.unit for side in (gold, answer)]
    first, second = (
        side or (str(of.quantity.value) if unit and of.quantity else of.text, unit)
        for side, of, unit in zip(sides, (gold, answer), units, strict=True)
    )
    return first, second


def _is_rounded(exact: Answer, decimal: Answer) -> bool:
    """Whether one is the other, which no decimal equals, to at least six places: 0.0833333 for 1/12."""
    written, value, rounded = _MANY_PLACES.fullmatch(decimal.text), exact.quantity, decimal.quantity
    if written is None or value is None or value.base or rounded is None or len(written[1]) > _MAX_PLACES:
        return False
    scale = Fraction(10) ** (len(written[1]) - int(written[2] or 0))
    return (value.value * scale).denominator != 1 and bool(abs(value.value - rounded.value) * scale < 1)


def _total(text: str) -> Quantity | None:
    """The number in ``m + n = 5``, which names by what it is the sum of; None for any other text."""
    sides = _top_level_split(text, "=")
    is_sum = len(sides) > 1 and _SUM_OF_LETTERS.fullmatch(sides[0].strip())
    return parse_quantity(sides[-1].strip()) if is_sum else None


def _is_equation(text: str) -> bool:
    return len(_top_level_split(text, "=")) > 1


def _equal_structures(gold: Answer, answer: Answer, symbolic: Symbolic) -> bool:
    if not (gold.brackets or gold.items) or not (answer.brackets or answer.items):
        return _equal_to_single(gold, answer, symbolic)
    same_kind = gold.brackets == answer.brackets
    if gold.brackets in _ORDERED and (same_kind or (not answer.brackets and gold.brackets == "()")):
        return _all_equal(gold.items, answer.items, symbolic)
    if not gold.brackets and answer.brackets == "()":
        return _all_equal(gold.items, answer.items, symbolic)
    if gold.brackets in {"", "{}"} and answer.brackets in {"", "{}"}:
        return _same_members(gold.items, answer.items, symbolic, repeats_count=not gold.brackets)
    return False


def _equal_to_single(gold: Answer, answer: Answer, symbolic: Symbolic) -> bool:
    single, group = (answer, gold) if gold.items or gold.brackets else (gold, answer)
    if len(group.items) == 1 and group.brackets == "{}":
        first, second = (group.items[0], single) if group is gold else (single, group.items[0])
        return equal_answers(first, second, symbolic)
    if single.quantity is not None:
        decimal = _decimal_comma(group)
        return decimal is not None and single.quantity.value == decimal and single.quantity.value.denominator != 1
    if union := _union(group):
        one, other = (union, single.text) if group is gold else (single.text, union)
        return symbolic(one, other)
    if not group.brackets or any(_is_prose(text) for text in (gold.text, answer.text)):
        return False
    return symbolic(_symbolic_text(gold), _symbolic_text(answer))  # an interval against an inequality or a union


def _union(group: Answer) -> str:
    """The intervals of ``x < -1 or x > 1``; "" for another list."""
    halves = [_HALF_LINE.fullmatch(item.text) for item in group.items]
    if not _ALTERNATIVES.search(group.text) or len({half[1] if half else "" for half in halves}) != 1:
        return ""
    ends = {"<": r"(-\infty, {})", r"\le": r"(-\infty, {}]", ">": r"({}, \infty)", r"\ge": r"[{}, \infty)"}
    return r" \cup ".join(ends[half[2]].replace("{}", half[3].strip()) for half in halves if half)


def _decimal_comma(group: Answer) -> Fraction | None:
    """``3,5`` read as a decimal with a comma: only where the other side is one number that is no integer."""
    match = re.fullmatch(r"([-+]?)(\d+),(\d+)", group.text)
    return Fraction(f"{match[1]}{match[2]}.{match[3]}") if match else None


def _all_equal(gold: Sequence[Answer], answer: Sequence[Answer], symbolic: Symbolic) -> bool:
    return len(gold) == len(answer) and all(
        equal_answers(one, other, symbolic) for one, other in zip(gold, answer, strict=True)
    )


def _same_members(gold: Sequence[Answer], answer: Sequence[Answer], symbolic: Symbolic, repeats_count: bool) -> bool:
    if repeats_count and len(gold) != len(answer):
        return False
    left = list(answer)
    for expected in gold:
        place = next((i for i, item in enumerate(left) if equal_answers(expected, item, symbolic)), None)
        if place is not None:
            del left[place]
        elif repeats_count or not any(equal_answers(expected, item, symbolic) for item in answer):
            return False
    return not left or (
        not repeats_count and all(any(equal_answers(one, item, symbolic) for one in gold) for item in left)
    )


def _is_prose(text: str) -> bool:
    """Words rather than products of variables: computer algebra would find "on" and "no" equal."""
    letters = _COMMANDS.sub(" ", text)
    return any(word.lower() not in _FUNCTIONS and not _PRODUCT.fullmatch(word) for word in _WORDS.findall(letters))


def _spelling(text: str) -> str:
    return re.sub(r"\s+|\\(?=[{}])", "", text)


def _symbolic_text(answer: Answer) -> str:
    quantity = answer.quantity
    if quantity is not None and quantity.unit == "degree":
        return rf"\frac{{{quantity.value.numerator} \pi}}{{{180 * quantity.value.denominator}}}"
    if quantity is not None and quantity.unit:
        return answer.text if quantity.base else str(quantity.value)
    if _TRIGONOMETRIC.search(answer.text):
        return _DEGREES.sub(r"(\1 \\cdot \\frac{\\pi}{180})", answer.text)
    return answer.text
