"""A log of Inspect (`inspect_ai`), which its reader and its viewer open: a document a sample, a sequence an epoch."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eager_lmeval.commands.writing import save_text
from eager_lmeval.errors import UsageError
from eager_lmeval.pools.marks import UPPER_BOUND
from eager_lmeval.runs.documents import documents

if TYPE_CHECKING:
    from eager_lmeval.runs.run import Run

__all__ = ["write_log"]

_SCORER = "eager"
_STOPS = {"stop": "stop", "length": "max_tokens"}


def write_log(runs: Sequence[Run], output: Path) -> str:
    """Writes one run of one task, which is what a log holds; UsageError for more."""
    tasks = [(run, task) for run in runs for task in run.tasks]
    if len(tasks) != 1:
        raise UsageError(
            f"a log of Inspect holds one task of one run, and here are {len(tasks)}; give one results file"
        )
    ((run, task),) = tasks
    when = datetime.fromtimestamp(float(run.results.get("date") or 0), tz=timezone.utc).isoformat(timespec="seconds")
    samples = list(_samples(run, task))
    pools = run.pools(task)
    options: dict[str, Any] = dict(pools[0]["options"]) if pools else {}
    generation = {"temperature": "temperature", "top_p": "top_p", "top_k": "top_k", "max_gen_toks": "max_tokens"}
    identity = hashlib.sha256(run.results_file.name.encode()).hexdigest()[:22]
    metrics = {
        metric if variant == "none" else f"{metric},{variant}": {"name": metric, "value": value}
        for (metric, variant), value in run.values(task).items()
        if not math.isnan(value)
    }
    log = {
        "version": 2,
        "status": "success",
        "eval": {
            "eval_id": identity,
            "run_id": identity,
            "created": when,
            "task": task,
            "task_id": identity,
            "dataset": {
                "name": task,
                "samples": run.documents(task),
                "sample_ids": list(dict.fromkeys(sample["id"] for sample in samples)),
            },
            "model": run.model,
            "model_generate_config": {
                theirs: options[ours] for ours, theirs in generation.items() if options.get(ours) is not None
            },
            "config": {"epochs": max((sample["epoch"] for sample in samples), default=1)},
            "packages": {"lm_eval": str(run.results.get("lm_eval_version") or "unknown")},
            "metadata": {"options": options} | ({"labels": UPPER_BOUND} if run.labels_used else {}),
        },
        "results": {
            "total_samples": len(samples),
            "completed_samples": len(samples),
            "scores": [{"name": _SCORER, "scorer": _SCORER, "metrics": metrics}],
        },
        "stats": {"started_at": when, "completed_at": when},
        "samples": samples,
    }
    save_text(output, json.dumps(log, ensure_ascii=False, allow_nan=False) + "\n")
    return f"{output}: {len(samples):,} samples of {run.documents(task):,} documents"


def _samples(run: Run, task: str) -> Iterator[dict[str, Any]]:
    first = None
    for document in documents(run, task):
        first = first or document.filter
        if document.filter != first:
            continue
        target = document.label if document.label is not None else str(document.sample.logged.get("target") or "")
        values = {name: value for name, value in document.metrics.items() if not math.isnan(value)}
        for epoch, (sequence, grade) in enumerate(zip(document.record["sequences"], document.grades, strict=True), 1):
            text = str(sequence["text"])
            scores = {}
            if grade is not None:
                value = "C" if grade.correct else "I"
                scores = {_SCORER: {"value": value, "answer": grade.answer or "", "explanation": grade.note}}
            message = {"role": "assistant", "content": text, "source": "generate", "model": run.model}
            yield {
                "id": document.doc_id,
                "epoch": epoch,
                "input": document.sample.prompt,
                "target": target,
                "messages": [{"role": "user", "content": document.sample.prompt}, message],
                "output": {
                    "model": run.model,
                    "choices": [
                        {"message": message, "stop_reason": _STOPS.get(str(sequence.get("finish")), "unknown")}
                    ],
                    "completion": text,
                },
                "scores": scores,
                "metadata": {
                    "document": values,
                    **{name: sequence.get(name) for name in ("path", "weight", "copies", "finish", "num_tokens")},
                },
            }
