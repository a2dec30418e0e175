"""How often 95% intervals hold the truth, in both readings, on made-up benchmarks: `python study/intervals.py`.

A population of documents is drawn once; its rates lie as those of reasoning models on AIME, GPQA-Diamond and MATH-500
do: most near 1, some near 0, the rest between. Every document is sampled many times by each strategy. A benchmark draws
documents from the population, and one sampling of each. *These documents*: does the interval hold the mean of what its
documents give on average? *Documents like these*: does it hold the population's? Scores, errors and intervals are the
package's own. Prints a Markdown table, and as its last line one JSON document.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np

from eager_lmeval.algorithm.race import RaceSettings, run_race
from eager_lmeval.scores.metrics import Vote, consensus, pass_at_k
from eager_lmeval.scores.sampling import consensus_variance, pass_at_k_variance
from eager_lmeval.scores.stats import interval, sampling_interval

EDGES = (0.0, 0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98, 1.0)
POPULATIONS = {  # shares of documents whose rate lies between two edges, rounded from recorded answers
    "AIME": (0.10, 0.03, 0.03, 0.07, 0.07, 0.15, 0.25, 0.30),
    "GPQA": (0.05, 0.09, 0.12, 0.12, 0.10, 0.12, 0.15, 0.25),
    "MATH": (0.015, 0.005, 0.005, 0.01, 0.01, 0.025, 0.05, 0.88),
}
SIZES = (30, 198, 500)
WRONG = (0.6, 0.3, 0.1)
"""Shares of the wrong answers that are alike."""


class Scored(NamedTuple):
    """One sampling of one document: a score, and its variance over draws (NaN: not known)."""

    value: float
    variance: float


Draw = Callable[[float, np.random.Generator], dict[str, Scored]]


def answers(rate: float, number: int, generator: np.random.Generator) -> list[int]:
    """Classes of independent answers; 0 is right."""
    chances = [rate, *((1 - rate) * share for share in WRONG)]
    return list(map(int, generator.choice(len(chances), size=number, p=chances)))


def parallel(number: int) -> Draw:
    def draw(rate: float, generator: np.random.Generator) -> dict[str, Scored]:
        drawn = answers(rate, number, generator)
        n, c = number, drawn.count(0)
        return {
            "rate": Scored(c / n, pass_at_k_variance(n, c, 1)),
            "pass@4": Scored(pass_at_k(n, c, 4), pass_at_k_variance(n, c, 4)),
            "vote": Scored(*voted(tuple(map(drawn.count, range(1 + len(WRONG)))))),
            "pass@max": Scored(float(c > 0), math.nan),
        }

    return draw


def race(number: int) -> Draw:
    """Right answers are shorter, as they are; the rate is of the first lanes."""
    settings = RaceSettings(first_lanes=8, max_sequences=number, settled_at=0.95)

    def draw(rate: float, generator: np.random.Generator) -> dict[str, Scored]:
        drawn = answers(rate, number, generator)
        lengths = [math.ceil(generator.gamma(4, 25 if kind == 0 else 50)) for kind in drawn]
        run = run_race(lengths, drawn, settings)
        ended = [drawn[root] for root in run.ended]
        c = drawn[:8].count(0)
        return {
            "rate": Scored(c / 8, pass_at_k_variance(8, c, 1)),
            "vote": Scored(*voted(tuple(map(ended.count, range(1 + len(WRONG)))))),
        }

    return draw


def tree(copies: int) -> Draw:
    """One root whose beginning decides half of what becomes of it; its copies part evenly after that."""

    def draw(rate: float, generator: np.random.Generator) -> dict[str, Scored]:
        shared = float(generator.beta(2 * rate + 1e-9, 2 * (1 - rate) + 1e-9))
        right = sum((place + generator.random()) / copies < shared for place in range(copies)) / copies
        return {"rate": Scored(right, math.nan)}

    return draw


@cache
def voted(counts: tuple[int, ...]) -> tuple[float, float]:
    votes = [Vote(kind, kind == 0) for kind, count in enumerate(counts) for _ in range(count)]
    return consensus(votes), consensus_variance(votes, len(votes))


STRATEGIES = {
    "`parallel`, M 8": parallel(8),
    "`parallel`, M 64": parallel(64),
    "race, M 64": race(64),
    "tree, M 8": tree(8),
}


def population(shares: Sequence[float], documents: int, generator: np.random.Generator) -> list[float]:
    parts = generator.choice(len(shares), size=documents, p=np.array(shares) / sum(shares))
    return [float(generator.uniform(EDGES[part], EDGES[part + 1])) for part in parts]


def cover(name: str, draw: Draw, documents: int, again: int, benchmarks: int, seed: int) -> list[dict[str, object]]:
    """A row a score and size; ``again`` samplings of each of the population's documents."""
    generator = np.random.default_rng(seed)
    rates = population(POPULATIONS[name], documents, generator)
    samplings = [[draw(rate, generator) for _ in range(again)] for rate in rates]
    rows: list[dict[str, object]] = []
    for score in samplings[0][0]:
        values = np.array([[drawn[score].value for drawn in one] for one in samplings])  # (documents, again)
        variances = np.array([[drawn[score].variance for drawn in one] for one in samplings])
        expected = values.mean(axis=1)
        for size in SIZES:
            held = np.zeros((benchmarks, 2), dtype=bool)
            widths = np.zeros((benchmarks, 2))
            for number in range(benchmarks):
                chosen = generator.integers(documents, size=size)
                which = generator.integers(again, size=size)
                found, spread = list(values[chosen, which]), list(variances[chosen, which])
                for reading, (bounds, truth) in enumerate(
                    (
                        (sampling_interval(found, spread), expected[chosen].mean()),
                        (interval(found), expected.mean()),
                    )
                ):
                    held[number, reading] = bounds[0] <= truth <= bounds[1]
                    widths[number, reading] = bounds[1] - bounds[0]
            these, like = held.mean(axis=0)
            rows.append(
                {
                    "score": score,
                    "documents": size,
                    "these": round(float(these), 3),
                    "like": round(float(like), 3),
                    "width_these": round(float(widths[:, 0].mean()), 3),
                    "width_like": round(float(widths[:, 1].mean()), 3),
                    "bound": bool(np.isnan(variances).all()),
                }
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--benchmarks", type=int, default=2000, help="of each size (default 2000)")
    parser.add_argument("--documents", type=int, default=1000, help="in a population (default 1000)")
    parser.add_argument("--again", type=int, default=40, help="samplings of each document (default 40)")
    args = parser.parse_args()
    rows = []
    print("| strategy | rates as on | score | documents | these documents, width | documents like these, width |")
    print("| --- | --- | --- | --- | --- | --- |")
    for strategy, draw in STRATEGIES.items():
        for seed, name in enumerate(POPULATIONS):
            for row in cover(name, draw, args.documents, args.again, args.benchmarks, seed):
                these = f"{row['these']:.3f}, {row['width_these']:.3f}" + (" (a bound)" if row["bound"] else "")
                like = f"{row['like']:.3f}, {row['width_like']:.3f}"
                print(f"| {strategy} | {name} | {row['score']} | {row['documents']} | {these} | {like} |", flush=True)
                rows.append({"strategy": strategy.replace("`", ""), "population": name} | row)
    print(json.dumps({"benchmarks": args.benchmarks, "rows": rows}))


if __name__ == "__main__":
    main()
