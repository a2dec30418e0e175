"""What `calibrate --write` writes: the pilot's run with what was chosen."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]  # PyYAML ships no types

from eager_lmeval.algorithm.options import TOP2_ALONE
from eager_lmeval.commands.calibrate.pilot import Forecast
from eager_lmeval.commands.writing import save_text
from eager_lmeval.runs.run import Run

__all__ = ["write_configuration"]

_CHOSEN = ("strategy", "max_sequences", "entropy_threshold", "branching", "fan_out")
"""Options that the written configuration gets from here; the others are the pilot's."""


def write_configuration(path: Path, pilot: Run, task: str, chosen: Forecast) -> None:
    """For lm_eval run --config: the pilot's own settings at the chosen θ, M and `fan_out`."""
    config, results = pilot.config, pilot.results
    given = config.get("model_args") or {}
    if not isinstance(given, Mapping):
        given = dict(part.split("=", 1) for part in str(given).split(",") if "=" in part)
    strategy = pilot.pools(task)[0]["options"]["strategy"]
    left_out = {*_CHOSEN, *TOP2_ALONE, "preset"}
    model_args = {name: value for name, value in given.items() if name not in left_out} | {
        "strategy": strategy if strategy in ("adapt", "eager") else "init",
        "branching": "systematic",
        "max_sequences": chosen.max_sequences,
        "entropy_threshold": chosen.threshold,
    }
    if chosen.fan_out is not None:
        model_args["fan_out"] = chosen.fan_out
    gen_kwargs = {name: value for name, value in (config.get("gen_kwargs") or {}).items() if name not in left_out}
    written: dict[str, Any] = {"model": "eager", "model_args": model_args, "tasks": [task]}
    if gen_kwargs:
        written["gen_kwargs"] = gen_kwargs
    if results.get("chat_template"):
        written["apply_chat_template"] = True
    if results.get("system_instruction"):
        written["system_instruction"] = results["system_instruction"]
    if shots := (results.get("n-shot") or {}).get(task):
        written["num_fewshot"] = shots
    seeds = [config.get(f"{generator}_seed") for generator in ("random", "numpy", "torch", "fewshot")]
    written |= {"seed": seeds, "output_path": f"out/{task}", "log_samples": True}
    head = "# Made by eager-lmeval calibrate. Tasks outside the harness need --include_path beside --config.\n"
    save_text(path, head + yaml.safe_dump(written, sort_keys=False, allow_unicode=True))
