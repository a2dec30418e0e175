"""`choice`: the letter of an option, boxed or stated, or the option's own text."""

from __future__ import annotations

import functools
import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from eager_lmeval.errors import UsageError
from eager_lmeval.verify.base import Graded
from eager_lmeval.verify.extract import boxed_answer, stated_answer
from eager_lmeval.verify.latex import MAX_READ, plain
from eager_lmeval.verify.numbers import parse_quantity

__all__ = ["ChoiceVerifier"]

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_DEFAULT_LETTERS = _LETTERS[:10]

_BEFORE_CJK = re.compile(r"(?<=[A-Z])(?=[\u3040-\u9fff\uac00-\ud7af])")  # B입니다
_ALONE = re.compile(r"(?:(?:the )?(?:answer|option|choice|letter)\W{0,5})?([A-Z])", re.IGNORECASE)  # The answer: C
# (B) 5 apples
_LEADING = re.compile(r"\W{0,20}(?:(?:option|choice) )?(?:\( ?([A-Z]) ?\)|([A-Z]) ?(?:[.):]|\s-\s|$))", re.IGNORECASE)
_IN_PROSE = re.compile(r"\W{0,20}(?:(?i:option|choice) )?\(?([B-HJ-Z]|[AI](?! [a-z]))\b(?!['’])")  # option D
_ALTERNATIVE = re.compile(  # B or C
    r"(?:\W{0,3}(?:,|/|&|\bor\b|\band\b)\W{0,3}(?:option |choice )?[(*]{0,3}|\)? ?\()[A-HJ-Z]\b(?!['’])"
)
_LABEL = re.compile(r"(?<!\S)(?:\(([A-Z])\)|([A-Z])[.):])(?!\S)")  # (A) one
_LETTER = r"(?:(?i:option|choice|answer|letter|is) )?[(*]{0,3}\b([A-Z])\b(?!['’])[)*]{0,3}"
_NO_ARTICLE = r"(?!A (?!because|as|since|for)[a-z])"
_VERDICTS = (
    _LETTER + r"(?: \([^()\n]{1,80}\))?,? (?i:is|was|must be|would be|seems|fits)(?: (?i:indeed|also|clearly))?"
    r"(?: (?i:the|most|only|best|single)){0,3} (?i:(?:correct|right|true|best|answer|choice|option)\b|likely(?! \w))",
    r"(?i:choose|chose|pick|picked|select|selected|go with|going with|went with|opt for|settle on) "
    + _NO_ARTICLE
    + _LETTER,
    r"(?i:option|choice|selection|pick|one) ?(?i:is|:|must be|would be|should be):? " + _NO_ARTICLE + _LETTER,
    r"(?i:statement|statements|one|answer|option|choice|here|claim) (?i:is|:):? ([A-Z])[.)] (?=[A-Z0-9$])",
    r"(?i:not|n't) (?i:option )?\(?[A-Z]\)?,? but (?i:rather )?" + _LETTER,
    r"(?i:therefore|thus|hence|so|it is|it's|must be|has to be),? " + _LETTER + r"(?=[.!]?$)",
)
_VERDICT = re.compile("|".join(_VERDICTS))  # B is correct
_DENIAL = re.compile(r"\b(?:not|never|cannot|neither|nor|if)\b|n't\b", re.IGNORECASE)  # not
_CLAUSE = re.compile(r"[.;,]|\bbut\b")  # but
_REJECTED = re.compile(  # A is wrong
    r"\W{0,3} (?:(?:is|was|are|seems) (?:\w+ )?(?:not|never|incorrect|wrong|false|out|ruled|eliminated)\b|isn't)"
)
_MARKED = re.compile(r"\b(?i:option|choice) \(?([A-Z])\b|\(([A-Z])\)|\*\*\W{0,3}([A-Z])\W{0,3}\*\*")  # **C**
_SHORT = 200
_MAX_LINE = 1000


class _Label(NamedTuple):
    letter: str
    letters: str
    """The letters that are an answer to this question."""
    options: dict[str, str]
    """Normalised option text to letter; texts that occur twice point nowhere."""


_ANY_LETTER = _Label("", _DEFAULT_LETTERS, {})
"""What a vote without a label goes by: the letters alone, because only a label knows the options' texts."""


class ChoiceVerifier:
    """Right if the text chooses the label's letter.

    The label is a letter, or a JSON object ``{"answer": "B", "options": ["first", "second"]}``; options may be keyed
    by letter, and the answer may be an option's text. With options, an answer given as the text of one of them counts
    as its letter. What names no option is no answer and does not vote.
    """

    name = "choice"

    def grade(self, texts: Sequence[str | None], label: str | None) -> list[Graded]:
        target = _ANY_LETTER if label is None else _read_label(label)
        classes: dict[str, int] = {}
        graded = []
        for text in texts:
            letter = None if text is None else chosen_letter(text, target)
            if letter is None:
                graded.append(Graded(False, None, None))
                continue
            graded.append(Graded(letter == target.letter, letter, classes.setdefault(letter, len(classes))))
        return graded


