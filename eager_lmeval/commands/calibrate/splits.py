"""A systematic tree of other θ, `fan_out` or M, played on a pilot's examples (SPEC 3.2; see `pilot`).

Where an example's entropy reaches θ, its copies are dealt as they would be: the pilot recorded the probabilities of the
two most likely tokens there, and those of the others are taken to fall off geometrically, so that all sum to 1. The
part with most copies goes on as the example does; each other part goes on as another example, drawn by weight, does
from there.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import NamedTuple

import numpy as np

from eager_lmeval.algorithm.branching import SplitSettings
from eager_lmeval.commands.calibrate.examples import Example, PilotPrompt

__all__ = ["Branch", "dealt", "play_splits"]


class Branch(NamedTuple):
    """A played sequence."""

    example: Example
    """Whose answer it gives."""
    tokens: int
    """Its own, those that it shares with no older one."""
    copies: int


def play_splits(prompt: PilotPrompt, copies: int, splits: SplitSettings, rng: np.random.Generator) -> list[Branch]:
    """One tree of a root with that many copies."""
    done: list[Branch] = []
    waiting = [(prompt.draw(prompt.weights, rng), 0, 0, copies)]  # example, first own token and entropy, copies
    while waiting:
        example, start, first, copies = waiting.pop()
        until = example.thinks_until if splits.until_thought_ends else example.length
        for at in example.hesitations(splits.threshold, first):
            if copies == 1 or at >= until:
                break
            if at not in example.likeliest:  # its entropy lay below `UNCERTAIN_NATS` and was rounded up to it
                continue
            strata = copies if splits.fan_out is None else min(copies, splits.fan_out)
            copies, *others = dealt(copies, strata, *example.likeliest[at], rng)
            for number in others:
                other = prompt.draw_longer(at + 1, rng)
                if other is None:  # it ends with the token of the split
                    done.append(Branch(example, 1, number))
                else:
                    waiting.append((other, at, at + 1, number))
        done.append(Branch(example, example.length - start, copies))
    return done


def dealt(copies: int, strata: int, first: float, second: float, rng: np.random.Generator) -> list[int]:
    """Copies by token, the most first; ``first`` and ``second`` are the two largest probabilities."""
    share, left = divmod(copies, strata)
    rest = max(0.0, 1.0 - first - second)
    falls = math.log(rest / (rest + second)) if rest > 0 and second > 0 else -math.inf
    u, shift = rng.random(), int(rng.integers(strata))
    parts: Counter[int] = Counter()
    for g in range(strata):
        beyond = (g + u) / strata - first
        if beyond < 0:
            token = 0
        elif (beyond := beyond - second) < 0 or rest == 0:
            token = 1
        else:
            token = 2 + int(math.log(max(1e-12, 1 - beyond / rest)) / falls)
        parts[token] += share + ((g - shift) % strata < left)
    return [number for _, number in parts.most_common()]
