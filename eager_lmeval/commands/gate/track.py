"""The command line of `track`. Imports what computes only when it runs."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from eager_lmeval.commands.arguments import argument, count, path_argument
from eager_lmeval.commands.gate.options import add_options, asked, status_of, write
from eager_lmeval.errors import UsageError

if TYPE_CHECKING:
    from argparse import _SubParsersAction

__all__ = ["add_parser"]

_EPILOG = """\
exit status of check: 0 pass, 1 regression, 2 wrong usage or runs that should not be compared, 3 inconclusive: too few
documents to say whether a limit holds, 4 improvement: better than chance explains, as by a broken extractor too

  eager-lmeval track add out/candidate --history history.jsonl
  eager-lmeval track bless out/candidate --history history.jsonl
  eager-lmeval track check --history history.jsonl --max-drop pass@max=0.05 --repeat 8
"""


def add_parser(subparsers: _SubParsersAction[argparse.ArgumentParser]) -> None:
    summary = "keep a history of runs, judge the newest against a blessed baseline, and show the trend"
    parser = subparsers.add_parser(
        "track",
        help=summary,
        description=summary,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    run = "an id of the history or its beginning, or the run's folder or results_*.json"
    add = _action(actions, "add", "append a run to the history", _add)
    add.add_argument("run_path", type=path_argument, metavar="RUN", help="--output_path of a run with --log_samples")
    add.add_argument("--commit", help="the commit that was run (default: the one that the harness noted)")
    add.add_argument("--report", metavar="LINK", help="where the run's report is, for the page to link to")
    bless = _action(actions, "bless", "make runs the baseline; of several, their mean", _bless)
    bless.add_argument("runs", nargs="+", metavar="RUN", help=run)
    bless.add_argument("--reason", default="", help="why, for the page")
    quarantine = _action(actions, "quarantine", "let a run count nowhere, with a reason", _quarantine)
    quarantine.add_argument("runs", nargs="+", metavar="RUN", help=run)
    quarantine.add_argument("--reason", required=True, help="why, for the page")
    release = _action(actions, "release", "let a run in quarantine count again", _release)
    release.add_argument("runs", nargs="+", metavar="RUN", help=run)
    release.add_argument("--reason", default="", help="why")
    _add_check(actions, run)
    page = _action(actions, "page", "show the trend of every task and metric as one page", _page)
    page.add_argument("-o", "--output", type=path_argument, default=Path("trend.html"), metavar="FILE")
    page.add_argument("--metric", action="append", default=[], help="only this metric; may be given several times")


def _add_check(actions: _SubParsersAction[argparse.ArgumentParser], run: str) -> None:
    check = _action(actions, "check", "judge the newest run against the baseline", _check)
    check.add_argument("--run", dest="judged", metavar="RUN", help=f"judge another run: {run}")
    add_options(check)
    check.add_argument(
        "--metric",
        action="append",
        default=[],
        help="test this metric for change; may be given several times (default: all with a better side)",
    )
    check.add_argument(
        "--repeat",
        type=argument(count),
        default=0,
        metavar="N",
        help="say which of at most N more runs would settle what is inconclusive, and what they cost",
    )
    check.add_argument(
        "--policy",
        type=path_argument,
        metavar="FILE",
        help="judge a suite: its tasks in tiers with limits and weights, in YAML; instead of --metric and limits",
    )
    check.add_argument("--badge", type=path_argument, metavar="FILE", help="write the verdict as a small SVG")


def _action(
    actions: _SubParsersAction[argparse.ArgumentParser], name: str, what: str, run: Callable[[argparse.Namespace], int]
) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=what, description=what)
    parser.add_argument("--history", type=path_argument, required=True, metavar="FILE", help="the history's file")
    parser.set_defaults(run=run)
    return parser


def _add(args: argparse.Namespace) -> int:
    from eager_lmeval.commands.gate.history import append, read_history, record
    from eager_lmeval.runs.run import find_runs

    known = {entry.run for entry in read_history(args.history).entries} if args.history.exists() else set()
    for run in find_runs(args.run_path):
        entry = record(run, args.history, args.commit, args.report)
        if entry.run in known:
            print(f"{entry.run}: already in {args.history}, {run.results_file}")
            continue
        append(args.history, entry)
        known.add(entry.run)
        print(f"{entry.run}: added to {args.history}, {run.results_file}")
    return 0


def _bless(args: argparse.Namespace) -> int:
    return _mark(args, "bless", "is the baseline now")


def _quarantine(args: argparse.Namespace) -> int:
    if not args.reason.strip():
        raise UsageError("--reason is empty: say why the run should count nowhere")
    return _mark(args, "quarantine", "counts nowhere now")


def _release(args: argparse.Namespace) -> int:
    return _mark(args, "release", "counts again")


def _mark(args: argparse.Namespace, kind: str, said: str) -> int:
    from datetime import datetime, timezone

    from eager_lmeval.commands.gate.history import FORMAT, Mark, append, read_history

    history = read_history(args.history)
    runs = [history.find(name).run for name in args.runs]
    if kind == "bless" and (bad := [run for run in runs if run in history.quarantined]):
        raise UsageError(f"run {bad[0]} is in quarantine: {history.quarantined[bad[0]]}; release it first")
    if kind == "release" and (free := [run for run in runs if run not in history.quarantined]):
        raise UsageError(f"run {free[0]} is not in quarantine")
    date = datetime.now(timezone.utc).isoformat(timespec="microseconds")
    line = {"kind": kind, "format": FORMAT, "runs": runs, "date": date, "reason": args.reason}
    append(args.history, Mark.model_validate(line))
    print(f"{', '.join(runs)} {said}")
    return 0


def _check(args: argparse.Namespace) -> int:
    """Judges, writes, and returns the verdict's exit status; 2 if it could not judge, whatever the reason."""
    return status_of(_judge, args)


def _judge(args: argparse.Namespace) -> int:
    from eager_lmeval.commands.gate.check import judge
    from eager_lmeval.commands.gate.history import read_history
    from eager_lmeval.commands.gate.output import FORMATS
    from eager_lmeval.commands.gate.policy import read_policy

    history = read_history(args.history)
    policy = read_policy(args.policy) if args.policy else None
    if policy and (args.max_drop or args.max_increase or args.metric or args.task):
        raise UsageError("--policy says which tasks, metrics and limits count; leave out the options that do too")
    judgement = judge(history, asked(args), metrics=args.metric, repeat=args.repeat, run=args.judged, policy=policy)
    write(args, "track", judgement, FORMATS)
    return judgement.verdict.value


def _page(args: argparse.Namespace) -> int:
    from eager_lmeval.commands.gate.history import read_history
    from eager_lmeval.commands.gate.page import to_html
    from eager_lmeval.commands.writing import print_text, save_text

    text = to_html(read_history(args.history), args.metric)
    save_text(args.output, text)
    print_text(f"{args.output}: {len(text) / 1e6:.1f} MB\n")
    return 0
