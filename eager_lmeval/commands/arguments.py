"""What is typed on a command line: numbers, shares, lists, paths, runs. A converter raises ValueError in words."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

__all__ = [
    "Amount",
    "add_price",
    "add_removed",
    "add_runs",
    "amount",
    "argument",
    "confidence",
    "count",
    "listed",
    "number",
    "path_argument",
    "share",
]

T = TypeVar("T")


class Amount(NamedTuple):
    """A number, or a share of something else."""

    value: float
    """0.1 for ``10%``."""
    percent: bool


def add_price(parser: argparse.ArgumentParser) -> None:
    """An option that turns seconds of devices into money."""
    parser.add_argument(
        "--price-per-hour",
        type=argument(number),
        metavar="PRICE",
        help="of a device (a GPU, or the machine where there is none): what each run cost, in the same unit",
    )


def amount(text: str) -> Amount:
    """``0.02`` or ``10%``: finite and not negative."""
    percent = text.strip().endswith("%")
    value = _float(text.strip().removesuffix("%")) / (100 if percent else 1)
    if not 0 <= value < math.inf:
        raise ValueError(f"{text!r} is no amount: give a number from 0 on, such as 0.02, or a share, such as 10%")
    return Amount(value, percent)


def number(text: str) -> float:
    value = _float(text)
    if not 0 < value < math.inf:
        raise ValueError(f"{text!r} is no number above 0, such as 1.5")
    return value


def count(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise ValueError(f"{text!r} is no whole number from 1 on, such as 8")
    return value


def share(text: str) -> float:
    """``40%`` or ``0.4``: above 0 and below 1."""
    try:
        value = amount(text).value
    except ValueError:
        value = math.nan
    if not 0 < value < 1:
        raise ValueError(f"{text!r} is no share between 0 and 1, such as 40% or 0.4")
    return value


def confidence(text: str) -> float:
    value = _float(text)
    if not 0.5 < value < 1:
        raise ValueError(f"{text!r} is not accepted: give a number between 0.5 and 1, such as 0.95")
    return value


def listed(convert: Callable[[str], T]) -> Callable[[str], list[T]]:
    """A list with commas between its members, each read by ``convert``; members that come twice are taken once."""

    def convert_all(text: str) -> list[T]:
        return list(dict.fromkeys(convert(part) for part in text.split(",")))

    return convert_all


def argument(convert: Callable[[str], T]) -> Callable[[str], T]:
    """``convert`` as the ``type`` of an argparse argument, which shows the converter's own words."""

    def convert_argument(text: str) -> T:
        try:
            return convert(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return convert_argument


def _path(text: str) -> Path:
    """Not the empty text that a shell variable leaves which is not set: it would mean the folder one is in."""
    if not text.strip():
        raise ValueError("an empty text is no path, such as out/run; is a shell variable not set?")
    return Path(text)


path_argument = argument(_path)


def add_removed(parser: argparse.ArgumentParser, option: str, version: str, instead: str) -> None:
    """An option that there was until ``version``: given, it is refused, and ``instead`` says what to do."""

    def refuse(_: str) -> None:
        raise ValueError(f"it was removed in version {version}: {instead}")

    parser.add_argument(option, type=argument(refuse), help=argparse.SUPPRESS)


def add_runs(parser: argparse.ArgumentParser, remark: str = "") -> None:
    parser.add_argument(
        "runs",
        nargs="+",
        type=path_argument,
        metavar="RUN",
        help=f"--output_path of a run with --log_samples, or a results_*.json{remark}",
    )


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
