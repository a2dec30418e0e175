"""What of a prompt is the question: the part between the marks of its chat template that the document wrote."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

__all__ = ["Question", "find_question"]

_TITLE = 160
_LEAST = 8
"""Characters of a document's text from which it is taken for the question where it stands in the prompt."""
_MARKS = re.compile(
    r"(?:<\|[^|<>\n]{1,40}\|>|<｜[^｜<>\n]{1,40}｜>|<(?:start|end)_of_turn>|\[/?INST\]|</?s>|<(?:bos|eos)>"
    r"|(?<=\|>)(?:system|user|assistant|developer)(?=\n|<)|(?<=turn>)(?:user|model)(?=\n)|\s)+"
)
"""A run of marks of chat templates, the names of the roles in them, and space."""
_OPENING = re.compile(r"\s*(?:assistant|model|<think>)?\s*(?:<think>\s*(?:</think>)?)?\s*")
_MARK = re.compile(r"[<\[]")


class Question(NamedTuple):
    """Where in a prompt the question stands, and what it is called in a list."""

    start: int
    end: int
    title: str


def find_question(prompt: str, document: object) -> Question:
    """The last turn of the prompt that holds words, from where the longest text of ``document`` begins in it.

    ``document`` is the row of the dataset. A prompt that quotes none of it is a question from where its turn begins;
    a prompt without marks is one turn.
    """
    start, end = _last_turn(prompt)
    quoted = [text for text in _texts(document) if len(text) >= _LEAST and prompt.find(text, start, end) >= 0]
    if not quoted:
        return Question(start, end, _one_line(prompt[start:end]))
    longest = max(quoted, key=len)
    return Question(prompt.rfind(longest, start, end), end, _one_line(longest))


def _last_turn(prompt: str) -> tuple[int, int]:
    turns, begin = [], 0
    for mark in _MARKS.finditer(prompt):
        if _MARK.search(mark[0]):
            turns.append((begin, mark.start()))
            begin = mark.end()
    turns.append((begin, len(prompt)))
    spoken = [(start, end) for start, end in turns if prompt[start:end].strip()]
    if len(spoken) > 1 and spoken[-1][0] and _OPENING.fullmatch(prompt[slice(*spoken[-1])]):
        spoken.pop()  # what a template lets the answer begin with
    return spoken[-1] if spoken else (0, len(prompt))


def _texts(document: object) -> Iterator[str]:
    """All texts in a row of a dataset, but for what the project's own column holds."""
    if isinstance(document, str):
        yield document.strip()
    elif isinstance(document, Mapping):
        for name, value in document.items():
            if name != "eager":
                yield from _texts(value)
    elif isinstance(document, Sequence):
        for value in document:
            yield from _texts(value)


def _one_line(text: str) -> str:
    return " ".join(text.split())[:_TITLE]
