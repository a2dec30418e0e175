"""Files as a run of the harness leaves them, made without a run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

TASK = "toy_task"
OPTIONS: Mapping[str, Any] = {
    "strategy": "init",
    "max_sequences": 4,
    "entropy_threshold": 0.5,
    "temperature": 0.8,
    "seed": 1,
    "max_rows": 64,
}
NOTHING_GRANTED: Mapping[str, Any] = {
    "max_sequences": 4,
    "surplus": 0,
    "eligible": 0,
    "grants": {},
    "granted": 0,
    "spent": 0,
    "left": 0,
}
_HIGHER_IS_BETTER = {"tokens": False, "tie_rate": False, "unscored": False, "sequences": None, "branches": None}


def write_run(
    folder: Path,
    metrics: Mapping[str, Sequence[float]],
    *,
    task: str = TASK,
    first_document: int = 0,
    records: Sequence[Mapping[str, Any]] | None = None,
    questions: Sequence[str] | None = None,
    options: Mapping[str, Any] = OPTIONS,
    ledger: Mapping[str, Any] | None = None,
    version: float = 1.0,
    model: str = "toy",
    model_name: str | None = None,
    labels_used: bool = False,
    eager: bool = True,
    stamp: str = "2026-01-02T03-04-05.000001",
) -> Path:
    """Writes a results file and its samples; returns the folder. ``metrics`` hold one value a document."""
    count = len(next(iter(metrics.values())))
    target = folder / model
    target.mkdir(parents=True, exist_ok=True)
    pool = {
        "task": task,
        "options": dict(options),
        "labels_used": labels_used,
        "ledger": {**NOTHING_GRANTED, "prompts": count, "used": count, **(ledger or {})},
        "sequences": count,
        "branches": 0,
        "tokens": 10 * count,
        "tokens_independent": 10 * count,
        "prefill_tokens": count,
        "seconds": 1.0,
        "tokens_per_second": 10.0 * count,
        "engine": {"max_rows": 64, "steps": 10},
    }
    results = {
        "results": {task: {f"{name},none": sum(values) / count for name, values in metrics.items()}},
        "configs": {task: {"task": task}},
        "versions": {task: version},
        "n-shot": {task: 0},
        "n-samples": {task: {"original": count, "effective": count}},
        "higher_is_better": {task: {name: _HIGHER_IS_BETTER.get(name, True) for name in metrics}},
        "config": {"model": "eager" if eager else "hf", "model_args": {}}
        | ({"eager": {"version": "0.1.0", "pools": [pool]}} if eager else {}),
        "model_name": model_name or model,
        "date": 1.0,
    }
    (target / f"results_{stamp}.json").write_text(json.dumps(results), encoding="utf-8")
    lines = []
    for place in range(count):
        number = first_document + place
        question = questions[place] if questions else f"What is {number} plus 1?"
        sample = {
            "doc_id": number,
            "doc": {"question": question, "eager": {"label": str(number + 1), "verifier": "math"}},
            "target": str(number + 1),
            "arguments": {"gen_args_0": {"arg_0": question, "arg_1": {}}},
            "filtered_resps": [json.dumps(records[place]) if records else "text"],
            "filter": "none",
            "metrics": list(metrics),
            "doc_hash": hashlib.sha256(str(number).encode()).hexdigest(),
            "prompt_hash": hashlib.sha256(question.encode()).hexdigest(),
        }
        lines.append(json.dumps(sample | {name: float(values[place]) for name, values in metrics.items()}) + "\n")
    (target / f"samples_{task}_{stamp}.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder


def tree_record(
    texts: Sequence[str], forks: Mapping[int, tuple[int, int]] | None = None, finish: str = "stop", **extra: Any
) -> dict[str, Any]:
    """A tree of one-character tokens: sequence s of ``forks`` left ``forks[s][0]`` at token ``forks[s][1]``."""
    forks = forks or {}
    paths: list[list[int]] = []
    nats: list[list[float]] = []
    roots = [place for place in range(len(texts)) if place not in forks]
    of_root: list[int] = []
    sequences = []
    for place, text in enumerate(texts):
        parent, at = forks.get(place, (None, None))
        paths.append([roots.index(place)] if parent is None else [*paths[parent], at])
        of_root.append(paths[-1][0])
        end = text.rfind("</think>")
        own = text[at or 0 :]
        entropies = [(7 * index) % 11 / 5 for index in range(len(own) - (at is not None))]
        for fork_of, fork_at in forks.values():
            if fork_of == place:
                entropies[fork_at - (0 if at is None else at + 1)] = 1.5
        nats.append(entropies if parent is None else [*nats[parent][: at + 1], *entropies])
        first = 0 if at is None else at + 1
        likeliest = [[first + index, 0.5, 0.25] for index, entropy in enumerate(entropies) if entropy]
        sequences.append(
            {
                "path": paths[-1],
                "text": text,
                "answer_at": end + len("</think>") if end >= 0 else 0,
                "finish": finish,
                "num_tokens": len(text),
                "branch_at": at,
                "branch_entropy": None if at is None else nats[-1][at],
                "branch_logprob": None if at is None else -1.0,
                "mean_entropy": sum(nats[-1]) / len(nats[-1]),
                "logprob": -1.0,
                "token_ids": [ord(character) for character in own],
                "token_chars": [1] * len(own),
                "entropies": entropies,
                "likeliest": likeliest,
            }
        )
    for sequence, root in zip(sequences, of_root, strict=True):
        sequence["weight"] = 1 / len(roots) / of_root.count(root)
    return {
        "format": 1,
        "num_sequences": len(texts),
        "num_branches": len(forks),
        "num_roots": len(texts) - len(forks),
        "tokens": sum(len(sequence["token_ids"]) for sequence in sequences),
        "sequences": sequences,
        "labels_used": False,
        "scoring": {"ks": [], "tie": "mean", "truncated_votes": False},
        **OPTIONS,
        **extra,
    }


def samples_file(folder: Path) -> Path:
    (found,) = folder.glob("*/samples_*.jsonl")
    return found


def results_file(folder: Path) -> Path:
    (found,) = folder.glob("*/results_*.json")
    return found
