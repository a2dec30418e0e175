"""A leaderboard as a table for a terminal, Markdown, CSV, LaTeX and HTML."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from eager_lmeval.commands.leaderboard.table import Board, Cell, Row
from eager_lmeval.commands.tables import Table, markdown_cell, money, shown_money, shown_sampling
from eager_lmeval.commands.writing import render
from eager_lmeval.pools.marks import UPPER_BOUND

__all__ = ["FORMATS"]

_TEXTS = ("model", "method")
"""Columns that begin at the left, beside the first one."""


def to_text(board: Board) -> str:
    return "".join(table.to_text() for table in _tables(board)) + "\n".join(_notes(board)) + "\n"


def to_markdown(board: Board) -> str:
    parts = [f"**{table.title}**\n\n{table.to_markdown()}" for table in _tables(board)]
    return "\n".join([*parts, "\n".join(f"- {markdown_cell(line)}" for line in _notes(board))]) + "\n"


def to_csv(board: Board) -> str:
    """A line a row and task, with the figures that the table rounds."""
    score = board.metric.replace("@n", "")
    sampling = ["half_width_sampling", "sampling_is_bound"]
    scores = [
        "task",
        "documents",
        score,
        "half_width",
        *sampling,
        "vote",
        "tokens_per_document",
        "device_seconds_per_document",
    ]
    scores += [*(["cost_per_document"] if board.price_per_hour else []), "remarks"]
    head = ["rank_best", "rank_worst", "ties_with_best", "labels_used", "model", "method", "n", "seeds"]
    lines = []
    for row in _all(board):
        remarks = "; ".join(board.remarks[number - 1] for number in row.marks)
        ranks = [row.best_rank, row.worst_rank, row.ties_with_best if row.best_rank else None, row.labels_used]
        for task, cell in row.cells.items():
            figures: list[object] = [_number(value) for value in (cell.average, cell.half_width, cell.sampling)]
            figures += [cell.sampling_is_bound, _number(cell.vote), _number(cell.tokens), _number(cell.device_seconds)]
            figures += [_number(money(cell.device_seconds, board.price_per_hour))] if board.price_per_hour else []
            made = [row.model, row.method, row.n, row.seeds]
            lines.append([*ranks, *made, task, cell.documents, *figures, remarks])
    return Table([*head, *scores], lines).to_csv()


def to_latex(board: Board) -> str:
    """A tabular a section."""
    comments = [f"% {' '.join(line.split())}" for line in _notes(board)]
    return "\n".join([*(table.to_latex() for table in _tables(board)), *comments]) + "\n"


def to_html(board: Board) -> str:
    """A page of its own, without scripts."""
    return render(
        __package__,
        headings=_headings(board),
        sections=[(title, [(row, _cells(board, row)) for row in rows]) for title, rows in _sections(board)],
        notes=_notes(board),
    )


FORMATS: Mapping[str, Callable[[Board], str]] = {
    "text": to_text,
    "markdown": to_markdown,
    "csv": to_csv,
    "latex": to_latex,
    "html": to_html,
}


def _sections(board: Board) -> list[tuple[str, Sequence[Row]]]:
    found = [
        ("ranked", board.ranked),
        ("not ranked: without all tasks", board.unranked),
        (f"not ranked: {UPPER_BOUND}", board.labelled),
    ]
    return [(title, rows) for title, rows in found if rows]


def _tables(board: Board) -> list[Table]:
    """One a section."""
    return [
        Table(_headings(board), [_cells(board, row) for row in rows], _TEXTS, title) for title, rows in _sections(board)
    ]


def _all(board: Board) -> list[Row]:
    return [*board.ranked, *board.unranked, *board.labelled]


def _headings(board: Board) -> list[str]:
    votes = board.metric == "avg@n"
    tasks = [name for task in board.tasks for name in ([f"{task} {board.metric}", "vote"] if votes else [task])]
    priced = ["cost/doc"] if board.price_per_hour else []
    overall = ["all tasks"] if len(board.tasks) > 1 else []
    return ["rank", "model", "method", "n", "seeds", *tasks, *overall, "tokens/doc", "device-s/doc", *priced]


def _cells(board: Board, row: Row) -> list[str]:
    votes = board.metric == "avg@n"
    tasks = []
    for task in board.tasks:
        cell = row.cells.get(task)
        tasks.append("–" if cell is None else _estimate(cell))
        if votes:
            tasks.append("–" if cell is None or math.isnan(cell.vote) else f"{100 * cell.vote:.1f}")
    overall = [_estimate(row)] if len(board.tasks) > 1 else []
    marks = "".join(f" [{number}]" for number in row.marks)
    tie = " ≈" if row.ties_with_best and row.best_rank is not None else ""
    return [
        row.rank + tie,
        row.model + marks,
        row.method,
        "–" if row.n is None else str(row.n),
        str(row.seeds),
        *tasks,
        *overall,
        "–" if math.isnan(row.tokens) else f"{row.tokens:,.0f}",
        "–" if math.isnan(row.device_seconds) else f"{row.device_seconds:,.3g}",
        *([shown_money(row.device_seconds, board.price_per_hour)] if board.price_per_hour else []),
    ]


def _estimate(of: Cell | Row) -> str:
    if math.isnan(of.average):
        return "–"
    if math.isnan(of.half_width):
        return f"{100 * of.average:.1f}"
    sampling = shown_sampling(of.sampling, of.sampling_is_bound, lambda half: f"{100 * half:.1f}")
    return f"{100 * of.average:.1f} ± {100 * of.half_width:.1f} ({sampling})"


def _notes(board: Board) -> list[str]:
    lines = [
        f"In per cent; ± is the {100 * board.confidence:g}% interval over documents (1.96 standard errors at 95%), "
        "in brackets of these documents alone (≤: only a bound is known). "
        "≈: not told from the highest average. "
        "A rank is a range where the documents cannot tell: paired tests, Holm over all pairs."
    ]
    if board.metric == "avg@n":
        lines.append(
            "avg@n: the mean score of up to n sequences a document, vote: of their majority, both path-weighted."
        )
    return [*lines, *(f"[{number}] {remark}" for number, remark in enumerate(board.remarks, 1))]


def _number(value: float) -> float | None:
    """Six significant digits."""
    if math.isnan(value):
        return None
    rounded = float(f"{value:.6g}")
    return int(rounded) if rounded.is_integer() else rounded
