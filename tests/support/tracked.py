"""A history in a folder, and made-up runs for it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from run_files import write_run

from eager_lmeval.commands.cli import main

DOCUMENTS = 200
RNG = np.random.default_rng(3)
BASE = (RNG.random(DOCUMENTS) < 0.6).astype(float)
TOKENS = RNG.lognormal(4, 0.3, DOCUMENTS)


class Tracked:
    """A history in a folder, and runs for it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.history = folder / "history.jsonl"
        self.made = 0

    def run(
        self,
        scores: Sequence[float] = tuple(BASE),
        tokens: Sequence[float] = tuple(TOKENS),
        *,
        commit: str | None = None,
        seed: int | None = None,
        tasks: Sequence[str] = ("toy_task",),
        **more: Any,
    ) -> Path:
        """Files of one more run, a day after the last one."""
        self.made += 1
        stamp = f"2026-01-{self.made:02d}T00-00-00.000001"
        folder = self.folder / f"run{self.made}"
        for task in tasks:
            write_run(folder / task, {"pass@max": scores, "tokens": tokens}, task=task, stamp=stamp, **more)
        results = [json.loads(file.read_text()) for file in sorted(folder.glob("*/*/results_*.json"))]
        joined = results[0]
        for other in results[1:]:
            for name in ("results", "configs", "versions", "n-shot", "n-samples", "higher_is_better"):
                joined[name] |= other[name]
            joined["config"]["eager"]["pools"] += other["config"]["eager"]["pools"]
        joined |= {"date": 86400.0 * self.made, "git_hash": commit or f"c{self.made}"}
        joined["config"]["torch_seed"] = self.made if seed is None else seed
        (folder / f"results_{stamp}.json").write_text(json.dumps(joined))
        for file in folder.glob("*/*/*"):
            if file.name.startswith("samples_"):
                file.rename(folder / file.name)
            else:
                file.unlink()
        return folder

    def __call__(self, action: str, *words: object) -> int:
        return main(["track", action, "--history", str(self.history), *map(str, words)])

    def add(self, *scores: Any, **more: Any) -> Path:
        folder = self.run(*scores, **more)
        assert self("add", folder) == 0
        return folder

    def blessed(self, **more: Any) -> Path:
        folder = self.add(**more)
        assert self("bless", folder) == 0
        return folder

    def checked(self, *words: object) -> tuple[int, dict[str, Any]]:
        file = self.folder / "check.json"
        status = self("check", "--json", file, *words)
        return status, json.loads(file.read_text())


def broken(count: int) -> list[float]:
    """The baseline's scores with ``count`` of the right ones wrong."""
    scores = BASE.copy()
    scores[np.flatnonzero(BASE)[:count]] = 0
    return scores.tolist()


def mended(count: int) -> list[float]:
    scores = BASE.copy()
    scores[np.flatnonzero(BASE == 0)[:count]] = 1
    return scores.tolist()


def noisy(flips: int, seed: int) -> list[float]:
    """The baseline's scores, ``flips`` of them changed at random."""
    scores = BASE.copy()
    places = np.random.default_rng(seed).choice(DOCUMENTS, flips, replace=False)
    scores[places] = 1 - scores[places]
    return scores.tolist()
