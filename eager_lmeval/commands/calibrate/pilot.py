"""What a pilot run says of other thresholds: trees played again on the entropies that it left behind.

The pilot's sequences of a prompt are taken as examples of how a sequence of this prompt goes on: its entropies, its
length, the end of its thinking. Played at another θ and M, a sequence forks where its entropies reach θ, and the child
goes on as another example does from there, drawn by path weight. What a different token would really have led to is
not known, so this is an estimate; that examples stay the same when θ changes is its assumption.
"""

from __future__ import annotations

import bisect
import heapq
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from eager_lmeval.algorithm.gate import GateSettings
from eager_lmeval.algorithm.race import RaceSettings
from eager_lmeval.commands.calibrate.examples import Example, PilotPrompt
from eager_lmeval.commands.calibrate.splits import Splits, play_splits
from eager_lmeval.scores.replay import Recorded, Replay, replay

__all__ = ["Forecast", "forecast", "forecast_race"]

SEED = 20251010


class Forecast(NamedTuple):
    """Means a prompt at one θ, M and `fan_out`; the interval is a 95 % one of ``tokens`` over the pilot's prompts."""

    threshold: float
    max_sequences: int
    fan_out: int | None
    sequences: float
    tokens: float
    tokens_low: float
    tokens_high: float
    saturated: float
    """Share of prompts that reach M."""
    parallel_tokens: float
    """Of M independent samples."""
    variance: float
    """Of a prompt's weighted rate over runs, at most (parts of one split are taken to be independent, and exclude one
    another); NaN where the pilot is not graded, and behind a gate."""
    parallel_variance: float
    """The same of M independent samples."""

    @property
    def saving(self) -> float:
        """Share of the tokens of M independent samples that is not needed."""
        return 1 - self.tokens / self.parallel_tokens


def forecast(
    prompts: Sequence[PilotPrompt],
    rules: GateSettings | Splits,
    plays: int = 8,
    played: Callable[[], object] = lambda: None,
) -> Forecast:
    """Plays every prompt ``plays`` times, and calls ``played`` after each prompt; the draws are always the same."""
    rng = np.random.default_rng(SEED)
    counts, tokens, rates = np.zeros((3, len(prompts), plays))
    for row, prompt in enumerate(prompts):
        for column in range(plays):
            if isinstance(rules, Splits):
                tree = play_splits(prompt, rules, rng)
                counts[row, column], tokens[row, column] = len(tree), sum(branch.tokens for branch in tree)
                right = sum(branch.copies for branch in tree if branch.example.correct)
                rates[row, column] = right / rules.cap if prompt.graded else math.nan
            else:
                counts[row, column], tokens[row, column] = _Play(prompt, rules, rng).run()
                rates[row, column] = math.nan
        played()
    per_prompt = tokens.mean(axis=1)
    resampled = per_prompt[rng.integers(0, len(prompts), (1000, len(prompts)))].mean(axis=1)
    low, high = np.quantile(resampled, (0.025, 0.975))
    lengths = [float((prompt.weights * prompt.lengths).sum()) for prompt in prompts]
    # A prompt's examples are a sample themselves, which takes the same share from either variance.
    known = [(row, prompt) for row, prompt in enumerate(prompts) if prompt.graded and len(prompt.examples) > 1]
    shown = [1 - float((prompt.weights**2).sum()) for _, prompt in known]
    varied = [float(rates[row].var(ddof=1)) / share for (row, _), share in zip(known, shown, strict=True)]
    alone = [
        prompt.rate * (1 - prompt.rate) / rules.cap / share for (_, prompt), share in zip(known, shown, strict=True)
    ]
    return Forecast(
        rules.threshold,
        rules.cap,
        rules.fan_out if isinstance(rules, Splits) else None,
        float(counts.mean()),
        float(per_prompt.mean()),
        float(low),
        float(high),
        float((counts >= rules.cap).mean()),
        rules.cap * float(np.mean(lengths)),
        float(np.mean(varied)) if varied else math.nan,
        float(np.mean(alone)) if alone else math.nan,
    )


def forecast_race(prompts: Sequence[PilotPrompt], settings: RaceSettings, plays: int = 8) -> Replay:
    """Races of graded prompts beside votes of M (`scores.replay`), on answers drawn from the pilot's.

    Where a prompt has M independent ones, none is drawn twice.
    """
    rng = np.random.default_rng(SEED)
    drawn = []
    for prompt in prompts:
        recorded = [Recorded(one.answer, bool(one.correct), one.length) for one in prompt.examples]
        again = len(recorded) < settings.max_sequences or not np.allclose(prompt.weights, prompt.weights[0])
        for _ in range(plays):
            places = rng.choice(len(recorded), settings.max_sequences, again, prompt.weights if again else None)
            drawn.append([recorded[place] for place in places])
    return replay(drawn, settings, orders=1)


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

    def __init__(self, prompt: PilotPrompt, gate: GateSettings, rng: np.random.Generator) -> None:
        self._prompt, self._gate, self._rng = prompt, gate, rng
        self._hesitations = [example.hesitations(gate.threshold, 0) for example in prompt.examples]
        self._parts: list[_Part] = []
        self._waiting: list[tuple[int, float, int, int, int]] = []
        """A heap: position, entropy (negative), what breaks ties, example, place among its hesitations."""
        self._high: list[float] = []
        """Entropies from θ up that were met so far, ascending."""

    def run(self) -> tuple[int, int]:
        """Sequences and tokens of the tree; of forks at one position the highest entropy goes first."""
        gate, prompt, last = self._gate, self._prompt, -1
        self._begin(prompt.place(prompt.weights, self._rng), 0, 0)
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
        odds = self._prompt.odds_of_longer(at + 1)
        if odds is None:
            self._parts.append(_Part(at, at + 1, Example(np.zeros(at + 1), 0)))  # it ends with the token of the fork
            return
        self._begin(self._prompt.place(odds, self._rng), at, at + 1)

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
