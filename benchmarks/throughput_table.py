"""The table of `throughput.py`: what took how long, as it comes, and in the end as JSON."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Spent(NamedTuple):
    wall_s: float
    cpu_s: float


def spent(act: Callable[[], object]) -> Spent:
    wall, cpu = time.perf_counter(), time.process_time()
    act()
    return Spent(time.perf_counter() - wall, time.process_time() - cpu)


def medians(side: str, runs: Seq[Spent]) -> dict[str, float]:
    return {
        f"{side}_wall_s": statistics.median(run.wall_s for run in runs),
        f"{side}_cpu_s": statistics.median(run.cpu_s for run in runs),
    }


@dataclass
class Table:
    """What is printed as it comes, and in the end as JSON."""

    runs: int
    rows: list[dict[str, Any]] = field(default_factory=list)

    def ratio(
        self, part: str, name: str, first: Callable[[], object], second: Callable[[], object], target: str = ""
    ) -> None:
        """The time of the first over that of the second, alternating, after one run of each."""
        first(), second()
        pairs = [(spent(first), spent(second)) for _ in range(self.runs)]
        self.add(
            part,
            name,
            wall_ratio=statistics.median(a.wall_s / b.wall_s for a, b in pairs),
            cpu_ratio=statistics.median(a.cpu_s / b.cpu_s for a, b in pairs),
            target=target,
            **medians("first", [a for a, _ in pairs]),
            **medians("second", [b for _, b in pairs]),
        )

    def add(self, part: str, name: str, **figures: Any) -> None:
        self.rows.append({"part": part, "name": name} | figures)
        shown = ", ".join(
            f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in figures.items()
        )
        print(f"{part:<11}{name:<44} {shown}", flush=True)
