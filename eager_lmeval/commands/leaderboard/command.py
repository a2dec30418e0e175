"""The command line of `leaderboard`. Imports what computes only when it runs."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from eager_lmeval.commands.arguments import add_price, add_runs, argument, confidence, path_argument

if TYPE_CHECKING:
    from argparse import _SubParsersAction

__all__ = ["add_parser", "run"]


def add_parser(subparsers: _SubParsersAction[argparse.ArgumentParser]) -> None:
    summary = "rank models over tasks, and show who cannot be told apart"
    parser = subparsers.add_parser("leaderboard", help=summary, description=summary)
    add_runs(parser, remark="; seeds of one model are averaged")
    parser.add_argument(
        "--metric", help="rank by this metric instead of avg@n (for models without trees, such as exact_match)"
    )
    parser.add_argument("--confidence", type=argument(confidence), default=0.95, help="default 0.95")
    parser.add_argument(
        "--allow-different",
        action="store_true",
        help="rank runs of different prompts, task versions, documents or sampling, and say so in the table",
    )
    add_price(parser)
    parser.add_argument("--format", choices=("text", "markdown", "csv", "latex", "html"), default="text")
    parser.add_argument("-o", "--output", type=path_argument, metavar="FILE", help="write there instead of printing")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints or writes the table; UsageError if the runs cannot be read or should not be ranked."""
    from eager_lmeval.commands.leaderboard.output import FORMATS
    from eager_lmeval.commands.leaderboard.table import make_board
    from eager_lmeval.commands.writing import print_text, save_text

    text = FORMATS[args.format](
        make_board(args.runs, args.metric, args.confidence, args.allow_different, args.price_per_hour)
    )
    if args.output is None:
        print_text(text)
    else:
        save_text(args.output, text)
        print_text(f"{args.output}: {len(text.encode()):,} bytes\n")
    return 0
