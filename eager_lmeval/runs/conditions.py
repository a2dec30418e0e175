"""May two runs of a task be compared, and in what do they differ? The only answer to both.

`compare` and `track` put two checkpoints side by side, which should differ in nothing but the model. `leaderboard`
ranks models and methods, whose chat templates and options of branching may differ.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from eager_lmeval.runs.documents import Columns, columns
from eager_lmeval.runs.run import Run

__all__ = ["Difference", "Side", "but_for_its_seed", "compared", "ranked"]

_SAME_RESULT_SAME_MEANING = frozenset({"seed", "max_rows"})
"""Options that may differ: a seed is another draw of the same thing, and the batch does not change a result."""
_SAMPLING = ("temperature", "top_p", "top_k", "min_p", "do_sample", "max_gen_toks", "until")
_TEMPLATE = "chat template"
_FIXED_DATE = "a chat template that prints the date makes prompts differ: pass a fixed one with chat_template_args"


class Side(NamedTuple):
    """One run of a task, as it is called, and its documents."""

    name: str
    run: Run
    documents: Columns


class Difference(NamedTuple):
    """One thing in which two runs differ, in a line."""

    text: str
    refused: bool
    """Whether it makes a difference of the figures something else than the model's; else a reader should know it."""


def compared(task: str, first: Side, second: Side) -> list[Difference]:
    """In what two runs differ beside the model."""
    ours, theirs = _asked(first.run, task), _asked(second.run, task)
    found = [Difference(line, True) for line in _unequal(task, first, second, ours, theirs).values()]
    if not found:
        found += [Difference(line, True) for line in _prompts(task, first, second)]
    pools = first.run.pools(task), second.run.pools(task)
    if bool(pools[0]) != bool(pools[1]):
        without, made = (second, first) if pools[0] else (first, second)
        text = f"{task}: {without.name} was not made with --model eager, {made.name} was"
        return [*found, Difference(text, True)]
    if len(pools[0]) != len(pools[1]):
        text = f"{task}: {first.name} has {len(pools[0])} sets of options, {second.name} {len(pools[1])}"
        return [*found, Difference(text, True)]
    if not pools[0]:
        generation = _unequal(task, first, second, _generation(first.run, task), _generation(second.run, task))
        return [*found, *(Difference(line, True) for line in generation.values())]
    for number, (own, other) in enumerate(zip(*(map(_options, some) for some in pools), strict=True), 1):
        suffix = f" (option set {number})" if len(pools[0]) > 1 else ""
        for name, line in _unequal(task, first, second, own, other, suffix).items():
            is_new = _is_new_default(name, own, other)
            remark = ": the default of an option that one of the releases lacks" if is_new else ""
            found.append(Difference(line + remark, not is_new))
    return found


def ranked(task: str, first: Side, second: Side) -> list[Difference]:
    """In what two runs differ beside model and method: a method of branching may, how a token is drawn may not."""
    ours, theirs = _conditions(first.run, task), _conditions(second.run, task)
    lines = _unequal(task, first, second, ours, theirs)
    found = [
        Difference(line + ("; prompts differ by it" if name == _TEMPLATE else ""), name != _TEMPLATE)
        for name, line in lines.items()
    ]
    if _TEMPLATE not in lines:
        found += [Difference(line, True) for line in _prompts(task, first, second)]
    if first.documents.ids.keys() != second.documents.ids.keys():
        shared = len(first.documents.ids.keys() & second.documents.ids.keys())
        found.append(Difference(f"{task}: {first.name} and {second.name} have only {shared} documents in common", True))
    return found


def but_for_its_seed(run: Run) -> str:
    """Model, tasks, prompts and options of a run; equal for runs that differ in nothing but their seed."""
    made: list[Any] = [
        [
            pool["task"],
            {name: value for name, value in pool["options"].items() if name not in _SAME_RESULT_SAME_MEANING},
        ]
        for pool in run.all_pools
    ] or [run.config.get("model_args"), run.config.get("gen_kwargs")]
    asked = [[_conditions(run, task), columns(run, task).prompts_digest] for task in run.tasks]
    return json.dumps([run.model, run.tasks, made, asked], sort_keys=True, default=str)


def _conditions(run: Run, task: str) -> dict[str, Any]:
    """What was asked, and how tokens were drawn."""
    pools = run.pools(task)
    options: Mapping[str, Any] = pools[0]["options"] if pools else {}
    given = run.config.get("gen_kwargs")
    known: Mapping[str, Any] = options or {
        **(_generation(run, task)["generation"] or {}),
        **(given if isinstance(given, dict) else {}),
    }
    sampling = {name: known.get(name) for name in _SAMPLING}
    if sampling["do_sample"] is None and sampling["temperature"]:
        sampling["do_sample"] = True  # as the harness reads it: absent with a temperature means sampling
    return _asked(run, task) | sampling


def _prompts(task: str, first: Side, second: Side) -> list[str]:
    """That the prompts differ where the same documents were asked; nothing where the harness logged none."""
    ours, theirs = first.documents, second.documents
    shared = [key for key in ours.prompts if key in theirs.prompts]
    if shared:
        other = sum(ours.prompts[key] != theirs.prompts[key] for key in shared)
        what = f"the prompts of {other:,} of {len(shared):,} shared documents" if other else ""
    else:
        differ = ours.ids.keys() == theirs.ids.keys() and ours.prompts_digest != theirs.prompts_digest
        what = "the prompts" if differ and ours.prompts_digest and theirs.prompts_digest else ""
    if not what:
        return []
    return [f"{task}: {what} are others in {second.name} than in {first.name}, under the same version; {_FIXED_DATE}"]


def _unequal(
    task: str, first: Side, second: Side, ours: Mapping[str, Any], theirs: Mapping[str, Any], suffix: str = ""
) -> dict[str, str]:
    """A line for each name whose values differ; a name that is not there has the value None."""

    def said(side: Mapping[str, Any], name: str) -> str:
        if name not in side:
            return "not recorded"
        return "none" if side[name] is None else repr(side[name])

    return {
        name: f"{task}: {name}{suffix} is {said(ours, name)} in {first.name} and {said(theirs, name)} in {second.name}"
        for name in sorted({*ours, *theirs})
        if ours.get(name) != theirs.get(name)
    }


def _asked(run: Run, task: str) -> dict[str, Any]:
    """What must be equal for every task and model."""
    results = run.results
    return {
        "task version": (results.get("versions") or {}).get(task),
        "few-shot examples": (results.get("n-shot") or {}).get(task),
        _TEMPLATE: results.get("chat_template_sha"),
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
