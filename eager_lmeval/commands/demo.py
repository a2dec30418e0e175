"""`eager-lmeval demo`: the main job on the embedded model, once a strategy, one table and one picture."""

from __future__ import annotations

import argparse
import itertools
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from eager_lmeval import paths
from eager_lmeval.commands.arguments import argument, count, listed, path_argument
from eager_lmeval.errors import UsageError

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from eager_lmeval.commands.curve import CurvePoint

__all__ = ["add_parser", "run"]

TASK = "eager_demo"
LOG = "lm_eval.log"
"""What the harness prints: the commands, its own log and tables."""


class Design(NamedTuple):
    """One row of the table: a strategy, and how its sequences branch."""

    strategy: str
    branching: str | None = None
    """None for `parallel` and `consistency`, which do not."""

    @property
    def name(self) -> str:
        return ", ".join(filter(None, self))

    @property
    def folder(self) -> str:
        return "_".join(filter(None, self))

    @property
    def model_args(self) -> str:
        return f"strategy={self.strategy}" + (f",branching={self.branching}" if self.branching else "")


DESIGNS = (
    Design("parallel"),
    Design("init", "top2"),
    Design("eager", "top2"),
    Design("init", "systematic"),
    Design("consistency"),
)
"""The baseline, the paper's two, and what is this project's own."""


def add_parser(subparsers: _SubParsersAction[argparse.ArgumentParser]) -> None:
    summary = "score the embedded model with five strategies, print one table and draw one picture"
    parser = subparsers.add_parser("demo", help=summary, description=summary)
    parser.add_argument(
        "--max_sequences",
        type=argument(listed(count)),
        default=[8],
        metavar="M,…",
        help="sequences a prompt (default 8); of several, such as 4,8,16,32, the picture shows the curves",
    )
    parser.add_argument("--limit", type=argument(count), metavar="N", help="only the first N problems")
    parser.add_argument("--seed", type=int, default=1234, help="the harness's --seed (default 1234)")
    parser.add_argument("--output_path", type=path_argument, default=Path("out/demo"), help="folder (default out/demo)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs `lm_eval` once a strategy and M, with a line on how it went, and its own output in a log; 1 if one fails."""
    log = args.output_path / LOG
    args.output_path.mkdir(parents=True, exist_ok=True)
    log.write_text("", encoding="utf-8")
    print(f"lm_eval on {TASK}, once a strategy; its output goes to {log}", flush=True)
    width = max(len(design.name) for design in DESIGNS)
    rows = []
    for most, design in itertools.product(args.max_sequences, DESIGNS):
        print(f"  M {most:<3} {design.name:<{width}}  ", end="", flush=True)
        row = _run(design, most, args, log)
        if row is None:
            print("failed")
            print(f"eager-lmeval demo: {design.name} failed: {_last_line(log)}", file=sys.stderr)
            return 1
        print(f"{row.sequences:,} sequences, {row.tokens:,} tokens in {row.seconds:.1f} s", flush=True)
        rows.append(row)
    print()
    _print_table(rows)
    _draw(rows, args.output_path)
    return 0


def _run(design: Design, most: int, args: argparse.Namespace, log: Path) -> CurvePoint | None:
    """A design's row of the table; None if its run failed. The run's output is appended to ``log``."""
    folder = args.output_path / f"{design.folder}_M{most}"
    command = _command(design, most, args, folder)
    known = set(_results_files(folder))
    with log.open("a", encoding="utf-8") as output:
        output.write(f"$ {shlex.join(command)}\n")
        output.flush()
        shell = [sys.executable, "-m", *command]
        if subprocess.run(shell, stdout=output, stderr=subprocess.STDOUT, check=False).returncode:
            return None
    return _row(_new_file(folder, known))


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").rstrip().splitlines()
    return f"{lines[-1]} (all of it in {log})"


def _command(design: Design, most: int, args: argparse.Namespace, folder: Path) -> list[str]:
    limit = ["--limit", str(args.limit)] if args.limit else []
    return [
        *("lm_eval", "run", "--model", "eager"),
        *("--model_args", f"pretrained=demo,{design.model_args},max_sequences={most}"),
        *("--include_path", str(paths.tasks_dir()), "--tasks", TASK, "--seed", str(args.seed)),
        *("--output_path", str(folder), "--log_samples", *limit),
    ]


def _results_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/results_*.json"))


def _new_file(folder: Path, known: set[Path]) -> Path:
    new = [path for path in _results_files(folder) if path not in known]
    if not new:
        raise UsageError(f"the harness wrote no results to {folder}; is the folder writable and the disk not full?")
    return new[-1]


def _row(results_file: Path) -> CurvePoint:
    from eager_lmeval.commands.curve import CurvePoint
    from eager_lmeval.runs.run import read_run

    results = read_run(results_file)
    (pool,) = results.pools(TASK)
    options = pool["options"]
    return CurvePoint(
        options["strategy"],
        "" if options["strategy"] == "parallel" else options["branching"],
        options["max_sequences"],
        pool["tokens"],
        results.value(TASK, "pass@max"),
        results.value(TASK, "cons_w@max"),
        results.value(TASK, "pass_rate_w"),
        results.labels_used,
        sequences=pool["sequences"],
        seconds=pool["seconds"],
    )


def _print_table(rows: Sequence[CurvePoint]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from eager_lmeval.commands.writing import console

    table = Table(title=TASK, box=SIMPLE_HEAD, pad_edge=False, padding=0)
    headings = ("pass@max", "vote", "rate", "tokens", "sequences", "seconds", "labels used")
    for name in ("M", "strategy", "branching", *headings):
        table.add_column(name, justify="left" if name in ("strategy", "branching") else "right", no_wrap=True)
    for row in rows:
        table.add_row(
            str(row.max_sequences),
            row.strategy,
            row.branching or "–",
            *(f"{value:.3f}" for value in (row.pass_at_max, row.vote, row.rate)),
            *(f"{value:,.0f}" for value in (row.tokens, row.sequences)),
            f"{row.seconds:.1f}",
            "yes" if row.labels_used else "no",
        )
    output = console()
    output.print(table)
    output.print(
        "vote, rate: cons_w@max and pass_rate_w, the weighted ones, which compare with independent samples.\n"
        "A result with labels used is an upper bound: the right answers decided who got the saved budget.",
        soft_wrap=True,
    )


def _draw(rows: Sequence[CurvePoint], folder: Path) -> None:
    from eager_lmeval.commands.curve import can_draw, save_curve

    print(f"Results, and every tree in samples_*.jsonl: {folder}")
    if not can_draw():
        print("No picture: matplotlib is not installed; pip install 'eager-lmeval[plot]' brings it")
        return
    picture = folder / "demo.png"
    save_curve(rows, f"{TASK}, one run a point", picture)
    print(f"Scores against tokens, a picture: {picture}")
