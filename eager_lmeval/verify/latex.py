"""One spelling for the many ways to write the same answer: Unicode, LaTeX decoration, delimiters, punctuation."""

from __future__ import annotations

import re
import unicodedata

__all__ = ["MAX_READ", "plain"]

MAX_READ = 2000
"""Characters: a longer answer equals its own spelling only. Nobody would read it, and reading it must not take long."""

_SYMBOLS = {
    "−": "-", "﹣": "-", "－": "-", "–": "-", "‒": "-", "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "÷": "/",
    "∕": "/", "⁄": "/", "π": r"\pi ", "∞": r"\infty ", "±": r"\pm ", "∓": r"\mp ", "°": r"^\circ ", "≤": r"\le ",
    "⩽": r"\le ", "≥": r"\ge ", "⩾": r"\ge ", "≠": r"\ne ", "∪": r"\cup ", "∩": r"\cap ", "∅": r"\emptyset ",
    "∈": r"\in ", "θ": r"\theta ", "α": r"\alpha ", "β": r"\beta ", "λ": r"\lambda ", "φ": r"\varphi ",
    "％": "%", "′": "'", "…": r"\ldots ", "ℝ": r"\mathbb{R}", "、": ",", "。": ".",
}  # fmt: skip
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ⁿ", "0123456789-+n")
_SUPERSCRIPT_RUN = re.compile(r"[⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ⁿ]+")  # ¹²
_ROOT_SIGN = re.compile(r"√\s*(?:\(([^()]*)\)|(\w+))")  # √(x+1)
_VULGAR = re.compile(r"[¼½¾⅐-⅞]")  # ½

_DROPPED = re.compile(  # \left
    r"\\(?:displaystyle|textstyle|left|right|[bB]ig[lr]?|limits)(?![A-Za-z])|(?<!\\)\\[!,;:> ]|\\q?quad|~"
)
_THIN_GROUPING = re.compile(r", ?\\! ?(?=\d{3}(?!\d))")  # 1,\!000
_MATHS_AND_UNIT = re.compile(r"\$([^$]+)\$( [^$\d]+)")  # $5$ apples
_WRAPPER = re.compile(  # \text{cm}
    r"\\(text|textrm|textbf|textit|textnormal|mathrm|mathbf|mathit|mathsf|bf|rm|mbox|hbox|operatorname|emph|boldsymbol|underline)"
    r"\s*\{([^{}]*)\}"
)
_MAX_NESTED_WRAPPERS = 10
_COMMANDS = {
    "dfrac": r"\frac", "tfrac": r"\frac", "cfrac": r"\frac", "sfrac": r"\frac", "nicefrac": r"\frac", "xfrac": r"\frac",
    "leq": r"\le", "leqslant": r"\le", "geq": r"\ge", "geqslant": r"\ge", "neq": r"\ne", "gt": ">", "lt": "<",
    "varnothing": r"\emptyset", "O": r"\emptyset", "dots": r"\ldots", "cdots": r"\ldots", "lbrace": r"\{",
    "rbrace": r"\}", "lbrack": "[", "rbrack": "]", "langle": "(", "rangle": ")",
}  # fmt: skip
"""Commands that have another spelling."""
_COMMAND = re.compile(rf"\\({'|'.join(_COMMANDS)})(?![A-Za-z])")  # \dfrac
_SPELLINGS = (
    (re.compile(r"\\color\s*\{\w+\}"), ""),  # \color{red}
    (re.compile(r"\\textcolor\s*\{\w+\}\s*\{([^{}]*)\}"), r"\1"),  # \textcolor{red}{5}
    (re.compile(r"(?<=[\w)}])\*\*(?=[\w({\\-])"), "^"),  # x**2
    (re.compile(r"\^ ?\(([^(){}]+)\)"), r"^{\1}"),  # 2^(n+1)
    (re.compile(r"(?<![\\A-Za-z])sqrt ?(?:\(([^()]*)\)|(\d+))"), r"\\sqrt{\1\2}"),  # sqrt(5)
    (re.compile(r"(?<![\\A-Za-z])exp ?\(([^()]*)\)"), r"e^{\1}"),  # exp(x)
    (re.compile(r"(?<![\\A-Za-z])(ln|log(?:_\d+)?) ?(?=\()"), r"\\\1"),  # ln (
    (re.compile(r"(?<![\\A-Za-z])pi(?![A-Za-z])"), r"\\pi"),  # 2pi
    (
        re.compile(r"^(?:all real numbers|all reals|\\mathbb ?\{?R\}?|\\R|\\Reals)$", re.IGNORECASE),  # all reals
        r"(-\\infty,\\infty)",
    ),
    (re.compile(r"^no solutions$", re.IGNORECASE), "no solution"),  # no solutions
    (re.compile(r"^DNE$"), "does not exist"),  # DNE
    (re.compile(r"(?<=\d) ?\^? ?\{? ?(?:th|st|nd|rd) ?\}?$"), ""),  # 4th
    (re.compile(r"(?<=\d) ?[Aa]\.? ?[Mm]$"), " a.m"),  # 5 am
    (re.compile(r"(?<=\d) ?[Pp]\.? ?[Mm]$"), " p.m"),  # 5 p.m
    (re.compile(r"(\.\d*)\\dot ?\{?(\d)\}?$"), r"\1\\overline{\2}"),  # 0.1\dot{3}
    (re.compile(r"\{ ?([:]) ?\}"), r"\1"),  # 1{:}2
    (re.compile(r"<="), r"\\le "),  # x<=1
    (re.compile(r">="), r"\\ge "),  # x>=1
    (re.compile(r"(?<![\d)])!="), r"\\ne "),  # x != 1
    (re.compile(r"\.\.\."), r"\\ldots"),  # 1, 2, ...
    (re.compile(r"\\frac\s*(\d)\s*(\d)"), r"\\frac{\1}{\2}"),  # \frac12
    (re.compile(r"\\frac\s*(\d)\s*\{"), r"\\frac{\1}{"),  # \frac1{2}
    (re.compile(r"(\\frac\s*\{[^{}]*\})\s*(\d)"), r"\1{\2}"),  # \frac{1}2
    (re.compile(r"\\sqrt\s*(\d)"), r"\\sqrt{\1}"),  # \sqrt2
    (re.compile(r"\^\s*\{?\s*\\(?:circ|degree)\s*\}?|\\degree(?![A-Za-z])"), r"^\\circ "),  # 90^{\circ}
    (re.compile(r"\{,\}"), ","),  # 1{,}000
    (re.compile(r"(^|[\[(,] ?)\+ ?(?=\\infty)"), r"\1"),  # (+\infty
    (re.compile(r"\\%"), "%"),  # 50\%
    (re.compile(r"\\\$"), "$"),  # \$5
)
_DELIMITERS = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), ("**", "**"), ("`", "`"))
_ENDING = " \t\n\r\\.,;:"


