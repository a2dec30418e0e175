"""The command line of `report`. Imports what computes only when it runs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from eager_lmeval.commands.arguments import add_price, add_runs, path_argument

if TYPE_CHECKING:
    from argparse import _SubParsersAction

__all__ = ["add_parser", "run"]


def add_parser(subparsers: _SubParsersAction[argparse.ArgumentParser]) -> None:
    summary = "show runs as one page: scores, costs, budget, and every document's tree"
    parser = subparsers.add_parser("report", help=summary, description=summary)
    add_runs(parser)
    parser.add_argument(
        "-o", "--output", type=path_argument, metavar="FILE", help="default report.html; Markdown is printed"
    )
    add_price(parser)
    parser.add_argument("--format", choices=("html", "markdown"), default="html")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Writes the page or the Markdown; UsageError if the runs cannot be read or the file cannot be written."""
    from eager_lmeval.commands.report.content import read_runs
    from eager_lmeval.commands.writing import print_text, save_text

    if args.format == "markdown":
        from eager_lmeval.commands.report.markdown import to_markdown

        scored = read_runs(args.runs)
        text, output, remark = to_markdown(scored, args.price_per_hour), args.output, ""
    else:
        from eager_lmeval.commands.report.packing import MOST_BYTES, Packer
        from eager_lmeval.commands.report.page import to_html

        packer = Packer()
        scored = read_runs(args.runs, packer)
        text, output = to_html(scored, args.price_per_hour), args.output or Path("report.html")
        remark = (
            f"; {packer.shortened} documents have only the ends of their texts, for those before them take "
            f"{MOST_BYTES >> 20} MB: give fewer runs, or run with --limit"
            if packer.shortened
            else ""
        )
    if output is None:
        print_text(text)
        return 0
    save_text(output, text)
    print_text(f"{output}: {len(scored)} scored task{'s' * (len(scored) != 1)}, {len(text) / 1e6:.1f} MB{remark}\n")
    return 0
