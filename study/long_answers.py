"""What branching saves where answers have 1,000 to 30,000 tokens, and where only rounds help: a simulation.

    python study/long_answers.py             four CPU minutes
    python study/long_answers.py --quick     half a minute: fewer questions, the same tables
    python study/long_answers.py --json study/results/long_answers.json

No model is run. Where an answer is uncertain comes from an assumed process (`long_process.py`), fitted to published
figures; how its tree grows are the project's rules (`long_trees.py`). Four tables:

1. the grid: median length × θ × M × design;
2. the same at M 32 under other assumptions, one changed at a time;
3. the law behind both: what is saved by the number of tokens at or above θ that an answer has;
4. votes and coverage beside tokens, for questions of several kinds, with rounds.

`saved` is the share of the tokens that M independent answers would cost. Of a tree: `sequences`, their number as a
share of M; `effective`, as how many equal ones their weights count, 1/Σw², as a share of M; `shared`, the share of
their tokens that they have in common with an older one; `full`, the share of trees with M sequences; `last_branch`,
`median_branch`, where in the answer its branches are, as a share of the question's median length, and `late`, the share
of branches in the answer's second half. A figure is a mean over questions, `…_error` its standard error. The last line
of stdout is one JSON document.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from long_process import VERY_UNCERTAIN_NATS, Assumption, Question, questions
from long_trees import FAN_2, FAN_4, SYSTEMATIC, TOP2, Design, Leaf, grow
from long_votes import votes
from numpy.typing import NDArray

LENGTHS = (1_000, 3_000, 10_000, 30_000)
THRESHOLDS = (0.67, 1.0, 1.5, 2.0, 2.5, 3.0)
MOST = (8, 16, 32, 64)
TREES = (TOP2, SYSTEMATIC, FAN_4, FAN_2)
BASE = Assumption()
ASSUMPTIONS = (
    BASE,
    Assumption("bursts", rhythm="bursts"),
    Assumption("two phases", rhythm="two phases"),
    Assumption("questions differ", rhythm="questions differ"),
    Assumption("1% at 2 nats", very_uncertain=0.01),
    Assumption("0.5% at 2 nats", very_uncertain=0.005),
    Assumption("0.05% at 2 nats", very_uncertain=0.0005),
    Assumption("rivals", family="rivals"),
    Assumption("leader", family="leader"),
    Assumption("temperature 0.6", temperature=0.6),
    Assumption("lengths differ", spread=0.35),
)
UNCERTAIN_TOKENS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
"""Tokens at or above θ that an answer has on average, for the law."""


def measured(question: Question, leaves: Sequence[Leaf], most: int) -> tuple[float, ...]:
    """Tokens, tokens of as many independent answers, sequences, as how many equal ones they weigh, tokens if nothing
    were shared, whether it is full, the places of the last and the median branch, and the share of branches in the
    second half (NaN without one)."""
    branches = sorted(leaf.branch_at / question.median for leaf in leaves if leaf.parent is not None)
    return (
        sum(leaf.own_tokens for leaf in leaves),
        most * sum(leaf.weight * leaf.length for leaf in leaves),
        len(leaves),
        1 / sum(leaf.weight**2 for leaf in leaves),
        sum(leaf.length for leaf in leaves),
        len(leaves) == most,
        branches[-1] if branches else math.nan,
        branches[len(branches) // 2] if branches else math.nan,
        sum(at > 0.5 for at in branches) / len(branches) if branches else math.nan,
    )


def costs(rows: NDArray[np.float64], most: int) -> dict[str, float]:
    """Of `measured` trees (trees, 9). Independent answers cost what the weighted lengths of the tree's own sequences
    say, which is right on average; the error is that of a ratio of means."""
    tokens, independent, sequences, effective, unshared, full, last, median, late = rows.T
    spent = float(tokens.sum() / independent.sum())
    error = float(np.std(tokens - spent * independent, ddof=1) / math.sqrt(len(rows)) / independent.mean())
    branched = ~np.isnan(last)
    return {
        "saved": 1 - spent,
        "saved_error": error,
        "sequences": float(sequences.mean() / most),
        "effective": float(effective.mean() / most),
        "shared": 1 - float(tokens.sum() / unshared.sum()),
        "full": float(full.mean()),
    } | {
        name: float(values[branched].mean()) if branched.any() else math.nan
        for name, values in (("last_branch", last), ("median_branch", median), ("late", late))
    }


def table(
    assumption: Assumption, median: int, threshold: float, most: Sequence[int], designs: Sequence[Design], number: int
) -> list[dict[str, Any]]:
    """A row for each M and design, over the same questions."""
    cells: dict[tuple[int, Design], list[tuple[float, ...]]] = {(m, design): [] for m in most for design in designs}
    for question in questions(assumption, median, threshold, number):
        for (m, design), rows in cells.items():
            rows.append(measured(question, grow(question, design, m), m))
    return [
        {
            "assumption": assumption.name,
            "length": median,
            "theta": threshold,
            "max_sequences": m,
            "design": design.name,
            "uncertain_tokens": assumption.share(threshold) * median,
        }
        | costs(np.array(rows, dtype=np.float64), m)
        for (m, design), rows in cells.items()
    ]


def grid(number: int) -> list[dict[str, Any]]:
    return [
        row
        for length in LENGTHS
        for threshold in THRESHOLDS
        for row in table(BASE, length, threshold, MOST, TREES, number)
    ]


def others(number: int) -> list[dict[str, Any]]:
    return [
        row
        for assumption in ASSUMPTIONS
        for length in (3_000, 30_000)
        for threshold in (1.0, 2.0, 2.5)
        for row in table(assumption, length, threshold, (32,), TREES, number)
    ]


def law(number: int) -> list[dict[str, Any]]:
    """Answers of 10,000 tokens with so many at or above 2 nats."""
    median, rows = 10_000, []
    for tokens in UNCERTAIN_TOKENS:
        rare = replace(BASE, name="law", very_uncertain=tokens / median)
        rows += table(rare, median, VERY_UNCERTAIN_NATS, (8, 32), (TOP2, SYSTEMATIC, FAN_2), number)
    return rows


def show(title: str, rows: Sequence[dict[str, Any]]) -> None:
    """All columns of a table but those that are the same in all rows."""
    columns = [name for name in rows[0] if len({str(row[name]) for row in rows}) > 1]
    lines = [columns, *([cell(row[name]) for name in columns] for row in rows)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(columns))]
    print(title)
    for line in lines:
        print("  " + "  ".join(word.rjust(width) for word, width in zip(line, widths, strict=True)))
    print(flush=True)


def cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def rounded(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Floats to four digits; what is not defined as None."""

    def short(value: Any) -> Any:
        return value if not isinstance(value, float) else None if math.isnan(value) else round(value, 4)

    return [{name: short(value) for name, value in row.items()} for row in rows]


def columns(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A table with each name written once."""
    return {"columns": list(rows[0]), "rows": [list(row.values()) for row in rows]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the questions")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the document of the last line there too")
    args = parser.parse_args()
    share = 10 if args.quick else 1
    tables: dict[str, list[dict[str, Any]]] = {}
    for name, title, make, number in (
        ("grid", f"Base case: {describe(BASE)}", grid, 100),
        ("assumptions", "Other assumptions, M 32", others, 100),
        ("law", "Answers of 10,000 tokens, so many of them at or above θ", law, 300),
        ("votes", "Votes and coverage beside tokens, M 32; gains over parallel, paired by question", votes, 1000),
    ):
        tables[name] = rounded(make(number // share))
        show(f"{title}; {number // share} questions", tables[name])
    kept = {name: columns(rows) for name, rows in tables.items()}
    document = json.dumps({"quick": args.quick, **kept}, ensure_ascii=False)
    if args.json:
        args.json.write_text(document + "\n", encoding="utf-8")
    print(document)


def describe(assumption: Assumption) -> str:
    shares = ", ".join(f"{assumption.share(theta):.2%} at {theta:g}" for theta in THRESHOLDS)
    return f"tokens at or above θ: {shares} nats"


if __name__ == "__main__":
    main()
