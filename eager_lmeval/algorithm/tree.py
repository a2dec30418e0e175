"""The shared nouns (SPEC 1): prompt, sequence, tree, and what they cost (SPEC 6). No torch, no harness."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from eager_lmeval.algorithm.claims import Claim, Path, parent_path, require_tree

__all__ = ["UNCERTAIN_NATS", "FinishReason", "Path", "Prompt", "Sequence", "Tree", "parent_path"]

FinishReason = Literal["stop", "length", "cut"]

RECORD_FORMAT = 3
"""Version of the JSON record of a tree. 2 added ``copies``, and what a run's strategy says of the tree; 3 sequences
that were cut, and when those of a race started."""
UNCERTAIN_NATS = 0.1
"""The entropy from which on a position's two largest probabilities are kept, for forecasts of other thresholds."""
READABLE_FORMATS = (1, 2, 3)
"""The versions that readers know; what an older one lacks stands for a tree without copies."""


@dataclass(frozen=True)
class Prompt:
    """One request's context. ``index`` is its place in its pool, which is the dataset's order."""

    index: int
    task: str
    context: str
    token_ids: list[int]
    doc_id: int | None = None
    max_new_tokens: int = 0
    """The most tokens that a sequence of this prompt may have: ``max_gen_toks``, or what the model's context leaves."""


@dataclass
class Sequence:
    """One generated continuation; a child holds its parent's first ``branch_at`` tokens too."""

    path: Path
    tokens: list[int] = field(default_factory=list)
    branch_at: int | None = None
    branch_entropy: float | None = None
    """Top-K entropy at the fork, in nats."""
    branch_logprob: float | None = None
    """Raw log-probability (nats) of the token that the fork took."""
    copies: int | None = None
    """Independent samples that it stands for (SPEC 3.2); None under `top2`, whose forks are no samples."""
    weight: float = 1.0
    """Its share of its root: the product of the fork probabilities along the path, or its share of the root's copies.
    The weights of one root's sequences sum to 1 (SPEC 6)."""
    start: int | None = None
    """When it started, in tokens of its race (SPEC 5); None outside a race."""
    finish: FinishReason | None = None
    text: str = ""
    answer_at: int | None = 0
    """Where in ``text`` the answer begins, behind the thinking part; ``None`` when cut off inside that part."""
    answer_from: int | None = 0
    """Index of the first token behind the thinking part; ``None`` inside it."""
    thought_ended: bool = False
    entropies: list[float] = field(default_factory=list)
    """Top-K entropy in nats at each position it decoded itself: a root's from index 0 on, a child's from the one after
    its fork, whose own entropy is ``branch_entropy`` and stands in its parent's list. It ends before the first position
    that came without one (`Growth.extend`)."""
    likeliest: list[tuple[int, float, float]] = field(default_factory=list)
    """Of those positions the uncertain ones (`UNCERTAIN_NATS`): the index, and the probabilities of the two most likely
    tokens (SPEC 4), to three digits."""
    entropy_sum: float = 0.0
    """Sum of the entropies over all its positions, shared ones included; NaN where not all are known."""
    logprob: float = 0.0
    """Sum of the raw log-probabilities (nats, temperature 1, whole vocabulary) of its tokens, shared ones included; NaN
    where not all are known."""

    @property
    def own_from(self) -> int:
        """Index of the first token that it shares with no older sequence."""
        return self.branch_at or 0

    @property
    def decoded_from(self) -> int:
        """Index of the first position whose entropy is in its own list."""
        return 0 if self.branch_at is None else self.branch_at + 1

    @property
    def own_tokens(self) -> int:
        return len(self.tokens) - self.own_from

    @property
    def answer(self) -> str | None:
        """The text after the thinking part, or ``None`` for a sequence that was cut off inside it (SPEC 8)."""
        return None if self.answer_at is None else self.text[self.answer_at :]

    @property
    def parent(self) -> Path | None:
        """The path of the sequence that it left; None of a root."""
        return None if self.branch_at is None else parent_path(self.path, self.branch_at)

    def to_record(self, weight: float) -> dict[str, Any]:
        """As plain JSON data, with its ``weight`` among the sequences that it stands with."""
        return {
            "path": list(self.path),
            "text": self.text,
            "answer_at": self.answer_at,
            "finish": self.finish,
            **({} if self.start is None else {"start": self.start}),
            "num_tokens": len(self.tokens),
            "branch_at": self.branch_at,
            "branch_entropy": self.branch_entropy,
            "branch_logprob": self.branch_logprob,
            "copies": self.copies,
            "weight": weight,
            "mean_entropy": _known(self.entropy_sum / max(1, len(self.tokens))),
            "logprob": _known(self.logprob),
            "token_ids": self.tokens[self.own_from :],
            "entropies": [round(entropy, 4) for entropy in self.entropies],
            "likeliest": [list(one) for one in self.likeliest],
        }

    def fork(self, path: Path, token: int, entropy: float, logprob: float) -> Sequence:
        """The child that leaves this sequence with ``token``, its next one; the caller weighs both.

        ``entropy`` is the top-K entropy there, ``logprob`` the token's raw log-probability, both in nats.
        """
        return Sequence(
            path=path,
            tokens=[*self.tokens, token],
            branch_at=len(self.tokens),
            branch_entropy=entropy,
            branch_logprob=logprob,
            copies=self.copies,
            weight=self.weight,
            answer_from=self.answer_from,
            thought_ended=self.thought_ended,
            entropy_sum=self.entropy_sum + entropy,
            logprob=self.logprob + logprob,
        )


