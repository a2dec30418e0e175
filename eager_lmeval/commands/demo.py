"""`eager-lmeval demo`: the main job on the embedded model, once a strategy, one table and two pictures."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from eager_lmeval import paths
from eager_lmeval.commands.arguments import argument, count, listed, path_argument
from eager_lmeval.commands.sweep.config import Cell

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from eager_lmeval.runs.run import Run

__all__ = ["DESIGNS", "add_parser", "run"]

TASK = "eager_demo"
LOG = "lm_eval.log"
"""What the harness prints, below the command that would do the same."""
DESIGNS: Sequence[dict[str, str]] = (
    {"strategy": "parallel"},
    {"strategy": "init", "branching": "top2"},
    {"strategy": "eager", "branching": "top2"},
    {"strategy": "init", "branching": "systematic"},
    {"strategy": "consistency"},
)
"""The baseline, the paper's two, and what is this project's own."""
RACE_TIMES = 4
"""M of the race in units of the others': most prompts need fewer, and a race of few sequences has none to cut."""


def add_parser(subparsers: _SubParsersAction[argparse.ArgumentParser]) -> None:
    summary = (
        "score the embedded model with five strategies, print one table and draw what they bring for what they cost"
    )
    parser = subparsers.add_parser("demo", help=summary, description=summary)
    parser.add_argument(
        "--max_sequences",
        type=argument(listed(count)),
        default=[8],
        metavar="M,…",
        help="sequences a prompt (default 8), or several, such as 4,8,16,32",
    )
    parser.add_argument("--limit", type=argument(count), metavar="N", help="only the first N problems")
    parser.add_argument("--seed", type=int, default=1234, help="the harness's --seed (default 1234)")
    parser.add_argument("--output_path", type=path_argument, default=Path("out/demo"), help="folder (default out/demo)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Evaluates once a strategy and M, on one model, with a line on how it went and the harness's output in a log."""
    from lm_eval.config.evaluate_config import EvaluatorConfig

    from eager_lmeval.commands.sweep.command import evaluate

    log = args.output_path / LOG
    args.output_path.mkdir(parents=True, exist_ok=True)
    print(f"lm_eval on {TASK}, once a strategy; its output goes to {log}", flush=True)
    cells = [
        Cell((*design.items(), ("max_sequences", most * (RACE_TIMES if design["strategy"] == "consistency" else 1))))
        for most, design in itertools.product(args.max_sequences, DESIGNS)
    ]
    config = EvaluatorConfig(
        model="eager",
        model_args={"pretrained": "demo"},
        tasks=[TASK],
        include_path=str(paths.tasks_dir()),
        seed=[args.seed] * 4,
        limit=args.limit,
        output_path=str(args.output_path),
    )
    with _into(log) as shown:

        def begins(place: int, cell: Cell) -> None:
            if place:
                _say(_newest(args.output_path, cells[place - 1]), shown)
            options = ",".join(f"{name}={value}" for name, value in cell.values)
            print(f"  M {cell.given['max_sequences']:<3} {_name(cell):<20}", end="", file=shown, flush=True)
            print(f"$ {shlex.join(_command(args, cell, options))}", flush=True)

        evaluate(config, cells, args.output_path, begins)
        _say(_newest(args.output_path, cells[-1]), shown)
    runs = [_newest(args.output_path, cell) for cell in cells]
    _print_table(runs)
    _draw(runs, args.output_path)
    return 0


@contextlib.contextmanager
def _into(log: Path) -> Iterator[TextIO]:
    """Whatever is printed goes to the log, what libraries print from C too; the stream is what was standard output."""
    sys.stdout.flush()
    kept = [os.dup(number) for number in (1, 2)]
    try:
        with log.open("w", encoding="utf-8") as file, os.fdopen(os.dup(kept[0]), "w", encoding="utf-8") as shown:
            for number in (1, 2):
                os.dup2(file.fileno(), number)
            yield shown
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, descriptor in zip((1, 2), kept, strict=True):
            os.dup2(descriptor, number)
            os.close(descriptor)


def _command(args: argparse.Namespace, cell: Cell, options: str) -> list[str]:
    """What a user would type for one row."""
    limit = ["--limit", str(args.limit)] if args.limit else []
    return [
        *("lm_eval", "run", "--model", "eager", "--model_args", f"pretrained=demo,{options}"),
        *("--include_path", str(paths.tasks_dir()), "--tasks", TASK, "--seed", str(args.seed)),
        *("--output_path", str(args.output_path / cell.folder), "--log_samples", *limit),
    ]


def _name(cell: Cell) -> str:
    return ", ".join(str(value) for name, value in cell.values if name in ("strategy", "branching"))


def _newest(folder: Path, cell: Cell) -> Run:
    from eager_lmeval.runs.run import find_runs

    return find_runs(folder / cell.folder)[-1]


def _say(made: Run, shown: TextIO) -> None:
    (pool,) = made.pools(TASK)
    print(
        f"{pool['sequences']:,} sequences, {pool['tokens']:,} tokens in {pool['seconds']:.1f} s", file=shown, flush=True
    )


def _branching(options: dict[str, str]) -> str:
    return "–" if options["strategy"] in ("parallel", "consistency") else options["branching"]


def _print_table(runs: Sequence[Run]) -> None:
    from eager_lmeval.commands.tables import Table
    from eager_lmeval.commands.writing import print_text
    from eager_lmeval.pools.record import settings

    rows, races = [], []
    for made in runs:
        (pool,) = made.pools(TASK)
        if pool.get("race"):
            races.append(settings(pool) + "\n")
        options = pool["options"]
        scores = [f"{made.value(TASK, name):.3f}" for name in ("pass@max", "cons_w@max", "pass_rate_w")]
        costs = [f"{pool['tokens']:,}", f"{pool['sequences']:,}", f"{pool['seconds']:.1f}"]
        labels = "yes" if made.labels_used else "no"
        rows.append([str(options["max_sequences"]), options["strategy"], _branching(options), *scores, *costs, labels])
    costs = ["tokens", "sequences", "seconds", "labels used"]
    headings = ["M", "strategy", "branching", "pass@max", "vote", "rate", *costs]
    print_text("\n" + Table(headings, rows, left=["strategy", "branching"], title=TASK).to_text())
    print_text(
        "vote, rate: cons_w@max and pass_rate_w, the weighted ones, which compare with independent samples.\n"
        "A result with labels used is an upper bound: the right answers decided who got the saved budget.\n"
        + "".join(races)
    )


def _draw(runs: Sequence[Run], folder: Path) -> None:
    from eager_lmeval.commands.plots import Point, scatter
    from eager_lmeval.commands.writing import save_text

    pictures = []
    for metric, file in (("pass@max", "pass.svg"), ("cons_w@max", "vote.svg")):
        points = []
        for made in runs:
            (pool,) = made.pools(TASK)
            options, value = pool["options"], made.value(TASK, metric)
            name = f"{_branching(options)[:3]} M{options['max_sequences']}".removeprefix("– ")
            points.append(Point(pool["tokens"], value, value, value, name, options["strategy"], made.labels_used))
        save_text(folder / file, scatter(points, "tokens", metric, alone=True))
        pictures.append(str(folder / file))
    print(f"Results, and every tree in samples_*.jsonl: {folder}")
    print(f"Scores against tokens, pictures: {', '.join(pictures)}")
