"""`eager-lmeval rescore`: grades logged samples again, without a model, and writes new results of the same layout.

What a harness run logged with `--log_samples` holds the documents with their labels and every tree, so after a fix of a
grader the numbers can be made anew from it. Unchanged graders give every number again to the last digit. Each run keeps
its own date and gets one new results file; rescoring it again replaces that one.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from eager_lmeval import __version__
from eager_lmeval.commands.arguments import path_argument
from eager_lmeval.errors import UsageError

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from eager_lmeval.runs.regrade import Regraded

__all__ = ["add_parser", "run"]

_BY_TASK = ("results", "configs", "versions", "n-shot", "higher_is_better", "n-samples", "task_hashes")


def add_parser(subparsers: _SubParsersAction[argparse.ArgumentParser]) -> None:
    summary = "grade logged samples again, without a model, and write new results"
    parser = subparsers.add_parser(
        "rescore",
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}: samples_TASK_rescored_DATE.jsonl and, one a run, "
        f"results_rescored_DATE.json, with the run's own date. They replace those of an earlier rescoring of the run. "
        f"Aggregates over groups are left out.",
    )
    parser.add_argument(
        "samples", nargs="+", type=path_argument, metavar="SAMPLES.jsonl", help="what --log_samples wrote"
    )
    parser.add_argument(
        "-o", "--output_path", type=path_argument, metavar="DIR", help="folder (default: that of the samples)"
    )
    parser.add_argument(
        "--confirm_run_unsafe_code", action="store_true", help="run the programs of tasks whose answers are code"
    )
    parser.set_defaults(run=run)


class _Logged(NamedTuple):
    """What is to be rescored of one run."""

    samples: dict[str, Path]
    """By task."""
    original: Path | None
    """The results file that the run wrote beside them, if it is there."""
    target: Path
    """The results file to write; the samples come beside it."""


def run(args: argparse.Namespace) -> int:
    """Rescores each run and prints what changed; UsageError where a file cannot be graded."""
    for logged in _by_run(args.samples, args.output_path):
        _rescore(logged, args.confirm_run_unsafe_code)
    return 0


def _by_run(paths: Sequence[Path], output: Path | None) -> list[_Logged]:
    """Files of one folder and date are one run's; UsageError before anything is written."""
    from eager_lmeval.runs.run import RunName

    now = datetime.now().isoformat().replace(":", "-")
    found: dict[tuple[Path, str], list[tuple[Path, RunName]]] = {}
    for path in dict.fromkeys(paths):
        _check(path)
        name = RunName.read(path) or RunName(path.stem.removeprefix("samples_"), now, False)
        found.setdefault((path.parent, name.date), []).append((path, name))
    runs: dict[Path, _Logged] = {}
    for (folder, date), files in found.items():
        rescored = all(name.rescored for _, name in files)
        taken: dict[str, Path] = {}
        for path, name in files:
            task = name.task or ""
            if name.rescored != rescored:
                print(f"note: left out {path}, which an earlier rescoring of the same run made", file=sys.stderr)
            elif task in taken:
                raise UsageError(f"{taken[task]} and {path} would both be task {task!r}; rescore them apart")
            else:
                taken[task] = path
        original = folder / f"results{'_rescored' if rescored else ''}_{date}.json"
        if not original.is_file() and not rescored:  # --output_path may have named another file
            original = next(folder.glob(f"*_{date}.json"), original)
        target = (output or folder) / f"results_rescored_{date}.json"
        if target in runs:
            raise UsageError(
                f"{folder} and {next(iter(runs[target].samples.values())).parent} hold runs of the same date, which "
                f"{target} cannot both be of; rescore them apart, or without --output_path"
            )
        runs[target] = _Logged(taken, original if original.is_file() else None, target)
    return list(runs.values())


def _check(path: Path) -> None:
    if path.is_dir():
        raise UsageError(f"{path} is a folder; give the samples_*.jsonl in it")
    if not path.is_file():
        raise UsageError(f"{path} does not exist; give the samples_*.jsonl that lm_eval wrote with --log_samples")
    if path.name.startswith("results_"):
        raise UsageError(f"{path} holds results; give the samples_*.jsonl beside it")