@functools.lru_cache(maxsize=1024)
def _read_label(label: str) -> _Label:
    bare = label.strip().strip("().").upper()
    if len(bare) == 1 and bare in _LETTERS:
        return _Label(bare, _DEFAULT_LETTERS if bare in _DEFAULT_LETTERS else _LETTERS, {})
    try:
        parsed = json.loads(label)
        texts, answer = parsed["options"], str(parsed["answer"])
        by_letter = (
            {str(letter).upper(): str(text) for letter, text in texts.items()}
            if isinstance(texts, Mapping)
            else dict(zip(_LETTERS, map(str, texts), strict=False))
        )
    except (ValueError, TypeError, KeyError) as error:
        raise UsageError(
            f"verifier=choice: the label {label!r:.200} is neither a letter nor a JSON object with `answer` and "
            f'`options`, such as {{"answer": "B", "options": ["first", "second"]}}'
        ) from error
    options: dict[str, str] = {}
    for letter, text in by_letter.items():
        key = _option_key(text)
        options[key] = "" if key in options else letter
    letter = answer.strip().upper() if answer.strip().upper() in by_letter else options.get(_option_key(answer), "")
    if not letter:
        raise UsageError(f"verifier=choice: the answer {answer!r:.200} is none of the options {by_letter!s:.500}")
    return _Label(letter, "".join(by_letter), options)


def chosen_letter(text: str, label: _Label) -> str | None:
    """The letter that a text chooses: boxed, else stated, else in its last lines judged right, else marked alone.

    A list of options, such as a text that repeats the question's, chooses none; nor do two letters side by side.
    """
    if (boxed := boxed_answer(text)) is not None and (letter := _named(boxed, _LEADING, label)):
        return letter
    stated = stated_answer(text)
    if (
        stated is not None
        and not _is_list(text[text.rfind(stated) :][:_MAX_LINE])
        and (letter := _named(stated, _IN_PROSE, label))
    ):
        return letter
    lines = [" ".join(line[-_MAX_LINE:].split()) for line in text[-3 * _MAX_LINE :].strip().splitlines()]
    ending = lines[-3:]
    for line in reversed(ending):
        if judged := [letter for letter in _judged(line) if letter in label.letters]:
            return judged[-1]
    if _is_list("\n".join(lines)):
        ending = [line for line in ending if not _LABEL.match(line)]
    elif (len(text) <= _SHORT and (letter := _named(text, _LEADING, label))) or (
        ending and (last := _LABEL.match(ending[-1])) and (letter := last[1] or last[2]) in label.letters
    ):
        return letter
    for line in reversed(ending):
        marked = {letter for letter in _marked(line) if letter in label.letters}
        if marked:
            return marked.pop() if len(marked) == 1 else None
    return None


def _judged(line: str) -> Iterator[str]:
    """The letters that a line says are right, in order."""
    for match in _VERDICT.finditer(line):
        if not _is_denied(line, match.start()):
            yield next(filter(None, match.groups()))


def _marked(line: str) -> Iterator[str]:
    """The letters that a line singles out and does not reject."""
    if alone := _ALONE.fullmatch(_bare(line)):
        yield alone[1].upper()
    for match in _MARKED.finditer(line):
        if not _is_denied(line, match.start()) and not _REJECTED.match(line, match.end()):
            yield next(filter(None, match.groups()))


def _is_denied(line: str, place: int) -> bool:
    """Whether the clause before the place takes back what follows it."""
    return _DENIAL.search(_CLAUSE.split(line[max(0, place - 40) : place])[-1]) is not None


def _is_list(text: str) -> bool:
    """Whether neighbouring letters, such as A and B, label things one after the other."""
    letters = [ord(first or other) for first, other in _LABEL.findall(text)]
    return any(other == first + 1 for first, other in itertools.pairwise(letters))


def _named(written: str, letter_in: re.Pattern[str], label: _Label) -> str | None:
    spelled = _BEFORE_CJK.sub(" ", plain(written))
    if len(spelled) > MAX_READ or _is_list(spelled):
        return None
    alone = _ALONE.fullmatch(_bare(spelled))
    if alone and (alone[1] in label.letters or len(label.options) == 0):
        return alone[1].upper() if alone[1].upper() in label.letters else None
    if option := label.options.get(_option_key(written)):
        return option
    match = alone or _LEADING.match(spelled) or letter_in.match(spelled)
    if match is None or _ALTERNATIVE.match(spelled, match.end()):
        return None
    letter = next((str(group).upper() for group in match.groups() if group), "")
    return letter if letter and letter in label.letters else None


def _bare(text: str) -> str:
    """The text from its first letter or digit to its last."""
    places = [place for place, character in enumerate(text) if character.isalnum()]
    return text[places[0] : places[-1] + 1] if places else ""


def _option_key(text: str) -> str:
    """Equal for two spellings of one option: by value where it is a number, else by its words."""
    spelled = plain(text)
    quantity = parse_quantity(spelled)
    if quantity is not None:
        return str(quantity)
    return re.sub(r"[\W_]+", " ", spelled.casefold()).strip() or spelled
