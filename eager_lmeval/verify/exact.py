"""`exact`: the whole text equals the label once runs of white space are one blank."""

from __future__ import annotations

from collections.abc import Sequence

from eager_lmeval.verify.base import Graded

__all__ = ["ExactVerifier"]


class ExactVerifier:
    """Right if the text equals the label after white space is normalised; an empty text is no answer."""

    name = "exact"

    def grade(self, texts: Sequence[str | None], label: str | None) -> list[Graded]:
        target = None if label is None else _normalised(label)
        classes: dict[str, int] = {}
        graded = []
        for text in texts:
            answer = _normalised(text or "")
            if not answer:
                graded.append(Graded(False, None, None))
                continue
            graded.append(Graded(answer == target, answer, classes.setdefault(answer, len(classes))))
        return graded


def _normalised(text: str) -> str:
    return " ".join(text.split())