@dataclass
class Tree:
    """All sequences of one prompt, in order of creation, and what they cost."""

    prompt: Prompt
    sequences: list[Sequence] = field(default_factory=list)
    prefill_tokens: int = 0
    """Prompt and prefix tokens pushed through the model without being decoded."""
    settled_time: int | None = None
    """When the vote of its race was settled, in tokens (SPEC 5); None where it was not, and outside a race."""

    @property
    def num_roots(self) -> int:
        return sum(len(sequence.path) == 1 for sequence in self.sequences)

    @property
    def num_sequences(self) -> int:
        return len(self.sequences)

    @property
    def num_branches(self) -> int:
        return sum(sequence.branch_at is not None for sequence in self.sequences)

    @property
    def tokens(self) -> int:
        """Tokens decoded: a shared prefix once, an EOS counted."""
        return sum(sequence.own_tokens for sequence in self.sequences)

    @property
    def tokens_independent(self) -> int:
        """What the same sequences would have cost had nothing been shared."""
        return sum(len(sequence.tokens) for sequence in self.sequences)

    def entropies(self) -> list[float]:
        """Entropies (nats) of all positions decoded so far, a fork's position and shared ones once."""
        return [entropy for sequence in self.sequences for entropy in sequence.entropies]

    def check_integrity(self, vocabulary: int | None = None) -> None:
        """ValueError where the sequences are no tree: what `require_tree` asks, and each child equal to its parent
        up to the fork. Token ids are below ``vocabulary``, if that is given."""
        claims = [Claim.read(sequence.to_record(sequence.weight)) for sequence in self.sequences]
        require_tree(claims, of_prompt=False, vocabulary=vocabulary)
        by_path = {sequence.path: sequence for sequence in self.sequences}
        for sequence in self.sequences:
            if sequence.parent is not None and sequence.branch_at is not None:
                shared = by_path[sequence.parent].tokens[: sequence.branch_at]
                if sequence.tokens[: sequence.branch_at] != shared:
                    raise ValueError(f"sequence {list(sequence.path)} left its parent before {sequence.branch_at}")

    def weights(self) -> list[float]:
        """Each sequence's share of the prompt (SPEC 6); they sum to 1."""
        copies = [sequence.copies for sequence in self.sequences]
        if None in copies:
            return [sequence.weight / self.num_roots for sequence in self.sequences]
        total = sum(number or 0 for number in copies)
        return [(number or 0) / total for number in copies]

    def to_record(self) -> dict[str, Any]:
        """The whole tree as plain JSON data, from which every number of the results can be computed again.

        ``token_ids`` and ``entropies`` of a sequence begin at its fork: what stands before is its parent's. Weights
        sum to 1. Where entropies are not known of all positions, ``mean_entropy`` and ``logprob`` are None.
        """
        return {
            "format": RECORD_FORMAT,
            "num_sequences": self.num_sequences,
            "num_branches": self.num_branches,
            "num_roots": self.num_roots,
            "tokens": self.tokens,
            "tokens_independent": self.tokens_independent,
            "prompt_tokens": len(self.prompt.token_ids),
            "prefill_tokens": self.prefill_tokens,
            "sequences": [
                sequence.to_record(weight) for sequence, weight in zip(self.sequences, self.weights(), strict=True)
            ],
        }


def _known(number: float) -> float | None:
    return None if math.isnan(number) else number
