"""EAGER the slow, obvious way, written from the specification alone.

Every step is one forward pass over one whole sequence, without cache or batch. Shares no code with the package.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field

import numpy as np
import torch
from slow_race import tick_by_tick
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    PreTrainedModel,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

MASK_64 = 2**64 - 1


@dataclass(frozen=True)
class Settings:
    """The specification's options under their own names."""

    strategy: str
    max_sequences: int
    entropy_threshold: float
    max_tokens: int
    extra_cap: int
    seed: int = 0
    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    entropy_top_k: int = 20
    entropy_of: str = "raw"
    count: str = "all"
    branch_window: int | None = None
    dynamic_percentile: float | None = None
    think_gate: bool = True
    think_end: int | None = None
    threshold_decay: float = 0.8
    branching: str = "top2"
    fan_out: int | None = None
    first_lanes: int = 8
    settled_at: float = 0.95
    eos: frozenset[int] = frozenset()


@dataclass(eq=False)
class Leaf:
    path: tuple[int, ...]
    tokens: list[int]
    weight: float = 1.0
    copies: int | None = None
    branch_at: int | None = None
    branch_entropy: float | None = None
    finish: str | None = None
    thought_ended: bool = False
    entropies: list[float] = field(default_factory=list)
    logprob: float = 0.0


@dataclass
class OracleTree:
    context: str
    prompt: list[int]
    leaves: list[Leaf] = field(default_factory=list)
    entropies: list[float] = field(default_factory=list)

    @property
    def roots(self) -> int:
        return sum(len(leaf.path) == 1 for leaf in self.leaves)


@dataclass
class OraclePool:
    trees: list[OracleTree]
    surplus: int
    eligible: list[int]
    grants: dict[int, int]


def draw(seed: int, task: str, context: str, path: tuple[int, ...], t: int) -> float:
    """Section 4: draw t of the stream of one sequence."""
    name = json.dumps(["eager", seed, task, context, list(path)], ensure_ascii=False, separators=(",", ":"))
    key = int.from_bytes(hashlib.sha256(name.encode("utf-8")).digest()[:8], "little")
    z = (key + (t + 1) * 0x9E3779B97F4A7C15) & MASK_64
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK_64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK_64
    z ^= z >> 31
    return (z >> 11) * 2.0**-53


def entropy(logits: Seq[float], k: int) -> float:
    """Section 2: entropy in nats of the softmax over the k largest logits alone."""
    largest = sorted(logits, reverse=True)[:k]
    exponentials = [math.exp(logit - largest[0]) for logit in largest]
    total = sum(exponentials)
    return -sum(e / total * math.log(e / total) for e in exponentials if e > 0)


def next_distribution(logits: Seq[float], settings: Settings) -> list[float]:
    """Section 4: after temperature, top_k, top_p and min_p, in that order; temperature 1 where the request's is 0."""
    steps = LogitsProcessorList()
    if settings.temperature not in (0, 1):
        steps.append(TemperatureLogitsWarper(float(settings.temperature)))
    if settings.top_k is not None:
        steps.append(TopKLogitsWarper(settings.top_k))
    if settings.top_p is not None:
        steps.append(TopPLogitsWarper(settings.top_p))
    if settings.min_p is not None:
        steps.append(MinPLogitsWarper(settings.min_p))
    scores = steps(None, torch.tensor([logits], dtype=torch.float64))
    return torch.softmax(scores, dim=-1)[0].tolist()


