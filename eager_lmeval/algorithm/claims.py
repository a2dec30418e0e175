"""What the sequences of one prompt say of themselves, and whether it can be true (SPEC 1, 3, 5, 6).

A tree that was grown, a journal's record and a sample are all held against the same rules. No files, no formats.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Sequence as Seq
from dataclasses import dataclass, fields
from typing import Any

__all__ = ["Claim", "Path", "parent_path", "require_tree"]

Path = tuple[int, ...]

MOST_NATS = 25.0
"""More entropy than any vocabulary has."""
MOST_TOKEN = 2**31
"""Beyond any vocabulary, and what tokenizers can be asked for."""
_ROUNDED = 1e-3
"""What entropies and log-probabilities may be off by rounding: records keep four digits."""
_EXACT = 1e-6


def parent_path(path: Path, branch_at: int) -> Path:
    """The path of the sequence that a child left: it is ``P + (t,)`` under `top2` and ``P + (t, token)`` otherwise.

    The indices along a path of `top2` rise, so the last but one of them is never ``branch_at``.
    """
    return path[:-2] if len(path) > 2 and path[-2] == branch_at else path[:-1]


@dataclass(frozen=True)
class Claim:
    """One sequence. None is what is not known, as of a model without trees, where no default says otherwise."""

    path: Path
    weight: float
    text: str
    answer_at: int | None
    """None: it has no answer."""
    branch_at: int | None = None
    """None: it is a root."""
    branch_entropy: float | None = None
    branch_logprob: float | None = None
    copies: int | None = None
    finish: str | None = None
    start: int | None = None
    num_tokens: int | None = None
    """All of its tokens, shared ones included."""
    token_ids: Seq[int] | None = None
    """From its fork on."""
    entropies: Seq[float] | None = None
    """Of the positions that it decoded itself; those that are not known are the last."""
    mean_entropy: float | None = None
    logprob: float | None = None
    likeliest: Seq[tuple[int, float, float]] = ()

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> Claim:
        """What stands in a sequence's record."""
        said = {field.name: record[field.name] for field in fields(cls) if field.name in record}
        return cls(**{"answer_at": None, **said, "path": tuple(record["path"])})

    @property
    def own_from(self) -> int:
        return self.branch_at or 0

    @property
    def decoded_from(self) -> int:
        """The first position whose entropy stands in ``entropies``."""
        return 0 if self.branch_at is None else self.branch_at + 1


def require_tree(claims: Iterable[Claim], *, of_prompt: bool, vocabulary: int | None = None) -> None:
    """ValueError, which says what of which sequence, where the claims cannot all be true of one tree.

    Weights are shares of the whole prompt where ``of_prompt``, else of each root. Token ids are below ``vocabulary``.
    """
    seen: dict[Path, Claim] = {}
    entropies: dict[Path, list[float]] = {}
    for claim in claims:
        problem = next(_alone(claim, vocabulary or MOST_TOKEN), None)
        if problem is None and claim.path in seen:
            problem = "stands there twice: two sequences with one path"
        if problem is None:
            problem = next(_as_child(claim, seen), None)
        if problem is None and claim.entropies is not None:
            entropies[claim.path] = _all_entropies(claim, entropies)
            problem = next(_of_entropies(claim, entropies), None)
        if problem is not None:
            raise ValueError(f"sequence {list(claim.path)} {problem}")
        seen[claim.path] = claim
    for problem in _together(list(seen.values()), of_prompt):
        raise ValueError(problem)


def _alone(claim: Claim, vocabulary: int) -> Iterator[str]:
    """What is wrong with a sequence whatever the others are."""
    if not claim.path or min(claim.path) < 0:
        yield "has no path"
    if (claim.branch_at is None) != (len(claim.path) == 1) or (claim.branch_at or 0) < 0:
        yield f"is no root and no child, by its branch_at={claim.branch_at}"
    if (claim.branch_at is None) != (claim.branch_entropy is None):
        yield f"has branch_at={claim.branch_at} and branch_entropy={claim.branch_entropy}"
    if not 0 <= claim.weight <= 1 + _EXACT:
        yield f"has the weight {claim.weight}"
    if claim.copies is not None and claim.copies < 1:
        yield f"has {claim.copies} copies"
    if claim.answer_at is not None and not 0 <= claim.answer_at <= len(claim.text):
        yield f"has an answer at {claim.answer_at} of a text of {len(claim.text)} characters"
    if (claim.start or 0) < 0:
        yield f"has start={claim.start}"
    if claim.finish == "cut" and (claim.answer_at is not None or claim.branch_at is not None):
        yield "was cut, and says that it is a child or has an answer"
    if any(logprob is not None and not logprob <= _ROUNDED for logprob in (claim.logprob, claim.branch_logprob)):
        yield f"has log-probabilities above 0: {claim.logprob}, {claim.branch_logprob}"
    if claim.num_tokens is None:
        if claim.token_ids or claim.entropies or claim.likeliest or claim.branch_at is not None:
            yield "says something of its tokens, and not how many it has"
        return
    if claim.finish is None:
        yield "is unfinished"
    own = claim.num_tokens - claim.own_from
    if own < 1 or (claim.token_ids is not None and len(claim.token_ids) != own):
        yield f"has {claim.num_tokens} tokens, branch_at={claim.branch_at} and {len(claim.token_ids or ())} of its own"
    for token in claim.token_ids or ():
        if not 0 <= token < vocabulary:
            yield f"has the token {token}, which is not in the vocabulary"
    last, most = claim.own_from - 1, claim.num_tokens
    for at, first, second in claim.likeliest:
        if not last < at < most:
            yield f"has a probability at {at}, which it did not decode"
        if not 0 <= second <= first + _EXACT or not first + second <= 1 + 2 * _ROUNDED:
            yield f"has the probabilities {first} and {second} at {at}"
        last = at


