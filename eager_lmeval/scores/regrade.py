"""One samples file graded again: its trees and labels in, new samples and aggregates out. Knows no folders of runs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from eager_lmeval import __version__
from eager_lmeval.algorithm.tree import READABLE_FORMATS
from eager_lmeval.errors import UsageError

__all__ = ["Regraded", "regrade", "same"]


class Regraded(NamedTuple):
    """One task's samples graded again."""

    task: str
    documents: int
    changed: int
    """Documents of which any value differs from the logged one."""
    results: dict[str, Any]
    before: dict[str, Any]
    """The same aggregates from the logged values."""
    higher_is_better: dict[str, bool | None]


def regrade(path: Path, task: str, out: TextIO, may_run_code: bool) -> Regraded:
    """Grades the samples of a task and writes the new ones to ``out``; UsageError where they cannot be graded."""
    from eager_lmeval.scores.scoring import Rules, metrics, score

    before: list[dict[str, Any]] = []
    after: list[dict[str, Any]] = []
    names = set()
    for where, sample in _read(path):
        record = _record(where, sample)
        if sample["doc"]["eager"]["verifier"] == "code" and not may_run_code:
            raise UsageError(
                f"{where}: the answers of task {task!r} are programs, and grading runs them; "
                f"give --confirm_run_unsafe_code if that is what you want"
            )
        values = score(sample["doc"], record)
        before.append({name: sample[name] for name in sample["metrics"]})
        after.append(values)
        names.add(sample["filter"])
        out.write(json.dumps(sample | {"metrics": list(values)} | values, ensure_ascii=False) + "\n")
    if not after:
        raise UsageError(f"{path} holds no samples; run lm_eval with --log_samples again")
    if len(names) > 1:
        raise UsageError(f"{path} mixes samples of the filters {', '.join(sorted(names))}; rescore them apart")
    (name,) = names
    table = metrics(Rules.read(record.get("scoring", {})))
    return Regraded(
        task,
        documents=len(after),
        changed=sum(not same(old, new) for old, new in zip(before, after, strict=True)),
        results=_aggregate(after, name, table),
        before=_aggregate(before, name, table),
        higher_is_better={metric.name: metric.higher_is_better for metric in table.values()},
    )


def same(old: Any, new: Any) -> bool:
    """Equality in which NaN equals NaN."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return old.keys() == new.keys() and all(same(old[key], new[key]) for key in old)
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(map(same, old, new))
    if isinstance(old, float) and isinstance(new, float) and math.isnan(old) and math.isnan(new):
        return True
    return bool(old == new)


def _read(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    with path.open(encoding="utf-8") as file:
        try:
            for number, line in enumerate(file, start=1):
                yield f"{path}:{number}", json.loads(line)
        except json.JSONDecodeError as error:
            raise UsageError(f"{path}:{number} is not JSON ({error}); is the file whole?") from error
        except UnicodeDecodeError as error:
            raise UsageError(f"{path} is no text in UTF-8 ({error}); is it a samples file?") from error


def _record(where: str, sample: Mapping[str, Any]) -> dict[str, Any]:
    """The tree of a logged sample."""
    try:
        labelled = {"label", "verifier"} <= sample["doc"]["eager"].keys()
        record: dict[str, Any] = json.loads(sample["filtered_resps"][0])
        complete = labelled and "sequences" in record and {"filter", *sample["metrics"]} <= sample.keys()
    except (AttributeError, KeyError, IndexError, TypeError, ValueError):
        complete = False
    if not complete:
        raise UsageError(
            f"{where}: no sample of a task whose documents carry a label, a verifier and trees; rescore reads what "
            f"--log_samples wrote for the tasks of `eager-lmeval paths tasks`"
        )
    if record.get("format", READABLE_FORMATS[0]) not in READABLE_FORMATS:
        raise UsageError(
            f"{where}: the tree is of record format {record['format']}, and this eager_lmeval {__version__} reads "
            f"{' and '.join(map(str, READABLE_FORMATS))}; use the release that wrote it"
        )
    return record


def _aggregate(samples: Sequence[Mapping[str, Any]], name: str, table: Mapping[str, Any]) -> dict[str, Any]:
    """The task's result as the harness makes it from the documents' values."""
    results: dict[str, Any] = {}
    for metric in samples[0]:
        if metric in table:
            results[f"{metric},{name}"] = table[metric].aggregate([sample[metric] for sample in samples])
            results[f"{metric}_stderr,{name}"] = "N/A"  # where X_stderr is a metric, it comes next
    return results
