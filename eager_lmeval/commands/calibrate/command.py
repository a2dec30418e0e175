"""`eager-lmeval calibrate`: chooses θ from a small pilot run, before money is spent on the whole one."""

from __future__ import annotations

import argparse
import itertools
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eager_lmeval.commands import amounts
from eager_lmeval.errors import UsageError

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from eager_lmeval.algorithm.gate import GateSettings
    from eager_lmeval.commands.calibrate.pilot import Forecast, PilotPrompt
    from eager_lmeval.commands.runs import Run

    Predict = Callable[[float], Forecast]

__all__ = ["add_parser", "gate_of", "run"]

ROWS = 10
"""Thresholds that are shown where none are given."""
STEP_NATS = 0.01
"""How finely θ is chosen."""
_CHOSEN = ("strategy", "max_sequences", "entropy_threshold")
"""Options that the written configuration gets from here; the others are the pilot's."""


def add_parser(subparsers: _SubParsersAction[argparse.ArgumentParser]) -> None:
    summary = "predict tokens, sequences and time for several entropy thresholds from a pilot run"
    parser = subparsers.add_parser("calibrate", help=summary, description=summary)
    number, count = amounts.argument(amounts.number), amounts.argument(amounts.count)
    numbers, counts = (amounts.argument(amounts.listed(one)) for one in (amounts.number, amounts.count))
    parser.add_argument(
        "pilot",
        type=amounts.path_argument,
        metavar="PILOT",
        help="--output_path of a small run with --log_samples",
    )
    parser.add_argument("--task", help="the pilot's task, if it has several")
    parser.add_argument("--thresholds", type=numbers, metavar="θ,…", help="in nats; default: from the pilot")
    parser.add_argument("--max_sequences", type=counts, metavar="M,…", help="default: the pilot's")
    parser.add_argument("--prompts", type=count, metavar="D", help="prompts of the whole run; default: the task's")
    target = parser.add_mutually_exclusive_group()
    chosen = "of several M, the one with the most sequences. Of --thresholds if they are given, else to 0.01 nat"
    target.add_argument(
        "--target-tokens",
        type=number,
        metavar="N",
        help=f"choose the lowest θ at which the run needs at most N tokens; {chosen}",
    )
    target.add_argument(
        "--target-saving",
        type=amounts.argument(amounts.share),
        metavar="P%",
        help=f"choose the lowest θ that saves P%% of the tokens of parallel; {chosen}",
    )
    parser.add_argument(
        "--write",
        type=amounts.path_argument,
        metavar="FILE",
        help="write a configuration for lm_eval run --config",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints the forecasts, and a recommendation where a target was given; 1 if no θ reaches the target."""
    from eager_lmeval.commands.calibrate.pilot import forecast, read_pilot
    from eager_lmeval.commands.runs import find_run
    from eager_lmeval.commands.writing import progress

    if args.write and args.target_tokens is None and args.target_saving is None:
        raise UsageError("--write needs --target-tokens or --target-saving, which choose what to write")
    pilot, remark = find_run(args.pilot)
    if remark:
        print(f"note: {remark}", file=sys.stderr)
    task = _task(pilot, args.task)
    pool = _pool(pilot, task)
    with progress(f"reading {task}", pilot.documents(task), " prompts") as bar:
        prompts = read_pilot(pilot, task, bar.update)
    count = args.prompts or (pilot.results.get("n-samples") or {}).get(task, {}).get("original") or len(prompts)

    def reaches(one: Forecast) -> bool:
        if args.target_tokens is not None:
            return one.tokens * count <= float(args.target_tokens)
        return args.target_saving is not None and one.saving >= float(args.target_saving)

    sizes = args.max_sequences or [pool["options"]["max_sequences"]]
    replays = len(sizes) * len(args.thresholds) * len(prompts) if args.thresholds else None
    forecasts: list[Forecast] = []
    chosen: list[Forecast] = []
    with progress("replaying", replays, " prompts") as bar:
        for most in sizes:

            def predict(threshold: float, most: int = most) -> Forecast:
                bar.set_description_str(f"replaying at θ = {threshold:g}, M = {most}", refresh=False)
                return forecast(prompts, gate_of(pool["options"], threshold, most), played=bar.update)

            rows = [predict(threshold) for threshold in sorted(args.thresholds or ())] or _spread(prompts, predict)
            found = _lowest(rows, predict, reaches, between=not args.thresholds)
            chosen += found
            forecasts += sorted({*rows, *found})
    _print(forecasts, task, len(prompts), count, pool.get("tokens_per_second"))
    if args.target_tokens is None and args.target_saving is None:
        return 0
    if not chosen:
        cheapest = min(forecasts, key=lambda one: one.tokens)
        print(
            f"No θ of the table reaches the target; the nearest, θ = {cheapest.threshold:g}, needs "
            f"{cheapest.tokens * count:,.0f} tokens and saves {_percent(cheapest.saving)}."
        )
        return 1
    best = max(chosen, key=lambda one: one.sequences)
    print(
        f"Recommended: entropy_threshold={best.threshold:g},max_sequences={best.max_sequences} "
        f"({best.tokens * count:,.0f} tokens, {_percent(best.saving)} saved)"
    )
    if args.write:
        _write(args.write, _configuration(pilot, task, best))
        print(f"Written: {args.write}; run it with lm_eval run --config {args.write}")
    return 0


def _task(pilot: Run, wanted: str | None) -> str:
    tasks = [task for task in pilot.tasks if pilot.pools(task)]
    if not tasks:
        raise UsageError(f"{pilot.results_file} was not made with --model eager: it holds no entropies")
    if wanted is None and len(tasks) > 1:
        raise UsageError(f"the pilot has several tasks ({', '.join(tasks)}); choose one with --task")
    if wanted is not None:
        pilot.require_task(wanted, "the pilot", tasks)
    return wanted or tasks[0]


def _pool(pilot: Run, task: str) -> Mapping[str, Any]:
    """The task's only pool; UsageError if its documents had different options."""
    pool, *others = pilot.pools(task)
    if others:
        options = [one["options"] for one in (pool, *others)]
        names = sorted(name for name in options[0] if any(one.get(name) != options[0][name] for one in options))
        raise UsageError(
            f"the documents of {task!r} had {len(options)} sets of options (different {', '.join(names)}), and a "
            f"forecast is of one; give the pilot {', '.join(names)} as --gen_kwargs, which win over the documents"
        )
    return pool


def gate_of(options: Mapping[str, Any], threshold: float, most: int) -> GateSettings:
    """The pilot's gate at another θ and M."""
    from eager_lmeval.algorithm.gate import GateSettings

    return GateSettings(
        threshold,
        most,
        count=options.get("count", "all"),
        window=options.get("branch_window"),
        percentile=options.get("dynamic_percentile"),
        until_thought_ends=options.get("think_gate", True),
    )


def _spread(prompts: Sequence[PilotPrompt], predict: Predict) -> list[Forecast]:
    """Forecasts at θ from where half of the positions fork to where none does, evenly spread in tokens.

    The widest gap is halved until it is none; of rows that are nearly the same, the first is shown.
    """
    import numpy as np

    entropies = np.concatenate([example.entropies for prompt in prompts for example in prompt.examples])
    ends = _round(np.median(entropies)), _round(entropies.max() + STEP_NATS)
    rows = [predict(threshold) for threshold in ends]
    least = (rows[0].tokens - rows[-1].tokens) / ROWS
    for _ in range(2 * ROWS):
        gaps = [
            (low.tokens - high.tokens, place)
            for place, (low, high) in enumerate(itertools.pairwise(rows))
            if high.threshold - low.threshold > 1.5 * STEP_NATS and low.tokens - high.tokens > least
        ]
        if not gaps:
            break
        place = max(gaps)[1]
        rows.insert(place + 1, predict(_round((rows[place].threshold + rows[place + 1].threshold) / 2)))
    shown = rows[:1]
    for row in rows[1:]:
        if shown[-1].tokens - row.tokens > least / 4 or row is rows[-1]:
            shown.append(row)
    return shown


def _lowest(
    rows: Sequence[Forecast], predict: Predict, reaches: Callable[[Forecast], bool], between: bool
) -> list[Forecast]:
    """The row of the lowest θ that reaches the target, or none; ``between`` the rows it is sought by halving."""
    first = next((place for place, row in enumerate(rows) if reaches(row)), None)
    if first is None:
        return []
    if not between or first == 0:
        return [rows[first]]
    low, found = rows[first - 1].threshold, rows[first]
    while found.threshold - low > 1.5 * STEP_NATS:
        middle = predict(_round((low + found.threshold) / 2))
        if reaches(middle):
            found = middle
        else:
            low = middle.threshold
    return [found]


def _round(threshold: float) -> float:
    return round(float(threshold), 2)


def _print(forecasts: Sequence[Forecast], task: str, pilots: int, count: int, speed: float | None) -> None:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    from eager_lmeval.commands.writing import console

    title = f"{escape(task)}: {pilots} pilot prompts, predicted for {count:,} prompts"
    table = Table(title=title, box=box.SIMPLE, padding=0, title_justify="left", title_style="")
    for name in ("θ", "M", "sequences", "tokens", "95% interval", "saved", "saturated", "time"):
        table.add_column(name, justify="right")
    for one in forecasts:
        table.add_row(
            f"{one.threshold:g}",
            str(one.max_sequences),
            f"{one.sequences * count:,.0f}",
            f"{one.tokens * count:,.0f}",
            f"{one.tokens_low * count:,.0f} to {one.tokens_high * count:,.0f}",
            _percent(one.saving),
            f"{one.saturated:.0%}",
            _duration(one.tokens * count / speed) if speed else "–",
        )
    output = console()
    output.print(table)
    output.print(
        "Stage 1 only: what adapt and eager spend again is what is saved. Time at the pilot's speed; a larger run "
        "keeps its rows fuller. The interval is of the pilot's choice of prompts.",
        soft_wrap=True,
    )


def _percent(saving: float) -> str:
    """Rounded down, so that what is shown is reached."""
    return f"{math.floor(saving * 1000 + 1e-9) / 10:.1f}%"


def _duration(seconds: float) -> str:
    for limit, unit, name in ((120.0, 1.0, "s"), (7200.0, 60.0, "min"), (2 * 86400.0, 3600.0, "h")):
        if seconds < limit:
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds / 86400:,.1f} d"


def _configuration(pilot: Run, task: str, chosen: Forecast) -> dict[str, Any]:
    """The pilot's own settings at the chosen θ and M."""
    config, results = pilot.config, pilot.results
    given = config.get("model_args") or {}
    if not isinstance(given, Mapping):
        given = dict(part.split("=", 1) for part in str(given).split(",") if "=" in part)
    strategy = pilot.pools(task)[0]["options"]["strategy"]
    model_args = dict(given) | {
        "strategy": "init" if strategy == "parallel" else strategy,
        "max_sequences": chosen.max_sequences,
        "entropy_threshold": chosen.threshold,
    }
    gen_kwargs = {name: value for name, value in (config.get("gen_kwargs") or {}).items() if name not in _CHOSEN}
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
    return written | {"seed": seeds, "output_path": f"out/{task}", "log_samples": True}


def _write(path: Path, configuration: Mapping[str, Any]) -> None:
    import yaml  # type: ignore[import-untyped]  # PyYAML ships no types

    from eager_lmeval.commands.writing import save_text

    head = "# Made by eager-lmeval calibrate. Tasks outside the harness need --include_path beside --config.\n"
    save_text(path, head + yaml.safe_dump(dict(configuration), sort_keys=False, allow_unicode=True))
