"""Numbers that need no computer algebra: integers, decimals and rationals, with the unit that stands beside them."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import NamedTuple

__all__ = ["Quantity", "parse_measure", "parse_quantity"]

_MAX_DIGITS = 1000
_MAX_EXPONENT = 1000


class Quantity(NamedTuple):
    """An exact value and the unit written with it, if any."""

    value: Fraction
    unit: str = ""

    def equals(self, other: Quantity) -> bool:
        """Same value; a unit that one side leaves out is no difference, two different ones are. No conversions.

        A percentage also equals its hundredth: ``50%`` is 50 to a question that asks for percent, and 1/2. A numeral
        in a base other than ten equals the same numeral in that base only.
        """
        if self.base or other.base:
            return self == other
        if self.unit and other.unit and self.unit != other.unit:
            return False
        if self.value == other.value:
            return True
        if "percent" in (self.unit, other.unit) and not (self.unit and other.unit):
            percent, bare = (self, other) if self.unit else (other, self)
            return percent.value / 100 == bare.value
        return False

    @property
    def base(self) -> int | None:
        """The base in which the digits are written, where it is not ten; ``value`` reads them as decimal."""
        return int(self.unit.removeprefix("base ")) if self.unit.startswith("base ") else None

    def __str__(self) -> str:
        return f"{self.value} {self.unit}".rstrip()


_INTEGER = r"\d+"
_GROUPED = r"[1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?|\d{1,3}(?: \d{3})+(?:\.\d+)?"
_GERMAN = r"\d{1,3}(?:\.\d{3})+,\d+"
_DECIMAL = r"\d+\.\d*|\.\d+"
_PLAIN = re.compile(rf"(?:{_GERMAN}|{_GROUPED}|{_DECIMAL}|{_INTEGER})")  # 1,234.5
_REPEATING = re.compile(r"(\d*)\.(\d*)\\overline\s*\{(\d+)\}")  # 0.1\overline{6}
_SCIENTIFIC = re.compile(  # 1.5 x 10^{3}
    r"(?:(?P<mantissa>[\d.,]+?)\s*(?:\\times|\\cdot|\*|x)\s*)?10\s*(?:\^|\*\*)\s*"
    r"(?:\{\s*(?P<braced>[-+]?\s*\d+)\s*\}|(?P<bare>[-+]?\d+))"
    r"|(?P<computer>[\d.,]+)[eE](?P<power>[-+]?\d+)"
)
_LATEX_FRACTION = re.compile(r"(?P<whole>\d+)?\s*\\frac\s*\{(?P<top>[^{}]*)\}\s*\{(?P<bottom>[^{}]*)\}")  # 1\frac{1}{2}
_SLASH = re.compile(r"(?:(?P<whole>\d+)(?: and|)\s+)?(?P<top>[^/\s]+)\s*/\s*(?P<bottom>[^/\s]+)")  # 1 1/2
_DIVISORS = re.compile(r"\\?(gcd|lcm)\s*\(\s*(\d+\s*(?:,\s*\d+\s*)+)\)")  # \gcd(4, 6)
_REMAINDER = re.compile(r"(\d+)\s*(?:\\[bp]?mod(?![A-Za-z])|\bmod\b)\s*(\d+)")  # 17 mod 5
_ENCLOSED = re.compile(r"\(([^()]*)\)|\{([^{}]*)\}")  # (5)

_ALIASES = {
    "%": "percent", "pct": "percent", "percent": "percent", "percentage": "percent", "^\\circ": "degree",
    "degree": "degree", "deg": "degree", "$": "dollar", "usd": "dollar", "dollar": "dollar", "€": "euro",
    "eur": "euro", "£": "pound", "cent": "cent", "centimeter": "cm", "centimetre": "cm", "millimeter": "mm",
    "meter": "m", "metre": "m", "kilometer": "km", "kilometre": "km", "kilogram": "kg", "gram": "g", "second": "s",
    "sec": "s", "minute": "min", "hour": "h", "hr": "h", "inch": "in", "inche": "in", "foot": "ft", "feet": "ft",
    "¥": "yen", "₹": "rupee", "rs": "rupee",
    "mile": "mi", "liter": "l", "litre": "l", "milliliter": "ml", "unit": "", "square unit": "", "cubic unit": "",
}  # fmt: skip
_CASED = re.compile(r"[TGMkKmunp]?(?:eV|W|Wh|Hz|V|A|N|J|Pa|g|K|k|b|B|bps)")  # MW
"""Symbols in which a letter's case is a power of ten or another unit: 5 MW are not 5 mW."""
_ATTACHED = re.compile(  # cm
    r"(?:cm|mm|km|kg|mg|ml|nm|mi|ft|in|min|ms|hrs?|mph|Hz|kHz|rad|m|g|s|h|L|N|J|W|V"
    r"|(?:second|minute|hour|day|week|month|year|meter|metre|inche|mile|pound|gram|dollar|cent|degree|point)s?|inch|feet)"
)
_NO_UNIT = {
    "and", "or", "mod", "pi", "sqrt", "sin", "cos", "tan", "log", "ln", "exp", "infinity", "to", "by", "is", "not",
    "plus", "minus", "times", "over", "if", "for", "when", "where", "frac", "i", "e", "per",
}  # fmt: skip
_WORD_UNIT = r"[A-Za-z]+\.?(?:\s+[A-Za-z]+|\s*/\s*[A-Za-z]+|\s*\^\s*\{?\s*-?[1-4]\s*\}?)*"
_WITH_UNIT = re.compile(  # 5 cm^2
    rf"(?P<number>.*?[\d}})])(?P<gap>\s*)(?P<unit>%|\^\\circ(?:\s*[CF])?|[$€£]|\\(?:cent|pounds)|[ap]\.m|{_WORD_UNIT})"
)
_IRRATIONAL_WITH_UNIT = re.compile(  # 25\pi cm
    rf"(?P<value>(?=[^A-Za-z]*\\(?:pi|sqrt|frac|ln|log|sin|cos|tan|cdot|times)(?![A-Za-z])).*?(?:[\d)}}]|\\pi))"
    rf" ?(?:\\cdot )?(?<=[ \d)}}])(?P<unit>{_WORD_UNIT})"
)
_COMMAND = re.compile(r"\\[A-Za-z]+")  # \pi
_LETTERS = re.compile(r"[A-Za-z]")  # x
_OTHER_UNITS = {"square", "cubic", "units", "per", "yard", "yards", "day", "days", "week", "weeks", "year", "years",
                "inches", "centimeters", "radians", "rad", "sq"}  # fmt: skip
