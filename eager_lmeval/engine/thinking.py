"""Finding a model's thinking markers in its tokenizer."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from eager_lmeval.errors import UsageError

__all__ = ["Thinking", "find_thinking"]

COMMON_END = "</think>"


@dataclass(frozen=True)
class Thinking:
    """The markers around a model's thinking part, as text and token ids.

    ``start`` and ``start_ids`` are empty for a marker whose opening is unknown: such a model is taken to think from
    its first token on.
    """

    end: str
    end_ids: tuple[int, ...]
    start: str = ""
    start_ids: tuple[int, ...] = ()

    def open_after(self, context: str) -> bool:
        """Whether a sequence that follows this context begins inside the thinking part.

        A chat template opens it at the very end of a prompt; a question that mentions the marker opens nothing.
        """
        return not self.start or context.rstrip().endswith(self.start)


def find_thinking(tokenizer: Any, marker: str | int | None) -> Thinking | None:
    """The markers of a transformers tokenizer for the option `think_end_token`; None for a model without thinking.

    ``auto`` takes ``</think>`` where the vocabulary has it as one token. The opening marker of ``</x>`` is ``<x>``.
    """
    if marker is None:
        return None
    if marker == "auto":
        if COMMON_END not in tokenizer.get_vocab():
            return None
        marker = COMMON_END
    if isinstance(marker, int) or marker.isdigit():
        end_ids: tuple[int, ...] = (int(marker),)
        if not 0 <= int(marker) < len(tokenizer):
            last = len(tokenizer) - 1
            raise UsageError(f"think_end_token={marker} is no token id of this model; ids are 0 to {last}")
        end = tokenizer.decode(list(end_ids), skip_special_tokens=False)
    else:
        end, end_ids = marker, _ids(tokenizer, marker)
    start = re.sub(r"^</(\w+)>$", r"<\1>", end)
    if start == end:
        return Thinking(end, end_ids)
    return Thinking(end, end_ids, start, _ids(tokenizer, start))


def _ids(tokenizer: Any, text: str) -> tuple[int, ...]:
    vocabulary = tokenizer.get_vocab()
    if text in vocabulary:
        return (vocabulary[text],)
    ids = tuple(tokenizer.encode(text, add_special_tokens=False))
    if not ids:
        raise UsageError(f"think_end_token={text!r} has no tokens in this model's vocabulary")
    return ids
