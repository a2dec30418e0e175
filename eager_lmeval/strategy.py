"""The four strategies (SPEC 5) as plain sequences of runs: stage 1, the surplus, stage 2; on one rank or on many."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple, Protocol

from eager_lmeval import tree as trees
from eager_lmeval.budget import Ledger, share_surplus, surplus
from eager_lmeval.engine.growth import Run, RunSource
from eager_lmeval.journal import NO_SHELF, Shelf
from eager_lmeval.options import Options
from eager_lmeval.ranks import ALONE, Ranks
from eager_lmeval.stage import Itinerary, Stage, Work
from eager_lmeval.tree import Prompt, Tree

__all__ = ["Judge", "Parcel", "PoolResult", "PoolRun", "Totals", "grow_pool", "grow_pools", "restart_threshold"]

Judge = Callable[[Tree], bool]
"""Whether a tree holds a correct sequence. The only thing here that looks at labels."""

TREE = "tree"
"""Name of stage 1 of a prompt behind a gate; roots and grants have their numbers in their names."""


class Engine(Protocol):
    """What a strategy needs of an engine."""

    def run(self, source: RunSource) -> None: ...


class Watcher(Protocol):
    """Is told how far a pool has come."""

    def stage(self, prompts: int, surplus: int | None) -> None:
        """A stage over so many prompts begins; ``surplus`` is None before stage 1 has ended."""

    def prompt_done(self, tree: Tree, done: int | None = None) -> None:
        """A prompt has finished the stage here; ``done`` have on all ranks."""

    def close(self) -> None:
        """The stage has ended here."""


class Summary(NamedTuple):
    """What the budget, and the rank that spends it, must know of what a rank grew of a prompt in stage 1."""

    sequences: int
    roots: int
    tokens: int
    correct: bool
    entropies: tuple[float, ...] = ()
    """Nats; only where the gate of stage 2 depends on them."""

    def joined(self, other: Summary) -> Summary:
        return Summary(
            self.sequences + other.sequences,
            self.roots + other.roots,
            self.tokens + other.tokens,
            self.correct or other.correct,
            self.entropies + other.entropies,
        )


@dataclass(frozen=True)
class Totals:
    """Sums over trees."""

    sequences: int = 0
    branches: int = 0
    tokens: int = 0
    tokens_independent: int = 0
    prefill_tokens: int = 0
    prompts_reused: int = 0
    """Prompts of which something came from the journal."""
    tokens_reused: int = 0
    spent: int = 0
    """Sequences that stage 2 made."""

    def __add__(self, other: Totals) -> Totals:
        return Totals(**{name: value + getattr(other, name) for name, value in asdict(self).items()})


class Parcel(NamedTuple):
    """What one rank sends to another when a pool has ended: the sender's sums, and trees of the receiver's prompts.

    Trees are by the prompt's place in the pool, each as sequences and prefill tokens.
    """

    totals: Totals
    grown: list[tuple[int, list[trees.Sequence], int]]


@dataclass(frozen=True)
class PoolResult:
    """The trees of this rank's prompts in the prompts' order; the ledger and the sums are those of all ranks."""

    trees: list[Tree]
    ledger: Ledger
    totals: Totals
    labels_used: bool


def grow_pool(
    prompts: Sequence[Prompt],
    options: Options,
    engine: Engine,
    judge: Judge | None = None,
    watcher: Watcher | None = None,
) -> PoolResult:
    """Grows one tree a prompt by the options' strategy. ``judge`` is needed by `eager` and used by nothing else."""
    (result,) = grow_pools([PoolRun(prompts, options, engine, judge, watcher)], ALONE)
    return result


def grow_pools(runs: Sequence[PoolRun], ranks: Ranks) -> list[PoolResult]:
    """Stage 1 of all pools, one exchange, stage 2 of all pools, one delivery: ranks wait for each other twice."""
    for run in runs:
        run.grow_first()
    gathered = ranks.gather([run.summaries() for run in runs])
    for pool, run in enumerate(runs):
        run.grow_second([of_rank[pool] for of_rank in gathered])
    received = ranks.deliver([[run.parcel(rank) for run in runs] for rank in range(ranks.size)])
    return [run.result([of_rank[pool] for of_rank in received]) for pool, run in enumerate(runs)]


