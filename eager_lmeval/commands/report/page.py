"""The page: figures and plots as HTML, documents as compressed data that `page.js` unpacks when they are looked at."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from eager_lmeval.commands.plots import Point, histogram, scatter
from eager_lmeval.commands.report import markdown
from eager_lmeval.commands.report.content import Listed, Scored, estimated, on_shared_documents
from eager_lmeval.commands.report.packing import pack
from eager_lmeval.commands.tables import shown_money
from eager_lmeval.commands.writing import render
from eager_lmeval.pools.marks import UPPER_BOUND
from eager_lmeval.scores.figures import COSTS, UNSCORED
from eager_lmeval.scores.stats import mean

__all__ = ["to_html"]

_SCRIPTS = ("elements.js", "picture.js", "texts.js", "document.js", "page.js")
"""One script of several files: what each defines, the later ones use."""
_FIRST = ("pass@max", "cons_w@max", "pass_rate_w")
"""Metrics whose columns stand at the left, as far as there are any."""


def to_html(scored: Sequence[Scored], price_per_hour: float | None = None) -> str:
    """The whole page. Its policy lets no script run but ours, by hash, and nothing be fetched."""
    from markupsafe import Markup

    parts = [(files(__package__) / name).read_text(encoding="utf-8") for name in _SCRIPTS]
    script = "".join(['"use strict";\n(() => {\n', *parts, "})();\n"])
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    entries = list(scored)
    return render(
        __package__,
        script=Markup(script),
        script_digest=Markup(digest),
        tasks=[_task(name, entries, price_per_hour) for name in dict.fromkeys(entry.task for entry in entries)],
        runs=[_run(number, entry) for number, entry in enumerate(entries, 1)],
        index=Markup(pack([_index(number, entry) for number, entry in enumerate(entries, 1)])),
        documents=[
            (f"{place}-{listed.document.doc_id}", Markup(listed.document.packed or ""))
            for place, entry in enumerate(entries)
            for listed in entry.documents
        ],
        upper_bound=UPPER_BOUND,
        reading=markdown.READING,
        beside=markdown.beside,
    )


def _task(name: str, scored: list[Scored], price: float | None) -> dict[str, Any]:
    from markupsafe import Markup

    entries = [(number, entry) for number, entry in enumerate(scored, 1) if entry.task == name]
    metrics = list(dict.fromkeys(metric for _, entry in entries for metric in entry.metrics))
    first = [metric for metric in _FIRST if metric in metrics] or metrics[:1]
    return {
        "name": name,
        "first": first,
        "others": [metric for metric in metrics if metric not in first],
        "rows": [_row(number, entry, price) for number, entry in entries],
        "plots": [{"svg": Markup(svg), "note": note} for svg, note in _trade_offs(entries) if svg],
        "labels_used": any(entry.labels_used for _, entry in entries),
        "top2": any("top2" in entry.branchings for _, entry in entries),
    }


def _row(number: int, entry: Scored, price: float | None) -> dict[str, Any]:
    tokens, independent = entry.totals.get("tokens"), entry.tokens_independent
    return {
        "number": number,
        "model": entry.run.model,
        "strategy": entry.option("strategy"),
        "branching": ", ".join(entry.branchings),
        "options": [entry.option(option) for option in ("max_sequences", "entropy_threshold", "temperature", "seed")],
        "metrics": entry.metrics,
        "documents": len(entry.documents),
        "unscored": int(entry.totals.get(UNSCORED, 0)),
        "totals": [markdown.total(entry, total) for total in COSTS],
        "tokens_each": markdown.per_document(entry),
        "shared": markdown.shared(tokens, independent),
        "independent": independent,
        "seconds": entry.seconds,
        "device_seconds": entry.device_seconds,
        "cost": shown_money(entry.device_seconds, price) if price else "",
        "labels_used": entry.labels_used,
    }


def _trade_offs(entries: list[tuple[int, Scored]]) -> list[tuple[str, str]]:
    """The plots, each with what has to be said of it where the runs are not of the same documents."""
    headline = entries[0][1].headline
    entries = [(number, entry) for number, entry in entries if headline is not None and headline in entry.metrics]
    if not entries:
        return []
    kept, unequal = on_shared_documents([entry for _, entry in entries])
    note = ""
    if unequal and len({listed.key for documents in kept for listed in documents}) == len(kept[0]):
        note = (
            f"The runs are of different documents. Shown is each on the {len(kept[0])} documents that all of them have."
        )
    elif unequal:
        counts = ", ".join(f"#{number}: {len(documents)}" for (number, _), documents in zip(entries, kept, strict=True))
        note = f"No document is in all runs, so the points cannot be compared: each is on its own documents ({counts})."
    plots = []
    for cost in ("tokens", "sequences"):
        points = []
        for (number, entry), documents in zip(entries, kept, strict=True):
            costs = [getattr(one.document, "tokens" if cost == "tokens" else "num_sequences") for one in documents]
            found = estimated([listed.value for listed in documents])
            points.append(
                Point(
                    math.nan if None in costs else mean(costs),
                    *found[:3],
                    name=f"#{number}",
                    strategy=entry.option("strategy"),
                    hollow=entry.labels_used,
                )
            )
        plots.append((scatter(points, f"{cost} a document", headline or ""), note))
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
        "branching": ", ".join(entry.branchings),
        "file": entry.run.results_file.name,
        "ledgers": [pool["ledger"] for pool in entry.pools if pool["ledger"]],
        "lines": markdown.ledger_lines(entry),
        "labels_used": entry.labels_used,
        "sequences": Markup(
            histogram([document.num_sequences for document in documents], "sequences of a prompt", "prompts")
        ),
        "positions": Markup(histogram(positions, "token at which a sequence branched", "forks")),
    }


def _index(number: int, entry: Scored) -> dict[str, Any]:
    return {
        "number": number,
        "name": f"#{number} {entry.method}",
        "task": entry.task,
        "metric": entry.headline,
        "better": 1 if entry.higher_is_better() else -1,
        "documents": [_entry(listed) for listed in entry.documents],
    }


def _entry(listed: Listed) -> dict[str, Any]:
    document = listed.document
    return {
        "id": document.doc_id,
        "key": listed.key,
        "title": document.title,
        "search": document.search,
        "n": document.num_sequences,
        "c": document.num_correct,
        "tokens": document.tokens,
        "independent": document.tokens_independent,
        "value": None if math.isnan(listed.value) else listed.value,
        "flags": {name: True for name, set_ in listed.flags._asdict().items() if set_},
        "grant": listed.grant,
    }