def _as_child(claim: Claim, seen: Mapping[Path, Claim]) -> Iterator[str]:
    """What is wrong with where it left an older sequence."""
    if claim.branch_at is None:
        return
    at, parent = claim.branch_at, seen.get(parent_path(claim.path, claim.branch_at))
    if parent is None:
        yield "was created before its parent, or comes from no sequence before it"
        return
    ending = claim.path[len(parent.path) :]
    token = claim.token_ids[0] if claim.token_ids else None
    if (claim.copies is None and ending != (at,)) or (
        claim.copies is not None and (len(ending) != 2 or ending[0] != at or token not in (None, ending[1]))
    ):
        yield f"does not say it left its parent at {at}"
    if at < parent.decoded_from or (parent.num_tokens is not None and at >= parent.num_tokens):
        yield f"left its parent at {at}, where that decoded nothing"
    elif token is not None and parent.token_ids is not None and parent.token_ids[at - parent.own_from] == token:
        yield f"equals its parent at {at}"


def _all_entropies(claim: Claim, of: Mapping[Path, list[float]]) -> list[float]:
    """Of its positions up to the first whose entropy is not known, shared ones included."""
    if claim.branch_at is None:
        return list(claim.entropies or ())
    shared = of.get(parent_path(claim.path, claim.branch_at), [])[: claim.branch_at]
    own = [claim.branch_entropy or 0.0, *(claim.entropies or ())]
    return shared if len(shared) < claim.branch_at else [*shared, *own]


def _of_entropies(claim: Claim, of: Mapping[Path, list[float]]) -> Iterator[str]:
    own, at, whole = claim.entropies or (), claim.branch_at, of[claim.path]
    if any(not -_ROUNDED <= nats <= MOST_NATS for nats in (*own, claim.branch_entropy or 0.0)):
        yield f"has an entropy that is none, beyond 0 to {MOST_NATS} nats"
        return
    decoded = (claim.num_tokens or 0) - claim.decoded_from
    if len(own) > decoded:
        yield f"has {len(own)} entropies of {decoded} positions"
    if at is not None:
        of_parent = of.get(parent_path(claim.path, at), [])
        if len(of_parent) > at and abs(of_parent[at] - (claim.branch_entropy or 0.0)) > _ROUNDED:
            yield f"has branch_entropy={claim.branch_entropy}, and its parent {of_parent[at]} there"
    if claim.mean_entropy is not None and (
        len(whole) != claim.num_tokens or not abs(math.fsum(whole) / len(whole) - claim.mean_entropy) <= _ROUNDED
    ):
        yield f"has mean_entropy={claim.mean_entropy}, which is not that of its entropies"


def _together(claims: Seq[Claim], of_prompt: bool) -> Iterator[str]:
    """What is wrong with all of them: shares and copies."""
    if len({claim.copies is None for claim in claims}) > 1:
        yield "some sequences have copies, and some have none"
        return
    if len({claim.start is None for claim in claims}) > 1:
        yield "some sequences are of a race, and some are not"
    if any(claim.finish == "cut" and claim.start is None for claim in claims):
        yield "a sequence was cut, and is not of a race"
    by_root: dict[int, list[Claim]] = {}
    for claim in claims:
        by_root.setdefault(claim.path[0], []).append(claim)
    every = sum(claim.copies or 0 for claim in claims)
    for root, own in by_root.items():
        copies = sum(claim.copies or 0 for claim in own)
        share = 1.0 if not of_prompt else copies / every if every else 1 / len(by_root)
        weights = math.fsum(claim.weight for claim in own)
        if abs(weights - share) > _EXACT:
            yield f"the weights of root {root} sum to {weights:g}, not to {share:g}"
        for claim in own if copies else ():
            expected = (claim.copies or 0) / copies * share
            if abs(claim.weight - expected) > _EXACT:
                yield f"sequence {list(claim.path)} has the weight {claim.weight:g}, and copies for {expected:g}"