class PoolRun:
    """One pool on its way through its strategy, as this rank sees it.

    Any rank may grow any prompt, and stage 2 of a prompt need not run where its stage 1 ran; ``owners`` says by place
    to which rank each tree goes in the end. The same on all ranks: prompts, options, owners, queues and grants.
    """

    def __init__(
        self,
        prompts: Sequence[Prompt],
        options: Options,
        engine: Engine,
        judge: Judge | None = None,
        watcher: Watcher | None = None,
        ranks: Ranks = ALONE,
        owners: Sequence[int] | None = None,
        shelf: Shelf = NO_SHELF,
    ) -> None:
        assert options.strategy != "eager" or judge is not None, "strategy eager has a judge"
        self._prompts = prompts
        self._options = options
        self._engine = engine
        self._judge = judge
        self._watcher = watcher
        self._ranks = ranks
        self._owners = owners or [ranks.rank] * len(prompts)
        self._shelf = shelf
        self._here: dict[int, Tree] = {}
        """What this rank holds, by place: grown here, or read from the journal."""
        self._tokens_reused: dict[int, int] = {}
        self._spent = 0
        self._ledger: Ledger
        self.seconds = 0.0
        """Wall time of this rank's work, without waiting for others."""

    def grow_first(self) -> None:
        work = []
        for place, prompt in enumerate(self._prompts):
            roots = self._reuse_first(place)
            if self._options.strategy == "parallel":
                if missing := self._options.max_sequences - roots:
                    part = Tree(prompt)
                    run = Run(prompt, first_root=roots, roots=missing)
                    work.append(Work(place, f"roots {roots}+{missing}", part, _single(run)))
            elif not roots:
                part = Tree(prompt)
                run = Run(prompt, gate=self._options.gate(cap=self._options.max_sequences))
                work.append(Work(place, TREE, part, _single(run)))
        self._run(work, None)

    def summaries(self) -> dict[int, Summary]:
        """Stage 1 of what this rank holds, by place."""
        return {place: self._summary(tree) for place, tree in self._here.items()}

    def grow_second(self, summaries: Iterable[Mapping[int, Summary]]) -> None:
        """Shares the surplus by all ranks' summaries, and grows what was granted."""
        options = self._options
        first: dict[int, Summary] = {}
        for of_rank in summaries:
            for place, summary in of_rank.items():
                first[place] = first[place].joined(summary) if place in first else summary
        places = range(len(self._prompts))
        used = [first[place].sequences for place in places]
        left = surplus(options.max_sequences, used)
        eligible: list[int] = []
        if options.strategy == "adapt":
            eligible = [place for place in places if used[place] >= options.max_sequences]
        elif options.strategy == "eager":
            failing = [place for place in places if not first[place].correct]
            eligible = sorted(failing, key=lambda place: used[place] < options.max_sequences)  # saturated ones first
        grants = {place: n for place, n in share_surplus(left, eligible, options.extra_cap_sequences).items() if n}
        if grants:
            self._spend(grants, first, left)
        self._ledger = Ledger(
            max_sequences=options.max_sequences,
            prompts=len(self._prompts),
            used=sum(used),
            surplus=left,
            eligible=len(eligible),
            grants={self._prompts[place].index: n for place, n in grants.items()},
            unbounded=options.count == "active" and options.strategy != "parallel",
        )

    def parcel(self, rank: int) -> Parcel:
        """What is to be sent to a rank when the pool has ended."""
        held = self._here.values()
        totals = Totals(
            sequences=sum(tree.num_sequences for tree in held),
            branches=sum(tree.num_branches for tree in held),
            tokens=sum(tree.tokens for tree in held),
            tokens_independent=sum(tree.tokens_independent for tree in held),
            prefill_tokens=sum(tree.prefill_tokens for tree in held),
            prompts_reused=len(self._tokens_reused),
            tokens_reused=sum(self._tokens_reused.values()),
            spent=self._spent,
        )
        return Parcel(
            totals,
            [
                (place, tree.sequences, tree.prefill_tokens)
                for place, tree in self._here.items()
                if self._owners[place] == rank
            ],
        )

    def result(self, parcels: Iterable[Parcel]) -> PoolResult:
        """The pool's result from what all ranks sent to this one. Raises RuntimeError when the ledger does not balance.

        A tree's sequences come in order of creation: by root, and those of one root from one rank.
        """
        totals = Totals()
        mine = {place: Tree(prompt) for place, prompt in enumerate(self._prompts) if self._owners[place] == self._rank}
        for parcel in parcels:
            totals += parcel.totals
            for place, sequences, prefill_tokens in parcel.grown:
                _join(mine[place], sequences, prefill_tokens)
        for tree in mine.values():
            tree.check_integrity()
        ledger = self._ledger.with_spent(totals.spent)
        ledger.check_balance()
        return PoolResult(list(mine.values()), ledger, totals, labels_used=self._options.strategy == "eager")

    @property
    def _rank(self) -> int:
        return self._ranks.rank

    def _reuse_first(self, place: int) -> int:
        """Takes what the journal has of a prompt's stage 1; returns its number of roots, the same on all ranks."""
        parts = self._shelf.parts(place)
        if self._options.strategy != "parallel":
            if TREE in parts:
                self._reuse(place, TREE)
            return int(TREE in parts)
        roots = 0
        spans = {_span(part): part for part in parts if part.startswith("roots ")}
        while roots < self._options.max_sequences:
            following = [span for span in spans if span.first == roots]
            if not following:
                break
            longest = max(following)
            self._reuse(place, spans[longest], self._options.max_sequences - roots)
            roots = min(roots + longest.roots, self._options.max_sequences)
        return roots

    def _reuse(self, place: int, part: str, most: int | None = None) -> int:
        """Takes a journaled part, or its first ``most`` sequences, if this rank has read it; how many it took."""
        if self._shelf.parts(place)[part] != self._rank:
            return 0
        record = self._shelf.load(place, part)
        tree = self._here.setdefault(place, Tree(self._prompts[place]))
        sequences = record.sequences[:most]
        _join(tree, sequences, record.prefill_tokens)
        tokens = sum(sequence.own_tokens for sequence in sequences)
        self._tokens_reused[place] = self._tokens_reused.get(place, 0) + tokens
        return len(sequences)

    def _summary(self, tree: Tree) -> Summary:
        options = self._options
        correct = self._judge is not None and options.strategy == "eager" and self._judge(tree)
        eligible = (options.strategy == "adapt" and tree.num_sequences >= options.max_sequences) or (
            options.strategy == "eager" and not correct
        )
        entropies = tuple(tree.entropies()) if eligible and options.dynamic_percentile is not None else ()
        return Summary(tree.num_sequences, tree.num_roots, tree.tokens, correct, entropies)

    def _spend(self, grants: Mapping[int, int], first: Mapping[int, Summary], left: int) -> None:
        """Stage 2, the prompt with the most tokens to come first, so that no rank ends with it alone."""
        work = []
        for place in sorted(grants, key=lambda place: -grants[place] * first[place].tokens / first[place].sequences):
            name = f"grant {grants[place]}"
            if name in self._shelf.parts(place):
                self._spent += self._reuse(place, name)
            else:
                part = Tree(self._prompts[place])
                itinerary = _restart(part, first[place], grants[place], self._options)
                work.append(Work(place, name, part, itinerary))
        self._spent += self._run(work, left)

    def _run(self, work: Sequence[Work], left: int | None) -> int:
        """Runs one stage; returns the number of sequences that it made here."""
        if not work:
            return 0
        if self._watcher:
            self._watcher.stage(len(work), left)
        started = time.perf_counter()
        stage = Stage(work, self._ranks.queue(len(work)), self._keep, self._options)
        self._engine.run(stage)
        self.seconds += time.perf_counter() - started
        if self._watcher:
            self._watcher.close()
        return stage.sequences

    def _keep(self, work: Work, done: int) -> None:
        self._shelf.keep(work.place, work.name, work.part)
        tree = self._here.setdefault(work.place, Tree(work.part.prompt))
        _join(tree, work.part.sequences, work.part.prefill_tokens)
        if self._watcher:
            self._watcher.prompt_done(tree, done)


