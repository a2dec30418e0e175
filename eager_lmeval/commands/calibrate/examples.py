"""What a pilot run left behind: how sequences of each prompt go on, and what they answer."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from eager_lmeval.algorithm.tree import UNCERTAIN_NATS, parent_path
from eager_lmeval.errors import UsageError
from eager_lmeval.runs.documents import Document, documents
from eager_lmeval.runs.run import Run
from eager_lmeval.runs.samples import LoggedSequence, LoggedTree

__all__ = ["Example", "PilotPrompt", "read_pilot"]


@dataclass(frozen=True)
class Example:
    """One sequence of the pilot, from the prompt on."""

    entropies: NDArray[np.float64]
    """At every position, in nats."""
    thinks_until: int
    """Positions from here on lie behind the end of the thinking part."""
    likeliest: Mapping[int, tuple[float, float]] = field(default_factory=dict)
    """By uncertain position (`UNCERTAIN_NATS`): what the most likely token and the second have of the distribution."""
    correct: bool | None = None
    """None where the pilot cannot be graded."""
    answer: int | None = None
    """Number of its answer among the different ones of the prompt; None where it has none."""
    _hesitations: dict[float, list[int]] = field(default_factory=dict, repr=False, compare=False)

    @property
    def length(self) -> int:
        return len(self.entropies)

    @property
    def foreseeable(self) -> bool:
        """Whether the probabilities are known wherever the entropy says that they should be."""
        uncertain: list[int] = np.flatnonzero(self.entropies > UNCERTAIN_NATS).tolist()
        return all(at in self.likeliest for at in uncertain)

    def hesitations(self, threshold: float, first: int) -> list[int]:
        """The positions from ``first`` on whose entropy reaches a threshold (nats)."""
        if threshold not in self._hesitations:
            self._hesitations[threshold] = np.flatnonzero(self.entropies >= threshold).tolist()
        found = self._hesitations[threshold]
        return found[bisect.bisect_left(found, first) :]


@dataclass(frozen=True)
class PilotPrompt:
    """All examples of one prompt and how likely independent sampling makes each."""

    examples: list[Example]
    weights: NDArray[np.float64]

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        return np.array([example.length for example in self.examples])

    @property
    def graded(self) -> bool:
        return all(example.correct is not None for example in self.examples)

    @property
    def rate(self) -> float:
        """Weighted share of right examples."""
        return float(
            sum(weight for example, weight in zip(self.examples, self.weights, strict=True) if example.correct)
        )

    def draw(self, odds: NDArray[np.float64], rng: np.random.Generator) -> Example:
        return self.examples[int(rng.choice(len(odds), p=odds / odds.sum()))]

    def draw_longer(self, length: int, rng: np.random.Generator) -> Example | None:
        """One of the examples that are longer, drawn by weight; None if there is none."""
        longer = self.lengths > length
        if not longer.any():
            return None
        odds = np.where(longer, self.weights, 0.0)
        return self.draw(odds if odds.sum() > 0 else longer.astype(float), rng)


def read_pilot(run: Run, task: str, read: Callable[[], object] = lambda: None) -> list[PilotPrompt]:
    """The pilot's prompts, ``read`` being called after each; UsageError if its samples hold no trees."""
    prompts = []
    for document in documents(run, task):
        tree = document.tree
        if tree is not None and not all(map(_has_all_entropies, tree["sequences"])):
            raise UsageError(
                f"task {task!r}: entropies are missing where nothing could branch any more, which --model eager-vllm "
                f"does not ask vLLM for; make the pilot with --model eager"
            )
        if tree is None or not all(
            sequence.get("entropies") for sequence in tree["sequences"] if sequence.get("branch_at") is None
        ):
            raise UsageError(
                f"task {task!r} logged no trees; make the pilot with --model eager and a task that keeps them, such as "
                f"eager_demo (eager-lmeval paths tasks)"
            )
        prompts.append(_prompt(document, tree))
        read()
    return prompts


def _has_all_entropies(sequence: LoggedSequence) -> bool:
    at = sequence.get("branch_at")
    own_from = 0 if at is None else at + 1
    tokens = sequence.get("num_tokens")
    return tokens is None or len(sequence.get("entropies", [])) == tokens - own_from


def _prompt(document: Document, tree: LoggedTree) -> PilotPrompt:
    """Rebuilds each sequence's entropies from its parent's."""
    whole: dict[tuple[int, ...], tuple[NDArray[np.float64], dict[int, tuple[float, float]]]] = {}
    examples = []
    for sequence, grade in zip(tree["sequences"], document.grades, strict=True):
        path, own = tuple(sequence["path"]), np.array(sequence.get("entropies", []), dtype=float)
        likeliest = {at: (first, second) for at, first, second in sequence.get("likeliest", [])}
        if (at := sequence.get("branch_at")) is not None:
            before, of_parent = whole[parent_path(path, at)]
            own = np.concatenate([before[:at], [sequence["branch_entropy"]], own])
            likeliest |= {place: odds for place, odds in of_parent.items() if place <= at}
        whole[path] = own, likeliest
        until = len(own)
        if (answer_at := sequence.get("answer_at")) and sequence["text"]:
            # The file has no token offsets: the share of the characters stands for the share of the tokens.
            until = round(len(own) * answer_at / len(sequence["text"]))
        correct, answer = (None, None) if grade is None else (grade.correct, grade.answer_class)
        examples.append(Example(own, until, likeliest, correct, answer))
    weights = np.array([sequence["weight"] for sequence in tree["sequences"]], dtype=float)
    total = weights.sum()
    return PilotPrompt(examples, weights / total if total > 0 else np.full(len(weights), 1 / len(weights)))
