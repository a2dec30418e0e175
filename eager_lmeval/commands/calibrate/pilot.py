"""What a pilot run says of other thresholds: Algorithm 1 played again on the entropies that it left behind.

The pilot's sequences of a prompt are taken as examples of how a sequence of this prompt goes on: its entropies, its
length, the end of its thinking. Played at another θ and M, a sequence forks where its entropies reach θ, and the child
goes on as another example does from there, drawn by path weight. What a different token would really have led to is
not known, so this is an estimate; that examples stay the same when θ changes is its assumption.
"""

from __future__ import annotations

import bisect
import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from eager_lmeval.algorithm.gate import GateSettings
from eager_lmeval.algorithm.tree import parent_path
from eager_lmeval.commands.runs import Run, iter_samples
from eager_lmeval.errors import UsageError
from eager_lmeval.scores.samples import LoggedSequence, LoggedTree

__all__ = ["Example", "Forecast", "PilotPrompt", "forecast", "read_pilot"]

SEED = 20251010


@dataclass(frozen=True)
class Example:
    """One sequence of the pilot, from the prompt on."""

    entropies: NDArray[np.float64]
    """At every position, in nats."""
    thinks_until: int
    """Positions from here on lie behind the end of the thinking part."""

    @property
    def length(self) -> int:
        return len(self.entropies)


@dataclass(frozen=True)
class PilotPrompt:
    """All examples of one prompt and how likely independent sampling makes each."""

    examples: list[Example]
    weights: NDArray[np.float64]

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        return np.array([example.length for example in self.examples])


class Forecast(NamedTuple):
    """Means a prompt at one θ and M; the interval is a 95 % one of ``tokens`` over the pilot's prompts."""

    threshold: float
    max_sequences: int
    sequences: float
    tokens: float
    tokens_low: float
    tokens_high: float
    saturated: float
    """Share of prompts that reach M."""
    parallel_tokens: float
    """Of M independent samples."""

    @property
    def saving(self) -> float:
        """Share of the tokens of M independent samples that is not needed."""
        return 1 - self.tokens / self.parallel_tokens


def read_pilot(run: Run, task: str, read: Callable[[], object] = lambda: None) -> list[PilotPrompt]:
    """The pilot's prompts, ``read`` being called after each; UsageError if its samples hold no trees."""
    prompts = []
    for sample in iter_samples(run, task):
        if sample.tree is not None and not all(map(_has_all_entropies, sample.tree["sequences"])):
            raise UsageError(
                f"task {task!r}: entropies are missing where nothing could branch any more, which --model eager-vllm "
                f"does not ask vLLM for; make the pilot with --model eager"
            )
        if sample.tree is None or not all(sequence.get("entropies") for sequence in _roots(sample.tree)):
            raise UsageError(
                f"task {task!r} logged no trees; make the pilot with --model eager and a task that keeps them, such as "
                f"eager_demo (eager-lmeval paths tasks)"
            )
        prompts.append(_prompt(sample.tree))
        read()
    return prompts


def forecast(
    prompts: Sequence[PilotPrompt], gate: GateSettings, plays: int = 8, played: Callable[[], object] = lambda: None
) -> Forecast:
    """Plays every prompt ``plays`` times, and calls ``played`` after each prompt; the draws are always the same."""
    rng = np.random.default_rng(SEED)
    counts = np.zeros((len(prompts), plays))
    tokens = np.zeros((len(prompts), plays))
    for row, prompt in enumerate(prompts):
        hesitations = [np.flatnonzero(example.entropies >= gate.threshold).tolist() for example in prompt.examples]
        for column in range(plays):
            counts[row, column], tokens[row, column] = _Play(prompt, hesitations, gate, rng).run()
        played()
    per_prompt = tokens.mean(axis=1)
    resampled = per_prompt[rng.integers(0, len(prompts), (1000, len(prompts)))].mean(axis=1)
    low, high = np.quantile(resampled, (0.025, 0.975))
    lengths = [float((prompt.weights * prompt.lengths).sum()) for prompt in prompts]
    return Forecast(
        gate.threshold,
        gate.cap,
        float(counts.mean()),
        float(per_prompt.mean()),
        float(low),
        float(high),
        float((counts >= gate.cap).mean()),
        gate.cap * float(np.mean(lengths)),
    )


class _Part(NamedTuple):
    """A played sequence."""

    start: int
    """Tokens from here on are its own; a child's first is that of the fork."""
    first: int
    """Entropies from here on are its own: that of the fork is its parent's."""
    example: Example

    def before(self, at: int) -> NDArray[np.float64]:
        """Its own entropies before a position."""
        return self.example.entropies[self.first : at]