def plain(answer: str) -> str:
    """The answer in plain LaTeX: same meaning, one spelling, no decoration around it. Idempotent on its results.

    An answer of more than `MAX_READ` characters comes back as it is, without the blanks around it.
    """
    if len(answer) > MAX_READ:
        return answer.strip()
    text = _VULGAR.sub(_fraction, answer)
    text = _SUPERSCRIPT_RUN.sub(lambda run: "^{" + run.group().translate(_SUPERSCRIPTS) + "}", text)
    text = _ROOT_SIGN.sub(lambda root: r"\sqrt{" + (root.group(1) or root.group(2)) + "}", text)
    for symbol, spelling in _SYMBOLS.items():
        text = text.replace(symbol, spelling)
    text = unicodedata.normalize("NFKC", text)
    text = _undelimited(" ".join(text.split()))  # from here on a pattern meets one blank at most
    for _ in range(_MAX_NESTED_WRAPPERS):
        if (unwrapped := _WRAPPER.sub(_content, text)) == text:
            break
        text = unwrapped
    text = _THIN_GROUPING.sub(",", text)
    text = " ".join(_DROPPED.sub(" ", text.replace(r"\!", "")).split())
    text = _COMMAND.sub(lambda command: _COMMANDS[command[1]], text)
    text = re.sub(r"\\[{]\s*", r"\\{", text)
    for pattern, spelling in _SPELLINGS:
        text = pattern.sub(spelling, text)
    return _undelimited(" ".join(text.split()))


def _fraction(match: re.Match[str]) -> str:
    numerator, _, denominator = unicodedata.normalize("NFKC", match.group()).partition("\N{FRACTION SLASH}")
    return rf"\frac{{{numerator}}}{{{denominator}}}" if denominator else match.group()


def _content(match: re.Match[str]) -> str:
    """Words keep their distance from what stands before them; single letters in roman type are mathematics."""
    command, content = match.groups()
    if command in {"mathrm", "operatorname", "rm"} and len(content.strip()) == 1:
        return content
    return f" {content} "


def _undelimited(text: str) -> str:
    while True:
        text = text.strip().rstrip(_ENDING)
        for opening, closing in _DELIMITERS:
            inner = text[len(opening) : -len(closing)]
            if (
                text.startswith(opening)
                and text.endswith(closing)
                and len(text) >= len(opening) + len(closing)
                and closing not in inner
            ):
                text = inner
                break
        else:
            return _MATHS_AND_UNIT.sub(r"\1\2", text) if text.startswith("$") else text
