"""The engine's loop: which sequences are decoded together, and where. Rows and integers; the runner has the tensors.

Who owns what between two steps::

    place      holds                                                        freed when
    ---------  -----------------------------------------------------------  -----------------------------------
    rows       one unfinished sequence a slot, class by class, a class's    the sequence ends; its class's last row
               on its first slots: keys and values of all but its newest    moves into the gap (in the same step)
               token
    incoming   rows without a slot yet, each with a snapshot of its keys    the next step gives them slots; fresh
               and values: fresh roots, unparked rows, rows that have       roots once they have their first token
               outgrown their class
    parked     rows that found no place, as snapshots                       rows for them are free: for all of a
                                                                            growth in lockstep, for one otherwise
    prefix     a tenant's prompt: snapshot and first logits                 its last root has started, and no
                                                                            further run or root may follow
    intake     prefilled prompts that were not admitted yet                 admitted

A growth in lockstep (behind a gate) is parked as a whole or not at all; the rows of any other come and go singly. When
forks need more rows than there are, the youngest growths' are parked; their keys and values are kept, so nothing is
computed twice, and no result depends on it. Only a growth in lockstep that alone has more sequences than the limit is
decoded in several forward passes a step. The limit follows memory: a class's slots are all as long as its longest row,
so rows that grow long cost places, and give them back when they end; and no more rows begin than there is memory for
when all are as long as rows have become on average.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection
from collections.abc import Sequence as Seq
from itertools import groupby
from typing import Any, TypeVar

import numpy as np

from eager_lmeval.algorithm.growth import Growth, Run, RunSource, Stopper
from eager_lmeval.algorithm.readout import Readout
from eager_lmeval.algorithm.streams import stream_key, uniforms
from eager_lmeval.algorithm.tree import Sequence
from eager_lmeval.engine.counts import EngineCounts
from eager_lmeval.engine.intake import Intake
from eager_lmeval.engine.row_limit import RowLimit
from eager_lmeval.engine.rows import Placed, Row, Tenant, by_class, by_tenant, close_gaps, youngest
from eager_lmeval.engine.runner import OutOfMemory, Prefix, Runner, Slot
from eager_lmeval.engine.sampling import Sampling

__all__ = ["Engine"]

T = TypeVar("T")


class Engine:
    """Grows trees for one pool at a time: `run` takes runs from a source until it is empty."""

    def __init__(
        self,
        runner: Runner,
        stopper: Stopper,
        sampling: Sampling,
        seed: int,
        max_rows: int,
        on_step: Callable[[Engine], None] = lambda engine: None,
    ) -> None:
        self.stats = EngineCounts(max_rows)
        self._row_limit = RowLimit(runner, max_rows, self.stats)
        self.rows: list[Placed] = []
        self._incoming: list[Placed] = []
        self._parked: dict[int, list[Placed]] = {}
        self._rooting: deque[Tenant] = deque()
        self._runner = runner
        self._stopper = stopper
        self._sampling = sampling
        self._seed = seed
        self._on_step = on_step
        self._admitted = 0
        self._source: RunSource
        self._intake: Intake

    def run(self, source: RunSource) -> None:
        """Works until the source is empty and everything it gave has finished."""
        self._source, self._intake = source, Intake(source, self._runner, self.stats)
        self._admit()
        while self.in_use:
            self._step()
            self._admit()

    def _step(self) -> None:
        readouts = self._retrying(self._decode)
        forks = self._grow(readouts)
        self._place(forks)
        self._on_step(self)

    @property
    def limit(self) -> int:
        """Rows decoded at once: as many as memory has room for."""
        return self._row_limit.now

    @property
    def in_use(self) -> int:
        return len(self.rows) + len(self._incoming)

    @property
    def growths(self) -> list[Growth]:
        """Those that have begun and not finished."""
        parked = (placed for of_growth in self._parked.values() for placed in of_growth)
        rows = (*self.rows, *self._incoming, *parked)
        tenants = {tenant.age: tenant for tenant in (*(placed.row.tenant for placed in rows), *self._rooting)}
        return [tenant.growth for tenant in tenants.values()]

    @property
    def waiting(self) -> bool:
        """Whether prompts, or roots of prompts, wait for a row."""
        return bool(self._rooting or self._parked) or self._intake.waiting

    # Admission: parked rows first, then waiting roots, then new prompts.

    def _admit(self) -> None:
        self._fit([*self.rows, *self._incoming])
        for age in sorted(self._parked):
            rows = self._parked[age]
            together = len(rows) if rows[0].row.tenant.growth.lockstep else 1
            while rows and (self.in_use + together <= self.limit or not self.in_use):
                self._incoming.extend(rows[:together])
                del rows[:together]
            if not rows:
                del self._parked[age]
        while self.in_use < self.limit and (self._rooting or self._next_prompt()):
            if self._rooting and self.in_use < self.limit:  # a prefill may have lowered the limit
                self._start_root(self._rooting[0])

    def _fit(self, layout: Seq[Placed]) -> None:
        """Sets the row limit by these rows, the oldest growths' first, and those that are parked."""
        needs = [placed.row.need for placed in sorted(layout, key=lambda placed: placed.row.tenant.age)]
        self._row_limit.fit(needs, [placed.row.need for age in sorted(self._parked) for placed in self._parked[age]])

    def _start_root(self, tenant: Tenant) -> None:
        assert tenant.prefix is not None, "a tenant with waiting roots has its prefix"
        growth = tenant.growth
        row = self._row(tenant, growth.start_root())
        self.stats.roots += 1
        row.first_logits = tenant.prefix.logits
        self._incoming.append(Placed(tenant.prefix.snapshot, row))
        if not growth.waiting_roots:
            self._rooting.remove(tenant)
            if not growth.run.may_continue:
                tenant.prefix = None

    def _next_prompt(self) -> bool:
        """Lets the next prefilled prompt start its roots; False when there is none, or parked rows are too many."""
        if sum(map(len, self._parked.values())) >= self.limit:
            return False
        taken = self._prefilled()
        if taken is None:
            return False
        run, prefix = taken
        growth = run.begin(self._stopper)
        growth.prefill_tokens = len(run.prompt.token_ids)
        self._enter(growth, prefix)
        return True

    def _prefilled(self) -> tuple[Run, Prefix] | None:
        """The next prompt, or None: there is none, or memory for it comes only when a row has ended."""
        while True:
            try:
                return self._intake.next()
            except OutOfMemory as error:
                self.stats.out_of_memory += 1
                reason = str(error)
            if self._runner.slots.total() <= len(self.rows) and self.in_use:
                return None
            self._shrink(reason)

    def _enter(self, growth: Growth, prefix: Prefix) -> None:
        tenant = Tenant(growth, self._admitted, prefix)
        self._admitted += 1
        if growth.done:  # a race whose roots were all known
            self._finish(tenant)
        else:
            self._rooting.append(tenant)

    def _row(self, tenant: Tenant, sequence: Sequence) -> Row:
        prompt = tenant.growth.run.prompt
        key = stream_key(self._seed, prompt.task, prompt.context, sequence.path)
        return Row(tenant, sequence, key, len(prompt.token_ids))

    # One step: decode, grow, place.

    def _decode(self) -> list[Readout]:
        """Readouts of `rows`, then of the fresh ones among `incoming`."""
        self._settle()
        rows = [placed.row for placed in (*self.rows, *self._incoming)]
        strata = [row.tenant.growth.strata(row.sequence) for row in rows]
        keys = np.array([row.key for row in rows], dtype=np.uint64)
        steps = np.array([len(row.sequence.tokens) for row in rows], dtype=np.uint64)
        return self._runner.decode(
            [placed.row.sequence.tokens[-1] for placed in self.rows],
            [placed.row.length for placed in self.rows],
            [placed.row.first_logits for placed in self._incoming],
            uniforms(keys, steps),
            self._sampling,
            self.limit,
            np.array(strata, dtype=np.int64),
        )

    def _settle(self) -> None:
        """Gives every incoming row that has a token a slot of its class."""
        settling = [placed for placed in self._incoming if not placed.row.fresh]
        rows = [*self.rows, *settling]
        if not rows:
            return
        self._row_limit.reserve([placed.row.need for placed in rows], self._give_back)
        if not settling:
            return
        settled: list[Placed] = []
        for length_class, of_class in by_class(rows).items():
            for _, group in groupby(enumerate(of_class), lambda one: id(one[1].source)):
                together = list(group)
                first, (source, _) = together[0]
                if not isinstance(source, Slot):
                    self._runner.restore(Slot(length_class, first), len(together), source)
                settled += [Placed(Slot(length_class, place), placed.row) for place, placed in together]
        self.rows = settled
        self._incoming = [placed for placed in self._incoming if placed.row.fresh]

    def _grow(self, readouts: list[Readout]) -> list[Placed]:
        """Feeds the readouts to their growths; returns the forks' children, each with its parent's source."""
        self.stats.count(self.in_use, self.limit, self.waiting)
        stepping = [*self.rows, *self._incoming]
        children = []
        for of_tenant in by_tenant(row for _, row in stepping):
            tenant = stepping[of_tenant[0]].row.tenant
            active = [stepping[place].row.sequence for place in of_tenant]
            source = {id(stepping[place].row.sequence): stepping[place].source for place in of_tenant}
            forks = tenant.growth.advance([readouts[place] for place in of_tenant], active)
            children += [Placed(source[id(fork.parent)], self._row(tenant, fork.child)) for fork in forks]
        self.stats.forks += len(children)
        return children

    def _place(self, children: list[Placed]) -> None:
        """Ended rows leave, children take free slots, growths that no longer fit are parked, finished ones go home."""
        stepped = [*self.rows, *self._incoming, *children]
        tenants = {placed.row.tenant.age: placed.row.tenant for placed in stepped}
        left = [placed for placed in stepped if placed.row.sequence.finish is None]
        self._row_limit.count_ended([placed.row.need for placed in stepped if placed.row.sequence.finish is not None])
        self._leave_parked(tenants)
        self._fit(left)
        self._relocate(self._park_youngest(left))
        for tenant in tenants.values():
            if tenant.growth.done:
                self._finish(tenant)
            elif tenant.growth.waiting_roots and tenant not in self._rooting:
                self._rooting = deque(sorted([*self._rooting, tenant], key=lambda one: one.age))

    def _leave_parked(self, tenants: Collection[int]) -> None:
        """Parked rows of these tenants that were cut have no need of a place any more."""
        for age in self._parked.keys() & tenants:
            self._parked[age] = [placed for placed in self._parked[age] if placed.row.sequence.finish is None]
            if not self._parked[age]:
                del self._parked[age]

    def _park_youngest(self, layout: list[Placed]) -> list[Placed]:
        """Parks rows, the youngest growths' first, until the rest fits, or is one growth in lockstep."""
        staying, leaving = youngest(layout, self.limit)
        for rows in leaving:
            # A growth that is not in lockstep may have rows parked already: those that started later leave as well.
            self._parked.setdefault(rows[0].row.tenant.age, []).extend(self._snapshots(rows))
            self.stats.parked += 1
        return staying

    def _snapshots(self, layout: list[Placed]) -> list[Placed]:
        """The same rows off their slots; several that stand on one slot share a snapshot."""
        taken: dict[Slot, Any] = {}
        for source, row in layout:
            if isinstance(source, Slot) and source not in taken:
                taken[source] = self._runner.park(source, row.length)
        return [Placed(taken[source] if isinstance(source, Slot) else source, row) for source, row in layout]

    def _relocate(self, layout: list[Placed]) -> None:
        """Brings rows that stand on slots to the first of their class, moving as few as possible.

        The others stay incoming, and with them those that have outgrown their class, and children for which there is no
        room in it until the next reserve.
        """
        standing: list[Placed] = []
        others: list[Placed] = []
        for placed in layout:
            (standing if placed.standing else others).append(placed)
        self._incoming = self._snapshots(others)
        self.rows = []
        for length_class, of_class in by_class(standing).items():
            room = self._runner.slots[length_class]
            self._incoming += self._snapshots(of_class[room:])
            closed, moves = close_gaps(of_class[:room])
            if moves:
                self._runner.copy(moves, max(closed[gap.place].row.length for _, gap in moves))
            self.rows += closed

    def _finish(self, tenant: Tenant) -> None:
        self.stats.wasted_tokens += tenant.growth.wasted_tokens
        follow_up = self._source.finished(tenant.growth)
        self._intake.look_again()
        if follow_up is not None:
            assert tenant.prefix is not None, "a further run needs the prompt's prefix"
            assert follow_up.prompt is tenant.growth.run.prompt, "a further run is on the same prompt"
            self._enter(follow_up.begin(self._stopper), tenant.prefix)

    # Memory. What is done about an error is done after its handler: the error holds what the failed pass had allocated.

    def _give_back(self) -> None:
        """The slots that no row stands on."""
        self._runner.shrink(Counter(placed.source.length_class for placed in self.rows))

    def _retrying(self, act: Callable[[], T]) -> T:
        """Runs what may find too little memory; then lowers the row limit, parks what no longer fits, and retries."""
        while True:
            try:
                return act()
            except OutOfMemory as error:
                self.stats.out_of_memory += 1
                reason = str(error)
            self._shrink(reason)

    def _shrink(self, reason: str) -> None:
        """Lowers the row limit and gives back the slots that no row stands on then."""
        self._row_limit.shrink(self.in_use, len(self.rows), reason)
        self._relocate(self._park_youngest([*self.rows, *self._incoming]))
        self._give_back()
