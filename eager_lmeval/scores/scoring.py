"""From a document's tree to its metrics (SPEC 8), for tasks whose documents carry an `eager` column.

`records` and `score` make one document's values, `metrics` says how each is aggregated over documents. All of it needs
nothing but what stands in the samples file, so a run can be graded again from that file alone. Knows no harness.
"""

from __future__ import annotations

import functools
import logging
import math
import re
from collections.abc import Callable, Mapping, Sequence
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
    pass_hat_k,
    pass_rate,
    share,
)
from eager_lmeval.scores.sampling import (
    consensus_variance,
    pass_at_k_variance,
    pass_hat_k_variance,
)
from eager_lmeval.scores.stats import interval, mean, sampling_error, standard_error, total
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
"""What there is of documents whose vote decided how many sequences they got: was it settled; up to release 0.1, in how
many rounds."""

_CLUSTER = "clusters"
"""Of a document the name of its cluster, where the rules name a column; of a task how many there are."""
_IF_RIGHT = "_if_right"
"""After a score's name: what it would be were all answers right on which the verifier came to no verdict."""
_RIGHT = -1
"""The class of right answers where no answer was found right."""

log = logging.getLogger(f"lm_eval.{__name__}")  # the harness shows the loggers below its own


@dataclass(frozen=True)
class Rules:
    """What a task's `metadata` says about scoring; it is written into every record."""

    ks: tuple[int, ...] = ()
    """The k of pass@k and cons@k."""
    tie: Tie = "mean"
    truncated_votes: bool = False
    """Whether a sequence that was cut off while it thought may vote with what it had written."""
    cluster: str | None = None
    """The column that says which documents belong together, such as several questions on one text."""

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
        cluster = given.get("cluster")
        if not isinstance(cluster, str | None):
            raise UsageError(f"cluster={cluster!r} is not accepted: cluster should name a column of the documents")
        return cls(tuple(sorted(set(ks))), tie, votes, cluster)


class Metric(NamedTuple):
    """One line of a result: how the documents' values become it."""

    name: str
    aggregate: Callable[..., Any]
    """Of the values of the documents that have one; ``by_cluster``, of their clusters as well, where they have any."""
    higher_is_better: bool | None = None
    by_cluster: bool = False

    def of(self, documents: Sequence[Mapping[str, Any]]) -> Any:
        """What the documents come to, by what `score` gave of each."""
        having = [document for document in documents if self.name in document]
        values = [document[self.name] for document in having]
        if self.by_cluster and all(_CLUSTER in document for document in having):
            return self.aggregate(values, clusters=[document[_CLUSTER] for document in having])
        return self.aggregate(values)


def records(resps: Sequence[Sequence[str]], rules: Rules = Rules()) -> list[TreeRecord]:
    """Each document's tree; for a model that grows none, its texts as sequences whose cost is not known."""
    trees = [getattr(texts[0], "tree", None) or _plain_record(texts) for texts in resps]
    return [TreeRecord(tree | {"scoring": asdict(rules)}) for tree in trees]


def variant(trees: Sequence[Mapping[str, Any]]) -> Literal["none", "oracle"]:
    """The name under which results of these trees are listed: ``oracle`` if labels decided who got more sequences."""
    return "oracle" if any(tree["labels_used"] for tree in trees) else "none"


def metrics(rules: Rules) -> dict[str, Metric]:
    """All metrics of a task by name.

    ``X_stderr`` and ``X_ci95`` belong to the score X and get the values of X: its error as a sample of documents.
    ``X_stderr_sampling`` gets each document's variance over draws: the error of these documents alone.
    """
    scores = ["pass@max", "cons@max", "pass_rate", "pass_rate_w", "cons_w@max"]
    counts = [Metric("scored", _count)]
    for k in rules.ks:
        scores += [f"pass@{k}", f"pass^{k}", f"cons@{k}"]
        counts += [Metric(f"scored@{k}", _count)]
    table = []
    for name in scores:
        table.append(Metric(name, mean, True))
        table.append(Metric(f"{name}_stderr", standard_error, by_cluster=True))  # the harness prints it beside X
        table.append(Metric(f"{name}_ci95", _interval, by_cluster=True))
        table.append(Metric(f"{name}_stderr_sampling", sampling_error))
    rates = ("tie_rate", "no_answer_rate", "truncation_rate", "timeout_rate", "failure_rate")
    table += counts
    table += [Metric(name, mean, False) for name in rates]
    table += [Metric(name, _amount, False if name == "tokens" else None) for name in COSTS]
    table += [Metric(f"mean_{name}", mean, False if name == "tokens" else None) for name in COSTS]
    table += [Metric(name, _common) for name in ("strategy", "max_sequences", "entropy_threshold", "temperature")]
    table += [Metric("settled", mean), Metric("cut_rate", mean), Metric("rounds", mean)]
    table += [Metric("unscored", _count), Metric(_CLUSTER, _count_names)]
    table += [Metric("labels_used", max), Metric("verifier_note", _common_notes)]
    return {metric.name: metric for metric in table}


