"""The documents that two runs share, and whether the runs may be compared at all."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from eager_lmeval.errors import UsageError
from eager_lmeval.pools.marks import own_filter
from eager_lmeval.runs.run import UNGRADED, Run, iter_samples, sample_metrics
from eager_lmeval.scores.paired import Pairs

__all__ = [
    "Documents",
    "Key",
    "Metric",
    "Settings",
    "TaskPair",
    "compare_settings",
    "pair_runs",
    "pair_task",
    "prompts_digest",
    "read_documents",
]

_SAME_RESULT_SAME_MEANING = frozenset({"seed", "max_rows"})
"""Options that may differ: a seed is another draw of the same thing, and the batch does not change a result."""
_LISTED = 10
"""Documents without a partner that are named; the JSON of a comparison has all."""


class Key(NamedTuple):
    """A document: its hash, and which of several equal ones it is."""

    doc_hash: str
    copy: int


class Documents(NamedTuple):
    """One task of one run, document by document."""

    values: Mapping[str, Mapping[Key, float]]
    """By metric; undefined is NaN."""
    ids: Mapping[Key, int]
    """Each document's ``doc_id``."""


@dataclass(frozen=True)
class Metric:
    """One metric of the shared documents."""

    name: str
    pairs: Pairs
    undefined: int
    """Shared documents left out because one of the runs has no value."""
    higher_is_better: bool | None = None
    """What the task says; None where it says nothing."""


@dataclass(frozen=True)
class TaskPair:
    """One task of two runs; ``only_*`` are the ``doc_id`` of documents without a partner."""

    task: str
    documents: int
    metrics: list[Metric]
    only_baseline: list[int] = field(default_factory=list)
    only_candidate: list[int] = field(default_factory=list)

    @property
    def unpaired(self) -> list[str]:
        """The documents without a partner, a line a run."""
        return [
            f"{self.task}: {len(ids)} {'document' if len(ids) == 1 else 'documents'} only in the {side} (doc_id "
            + ", ".join(map(str, ids[:_LISTED]))
            + (", …)" if len(ids) > _LISTED else ")")
            for side, ids in (("baseline", self.only_baseline), ("candidate", self.only_candidate))
            if ids
        ]


class Settings(NamedTuple):
    """How the settings of two runs of a task differ, a line each."""

    refused: list[str]
    """What makes a difference of the figures something else than the model's."""
    noted: list[str]
    """What a reader should know."""


def compare_settings(baseline: Run, candidate: Run, task: str) -> Settings:
    """In what two runs of a task differ beside the model."""
    refused = [*_unequal(task, _settings(baseline, task), _settings(candidate, task)).values()]
    noted = []
    pools = baseline.pools(task), candidate.pools(task)
    if bool(pools[0]) != bool(pools[1]):
        without, made = ("candidate", "baseline") if pools[0] else ("baseline", "candidate")
        refused.append(f"{task}: the {without} was not made with --model eager, the {made} was")
    elif not pools[0]:
        refused += _unequal(task, _generation(baseline, task), _generation(candidate, task)).values()
    elif len(pools[0]) != len(pools[1]):
        refused.append(f"{task}: the baseline has {len(pools[0])} sets of options, the candidate {len(pools[1])}")
    else:
        for number, (ours, theirs) in enumerate(zip(*(map(_options, some) for some in pools), strict=True), 1):
            suffix = f" (option set {number})" if len(pools[0]) > 1 else ""
            for name, line in _unequal(task, ours, theirs, suffix).items():
                if _is_new_default(name, ours, theirs):
                    noted.append(f"{line}: the default of an option that one of the releases lacks")
                else:
                    refused.append(line)
    return Settings(refused, noted)


def read_documents(run: Run, task: str) -> Documents:
    """A task's samples; of several filters the metrics get their names. UsageError as for `read_samples`.

    A run that was made with labels has the same metrics as one that was not; the comparison says elsewhere which was.
    """
    by_filter: dict[str, dict[str, dict[Key, float]]] = {}
    copies: Counter[tuple[str, str]] = Counter()
    ids: dict[Key, int] = {}
    for sample in iter_samples(run, task):
        if UNGRADED in sample.logged["metrics"]:
            raise UsageError(
                f"{run.samples_file(task)} is of a run with --predict_only, which graded nothing; grade it with "
                f"eager-lmeval rescore, if it is of a task with trees"
            )
        name, doc_hash = own_filter(sample.logged["filter"]), sample.logged["doc_hash"]
        key = Key(doc_hash, copies[name, doc_hash])
        copies[name, doc_hash] += 1
        ids[key] = sample.logged["doc_id"]
        for metric, value in sample_metrics(sample).items():
            by_filter.setdefault(name, {}).setdefault(metric, {})[key] = value
    if len(by_filter) == 1:
        return Documents(next(iter(by_filter.values())), ids)
    named = {f"{metric},{name}": values for name, table in by_filter.items() for metric, values in table.items()}
    return Documents(named, ids)


def prompts_digest(run: Run, task: str) -> str:
    """One digest of the harness's hashes of all prompts, whatever their order; empty where it logged none."""
    hashes = set()
    for sample in iter_samples(run, task):
        prompt = {**sample.logged}.get("prompt_hash")
        if not isinstance(prompt, str):
            return ""
        hashes.add((sample.logged["doc_hash"], prompt))
    return hashlib.sha256(repr(sorted(hashes)).encode()).hexdigest()[:12]


