"""One pool on its way through its strategy, as one rank of several sees it: grown here, journaled, sent home."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import TYPE_CHECKING

from eager_lmeval.algorithm import strategy
from eager_lmeval.algorithm.budget import Ledger, surplus
from eager_lmeval.algorithm.lanes import Classify
from eager_lmeval.algorithm.options import Options
from eager_lmeval.algorithm.strategy import Judge, Summary
from eager_lmeval.algorithm.tree import Prompt, Sequence, Tree
from eager_lmeval.engine.counts import TreeCounts
from eager_lmeval.journal.parts import RACE, TREE, grant_part, roots_part, single_roots, successive_roots
from eager_lmeval.journal.pool_journal import NO_JOURNAL, PoolJournal
from eager_lmeval.pools.result import Parcel, PoolResult, Races
from eager_lmeval.pools.stage import Stage, Work
from eager_lmeval.processes.ranks import ALONE, Ranks

if TYPE_CHECKING:
    from eager_lmeval.pools.decoding import PoolEngine
    from eager_lmeval.pools.progress import Progress

__all__ = ["Job", "PoolRun", "grow_pool", "grow_pools"]


def grow_pool(
    prompts: Seq[Prompt],
    options: Options,
    engine: PoolEngine,
    judge: Judge | None = None,
    progress: Progress | None = None,
    classify: Classify | None = None,
) -> PoolResult:
    """Grows one tree a prompt by the options' strategy.

    ``judge`` is needed by `eager` and used by nothing else, ``classify`` by what asks whether a vote is settled.
    """
    (result,) = grow_pools([PoolRun(Job(prompts, options, judge, classify), engine, progress)], ALONE)
    return result


def grow_pools(runs: Seq[PoolRun], ranks: Ranks) -> list[PoolResult]:
    """Stage 1 of all pools, one exchange, stage 2 of all pools, one delivery: ranks wait for each other twice."""
    for run, ended in zip(runs, _ended_roots(runs, ranks), strict=True):
        run.grow_first(ended)
    gathered = ranks.gather([run.summaries() for run in runs])
    for pool, run in enumerate(runs):
        run.grow_second([of_rank[pool] for of_rank in gathered])
    received = ranks.deliver([[run.parcel(rank) for run in runs] for rank in range(ranks.size)])
    return [run.result([of_rank[pool] for of_rank in received]) for pool, run in enumerate(runs)]


EndedRoots = dict[int, dict[int, Sequence]]
"""By place and root: those that have ended in races that have not."""


def _ended_roots(runs: Seq[PoolRun], ranks: Ranks) -> list[EndedRoots]:
    """What all ranks have read of unfinished races, by pool; each race goes on where the queue puts it."""
    if not any(run.unfinished_races for run in runs):
        return [{} for _ in runs]
    found: list[EndedRoots] = [{} for _ in runs]
    for of_rank in ranks.gather([run.read_ended_roots() for run in runs]):
        for of_pool, read in zip(found, of_rank, strict=True):
            for place, roots in read.items():
                of_pool.setdefault(place, {}).update(roots)
    return found


@dataclass(frozen=True)
class Job:
    """What is to be grown; the same on all ranks."""

    prompts: Seq[Prompt]
    options: Options
    judge: Judge | None = None
    """Says which trees have something correct: for `eager`."""
    classify: Classify | None = None
    """Says which answers are equal: for `consistency`."""
    owners: Seq[int] | None = None
    """By place, to which rank each tree goes in the end; None: all stay where they are."""
    visible: int | None = None
    """How many sequences of a prompt anything can see; None: all."""

    def __post_init__(self) -> None:
        assert self.options.strategy != "eager" or self.judge is not None, "strategy eager has a judge"
        assert self.options.strategy != "consistency" or self.classify is not None, "a race has classes of answers"


class PoolRun:
    """One pool on its way through its strategy, as this rank sees it.

    Any rank may grow any prompt, and stage 2 of a prompt need not run where its stage 1 ran. The same on all ranks:
    jobs, queues and grants.
    """

    def __init__(
        self,
        job: Job,
        engine: PoolEngine,
        progress: Progress | None = None,
        ranks: Ranks = ALONE,
        journal: PoolJournal = NO_JOURNAL,
    ) -> None:
        self._job = job
        self._engine = engine
        self._progress = progress
        self._ranks = ranks
        self._owners = job.owners or [ranks.rank] * len(job.prompts)
        self._journal = journal
        self._here: dict[int, Tree] = {}
        """What this rank holds, by place: grown here, or read from the journal."""
        self._reused: set[int] = set()
        self._tokens_reused = 0
        self._spent = 0
        self._ended: EndedRoots = {}
        self._ledger: Ledger
        self._first: list[Summary]
        self.seconds = 0.0
        """Wall time of this rank's work, without waiting for others."""

    @property
    def unfinished_races(self) -> dict[int, dict[int, str]]:
        """The journal's parts of races of which it does not have the end, by place and root; the same on all ranks."""
        if self._job.options.strategy != "consistency":
            return {}
        parts = {place: self._journal.parts(place) for place in range(len(self._job.prompts))}
        roots = {place: single_roots(of) for place, of in parts.items() if RACE not in of}
        return {place: of for place, of in roots.items() if of}

    def read_ended_roots(self) -> EndedRoots:
        """Those of `unfinished_races` that this rank has read."""
        return {
            place: {
                root: self._journal.load(place, part).sequences[0]
                for root, part in roots.items()
                if self._journal.parts(place)[part] == self._ranks.rank
            }
            for place, roots in self.unfinished_races.items()
        }

    def grow_first(self, ended: EndedRoots | None = None) -> None:
        """Grows what the journal does not have of stage 1; ``ended`` is what all ranks have of unfinished races."""
        self._ended = ended or {}
        options, work, most = self._job.options, [], 0
        for place, prompt in enumerate(self._job.prompts):
            roots = 0
            if options.strategy == "parallel":
                roots = self._reuse_roots(place)
                name, done = roots_part(roots, options.max_sequences - roots), roots == options.max_sequences
            else:
                name = RACE if options.strategy == "consistency" else TREE
                done = self._reuse(place, name) is not None
            if not done:
                part = Tree(prompt)
                work.append(Work(place, name, part, strategy.first_stage(part, options, roots, self._race(place))))
                most += options.max_sequences - roots
        self._run(1, work, most)

    def summaries(self) -> dict[int, Summary]:
        """Stage 1 of what this rank holds, by place."""
        return {
            place: strategy.summarize(tree, self._job.options, self._job.judge) for place, tree in self._here.items()
        }

    def _race(self, place: int) -> strategy.Race | None:
        """What the race of a prompt needs, where there is one."""
        if self._job.classify is None:
            return None
        ended = self._ended.get(place, {})

        def keep(sequence: Sequence) -> None:
            self._journal.keep(place, roots_part(sequence.path[0], 1), Tree(self._job.prompts[place], [sequence]))

        return strategy.Race(self._job.classify, ended, keep)

    def grow_second(self, summaries: Iterable[Mapping[int, Summary]]) -> None:
        """Shares the surplus by all ranks' summaries, and grows what was granted."""
        options = self._job.options
        by_place: dict[int, Summary] = {}
        for of_rank in summaries:
            for place, summary in of_rank.items():
                by_place[place] = by_place[place].joined(summary) if place in by_place else summary
        first = self._first = [by_place[place] for place in range(len(self._job.prompts))]
        used = [summary.sequences for summary in first]
        left = surplus(options.max_sequences, used)
        eligible = strategy.eligible(first, options)
        visible = self._job.visible
        room = None if visible is None else {place: max(0, visible - used[place]) for place in eligible}
        eligible = [place for place in eligible if room is None or room[place]]
        grants = strategy.share_out(left, eligible, options, room)
        if grants:
            self._spend(grants, first, left)
        self._ledger = Ledger(
            max_sequences=options.max_sequences,
            prompts=len(self._job.prompts),
            used=sum(used),
            surplus=left,
            eligible=len(eligible),
            grants={self._job.prompts[place].index: grant for place, grant in grants.items()},
            unbounded=options.count == "active" and options.strategy != "parallel",
            by_copies=options.branching == "systematic",
        )

    def parcel(self, rank: int) -> Parcel:
        """What is to be sent to a rank when the pool has ended."""
        held = self._here.values()
        totals = TreeCounts(
            sequences=sum(tree.num_sequences for tree in held),
            branches=sum(tree.num_branches for tree in held),
            tokens=sum(tree.tokens for tree in held),
            tokens_independent=sum(tree.tokens_independent for tree in held),
            prefill_tokens=sum(tree.prefill_tokens for tree in held),
            tokens_reused=self._tokens_reused,
            spent=self._spent,
        )
        grown = [
            (place, tree.sequences, tree.prefill_tokens)
            for place, tree in self._here.items()
            if self._owners[place] == rank
        ]
        return Parcel(totals, frozenset(self._reused), grown)

    def result(self, parcels: Iterable[Parcel]) -> PoolResult:
        """The pool's result from what all ranks sent to this one. Raises RuntimeError when the ledger does not balance.

        A tree's sequences come in order of creation: by root, and those of one root from one rank.
        """
        totals = TreeCounts()
        reused: set[int] = set()
        rank = self._ranks.rank
        mine = {place: Tree(prompt) for place, prompt in enumerate(self._job.prompts) if self._owners[place] == rank}
        for parcel in parcels:
            totals += parcel.totals
            reused |= parcel.reused
            for place, sequences, prefill_tokens in parcel.grown:
                _join(mine[place], sequences, prefill_tokens)
        for place, tree in mine.items():
            tree.settled_time = self._first[place].settled_time
            tree.check_integrity()
        ledger = self._ledger.with_spent(totals.spent)
        ledger.check_balance()
        labels_used = self._job.options.strategy == "eager"
        standings = [strategy.standing(self._first[place], self._job.options) for place in mine]
        races = None
        if self._job.options.strategy == "consistency":
            settled = [summary.settled_time is not None for summary in self._first]
            races = Races(sum(settled) / len(settled), sum(summary.tokens_of_all for summary in self._first))
        return PoolResult(list(mine.values()), ledger, totals, len(reused), labels_used, standings, races)

    def _reuse_roots(self, place: int) -> int:
        """Takes what the journal has of a prompt's roots; how many from the first on, the same on all ranks."""
        roots = 0
        for part, count in successive_roots(self._journal.parts(place), self._job.options.max_sequences):
            self._reuse(place, part, count)
            roots += count
        return roots

    def _reuse(self, place: int, part: str, most: int | None = None) -> int | None:
        """Takes a journaled part, or its first ``most`` sequences, if this rank has read it; how many it took.

        None on all ranks when the journal does not have that part.
        """
        reader = self._journal.parts(place).get(part)
        if reader is None:
            return None
        if reader != self._ranks.rank:
            return 0
        record = self._journal.load(place, part)
        sequences = record.sequences[:most]
        tree = self._here.setdefault(place, Tree(self._job.prompts[place]))
        _join(tree, sequences, record.prefill_tokens)
        tree.settled_time = record.settled_time
        self._reused.add(place)
        self._tokens_reused += sum(sequence.own_tokens for sequence in sequences)
        return len(sequences)

    def _spend(self, grants: dict[int, int], first: Seq[Summary], left: int) -> None:
        """Stage 2."""
        work, most = [], 0
        for place in strategy.longest_first(grants, first):
            name = grant_part(grants[place], self._job.options.threshold_decay)
            taken = self._reuse(place, name)
            if taken is None:
                part = Tree(self._job.prompts[place])
                itinerary = strategy.second_stage(part, first[place], grants[place], self._job.options)
                work.append(Work(place, name, part, itinerary))
                most += grants[place]
            else:
                self._spent += taken
        self._spent += self._run(2, work, most, left)

    def _run(self, number: int, work: Seq[Work], most: int, left: int | None = None) -> int:
        """Runs one stage; returns the number of sequences that it made here."""
        if not work:
            return 0
        if self._progress:
            self._progress.stage(number, len(work), most, left)
        started = time.perf_counter()
        stage = Stage(work, self._ranks.queue(len(work)), self._keep)
        try:
            self._engine.run(stage)
        finally:
            if self._progress:
                self._progress.close()
        self.seconds += time.perf_counter() - started
        return stage.sequences

    def _keep(self, work: Work, done: int) -> None:
        self._journal.keep(work.place, work.name, work.part)
        tree = self._here.setdefault(work.place, Tree(work.part.prompt))
        _join(tree, work.part.sequences, work.part.prefill_tokens)
        if work.name == RACE:
            tree.settled_time = work.part.settled_time
            self._count_reused(work)
        if self._progress:
            self._progress.prompt_done(work.part, done)

    def _count_reused(self, work: Work) -> None:
        """Of a race that has ended: the roots that an earlier run had decoded."""
        if ended := self._ended.get(work.place):
            self._reused.add(work.place)
            known = (sequence for sequence in work.part.sequences if sequence.path[0] in ended)
            self._tokens_reused += sum(sequence.own_tokens for sequence in known)


def _join(tree: Tree, sequences: Seq[Sequence], prefill_tokens: int) -> None:
    """Adds what was grown elsewhere or earlier; sequences stay in order of creation, which is by root."""
    tree.sequences = sorted([*tree.sequences, *sequences], key=lambda sequence: sequence.path[0])
    tree.prefill_tokens += prefill_tokens
