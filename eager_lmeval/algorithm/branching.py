"""Systematic branching (SPEC 3.2): copies of one sequence dealt over its next-token distribution.

    c copies of a sequence are decoded once. Where the model is uncertain the sequence opens: the copies are dealt to
    f strata of the distribution, and stratum g takes the token that (g + u)/f picks. What u and the deal are is drawn,
    so each copy's next token has exactly the distribution of independent sampling, whatever θ and `fan_out` are, and
    Σ copies/M · f(sequence) is an unbiased estimate of the mean of f.

Looks at one sequence alone: nothing here depends on what else a prompt has, nor on who is decoded when.
"""

from __future__ import annotations

import math
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from eager_lmeval.algorithm.readout import Readout, Stratum
from eager_lmeval.algorithm.streams import stream_key, uniforms
from eager_lmeval.algorithm.tree import Prompt, Sequence

__all__ = ["Part", "SplitSettings", "deal", "opens", "shift", "strata_of"]

_NO_TOKEN = -1
"""What the path of a sequence's second stream ends with, where a child's has a token."""


@dataclass(frozen=True)
class SplitSettings:
    """When and how far the copies of a sequence separate; the fields are the options of the same names."""

    threshold: float
    """θ, in nats."""
    seed: int
    fan_out: int | None = None
    """The most strata; ``None``: as many as there are copies."""
    until_thought_ends: bool = True
    """Whether a sequence stays together once it has produced the end-of-thinking marker."""


class Part(NamedTuple):
    """The copies that take one token."""

    token: int
    logprob: float
    """The token's raw log-probability in nats."""
    copies: int


def strata_of(sequence: Sequence, settings: SplitSettings) -> int:
    """How many strata a sequence is dealt over if it opens at its next token; 0 where it cannot open."""
    copies = sequence.copies or 1
    if copies == 1 or (settings.until_thought_ends and sequence.thought_ended):
        return 0
    return copies if settings.fan_out is None else min(copies, settings.fan_out)


def opens(readout: Readout, settings: SplitSettings) -> bool:
    """Whether a sequence that can open does so."""
    return bool(readout.strata) and readout.entropy >= settings.threshold


def deal(copies: int, strata: Seq[Stratum], shift: int) -> list[Part]:
    """Who takes which token: the part that goes on as the sequence first, then the others in order of token id.

    Every stratum takes an equal share; what is left over goes one each to the strata ``shift``, ``shift`` + 1 …, round
    and round. The token with the most copies goes on, of equal ones the smaller id.
    """
    share, left = divmod(copies, len(strata))
    parts: dict[int, Part] = {}
    for g, stratum in enumerate(strata):
        size = share + ((g - shift) % len(strata) < left)
        before = parts.get(stratum.token, Part(*stratum, copies=0))
        parts[stratum.token] = before._replace(copies=before.copies + size)
    in_order = [parts[token] for token in sorted(parts)]
    going_on = max(in_order, key=lambda part: part.copies)  # the first of equal ones
    return [going_on, *(part for part in in_order if part is not going_on)]


def shift(prompt: Prompt, sequence: Sequence, strata: int, seed: int) -> int:
    """Which stratum is the first to get one of the copies left over: ⌊f·v⌋, v a draw of the second stream."""
    key = stream_key(seed, prompt.task, prompt.context, (*sequence.path, _NO_TOKEN))
    (v,) = uniforms(np.array([key], dtype=np.uint64), np.array([len(sequence.tokens)], dtype=np.uint64))
    return math.floor(strata * float(v))