def pair_runs(
    baseline: Run,
    candidate: Run,
    only: Sequence[str],
    allow_different: bool,
    read: Callable[[Run, str], Documents] = read_documents,
) -> tuple[list[TaskPair], list[str]]:
    """The shared tasks of two runs, those in ``only`` where it names any, and in what the runs differ, a line each.

    UsageError where they share nothing, and where they differ in more than the model unless that is allowed.
    """
    tasks, differences = _tasks(baseline, candidate, only)
    settings = [compare_settings(baseline, candidate, task) for task in tasks]
    differences += [line for found in settings for line in found.refused]
    _refuse(differences, allow_different)
    pairs = [pair_task(baseline, candidate, task, read) for task in tasks]
    if strangers := [pair.task for pair in pairs if not pair.documents]:
        raise UsageError(f"the runs share no document of {', '.join(strangers)}: they were made from different data")
    unpaired = [line for pair in pairs for line in pair.unpaired]
    _refuse(unpaired, allow_different)
    return pairs, [*differences, *unpaired, *(line for found in settings for line in found.noted)]


def pair_task(
    baseline: Run, candidate: Run, task: str, read: Callable[[Run, str], Documents] = read_documents
) -> TaskPair:
    """Aligns the documents of a task by their hashes."""
    (ours, our_ids), (theirs, their_ids) = read(baseline, task), read(candidate, task)
    shared = [key for key in our_ids if key in their_ids]
    metrics = []
    better = {**_higher_is_better(candidate, task), **_higher_is_better(baseline, task)}
    for name in ours:
        if name not in theirs:
            continue
        table = np.array([[ours[name].get(key, np.nan), theirs[name].get(key, np.nan)] for key in shared])
        table = table.reshape(len(shared), 2)
        known = ~np.isnan(table).any(axis=1)
        if known.any():
            pairs = Pairs(table[known, 0], table[known, 1])
            metrics.append(Metric(name, pairs, int((~known).sum()), better.get(name.partition(",")[0])))
    return TaskPair(
        task,
        len(shared),
        metrics,
        sorted(doc_id for key, doc_id in our_ids.items() if key not in their_ids),
        sorted(doc_id for key, doc_id in their_ids.items() if key not in our_ids),
    )


def _refuse(differences: list[str], allow_different: bool) -> None:
    if differences and not allow_different:
        raise UsageError(
            "the runs differ in more than the model:\n  "
            + "\n  ".join(differences)
            + "\nrun them alike, or compare them as they are with --allow-different"
        )


def _tasks(baseline: Run, candidate: Run, only: Sequence[str]) -> tuple[list[str], list[str]]:
    """The tasks to compare, and those that only one of the runs has, a line each."""
    for task in only:
        baseline.require_task(task, "the baseline")
        candidate.require_task(task, "the candidate")
    shared = [task for task in baseline.tasks if task in candidate.tasks and (not only or task in only)]
    if not shared:
        raise UsageError(
            f"the runs have no task in common: {', '.join(baseline.tasks)} and {', '.join(candidate.tasks)}"
        )
    alone = [] if only else sorted({*baseline.tasks} ^ {*candidate.tasks})
    return shared, [f"task {task} is only in the {_side(task, baseline)}" for task in alone]


def _side(task: str, baseline: Run) -> str:
    return "baseline" if task in baseline.tasks else "candidate"


def _unequal(task: str, ours: Mapping[str, Any], theirs: Mapping[str, Any], suffix: str = "") -> dict[str, str]:
    """A line for each name whose values differ; a name that is not there has the value None."""

    def said(side: Mapping[str, Any], name: str) -> str:
        if name not in side:
            return "not recorded"
        return "none" if side[name] is None else repr(side[name])

    return {
        name: f"{task}: {name}{suffix} is {said(ours, name)} in the baseline and {said(theirs, name)} in the candidate"
        for name in sorted({*ours, *theirs})
        if ours.get(name) != theirs.get(name)
    }


def _settings(run: Run, task: str) -> dict[str, Any]:
    """What must be equal for every task and model."""
    results = run.results
    return {
        "task version": (results.get("versions") or {}).get(task),
        "few-shot examples": (results.get("n-shot") or {}).get(task),
        "chat template": results.get("chat_template_sha"),
        "system instruction": results.get("system_instruction_sha"),
    }


def _generation(run: Run, task: str) -> dict[str, Any]:
    """What must be equal beside that where the model was another one than `eager`."""
    config = (run.results.get("configs") or {}).get(task) or {}
    return {"--gen_kwargs": run.config.get("gen_kwargs") or {}, "generation": config.get("generation_kwargs")}


def _options(pool: Mapping[str, Any]) -> dict[str, Any]:
    """What must be equal beside that where it was `eager`: the resolved options.

    `parallel` does not branch, whatever the option says; a run made before the option existed branched as in the paper.
    """
    options = {"branching": "top2", **pool["options"]}
    if options.get("strategy") == "parallel":
        options["branching"] = None
    return {name: value for name, value in options.items() if name not in _SAME_RESULT_SAME_MEANING}


def _is_new_default(name: str, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    """Whether one side was made before the option existed, or when it had gone, and the other left it as it is.

    A baseline then goes on serving after an update that adds an option or removes one. A value that somebody chose is
    a difference.
    """
    from eager_lmeval.algorithm.options import default_of, is_option

    if (name in ours) == (name in theirs) or not is_option(name):
        return False
    return bool({**ours, **theirs}[name] == default_of(name))


def _higher_is_better(run: Run, task: str) -> Mapping[str, bool | None]:
    return (run.results.get("higher_is_better") or {}).get(task) or {}
