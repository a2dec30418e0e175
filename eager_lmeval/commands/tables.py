"""One table, four ways to write it: for a terminal, and as Markdown, CSV and LaTeX.

Names of models, tasks and metrics are somebody else's: in each of them they are text,
and no markup, formula or command.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from eager_lmeval.commands.writing import console

__all__ = ["Table", "latex_text", "markdown_cell", "money", "shown_money", "shown_sampling"]

_LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"} | {
    character: f"\\{character}" for character in "&%$#_{}"
}
_LATEX |= {"θ": r"$\theta$", "±": r"$\pm$", "≤": r"$\le$", "–": "--", "≈": r"$\approx$"}
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""Beginnings of a text that a spreadsheet would compute."""


@dataclass(frozen=True)
class Table:
    """Cells are texts; in `to_csv` numbers may stand beside them, and None for what is not known."""

    headings: Sequence[str]
    rows: Sequence[Sequence[object]]
    left: Sequence[str] = ()
    """Headings of the columns that begin at the left; the first one does."""
    title: str = ""

    def to_text(self) -> str:
        """As wide as the terminal, or as a log; in colours only where standard output is a terminal."""
        from rich import box
        from rich.table import Table as RichTable
        from rich.text import Text

        table = RichTable(box=box.SIMPLE, padding=0, collapse_padding=True, title_justify="left", title_style="")
        table.title = Text(self.title) if self.title else None
        for name in self.headings:
            table.add_column(Text(name), justify="left" if self._is_left(name) else "right")
        for row in self.rows:
            table.add_row(*(Text(str(cell)) for cell in row))
        paper = console()
        with paper.capture() as captured:
            paper.print(table)
        return "\n".join(line.rstrip() for line in captured.get().split("\n"))

    def to_markdown(self) -> str:
        """The lines of the table alone; its title is the reader's to set."""
        rule = "".join(" --- |" if self._is_left(name) else " ---: |" for name in self.headings)
        lines = [self.headings, *self.rows]
        head, *body = [f"| {' | '.join(markdown_cell(str(cell)) for cell in line)} |" for line in lines]
        return "\n".join([head, f"|{rule}", *body]) + "\n"

    def to_csv(self) -> str:
        """A text that a spreadsheet would take for a formula gets an apostrophe before it."""
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        for line in (self.headings, *self.rows):
            writer.writerow(
                ["'" + cell if isinstance(cell, str) and cell.startswith(_FORMULA) else cell for cell in line]
            )
        return file.getvalue()

    def to_latex(self) -> str:
        """A tabular with the rules of the package booktabs, its title in a comment."""
        columns = "".join("l" if self._is_left(name) else "r" for name in self.headings)
        head, *body = [
            " & ".join(latex_text(str(cell)) for cell in line) + r" \\" for line in (self.headings, *self.rows)
        ]
        comment = [f"% {' '.join(self.title.split())}"] if self.title else []
        begin, end = rf"\begin{{tabular}}{{{columns}}}", r"\end{tabular}"
        return "\n".join([*comment, begin, r"\toprule", head, r"\midrule", *body, r"\bottomrule", end]) + "\n"

    def _is_left(self, name: str) -> bool:
        return name in self.left or name == self.headings[0]


def shown_sampling(half_width: float, is_bound: bool, number: Callable[[float], str]) -> str:
    """Half of an interval of these documents alone; ``≤`` where only a bound is known."""
    return "–" if math.isnan(half_width) else f"{'≤' if is_bound else '±'} {number(half_width)}"


def money(device_seconds: float, price_per_hour: float) -> float:
    return device_seconds / 3600 * price_per_hour


def shown_money(device_seconds: float, price_per_hour: float) -> str:
    """In the price's own unit."""
    return "–" if math.isnan(device_seconds) else f"{money(device_seconds, price_per_hour):.3g}"


def markdown_cell(text: str) -> str:
    """Text in Markdown: no markup, no entity, no end of a cell, nothing to drive a terminal."""
    plain = "".join(character if character.isprintable() else " " for character in text)
    return re.sub(r"([\\`*_\[\]<>|~$&])", r"\\\1", plain)


def latex_text(text: str) -> str:
    return re.sub("|".join(map(re.escape, _LATEX)), lambda found: _LATEX[found[0]], text.replace("\n", " "))
