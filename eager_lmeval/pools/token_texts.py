"""Which part of a sequence's text each of its tokens wrote, for those who show entropy by text."""

from __future__ import annotations

from collections.abc import Sequence as Seq

from eager_lmeval.algorithm.tree import Sequence
from eager_lmeval.engine.text import Tokenizer

__all__ = ["TokenTexts"]

_UNFINISHED = "\N{REPLACEMENT CHARACTER}"
_MOST_TOGETHER = 8
"""Tokens that may write a character together: byte-level vocabularies need four, and normalizers some more."""


class TokenTexts:
    """Tells for one tokenizer. What a token adds is looked up once; only characters of several tokens are decoded."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._added: dict[int, str] = {}

    def lengths(self, sequence: Sequence) -> list[int] | None:
        """Characters of ``sequence.text`` that each token from its fork on wrote; their sum reaches the text's end.

        Of several tokens that write one character, the first has all of it. A token that is skipped, or that a stop
        string cut off, has 0. None where the tokens do not spell the text out one after another.
        """
        tokens, text = sequence.tokens, sequence.text
        whole = self._decode(tokens)
        if not whole.startswith(text):
            return None
        ends: list[int] = []
        end = begun = 0
        while len(ends) < len(tokens):
            step = self._step(tokens, begun, len(ends), whole, end)
            if step is None:
                return None
            number, length = step
            begun = len(ends)
            end += length
            ends += [end] * number
        if end != len(whole):
            return None
        cut = [0, *(min(end, len(text)) for end in ends)]
        return [cut[place + 1] - cut[place] for place in range(sequence.own_from, len(tokens))]

    def _step(self, tokens: Seq[int], before: int, place: int, whole: str, at: int) -> tuple[int, int] | None:
        """How many tokens from ``place`` on write the next characters, which begin ``at``, and how many these are.

        Those from ``before`` on wrote the characters in front of them.
        """
        added = self._adds(tokens[place])
        if place and _UNFINISHED not in added and whole.startswith(added, at):
            return 1, len(added)
        for number in range(1, min(_MOST_TOGETHER, len(tokens) - place) + 1):
            together = self._adds_after(tokens, before, place, number)
            if whole.startswith(together, at):
                # What is no character at all may be of several tokens too.
                while (
                    _UNFINISHED in together
                    and place + number < len(tokens)
                    and self._adds_after(tokens, before, place, number + 1) == together
                ):
                    number += 1  # noqa: PLW2901 - the loop ends here
                return number, len(together)
        return None

    def _adds(self, token: int) -> str:
        """What a token adds behind another one: some tokenizers strip a space where a text begins."""
        if token not in self._added:
            alone = self._decode([token])
            self._added[token] = self._decode([token, token])[len(alone) :]
        return self._added[token]

    def _adds_after(self, tokens: Seq[int], before: int, place: int, number: int) -> str:
        return self._decode(tokens[before : place + number])[len(self._decode(tokens[before:place])) :]

    def _decode(self, tokens: Seq[int]) -> str:
        return self._tokenizer.decode(tokens, skip_special_tokens=True)
