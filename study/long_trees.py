"""Trees over long answers, from one uncertain token to the next.

The rules are the project's own: its deal, its gate, its streams of draws. What is left out are the tokens at which
nothing can happen, so a tree costs as much as it has branches, not tokens. `tests/test_study.py` holds these trees
against those that the project's engine grows token by token.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass

import numpy as np
from long_process import FIRST, LEVELS, Plan, Question, draws

from eager_lmeval.algorithm.branching import deal
from eager_lmeval.algorithm.gate import Candidate, Gate, GateSettings
from eager_lmeval.algorithm.readout import Stratum

__all__ = ["FAN_2", "FAN_4", "NONE", "SYSTEMATIC", "TOP2", "Design", "Leaf", "grow"]


@dataclass(frozen=True)
class Design:
    """How one root grows; ``branching`` is `none`, `top2` or `systematic`."""

    branching: str
    fan_out: int | None = None

    @property
    def name(self) -> str:
        return f"{self.branching}, fan_out {self.fan_out}" if self.fan_out else self.branching


NONE, TOP2 = Design("none"), Design("top2")
SYSTEMATIC, FAN_4, FAN_2 = Design("systematic"), Design("systematic", 4), Design("systematic", 2)


@dataclass
class Leaf:
    """A finished sequence."""

    path: tuple[int, ...]
    parent: int | None
    """Its place among the leaves; None of a root."""
    branch_at: int
    """Index of the first token that it shares with no older one; 0 of a root."""
    length: int
    """Tokens, shared ones and the EOS included."""
    weight: float
    """Its share of its root."""

    @property
    def own_tokens(self) -> int:
        return self.length - self.branch_at


def grow(question: Question, design: Design, copies: int, first_root: int = 0) -> list[Leaf]:
    """The tree of one root with that many copies, or behind a gate with that cap; under `none` so many roots."""
    if design.branching == "none":
        plans = [question.root(first_root + number) for number in range(copies)]
        return [Leaf((first_root + number,), None, 0, plan.length, 1 / copies) for number, plan in enumerate(plans)]
    if design.branching == "systematic":
        return grow_systematic(question, design.fan_out, copies, first_root)
    return grow_top2(question, copies, first_root)


def grow_systematic(question: Question, fan_out: int | None, most: int, root: int = 0) -> list[Leaf]:
    """SPEC 3.2."""
    leaves: list[Leaf] = []
    waiting: list[tuple[tuple[int, ...], int | None, int, Plan, int]] = [((root,), None, 0, question.root(root), most)]
    while waiting:
        path, parent, branch_at, plan, copies = waiting.pop()
        place, at = len(leaves), branch_at if parent is None else branch_at + 1
        leaves.append(Leaf(path, parent, branch_at, 0, 0.0))
        while copies > 1 and (found := plan.next(at)):
            at, level = found
            strata = copies if fan_out is None else min(copies, fan_out)
            u = draws(question.prompt, path, at)[0]
            picked = np.searchsorted(question.assumption.cumulative[level], (np.arange(strata) + u) / strata, "right")
            left_over = copies % strata
            shift = math.floor(strata * draws(question.prompt, (*path, -1), at)[0]) if left_over else 0
            going_on, *others = deal(copies, [Stratum(FIRST + int(rank), 0.0) for rank in picked], shift)
            waiting += [((*path, at, part.token), place, at, plan.turn(at, part.token), part.copies) for part in others]
            copies, plan = going_on.copies, plan.turn(at, going_on.token)
            at += 1
        leaves[place].length, leaves[place].weight = plan.length, copies / most
    return leaves


def grow_top2(question: Question, cap: int, root: int = 0) -> list[Leaf]:
    """SPEC 3.1 with the default options: the gate is open until the tree has ``cap`` sequences."""
    gate = Gate(GateSettings(question.threshold, cap))
    plans = [question.root(root)]
    leaves = [Leaf((root,), None, 0, plans[0].length, 1.0)]
    coming: list[tuple[int, int, int]] = []  # position, place, level

    def wait_for(place: int, at: int) -> None:
        if found := plans[place].next(at):
            heapq.heappush(coming, (found[0], place, found[1]))

    wait_for(0, 0)
    while coming and not gate.over(len(leaves)):
        at, step = coming[0][0], []
        while coming and coming[0][0] == at:
            step.append(heapq.heappop(coming))
        candidates = [Candidate(leaves[place].path, float(LEVELS[level]), False) for _, place, level in step]
        for number in gate.choose(candidates, sequences=len(leaves), active=len(leaves)):
            _, place, level = step[number]
            parent = leaves[place]
            first, second = question.assumption.probabilities[level][:2]
            plans.append(plans[place].turn(at, FIRST + 1))
            share = float(second / (first + second))
            leaves.append(Leaf((*parent.path, at), place, at, plans[-1].length, parent.weight * share))
            parent.weight *= 1 - share
            wait_for(len(leaves) - 1, at + 1)
        for _, place, _ in step:
            wait_for(place, at + 1)
    return leaves
