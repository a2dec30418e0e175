"""The command line of `compare`. Imports what computes only when it runs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from eager_lmeval.commands.arguments import path_argument
from eager_lmeval.commands.gate.limits import Asked
from eager_lmeval.commands.gate.options import add_options, asked, status_of, write
from eager_lmeval.errors import UsageError

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from eager_lmeval.commands.gate.comparison import Comparison

__all__ = ["add_parser", "compare", "run"]

_EPILOG = """\
exit status: 0 every limit was shown to hold (or none was given), 1 a limit was shown to be exceeded,
2 wrong usage, unreadable files or runs that should not be compared, 3 inconclusive: too few documents to say either

  eager-lmeval compare baselines/main out/candidate --max-drop pass@max=0.05 --max-increase tokens=10%
"""


def add_parser(subparsers: _SubParsersAction[argparse.ArgumentParser]) -> None:
    summary = "compare two runs document by document, and judge the difference"
    parser = subparsers.add_parser(
        "compare",
        help=summary,
        description=summary,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    folder = "--output_path of a run with --log_samples, or its results_*.json"
    parser.add_argument("baseline", type=path_argument, metavar="BASELINE", help=folder)
    parser.add_argument("candidate", type=path_argument, metavar="CANDIDATE", help=folder)
    add_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Compares, writes, and returns the verdict's exit status; 2 if it could not compare, whatever the reason."""
    return status_of(_run, args)


def compare(baseline_path: Path, candidate_path: Path, asked: Asked) -> Comparison:
    """Reads two runs and judges them; UsageError where they cannot be read or should not be compared."""
    from eager_lmeval.commands.gate.comparison import Comparison
    from eager_lmeval.commands.gate.pairing import pair_runs
    from eager_lmeval.commands.gate.verdict import decide
    from eager_lmeval.runs.run import find_run

    (baseline, about_baseline), (candidate, about_candidate) = find_run(baseline_path), find_run(candidate_path)
    remarks = [remark for remark in (about_baseline, about_candidate) if remark]
    if baseline.results_file.resolve() == candidate.results_file.resolve():
        remarks.append(f"baseline and candidate are the same run, {baseline.results_file}")
    try:
        pairs, notes = pair_runs(baseline, candidate, asked.tasks, asked.allow_different)
        checks = decide(pairs, asked.limits, asked.confidence, asked.power) if asked.limits else []
    except UsageError as error:
        raise UsageError("\n".join([str(error), *(f"note: {remark}" for remark in remarks)])) from error
    return Comparison(baseline, candidate, asked, pairs, checks, [*remarks, *notes])


def _run(args: argparse.Namespace) -> int:
    from eager_lmeval.commands.gate.comparison import FORMATS

    comparison = compare(args.baseline, args.candidate, asked(args))
    write(args, "compare", comparison, FORMATS)
    return comparison.verdict.value if comparison.verdict else 0
