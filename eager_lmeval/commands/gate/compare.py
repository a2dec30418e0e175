"""The command line of `compare`. Imports what computes only when it runs."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from eager_lmeval.commands.arguments import path_argument
from eager_lmeval.commands.gate.limits import Limit
from eager_lmeval.commands.gate.options import add_options, status_of, write
from eager_lmeval.errors import UsageError

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from eager_lmeval.commands.gate.comparison import Comparison
    from eager_lmeval.runs.run import Run

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


def compare(
    baseline_path: Path,
    candidate_path: Path,
    limits: list[Limit],
    *,
    confidence: float = 0.95,
    power: float = 0.8,
    only: list[str] | None = None,
    allow_different: bool = False,
) -> Comparison:
    """Reads two runs and judges them; UsageError where they cannot be read or should not be compared."""
    from eager_lmeval.runs.run import find_run

    (baseline, about_baseline), (candidate, about_candidate) = find_run(baseline_path), find_run(candidate_path)
    remarks = [remark for remark in (about_baseline, about_candidate) if remark]
    if baseline.results_file.resolve() == candidate.results_file.resolve():
        remarks.append(f"baseline and candidate are the same run, {baseline.results_file}")
    try:
        return _compare(baseline, candidate, limits, confidence, power, only or [], allow_different, remarks)
    except UsageError as error:
        raise UsageError("\n".join([str(error), *(f"note: {remark}" for remark in remarks)])) from error


def _compare(
    baseline: Run,
    candidate: Run,
    limits: list[Limit],
    confidence: float,
    power: float,
    only: list[str],
    allow_different: bool,
    remarks: list[str],
) -> Comparison:
    from eager_lmeval.commands.gate.comparison import Comparison, rows
    from eager_lmeval.commands.gate.pairing import pair_runs
    from eager_lmeval.commands.gate.verdict import decide

    pairs, notes = pair_runs(baseline, candidate, only, allow_different)
    checks = decide(pairs, limits, confidence, power) if limits else []
    tasks = [(pair, rows(pair, confidence, power)) for pair in pairs]
    return Comparison(baseline, candidate, confidence, power, tasks, checks, [*remarks, *notes])


def _run(args: argparse.Namespace) -> int:
    from eager_lmeval.commands.gate.comparison import to_json, to_junit, to_markdown, to_text

    comparison = compare(
        args.baseline,
        args.candidate,
        [*args.max_drop, *args.max_increase],
        confidence=args.confidence,
        power=args.power,
        only=args.task,
        allow_different=args.allow_different,
    )
    files = {
        "markdown": lambda: to_markdown(comparison),
        "json": lambda: json.dumps(to_json(comparison), indent=2, ensure_ascii=False) + "\n",
        "junit": lambda: to_junit(comparison),
    }
    write(args, "compare", lambda: to_text(comparison), files)
    return comparison.verdict.value if comparison.verdict else 0
