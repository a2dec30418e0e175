"""What a comparison found: as a table, Markdown, JUnit XML and JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from eager_lmeval.commands.gate.junit import junit
from eager_lmeval.commands.gate.limits import Asked
from eager_lmeval.commands.gate.pairing import TaskPair
from eager_lmeval.commands.gate.verdict import Check, Verdict, overall
from eager_lmeval.commands.tables import Table, markdown_cell, shown_sampling
from eager_lmeval.pools.marks import UPPER_BOUND
from eager_lmeval.runs.run import Run
from eager_lmeval.scores.paired import Difference, difference

__all__ = ["FORMATS", "Comparison", "Row", "plain", "tables"]

_COLUMNS = ("metric", "baseline", "candidate", "difference", "interval", "these documents", "p", "detectable")


class Row(NamedTuple):
    """One metric of one task."""

    metric: str
    difference: Difference
    undefined: int


@dataclass(frozen=True)
class Comparison:
    """All that was found."""

    baseline: Run
    candidate: Run
    asked: Asked
    pairs: list[TaskPair]
    checks: list[Check]
    remarks: list[str] = field(default_factory=list)

    @cached_property
    def tasks(self) -> list[tuple[TaskPair, list[Row]]]:
        """With every metric of each."""
        _, confidence, power, *_ = self.asked
        return [
            (pair, [Row(one.name, difference(one.pairs, confidence, power), one.undefined) for one in pair.metrics])
            for pair in self.pairs
        ]

    @property
    def verdict(self) -> Verdict | None:
        """None where no limit was asked for."""
        return overall(check.verdict for check in self.checks) if self.checks else None

    @property
    def notes(self) -> list[str]:
        """What a reader has to know beside the figures."""
        notes = list(self.remarks)
        for pair, rows in self.tasks:
            for row in rows:
                if row.undefined:
                    notes.append(f"{pair.task}: {row.metric} is undefined on {row.undefined} shared documents")
            notes += pair.unscored
        for side, run in (("baseline", self.baseline), ("candidate", self.candidate)):
            if run.labels_used:
                notes.append(f"the {side} was {UPPER_BOUND}")
        return notes

    @property
    def summary(self) -> str:
        if self.verdict is None:
            return "No limit was given (--max-drop, --max-increase): nothing is judged."
        return {
            Verdict.PASS: "PASS: every limit was shown to hold",
            Verdict.REGRESSION: "REGRESSION: a limit was shown to be exceeded",
            Verdict.INCONCLUSIVE: "INCONCLUSIVE: the documents cannot say",
        }[self.verdict] + f" (confidence {self.asked.confidence:g})."


def to_text(comparison: Comparison) -> str:
    """The table as it is printed: in colours only where standard output is a terminal."""
    lines = [
        f"{side}  {run.model}  {run.results_file}"
        for side, run in (("baseline ", comparison.baseline), ("candidate", comparison.candidate))
    ]
    after = [f"{check.verdict.name:<12}  {check.message}" for check in comparison.checks]
    after += [f"note: {note}" for note in comparison.notes]
    after += [_detectable(comparison), comparison.summary]
    shown = "".join(table.to_text() for table in tables(comparison))
    return "\n".join(lines) + "\n" + shown + "\n".join(after) + "\n"


def tables(comparison: Comparison) -> list[Table]:
    """One a task."""
    interval = f"{100 * comparison.asked.confidence:g}% interval"
    headings = [interval if name == "interval" else name for name in _COLUMNS]
    return [
        Table(
            headings,
            list(map(_cells, rows)),
            title=f"{pair.task}, {pair.documents} shared documents, means per document",
        )
        for pair, rows in comparison.tasks
    ]


def to_markdown(comparison: Comparison) -> str:
    parts = [
        "### eager-lmeval compare",
        comparison.summary,
        f"- baseline: {_code(comparison.baseline.model)}, {_code(comparison.baseline.results_file.name)}\n"
        f"- candidate: {_code(comparison.candidate.model)}, {_code(comparison.candidate.results_file.name)}",
    ]
    if comparison.checks:
        found = [[check.verdict.name, check.message] for check in comparison.checks]
        parts.append(Table(["verdict", "check"], found, left=["check"]).to_markdown().rstrip())
    for table in tables(comparison):
        parts += [markdown_cell(table.title), table.to_markdown().rstrip()]
    parts.append(_detectable(comparison))
    if comparison.notes:
        parts.append("\n".join(f"- {markdown_cell(note)}" for note in comparison.notes))
    return "\n\n".join(parts) + "\n"


def to_junit(comparison: Comparison) -> str:
    """A suite a task, a case a limit."""
    suites = [
        (task, [(str(check.limit), check.finding) for check in comparison.checks if check.task == task])
        for task in (pair.task for pair in comparison.pairs)
    ]
    return junit("compare", suites)


def to_json(comparison: Comparison) -> str:
    return json.dumps(plain(comparison), indent=2, ensure_ascii=False) + "\n"


FORMATS: Mapping[str, Callable[[Comparison], str]] = {
    "text": to_text,
    "markdown": to_markdown,
    "json": to_json,
    "junit": to_junit,
}


def plain(comparison: Comparison) -> dict[str, Any]:
    """For JSON; what is undefined or infinite is null."""
    return {
        "verdict": comparison.verdict.name.lower() if comparison.verdict else None,
        "exit_status": comparison.verdict.value if comparison.verdict else 0,
        "confidence": comparison.asked.confidence,
        "power": comparison.asked.power,
        "baseline": _run(comparison.baseline),
        "candidate": _run(comparison.candidate),
        "checks": [
            {
                "task": check.task,
                "metric": check.limit.metric,
                "direction": check.limit.direction,
                "limit": check.limit.amount,
                "relative": check.limit.relative,
                "documents": check.documents,
                "worsening": _finite(check.observed),
                "p_beyond_limit": check.p_beyond,
                "p_within_limit": check.p_within,
                "detectable_worsening": _finite(check.detectable),
                "documents_needed": check.documents_needed,
                "verdict": check.verdict.name.lower(),
                "message": check.message,
            }
            for check in comparison.checks
        ],
        "tasks": {
            pair.task: {
                "documents": pair.documents,
                "only_baseline": pair.only_baseline,
                "only_candidate": pair.only_candidate,
                "metrics": {
                    row.metric: {name: _finite(value) for name, value in row.difference._asdict().items()}
                    | {"undefined": row.undefined}
                    for row in rows
                },
            }
            for pair, rows in comparison.tasks
        },
        "notes": comparison.notes,
    }


def _detectable(comparison: Comparison) -> str:
    return (
        f"these documents: how far both runs, made again, may move it (≤: only a bound is known); detectable: the "
        f"smallest true difference found with power {comparison.asked.power:g}"
    )


def _cells(row: Row) -> list[str]:
    found = row.difference
    return [
        row.metric,
        _number(found.baseline),
        _number(found.candidate),
        _number(found.difference, "+"),
        "–" if math.isnan(found.low) else f"{_number(found.low, '+')} to {_number(found.high, '+')}",
        shown_sampling(found.sampling, found.sampling_is_bound, _number),
        "< 0.001" if found.p_value < 0.001 else f"{found.p_value:.3f}",
        _number(found.detectable),
    ]


def _number(value: float, sign: str = "") -> str:
    if math.isnan(value):
        return "–"
    shown = round(value, 3) + 0.0  # + 0.0 turns -0.0, which a tiny difference rounds to, into 0.0
    return f"{shown:{sign}.3f}" if abs(value) < 10 else f"{shown:{sign},.1f}"


def _code(text: str) -> str:
    return "`" + text.replace("`", "'").replace("\n", " ") + "`"


def _run(run: Run) -> dict[str, Any]:
    return {"model": run.model, "results_file": str(run.results_file), "labels_used": run.labels_used}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
