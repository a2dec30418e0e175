"""The command `eager-lmeval`: what goes with a run; the run itself is `lm_eval --model eager`.

A subcommand is a module with `add_parser(subparsers)` and `run(args) -> int`; the first sets the second as its parser's
default `run`. Such a module imports nothing heavy at its top, so that `--help` stays instant.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from eager_lmeval import __version__, paths
from eager_lmeval.commands import demo, rescore, task
from eager_lmeval.commands.calibrate import command as calibrate
from eager_lmeval.commands.export import command as export
from eager_lmeval.commands.gate import compare, track
from eager_lmeval.commands.leaderboard import command as leaderboard
from eager_lmeval.commands.report import command as report
from eager_lmeval.commands.sweep import command as sweep
from eager_lmeval.errors import UsageError

if TYPE_CHECKING:
    from argparse import _SubParsersAction

__all__ = ["main"]

USAGE, INTERRUPTED = 2, 130
_FOLDERS = {"tasks": paths.tasks_dir, "configs": paths.configs_dir, "demo_model": paths.demo_model_dir}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one subcommand and returns its exit status.

    Wrong usage and files that cannot be read or written are one line on stderr and status 2, for every command; an
    interruption is status 130, as in a shell.
    """
    args = _parser().parse_args(argv)
    try:
        status: int = args.run(args)
    except UsageError as error:
        print(f"eager-lmeval {args.command}: {error}", file=sys.stderr)
        return USAGE
    except OSError as error:
        about = f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error)
        print(f"eager-lmeval {args.command}: {about}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        print(f"eager-lmeval {args.command}: interrupted", file=sys.stderr)
        return INTERRUPTED
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="eager-lmeval", description="Everything around a run of `lm_eval --model eager`."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    demo.add_parser(subparsers)
    for command in (task, report, compare, track, leaderboard, export, rescore, calibrate, sweep):
        command.add_parser(subparsers)
    _add_paths_parser(subparsers)
    return parser


def _add_paths_parser(subparsers: "_SubParsersAction[argparse.ArgumentParser]") -> None:
    summary = "print where the task files, the configurations and the demo model lie"
    parser = subparsers.add_parser("paths", help=summary, description=summary)
    parser.add_argument("folder", nargs="?", choices=_FOLDERS, help="print this path alone, for use in a command")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=_run_paths)


def _run_paths(args: argparse.Namespace) -> int:
    wanted = [args.folder] if args.folder else list(_FOLDERS)
    found: dict[str, Path] = {name: _FOLDERS[name]() for name in wanted}
    if args.json:
        print(json.dumps({name: str(path) for name, path in found.items()}))
    elif args.folder:
        print(found[args.folder])
    else:
        for name, path in found.items():
            print(f"{name:<10}  {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
