"""The tables and plots of docs/study.md, from the numbers in study/results. The text around them is written by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

from cells import Cell, load
from curve import save_curve
from tables import Baseline, by_option, claims, curves, designs, grid, parallel_curve, points, rates

SHOWN = (1, 2, 4, 8, 16, 32, 64)
Results = Mapping[str, list[Cell]]


def read_results(folder: Path) -> dict[str, list[Cell]]:
    """By the sweep's name."""
    return {path.name.removesuffix(".jsonl.gz"): load(path) for path in sorted(folder.glob("*.jsonl.gz"))}


TABLES: Mapping[str, Callable[[Results], str]] = {
    "parallel": lambda results: parallel_curve(Baseline(results["parallel"]), SHOWN),
    "curves": lambda results: curves(beside_parallel(results), Baseline(results["parallel"])),
    "rates": lambda results: rates(
        [cell for cell in beside_parallel(results) if cell.options["strategy"] in ("init", "consistency")],
        Baseline(results["parallel"]),
    ),
    "real, parallel": lambda results: parallel_curve(Baseline(results["real-parallel"]), range(1, 11)),
    "real": lambda results: curves(
        [*results["real-trees"], *results["real-theta"], *results["real-rounds"]], Baseline(results["real-parallel"])
    ),
    "appendix": lambda results: grid(of_8(results["appendix"])),
    "claims": lambda results: claims(of_8(results["appendix"]), "top2"),
    "claims of systematic": lambda results: claims(of_8(results["appendix"]), "systematic"),
    "presets": lambda results: by_option(
        results["presets"], Baseline(results["parallel"]), {"strategy": "strategy", "preset": "preset"}
    ),
    "splits": lambda results: by_option(
        results["splits"], Baseline(results["parallel"]), {"entropy_threshold": "θ", "fan_out": "`fan_out`"}
    ),
    "roots": lambda results: by_option(
        results["roots"], Baseline(results["parallel"]), {"round_sequences": "copies a root"}
    ),
    "signal": lambda results: by_option(
        [*of_8(results["curves"], "adapt"), *results["signal"]],
        Baseline(results["parallel"]),
        {"branching": "branching", "signal": "`signal`"},
    ),
}
"""By the name that a table has in the page."""


def of_8(cells: Iterable[Cell], strategy: str | None = None) -> list[Cell]:
    """Those with M 8, of one strategy or of all."""
    return [
        cell for cell in cells if cell.options["max_sequences"] == 8 and strategy in (None, cell.options["strategy"])
    ]


def beside_parallel(results: Results) -> list[Cell]:
    """Those that `parallel` of the demo model is compared with."""
    return [cell for name in ("curves", "rounds", "wide", "wide-rounds") for cell in results[name]]


def tables(results: Results) -> dict[str, Callable[[], str]]:
    return {name: partial(make, results) for name, make in TABLES.items()}


def draw(results: Results, path: Path) -> None:
    """Scores against tokens, means over the seeds."""
    parallel = [cell for cell in results["parallel"] if cell.options["max_sequences"] in (4, 8, 16, 32)]
    save_curve(points(designs([*parallel, *beside_parallel(results)])), "eager_demo, means over the seeds", path)
