"""What the commands that judge have in common: their options, their files, and a status that a CI job can act on."""

from __future__ import annotations

import argparse
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

from eager_lmeval.commands.arguments import argument, confidence, path_argument
from eager_lmeval.commands.gate.limits import Asked, parse_limit
from eager_lmeval.errors import UsageError

__all__ = ["USAGE", "add_options", "asked", "status_of", "write"]

Found = TypeVar("Found")

USAGE = 2
"""The status of whatever stopped a command before it could judge."""
_STDOUT = Path("-")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Limits, error rates, which tasks and runs are judged, and the files."""
    directions: dict[Literal["drop", "increase"], str] = {"drop": "fall", "increase": "rise"}
    for direction, verb in directions.items():
        parser.add_argument(
            f"--max-{direction}",
            type=argument(partial(parse_limit, direction=direction)),
            action="append",
            default=[],
            metavar="METRIC=AMOUNT",
            help=f"the metric may {verb} by AMOUNT, or by AMOUNT%% of the baseline; may be given several times",
        )
    parser.add_argument("--confidence", type=argument(confidence), default=0.95, help="default 0.95")
    parser.add_argument(
        "--power", type=argument(confidence), default=0.8, help="at which detectable sizes are stated (default 0.8)"
    )
    parser.add_argument("--task", action="append", default=[], help="only this task; may be given several times")
    parser.add_argument(
        "--allow-different",
        action="store_true",
        help="judge runs of different prompts, options, versions, documents or tasks",
    )
    for option, what in (("markdown", "Markdown"), ("json", "JSON"), ("junit", "JUnit XML")):
        parser.add_argument(
            f"--{option}", type=path_argument, metavar="FILE", help=f"write {what}; - prints it instead of a table"
        )


def asked(args: argparse.Namespace) -> Asked:
    """What those options say."""
    limits = [*args.max_drop, *args.max_increase]
    return Asked(limits, args.confidence, args.power, args.task, args.allow_different)


def status_of(judge: Callable[[argparse.Namespace], int], args: argparse.Namespace) -> int:
    """The status that ``judge`` returns; 2 if it could not judge, whatever the reason."""
    try:
        _check_places(args)
        return judge(args)
    except (UsageError, OSError):  # `cli.main` says them in one line, with the same status
        raise
    except Exception:  # a traceback's own status is 1, which a CI job would read as a regression
        traceback.print_exc()
        return USAGE


def write(args: argparse.Namespace, command: str, found: Found, formats: Mapping[str, Callable[[Found], str]]) -> None:
    """Prints what was found as text, or in the format whose option was given ``-``; writes the other files that were
    asked for, and a job's summary page.

    ``formats`` are by their options; ``text``, which has none, and ``markdown`` are among them.
    """
    from eager_lmeval.commands.writing import append_summary, print_text, save_text

    given = {option: path for option in formats if (path := getattr(args, option, None)) is not None}
    print_text(formats[next((option for option, path in given.items() if path == _STDOUT), "text")](found))
    for option, path in given.items():
        if path != _STDOUT:
            save_text(path, formats[option](found))
    append_summary(command, lambda: formats["markdown"](found))


def _check_places(args: argparse.Namespace) -> None:
    """Each file has a place of its own; UsageError before anything is read, since one would replace the other."""
    places: dict[Path, str] = {}
    for option in ("markdown", "json", "junit", "badge"):
        path: Path | None = getattr(args, option, None)
        if path is None:
            continue
        place = path if path == _STDOUT else path.resolve()
        if place in places:
            target = "print" if path == _STDOUT else f"write {path}"
            raise UsageError(f"--{places[place]} and --{option} would both {target}: give one of them another file")
        places[place] = option
