"""From a document's tree to its metrics (SPEC 8), for tasks whose documents carry an `eager` column.

`records` and `score` make one document's values, `metrics` says how each is aggregated over documents. All of it needs
nothing but what stands in the samples file, so a run can be graded again from that file alone. Knows no harness.
"""

from __future__ import annotations

import functools
import logging
import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple, get_args

from eager_lmeval.errors import UsageError
from eager_lmeval.pools.marks import UPPER_BOUND
from eager_lmeval.pools.response import TreeRecord
from eager_lmeval.scores.metrics import (
    Tie,
    Vote,
    consensus,
    consensus_at_k,
    is_tied,
    pass_at_k,
    pass_at_max,
    pass_rate,
    share,
)
from eager_lmeval.scores.stats import bootstrap_interval, mean, standard_error, total
from eager_lmeval.verify import Graded, Verifier, get_verifier

__all__ = [
    "COSTS",
    "UPPER_BOUND",
    "Metric",
    "Rules",
    "answer_text",
    "draws_are_independent",
    "figures",
    "metrics",
    "records",
    "score",
    "table_metrics",
    "variant",
    "verifier_of",
    "warn_of_dependent_draws",
]

COSTS = ("tokens", "sequences", "branches")
"""Metrics that are amounts and no scores; their sums over the documents stand in a result beside their means."""

_IN_TABLE = ("pass@max", "cons_w@max", "pass_rate_w", "tokens", "sequences")
"""The scores to look at first and what they cost: what the harness's table shows, with pass@k up to `_MOST_ROWS`."""
_MOST_ROWS = 10

_VOTED = ("settled", "rounds")
"""What there is of documents whose vote decided how many sequences they got: was it settled, in how many rounds."""

log = logging.getLogger(f"lm_eval.{__name__}")  # the harness shows the loggers below its own


@dataclass(frozen=True)
class Rules:
    """What a task's `metadata` says about scoring; it is written into every record."""

    ks: tuple[int, ...] = ()
    """The k of pass@k and cons@k."""
    tie: Tie = "mean"
    truncated_votes: bool = False
    """Whether a sequence that was cut off while it thought may vote with what it had written."""

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> Rules:
        """The rules among other entries. UsageError for a value that is not accepted."""
        ks, tie, votes = given.get("ks", ()), given.get("tie", "mean"), given.get("truncated_votes", False)
        ks = ks if isinstance(ks, list | tuple) else [ks]
        if not all(isinstance(k, int) and k >= 1 for k in ks):
            raise UsageError(f"ks={ks!r} is not accepted: write a list of whole numbers from 1 on, such as [1, 4, 16]")
        if tie not in get_args(Tie):
            raise UsageError(f"tie={tie!r} is not accepted: tie should be one of {', '.join(get_args(Tie))}")
        if not isinstance(votes, bool):
            raise UsageError(f"truncated_votes={votes!r} is not accepted: truncated_votes should be true or false")
        return cls(tuple(sorted(set(ks))), tie, votes)


class Metric(NamedTuple):
    """One line of a result: how the documents' values become it."""

    name: str
    aggregate: Callable[[Sequence[Any]], Any]
    higher_is_better: bool | None = None


def records(resps: Sequence[Sequence[str]], rules: Rules = Rules()) -> list[TreeRecord]:
    """Each document's tree; for a model that grows none, its texts as sequences whose cost is not known."""
    trees = [getattr(texts[0], "tree", None) or _plain_record(texts) for texts in resps]
    return [TreeRecord(tree | {"scoring": asdict(rules)}) for tree in trees]


def variant(trees: Sequence[Mapping[str, Any]]) -> Literal["none", "oracle"]:
    """The name under which results of these trees are listed: ``oracle`` if labels decided who got more sequences."""
    return "oracle" if any(tree["labels_used"] for tree in trees) else "none"


