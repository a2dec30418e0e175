"""How commands hand over what they found: printed, as a file, or on a job's page."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from eager_lmeval.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console
    from tqdm import tqdm

__all__ = ["append_summary", "console", "print_text", "progress", "render", "save_text"]

_LOG_WIDTH = 110
"""Columns of a table where the output is no terminal."""


def console() -> Console:
    """For what rich draws: of the terminal's width, of a fixed one elsewhere."""
    from rich.console import Console

    made = Console()
    if not made.is_terminal:
        made.width = _LOG_WIDTH
    return made


def progress(what: str, total: int | None, unit: str) -> tqdm[None]:
    """A line on standard error for what takes longer than a second; it is gone when that is done."""
    from tqdm import tqdm

    return tqdm(
        total=total, desc=what, unit=unit, delay=1, leave=False, mininterval=0.5 if sys.stderr.isatty() else 30.0
    )


def print_text(text: str) -> None:
    """To standard output as it stands; a reader that has gone, such as `head`, ends nothing but the printing."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # The interpreter flushes once more when it exits, and its status would be 120 if that failed too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def render(package: str, **content: object) -> str:
    """A package's `page.html.jinja`, filled in; with the style of all pages, which lies with the report's."""
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = (files(package) / "page.html.jinja").read_text(encoding="utf-8")
    style = (files("eager_lmeval.commands.report") / "page.css").read_text(encoding="utf-8")
    return environment.from_string(template).render(style=Markup(style), **content)


def save_text(path: Path, text: str) -> None:
    """Writes a file and the folders above it; UsageError where it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error


def append_summary(command: str, markdown: Callable[[], str]) -> None:
    """To the page of a job on GitHub, where there is one; one that cannot be written is said and ends nothing."""
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        try:
            with Path(summary).open("a", encoding="utf-8") as file:
                file.write(markdown())
        except OSError as error:  # the verdict stands without the page
            print(
                f"eager-lmeval {command}: the summary is not in $GITHUB_STEP_SUMMARY, {summary}: {error.strerror}",
                file=sys.stderr,
            )
