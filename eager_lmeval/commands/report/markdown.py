"""The report for a terminal or a pull request."""

from __future__ import annotations

import math

from eager_lmeval.commands.report.content import Estimate, Scored
from eager_lmeval.commands.tables import Table, markdown_cell, shown_money, shown_sampling
from eager_lmeval.pools.marks import UPPER_BOUND
from eager_lmeval.scores.figures import COSTS, UNSCORED

__all__ = ["ledger_lines", "to_markdown"]


READING = (
    "The range is the 95% interval over documents like these; ± is that of these documents alone, and ≤ only a bound "
    "of it. Without verdict: the score if all answers without one were wrong, and if all were right."
)


def to_markdown(scored: list[Scored], price_per_hour: float | None = None) -> str:
    """A table a task, the ledgers, and which documents to look at."""
    lines = ["# EAGER report", "", READING, ""]
    for task in dict.fromkeys(entry.task for entry in scored):
        entries = [entry for entry in scored if entry.task == task]
        lines += [f"## {markdown_cell(task)}", "", _table(entries, scored, price_per_hour).to_markdown()]
        for entry in entries:
            lines += _details(entry, scored.index(entry) + 1)
    return "\n".join(lines).rstrip() + "\n"


def ledger_lines(entry: Scored) -> list[str]:
    """Where each pool's budget came from and where it went, in sentences."""
    lines = []
    for pool in entry.pools:
        ledger = pool["ledger"]
        if not ledger:
            continue
        budget = ledger["max_sequences"] * ledger["prompts"]
        granted = len(ledger["grants"])
        lines.append(
            f"{ledger['prompts']} prompts of at most {ledger['max_sequences']} sequences, {budget:,} in all: "
            f"{ledger['used']:,} used in stage 1, {ledger['surplus']:,} saved; {ledger['eligible']} prompts eligible, "
            f"{granted} granted {ledger['granted']:,}, {ledger['spent']:,} spent, {ledger['left']:,} left"
        )
    return lines


def estimate(value: Estimate) -> str:
    if math.isnan(value.mean):
        return "undefined"
    if value.defined < 2:
        return f"{value.mean:.3f}"  # one document has no interval
    return f"{value.mean:.3f} [{value.low:.3f}, {value.high:.3f}] {beside(value)}"


def beside(value: Estimate) -> str:
    """What stands beside the interval over documents."""
    sampling = shown_sampling(value.sampling, value.sampling_is_bound, lambda half: f"{half:.3f}")
    bounds = "" if value.bounds is None else f"; without verdict {value.bounds[0]:.3f} to {value.bounds[1]:.3f}"
    return sampling + bounds


def _table(entries: list[Scored], scored: list[Scored], price: float | None) -> Table:
    metrics = list(dict.fromkeys(name for entry in entries for name in entry.metrics))
    made = ["run", "model", "strategy", "M", "θ", "T"]
    counts = [*([UNSCORED] if any(entry.totals.get(UNSCORED) for entry in entries) else []), *COSTS]
    headings = [
        *made,
        *metrics,
        "n",
        *counts,
        "tokens a document",
        "shared",
        "seconds",
        "device-seconds",
        *(["cost"] if price else []),
    ]
    rows = [
        [
            f"#{scored.index(entry) + 1}" + (" (labels)" if entry.labels_used else ""),
            entry.run.model,
            entry.method,
            *(entry.option(name) for name in ("max_sequences", "entropy_threshold", "temperature")),
            *(estimate(entry.metrics[name]) if name in entry.metrics else "–" for name in metrics),
            str(len(entry.documents)),
            *(total(entry, name) for name in counts),
            per_document(entry),
            shared(entry.totals.get("tokens"), entry.tokens_independent),
            "–" if entry.seconds is None else f"{entry.seconds:.1f}",
            "–" if math.isnan(entry.device_seconds) else f"{entry.device_seconds:.1f}",
            *([shown_money(entry.device_seconds, price)] if price else []),
        ]
        for entry in entries
    ]
    return Table(headings, rows, left=["model", "strategy"])


def total(entry: Scored, name: str) -> str:
    value = entry.totals.get(name, math.nan)
    return "–" if math.isnan(value) else f"{value:,.0f}"


def per_document(entry: Scored) -> str:
    """Tokens of a document on average."""
    tokens = entry.totals.get("tokens", math.nan)
    return "–" if math.isnan(tokens) else f"{tokens / len(entry.documents):,.0f}"


def shared(tokens: float | None, independent: int | None) -> str:
    """The part of the tokens that nobody had to decode because sequences share their beginnings."""
    return "–" if not independent or tokens is None else f"{1 - tokens / independent:.0%}"


def _details(entry: Scored, number: int) -> list[str]:
    flags = [listed.flags for listed in entry.documents]
    known = ("failing", "saturated", "truncated") if entry.pools else ("failing",)  # nothing is known of texts alone
    counted = {name: sum(getattr(flag, name) for flag in flags) for name in known}
    lines = [f"- #{number}: {len(flags)} documents, " + ", ".join(f"{n} {name}" for name, n in counted.items())]
    lines += [f"  - {line}" for line in ledger_lines(entry)]
    if entry.labels_used:
        lines.append(f"  - {UPPER_BOUND}")
    return lines
