"""`eager-lmeval calibrate`: chooses θ, M and `fan_out` from a small pilot, before money is spent on the whole run."""

from __future__ import annotations

import argparse
import itertools
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from eager_lmeval.commands import arguments
from eager_lmeval.errors import UsageError

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from eager_lmeval.commands.calibrate.examples import PilotPrompt
    from eager_lmeval.commands.calibrate.pilot import Forecast
    from eager_lmeval.runs.run import Run

    Predict = Callable[[float], Forecast]

__all__ = ["add_parser", "run"]

ROWS = 10
"""Thresholds that are shown where none are given."""
STEP_NATS = 0.01
"""How finely θ is chosen."""
RACE = 64
"""M of the race that is forecast where none is given: a race of the pilot's few sequences has nothing to cut."""
_WORTHWHILE = 0.1
"""Share of the tokens from which on a saving is called one."""


def add_parser(subparsers: _SubParsersAction[argparse.ArgumentParser]) -> None:
    summary = "predict tokens, sequences and time for several entropy thresholds from a pilot run"
    parser = subparsers.add_parser("calibrate", help=summary, description=summary)
    number, count = arguments.argument(arguments.number), arguments.argument(arguments.count)
    numbers, counts = (arguments.argument(arguments.listed(one)) for one in (arguments.number, arguments.count))
    parser.add_argument(
        "pilot",
        type=arguments.path_argument,
        metavar="PILOT",
        help="--output_path of a small run with --log_samples",
    )
    parser.add_argument("--task", help="the pilot's task, if it has several")
    parser.add_argument("--thresholds", type=numbers, metavar="θ,…", help="in nats; default: from the pilot")
    parser.add_argument("--max_sequences", type=counts, metavar="M,…", help="default: the pilot's")
    parser.add_argument(
        "--fan_out",
        type=arguments.argument(arguments.listed(_fan_out)),
        metavar="F,…",
        help="the most tokens that a sequence splits into, or none; default: none,2",
    )
    arguments.add_removed(
        parser, "--branching", "0.2.0", "leave it out; forecasts are of branching=systematic and of the race"
    )
    parser.add_argument("--prompts", type=count, metavar="D", help="prompts of the whole run; default: the task's")
    target = parser.add_mutually_exclusive_group()
    chosen = (
        "of several M and fan_out, the one with the smallest error, or without labels the most sequences. Of "
        "--thresholds if they are given, else to 0.01 nat"
    )
    target.add_argument(
        "--target-tokens",
        type=number,
        metavar="N",
        help=f"choose the lowest θ at which the run needs at most N tokens; {chosen}",
    )
    target.add_argument(
        "--target-saving",
        type=arguments.argument(arguments.share),
        metavar="P%",
        help=f"choose the lowest θ that saves P%% of the tokens of parallel; {chosen}",
    )
    parser.add_argument(
        "--write",
        type=arguments.path_argument,
        metavar="FILE",
        help="write a configuration for lm_eval run --config",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints the forecasts, and a recommendation where a target was given; 1 if no θ reaches the target."""
    from eager_lmeval.algorithm.branching import SplitSettings
    from eager_lmeval.commands.calibrate.examples import read_pilot
    from eager_lmeval.commands.calibrate.pilot import SEED, forecast
    from eager_lmeval.commands.writing import progress
    from eager_lmeval.runs.run import find_run

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
    _require_likeliest(prompts, args.thresholds or ())
    designs = list(itertools.product(sizes, args.fan_out or [None, 2]))
    replays = len(designs) * len(args.thresholds) * len(prompts) if args.thresholds else None
    forecasts: list[Forecast] = []
    chosen: list[Forecast] = []
    with progress("replaying", replays, " prompts") as bar:
        for most, fan_out in designs:

            def predict(threshold: float, most: int = most, fan_out: int | None = fan_out) -> Forecast:
                bar.set_description_str(f"replaying at θ = {threshold:g}, M = {most}", refresh=False)
                splits = SplitSettings(threshold, SEED, fan_out, pool["options"].get("think_gate", True))
                return forecast(prompts, most, splits, played=bar.update)

            rows = [predict(threshold) for threshold in sorted(args.thresholds or ())] or _spread(prompts, predict)
            found = _lowest(rows, predict, reaches, between=not args.thresholds)
            chosen += found
            forecasts += sorted({*rows, *found}, key=lambda one: one.threshold)
    _print(forecasts, task, len(prompts), count, pool.get("tokens_per_second"))
    _print_text(_case(prompts, max(sizes), pool["options"], max(args.max_sequences or [RACE])))
    if args.target_tokens is None and args.target_saving is None:
        return 0
    if not chosen:
        cheapest = min(forecasts, key=lambda one: one.tokens)
        print(
            f"No θ of the table reaches the target; the nearest, θ = {cheapest.threshold:g}, needs "
            f"{cheapest.tokens * count:,.0f} tokens and saves {_percent(cheapest.saving)}."
        )
        return 1
    graded = not any(math.isnan(one.variance) for one in chosen)
    best = min(chosen, key=lambda one: one.variance) if graded else max(chosen, key=lambda one: one.sequences)
    settings = {
        "branching": "systematic",
        "entropy_threshold": f"{best.threshold:g}",
        "max_sequences": best.max_sequences,
    }
    if best.fan_out:
        settings["fan_out"] = best.fan_out
    print(
        f"Recommended: {','.join(f'{name}={value}' for name, value in settings.items())} "
        f"({best.tokens * count:,.0f} tokens, {_percent(best.saving)} saved)"
    )
    if args.write:
        from eager_lmeval.commands.calibrate.configuration import write_configuration

        write_configuration(args.write, pilot, task, best)
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


def _fan_out(text: str) -> int | None:
    if text.strip().lower() == "none":
        return None
    if arguments.count(text) < 2:
        raise ValueError(f"{text!r} is no fan_out: give a whole number from 2 on, such as 2, or none")
    return arguments.count(text)


def _require_likeliest(prompts: Sequence[PilotPrompt], thresholds: Sequence[float]) -> None:
    """UsageError where systematic trees cannot be played: the probabilities are not there."""
    from eager_lmeval.algorithm.tree import UNCERTAIN_NATS

    if low := [threshold for threshold in thresholds if threshold < UNCERTAIN_NATS]:
        raise UsageError(
            f"--thresholds {low[0]:g} is below {UNCERTAIN_NATS:g} nats, from where on a run records the probabilities "
            f"that branching=systematic depends on; give higher ones"
        )
    if not all(example.foreseeable for prompt in prompts for example in prompt.examples):
        raise UsageError(
            "the pilot's samples hold no probabilities (`likeliest`), which a forecast of branching=systematic needs: "
            "make the pilot again with this release"
        )


def _case(prompts: Sequence[PilotPrompt], most: int, options: Mapping[str, Any], in_race: int) -> str:
    """What saves on these prompts: branching at M = ``most``, a race of ``in_race`` sequences, or neither."""
    from eager_lmeval.algorithm.branching import SplitSettings
    from eager_lmeval.algorithm.race import RaceSettings
    from eager_lmeval.algorithm.tree import UNCERTAIN_NATS
    from eager_lmeval.commands.calibrate.pilot import SEED, forecast, forecast_race

    low = forecast(prompts, most, SplitSettings(UNCERTAIN_NATS, SEED, None, options.get("think_gate", True)))
    said = f"At M = {most}, splitting at every uncertain token (θ = {low.threshold:g}) saves {_percent(low.saving)}"
    if not all(prompt.graded for prompt in prompts):
        saved = 0.0
        said += "; what a race (strategy=consistency) saves cannot be said without a label and a verifier"
    else:
        settings = RaceSettings(options.get("first_lanes", 8), in_race, options.get("settled_at", 0.95))
        race = forecast_race(prompts, settings)
        saved = 1 - race.tokens
        said += (
            f". A race at M = {in_race} votes {race.race:.3f}, all {in_race} {race.all:.3f}: settled "
            f"{race.settled:.0%}, {race.tokens:.0%} of the tokens of {in_race}, {race.time:.2f} of their time"
        )
    if low.saving >= _WORTHWHILE:
        return f"{said}. Branching saves here, whatever θ is."
    if saved >= _WORTHWHILE:
        return (
            f"{said}. Copies separate early here, as in long answers: for a vote take the race, "
            f"strategy=consistency,max_sequences={in_race},respond=vote."
        )
    return f"{said}. Copies separate early here: branching saves only at a high θ, where they agree more."


def _spread(prompts: Sequence[PilotPrompt], predict: Predict) -> list[Forecast]:
    """Forecasts at θ from where half of the positions fork to where none does, evenly spread in tokens.

    The widest gap is halved until it is none; of rows that are nearly the same, the first is shown.
    """
    import numpy as np

    from eager_lmeval.algorithm.tree import UNCERTAIN_NATS

    entropies = np.concatenate([example.entropies for prompt in prompts for example in prompt.examples])
    ends = [_round(max(UNCERTAIN_NATS, nats)) for nats in (np.median(entropies), entropies.max() + STEP_NATS)]
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
    from eager_lmeval.commands.tables import Table
    from eager_lmeval.commands.writing import print_text

    columns: dict[str, Callable[[Forecast], str]] = {
        "θ": lambda one: f"{one.threshold:g}",
        "M": lambda one: str(one.max_sequences),
        "fan_out": lambda one: str(one.fan_out or "none"),
        "sequences": lambda one: f"{one.sequences * count:,.0f}",
        "tokens": lambda one: f"{one.tokens * count:,.0f}",
        "95% interval": lambda one: f"{one.tokens_low * count:,.0f} to {one.tokens_high * count:,.0f}",
        "saved": lambda one: _percent(one.saving),
        "saturated": lambda one: f"{one.saturated:.0%}",
        "error": lambda one: f"{math.sqrt(one.variance / count):.4f}",
        "time": lambda one: _duration(one.tokens * count / speed) if speed else "–",
    }
    graded = not any(math.isnan(one.variance) for one in forecasts)
    if not graded:
        del columns["error"]
    title = f"{task}: {pilots} pilot prompts, predicted for {count:,} prompts"
    rows = [[text(one) for text in columns.values()] for one in forecasts]
    print_text(Table(list(columns), rows, title=title).to_text())
    _print_text(
        "Stage 1 only: what adapt and eager spend again is what is saved. Time at the pilot's speed; a larger run "
        "keeps its rows fuller. The interval is of the pilot's choice of prompts."
    )
    if graded:
        most = max(one.max_sequences for one in forecasts)
        alone = next(one for one in forecasts if one.max_sequences == most)
        _print_text(
            "error: standard error of pass_rate_w over runs of these prompts, at most: that copies which separate "
            f"exclude one another lowers it, and is not in a pilot. {most} independent samples: "
            f"{math.sqrt(alone.parallel_variance / count):.4f} at {alone.parallel_tokens * count:,.0f} tokens."
        )


def _print_text(text: str) -> None:
    from eager_lmeval.commands.writing import console

    console().print(text, soft_wrap=True, highlight=False)


def _percent(saving: float) -> str:
    """Rounded down, so that what is shown is reached."""
    return f"{math.floor(saving * 1000 + 1e-9) / 10:.1f}%"


def _duration(seconds: float) -> str:
    for limit, unit, name in ((120.0, 1.0, "s"), (7200.0, 60.0, "min"), (2 * 86400.0, 3600.0, "h")):
        if seconds < limit:
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds / 86400:,.1f} d"