_BASE = re.compile(r"(?P<number>\(?[0-9]+\)?)\s*_\s*(?:\{\s*(?P<braced>\d+)\s*\}|(?P<bare>\d+))")  # 101_2
_MODULO = re.compile(r"(.*[\d)}]) ?(?:\\pmod ?\{? ?(\d+) ?\}?|\( ?mod ?(\d+) ?\))")  # 3 \pmod{7}
_CURRENCY_FIRST = re.compile(r"(?P<sign>[-+]?)\s*(?P<unit>[$€£¥₹]|USD|EUR|Rs\.?)\s*(?P<number>[-+]?[\d.].*)")  # -$5


def parse_quantity(text: str) -> Quantity | None:
    """The quantity that a text in `plain` spelling denotes; None where that takes more than rational arithmetic."""
    if len(text) > _MAX_DIGITS:
        return None
    if (value := _signed(text)) is not None:
        return Quantity(value)
    if base := _BASE.fullmatch(text):  # the digits as written: nobody converts to decimal what was asked in base 8
        written = int(base["braced"] or base["bare"])
        return Quantity(Fraction(base["number"].strip("()")), "" if written == 10 else f"base {written}")
    if (modulo := _MODULO.fullmatch(text)) and (value := _signed(modulo[1])) is not None:
        return Quantity(value, f"mod {modulo[2] or modulo[3]}")
    if first := _CURRENCY_FIRST.fullmatch(text):
        value = _signed(first["sign"] + first["number"])
        return None if value is None else Quantity(value, _ALIASES[first["unit"].lower().rstrip(".")])
    return _with_unit(text)


def _with_unit(text: str) -> Quantity | None:
    match = _WITH_UNIT.fullmatch(text)
    if match is None or (value := _signed(match["number"].rstrip())) is None:
        return None
    unit, gap = match["unit"], match["gap"]
    if unit[0].isalpha() and unit not in {"a.m", "p.m"}:
        words = re.findall(r"[A-Za-z]+", unit)
        if _NO_UNIT.intersection(word.lower() for word in words if word != "per" or len(words) == 1):
            return None
        if not gap and not _ATTACHED.fullmatch(words[0]):
            return None  # 5ab is a product
        if not gap and len(words[0]) == 1:
            return None  # and so is 5m
        if len(words[0]) == 1 and not _ATTACHED.fullmatch(words[0]):
            return None  # 5 x, spaced out
    return Quantity(value, _canonical_unit(unit))


