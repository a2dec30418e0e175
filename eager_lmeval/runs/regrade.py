"""One samples file graded again: its trees and labels in, new samples and aggregates out. Knows no folders of runs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from eager_lmeval.errors import UsageError
from eager_lmeval.pools.response import TREE
from eager_lmeval.runs.samples import DAMAGED, LoggedTree, Sample, as_number, read_samples

__all__ = ["Regraded", "regrade", "same"]


class Regraded(NamedTuple):
    """One task's samples graded again."""

    task: str
    documents: int
    changed: int
    """Documents of which any value differs from the logged one."""
    results: dict[str, Any]
    """What the harness lists of the task."""
    figures: dict[str, Any]
    """All aggregates."""
    before: dict[str, Any]
    """The same from the logged values."""
    higher_is_better: dict[str, bool | None]


def regrade(path: Path, task: str, documents: int | None, out: TextIO, may_run_code: bool) -> Regraded:
    """Grades the samples of a task and writes the new ones to ``out``; UsageError where they cannot be graded.

    ``documents`` is how many the run says it scored, None where that is not known.
    """
    from eager_lmeval.scores.figures import figures, metrics, table_metrics
    from eager_lmeval.scores.rules import Rules
    from eager_lmeval.scores.scoring import graded

    before: list[dict[str, Any]] = []
    after: list[dict[str, Any]] = []
    names = set()
    for sample in read_samples(path, documents):
        tree = _gradable(sample)
        if sample.column["verifier"] == "code" and not may_run_code:
            raise UsageError(
                f"{sample.where}: the answers of task {task!r} are programs, and grading runs them; "
                f"give --confirm_run_unsafe_code if that is what you want"
            )
        values, text = graded(sample.logged["doc"], tree)
        before.append(_logged_values(sample, values))
        after.append(values)
        names.add(sample.logged["filter"])
        ungraded = {name: value for name, value in sample.logged.items() if name not in sample.logged["metrics"]}
        again = {TREE: ungraded.get(TREE, sample.logged["filtered_resps"][0]), "filtered_resps": [text]}
        out.write(json.dumps(ungraded | again | {"metrics": list(values)} | values, ensure_ascii=False) + "\n")
    if len(names) > 1:
        raise UsageError(f"{path} mixes samples of the filters {', '.join(sorted(names))}; rescore them apart")
    (name,) = names
    table = metrics(Rules.read(tree["scoring"]))
    made = figures(after, table, name)
    return Regraded(
        task,
        documents=len(after),
        changed=sum(not same(old, {name: new[name] for name in old}) for old, new in zip(before, after, strict=True)),
        results=_listed(made, table_metrics(after[0]), name),
        figures=made,
        before=figures(before, table, name),
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


def _gradable(sample: Sample) -> LoggedTree:
    """The tree of a sample that can be graded."""
    column = sample.column
    if sample.tree is None or column.get("label") is None or not isinstance(column.get("verifier"), str):
        raise UsageError(
            f"{sample.where}: no sample of a task whose documents carry a label, a verifier and trees; rescore reads "
            f"what --log_samples wrote for the tasks of `eager-lmeval paths tasks`"
        )
    return sample.tree


def _logged_values(sample: Sample, new: Mapping[str, Any]) -> dict[str, Any]:
    """What the sample was graded as, by the metrics that there are now; empty after ``--predict_only``."""
    values: dict[str, Any] = {}
    for name, value in sample.values.items():
        if name not in new:
            continue
        if not _fits(value, new[name]):
            raise UsageError(f"{sample.where}: {name}={value!r} is no value of it; {DAMAGED}")
        values[name] = as_number(value) if isinstance(new[name], int | float) else value
    return values


def _fits(value: Any, new: Any) -> bool:
    """Whether a logged value is of the kind of the new one."""
    if isinstance(new, int | float):
        return as_number(value) is not None
    if isinstance(new, str):
        return isinstance(value, str)
    return value is None or (isinstance(value, list) and all(isinstance(one, str) for one in value))


def _listed(made: Mapping[str, Any], names: Sequence[str], name: str) -> dict[str, Any]:
    """The figures that the harness's table shows, as it writes them."""
    results: dict[str, Any] = {}
    for metric in names:
        results[f"{metric},{name}"] = made[f"{metric},{name}"]
        results[f"{metric}_stderr,{name}"] = "N/A"  # where X_stderr is a metric, it comes next
    return results
