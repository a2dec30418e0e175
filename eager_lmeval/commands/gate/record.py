"""From a run's files to its line in a history."""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, cast

from eager_lmeval.commands.gate.history import FORMAT, Entry, Recorded
from eager_lmeval.commands.gate.pairing import prompts_digest, read_documents
from eager_lmeval.runs.results import Results
from eager_lmeval.runs.run import Run

__all__ = ["record", "run_id"]

_HASH = 12
"""Characters of a hash that are kept: two documents of a million are alike once in 500 times."""
_CONFIG = ("model", "model_args", "gen_kwargs", "model_dtype", "model_sha", "device", "limit", "torch_seed")
_KEPT = ("model_name", "chat_template_sha", "system_instruction_sha")
_OF_TASKS = ("versions", "n-shot", "n-samples")


def record(run: Run, history: Path, commit: str | None, report: str | None) -> Entry:
    """The line of a run; ``commit`` is the harness's own where it is None. UsageError for what cannot be read."""
    tasks = {task: _task(run, task) for task in run.tasks}
    stamp = datetime.fromtimestamp(float(run.results.get("date") or 0), tz=timezone.utc)
    return Entry(
        kind="run",
        format=FORMAT,
        run=run_id(run),
        date=stamp.isoformat(timespec="seconds"),
        commit=commit or run.results.get("git_hash") or None,
        environment=_environment(run),
        results_file=os.path.relpath(run.results_file, history.parent),
        report=report,
        results=cast(Results, _results(run, tasks)),  # Entry checks it
        tasks=tasks,
    )


def run_id(run: Run) -> str:
    """The beginning of the SHA-256 of the results file, which holds the run's date and scores."""
    return hashlib.sha256(run.results_file.read_bytes()).hexdigest()[:_HASH]


def _task(run: Run, task: str) -> Recorded:
    found = read_documents(run, task)
    texts = [key.doc_hash[:_HASH] + (f"+{key.copy}" if key.copy else "") for key in found.ids]
    return Recorded(
        documents=texts,
        ids=list(found.ids.values()),
        prompts=prompts_digest(run, task),
        values={
            name: [_short(values.get(key, math.nan)) for key in found.ids] for name, values in found.values.items()
        },
    )


def _short(value: float) -> float | None:
    """Six significant digits."""
    return None if math.isnan(value) else float(f"{value:.6g}")


def _environment(run: Run) -> dict[str, str | None]:
    results, info = run.results, str(run.results.get("pretty_env_info") or "")
    torch = re.search(r"PyTorch version: (\S+)", info)
    gpu = re.search(r"GPU 0: (.+)", info)
    eager = run.config.get("eager") or {}
    return {
        "device": gpu[1].strip() if gpu else "cpu",
        "dtype": _text(run.config.get("model_dtype")),
        "torch": torch[1] if torch else None,
        "transformers": _text(results.get("transformers_version")),
        "lm_eval": _text(results.get("lm_eval_version")),
        "eager_lmeval": _text(eager.get("version")),
    }


def _results(run: Run, tasks: Mapping[str, Recorded]) -> dict[str, Any]:
    """What `compare` reads of a results file beside the samples."""
    results = run.results
    kept: dict[str, Any] = {name: results.get(name) for name in _KEPT}
    kept |= {name: {task: (results.get(name) or {}).get(task) for task in tasks} for name in _OF_TASKS}
    better = results.get("higher_is_better") or {}
    kept["higher_is_better"] = {
        task: {name: (better.get(task) or {}).get(name.partition(",")[0]) for name in recorded.values}
        for task, recorded in tasks.items()
    }
    configs = results.get("configs") or {}
    kept["configs"] = {task: {"generation_kwargs": configs[task].get("generation_kwargs")} for task in tasks}
    config = {name: run.config.get(name) for name in _CONFIG}
    if run.all_pools:
        pools = [{**pool, "ledger": {**pool["ledger"], "grants": {}}} for pool in run.all_pools]
        for pool in pools:
            pool.pop("engine", None)
        config["eager"] = {"pools": pools}
    return kept | {"results": {}, "config": config}


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