class _Play:
    """One tree of one prompt, from fork to fork.

    Only positions whose entropy reaches θ matter: elsewhere nothing forks, whatever the percentile, and of a percentile
    above θ only the values above θ need be known.
    """

    def __init__(
        self, prompt: PilotPrompt, hesitations: list[list[int]], gate: GateSettings, rng: np.random.Generator
    ) -> None:
        self._prompt, self._hesitations, self._gate, self._rng = prompt, hesitations, gate, rng
        self._parts: list[_Part] = []
        self._waiting: list[tuple[int, float, int, int, int]] = []
        """A heap: position, entropy (negative), what breaks ties, example, place among its hesitations."""
        self._high: list[float] = []
        """Entropies from θ up that were met so far, ascending."""

    def run(self) -> tuple[int, int]:
        """Sequences and tokens of the tree; of forks at one position the highest entropy goes first."""
        gate, prompt, last = self._gate, self._prompt, -1
        self._begin(self._draw(prompt.weights), 0, 0)
        while self._waiting and (gate.count == "active" or len(self._parts) < gate.cap):
            at = self._waiting[0][0]
            if gate.window is not None and at - last > gate.window:
                break
            threshold, room = self._threshold(at), gate.cap - self._sequences(at)
            if room <= 0 and gate.percentile is None:
                self._skip_to(min(part.example.length for part in self._parts if part.example.length > at))
                continue
            met = []
            while self._waiting and self._waiting[0][0] == at:
                _, negative, _, example, place = heapq.heappop(self._waiting)
                met.append(-negative)
                self._await(example, place + 1)
                thinks = not gate.until_thought_ends or at < prompt.examples[example].thinks_until
                if thinks and room > 0 and -negative >= threshold:
                    room, last = room - 1, at
                    self._fork(at)
            for entropy in met if gate.percentile is not None else ():
                bisect.insort(self._high, entropy)
        return len(self._parts), sum(part.example.length - part.start for part in self._parts)

    def _begin(self, example: int, start: int, first: int) -> None:
        self._parts.append(_Part(start, first, self._prompt.examples[example]))
        self._await(example, bisect.bisect_left(self._hesitations[example], first))

    def _await(self, example: int, place: int) -> None:
        if place < len(self._hesitations[example]):
            at = self._hesitations[example][place]
            entropy = float(self._prompt.examples[example].entropies[at])
            order = len(self._parts)
            heapq.heappush(self._waiting, (at, -entropy, order, example, place))

    def _skip_to(self, at: int) -> None:
        """Nothing can fork before this position."""
        waiting, self._waiting = self._waiting, []
        for _, _, _, example, _ in waiting:
            self._await(example, bisect.bisect_left(self._hesitations[example], at))

    def _fork(self, at: int) -> None:
        """The child decodes its own token at the fork too; what follows goes as in an example that is long enough."""
        longer = self._prompt.lengths > at + 1
        if not longer.any():
            self._parts.append(_Part(at, at + 1, Example(np.zeros(at + 1), 0)))  # it ends with the token of the fork
            return
        odds = np.where(longer, self._prompt.weights, 0.0)
        self._begin(self._draw(odds if odds.sum() > 0 else longer.astype(float)), at, at + 1)

    def _draw(self, odds: NDArray[np.float64]) -> int:
        return int(self._rng.choice(len(odds), p=odds / odds.sum()))

    def _sequences(self, at: int) -> int:
        """What the cap counts at a position."""
        if self._gate.count == "all":
            return len(self._parts)
        return sum(part.example.length > at for part in self._parts)

    def _threshold(self, at: int) -> float:
        """θ, or the percentile of the entropies before a position if it is higher; linear interpolation (SPEC 3)."""
        gate = self._gate
        if gate.percentile is None:
            return gate.threshold
        met = sum(max(0, min(at, part.example.length) - part.first) for part in self._parts)
        if not met:
            return gate.threshold
        place = gate.percentile / 100 * (met - 1)
        below = int(place)
        low, high = (self._ranked(met - rank, at) for rank in (below, min(below + 1, met - 1)))
        return max(gate.threshold, low + (high - low) * (place - below))

    def _ranked(self, from_top: int, at: int) -> float:
        """The entropy of a rank before a position, 1 being the highest; θ where its upper neighbour is below θ too."""
        if from_top <= len(self._high):
            return self._high[-from_top]
        if from_top > len(self._high) + 1:
            return self._gate.threshold
        met = np.concatenate([part.before(at) for part in self._parts])
        return float(met[met < self._gate.threshold].max())


def _roots(tree: LoggedTree) -> list[LoggedSequence]:
    return [sequence for sequence in tree["sequences"] if sequence.get("branch_at") is None]


def _has_all_entropies(sequence: LoggedSequence) -> bool:
    at = sequence.get("branch_at")
    own_from = 0 if at is None else at + 1
    tokens = sequence.get("num_tokens")
    return tokens is None or len(sequence.get("entropies", [])) == tokens - own_from


def _prompt(tree: LoggedTree) -> PilotPrompt:
    """Rebuilds each sequence's entropies from its parent's."""
    whole: dict[tuple[int, ...], NDArray[np.float64]] = {}
    examples = []
    for sequence in tree["sequences"]:
        path, own = tuple(sequence["path"]), np.array(sequence.get("entropies", []), dtype=float)
        if (at := sequence.get("branch_at")) is not None:
            own = np.concatenate([whole[parent_path(path, at)][:at], [sequence["branch_entropy"]], own])
        whole[path] = own
        until = len(own)
        if (answer_at := sequence.get("answer_at")) and sequence["text"]:
            # The file has no token offsets: the share of the characters stands for the share of the tokens.
            until = round(len(own) * answer_at / len(sequence["text"]))
        examples.append(Example(own, until))
    weights = np.array([sequence["weight"] for sequence in tree["sequences"]], dtype=float)
    total = weights.sum()
    return PilotPrompt(examples, weights / total if total > 0 else np.full(len(weights), 1 / len(weights)))