class Oracle:
    """Grows the trees of one task's pool on one model."""

    def __init__(
        self, model: PreTrainedModel, task: str, settings: Settings, known: dict[tuple[int, ...], list[float]]
    ) -> None:
        self.model = model
        self.task = task
        self.settings = settings
        self.known = known
        """Logits of this model by whole sequence, so that no sequence is computed twice over all settings."""

    def logits(self, tokens: list[int]) -> list[float]:
        if tuple(tokens) not in self.known:
            with torch.inference_mode():
                logits = self.model(torch.tensor([tokens]), use_cache=False).logits[0, -1]
            self.known[tuple(tokens)] = logits.tolist()
        return self.known[tuple(tokens)]

    def pool(
        self,
        prompts: Seq[tuple[str, list[int]]],
        correct: Callable[[list[list[int]]], bool],
        answer: Callable[[list[int]], int | None],
    ) -> OraclePool:
        """Section 5: stage 1, the surplus, and stage 2 by restarting.

        ``correct`` says whether one of a prompt's sequences is right, ``answer`` what a sequence votes for.
        """
        settings = self.settings
        trees = [OracleTree(context, prompt) for context, prompt in prompts]
        for tree in trees:
            if settings.strategy == "consistency":
                self.race(tree, answer)
            elif settings.strategy == "parallel":
                for _ in range(settings.max_sequences):
                    self.grow(tree, cap=None, threshold=math.inf)
            else:
                self.root(tree, settings.max_sequences)
        used = [len(tree.leaves) for tree in trees]
        saturated = [n >= settings.max_sequences for n in used]
        surplus = max(0, settings.max_sequences * len(trees) - sum(used))
        eligible: list[int] = []
        if settings.strategy == "adapt":
            eligible = [place for place in range(len(trees)) if saturated[place]]
        if settings.strategy == "eager":
            failing = [place for place, tree in enumerate(trees) if not correct([leaf.tokens for leaf in tree.leaves])]
            eligible = [place for place in failing if saturated[place]]
            eligible += [place for place in failing if not saturated[place]]
        grants = self.deal(surplus, eligible)
        for place, grant in grants.items():
            self.restart(trees[place], grant, saturated[place])
        return OraclePool(trees, surplus, eligible, grants)

    def deal(self, surplus: int, eligible: list[int]) -> dict[int, int]:
        """One sequence each in turn, to those below the cap, until nothing or nobody is left."""
        grants = dict.fromkeys(eligible, 0)
        while surplus and any(grants[place] < self.settings.extra_cap for place in eligible):
            for place in eligible:
                if surplus and grants[place] < self.settings.extra_cap:
                    grants[place] += 1
                    surplus -= 1
        return grants

    def race(self, tree: OracleTree, answer: Callable[[list[int]], int | None]) -> None:
        """Section 5: all M roots to their ends first, then as much of each as the race leaves."""
        settings = self.settings
        for _ in range(settings.max_sequences):
            self.grow(tree, cap=None, threshold=math.inf)
        lengths, answers = [len(leaf.tokens) for leaf in tree.leaves], [answer(leaf.tokens) for leaf in tree.leaves]
        ended, cut, _ = tick_by_tick(
            lengths, answers, settings.first_lanes, settings.max_sequences, settings.settled_at
        )
        tree.leaves = [leaf for leaf in tree.leaves if leaf.path[0] in {*ended, *cut}]
        for root, tokens in cut.items():
            leaf = tree.leaves[root]
            leaf.finish = "cut"
            del leaf.tokens[tokens:]
            del leaf.entropies[tokens:]

    def root(self, tree: OracleTree, number: int) -> None:
        """What a prompt gets where it may have ``number`` sequences more."""
        if self.settings.branching == "systematic":
            self.split(tree, number)
        else:
            self.grow(tree, number, self.settings.entropy_threshold)

    def restart(self, tree: OracleTree, grant: int, saturated: bool) -> None:
        if self.settings.branching != "top2":
            if grant:
                self.root(tree, grant)
            return
        before, run = len(tree.leaves), 0
        threshold = self.settings.entropy_threshold
        while len(tree.leaves) - before < grant:
            run += 1
            if not saturated:
                threshold *= self.settings.threshold_decay
            if run == 3 or (run > 3 and not saturated):
                threshold *= 0.9
            self.grow(tree, grant - (len(tree.leaves) - before), threshold)

    def grow(self, tree: OracleTree, cap: int | None, threshold: float) -> None:
        """Sections 3 and 4: one run of Algorithm 1 from the bare prompt; without branching where ``cap`` is None."""
        settings = self.settings
        leaves = [Leaf((tree.roots,), [])]
        t = quiet_steps = 0
        closed = cap is None
        while active := [leaf for leaf in leaves if leaf.finish is None]:
            logits = {leaf: self.logits(tree.prompt + leaf.tokens) for leaf in active}
            heat = settings.temperature if settings.entropy_of == "tempered" and settings.temperature else 1.0
            nats = {leaf: entropy([logit / heat for logit in logits[leaf]], settings.entropy_top_k) for leaf in active}
            bar = threshold
            if settings.dynamic_percentile is not None and tree.entropies:
                bar = max(bar, float(np.percentile(tree.entropies, settings.dynamic_percentile)))
            branching: list[Leaf] = []
            if cap is not None:
                if settings.count == "all" and len(leaves) >= cap:
                    closed = True
                room = cap - (len(leaves) if settings.count == "all" else len(active))
                passing = [
                    leaf for leaf in active if nats[leaf] >= bar and not (settings.think_gate and leaf.thought_ended)
                ]
                passing.sort(key=lambda leaf: (-nats[leaf], leaf.path))
                branching = [] if closed else passing[: max(0, room)]
            quiet_steps = 0 if branching else quiet_steps + 1
            if settings.branch_window is not None and quiet_steps >= settings.branch_window:
                closed = True
            tree.entropies += nats.values()

            children = []
            for leaf in active:
                first, second = sorted(range(len(logits[leaf])), key=lambda token: (-logits[leaf][token], token))[:2]
                p = next_distribution(logits[leaf], settings)
                token = first
                if leaf in branching:
                    child = Leaf((*leaf.path, t), [*leaf.tokens, second], branch_at=t, branch_entropy=nats[leaf])
                    both = p[first] + p[second]
                    child.weight = leaf.weight * (p[second] / both if both else 0.0)
                    leaf.weight = leaf.weight * (p[first] / both if both else 1.0)
                    child.thought_ended = leaf.thought_ended
                    child.logprob = leaf.logprob + log_softmax(logits[leaf])[second]
                    children.append(child)
                elif settings.temperature:
                    token = self.sample(p, draw(settings.seed, self.task, tree.context, leaf.path, t))
                leaf.tokens.append(token)
                leaf.entropies.append(nats[leaf])
                leaf.logprob += log_softmax(logits[leaf])[token]
            leaves += sorted(children, key=lambda child: child.path)
            for leaf in [*active, *children]:
                self.end(leaf)
            t += 1
        tree.leaves += leaves

    def split(self, tree: OracleTree, copies: int) -> None:
        """Section 3.2: one root, one sequence after another to its end; children are put in order afterwards."""
        settings = self.settings
        root = Leaf((tree.roots,), [], copies=copies)
        leaves, waiting = [root], [root]
        while waiting:
            leaf = waiting.pop()
            while leaf.finish is None:
                t = len(leaf.tokens)
                logits = self.logits(tree.prompt + leaf.tokens)
                heat = settings.temperature if settings.entropy_of == "tempered" and settings.temperature else 1.0
                nats = entropy([logit / heat for logit in logits], settings.entropy_top_k)
                p = next_distribution(logits, settings)
                u = draw(settings.seed, self.task, tree.context, leaf.path, t)
                takers: dict[int, int] = {}
                can_open = leaf.copies > 1 and not (leaf.thought_ended and settings.think_gate)
                if settings.temperature and can_open and nats >= settings.entropy_threshold:
                    f = min(leaf.copies, settings.fan_out or leaf.copies)
                    v = draw(settings.seed, self.task, tree.context, (*leaf.path, -1), t)
                    sizes = [leaf.copies // f] * f
                    for place in range(leaf.copies % f):
                        sizes[(int(f * v) + place) % f] += 1
                    for g, size in enumerate(sizes):
                        token = self.sample(p, (g + u) / f)
                        takers[token] = takers.get(token, 0) + size
                else:
                    most_likely = min(range(len(logits)), key=lambda token: (-logits[token], token))
                    takers[self.sample(p, u) if settings.temperature else most_likely] = leaf.copies
                going_on = min(takers, key=lambda token: (-takers[token], token))
                for token, number in takers.items():
                    if token != going_on:
                        child = Leaf((*leaf.path, t, token), [*leaf.tokens, token], branch_at=t, branch_entropy=nats)
                        child.copies, child.weight = number, number / copies
                        child.thought_ended = leaf.thought_ended
                        child.logprob = leaf.logprob + log_softmax(logits)[token]
                        self.end(child)
                        leaves.append(child)
                        waiting.append(child)
                leaf.tokens.append(going_on)
                leaf.entropies.append(nats)
                leaf.logprob += log_softmax(logits)[going_on]
                leaf.copies, leaf.weight = takers[going_on], takers[going_on] / copies
                self.end(leaf)
        tree.leaves += sorted(leaves, key=lambda leaf: (-1 if leaf.branch_at is None else leaf.branch_at, leaf.path))

    def end(self, leaf: Leaf) -> None:
        """What its newest token makes of a sequence."""
        if leaf.tokens[-1] == self.settings.think_end:
            leaf.thought_ended = True
        if leaf.tokens[-1] in self.settings.eos:
            leaf.finish = "stop"
        elif len(leaf.tokens) == self.settings.max_tokens:
            leaf.finish = "length"

    @staticmethod
    def sample(p: list[float], u: float) -> int:
        cumulative = 0.0
        for token, probability in enumerate(p):
            cumulative += probability
            if cumulative > u:
                return token
        return max(token for token, probability in enumerate(p) if probability > 0)


def log_softmax(logits: Seq[float]) -> list[float]:
    largest = max(logits)
    total = math.log(sum(math.exp(logit - largest) for logit in logits)) + largest
    return [logit - total for logit in logits]