def parse_measure(text: str) -> tuple[str, str] | None:
    """Value and unit of a text such as ``25\\pi cm^2``, whose value takes more than rational arithmetic; else None.

    The unit is a word or symbol known as one: what follows may as well be a variable.
    """
    match = _IRRATIONAL_WITH_UNIT.fullmatch(text)
    if match is None or _LETTERS.search(_COMMAND.sub(" ", match["value"])):
        return None
    unit = re.sub(r"\s*([\^/])\s*", r"\1", match["unit"]) if match["unit"] else ""
    words = [word.lower() for word in re.findall(r"[A-Za-z]+", unit.replace("^\\circ", "degree"))]
    known = all(
        word in _ALIASES or word.rstrip("s") in _ALIASES or word in _OTHER_UNITS or _ATTACHED.fullmatch(word)
        for word in words
    )
    return (match["value"].strip(), _canonical_unit(unit)) if words and known else None


def _canonical_unit(unit: str) -> str:
    unit = re.sub(r"\s*([\^/])\s*\{?\s*(-?\w+)\s*\}?", r"\1\2", unit.rstrip("."))
    parts = []
    for word in re.split(r"([\s/]+)", unit if unit == "^\\circ" else unit.replace("square units", "unit")):
        base, caret, power = word.partition("^") if not word.startswith("^") else (word, "", "")
        lowered = base.lower()
        if lowered not in _ALIASES and _CASED.fullmatch(base) and base != "Kg":
            parts.append(base + caret + power)
            continue
        single = lowered[:-1] if len(lowered) > 2 and lowered.endswith("s") else lowered
        parts.append(_ALIASES.get(lowered, _ALIASES.get(single, single)) + caret + power)
    joined = (
        re.sub(r"(?<=\w) (\w+)\^-(?:1\b|(?=[2-4]))", r"/\1^", "".join(parts).strip()).replace("^ ", " ").rstrip("^")
    )
    joined = re.sub(r"^square (\w+)$", r"\1^2", joined)
    return re.sub(r"^cubic (\w+)$", r"\1^3", joined)


def _signed(text: str) -> Fraction | None:
    text = text.strip()
    sign = 1
    while text[:1] in {"+", "-"}:
        sign = -sign if text[0] == "-" else sign
        text = text[1:].lstrip()
        if text[:1] in {"+", "-"}:
            return None  # --5 is a slip of the pen, not an answer
    value = _unsigned(text)
    return None if value is None else sign * value


def _unsigned(text: str) -> Fraction | None:
    if enclosed := _ENCLOSED.fullmatch(text):
        return _signed(enclosed.group(1) or enclosed.group(2) or "")
    if _PLAIN.fullmatch(text):
        return _plain_value(text)
    if match := _DIVISORS.fullmatch(text):
        numbers = [int(number) for number in match[2].split(",")]
        return Fraction((math.gcd if match[1] == "gcd" else math.lcm)(*numbers))
    if (match := _REMAINDER.fullmatch(text)) and int(match[2]):
        return Fraction(int(match[1]) % int(match[2]))
    if match := _REPEATING.fullmatch(text):
        whole, fixed, repeated = match.groups()
        scale = 10 ** len(fixed)
        return Fraction(int((whole or "0") + fixed), scale) + Fraction(int(repeated), scale * (10 ** len(repeated) - 1))
    if match := _SCIENTIFIC.fullmatch(text):
        return _scientific_value(match)
    if match := _LATEX_FRACTION.fullmatch(text) or _SLASH.fullmatch(text):
        top, bottom = _signed(match["top"]), _signed(match["bottom"])
        if top is None or not bottom:
            return None
        if match["whole"] is None:
            return top / bottom
        return int(match["whole"]) + top / bottom if 0 <= top < bottom else None
    return None


def _plain_value(text: str) -> Fraction:
    if re.fullmatch(_GERMAN, text):
        text = text.replace(".", "").replace(",", ".")
    return Fraction(text.replace(",", "").replace(" ", "").rstrip("."))


def _scientific_value(match: re.Match[str]) -> Fraction | None:
    mantissa = match["mantissa"] or match["computer"] or "1"
    exponent = int((match["braced"] or match["bare"] or match["power"]).replace(" ", ""))
    if not _PLAIN.fullmatch(mantissa) or abs(exponent) > _MAX_EXPONENT:
        return None
    return _plain_value(mantissa) * Fraction(10) ** exponent
