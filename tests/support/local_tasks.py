"""The harness's own tasks, unchanged, pointed at a few local problems that have the published datasets' columns."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import lm_eval.tasks
import yaml

from eager_lmeval import paths

HARNESS_TASKS = Path(lm_eval.tasks.__file__).parent

_SUMS = [(2, 3), (10, 4), (7, 8), (21, 5), (6, 6), (40, 2), (9, 1)]
_WORD_PROBLEMS = [
    {
        "question": f"Ann has {a} pears and buys {b} more. How many has she?",
        "answer": f"She has {a}+{b}={a + b}.\n#### {a + b}",
    }
    for a, b in _SUMS
]
_CHOICES = [
    {
        "id": f"q{a}",
        "question": f"Which number is {a} plus {b}?",
        "choices": {"text": [str(a + b), str(a), str(b + 1), "none"], "label": ["A", "B", "C", "D"]},
        "answerKey": "A",
    }
    for a, b in _SUMS
]
_DEMO_PROBLEMS = [
    json.loads(line)
    for line in (paths.tasks_dir() / "eager_demo" / "problems.jsonl").read_text(encoding="utf-8").splitlines()[:24]
]
_FOR_THE_DEMO_MODEL: Mapping[str, Any] = {
    "num_fewshot": 0,
    "generation_kwargs": {"do_sample": True, "temperature": 0.8, "max_gen_toks": 120, "until": []},
}


def _asked(column: str) -> dict[str, Any]:
    return {"doc_to_text": f"<|user|>{{{{{column}}}}}<|assistant|>", **_FOR_THE_DEMO_MODEL}


_TASKS: Mapping[str, tuple[str, list[dict[str, Any]], Mapping[str, Any]]] = {
    "gsm8k": ("gsm8k/gsm8k.yaml", _WORD_PROBLEMS, {}),
    "gsm8k_cot_self_consistency": ("gsm8k/gsm8k-cot-self-consistency.yaml", _WORD_PROBLEMS, {}),
    "arc_easy": ("arc/arc_easy.yaml", _CHOICES, {}),
    "gsm8k_demo": (
        "gsm8k/gsm8k.yaml",
        [{"question": doc["question"], "answer": f"So it is.\n#### {doc['answer']}"} for doc in _DEMO_PROBLEMS],
        _asked("question"),
    ),
    "math500_demo": (
        "hendrycks_math/hendrycks_math500.yaml",
        [{"problem": doc["question"], "solution": f"$\\boxed{{{doc['answer']}}}$"} for doc in _DEMO_PROBLEMS],
        _asked("problem"),
    ),
}
"""The harness's file, the data, and what is overridden: `…_demo` ask the demo model what it was trained on."""


def write_tasks(folder: Path, names: Iterable[str] = tuple(_TASKS)) -> Path:
    """Writes a YAML and data for each name; give ``folder`` as the harness's include path. Names get ``local_``."""
    for name in names:
        yaml_path, rows, overrides = _TASKS[name]
        data = folder / f"{name}.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        splits = {"train": str(data), "validation": str(data), "test": str(data)}
        task = {
            "include": str(HARNESS_TASKS / yaml_path),
            "task": f"local_{name}",
            "dataset_path": "json",
            "dataset_name": None,
            "dataset_kwargs": {"data_files": splits},
            **overrides,
        }
        (folder / f"local_{name}.yaml").write_text(yaml.safe_dump(task), encoding="utf-8")
    return folder
