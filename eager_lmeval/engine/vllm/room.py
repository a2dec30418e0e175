"""How many sequences begin on vLLM: as many as it decodes at once, while there is memory for what they will need."""

from __future__ import annotations

from collections.abc import Collection

from eager_lmeval.algorithm.gate import GateSettings
from eager_lmeval.algorithm.growth import Run
from eager_lmeval.algorithm.tree import Sequence
from eager_lmeval.engine.vllm.requests import Stream, Tenant

__all__ = ["Room"]


class Room:
    """Of ``sequences``, and of ``tokens`` whose keys and values vLLM keeps; a shared prompt counts once.

    No sequence begins for which there would be no memory if all were as long as sequences have come to be on average.
    Where they become longer than that, vLLM puts the youngest prompts' off, and computes their tokens again.
    """

    def __init__(self, sequences: int, tokens: float) -> None:
        self._sequences = sequences
        self._tokens = tokens
        self._ended = self._ended_tokens = 0
        self._left: float = 0
        self._tokens_left: float = 0
        self._average = 0.0

    def count_ended(self, sequence: Sequence) -> None:
        self._ended += 1
        self._ended_tokens += sequence.own_tokens

    def look(self, tenants: Collection[Tenant], step: int) -> None:
        """Reckons what these take, which have come so far in a step; what `take` gives is what is left."""
        lengths = [_length(stream, step) for tenant in tenants for stream in tenant.streams.values()]
        self._average = (self._ended_tokens + sum(lengths)) / max(1, self._ended + len(lengths))
        reserved = sum(map(_reserved, tenants))
        prompts = sum(len(tenant.growth.run.prompt.token_ids) for tenant in tenants)
        grown = sum(max(length, self._average) for length in lengths)
        self._left = self._sequences - reserved
        self._tokens_left = self._tokens - prompts - grown - (reserved - len(lengths)) * self._average

    def take(self, sequences: int, prompt_tokens: int = 0) -> bool:
        """Room for so many more, and for their prompt, if there is."""
        needed = prompt_tokens + sequences * self._average
        if sequences > self._left or needed > self._tokens_left:
            return False
        self._left -= sequences
        self._tokens_left -= needed
        return True


def most_sequences(run: Run) -> int:
    """Sequences of a run that room is kept for when it begins."""
    return run.branching.cap if isinstance(run.branching, GateSettings) else 1


def _reserved(tenant: Tenant) -> int:
    """Places that a prompt's sequences take, behind an open gate those of all that it may have."""
    growth = tenant.growth
    kept = most_sequences(growth.run) if growth.lockstep and not growth.closed else 0
    return max(kept, len(tenant.streams))


def _length(stream: Stream, step: int) -> int:
    """Tokens that a sequence has at most decoded itself, those included that nobody has been told of yet."""
    told = len(stream.ahead) + len(stream.drawn)
    return stream.sequence.own_tokens + told + (0 if stream.ended else step - stream.reported)