def metrics(rules: Rules) -> dict[str, Metric]:
    """All metrics of a task by name. ``X_stderr`` and ``X_ci95`` belong to the score X and get the values of X."""
    scores = ["pass@max", "cons@max", "pass_rate", "pass_rate_w", "cons_w@max"]
    counts = [Metric("scored", _count)]
    for k in rules.ks:
        scores += [f"pass@{k}", f"cons@{k}"]
        counts += [Metric(f"scored@{k}", _count)]
    table = []
    for name in scores:
        table.append(Metric(name, mean, True))
        table.append(Metric(f"{name}_stderr", standard_error))  # the harness prints it as the error of X
        table.append(Metric(f"{name}_ci95", _interval))
    rates = ("tie_rate", "no_answer_rate", "truncation_rate", "timeout_rate", "failure_rate")
    table += counts
    table += [Metric(name, mean, False) for name in rates]
    table += [Metric(name, _amount, False if name == "tokens" else None) for name in COSTS]
    table += [Metric(f"mean_{name}", mean, False if name == "tokens" else None) for name in COSTS]
    table += [Metric(name, _common) for name in ("strategy", "max_sequences", "entropy_threshold", "temperature")]
    table += [Metric("settled", mean), Metric("rounds", mean)]
    table += [Metric("labels_used", max), Metric("verifier_note", _common_notes)]
    return {metric.name: metric for metric in table}


def table_metrics(names: Collection[str]) -> list[str]:
    """Those of a document's metrics that the harness's table shows, each score with its standard error behind it."""
    at_k = [name for name in names if re.fullmatch(r"pass@\d+", name)]
    rows = [name for name in (*_IN_TABLE, *at_k) if name in names][:_MOST_ROWS]
    return [name for row in rows for name in (row, f"{row}_stderr") if name in names]


def figures(documents: Sequence[Mapping[str, Any]], table: Mapping[str, Metric], name: str) -> dict[str, Any]:
    """What a task comes to: every metric that some document has, as the harness writes it under the filter ``name``."""
    known = dict.fromkeys(metric for document in documents for metric in document if metric in table)
    return {
        f"{metric},{name}": table[metric].aggregate([document[metric] for document in documents if metric in document])
        for metric in known
    }


