"""The command line of `export`. Imports what writes only when it runs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from eager_lmeval.commands.arguments import add_runs, path_argument
from eager_lmeval.errors import UsageError

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from eager_lmeval.runs.run import Run

__all__ = ["add_parser", "run"]

_TABLES = (".parquet", ".csv")
_EPILOG = """\
formats:
  parquet, csv  every sequence a row (by the name of FILE)
  eee           Every Eval Ever: FILE is a folder, which gets data/TASK/ORGANISATION/MODEL/ID.json and its samples
  hf            what the page of a model on the Hub shows: FILE is a .yaml for the model's folder .eval_results
  inspect       a log for Inspect and its viewer: FILE is a .json, a sequence an epoch
"""


def add_parser(subparsers: _SubParsersAction[argparse.ArgumentParser]) -> None:
    summary = "write runs as a table of sequences, or for Every Eval Ever, the Hub or Inspect"
    parser = subparsers.add_parser(
        "export",
        help=summary,
        description=summary,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_runs(parser)
    parser.add_argument("-o", "--output", type=path_argument, required=True, metavar="FILE", help="see below")
    parser.add_argument("--format", choices=("parquet", "csv", "eee", "hf", "inspect"), help="default: by FILE's name")
    parser.add_argument("--metric", default="cons_w@max", help="hf: the score that is shown (default cons_w@max)")
    parser.add_argument("--dataset", metavar="ID", help="hf: the benchmark on the Hub (default: the task's dataset)")
    parser.add_argument("--organisation", default="unknown", metavar="NAME", help="eee: who evaluated")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Writes, and says what; UsageError if the runs cannot be read, or cannot be written in that format."""
    from eager_lmeval.commands.writing import print_text
    from eager_lmeval.runs.run import find_runs

    chosen = args.format or args.output.suffix.removeprefix(".")
    if chosen not in ("eee", "hf", "inspect") and args.output.suffix not in _TABLES:
        raise UsageError(
            f"{args.output} says no format; give a name that ends in .parquet or .csv, or --format eee, hf or inspect"
        )
    print_text(f"{_write(chosen, find_runs(*args.runs), args)}\n")
    return 0


def _write(chosen: str, runs: list[Run], args: argparse.Namespace) -> str:
    output: Path = args.output
    if chosen == "eee":
        from eager_lmeval.commands.export.every_eval import write_records

        return write_records(runs, output, args.organisation)
    if chosen == "hf":
        from eager_lmeval.commands.export.hub import write_results

        return write_results(runs, output, args.metric, args.dataset)
    if chosen == "inspect":
        from eager_lmeval.commands.export.inspect import write_log

        return write_log(runs, output)
    from eager_lmeval.commands.export.sequences import write_sequences

    return write_sequences(runs, output)
