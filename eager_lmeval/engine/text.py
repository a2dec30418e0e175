"""When a sequence ends, and which text it stands for: EOS, stop strings across token boundaries, limits, thinking."""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Sequence as Seq
from typing import Protocol

from eager_lmeval.algorithm.tree import Prompt, Sequence
from eager_lmeval.engine.thinking import Thinking

__all__ = ["TextStopper", "Tokenizer"]


class Tokenizer(Protocol):
    """The part of a transformers tokenizer that is used here."""

    def decode(self, token_ids: Seq[int], skip_special_tokens: bool = ...) -> str: ...


class TextStopper:
    """Ends sequences of one pool.

    A stop string counts only in what follows the thinking part, and is cut off the text together with all that
    follows it. To see one that spans tokens, the tail is decoded, but only when the newest token could have completed
    a stop string: when what it adds holds the last character of one.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        eos_ids: Collection[int],
        stop_strings: Seq[str] = (),
        thinking: Thinking | None = None,
    ) -> None:
        self._tokenizer = tokenizer
        self._eos_ids = frozenset(eos_ids)
        self._stop_strings = [stop for stop in stop_strings if stop]
        self._last_characters = {stop[-1] for stop in self._stop_strings} | {"\N{REPLACEMENT CHARACTER}"}
        # A token adds at least one byte unless it is special, so this many tokens hold the longest stop string.
        self._tail_tokens = max((len(stop.encode()) for stop in self._stop_strings), default=0) + 8
        self._thinking = thinking
        self._may_complete: dict[int, bool] = {}

    def begin(self, prompt: Prompt, root: Sequence) -> None:
        root.answer_from = None if self._thinking and self._thinking.open_after(prompt.context) else 0

    def observe(self, prompt: Prompt, sequence: Sequence) -> None:
        self._follow_thinking(sequence)
        stop_at = None
        if sequence.tokens[-1] in self._eos_ids or (stop_at := self._stop_string_at(sequence)) is not None:
            sequence.finish = "stop"
        elif len(sequence.tokens) >= prompt.max_new_tokens:
            sequence.finish = "length"
        if sequence.finish is not None:
            self._set_text(sequence, stop_at)

    def cut(self, sequence: Sequence) -> None:
        sequence.finish = "cut"
        sequence.text = self._decode(sequence.tokens)
        sequence.answer_from = sequence.answer_at = None
        sequence.thought_ended = False

    def _follow_thinking(self, sequence: Sequence) -> None:
        if self._thinking is None:
            return
        if _ends_with(sequence.tokens, self._thinking.end_ids):
            sequence.thought_ended = True
            sequence.answer_from = len(sequence.tokens)
        elif self._thinking.start_ids and _ends_with(sequence.tokens, self._thinking.start_ids):
            sequence.answer_from = None

    def _stop_string_at(self, sequence: Sequence) -> int | None:
        """Place of the earliest stop string in the text after the thinking part, if there is one."""
        answer_from = sequence.answer_from
        if not self._stop_strings or answer_from is None or not self._completes(sequence.tokens[-1]):
            return None
        tail_from = max(answer_from, len(sequence.tokens) - self._tail_tokens)
        if self._earliest_stop(self._decode(sequence.tokens[tail_from:])) is None:
            return None
        return self._earliest_stop(self._decode(sequence.tokens[answer_from:]))

    def _completes(self, token: int) -> bool:
        """Whether a token can complete a stop string: by the text that it adds after another token."""
        if token not in self._may_complete:
            alone = self._tokenizer.decode([token], skip_special_tokens=True)
            twice = self._tokenizer.decode([token, token], skip_special_tokens=True)
            # Some tokenizers strip a leading space: the second of two equal tokens shows it.
            self._may_complete[token] = any(
                character in self._last_characters for character in {*alone, *twice[len(alone) :]}
            )
        return self._may_complete[token]

    def _earliest_stop(self, text: str) -> int | None:
        return min((place for stop in self._stop_strings if (place := text.find(stop)) >= 0), default=None)

    def _set_text(self, sequence: Sequence, stop_at: int | None) -> None:
        if not sequence.answer_from:
            sequence.text = self._decode(sequence.tokens)[:stop_at]
            sequence.answer_at = sequence.answer_from
            return
        answer, whole = self._decode(sequence.tokens[sequence.answer_from :]), self._decode(sequence.tokens)
        if not whole.endswith(answer):
            whole = self._decode(sequence.tokens[: sequence.answer_from]) + answer
        sequence.answer_at = len(whole) - len(answer)
        sequence.text = whole if stop_at is None else whole[: sequence.answer_at + stop_at]

    def _decode(self, tokens: Seq[int]) -> str:
        return self._tokenizer.decode(tokens, skip_special_tokens=True)


def _ends_with(tokens: Seq[int], marker: Seq[int]) -> bool:
    return tokens[-1] == marker[-1] and tuple(tokens[-len(marker) :]) == tuple(marker)