def table_metrics(values: Mapping[str, Any]) -> list[str]:
    """Those of a document's metrics that the harness's table shows, each score with its errors behind it.

    Over draws only where it is more than a bound.
    """
    at_k = [name for name in values if re.fullmatch(r"pass@\d+", name)]
    rows = [name for name in (*_IN_TABLE, *at_k) if name in values][:_MOST_ROWS]
    shown = [name for row in rows for name in (row, f"{row}_stderr", f"{row}_stderr_sampling") if name in values]
    return [name for name in shown if not (name.endswith("_sampling") and math.isnan(values[name]))]


def figures(documents: Sequence[Mapping[str, Any]], table: Mapping[str, Metric], name: str) -> dict[str, Any]:
    """What a task comes to: every metric that some document has, as the harness writes it under the filter ``name``.

    An error over draws that is not known is at most the error over documents, which draws are a part of: it is given
    that, and ``sampling_bounds`` names the scores for which this is so. Where there are answers without a verdict,
    ``X_bounds`` has the score X over all documents if all of those were wrong, and if all were right.
    """
    known = dict.fromkeys(metric for document in documents for metric in document if metric in table)
    made = {metric: table[metric].of(documents) for metric in known}
    scores = [metric for metric in known if f"{metric}_stderr_sampling" in table and f"{metric}_stderr" in known]
    bounded = [metric for metric in scores if math.isnan(made.get(f"{metric}_stderr_sampling", math.nan))]
    made |= {f"{metric}_stderr_sampling": made[f"{metric}_stderr"] for metric in bounded}
    if scores:
        made["sampling_bounds"] = bounded
    for metric in scores:
        if any(metric + _IF_RIGHT in document for document in documents):
            values = [document[metric] for document in documents if metric in document]
            at_best = [
                document.get(metric + _IF_RIGHT, document[metric]) for document in documents if metric in document
            ]
            made[f"{metric}_bounds"] = [mean([0.0 if math.isnan(value) else value for value in values]), mean(at_best)]
    return {f"{metric},{name}": value for metric, value in made.items()}


