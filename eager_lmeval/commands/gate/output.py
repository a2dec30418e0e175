"""What a check found: as text, Markdown, JUnit XML and JSON; and the badge."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path

from eager_lmeval.commands.gate import comparison as compared
from eager_lmeval.commands.gate.check import Flip, Judgement
from eager_lmeval.commands.gate.history import Entry
from eager_lmeval.commands.gate.junit import junit
from eager_lmeval.commands.gate.trend import Trend, name_of
from eager_lmeval.commands.gate.verdict import Finding, Verdict
from eager_lmeval.commands.tables import Table, markdown_cell
from eager_lmeval.errors import UsageError
from eager_lmeval.runs.documents import documents
from eager_lmeval.runs.run import read_run

__all__ = ["FORMATS", "step_line"]

_LISTED = 20
"""Flipped documents of each kind that are shown; the JSON has all."""
_QUESTION = 160
"""Characters of a question that are shown."""
_BADGES = {
    Verdict.PASS: ("pass", "#17703a"),
    Verdict.REGRESSION: ("regression", "#b3261e"),
    Verdict.INCONCLUSIVE: ("inconclusive", "#6b6f76"),
    Verdict.IMPROVEMENT: ("improvement", "#1f5fbf"),
}


def to_text(judgement: Judgement) -> str:
    """For a terminal: `compare`'s tables, then a line a finding."""
    tables = "".join(table.to_text() for table in compared.tables(judgement.comparison))
    lines = [_sides(judgement), ""]
    shown, quiet = _findings(judgement)
    lines += [f"{line.name:<12}  {line.message}" for line in shown]
    lines += (
        [f"PASS          {quiet} other {'metric' if quiet == 1 else 'metrics'}: no change is shown"] if quiet else []
    )
    lines += [f"step: {step_line(trend)}" for trend in judgement.steps]
    lines += [f"repeats: {line}" for line in judgement.repeats]
    for kind, flips in _by_kind(judgement):
        ids = ", ".join(f"{flip.task} {flip.doc_id}" for flip in flips[:_LISTED])
        lines.append(f"{kind}: {len(flips)}" + (f" ({ids}{', …' if len(flips) > _LISTED else ''})" if flips else ""))
    lines += [f"note: {note}" for note in judgement.comparison.notes]
    return tables + "\n".join([*lines, judgement.summary]) + "\n"


def to_markdown(judgement: Judgement) -> str:
    """For a pull request: the verdict first, then what flipped, with the questions where the samples are at hand."""
    lines = ["### eager-lmeval track", "", f"**{judgement.summary}**", "", _sides(judgement), ""]
    shown, quiet = _findings(judgement)
    rows = [[line.name, line.message] for line in shown] + ([["PASS", _quiet(quiet)]] if quiet else [])
    lines += [Table(["verdict", "finding"], rows, left=["finding"]).to_markdown()]
    lines += [*(f"- step: {markdown_cell(step_line(trend))}" for trend in judgement.steps)]
    lines += [f"- repeats: {markdown_cell(line)}" for line in judgement.repeats]
    questions = _questions(judgement)
    for kind, flips in _by_kind(judgement):
        lines += ["", f"<details><summary>{kind}: {len(flips)}</summary>", ""]
        rows = [[flip.task, str(flip.doc_id), _shown(questions, flip)] for flip in flips[:_LISTED]]
        lines += (
            [Table(["task", "document", "question"], rows, left=["question"]).to_markdown().rstrip()] if rows else []
        )
        lines += ["", f"and {len(flips) - _LISTED} more"] if len(flips) > _LISTED else []
        lines += ["", "</details>"]
    lines += ["", *(f"- {markdown_cell(note)}" for note in judgement.comparison.notes)]
    return "\n".join(lines).rstrip() + "\n"


def to_json(judgement: Judgement) -> str:
    """`compare`'s JSON with what a history adds; ``verdict`` and ``exit_status`` are the check's."""
    found = compared.plain(judgement.comparison) | {
        "verdict": judgement.verdict.name.lower(),
        "exit_status": judgement.verdict.value,
        "baseline": {"runs": [entry.run for entry in judgement.baseline], "commit": judgement.baseline[-1].commit},
        "candidate": {"runs": [entry.run for entry in judgement.candidate], "commit": judgement.candidate[-1].commit},
        "findings": [
            {"verdict": line.verdict.name.lower(), "message": line.message, "warns": line.warns}
            for line in judgement.findings
        ],
        "policy": judgement.policy and judgement.policy.model_dump(),
        "missing": judgement.missing,
        "changes": [
            {"task": change.task, "metric": change.metric, "moved": change.moved, "relative": change.relative}
            | {"documents": change.documents, "p_value": change.p_value, "better": change.better}
            for change in judgement.changes
        ],
        "steps": [
            {"task": trend.task, "metric": trend.metric, **trend.step._asdict()}
            | {"first_run": trend.entries[trend.step.at].run, "commit": trend.entries[trend.step.at].commit}
            for trend in judgement.steps
            if trend.step
        ],
        "repeats": judgement.repeats,
        "flips": [flip._asdict() for flip in judgement.flips],
    }
    return json.dumps(found, indent=2, ensure_ascii=False) + "\n"


