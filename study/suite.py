"""How often a gate over a suite sees that a model has become worse, beside simpler rules: `python study/suite.py`.

Five tasks of 200 documents, four seeds a side, a 0/1 answer a document and seed. Rates lie as those of `intervals.py`.
Worse means two points on every task: each rate shrinks by the same factor. One candidate is one look. False alarms are
of an unchanged model. Prints a Markdown table, and as its last line one JSON document.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Sequence

import numpy as np
from intervals import EDGES, POPULATIONS
from numpy.typing import NDArray

from eager_lmeval.commands.gate.check import look
from eager_lmeval.commands.gate.limits import Asked
from eager_lmeval.commands.gate.pairing import Metric, TaskPair
from eager_lmeval.commands.gate.verdict import Verdict
from eager_lmeval.scores.paired import Pairs, margin_test
from eager_lmeval.scores.stats import standard_error

KINDS = ("AIME", "GPQA", "MATH", "GPQA", "AIME")
DOCUMENTS, SEEDS, WORSE = 200, 4, 0.02
Runs = NDArray[np.float64]  # (seeds, documents)
Task = tuple[Runs, Runs]
"""Baseline and candidate."""


def rates(kind: str, generator: np.random.Generator) -> Runs:
    shares = np.array(POPULATIONS[kind])
    places = generator.choice(len(shares), size=DOCUMENTS, p=shares / shares.sum())
    return generator.uniform(np.array(EDGES)[places], np.array(EDGES)[places + 1])


def history(worse: float, generator: np.random.Generator) -> list[Task]:
    tasks = []
    for kind in KINDS:
        before = rates(kind, generator)
        after = before * (1 - worse / before.mean())
        drawn = [(generator.random((SEEDS, DOCUMENTS)) < rate).astype(float) for rate in (before, after)]
        tasks.append((drawn[0], drawn[1]))
    return tasks


def policy(tasks: Sequence[Task]) -> bool:
    """`track check --policy` with all tasks in must_hold and no limits."""
    pairs = [
        TaskPair(str(place), DOCUMENTS, [Metric("score", Pairs(*(side.mean(axis=0) for side in task)), 0, True)])
        for place, task in enumerate(tasks)
    ]
    chosen = [(pair, pair.metrics[0]) for pair in pairs]
    asked = Asked([], 0.95, 0.8, [], False)
    _, changes = look(pairs, chosen, asked, [[metric for _, metric in chosen]], [1.0] * len(pairs))
    return any(change.finding.verdict is Verdict.REGRESSION for change in changes)


def relative(tasks: Sequence[Task]) -> bool:
    """Any task's mean is more than 8% below the baseline's."""
    return any(candidate.mean() < 0.92 * baseline.mean() for baseline, candidate in tasks)


def unpaired(tasks: Sequence[Task]) -> bool:
    """Any task's mean is more than two standard errors of an unpaired difference below the baseline's."""
    return any(
        baseline.mean() - candidate.mean()
        > 2 * math.hypot(*(standard_error(side.mean(axis=0).tolist()) for side in (baseline, candidate)))
        for baseline, candidate in tasks
    )


def exact(tasks: Sequence[Task]) -> bool:
    """The paired test of one task and one seed, at 5%."""
    baseline, candidate = (side[0] for side in tasks[0])
    return margin_test(baseline - candidate, 0.0, True, True).p_beyond <= 0.05


RULES: dict[str, Callable[[Sequence[Task]], bool]] = {
    "`track check --policy`": policy,
    "8% below the baseline, any task": relative,
    "two unpaired standard errors, any task": unpaired,
    "paired test of one task and seed": exact,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--histories", type=int, default=2000, help="of each kind (default 2000)")
    args = parser.parse_args()
    found = {}
    for name, worse in (("false alarms", 0.0), ("power", WORSE)):
        generator = np.random.default_rng(7)
        drawn = (history(worse, generator) for _ in range(args.histories))
        alarms = np.array([[rule(tasks) for rule in RULES.values()] for tasks in drawn])
        found[name] = dict(zip(RULES, map(float, alarms.mean(axis=0)), strict=True))
    print("| rule | false alarms | power |\n| --- | ---: | ---: |")
    for rule in RULES:
        print(f"| {rule} | {100 * found['false alarms'][rule]:.1f}% | {100 * found['power'][rule]:.1f}% |")
    print(json.dumps({"histories": args.histories, **found}))


if __name__ == "__main__":
    main()