def score(doc: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
    """The values of all `metrics` of one document; NaN where one is not defined.

    A document whose label the verifier cannot read is unscored: its scores are NaN, and the table counts it. The k
    that it could not reach with all of its ``max_sequences``, or that are of independent draws only, are left out.
    """
    rules = Rules.read(record.get("scoring", {}))
    sequences = record["sequences"]
    graded = _grade(doc, record, rules)
    votes = [
        Vote(grade.answer_class, grade.correct, sequence["weight"])
        for grade, sequence in zip(graded, sequences if graded else [], strict=True)
    ]
    equal = [vote._replace(weight=1.0) for vote in votes]
    rate_roots = record.get("rate_roots")
    of_rate = [
        vote
        for vote, sequence in zip(votes, sequences, strict=False)
        if rate_roots is None or sequence["path"][0] < rate_roots
    ]
    most = record.get("max_sequences", len(sequences))
    ks = [k for k in rules.ks if k <= most] if draws_are_independent(record) else []
    scores = {
        "pass@max": pass_at_max(votes),
        "cons@max": consensus(equal, rules.tie) if votes else math.nan,
        "pass_rate": pass_rate(equal),
        "pass_rate_w": pass_rate(of_rate),
        "cons_w@max": consensus(votes, rules.tie) if votes else math.nan,
    }
    counts = {"scored": float(bool(votes))}
    correct = sum(vote.correct for vote in votes)
    for k in ks:
        scores[f"pass@{k}"] = pass_at_k(len(votes), correct, k)
        scores[f"cons@{k}"] = consensus_at_k(equal, k, rules.tie)
        counts[f"scored@{k}"] = float(len(votes) >= k)
    costs = {
        "tokens": _number(record["tokens"]),
        "sequences": float(record["num_sequences"]),
        "branches": float(record["num_branches"]),
    }
    finishes = [sequence.get("finish") for sequence in sequences]
    return {
        **{name + suffix: value for name, value in scores.items() for suffix in ("", "_stderr", "_ci95")},
        **counts,
        "tie_rate": float(is_tied(equal)) if votes else math.nan,
        "no_answer_rate": share([vote.answer is None for vote in votes]),
        "truncation_rate": math.nan if None in finishes else share([finish == "length" for finish in finishes]),
        "timeout_rate": share([grade.timed_out for grade in graded]),
        "failure_rate": share([grade.failed for grade in graded]),
        **costs,
        **{f"mean_{name}": value for name, value in costs.items()},
        "strategy": record.get("strategy", "none"),
        "max_sequences": most,
        "entropy_threshold": _number(record.get("entropy_threshold")),
        "temperature": _number(record.get("temperature")),
        "labels_used": float(record["labels_used"]),
        **{name: float(record[name]) for name in _VOTED if record.get(name) is not None},
        **({"verifier_note": _notes(graded)} if doc["eager"]["verifier"] == "code" else {}),
    }


def draws_are_independent(record: Mapping[str, Any]) -> bool:
    """Whether a record's sequences are independent draws, as pass@k and cons@k need them: no tree's are."""
    return record.get("strategy", "none") in ("none", "parallel")


def warn_of_dependent_draws(task: str, trees: Sequence[Mapping[str, Any]], rules: Rules) -> None:
    """Says which of the metrics that ``rules`` ask for are undefined, because sequences of trees are no such draws."""
    if rules.ks and not all(map(draws_are_independent, trees)):
        log.warning(
            "task %r: the sequences of a tree are no independent draws, so pass@k and cons@k are not scored; take "
            "pass_rate_w and cons_w@max, or strategy=parallel (see docs/results.md)",
            task,
        )


def verifier_of(doc: Mapping[str, Any]) -> Verifier:
    """The verifier of a document. UsageError where its column `eager` does not say how to grade it."""
    column = doc.get("eager")
    if not isinstance(column, Mapping):
        raise UsageError(
            "there is no column 'eager' to grade with; the task's process_docs adds one to every document, such as "
            '{"eager": {"label": "62", "verifier": "math"}}'
        )
    for name in ("label", "verifier"):
        if column.get(name) is None:
            raise UsageError(f"the column 'eager' holds no {name}; it needs both a label and a verifier")
    return get_verifier(column["verifier"])


def answer_text(sequence: Mapping[str, Any], rules: Rules) -> str | None:
    """What of a sequence's text is graded; None for one that was cut off while it thought and may not vote."""
    text: str = sequence["text"]
    if sequence.get("answer_at") is None:
        return text if rules.truncated_votes else None
    return text[sequence["answer_at"] :]


def _grade(doc: Mapping[str, Any], record: Mapping[str, Any], rules: Rules) -> list[Graded]:
    """One grade a sequence, in order of creation; none at all if the label cannot be read."""
    verifier = verifier_of(doc)
    answers = [answer_text(sequence, rules) for sequence in record["sequences"]]
    try:
        return verifier.grade(answers, str(doc["eager"]["label"]))
    except UsageError as error:
        _warn_once(f"a document is left unscored: {error}")
        return []


def _notes(graded: Sequence[Graded]) -> list[str] | None:
    """What the verifier notes of every answer alike, such as a sandbox without namespaces; None without answers."""
    noted = [set(grade.note.split("; ")) - {""} for grade in graded if grade.answer is not None]
    return sorted(set.intersection(*noted)) if noted else None


@functools.cache
def _warn_once(message: str) -> None:
    log.warning(message)


def _count(values: Sequence[float]) -> int:
    """How many documents were scored."""
    return int(sum(values))


def _amount(values: Sequence[float]) -> float:
    """A sum, which is whole where it is known."""
    value = total(values)
    return value if math.isnan(value) else int(value)


def _interval(values: Sequence[float]) -> list[float]:
    """95% bootstrap interval; 4 digits are more than the resampling gives."""
    return [round(bound, 4) for bound in bootstrap_interval(values)]


def _common(values: Sequence[Any]) -> Any:
    """What all documents have in common, or ``mixed``."""
    return values[0] if len({repr(value) for value in values}) == 1 else "mixed"


def _common_notes(values: Sequence[list[str] | None]) -> str:
    """What is noted of every document that has answers."""
    noted = [set(value) for value in values if value is not None]
    return "; ".join(sorted(set.intersection(*noted))) or "none" if noted else "none"


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _plain_record(texts: Sequence[str]) -> TreeRecord:
    """The texts of a model without trees, as far as they go: roots of equal weight, nothing known of tokens."""
    return TreeRecord(
        num_sequences=len(texts),
        num_branches=0,
        num_roots=len(texts),
        tokens=None,
        labels_used=False,
        sequences=[
            {"path": [place], "text": text, "answer_at": _answer_at(text), "weight": 1 / len(texts)}
            for place, text in enumerate(texts)
        ],
    )


def _answer_at(text: str) -> int | None:
    """Where the answer begins in a text of a thinking model; None if the thinking part was cut off."""
    end = text.rfind("</think>")
    if end < 0:
        return None if "<think>" in text else 0
    return end + len("</think>")
