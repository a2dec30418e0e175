"""What a verifier is asked and what it says."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple, Protocol, TypeVar

from eager_lmeval.errors import UsageError

__all__ = ["Graded", "Guarded", "Unavailable", "Verifier", "answer_classes"]

A = TypeVar("A")

_log = logging.getLogger(f"lm_eval.{__name__}")  # the harness shows the loggers below its own
_LONGEST_NOTE = 200


class Unavailable(RuntimeError):
    """The verifier cannot work on this machine, whatever the text: no verdict, and `Guarded` lets it pass."""


class Graded(NamedTuple):
    """One text against its document's label."""

    correct: bool
    answer: str | None
    """The extracted answer in its canonical form; None where there is none, and such a sequence does not vote."""
    answer_class: int | None
    """Number of the answer's equivalence class within the document, in order of first appearance."""
    timed_out: bool = False
    """A comparison or a program reached its limit and was killed, so ``correct`` is False for want of a result."""
    note: str = ""
    """What the numbers do not say: why a program failed, or that it ran without namespaces."""
    failed: bool = False
    """The verifier itself failed on this text, so ``correct`` is False for want of a result; the note says how."""


class Verifier(Protocol):
    name: str

    def grade(self, texts: Sequence[str | None], label: str | None) -> list[Graded]:
        """Grades all answer texts of one document; None stands for a sequence that was cut off while it thought.

        Without a label nothing is correct, and the answers' classes are all that is asked for. UsageError where the
        verifier cannot read the label, or needs one; an empty ``texts`` asks just that.
        """


class Guarded:
    """A verifier that no text can stop, around any verifier.

    Where the one inside raises, each text on which it raises is wrong, has no answer and is marked ``failed``; the
    other texts are graded as if that one had no answer. A label on which it raises is a UsageError. What says
    something about the machine and not about a text, `Unavailable` and ``OSError``, passes.
    """

    def __init__(self, verifier: Verifier) -> None:
        self.name = verifier.name
        self._verifier = verifier

    def grade(self, texts: Sequence[str | None], label: str | None) -> list[Graded]:
        try:
            return self._verifier.grade(texts, label)
        except (UsageError, Unavailable, OSError):
            raise
        except Exception:
            return self._graded_apart(texts, label)

    def _graded_apart(self, texts: Sequence[str | None], label: str | None) -> list[Graded]:
        if failure := self._failure([], label):
            raise UsageError(f"verifier={self.name}: the label {label!r:.200} cannot be read: {failure}")
        failures = [self._failure([text], label) for text in texts]
        readable = [None if failure else text for text, failure in zip(texts, failures, strict=True)]
        if together := self._failure(readable, label):
            failures = [
                failure or (together if text is not None else "") for text, failure in zip(texts, failures, strict=True)
            ]
            readable = [None] * len(texts)
        for failure in filter(None, failures):
            _warn_once(f"verifier={self.name} failed on an answer, which counts as wrong: {failure}")
        return [
            grade._replace(failed=True, note=failure) if failure else grade
            for grade, failure in zip(self._verifier.grade(readable, label), failures, strict=True)
        ]

    def _failure(self, texts: Sequence[str | None], label: str | None) -> str:
        """What the verifier raises on these texts, in short; "" where it grades them."""
        try:
            self._verifier.grade(texts, label)
        except (UsageError, Unavailable, OSError):
            raise
        except Exception as error:
            return f"{type(error).__name__}: {error}"[:_LONGEST_NOTE]
        return ""


@functools.cache
def _warn_once(message: str) -> None:
    _log.warning(message)


def answer_classes(
    answers: Sequence[A | None],
    correct: Sequence[bool],
    key: Callable[[A], Hashable | None],
    equal: Callable[[A, A], bool],
) -> list[int | None]:
    """Numbers the equivalence classes of one document's answers in order of first appearance; None stays None.

    All correct answers equal the label and therefore one another: they are one class, so a class is right as a whole
    or wrong as a whole. Any other answer is compared with the first member of each wrong class, at most once per class.
    Answers whose keys are both known and differ are unequal without a comparison.
    """
    numbers: list[int | None] = []
    right: int | None = None
    count = 0
    members: dict[Hashable, list[tuple[A, int]]] = {}  # first members of the wrong classes, by key
    for answer, is_correct in zip(answers, correct, strict=True):
        if answer is None:
            numbers.append(None)
            continue
        if is_correct:
            if right is None:
                right, count = count, count + 1
            numbers.append(right)
            continue
        its_key = key(answer)
        if its_key is None:
            candidates = [first for firsts in members.values() for first in firsts]
        else:
            candidates = [*members.get(its_key, ()), *members.get(None, ())]
        number = next((number for first, number in candidates if equal(first, answer)), None)
        if number is None:
            number, count = count, count + 1
            members.setdefault(its_key, []).append((answer, number))
        numbers.append(number)
    return numbers