def score(doc: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
    """The values of all `metrics` of one document; NaN where one is not defined.

    A document is unscored, its scores NaN and counted apart, where the verifier cannot read its label or came to no
    verdict on any of its answers. Where it came to none on some, those count as not correct, and ``X_bounds`` says what
    they could change. The k that a document could not reach with all of its ``max_sequences``, and what is of
    independent draws only, are left out.
    """
    rules = Rules.read(record.get("scoring", {}))
    sequences = record["sequences"]
    graded = _grade(doc, record, rules)
    undecided = [_is_undecided(doc, grade) for grade in graded]
    answered = [doubt for doubt, grade in zip(undecided, graded, strict=True) if doubt or grade.answer is not None]
    is_scored = bool(graded) and not (answered and all(answered))
    votes = [
        Vote(grade.answer_class, grade.correct, sequence["weight"])
        for grade, sequence in zip(graded, sequences if graded else [], strict=True)
    ]
    at_worst = _scores(votes if is_scored else [], record, rules)
    at_best = _scores(_if_right(votes, undecided), record, rules) if any(undecided) else {}
    drawn = _independent(votes, record) if is_scored else []
    costs = {
        "tokens": _number(record["tokens"]),
        "sequences": float(record["num_sequences"]),
        "branches": float(record["num_branches"]),
    }
    finishes = [sequence.get("finish") for sequence in sequences]
    ended = [vote for vote, finish in zip(votes, finishes, strict=False) if finish != "cut"]
    ends = [finish for finish in finishes if finish != "cut"]
    variances = _variances(votes, drawn, record, rules) if is_scored else {}
    values: dict[str, Any] = {}
    for name, value in at_worst.items():
        values |= {name: value, f"{name}_stderr": value, f"{name}_ci95": value}
        if is_scored:
            values[f"{name}_stderr_sampling"] = variances.get(name, math.nan)
        if not is_scored or any(undecided):
            values[name + _IF_RIGHT] = at_best.get(name, 1.0) if is_scored else 1.0
    return {
        **values,
        "scored": float(is_scored),
        "unscored": float(not is_scored),
        **{f"scored@{k}": float(len(drawn) >= k) for k in _ks(record, rules)},
        **({_CLUSTER: str(doc.get(rules.cluster))} if rules.cluster is not None else {}),
        "tie_rate": float(is_tied([vote._replace(weight=1.0) for vote in votes])) if is_scored else math.nan,
        "no_answer_rate": share([vote.answer is None for vote in ended]),
        "truncation_rate": math.nan if None in ends else share([finish == "length" for finish in ends]),
        "timeout_rate": share([grade.timed_out for grade in graded]),
        "failure_rate": share([grade.failed for grade in graded]),
        **costs,
        **{f"mean_{name}": value for name, value in costs.items()},
        "strategy": record.get("strategy", "none"),
        "max_sequences": record.get("max_sequences", len(sequences)),
        "entropy_threshold": _number(record.get("entropy_threshold")),
        "temperature": _number(record.get("temperature")),
        "labels_used": float(record["labels_used"]),
        **{name: float(record[name]) for name in _VOTED if record.get(name) is not None},
        **({"cut_rate": share([finish == "cut" for finish in finishes])} if is_race(record) else {}),
        **({"verifier_note": _notes(graded)} if doc["eager"]["verifier"] == "code" else {}),
    }


def _scores(votes: Sequence[Vote], record: Mapping[str, Any], rules: Rules) -> dict[str, float]:
    """A document's scores by name, all NaN without votes."""
    equal = [vote._replace(weight=1.0) for vote in votes]
    rate_roots = record.get("rate_roots")
    of_rate = [
        vote
        for vote, sequence in zip(votes, record["sequences"], strict=False)
        if rate_roots is None or sequence["path"][0] < rate_roots
    ]
    drawn = _independent(equal, record)
    scores = {
        "pass@max": pass_at_max(votes),
        "cons@max": consensus(equal, rules.tie) if votes else math.nan,
        "pass_rate": pass_rate(drawn or equal),
        "pass_rate_w": pass_rate(of_rate),
        "cons_w@max": consensus(votes, rules.tie) if votes else math.nan,
    }
    n, c = len(drawn), sum(vote.correct for vote in drawn)
    for k in _ks(record, rules):
        scores[f"pass@{k}"] = pass_at_k(n, c, k)
        scores[f"pass^{k}"] = pass_hat_k(n, c, k)
        scores[f"cons@{k}"] = consensus_at_k(drawn, k, rules.tie)
    return scores


def _variances(
    votes: Sequence[Vote], drawn: Sequence[Vote], record: Mapping[str, Any], rules: Rules
) -> dict[str, float]:
    """Of the scores that can be told: their variance over draws, from the document's independent ones."""
    n, c = len(drawn), sum(vote.correct for vote in drawn)
    if not drawn:
        return {}
    rate = pass_at_k_variance(n, c, 1)
    # How many votes there are depends on the votes themselves in a race, so its variance is not that of so many draws.
    vote = math.nan if is_race(record) else consensus_variance(votes, len(votes), rules.tie)
    variances = {"pass_rate": rate, "pass_rate_w": rate, "cons@max": vote, "cons_w@max": vote}
    for k in _ks(record, rules):
        variances[f"pass@{k}"] = pass_at_k_variance(n, c, k)
        variances[f"pass^{k}"] = pass_hat_k_variance(n, c, k)
        variances[f"cons@{k}"] = consensus_variance(drawn, k, rules.tie) if k <= n else math.nan
    return variances


def _ks(record: Mapping[str, Any], rules: Rules) -> list[int]:
    """The k that are asked for and that a document could reach."""
    most = record.get("max_sequences", len(record["sequences"]))
    if is_race(record):
        most = min(most, record.get("rate_roots") or most)
    return [k for k in rules.ks if k <= most] if draws_are_independent(record) else []


def _independent(votes: Sequence[Vote], record: Mapping[str, Any]) -> Sequence[Vote]:
    """The votes of independent draws: none of a tree's are, and of a race its first lanes'. The others of a race are
    the shorter ones (SPEC 5)."""
    if not draws_are_independent(record):
        return []
    return votes[: record.get("rate_roots")] if is_race(record) else votes


def _is_undecided(doc: Mapping[str, Any], grade: Graded) -> bool:
    """Whether the verifier came to no verdict. A program that runs into its limit has failed its tests."""
    return grade.failed or (grade.timed_out and doc["eager"]["verifier"] != "code")


def _if_right(votes: Sequence[Vote], undecided: Sequence[bool]) -> list[Vote]:
    """The votes, were all undecided ones right; they then belong to the class that is."""
    right = next((vote.answer for vote in votes if vote.correct), _RIGHT)
    return [
        vote._replace(answer=right, correct=True) if doubt else vote
        for vote, doubt in zip(votes, undecided, strict=True)
    ]


def is_race(record: Mapping[str, Any]) -> bool:
    """Whether a record is of a race (SPEC 5); up to release 0.1, `consistency` grew trees in rounds."""
    return record.get("strategy") == "consistency" and record.get("rounds") is None


def draws_are_independent(record: Mapping[str, Any]) -> bool:
    """Whether a record holds independent draws, as pass@k and cons@k need them: no tree's are, a race's first are."""
    return record.get("strategy", "none") in ("none", "parallel") or is_race(record)


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
    """What of a sequence's text is graded; None for one that a race cut, or that was cut off while it thought and may
    not vote."""
    text: str = sequence["text"]
    if sequence.get("finish") == "cut":
        return None
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


def _count_names(names: Sequence[str]) -> int:
    """How many different ones there are."""
    return len(set(names))


def _amount(values: Sequence[float]) -> float:
    """A sum, which is whole where it is known."""
    value = total(values)
    return value if math.isnan(value) else int(value)


def _interval(values: Sequence[float], clusters: Sequence[str] | None = None) -> list[float]:
    """95% interval over documents like these; 4 digits."""
    return [round(bound, 4) for bound in interval(values, clusters=clusters)]


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
