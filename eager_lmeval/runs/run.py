"""The files that a run of the harness leaves behind: `results_*.json` and, with `--log_samples`, `samples_*.jsonl`."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from eager_lmeval.errors import UsageError, near_name
from eager_lmeval.runs.inspect_log import INSPECT, is_log, log_results, log_samples
from eager_lmeval.runs.results import read_results
from eager_lmeval.runs.samples import Sample, as_number, read_samples

__all__ = [
    "ROUNDS",
    "UNGRADED",
    "Run",
    "RunName",
    "find_run",
    "find_runs",
    "is_companion",
    "iter_samples",
    "read_run",
    "results_files",
    "sample_metrics",
]

UNGRADED = "bypass"
"""The harness's name for the only metric of ``--predict_only``, which has no value."""
ROUNDS = "rounds"
"""What `strategy=consistency` of release 0.1 is called, which was no race: rounds of trees until a vote settled."""
_COMPANION = re.compile(
    r".*_(stderr|ci95|stderr_sampling|if_right)|mean_(tokens|sequences|branches)|scored(@\d+)?"
    rf"|max_sequences|entropy_threshold|temperature|labels_used|{UNGRADED}"
)
"""Error bars of a metric, the same cost as a mean, counts of documents, options of the run, and no metric at all."""

_DATE = r"\d{4}-\d\d-\d\dT[\d.-]+"
_NAME = re.compile(rf"(?P<kind>results|samples_(?P<task>.+?))(?P<again>_rescored)?_(?P<date>{_DATE})")
_OWN_NAME = re.compile(rf"(?!samples_).+_(?P<date>{_DATE})")
"""What the harness makes of a file that ``--output_path`` names."""
_LOG_NAME = re.compile(r".+\.eval|\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d[+-]\d\d-\d\d_.+\.json")
"""What Inspect calls its logs."""
_DEEPEST = 3
"""Levels of folders searched below the given one: the harness makes one for the model, users more."""


class RunName(NamedTuple):
    """What the name of a run's file says."""

    task: str | None
    """Of a samples file."""
    date: str
    """The stamp that all files of one run share."""
    rescored: bool

    @classmethod
    def read(cls, path: Path) -> RunName | None:
        """None for a name that neither the harness nor `eager-lmeval rescore` gives."""
        if found := _NAME.fullmatch(path.stem):
            return cls(found["task"], found["date"], found["again"] is not None)
        own = _OWN_NAME.fullmatch(path.stem) if path.suffix == ".json" else None
        return cls(None, own["date"], False) if own else None


@dataclass(frozen=True)
class Run:
    """One results file and the samples files that were written with it."""

    results_file: Path
    results: Mapping[str, Any]

    @property
    def model(self) -> str:
        """What the harness calls the model: a name on the hub, or a folder."""
        return str(self.results.get("model_name") or self.config.get("model_args") or "unknown model")

    @property
    def config(self) -> Mapping[str, Any]:
        config: Mapping[str, Any] = self.results.get("config") or {}
        return config

    @property
    def tasks(self) -> list[str]:
        """The tasks that were scored, without the groups they belong to."""
        return list(self.results.get("configs") or {})

    def require_task(self, task: str, side: str, tasks: Sequence[str] | None = None) -> None:
        """UsageError if ``task`` is none of ``tasks`` (None: all of the run); ``side`` is what the run is called."""
        known = self.tasks if tasks is None else tasks
        if task not in known:
            near = near_name(task, known)
            hint = f"did you mean {near!r}?" if near else f"it has {', '.join(known)}"
            raise UsageError(f"{side} has no task {task!r}; {hint}")

    @cached_property
    def all_pools(self) -> list[Mapping[str, Any]]:
        """What `eager` says of its pools (options, ledger, cost); nothing for another model of the harness."""
        return list(map(_as_made, (self.config.get("eager") or {}).get("pools") or []))

    def pools(self, task: str) -> list[Mapping[str, Any]]:
        """Those of a task, which the harness from 0.5 on lists as ``group::task`` where it ran as a group's."""
        return [pool for pool in self.all_pools if pool["task"] in (task, task.rpartition("::")[2])]

    @property
    def labels_used(self) -> bool:
        """Whether right answers decided who got the saved budget, which makes the result an upper bound."""
        return any(pool.get("labels_used") for pool in self.all_pools)

    def values(self, task: str) -> dict[tuple[str, str], float]:
        """A task's aggregates that are numbers, by metric and filter (`oracle` where labels were used)."""
        dumped = (self.results.get("configs") or {}).get(task) or {}  # ours with all figures; the table shows some
        found = (self.results["results"].get(task) or {}) | dumped.get("figures", {})
        pairs = ((key.partition(","), value) for key, value in found.items())
        numbers = {(name, variant): as_number(value) for (name, comma, variant), value in pairs if comma}
        return {key: number for key, number in numbers.items() if number is not None}

    def device_seconds(self, task: str) -> float:
        """Seconds that the task's pools held devices, of all devices together; NaN where that is not known."""
        held = [pool.get("device_seconds", pool["seconds"] * pool.get("processes", 1)) for pool in self.pools(task)]
        return math.fsum(held) if held else math.nan

    def value(self, task: str, metric: str) -> float:
        """An aggregate, under whichever filter the task has it first; NaN where it has none."""
        return next((value for (name, _), value in self.values(task).items() if name == metric), math.nan)

    def samples_file(self, task: str) -> Path:
        """The samples of a task; UsageError if they were not logged."""
        name = RunName.read(self.results_file)
        of_harness = self.results_file.stem.startswith("results_") or name is None
        stamp = self.results_file.stem.removeprefix("results_") if of_harness or name is None else name.date
        if "/" in task:
            raise UsageError(
                f"task {task!r} of {self.results_file} has no samples: lm_eval cannot write a file of that name; give "
                f"the task a name without '/' and run lm_eval again"
            )
        path = self.results_file.with_name(f"samples_{task}_{stamp}.jsonl")
        if not path.is_file():
            raise UsageError(
                f"{self.results_file} has no samples of task {task!r} beside it (looked for {path.name}); "
                f"run lm_eval with --log_samples"
            )
        return path

    def documents(self, task: str) -> int | None:
        """How many documents the harness says it scored."""
        counted = (self.results.get("n-samples") or {}).get(task) or {}
        effective: int | None = counted.get("effective")
        return effective


