"""The page: figures and plots as HTML, documents as compressed data that `page.js` unpacks when they are looked at."""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from eager_lmeval.commands.report import markdown
from eager_lmeval.commands.report.content import Listed, Scored
from eager_lmeval.commands.report.plots import Point, histogram, scatter
from eager_lmeval.scores.scoring import COSTS, UPPER_BOUND

__all__ = ["to_html"]

_SNIPPET = 160


def to_html(scored: Sequence[Scored]) -> str:
    """The whole page. Its policy lets no script run but ours, by hash, and nothing be fetched."""
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    script = _resource("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    entries = list(scored)
    return environment.from_string(_resource("page.html.jinja")).render(
        script=Markup(script),
        script_digest=Markup(digest),
        style=Markup(_resource("page.css")),
        tasks=[_task(name, entries) for name in dict.fromkeys(entry.task for entry in entries)],
        runs=[_run(number, entry) for number, entry in enumerate(entries, 1)],
        index=Markup(_pack([_index(entry) for entry in entries])),
        documents=[
            (f"{place}-{listed.document.doc_id}", Markup(_pack(_details(listed))))
            for place, entry in enumerate(entries)
            for listed in entry.documents
        ],
        upper_bound=UPPER_BOUND,
    )


def _resource(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")


def _pack(data: object) -> str:
    """zlib and base64: no character of it means anything in HTML."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return base64.b64encode(zlib.compress(text.encode("utf-8", "replace"), 6)).decode()


def _task(name: str, scored: list[Scored]) -> dict[str, Any]:
    from markupsafe import Markup

    entries = [(number, entry) for number, entry in enumerate(scored, 1) if entry.task == name]
    metrics = list(dict.fromkeys(metric for _, entry in entries for metric in entry.metrics))
    metrics.sort(key=lambda metric: metric != entries[0][1].headline)  # the one that the plots show comes first
    return {
        "name": name,
        "metrics": metrics,
        "totals": COSTS,
        "rows": [
            {
                "number": number,
                "model": entry.run.model,
                "options": [
                    entry.option(option)
                    for option in ("strategy", "max_sequences", "entropy_threshold", "temperature", "seed")
                ],
                "metrics": [entry.metrics.get(metric) for metric in metrics],
                "totals": [markdown.total(entry, total) for total in COSTS],
                "seconds": entry.seconds,
                "labels_used": entry.labels_used,
            }
            for number, entry in entries
        ],
        "plots": [Markup(plot) for plot in _trade_offs(entries) if plot],
        "labels_used": any(entry.labels_used for _, entry in entries),
    }


def _trade_offs(entries: list[tuple[int, Scored]]) -> list[str]:
    headline = entries[0][1].headline
    if headline is None:
        return []
    plots = []
    for cost in ("tokens", "sequences"):
        points = [
            Point(
                entry.totals.get(cost, float("nan")),
                *entry.metrics[headline][:3],
                name=f"#{number}",
                strategy=entry.option("strategy"),
                hollow=entry.labels_used,
            )
            for number, entry in entries
            if headline in entry.metrics
        ]
        plots.append(scatter(points, cost, headline))
    return plots


def _run(number: int, entry: Scored) -> dict[str, Any]:
    from markupsafe import Markup

    documents = [listed.document for listed in entry.documents]
    positions = [at for document in documents for at in document.branch_positions]
    return {
        "number": number,
        "task": entry.task,
        "model": entry.run.model,
        "strategy": entry.option("strategy"),
        "file": entry.run.results_file.name,
        "ledgers": [pool["ledger"] for pool in entry.pools if pool["ledger"]],
        "lines": markdown.ledger_lines(entry),
        "labels_used": entry.labels_used,
        "sequences": Markup(
            histogram([document.num_sequences for document in documents], "sequences of a prompt", "prompts")
        ),
        "positions": Markup(histogram(positions, "token at which a sequence branched", "forks")),
    }


def _index(entry: Scored) -> dict[str, Any]:
    return {
        "documents": [
            {
                "id": listed.document.doc_id,
                "snippet": listed.document.question[:_SNIPPET],
                "search": "\n".join(
                    [listed.document.question, listed.document.label or "", *listed.document.answers]
                ).lower(),
                "n": listed.document.num_sequences,
                "c": listed.document.num_correct,
                "tokens": listed.document.tokens,
                "flags": {name: True for name, set_ in listed.flags._asdict().items() if set_},
                "grant": listed.grant,
            }
            for listed in entry.documents
        ]
    }


def _details(listed: Listed) -> dict[str, Any]:
    document = listed.document
    return {"question": document.question, "label": document.label, "sequences": document.sequences}