def _rescore(logged: _Logged, may_run_code: bool) -> None:
    """Grades all samples of a run, and only then puts the new files into their places."""
    from eager_lmeval.commands.writing import save_text
    from eager_lmeval.runs.regrade import regrade
    from eager_lmeval.runs.run import read_run

    run = read_run(logged.original) if logged.original else None
    original = run.results if run else {}
    earlier = read_run(logged.target).results if logged.target.is_file() else {}
    places = {
        task: logged.target.with_name(f"samples_{task}_{logged.target.stem.removeprefix('results_')}.jsonl")
        for task in logged.samples
    }
    made = [folder for folder in (logged.target.parent, *logged.target.parent.parents) if not folder.exists()]
    partial = {task: place.with_name(f"{place.name}.partial") for task, place in places.items()}
    graded: list[tuple[Path, Regraded]] = []
    try:
        for task, path in logged.samples.items():
            save_text(partial[task], "")
            with partial[task].open("w", encoding="utf-8") as out:
                graded.append((path, regrade(path, task, run.documents(task) if run else None, out, may_run_code)))
        content = _results(graded, logged, original, earlier)
        for task, place in places.items():
            partial[task].replace(place)
    except BaseException:
        for place in partial.values():
            place.unlink(missing_ok=True)
        for folder in made:
            with suppress(OSError):  # it is not there yet, or somebody else's file is in it
                folder.rmdir()
        raise
    save_text(logged.target, json.dumps(content, indent=2, ensure_ascii=False))
    for _, one in graded:
        _print(one)
    print(f"{'replaced' if earlier else 'wrote'} {logged.target}")


def _results(
    graded: Sequence[tuple[Path, Regraded]], logged: _Logged, original: Mapping[str, Any], earlier: Mapping[str, Any]
) -> dict[str, Any]:
    """The run's results file with the tasks' new results in it, or as much of one as the samples give.

    Other tasks of the run that were rescored earlier stay as they are.
    """
    content: dict[str, Any] = dict(original)
    content.pop("groups", None)
    content["group_subtasks"] = {}
    tasks = {one.task: _entries(one, original) for _, one in graded}
    for key in _BY_TASK:
        content[key] = dict(earlier.get(key) or {}) | {task: own[key] for task, own in tasks.items() if key in own}
    about = {
        one.task: {
            "samples": path.name,
            "eager_lmeval": __version__,
            "date": datetime.now().isoformat(timespec="seconds"),
            "documents_changed": one.changed,
        }
        for path, one in graded
    }
    before = earlier.get("rescored") or {}
    content["rescored"] = {
        "results": logged.original.name if logged.original else None,
        "tasks": (before.get("tasks") or {}) | about,
    }
    return content


def _entries(one: Regraded, original: Mapping[str, Any]) -> dict[str, Any]:
    """What stands under the task's name; what the run did not record of it is made from the samples."""
    task = one.task
    known: dict[str, Any] = {
        "configs": {"task": task},
        "n-samples": {"original": one.documents, "effective": one.documents},
    }
    recorded = {key: original[key][task] for key in _BY_TASK if task in (original.get(key) or {})}
    alias = recorded.get("results", {}).get("alias", task)
    head = {"name": task, "alias": alias, "sample_len": one.documents}
    entries = known | recorded
    entries["configs"] = entries["configs"] | {"figures": one.figures}
    return entries | {"higher_is_better": one.higher_is_better, "results": {**head, **one.results}}


def _print(one: Regraded) -> None:
    from eager_lmeval.runs.regrade import same
    from eager_lmeval.runs.run import is_companion

    if not one.before:
        print(f"{one.task}: {one.documents} documents graded, which the run had left ungraded")
    else:
        print(f"{one.task}: {one.documents} documents graded again, {one.changed} changed")
    for key, new in one.figures.items():
        old = one.before.get(key)
        if key in one.before and not same(old, new):
            print(f"  {key}: {_shown(old)} -> {_shown(new)}")
        elif key not in one.before and not is_companion(key.partition(",")[0]):
            print(f"  {key}: {_shown(new)}")


def _shown(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)
