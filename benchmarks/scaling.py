"""What more processes bring: wall time of 1 and 2 on the demo model, then a simulation of many ranks.

    python benchmarks/scaling.py                       both; some 5 minutes on 2 cores
    python benchmarks/scaling.py --trees samples_eager_demo.jsonl

The simulation. A rank decodes in steps; in each, every row in use gains a token, and a step with n rows in use costs
``1 + n / knee``: with a large knee a step costs the same whatever it decodes, as on a GPU bound by memory, with a small
one it costs by row, as on a CPU. A prompt has the rows that its tree has at each of its steps, from trees that this
model grew, drawn again with replacement; its stage-2 work is what that prompt was granted, if anything. Admission,
parking (the youngest prompts wait when rows run short) and the hand-out rule (`workqueue.may_take`) are the program's;
static shards give prompt i to rank i mod N, and its stage 2 to the same rank. Left out: prefill, the store's latency
(under a millisecond a prompt), the exchange between the stages, and that ranks start at different times. Busy is the
share of the ranks' time, until the last rank ends, in which they have something to decode, for each stage by itself.
For comparison: the queue without the hand-out rule, where each rank takes what it has rows for.

The last line of stdout is one JSON document.
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from eager_lmeval.processes.workqueue import may_take

RANKS = (8, 64, 512)
SETTINGS = ((30, 64), (30, 16), (120, 64))
"""Prompts and rows a rank: some 3 batches of prompts, some 12, and some 12 of large batches."""


class Work(NamedTuple):
    """A prompt in a stage: the rows that it needs in each of its steps, and the sequences that it ends with."""

    rows: tuple[int, ...]
    sequences: int


class Outcome(NamedTuple):
    busy: float
    """Share of the ranks' time until the last one ends."""
    makespan: float
    """In steps of an empty batch."""
    tokens_per_time: float
    """Rows decoded per unit of time over all ranks."""


def work_of(sequences: Sequence[dict[str, Any]]) -> Work:
    """Rows over time of sequences that grew together; a restarted tree's runs follow one another."""
    by_root: dict[int, list[int]] = {}
    for sequence in sequences:
        rows = by_root.setdefault(sequence["path"][0], [])
        rows.extend([0] * (sequence["num_tokens"] - len(rows)))
        for step in range(sequence["branch_at"] or 0, sequence["num_tokens"]):
            rows[step] += 1
    return Work(tuple(row for rows in by_root.values() for row in rows), len(sequences))


