"""The tables and the plot of the study, from the numbers in study/results, and the pages where they stand.

The text around them is written by hand.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

import long_tables
from cells import Cell, load
from curve import save_curve
from tables import Baseline, by_option, claims, curves, designs, grid, parallel_curve, rates, summary

ROOT = Path(__file__).resolve().parent.parent
PAGES = (ROOT / "study" / "RESULTS.md", ROOT / "docs" / "study.md", ROOT / "docs" / "race.md")
DRAWN = ("parallel", "init top2", "init systematic", "adapt systematic", "eager systematic")
SHOWN = (1, 2, 4, 8, 16, 32, 64)
Results = Mapping[str, list[Cell]]
"""By the sweep's name."""


TABLES: Mapping[str, Callable[[Results], str]] = {
    "in short": lambda results: summary(
        [
            ("demo", beside_parallel(results), Baseline(results["parallel"]), (8, 32)),
            ("real", results.get("real-trees", ()), Baseline(results.get("real-parallel", ())), (8,)),
        ]
    ),
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
"""By the name that a table has in its page."""


def of_8(cells: Iterable[Cell], strategy: str | None = None) -> list[Cell]:
    """Those with M 8, of one strategy or of all."""
    return [
        cell for cell in cells if cell.options["max_sequences"] == 8 and strategy in (None, cell.options["strategy"])
    ]


def beside_parallel(results: Results) -> list[Cell]:
    """Those that `parallel` of the demo model is compared with; rounds are of release 0.1, and are not run again."""
    return [*results["curves"], *(cell for name in ("rounds", "wide", "wide-rounds") for cell in results.get(name, ()))]


def tables(folder: Path) -> dict[str, Callable[[], str]]:
    """Of what is kept in a folder, by the name that a table has in its page."""
    results = {path.name.removesuffix(".jsonl.gz"): load(path) for path in sorted(folder.glob("*.jsonl.gz"))}
    documents = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}
    of_sweeps = {name: partial(make, results) for name, make in TABLES.items()}
    return of_sweeps | {name: partial(make, documents) for name, make in long_tables.TABLES.items()}


def draw(folder: Path, path: Path) -> None:
    """Scores against tokens on the demo model, means over the seeds."""
    kept = [cell for name in ("parallel", "curves", "wide") for cell in load(folder / f"{name}.jsonl.gz")]
    own = [cell for cell in kept if cell.options["max_sequences"] in (4, 8, 16, 32)]
    save_curve([design for design in designs(own) if design.kind in DRAWN], path)
