"""`math`: exact integers and rationals first, then structure, then computer algebra in a process that can be killed."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from eager_lmeval.errors import UsageError
from eager_lmeval.verify.base import Graded, answer_classes
from eager_lmeval.verify.extract import final_answer
from eager_lmeval.verify.latex import plain
from eager_lmeval.verify.numbers import parse_quantity
from eager_lmeval.verify.structure import Answer, equal_answers, parse_answer
from eager_lmeval.verify.symbolic import SymbolicWorker

__all__ = ["MathVerifier"]

_BARE_LENGTH = 100


class MathVerifier:
    """Right if the text's answer equals the label as mathematics.

    The answer is the content of the last ``\\boxed{}``, else what is stated as the answer, else the whole text where
    that alone is a number. ``limit_s`` bounds the CPU seconds of computer algebra in each comparison, a list's items
    together; one that passes it is killed, and its answer is not correct, a class of its own and marked ``timed_out``.
    What makes computer algebra fail is not correct and marked ``failed``.
    """

    name = "math"

    def __init__(self, limit_s: float = 5.0) -> None:
        self._worker = SymbolicWorker(limit_s)

    def grade(self, texts: Sequence[str | None], label: str | None) -> list[Graded]:
        gold = None if label is None else _parse_label(label)
        read: dict[str, Answer] = {}
        answers: list[Answer | None] = []
        for text in texts:
            written = None if text is None else extract_answer(text)
            if written is not None and written not in read:
                read[written] = parse_answer(written)
            answers.append(None if written is None else read[written])
        session = _Session(self._worker)
        correct = [gold is not None and answer is not None and session.equal(gold, answer) for answer in answers]
        classes = answer_classes(answers, correct, lambda answer: answer.key, session.equal)
        return [
            Graded(right, None if answer is None else answer.canonical, number, *session.remarks(answer))
            for answer, right, number in zip(answers, correct, classes, strict=True)
        ]

    def close(self) -> None:
        self._worker.close()


class _Session:
    """The comparisons of one document: each pair once, and none with an answer that has hung before."""

    def __init__(self, worker: SymbolicWorker) -> None:
        self._worker = worker
        self._known: dict[tuple[Answer, Answer], bool] = {}
        self._hung: set[str] = set()
        self._notes: dict[str, str] = {}

    def remarks(self, answer: Answer | None) -> tuple[bool, str, bool]:
        """Whether a comparison with the answer hung, what its comparisons had to say, and whether one failed."""
        if answer is None:
            return False, "", False
        hung, note = answer.text in self._hung, self._notes.get(answer.text, "")
        return hung, note, bool(note) and not hung

    def equal(self, gold: Answer, answer: Answer) -> bool:
        pair = (gold, answer)
        if pair not in self._known:
            self._known[pair] = self._compare(gold, answer)
        return self._known[pair]

    def _compare(self, gold: Answer, answer: Answer) -> bool:
        left_s = self._worker.limit_s

        def symbolic(expected: str, given: str) -> bool:
            nonlocal left_s
            if not self._hung.isdisjoint((gold.text, answer.text)):
                return False
            if left_s <= 0:
                self._hung.add(answer.text)
                self._notes.setdefault(answer.text, f"comparison ended after {self._worker.limit_s:g} s")
                return False
            outcome = self._worker.compare(expected, given)
            left_s -= outcome.cpu_s
            if outcome.note:
                self._notes.setdefault(answer.text, outcome.note)
            if outcome.timed_out:
                self._hung.add(answer.text)
            return outcome.equal

        return equal_answers(gold, answer, symbolic)


@functools.lru_cache(maxsize=1024)
def _parse_label(label: str) -> Answer:
    """The label's answer: a whole solution may be given, then what it boxes or states counts."""
    target = final_answer(label) or ("" if "\\boxed" in label else label)
    if not plain(target):
        raise UsageError(f"verifier=math: the label {label!r:.200} holds no answer to compare with")
    return parse_answer(target)


def extract_answer(text: str) -> str | None:
    """The answer as it is written in the text; None where there is none."""
    if (stated := final_answer(text)) is not None:
        return stated if plain(stated) else None
    bare = text.strip()
    return bare if 0 < len(bare) <= _BARE_LENGTH and parse_quantity(plain(bare)) is not None else None