class _Span(NamedTuple):
    """Roots ``first`` … ``first + roots − 1``."""

    first: int
    roots: int


def _span(part: str) -> _Span:
    first, roots = part.removeprefix("roots ").split("+")
    return _Span(int(first), int(roots))


def _join(tree: Tree, sequences: Sequence[trees.Sequence], prefill_tokens: int) -> None:
    """Adds what was grown elsewhere or earlier; sequences stay in order of creation, which is by root."""
    tree.sequences = sorted([*tree.sequences, *sequences], key=lambda sequence: sequence.path[0])
    tree.prefill_tokens += prefill_tokens


def _single(run: Run) -> Itinerary:
    yield run


def _restart(part: Tree, first: Summary, grant: int, options: Options) -> Itinerary:
    """Algorithm 1 again and again from the bare prompt, until ``part`` has ``grant`` sequences."""
    saturated = first.sequences >= options.max_sequences
    number = 0
    while part.num_sequences < grant:
        number += 1
        yield Run(
            part.prompt,
            first_root=first.roots + part.num_roots,
            gate=options.gate(cap=grant - part.num_sequences, threshold=restart_threshold(options, number, saturated)),
            entropies_so_far=((*first.entropies, *part.entropies()) if options.dynamic_percentile is not None else ()),
            may_continue=True,
        )


def restart_threshold(options: Options, number: int, saturated: bool) -> float:
    """θ′ in nats of a prompt's ``number``-th run of stage 2, counted from 1.

    An unsaturated prompt's falls by the decay on every run, a saturated one's does not; from the third run on, either
    falls by 0.9 on every run besides.
    """
    decay = 1.0 if saturated else options.threshold_decay**number
    return options.entropy_threshold * decay * 0.9 ** max(0, number - 2)
