"""A scripted model behind the engine's own loop: slots hold tokens instead of keys and values.

Prompts are written in negative token ids, so that what a row has generated can be told from its prompt.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from eager_lmeval.algorithm.options import Options
from eager_lmeval.algorithm.readout import Readout
from eager_lmeval.algorithm.streams import uniforms
from eager_lmeval.algorithm.tree import Prompt
from eager_lmeval.engine.loop import Engine
from eager_lmeval.engine.runner import OutOfMemory, Prefix, Slot, length_class
from eager_lmeval.engine.sampling import Sampling, read
from eager_lmeval.engine.text import TextStopper, Thinking

EOS = 0
END_OF_THINKING = "</think>"

Model = Callable[[Seq[int], Seq[int]], Seq[float]]
"""(prompt, generated) -> logits of the next token, one a vocabulary entry."""


@dataclass(frozen=True)
class Script:
    """The scripted model of the golden trees: logits are drawn by what was generated last."""

    salt: str
    vocab: int
    scale: float
    eos_bias: float

    def logits(self, generated: Seq[int]) -> NDArray[np.float64]:
        tail = [len(generated) % 7, *generated[-3:]]
        name = json.dumps([self.salt, tail], ensure_ascii=False, separators=(",", ":"))
        key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
        draws = uniforms(np.full(self.vocab, key, dtype=np.uint64), np.arange(self.vocab, dtype=np.uint64))
        logits = self.scale * (2 * draws - 1)
        logits[EOS] += self.eos_bias
        return logits

    def __call__(self, prompt: Seq[int], generated: Seq[int]) -> NDArray[np.float64]:
        return self.logits(generated)


@dataclass(frozen=True)
class PromptScript:
    """A script for pools: each prompt has its own logits, and its length says how long its sequences tend to be."""

    vocab: int = 24
    scale: float = 3.0
    eos_bias: float = 0.0

    def __call__(self, prompt: Seq[int], generated: Seq[int]) -> NDArray[np.float64]:
        script = Script(salt=json.dumps(list(prompt)), vocab=self.vocab, scale=self.scale, eos_bias=self.eos_bias)
        return script.logits(generated)


class Decode(NamedTuple):
    """What one call of `decode` was given."""

    rows: int
    fresh: int
    limit: int


@dataclass
class ScriptedRunner:
    """Implements `engine.runner.Runner`. What a slot was not given is stale, and reading it is an error.

    ``positions`` is what all slots together may have. ``memory`` is told the name of each call that may run out of
    memory and may raise OutOfMemory there.
    """

    model: Model
    memory: Callable[[str], None] = lambda call: None
    dtype: torch.dtype = torch.float64
    positions: int | None = None
    prefilled: list[list[int]] = field(default_factory=list)
    decodes: list[Decode] = field(default_factory=list)
    _slots: dict[int, list[list[int | None]]] = field(default_factory=dict)
    """By length class."""

    @property
    def slots(self) -> Counter[int]:
        return Counter({of_class: len(slots) for of_class, slots in self._slots.items()})

    def prefill(self, prompts: list[list[int]]) -> list[Prefix]:
        self.memory("prefill")
        self.prefilled += prompts
        return [Prefix(snapshot=list(prompt), logits=self._logits(prompt)) for prompt in prompts]

    def copy(self, moves: Seq[tuple[Slot, Slot]], length: int) -> None:
        sources, destinations = {source for source, _ in moves}, [destination for _, destination in moves]
        assert not sources & set(destinations), "a slot is read and written by one copy"
        assert len(set(destinations)) == len(destinations), "two rows are copied to one slot"
        assert len({slot.length_class for slot in (*sources, *destinations)}) == 1, "a copy is within one class"
        for source, destination in moves:
            self._slot(destination)[:length] = self._slot(source)[:length]

    def _slot(self, slot: Slot) -> list[int | None]:
        return self._slots[slot.length_class][slot.place]

    def park(self, slot: Slot, length: int) -> list[int | None]:
        return self._slot(slot)[:length]

    def reserve(self, needs: Seq[int], limit: int) -> None:
        """Slots exactly as long as the longest row of their class, and no more than there is room for."""
        wanted = _by_class(needs)
        held = {of_class: (len(slots), len(slots[0])) for of_class, slots in self._slots.items() if slots}
        if all(
            len(rows) <= held.get(of_class, (0, 0))[0] and max(rows) <= held[of_class][1]
            for of_class, rows in wanted.items()
        ):
            return
        self.memory("reserve")
        if self.positions is not None:
            taken = sum(len(rows) * max(rows) for rows in wanted.values())
            assert taken <= self.positions, "more slots than there is room for"
        for of_class in {*self._slots, *wanted}:
            rows = wanted.get(of_class, [])
            kept = self._slots.get(of_class, [])[: len(rows)]
            fresh: list[list[int | None]] = [[] for _ in range(len(rows) - len(kept))]
            self._slots[of_class] = [
                [*slot, *[None] * (max(rows) - len(slot))][: max(rows)] for slot in (*kept, *fresh)
            ]

    def room(self, needs: Seq[int]) -> int:
        if self.positions is None:
            return len(needs)
        fitting = 0
        while fitting < len(needs) and self.positions >= sum(
            len(rows) * max(rows) for rows in _by_class(needs[: fitting + 1]).values()
        ):
            fitting += 1
        return fitting

    def restore(self, first: Slot, number: int, snapshot: list[int | None]) -> None:
        for slot in self._slots[first.length_class][first.place : first.place + number]:
            slot[:] = [*snapshot, *[None] * (len(slot) - len(snapshot))]

    def decode(
        self,
        tokens: list[int],
        lengths: list[int],
        first_logits: list[Any],
        uniforms: NDArray[np.float64],
        sampling: Sampling,
        limit: int,
        strata: NDArray[np.int64] | None = None,
    ) -> list[Readout]:
        self.memory("decode")
        self.decodes.append(Decode(len(tokens), len(first_logits), limit))
        logits = []
        for of_class, rows in groupby(zip(tokens, lengths, strict=True), lambda row: length_class(row[1] + 1)):
            for slot, (token, length) in zip(self._slots[of_class], rows, strict=False):
                slot[length] = token
                logits.append(self._logits(slot[: length + 1]))
        return read(torch.stack([*logits, *first_logits]), torch.from_numpy(uniforms), sampling, strata)

    def shrink(self, kept: Mapping[int, int]) -> None:
        for of_class, slots in self._slots.items():
            del slots[kept.get(of_class, 0) :]

    def _logits(self, tokens: Seq[int | None]) -> torch.Tensor:
        assert None not in tokens, "a row reads positions that nothing was written to"
        prompt = [token for token in tokens if token < 0]
        assert tokens[: len(prompt)] == prompt, "a row's slot does not begin with its prompt"
        return torch.tensor(np.asarray(self.model(prompt, tokens[len(prompt) :])), dtype=self.dtype)


def _by_class(needs: Seq[int]) -> dict[int, list[int]]:
    return {of_class: list(of) for of_class, of in groupby(sorted(needs), length_class)}


class NumberTokenizer:
    """Decodes token ids to their numbers."""

    def decode(self, token_ids: Seq[int], skip_special_tokens: bool = False) -> str:
        return " ".join(map(str, token_ids))


def scripted_stopper(think_end: int | None = None) -> TextStopper:
    """Ends sequences at EOS and at their limit; they think from the first token on when there is a marker."""
    thinking = None if think_end is None else Thinking(end=END_OF_THINKING, end_ids=(think_end,))
    return TextStopper(NumberTokenizer(), {EOS}, thinking=thinking)


def sampling_of(options: Options) -> Sampling:
    return Sampling(
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
        min_p=options.min_p,
        entropy_top_k=options.entropy_top_k,
        entropy_of=options.entropy_of,
    )


def scripted_engine(
    runner: ScriptedRunner, options: Options, think_end: int | None = None, max_rows: int | None = None, **more: Any
) -> Engine:
    """The real loop over scripted slots."""
    return Engine(
        runner,
        scripted_stopper(think_end),
        sampling_of(options),
        seed=options.seed,
        max_rows=max_rows or options.rows,
        **more,
    )


def scripted_prompt(index: int, options: Options, length: int = 3, context: str | None = None) -> Prompt:
    return Prompt(
        index=index,
        task="demo",
        context=f"prompt {index}" if context is None else context,
        token_ids=[-1 - index, *[-1000] * (length - 1)],
        max_new_tokens=options.max_gen_toks,
    )


def memory_that_fails_at(calls: set[int], of: str | None = None) -> Callable[[str], None]:
    """Memory that runs out at the given calls, counted from 0, of every kind or of one."""
    made = 0

    def memory(call: str) -> None:
        nonlocal made
        if of is None or call == of:
            made += 1
            if made - 1 in calls:
                raise OutOfMemory(f"no memory for {call} number {made - 1}")

    return memory
