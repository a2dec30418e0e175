"""A run of four documents that shows all that a report can show, with hostile text in every place a model writes to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from run_files import tree_record, write_run

HOSTILE = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>&lt;b&gt; \" ' `${1}` -->"
LEDGER = {
    "max_sequences": 4,
    "prompts": 4,
    "used": 10,
    "surplus": 6,
    "eligible": 2,
    "grants": {"0": 2},
    "granted": 2,
    "spent": 2,
    "left": 4,
    "unbounded": False,
}


def thought(text: str, answer: object) -> str:
    return f"<think>{text}</think>\\boxed{{{answer}}}"


def records() -> list[dict[str, Any]]:
    """Document 0 branches twice, is right and was granted 2; 1 fails; 2 is truncated; 3 is hostile."""
    first = [thought("one step", 1), thought("one leap", 2), thought("one leaf", 1), thought("new", 1), "x", "y"]
    saturated = tree_record(first, {1: (0, 11), 2: (1, 14)}, tokens=100)
    return [
        saturated,
        tree_record([thought("no", 9), thought("never", 9), thought("never", 8)]),
        tree_record([thought("long", 3)], finish="length"),
        tree_record([thought(HOSTILE, HOSTILE)]),
    ]


def write_shown_run(folder: Path) -> Path:
    """Those four as a run's files; returns the folder."""
    return write_run(
        folder,
        {"pass@max": [1.0, 0.0, 1.0, 0.0], "tokens": [60.0, 40.0, 20.0, 90.0], "sequences": [6.0, 3.0, 1.0, 1.0]},
        records=records(),
        questions=["Count to one.", "Count to two.", "Count to three.", HOSTILE],
        ledger=LEDGER,
        model_name=HOSTILE,
    )