def _as_made(pool: Mapping[str, Any]) -> Mapping[str, Any]:
    """A pool with its strategy called by what it was; every race has recorded ``first_lanes``."""
    options = pool["options"]
    in_rounds = options["strategy"] == "consistency" and "first_lanes" not in options
    return {**pool, "options": {**options, "strategy": ROUNDS}} if in_rounds else pool


def find_runs(*paths: Path) -> list[Run]:
    """The runs at each results file or in each folder, oldest first, a run once; UsageError if one has none."""
    files = {file.resolve(): file for path in paths for file in results_files(path)}
    return list(map(read_run, files.values()))


def results_files(path: Path) -> list[Path]:
    """Results files by the date of their run, what was rescored after it; UsageError if there are none."""
    if path.is_file():
        if path.name.startswith("samples_"):
            raise UsageError(f"{path} holds samples; give the results_*.json beside it, or the folder of both")
        return [path]
    if not path.is_dir():
        if named := [file for file in path.parent.glob(f"{path.stem}_*.json") if _OWN_NAME.fullmatch(file.stem)]:
            return sorted(named, key=_age)  # --output_path named a file, and the harness put the date behind its name
        raise UsageError(f"{path} does not exist; give the --output_path of an lm_eval run, or a results_*.json in it")
    patterns = ["*/" * depth + f"*.{kind}" for depth in range(_DEEPEST + 1) for kind in ("json", "eval")]
    files = [file for pattern in patterns for file in path.glob(pattern) if _is_results(file)]
    if not files:
        raise UsageError(
            f"{path} holds no results_*.json, nor do the {_DEEPEST} levels of folders below it; "
            f"give the --output_path of an lm_eval run"
        )
    return sorted(files, key=_age)


def _is_results(file: Path) -> bool:
    named = (file.name.startswith("results_"), _OWN_NAME.fullmatch(file.stem), _LOG_NAME.fullmatch(file.name))
    return any(named)


def _age(file: Path) -> tuple[str, bool, str]:
    """Older files first; a name without a date is older than all."""
    name = RunName.read(file)
    return (name.date, name.rescored, str(file)) if name else ("", False, str(file))


def find_run(path: Path) -> tuple[Run, str | None]:
    """The newest run at a path, and a remark if there were older ones; UsageError if they are of several models."""
    runs = find_runs(path)
    models = sorted({run.model for run in runs})
    if len(models) > 1:
        raise UsageError(f"{path} holds runs of several models ({', '.join(models)}); give the folder or file of one")
    if len(runs) == 1:
        return runs[0], None
    return runs[-1], f"{path} holds {len(runs)} runs; the newest is taken, {runs[-1].results_file.name}"


def iter_samples(run: Run, task: str) -> Iterator[Sample]:
    """The samples of a task, one a document and filter; UsageError as for `read_samples`."""
    if run.config.get("model") == INSPECT:
        return log_samples(run.results_file)
    return read_samples(run.samples_file(task), run.documents(task))


def is_companion(metric: str) -> bool:
    """Whether a metric only accompanies others: error bars, counts of documents, options of the run."""
    return _COMPANION.fullmatch(metric) is not None


def sample_metrics(sample: Sample, suffix: str = "") -> dict[str, float]:
    """A sample's metrics that are numbers, by name; undefined is NaN. What only accompanies them is left out.

    With a ``suffix`` what accompanies them under it, such as `figures.SAMPLING`, by the metric's name.
    """
    found = {
        name.removesuffix(suffix): as_number(value)
        for name, value in sample.values.items()
        if (name.endswith(suffix) if suffix else not is_companion(name))
    }
    return {name: number for name, number in found.items() if number is not None}


def read_run(path: Path) -> Run:
    """A results file, or a log of Inspect; UsageError where it is none, or was cut short."""
    return Run(path, log_results(path) if is_log(path) else read_results(path))
