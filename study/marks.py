"""Tables inside a page: between `<!-- NAME -->` and `<!-- end -->` stands what the kept numbers say."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence

NUMBER = re.compile(r"[\d.+−–-]")
"""How the cells of a column of numbers begin."""


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; columns of numbers stand to the right, which the first row decides."""
    body = [list(row) for row in rows]
    rule = ["---:" if NUMBER.match(cell) else "---" for cell in body[0]]
    return "\n".join(f"| {' | '.join(line)} |" for line in ([*head], rule, *body))


def fill(page: str, tables: Mapping[str, Callable[[], str]]) -> str:
    """The page with those tables that it has. One without numbers (KeyError) stays as it is, which is said."""
    for name, make in tables.items():
        if f"<!-- {name} -->" not in page:
            continue
        try:
            made = make()
        except KeyError as missing:
            print(f"table {name!r} is left as it is: there are no numbers of {missing}", file=sys.stderr)
            continue
        marks = re.compile(rf"(<!-- {re.escape(name)} -->\n).*?(<!-- end -->)", re.DOTALL)
        page = marks.sub(lambda found, made=made: f"{found[1]}\n{made}\n\n{found[2]}", page)  # type: ignore[misc]
    return page
