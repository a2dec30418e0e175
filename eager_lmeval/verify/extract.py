"""Where in a text the answer stands: the last box, else what is stated as the answer.

Every function takes time linear in the text's length: the text is passed once by a pattern that does not backtrack,
and what may backtrack sees a window of bounded length.
"""

from __future__ import annotations

import re

from eager_lmeval.verify.latex import plain

__all__ = ["boxed_answer", "final_answer", "stated_answer"]

_BRACES = re.compile(r"\\{1,2}(?:boxed|fbox)\s*\{|\\.|[{}]", re.DOTALL)  # \boxed{
_BETWEEN = re.compile(r"\\(?:text|mbox|q?quad)(?![A-Za-z])|[\\\s$&(){}]")  # $\text{ and }$
_MAX_BETWEEN = 40
_BRACELESS = re.compile(r"\\boxed\s*((?:\\[A-Za-z]+(?:\{[^{}]*\})*|[^\s{}$\\])+)")  # \boxed 5
_ABROAD = (
    r"答案|答え|故选|应选|정답|답은|réponse|respuesta|resposta|risposta|antwort|ответ|उत्तर|الإجابة(?: النهائية)?|الجواب"
)
"""Answer, in the languages of the multilingual suites; the Chinese "so choose" needs no colon."""
_TAG = re.compile(r"<answer>(.{1,1000}?)</answer>", re.IGNORECASE | re.DOTALL)  # <answer>5</answer>
_MENTION = re.compile(rf"\banswer\b|^####|{_ABROAD}", re.IGNORECASE | re.MULTILINE)  # answer
_STATED = re.compile(  # the answer is: 5
    rf"(?:{_ABROAD})[*_]{{0,3}}\s?(?:[*_]{{0,3}}\s?[:：=]|是|为|は|은|는|\b(?:est|es|ist|é|è)\b|هي|هو|है)?\s?[:：]?[*_\s]*"
    r"|(?:answer[*_]{0,3}(?: (?:to|for|of|in|as|we|I|that) [^.:\n]{1,80}?)?(?:, [^,.:\n]{1,40},)?\s?"
    r"(?:[*_]{0,3}\s?[:=]|\b(?:is|are|was|equals|(?:comes|turns) out to(?: be)?"
    r"|(?:would|must|should|will|has to)(?: then| therefore)? be)\b\s?:?)|####)[*_\s]*",
    re.IGNORECASE,
)
_HEADED = re.compile(r"answer[*_]{0,3}(?:\n|\s?(?=\$|\\[(\[]))", re.IGNORECASE)  # Answer $5$
_BEFORE_HEADING = re.compile(r"[#*_ ]*(?:(?:the|my|final|correct|short) )*", re.IGNORECASE)  # ## Final
_MAX_BEFORE_HEADING = 30
_FILLER = re.compile(  # therefore,
    r"(?:not \S{1,20},? but(?: rather)?|for sure|definitely|certainly"
    r"|indeed|therefore|thus|then|hence|simply|just|actually|exactly|clearly|now|also|so|still|in fact|of course"
    r"|equal to|given by|approximately|about|roughly)\b[,:]?[*_\s]*",
    re.IGNORECASE,
)
_SENTENCE = re.compile(  # the sum is 5
    r"(?:the|there|so|thus|hence|it|this) (?:.* )?(?:is|are|equals|be):? (.+)", re.IGNORECASE | re.DOTALL
)
_NO_STATEMENT = re.compile(  # clearly wrong
    r"(?:not|never)\b.*|(?:(?:quite|also|very|completely|absolutely|partly|probably|most likely) )?"
    r"(?:(?:in)?correct|right|wrong|(?:un)?clear|obvious|verified|confirmed|as follows|below|above|here|given|found"
    r"|obtained|expected|required|needed)\b[^\d$\\]*",
    re.IGNORECASE | re.DOTALL,
)
_MAX_MENTIONS = 200
_MAX_STATEMENT = 1000
_DELIMITED = re.compile(r"\$\$(.+?)\$\$|(?<!\\)\$(.+?)(?<!\\)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)  # $5$
_SENTENCE_END = re.compile(  # 5 because it is odd
    r"[.;!?](?=\s|$)|[。；，](?!\d)|\s?<\||, not (?=\S+$)"
    r"|,? (?:because|since|which|so|as|where|when|altogether|in total|instead|rather than"
    r"|and (?:we|this|that|it|not)) |,? (?:altogether|in total|instead)$",
)


def final_answer(text: str) -> str | None:
    """The last box that is closed and not empty, else the last stated answer, else None."""
    boxed = boxed_answer(text)
    if boxed is not None and _MENTION.search(boxed):
        return stated_answer(plain(boxed)) or boxed
    return boxed or stated_answer(text)


def tagged_answer(text: str) -> str | None:
    """What the last ``<answer>`` holds: where it states an answer in words, that is left to `stated_answer`."""
    start = text.lower().rfind("<answer>")
    tag = _TAG.match(text, start) if start >= 0 else None
    return tag[1].strip() if tag else None


def boxed_answer(text: str) -> str | None:
    """Content of the last ``\\boxed{}`` whose braces balance and that is not empty; ``\\boxed 5`` counts too.

    One pass over the text, whatever its braces look like. Of nested boxes the outermost counts; boxes with no more than
    a comma or an "and" between them are one list.
    """
    boxes: list[tuple[int, int, int]] = []  # [command, content, closing brace) of the closed boxes
    opened: list[tuple[int, int] | None] = []  # per open brace: the box that it opens, or None
    for match in _BRACES.finditer(text):
        token = match.group()
        if token == "{":
            opened.append(None)
        elif token == "}":
            box = opened.pop() if opened else None
            if box is not None:
                while boxes and boxes[-1][0] > box[0]:
                    boxes.pop()  # nested inside this one
                boxes.append((*box, match.start()))
        elif token.endswith("{") and len(token) > 2:
            opened.append((match.start(), match.end()))
    found = [(command, end + 1, _unboxed(text[content:end])) for command, content, end in boxes]
    found += [(match.start(), len(text), match.group(1).rstrip(".,;:")) for match in _BRACELESS.finditer(text)]
    found = [box for box in sorted(found) if box[2]]
    if not found:
        return None
    start, _, answer = found.pop()
    while found and _is_comma(text[found[-1][1] : start]) and found[-1][2] != answer:
        start, _, before = found.pop()
        answer = f"{before}, {answer}"
    return answer


def _is_comma(between: str) -> bool:
    return len(between) <= _MAX_BETWEEN and _BETWEEN.sub("", between) in {",", ";", "and", "or", ",and", ",or"}


def stated_answer(text: str) -> str | None:
    """What follows the last "the answer is", "Answer:" or ``####``, or the heading "Answer", to its sentence's end.

    What is said about an answer ("Your answer is correct") states none.
    """
    if (tagged := tagged_answer(text)) is not None:
        return (stated_answer(tagged) if _MENTION.search(tagged) else None) or _first_statement(tagged) or None
    for start in reversed([match.start() for match in _MENTION.finditer(text)][-_MAX_MENTIONS:]):
        lines = text[start : start + _MAX_STATEMENT].splitlines()
        window = "\n".join(filter(None, (" ".join(line.split()) for line in lines)))
        if (stated := _STATED.match(window) or (_is_heading(text, start) and _HEADED.match(window))) and (
            answer := _first_statement(window[stated.end() :])
        ):
            return answer
    return None


def _is_heading(text: str, start: int) -> bool:
    """Whether nothing but words like "Final" stands before the place in its line."""
    line = text.rfind("\n", max(0, start - _MAX_BEFORE_HEADING), start) + 1
    return (line > 0 or start < _MAX_BEFORE_HEADING) and _BEFORE_HEADING.fullmatch(text[line:start]) is not None


def _first_statement(rest: str) -> str:
    while filler := _FILLER.match(rest):
        rest = rest[filler.end() :]
    if delimited := _DELIMITED.match(rest):
        after = rest[delimited.end() :].partition("\n")[0].strip(" .*_")
        if not re.match(r"[\w\\(%^=<>]", after):
            return next(group for group in delimited.groups() if group).strip()
    line = rest.partition("\n")[0]
    end = _SENTENCE_END.search(line)
    statement = (line[: end.start()] if end else line).strip().strip("*_").strip()
    if sentence := _SENTENCE.fullmatch(statement):
        statement = sentence[1]
    is_cut_off = "\\boxed" in statement or "\\fbox" in statement  # a box that is closed was found before
    return "" if is_cut_off or _NO_STATEMENT.fullmatch(statement) else statement


def _unboxed(content: str) -> str:
    """The content without boxes of its own around a part of it."""
    return re.sub(r"\\(?:boxed|fbox)\s*\{((?:[^{}]|\{[^{}]*\})*)\}", r"\1", content).strip()
