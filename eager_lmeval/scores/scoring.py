"""From a document's tree to its metrics (SPEC 8), for tasks whose documents carry an `eager` column.

`records` and `score` make one document's values; `figures` says how each is aggregated over documents. All of it needs
nothing but what stands in the samples file, so a run can be graded again from that file alone. Knows no harness.
"""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal

from eager_lmeval.errors import UsageError
from eager_lmeval.pools.response import TreeRecord
from eager_lmeval.scores.figures import CLUSTER, IF_RIGHT
from eager_lmeval.scores.metrics import (
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
from eager_lmeval.scores.rules import PLAIN, Rules
from eager_lmeval.scores.sampling import consensus_variance, pass_at_k_variance, pass_hat_k_variance
from eager_lmeval.verify import Graded, Verifier, get_verifier
from eager_lmeval.verify.vote import leaders

__all__ = [
    "answer_text",
    "draws_are_independent",
    "graded",
    "records",
    "score",
    "variant",
    "verifier_of",
    "warn_of_dependent_draws",
]

_VOTED = ("settled", "rounds")
"""What there is of documents whose vote decided how many sequences they got: was it settled; up to release 0.1, in how
many rounds."""

_RIGHT = -1
"""The class of right answers where no answer was found right."""

log = logging.getLogger(f"lm_eval.{__name__}")  # the harness shows the loggers below its own


def records(resps: Sequence[Sequence[str]], rules: Rules = PLAIN) -> list[TreeRecord]:
    """Each document's tree; for a model that grows none, its texts as sequences whose cost is not known."""
    trees = [getattr(texts[0], "tree", None) or _plain_record(texts) for texts in resps]
    return [TreeRecord(tree | {"scoring": asdict(rules)}) for tree in trees]


def variant(trees: Sequence[Mapping[str, Any]]) -> Literal["none", "oracle"]:
    """The name under which results of these trees are listed: ``oracle`` if labels decided who got more sequences."""
    return "oracle" if any(tree["labels_used"] for tree in trees) else "none"


def score(doc: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
    """The values of all `metrics` of one document; NaN where one is not defined.

    A document is unscored, its scores NaN and counted apart, where the verifier cannot read its label or came to no
    verdict on any of its answers. Where it came to none on some, those count as not correct, and ``X_bounds`` says what
    they could change. The k that a document could not reach with all of its ``max_sequences``, and what is of
    independent draws only, are left out.
    """
    return graded(doc, record)[0]


def graded(doc: Mapping[str, Any], record: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """What `score` gives, and the text of the first sequence that is of the class with the most weight; without answers
    that of the first sequence."""
    rules = Rules.read(record.get("scoring", {}))
    sequences = record["sequences"]
    grades = _grade(doc, record, rules)
    undecided = [_is_undecided(doc, grade) for grade in grades]
    answered = [doubt for doubt, grade in zip(undecided, grades, strict=True) if doubt or grade.answer is not None]
    is_scored = bool(grades) and not (answered and all(answered))
    votes = [
        Vote(grade.answer_class, grade.correct, sequence["weight"])
        for grade, sequence in zip(grades, sequences if grades else [], strict=True)
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
            values[name + IF_RIGHT] = at_best.get(name, 1.0) if is_scored else 1.0
    classes = [vote.answer for vote in votes]
    winners = leaders(classes, [vote.weight for vote in votes])
    text = sequences[classes.index(winners[0]) if winners else 0]["text"]
    return {
        **values,
        "scored": float(is_scored),
        "unscored": float(not is_scored),
        **{f"scored@{k}": float(len(drawn) >= k) for k in _ks(record, rules)},
        **({CLUSTER: str(doc.get(rules.cluster))} if rules.cluster is not None else {}),
        "tie_rate": float(is_tied([vote._replace(weight=1.0) for vote in votes])) if is_scored else math.nan,
        "no_answer_rate": share([vote.answer is None for vote in ended]),
        "truncation_rate": math.nan if None in ends else share([finish == "length" for finish in ends]),
        "timeout_rate": share([grade.timed_out for grade in grades]),
        "failure_rate": share([grade.failed for grade in grades]),
        **costs,
        **{f"mean_{name}": value for name, value in costs.items()},
        "strategy": record.get("strategy", "none"),
        "max_sequences": record.get("max_sequences", len(sequences)),
        "entropy_threshold": _number(record.get("entropy_threshold")),
        "temperature": _number(record.get("temperature")),
        "labels_used": float(record["labels_used"]),
        **{name: float(record[name]) for name in _VOTED if record.get(name) is not None},
        **({"cut_rate": share([finish == "cut" for finish in finishes])} if is_race(record) else {}),
        **({"verifier_note": _notes(grades)} if doc["eager"]["verifier"] == "code" else {}),
    }, text


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
            raise UsageError(
                f"the column 'eager' holds no {name}; it, or the task's metadata, needs both a label and a verifier"
            )
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
