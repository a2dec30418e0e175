"""Results for the page of a model on the Hugging Face Hub: `.eval_results/*.yaml`, by the Hub's own library."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from eager_lmeval.commands.writing import save_text
from eager_lmeval.errors import UsageError

if TYPE_CHECKING:
    from eager_lmeval.runs.run import Run

__all__ = ["write_results"]


def write_results(runs: Sequence[Run], output: Path, metric: str, dataset: str | None) -> str:
    """One entry a run and task, with the options in its notes. UsageError for runs that were made with labels."""
    import yaml  # type: ignore[import-untyped]  # PyYAML ships no types
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    entries = []
    for run in runs:
        if run.labels_used:
            raise UsageError(
                f"{run.results_file} was made with labels, an upper bound and no result for a model's page; "
                f"export a run of another strategy"
            )
        when = datetime.fromtimestamp(float(run.results.get("date") or 0), tz=timezone.utc)
        for task in run.tasks:
            value = run.value(task, metric)
            if math.isnan(value):
                known = ", ".join(dict.fromkeys(name for name, _ in run.values(task)))
                raise UsageError(f"{run.results_file}: task {task} has no {metric}; give --metric: it has {known}")
            entries.append(
                EvalResultEntry(
                    dataset_id=dataset or _dataset(run, task),
                    task_id=task,
                    value=value,
                    date=when.isoformat(timespec="seconds"),
                    notes=_notes(run, task, metric),
                )
            )
    text = yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False, allow_unicode=True)
    save_text(output, text)
    return f"{output}: {len(entries)} results; put it into the model's folder .eval_results"


def _dataset(run: Run, task: str) -> str:
    """The task's dataset, where it is one of the Hub's."""
    name = str(((run.results.get("configs") or {}).get(task) or {}).get("dataset_path") or "")
    if name.count("/") != 1 or name.startswith(("/", ".")):
        raise UsageError(f"task {task} has no dataset of the Hub ({name or 'none'}); give --dataset ORGANISATION/NAME")
    return name


def _notes(run: Run, task: str, metric: str) -> str:
    pools = run.pools(task)
    options = pools[0]["options"] if pools else {}
    named = {"strategy": "strategy", "max_sequences": "k", "temperature": "temperature", "top_p": "top_p"}
    said = [f"{short}={options[name]}" for name, short in named.items() if options.get(name) is not None]
    return ", ".join([f"{metric} by eager_lmeval" if pools else metric, *said])
