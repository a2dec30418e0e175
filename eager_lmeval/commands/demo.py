"""`eager-lmeval demo`: the main job on the embedded model, once a strategy, and one table."""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eager_lmeval import paths
from eager_lmeval.commands.amounts import argument, count, path_argument
from eager_lmeval.errors import UsageError

if TYPE_CHECKING:
    from argparse import _SubParsersAction

__all__ = ["add_parser", "run"]

STRATEGIES = ("parallel", "init", "adapt", "eager")
TASK = "eager_demo"
LOG = "lm_eval.log"
"""What the harness prints: the commands, its own log and tables."""


def add_parser(subparsers: _SubParsersAction[argparse.ArgumentParser]) -> None:
    summary = "score the embedded model with all four strategies and print one table"
    parser = subparsers.add_parser("demo", help=summary, description=summary)
    parser.add_argument(
        "--max_sequences", type=argument(count), default=8, metavar="M", help="sequences a prompt (default 8)"
    )
    parser.add_argument("--limit", type=argument(count), metavar="N", help="only the first N problems")
    parser.add_argument("--seed", type=int, default=1234, help="the harness's --seed (default 1234)")
    parser.add_argument("--output_path", type=path_argument, default=Path("out/demo"), help="folder (default out/demo)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs `lm_eval` once a strategy, with a line on how it went, and its own output in a log; 1 if one fails."""
    log = args.output_path / LOG
    args.output_path.mkdir(parents=True, exist_ok=True)
    log.write_text("", encoding="utf-8")
    print(f"lm_eval on {TASK}, once a strategy; its output goes to {log}", flush=True)
    rows = []
    for strategy in STRATEGIES:
        print(f"  {strategy:<{max(map(len, STRATEGIES))}}  ", end="", flush=True)
        row = _run(strategy, args, log)
        if row is None:
            print("failed")
            print(f"eager-lmeval demo: strategy {strategy} failed: {_last_line(log)}", file=sys.stderr)
            return 1
        print(f"{row['sequences']:,} sequences, {row['tokens']:,} tokens in {row['seconds']:.1f} s", flush=True)
        rows.append(row)
    print()
    _print_table(rows, args)
    return 0


def _run(strategy: str, args: argparse.Namespace, log: Path) -> dict[str, Any] | None:
    """A strategy's row of the table; None if its run failed. The run's output is appended to ``log``."""
    folder = args.output_path / strategy
    command = _command(strategy, args, folder)
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


def _command(strategy: str, args: argparse.Namespace, folder: Path) -> list[str]:
    limit = ["--limit", str(args.limit)] if args.limit else []
    return [
        *("lm_eval", "run", "--model", "eager"),
        *("--model_args", f"pretrained=demo,strategy={strategy},max_sequences={args.max_sequences}"),
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


def _row(results_file: Path) -> dict[str, Any]:
    from eager_lmeval.commands.runs import read_run

    results = read_run(results_file)
    (pool,) = results.pools(TASK)
    return {
        "strategy": pool["options"]["strategy"],
        "pass@max": results.value(TASK, "pass@max"),
        "cons@max": results.value(TASK, "cons@max"),
        "pass rate": results.value(TASK, "pass_rate"),
        "tokens": pool["tokens"],
        "sequences": pool["sequences"],
        "seconds": pool["seconds"],
        "labels used": results.labels_used,
    }


def _print_table(rows: list[dict[str, Any]], args: argparse.Namespace) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from eager_lmeval.commands.writing import console

    table = Table(title=f"{TASK} at M = {args.max_sequences}", box=SIMPLE_HEAD, pad_edge=False, padding=0)
    for name in rows[0]:
        table.add_column(name, justify="left" if name == "strategy" else "right", no_wrap=True)
    for row in rows:
        table.add_row(
            row["strategy"],
            *(f"{row[name]:.3f}" for name in ("pass@max", "cons@max", "pass rate")),
            *(f"{row[name]:,.0f}" for name in ("tokens", "sequences")),
            f"{row['seconds']:.1f}",
            "yes" if row["labels used"] else "no",
        )
    output = console()
    output.print(table)
    output.print(
        "A result with labels used is an upper bound: the right answers decided who got the saved budget.\n"
        f"Results, and every tree in samples_*.jsonl: {args.output_path}",
        soft_wrap=True,
    )
