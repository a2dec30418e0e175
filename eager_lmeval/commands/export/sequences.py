"""Every sequence of runs as a row of a Parquet or CSV file, for pandas, DuckDB and the like."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eager_lmeval.errors import UsageError

if TYPE_CHECKING:
    from eager_lmeval.runs.documents import Document
    from eager_lmeval.runs.run import Run

__all__ = ["COLUMNS", "write_sequences"]

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


def write_sequences(runs: Sequence[Run], output: Path) -> str:
    """Writes the table, and says what it holds; UsageError where the runs have no sequences."""
    write = _write_parquet if output.suffix == ".parquet" else _write_csv
    partial = output.with_name(f"{output.name}.partial")
    output.parent.mkdir(parents=True, exist_ok=True)
    without: list[str] = []
    try:
        count = write(partial, _rows(runs, without))
        if not count:
            raise UsageError(f"{', '.join(without)}: the samples hold no trees, so there are no sequences")
        partial.replace(output)
    finally:
        partial.unlink(missing_ok=True)
    left_out = f"; left out, without trees: {', '.join(without)}" if without else ""
    return f"{output}: {count:,} sequences, {len(COLUMNS)} columns{left_out}"


def _rows(runs: Sequence[Run], without: list[str]) -> Iterator[dict[str, Any]]:
    """``without`` gets the tasks and files that hold no tree."""
    from eager_lmeval.runs.documents import documents
    from eager_lmeval.runs.run import RunName

    newest: dict[tuple[Path, str, str], Run] = {}
    for one in runs:  # of one run, what was rescored comes after the original
        name = RunName.read(one.results_file)
        date = name.date if name else one.results_file.name
        newest |= {(one.results_file.resolve().parent, date, task): one for task in one.tasks}
    for (_, _, task), one in newest.items():
        about = {"run": str(one.results_file), "model": one.model, "task": task}
        trees = False
        for document in documents(one, task):
            trees = trees or document.tree is not None
            yield from ({**about, **row} for row in _of_document(document))
        if not trees:
            without.append(f"{task} of {one.results_file}")


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
