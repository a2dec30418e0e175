"""When a sequence ends, and which text it stands for: EOS, stop strings across token boundaries, limits, thinking."""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Sequence as Seq
from typing import Protocol

from eager_lmeval.algorithm.tree import Prompt, Sequence
from eager_lmeval.engine.thinking import Thinking

__all__ = ["TextStopper", "Tokenizer"]


_UNFINISHED = "\N{REPLACEMENT CHARACTER}"


class Tokenizer(Protocol):
    """The part of a transformers tokenizer that is used here."""

    def decode(self, token_ids: Seq[int], skip_special_tokens: bool = ...) -> str: ...


class TextStopper:
    """Ends sequences of one pool.

    A stop string counts only in what follows the thinking part, and is cut off the text together with all that
    follows it. It may name special tokens, which the text itself leaves out, as the harness's models have it. To see
    one that spans tokens, the tail is decoded, but only when the newest token could have completed a stop string: when
    what it adds holds the last character of one. The markers of the thinking part are found in the same way, in
    whichever tokens they are spelled.
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
        self._stop_tokens = max(map(_tail_tokens, self._stop_strings), default=0)
        self._stop_ends = frozenset(stop[-1] for stop in self._stop_strings)
        self._thinking = thinking
        self._added: dict[int, frozenset[str]] = {}

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
        if self._just_said(sequence.tokens, self._thinking.end, self._thinking.end_ids):
            sequence.thought_ended = True
            sequence.answer_from = len(sequence.tokens)
        elif self._just_said(sequence.tokens, self._thinking.start, self._thinking.start_ids):
            sequence.answer_from = None

    def _just_said(self, tokens: Seq[int], marker: str, marker_ids: Seq[int]) -> bool:
        """Whether the newest token completed a marker: with its own tokens, or with any others that spell it."""
        if not marker:
            return False
        if _ends_with(tokens, marker_ids):
            return True
        if not self._adds_one_of(tokens[-1], frozenset(marker[-1])):
            return False
        tail = tokens[-_tail_tokens(marker) :]
        place = self._spell(tail).rfind(marker)
        return place >= 0 and place + len(marker) > len(self._spell(tail[:-1]))

    def _stop_string_at(self, sequence: Sequence) -> int | None:
        """Characters of the answer before the earliest stop string in it, if there is one."""
        if not self._stop_strings or sequence.answer_from is None:
            return None
        if not self._adds_one_of(sequence.tokens[-1], self._stop_ends):
            return None
        tail_from = len(sequence.tokens) - self._stop_tokens
        tail = sequence.tokens[max(sequence.answer_from, tail_from) :]
        rest = self._rest_of_marker(sequence) if tail_from <= sequence.answer_from else ""
        if self._earliest_stop(rest + self._decode(tail)) is None and self._earliest_stop(self._spell(tail)) is None:
            return None
        own, rest = sequence.tokens[sequence.answer_from :], self._rest_of_marker(sequence)
        if (at := self._earliest_stop(rest + self._decode(own))) is not None:
            return at
        spelled = rest + self._spell(own)
        at = self._earliest_stop(spelled)
        return None if at is None else self._without_special(own, rest, spelled[:at])

    def _without_special(self, tokens: Seq[int], rest: str, before: str) -> int:
        """How many characters of the answer's text stand before a stop string with special tokens in it."""
        number = next(n for n in range(len(tokens), -1, -1) if len(rest + self._spell(tokens[:n])) <= len(before))
        within = before[len(rest + self._spell(tokens[:number])) :]
        return len(rest + self._decode(tokens[:number])) + len(within)

    def _rest_of_marker(self, sequence: Sequence) -> str:
        """What the token that completed the end-of-thinking marker says behind it, such as a line's end."""
        head = sequence.tokens[: sequence.answer_from]
        if not head or self._thinking is None or _ends_with(head, self._thinking.end_ids):
            return ""
        return self._spell(head[-_tail_tokens(self._thinking.end) :]).rpartition(self._thinking.end)[2]

    def _adds_one_of(self, token: int, characters: frozenset[str]) -> bool:
        """Whether what a token adds after another one holds one of the characters, or a part of any."""
        if token not in self._added:
            alone, twice = self._spell([token]), self._spell([token, token])
            # Some tokenizers strip a leading space: the second of two equal tokens shows it.
            self._added[token] = frozenset(alone + twice[len(alone) :])
        return _UNFINISHED in self._added[token] or not characters.isdisjoint(self._added[token])

    def _earliest_stop(self, text: str) -> int | None:
        return min((place for stop in self._stop_strings if (place := text.find(stop)) >= 0), default=None)

    def _set_text(self, sequence: Sequence, stop_at: int | None) -> None:
        if not sequence.answer_from:
            sequence.text = self._decode(sequence.tokens)[:stop_at]
            sequence.answer_at = sequence.answer_from
            return
        rest, whole = self._rest_of_marker(sequence), self._decode(sequence.tokens)
        answer = rest + self._decode(sequence.tokens[sequence.answer_from :])
        if not whole.endswith(answer):
            head = self._decode(sequence.tokens[: sequence.answer_from])
            whole = head[: len(head) - len(rest)] + answer
        sequence.answer_at = len(whole) - len(answer)
        sequence.text = whole if stop_at is None else whole[: sequence.answer_at + stop_at]

    def _decode(self, tokens: Seq[int]) -> str:
        return self._tokenizer.decode(tokens, skip_special_tokens=True)

    def _spell(self, tokens: Seq[int]) -> str:
        """With special tokens."""
        return self._tokenizer.decode(tokens, skip_special_tokens=False)


def _tail_tokens(text: str) -> int:
    """A token adds at least one byte, so this many tokens hold a text, and some that begin in a character."""
    return len(text.encode()) + 8


def _ends_with(tokens: Seq[int], marker: Seq[int]) -> bool:
    return bool(marker) and tokens[-1] == marker[-1] and tuple(tokens[-len(marker) :]) == tuple(marker)