class Rank:
    """One rank's batch: prompts in flight, each at a step of its work, the youngest parked when rows run short."""

    def __init__(self, limit: int, knee: float) -> None:
        self.now = self.busy = self.tokens = 0.0
        self.finished = 0
        self._limit = limit
        self._knee = knee
        self._flying: list[list[Any]] = []  # [work, step], oldest first

    @property
    def held(self) -> int:
        return len(self._flying)

    @property
    def rows(self) -> int:
        return sum(work.rows[step] for work, step in self._flying)

    def admit(self, work: Work) -> None:
        self._flying.append([work, 0])

    def step(self) -> None:
        """Advances the oldest prompts that fit together by one token."""
        rows = 0
        for place, flying in enumerate(self._flying):
            needed = flying[0].rows[flying[1]]
            if place and rows + needed > self._limit:
                break
            rows += needed
            flying[1] += 1
        cost = (1 + rows / self._knee) * max(1, -(-rows // self._limit))
        self.now += cost
        self.busy += cost
        self.tokens += rows
        for flying in [flying for flying in self._flying if flying[1] == len(flying[0].rows)]:
            self._flying.remove(flying)
            self.finished += 1


Source = Callable[[int, "Rank"], Work | None]
"""The next work for a rank, or None: none now."""


def simulate(ranks: int, source: Source, limit: int, knee: float) -> Outcome:
    """All ranks until nothing is left; events in the order of the ranks' clocks."""
    team = [Rank(limit, knee) for _ in range(ranks)]
    clocks = [(0.0, number) for number in range(ranks)]
    while clocks:
        _, number = heapq.heappop(clocks)
        rank = team[number]
        while rank.rows < limit and (work := source(number, rank)) is not None:
            rank.admit(work)
        if rank.held:
            rank.step()
            heapq.heappush(clocks, (rank.now, number))
    end = max(rank.now for rank in team)
    busy = sum(rank.busy for rank in team) / (end * ranks)
    return Outcome(busy, end, sum(rank.tokens for rank in team) / end)


def static(shards: Sequence[Sequence[Work]]) -> Source:
    """The harness's shards: each rank has its own list."""
    waiting = [iter(shard) for shard in shards]
    return lambda number, rank: next(waiting[number], None)


def shared(work: Sequence[Work], ranks: int, hold_back: bool = True) -> Source:
    """One queue for all."""
    given = 0
    team: dict[int, Rank] = {}

    def take(number: int, rank: Rank) -> Work | None:
        nonlocal given
        team[number] = rank
        unfinished = len(work) - sum(rank.finished for rank in team.values())
        if given == len(work) or (hold_back and not may_take(rank.held, unfinished, ranks)):
            return None
        given += 1
        return work[given - 1]

    return take


def simulations(
    trees: list[tuple[Work, Work | None]], prompts: int, rows: int, args: argparse.Namespace
) -> list[dict[str, Any]]:
    """Busy shares by ranks and stage. ``trees``: each prompt's stage 1 and, where it was granted something, stage 2."""
    found = []
    print(f"\n{prompts} prompts a rank, max_rows {rows}, M {args.max_sequences}, knee {args.knee:g} rows")
    head = f"{'ranks':>6}{'stage':>7}{'static busy':>13}{'queue busy':>12}{'without hold-back':>19}{'speed-up':>10}"
    print(head)
    for ranks in RANKS:
        choose = random.Random(args.seed)
        drawn = [choose.choice(trees) for _ in range(prompts * ranks)]
        owner = {place: place % ranks for place in range(len(drawn))}
        first = list(enumerate(one for one, _ in drawn))
        second = [(place, two) for place, (_, two) in enumerate(drawn) if two is not None]
        longest_first = sorted(second, key=lambda pair: -pair[1].sequences)
        for stage, work in ((1, first), (2, longest_first)):
            if not work:
                continue
            shards: list[list[Work]] = [[] for _ in range(ranks)]
            for place, one in work:
                shards[owner[place]].append(one)
            queue = [one for _, one in work]
            size = ranks, rows, args.knee
            ways = {
                "static": simulate(size[0], static(shards), *size[1:]),
                "queue": simulate(size[0], shared(queue, ranks), *size[1:]),
                "greedy": simulate(size[0], shared(queue, ranks, hold_back=False), *size[1:]),
            }
            speed_up = ways["static"].makespan / ways["queue"].makespan
            print(
                f"{ranks:>6}{stage:>7}{ways['static'].busy:>13.1%}{ways['queue'].busy:>12.1%}"
                f"{ways['greedy'].busy:>19.1%}{speed_up:>10.2f}",
                flush=True,
            )
            record = {name: outcome._asdict() for name, outcome in ways.items()}
            setting = {"ranks": ranks, "stage": stage, "prompts_a_rank": prompts, "rows": rows, "prompts": len(work)}
            found.append(setting | {"speed_up": speed_up} | record)
    return found


def by_stage(grown: Sequence[list[dict[str, Any]]]) -> list[tuple[Work, Work | None]]:
    """Splits adapt's trees by stage: stage 1 is root 0, stage 2 all others."""
    trees = []
    for sequences in grown:
        first = [sequence for sequence in sequences if sequence["path"][0] == 0]
        second = [sequence for sequence in sequences if sequence["path"][0] > 0]
        trees.append((work_of(first), work_of(second) if second else None))
    return trees


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", type=int, default=96, help="demo problems for wall time and trees (default 96)")
    parser.add_argument("--max_sequences", type=int, default=16, help="M (default 16)")
    parser.add_argument("--threshold", type=float, default=1.6, help="nats (default 1.6)")
    parser.add_argument("--knee", type=float, default=64.0, help="rows that double the cost of a step (default 64)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--skip_wall", action="store_true", help="no second process; one run gives the trees")
    parser.add_argument("--trees", type=Path, help="a samples_*.jsonl of a run with strategy=adapt, instead of a run")
    args = parser.parse_args()
    result: dict[str, Any] = {"knee": args.knee}

    if args.trees:
        lines = args.trees.read_text(encoding="utf-8").split("\n")[:-1]
        grown = [json.loads(json.loads(line)["tree"])["sequences"] for line in lines]
    else:
        grown, result["wall"] = measured(args)
    trees = by_stage(grown)
    steps = [len(first.rows) for first, _ in trees]
    spread = statistics.pstdev(steps) / statistics.mean(steps)
    print(
        f"\n{len(trees)} trees: stage 1 takes {statistics.mean(steps):.0f} steps on average (longest {max(steps)}, "
        f"deviation {spread:.0%}) and {statistics.mean(sum(first.rows) for first, _ in trees):.0f} tokens; "
        f"{sum(second is not None for _, second in trees)} of them were granted more"
    )
    result["simulated"] = [found for prompts, rows in SETTINGS for found in simulations(trees, prompts, rows, args)]
    print(json.dumps(result))


def measured(args: argparse.Namespace) -> tuple[list[list[dict[str, Any]]], dict[str, Any]]:
    """Wall time by the number of processes, the same trees asserted, and these trees."""
    import sys

    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
    from process_runs import Call, Plan, essence, pools, results, run

    gen_kwargs = {"strategy": "adapt", "branching": "top2", "max_sequences": args.max_sequences, "max_gen_toks": 120}
    call = Call(args.docs, gen_kwargs=gen_kwargs | {"entropy_threshold": args.threshold})
    wall: dict[str, Any] = {}
    made = {}
    with tempfile.TemporaryDirectory(prefix="eager_scaling_") as folder:
        for processes in (1,) if args.skip_wall else (1, 2):
            plan = Plan(f"{folder}/{processes}", [call])
            started = time.perf_counter()
            assert run(plan, processes, timeout_s=3600) == [0] * processes
            made[processes] = results(plan, processes)[0]
            (pool,) = pools(plan)
            wall[str(processes)] = {
                "generation_s": pool["seconds"],
                "with_start_s": time.perf_counter() - started,
                "tokens_per_second": pool["tokens_per_second"],
            }
            print(
                f"{processes} process{'es' * (processes > 1)}: {pool['seconds']:.1f} s of generation, "
                f"{wall[str(processes)]['with_start_s']:.1f} s with start, {pool['tokens_per_second']:.0f} tokens/s",
                flush=True,
            )
    if 2 in made:
        assert essence(made[1]) == essence(made[2]), "two processes gave other trees than one"
        print("both gave the same trees, token for token")
    return [answered["tree"]["sequences"] for answered in made[1].values()], wall


if __name__ == "__main__":
    main()
