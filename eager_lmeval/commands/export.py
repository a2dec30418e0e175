"""`eager-lmeval export`: every sequence of runs as a row of a table, for pandas, DuckDB and the like."""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eager_lmeval.commands.arguments import add_runs, path_argument
from eager_lmeval.errors import UsageError

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from eager_lmeval.runs.documents import Document
    from eager_lmeval.runs.run import Run

__all__ = ["COLUMNS", "add_parser", "run"]

COLUMNS: Mapping[str, str] = {
    **{"run": "string", "model": "string", "task": "string", "filter": "string", "doc_id": "int64"},
    **{"strategy": "string", "max_sequences": "int64", "entropy_threshold": "double", "temperature": "double"},
    **{"seed": "int64", "sequence": "int64", "path": "string", "parent": "string", "branch_at": "int64"},
    **{"branch_entropy": "double", "copies": "int64", "weight": "double", "finish": "string", "tokens": "int64"},
    **{"own_tokens": "int64", "mean_entropy": "double", "logprob": "double", "correct": "bool", "answer": "string"},
    **{"answer_class": "int64", "label": "string", "text": "string"},
}
"""The columns and their types, by their names in Arrow; what is not known is null."""
_BATCH = 10_000
"""Rows that are held in memory."""


def add_parser(subparsers: _SubParsersAction[argparse.ArgumentParser]) -> None:
    summary = "write every sequence of runs as a row of a Parquet or CSV file"
    parser = subparsers.add_parser("export", help=summary, description=summary)
    add_runs(parser)
    parser.add_argument(
        "-o", "--output", type=path_argument, required=True, metavar="FILE", help="a name that ends in .parquet or .csv"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Writes the table; UsageError if the runs cannot be read, have no sequences, or the name says no format."""
    from eager_lmeval.commands.writing import print_text
    from eager_lmeval.runs.run import find_runs

    writers = {".parquet": _write_parquet, ".csv": _write_csv}
    write = writers.get(args.output.suffix)
    if write is None:
        raise UsageError(f"{args.output} says no format; give a name that ends in .parquet or .csv")
    found = {one.results_file.resolve(): one for path in args.runs for one in find_runs(path)}
    partial = args.output.with_name(f"{args.output.name}.partial")
    args.output.parent.mkdir(parents=True, exist_ok=True)
    try:
        count = write(partial, _rows(list(found.values())))
        if not count:
            raise UsageError(f"{', '.join(map(str, args.runs))}: the samples hold no trees, so there are no sequences")
        partial.replace(args.output)
    finally:
        partial.unlink(missing_ok=True)
    print_text(f"{args.output}: {count:,} sequences, {len(COLUMNS)} columns\n")
    return 0


def _rows(runs: Sequence[Run]) -> Iterator[dict[str, Any]]:
    from eager_lmeval.runs.documents import documents
    from eager_lmeval.runs.run import RunName

    newest: dict[tuple[Path, str, str], Run] = {}
    for one in runs:  # of one run, what was rescored comes after the original
        name = RunName.read(one.results_file)
        date = name.date if name else one.results_file.name
        newest |= {(one.results_file.resolve().parent, date, task): one for task in one.tasks}
    for (_, _, task), one in newest.items():
        about = {"run": str(one.results_file), "model": one.model, "task": task}
        for document in documents(one, task):
            yield from ({**about, **row} for row in _of_document(document))


def _of_document(document: Document) -> Iterator[dict[str, Any]]:
    from eager_lmeval.algorithm.tree import parent_path

    tree = document.tree
    if tree is None:
        return
    about = {name: tree.get(name) for name in ("strategy", "max_sequences", "entropy_threshold", "temperature", "seed")}
    about |= {"filter": document.filter, "doc_id": document.doc_id, "label": document.label}
    for place, (sequence, grade) in enumerate(zip(tree["sequences"], document.grades, strict=True)):
        path, at, length = tuple(sequence["path"]), sequence.get("branch_at"), sequence.get("num_tokens")
        yield {
            **about,
            **{name: sequence.get(name) for name in ("branch_at", "branch_entropy", "copies", "weight", "finish")},
            **{name: sequence.get(name) for name in ("mean_entropy", "logprob", "text")},
            "sequence": place,
            "path": _path(path),
            "parent": None if at is None else _path(parent_path(path, at)),
            "tokens": length,
            "own_tokens": None if length is None else length - (at or 0),
            **({name: getattr(grade, name) for name in ("correct", "answer", "answer_class")} if grade else {}),
        }


def _path(path: Sequence[int]) -> str:
    return "/".join(map(str, path))


def _write_parquet(path: Path, rows: Iterator[dict[str, Any]]) -> int:
    import itertools

    import pyarrow as pa  # type: ignore[import-untyped]  # it comes without types
    from pyarrow import parquet

    schema = pa.schema([(name, pa.type_for_alias(kind)) for name, kind in COLUMNS.items()])
    count = 0
    with parquet.ParquetWriter(path, schema) as writer:
        while batch := list(itertools.islice(rows, _BATCH)):
            writer.write_table(
                pa.Table.from_pylist([{name: row.get(name) for name in COLUMNS} for row in batch], schema)
            )
            count += len(batch)
    return count


def _write_csv(path: Path, rows: Iterator[dict[str, Any]]) -> int:
    count = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        for row in rows:
            writer.writerow(row)
            count += 1
    return count
