"""The harness's own tasks, unchanged, pointed at a few local problems that have the published datasets' columns."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import lm_eval.tasks
import yaml

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
_TASKS: Mapping[str, tuple[str, list[dict[str, Any]]]] = {
    "gsm8k": ("gsm8k/gsm8k.yaml", _WORD_PROBLEMS),
    "gsm8k_cot_self_consistency": ("gsm8k/gsm8k-cot-self-consistency.yaml", _WORD_PROBLEMS),
    "arc_easy": ("arc/arc_easy.yaml", _CHOICES),
}


def write_tasks(folder: Path, names: Iterable[str] = tuple(_TASKS)) -> Path:
    """Writes a YAML and data for each name; give ``folder`` as the harness's include path. Names get ``local_``."""
    for name in names:
        yaml_path, rows = _TASKS[name]
        data = folder / f"{name}.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        splits = {"train": str(data), "validation": str(data), "test": str(data)}
        task = {
            "include": str(HARNESS_TASKS / yaml_path),
            "task": f"local_{name}",
            "dataset_path": "json",
            "dataset_name": None,
            "dataset_kwargs": {"data_files": splits},
        }
        (folder / f"local_{name}.yaml").write_text(yaml.safe_dump(task), encoding="utf-8")
    return folder
