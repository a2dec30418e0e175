"""What the strategies do (SPEC 5): the runs of stage 1, who gets the surplus, the runs of stage 2. No state."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from eager_lmeval.algorithm.budget import share_surplus
from eager_lmeval.algorithm.growth import Itinerary, Run
from eager_lmeval.algorithm.lanes import Classify, RaceRun
from eager_lmeval.algorithm.options import Options
from eager_lmeval.algorithm.tree import Prompt, Tree
from eager_lmeval.algorithm.tree import Sequence as SequenceOfTree

__all__ = [
    "Judge",
    "Race",
    "Standing",
    "Summary",
    "eligible",
    "first_stage",
    "longest_first",
    "restart_threshold",
    "second_stage",
    "share_out",
    "standing",
    "summarize",
]

Judge = Callable[[Tree], bool]
"""Whether a tree holds a correct sequence. The only thing here that looks at labels."""


class Summary(NamedTuple):
    """What the budget, and the rank that spends it, must know of what a rank grew of a prompt in stage 1."""

    sequences: int
    roots: int
    tokens: int
    correct: bool
    entropies: tuple[float, ...] = ()
    """Nats; only where the gate of stage 2 depends on them."""
    settled_time: int | None = None
    tokens_of_all: float = 0.0
    """What all M roots would have had, estimated, where a race began fewer."""

    def joined(self, other: Summary) -> Summary:
        return Summary(
            self.sequences + other.sequences,
            self.roots + other.roots,
            self.tokens + other.tokens,
            self.correct or other.correct,
            self.entropies + other.entropies,
            self.settled_time if other.settled_time is None else other.settled_time,
            self.tokens_of_all + other.tokens_of_all,
        )


class Race(NamedTuple):
    """What a prompt's race needs to know that no option says (`lanes.RaceRun`)."""

    classify: Classify
    ended: Mapping[int, SequenceOfTree]
    on_end: Callable[[SequenceOfTree], object]


class Standing(NamedTuple):
    """What a reader of a tree has to know of how its strategy went."""

    rate_roots: int | None
    """The first roots, made whatever had been found: rates are taken over them (SPEC 5, 6). None: all."""
    settled: bool | None = None
    settled_time: int | None = None
    """When it was, in tokens."""


def first_stage(part: Tree, options: Options, roots: int = 0, race: Race | None = None) -> Itinerary:
    """Stage 1 of a prompt, grown into ``part``.

    One root, or for `parallel` what the prompt lacks of M roots beyond ``roots``; for `consistency` a ``race``.
    """
    if options.strategy == "parallel":
        yield Run(part.prompt, first_root=roots, roots=options.max_sequences - roots)
    elif options.strategy == "consistency":
        assert race is not None, "strategy consistency has a vote"
        yield RaceRun(part.prompt, may_continue=True, settings=options.race, **race._asdict())
    else:
        yield grow_root(part.prompt, options, options.max_sequences)


def grow_root(prompt: Prompt, options: Options, number: int, first_root: int = 0, **more: Any) -> Run:
    """One new root that may become ``number`` sequences; ``more`` are further arguments of `Run`."""
    if options.branching == "systematic":
        return Run(prompt, first_root, copies=number, branching=options.splits, **more)
    return Run(prompt, first_root, copies=None, branching=options.gate(cap=number), **more)


def summarize(tree: Tree, options: Options, judge: Judge | None = None) -> Summary:
    """Stage 1 of a prompt, or as much of it as is here. ``judge`` is asked by `eager` alone."""
    summary = Summary(
        tree.num_sequences,
        tree.num_roots,
        tree.tokens,
        correct=options.strategy == "eager" and judge is not None and judge(tree),
        settled_time=tree.settled_time,
        tokens_of_all=_tokens_of_all(tree, options) if options.strategy == "consistency" else 0.0,
    )
    if options.dynamic_percentile is not None and eligible([summary], options):
        return summary._replace(entropies=tuple(tree.entropies()))
    return summary


def _tokens_of_all(tree: Tree, options: Options) -> float:
    """M times the mean length of the first lanes, which is that of all: they are finished whatever is found."""
    lengths = [len(sequence.tokens) for sequence in tree.sequences[: options.first_lanes]]
    return options.max_sequences * sum(lengths) / len(lengths)


def standing(first: Summary, options: Options) -> Standing:
    if options.strategy == "consistency":
        settled = first.settled_time is not None
        return Standing(min(options.first_lanes, options.max_sequences), settled, first.settled_time)
    return Standing(rate_roots=1 if options.strategy != "parallel" and options.branching != "top2" else None)


def eligible(first: Sequence[Summary], options: Options) -> list[int]:
    """Places of the prompts that may get of the surplus, in the order in which a remainder goes round."""
    saturated = [summary.sequences >= options.max_sequences for summary in first]
    if options.strategy == "adapt":
        return [place for place, full in enumerate(saturated) if full]
    if options.strategy == "eager":
        failing = [place for place, summary in enumerate(first) if not summary.correct]
        return sorted(failing, key=lambda place: not saturated[place])  # saturated ones first
    return []


def share_out(
    surplus: int, places: Sequence[int], options: Options, room: Mapping[int, int] | None = None
) -> dict[int, int]:
    """Grants by place, in sequences; places that get none are left out. ``room``: the most that a place has use for."""
    grants = share_surplus(surplus, places, options.extra_cap_sequences, room)
    return {place: grant for place, grant in grants.items() if grant}


def longest_first(grants: dict[int, int], first: Sequence[Summary]) -> list[int]:
    """The places of the grants, the prompt with the most tokens to come first, so that no rank ends with it alone."""
    return sorted(grants, key=lambda place: -grants[place] * first[place].tokens / first[place].sequences)


def second_stage(part: Tree, first: Summary, grant: int, options: Options) -> Itinerary:
    """`restart`: what a prompt was granted, grown from the bare prompt into ``part``.

    Under `top2` that is Algorithm 1 again and again until ``part`` has ``grant`` sequences, under `systematic` one root
    of ``grant`` copies, which may make fewer sequences.
    """
    if options.branching != "top2":
        yield grow_root(part.prompt, options, grant, first.roots)
        return
    saturated = first.sequences >= options.max_sequences
    number = 0
    while part.num_sequences < grant:
        number += 1
        yield Run(
            part.prompt,
            first_root=first.roots + part.num_roots,
            copies=None,
            branching=options.gate(grant - part.num_sequences, restart_threshold(options, number, saturated)),
            entropies_so_far=((*first.entropies, *part.entropies()) if options.dynamic_percentile is not None else ()),
            may_continue=True,
        )


def restart_threshold(options: Options, number: int, saturated: bool) -> float:
    """θ′ in nats of a prompt's ``number``-th run of stage 2, counted from 1.

    Of a prompt that stage 1 saturated: θ on the first two runs, 0.9·θ on all further ones. Of another it falls by the
    decay on every run, and from the third on by 0.9 besides.
    """
    if saturated:
        return options.entropy_threshold * (1.0 if number <= 2 else 0.9)
    return options.entropy_threshold * options.threshold_decay**number * 0.9 ** max(0, number - 2)