def to_junit(judgement: Judgement) -> str:
    """A case a finding."""
    return junit("track", [("track", [(line.message.partition(" moved by ")[0], line) for line in judgement.findings])])


def badge(judgement: Judgement) -> str:
    """A small SVG: what was judged, and the verdict."""
    subject = ", ".join(pair.task for pair in judgement.comparison.pairs)
    word, colour = _BADGES[judgement.verdict]
    left, right = 12 + 7 * len(subject), 12 + 7 * len(word)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + right}" height="20" role="img" '
        f'aria-label="{escape(subject)}: {word}"><title>{escape(subject)}: {word}</title>'
        f'<rect width="{left + right}" height="20" rx="3" fill="{colour}"/>'
        f'<path d="M3 0h{left - 3}v20H3a3 3 0 0 1-3-3V3a3 3 0 0 1 3-3z" fill="#444a52"/>'
        '<g fill="#fff" text-anchor="middle" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11">'
        f'<text x="{left / 2:g}" y="14">{escape(subject)}</text>'
        f'<text x="{left + right / 2:g}" y="14">{word}</text></g></svg>\n'
    )


FORMATS: Mapping[str, Callable[[Judgement], str]] = {
    "text": to_text,
    "markdown": to_markdown,
    "json": to_json,
    "junit": to_junit,
    "badge": badge,
}


def step_line(trend: Trend) -> str:
    """Where a trend has its step, in a sentence."""
    found = trend.step
    if found is None:
        raise ValueError(f"{trend.task}: {trend.metric} has no step")
    way = "rose" if found.after > found.before else "fell"
    between = (
        "no other run is likely"
        if found.low == found.high
        else f"likely between {trend.named(found.low)} and {trend.named(found.high)}"
    )
    return (
        f"{trend.task}: {trend.metric} {way} from {found.before:.4g} to {found.after:.4g} with run "
        f"{trend.named(found.at)}; {between} (permutation p = {found.p_value:.2g})"
    )


def _sides(judgement: Judgement) -> str:
    def said(entries: Sequence[Entry]) -> str:
        seeds = ", ".join(str(entry.seed) for entry in entries)
        more = f", the mean of {len(entries)} runs" if len(entries) > 1 else ""
        return f"{name_of(entries[-1])}{more}, seed {seeds}"

    return f"candidate {said(judgement.candidate)} against baseline {said(judgement.baseline)}"


def _findings(judgement: Judgement) -> tuple[list[Finding], int]:
    """What is said of every limit and of every change that is shown, and how many tests showed none."""
    limits = len(judgement.comparison.checks)
    lines = judgement.findings
    shown = lines[:limits] + [line for line in lines[limits:] if line.verdict is not Verdict.PASS]
    return shown, len(lines) - len(shown)


def _quiet(tests: int) -> str:
    return f"{tests} {'test' if tests == 1 else 'tests'} of a metric: no change is shown"


def _by_kind(judgement: Judgement) -> list[tuple[str, list[Flip]]]:
    return [
        ("broken", [flip for flip in judgement.flips if not flip.fixed]),
        ("fixed", [flip for flip in judgement.flips if flip.fixed]),
    ]


def _questions(judgement: Judgement) -> dict[tuple[str, int], str]:
    """The prompts of the candidate's documents; none where its files are not where they were."""
    file = judgement.history.path.parent / Path(judgement.candidate[-1].results_file)
    wanted = {(flip.task, flip.doc_id) for flip in judgement.flips}
    found: dict[tuple[str, int], str] = {}
    try:
        run = read_run(file)
        for task in {task for task, _ in wanted}:
            for document in documents(run, task):
                if (task, document.doc_id) in wanted:
                    found[task, document.doc_id] = document.sample.prompt
    except (UsageError, OSError):
        return {}
    return found


def _shown(questions: dict[tuple[str, int], str], flip: Flip) -> str:
    text = " ".join(questions.get((flip.task, flip.doc_id), "").split())
    if not text:
        return "(the samples are not at hand)"
    return text if len(text) <= _QUESTION else text[: _QUESTION - 1] + "…"
