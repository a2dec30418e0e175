"""What a pilot run says of other thresholds: trees played again on the entropies that it left behind.

The pilot's sequences of a prompt are taken as examples of how a sequence of this prompt goes on: its entropies, its
length, the end of its thinking. Played at another θ and M, a sequence forks where its entropies reach θ, and the child
goes on as another example does from there, drawn by path weight. What a different token would really have led to is
not known, so this is an estimate; that examples stay the same when θ changes is its assumption.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from eager_lmeval.algorithm.branching import SplitSettings
from eager_lmeval.algorithm.race import RaceSettings
from eager_lmeval.commands.calibrate.examples import PilotPrompt
from eager_lmeval.commands.calibrate.splits import play_splits
from eager_lmeval.scores.replay import Recorded, Replay, replay

__all__ = ["SEED", "Forecast", "forecast", "forecast_race"]

SEED = 20251010
"""Of all draws, so that a command says the same whenever it is given."""
PLAYS = 32
"""Trees of a prompt that a forecast plays: the error needs more of them than the tokens."""


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
    another); NaN where the pilot is not graded."""
    parallel_variance: float
    """The same of M independent samples."""

    @property
    def saving(self) -> float:
        """Share of the tokens of M independent samples that is not needed."""
        return 1 - self.tokens / self.parallel_tokens


def forecast(
    prompts: Sequence[PilotPrompt],
    most: int,
    splits: SplitSettings,
    plays: int = PLAYS,
    played: Callable[[], object] = lambda: None,
) -> Forecast:
    """Plays every prompt ``plays`` times with ``most`` copies, and calls ``played`` after each prompt; the draws are
    those of the settings' seed."""
    rng = np.random.default_rng(splits.seed)
    counts, tokens, rates = np.zeros((3, len(prompts), plays))
    for row, prompt in enumerate(prompts):
        for column in range(plays):
            tree = play_splits(prompt, most, splits, rng)
            counts[row, column], tokens[row, column] = len(tree), sum(branch.tokens for branch in tree)
            right = sum(branch.copies for branch in tree if branch.example.correct)
            rates[row, column] = right / most if prompt.graded else math.nan
        played()
    per_prompt = tokens.mean(axis=1)
    resampled = per_prompt[rng.integers(0, len(prompts), (1000, len(prompts)))].mean(axis=1)
    low, high = np.quantile(resampled, (0.025, 0.975))
    lengths = [float((prompt.weights * prompt.lengths).sum()) for prompt in prompts]
    # A prompt's examples are a sample themselves, which takes the same share from either variance.
    known = [(row, prompt) for row, prompt in enumerate(prompts) if prompt.graded and len(prompt.examples) > 1]
    shown = [1 - float((prompt.weights**2).sum()) for _, prompt in known]
    varied = [float(rates[row].var(ddof=1)) / share for (row, _), share in zip(known, shown, strict=True)]
    alone = [prompt.rate * (1 - prompt.rate) / most / share for (_, prompt), share in zip(known, shown, strict=True)]
    return Forecast(
        splits.threshold,
        most,
        splits.fan_out,
        float(counts.mean()),
        float(per_prompt.mean()),
        float(low),
        float(high),
        float((counts >= most).mean()),
        most * float(np.mean(lengths)),
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
