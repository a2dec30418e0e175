"""The file of a history: one JSON line a run and one a mark, appended and never changed, so that git can merge it.

`record` makes a line of a run's files.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, TypeAdapter, ValidationError, model_validator
from typing_extensions import Self

from eager_lmeval.errors import UsageError, problem
from eager_lmeval.runs.documents import Columns, Key, columns
from eager_lmeval.runs.results import Results
from eager_lmeval.runs.run import Run, find_run
from eager_lmeval.runs.samples import Count, Finite

__all__ = ["FORMAT", "Entry", "History", "Mark", "Recorded", "append", "read_history", "record", "run_id"]

FORMAT: Literal[1] = 1
_HASH = 12
"""Characters of a hash that are kept: two documents of a million are alike once in 500 times."""
_CONFIG = ("model", "model_args", "gen_kwargs", "model_dtype", "model_sha", "device", "limit", "torch_seed")
_KEPT = ("model_name", "chat_template_sha", "system_instruction_sha")
_OF_TASKS = ("versions", "n-shot", "n-samples")
_STRICT = ConfigDict(extra="forbid", strict=True, frozen=True)
_Id = Annotated[str, Field(pattern=r"^[0-9a-f]{12}$")]
_Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{12}(\+\d+)?$")]
"""The beginning of a document's hash; +1 for the second of equal documents."""


class Recorded(BaseModel):
    """One task of a run, document by document; every list is in the order of ``documents``."""

    model_config = _STRICT

    documents: Annotated[list[_Hash], Field(min_length=1)]
    ids: list[Count]
    prompts: str
    """A digest of all prompts; empty where the harness logged none."""
    values: dict[str, list[Finite | None]]
    doubts: dict[str, dict[_Hash, tuple[Finite, Finite]]] = {}
    """By metric and document what hangs on answers without a verdict (`runs.documents.Document.doubts`)."""

    @model_validator(mode="after")
    def _as_many_of_each(self) -> Self:
        lengths = [len(self.ids), *map(len, self.values.values())]
        if any(length != len(self.documents) for length in lengths):
            raise ValueError("a column has another length than the documents")
        if len(set(self.documents)) != len(self.documents):
            raise ValueError("a document comes twice")
        return self

    def to_columns(self) -> Columns:
        keys = [Key(*_split(text)) for text in self.documents]
        values = {
            name: {key: math.nan if value is None else value for key, value in zip(keys, column, strict=True)}
            for name, column in self.values.items()
        }
        doubts = {name: {Key(*_split(text)): pair for text, pair in of.items()} for name, of in self.doubts.items()}
        return Columns(values, dict(zip(keys, self.ids, strict=True)), {}, self.prompts, doubts=doubts)


class Entry(BaseModel):
    """A run: when and with what it was made, what `compare` has to know of it, and its documents."""

    model_config = _STRICT

    kind: Literal["run"]
    format: Literal[1]
    run: _Id
    """The beginning of its results file's SHA-256."""
    date: str
    """When it began: ISO 8601, UTC."""
    commit: str | None
    environment: dict[str, str | None]
    """Device, dtype, and versions of torch, transformers, lm_eval and eager_lmeval."""
    results_file: str
    """From the history's folder; the file need not be there any more."""
    report: str | None = None
    results: Annotated[Results, PlainSerializer(dict, return_type=dict[str, Any])]
    """Of the results file what says how the run was made; without aggregates. Written as it is, since pydantic 2.10 by
    itself leaves out of a `TypedDict` in a model what it does not name, such as the seed."""
    tasks: Annotated[dict[str, Recorded], Field(min_length=1)]

    def to_run(self) -> Run:
        """As `compare` takes a run; its documents are those of ``tasks``."""
        return Run(Path(self.results_file), self.results)

    @property
    def seed(self) -> int | None:
        """The harness's ``--seed``."""
        seed = self.to_run().config.get("torch_seed")
        return seed if isinstance(seed, int) else None

    @property
    def tokens(self) -> float:
        """Decoded in all; NaN where it is not known."""
        columns = [task.values.get("tokens") for task in self.tasks.values()]
        if any(column is None or None in column for column in columns):
            return math.nan
        return math.fsum(value for column in columns for value in column or () if value is not None)


class Mark(BaseModel):
    """A decision about runs: blessed as the baseline, put into quarantine, or let out of it."""

    model_config = _STRICT

    kind: Literal["bless", "quarantine", "release"]
    format: Literal[1]
    runs: Annotated[list[_Id], Field(min_length=1)]
    date: str
    reason: str


_LINE: TypeAdapter[Entry | Mark] = TypeAdapter(Annotated[Entry | Mark, Field(discriminator="kind")])


@dataclass(frozen=True)
class History:
    """What a file says, by date."""

    path: Path
    entries: Sequence[Entry]
    blessed: Sequence[str]
    """The runs whose mean is the baseline; empty where none was blessed, or all that were are in quarantine."""
    quarantined: Mapping[str, str]
    """The reasons."""

    @property
    def counted(self) -> list[Entry]:
        """All but those in quarantine, oldest first."""
        return [entry for entry in self.entries if entry.run not in self.quarantined]

    def find(self, name: str) -> Entry:
        """The run of an id, its beginning, or a results file; UsageError if there is none or more than one."""
        found = [entry for entry in self.entries if name and entry.run.startswith(name)]
        if not found and Path(name).exists():
            wanted = run_id(find_run(Path(name))[0])
            found = [entry for entry in self.entries if entry.run == wanted]
            if not found:
                raise UsageError(f"{name} is not in {self.path}; add it with eager-lmeval track add")
        if not found:
            known = ", ".join(entry.run for entry in self.entries[-5:])
            raise UsageError(f"{self.path} has no run {name!r}; give an id, its beginning, or a path; last are {known}")
        if len(found) > 1:
            raise UsageError(f"{name!r} begins several ids: {', '.join(entry.run for entry in found)}; give more of it")
        return found[0]


def read_history(path: Path) -> History:
    """Reads and checks a history. UsageError for a damaged line, and for marks of runs that are not there.

    The order of the lines does not matter, and a line that stands twice counts once, so that git may merge two branches
    by taking the lines of both (``merge=union`` in .gitattributes).
    """
    if not path.is_file():
        raise UsageError(f"{path} does not exist; eager-lmeval track add RUN --history {path} makes it")
    entries: dict[str, Entry] = {}
    marks: list[Mark] = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            read = _LINE.validate_json(line)
        except ValidationError as error:
            raise UsageError(
                f"{where} is no whole line of a history ({problem(error)}); "
                f"restore the line from git, or remove it and add its run again"
            ) from error
        if isinstance(read, Mark):
            if read not in marks:
                marks.append(read)
        elif entries.setdefault(read.run, read) != read:
            raise UsageError(f"{where}: run {read.run} stands in another line with other content; keep one of the two")
    for mark in marks:
        if missing := [run for run in mark.runs if run not in entries]:
            raise UsageError(f"{path}: a {mark.kind} of {mark.date} names run {missing[0]}, which the file lacks")
    return _history(path, list(entries.values()), sorted(marks, key=lambda mark: mark.date))


def append(path: Path, line: Entry | Mark) -> None:
    """Adds one line and flushes it to the disk; a last line that lacks its end gets it first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = line.model_dump_json(exclude_none=isinstance(line, Mark)) + "\n"
    with path.open("a+b") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                text = "\n" + text
        file.write(text.encode("utf-8"))
        file.flush()
        os.fsync(file.fileno())


def _history(path: Path, entries: list[Entry], marks: Sequence[Mark]) -> History:
    quarantined: dict[str, str] = {}
    for mark in marks:
        for run in mark.runs:
            if mark.kind == "quarantine":
                quarantined[run] = mark.reason
            elif mark.kind == "release":
                quarantined.pop(run, None)
    blessed: list[str] = []
    for mark in marks:
        if mark.kind == "bless":
            blessed = [run for run in mark.runs if run not in quarantined] or blessed
    return History(path, sorted(entries, key=lambda entry: (entry.date, entry.run)), blessed, quarantined)


def _split(text: str) -> tuple[str, int]:
    doc_hash, _, copy = text.partition("+")
    return doc_hash, int(copy or 0)


def record(run: Run, history: Path, commit: str | None, report: str | None) -> Entry:
    """The line of a run; ``commit`` is the harness's own where it is None. UsageError for what cannot be read."""
    tasks = {task: _task(run, task) for task in run.tasks}
    stamp = datetime.fromtimestamp(float(run.results.get("date") or 0), tz=timezone.utc)
    return Entry(
        kind="run",
        format=FORMAT,
        run=run_id(run),
        date=stamp.isoformat(timespec="seconds"),
        commit=commit or run.results.get("git_hash") or None,
        environment=_environment(run),
        results_file=os.path.relpath(run.results_file, history.parent),
        report=report,
        results=cast(Results, _results(run, tasks)),  # Entry checks it
        tasks=tasks,
    )


def run_id(run: Run) -> str:
    """The beginning of the SHA-256 of the results file, which holds the run's date and scores."""
    return hashlib.sha256(run.results_file.read_bytes()).hexdigest()[:_HASH]


def _task(run: Run, task: str) -> Recorded:
    found = columns(run, task)
    texts = [str(key._replace(doc_hash=key.doc_hash[:_HASH])) for key in found.ids]
    return Recorded(
        documents=texts,
        ids=list(found.ids.values()),
        prompts=found.prompts_digest,
        values={
            name: [_short(values.get(key, math.nan)) for key in found.ids] for name, values in found.values.items()
        },
        doubts={
            name: {text: of[key] for key, text in zip(found.ids, texts, strict=True) if key in of}
            for name, of in found.doubts.items()
        },
    )


def _short(value: float) -> float | None:
    """Six significant digits."""
    return None if math.isnan(value) else float(f"{value:.6g}")


def _environment(run: Run) -> dict[str, str | None]:
    results, info = run.results, str(run.results.get("pretty_env_info") or "")
    torch = re.search(r"PyTorch version: (\S+)", info)
    gpu = re.search(r"GPU 0: (.+)", info)
    eager = run.config.get("eager") or {}
    return {
        "device": gpu[1].strip() if gpu else "cpu",
        "dtype": _text(run.config.get("model_dtype")),
        "torch": torch[1] if torch else None,
        "transformers": _text(results.get("transformers_version")),
        "lm_eval": _text(results.get("lm_eval_version")),
        "eager_lmeval": _text(eager.get("version")),
    }


def _results(run: Run, tasks: Mapping[str, Recorded]) -> dict[str, Any]:
    """What `compare` reads of a results file beside the samples."""
    results = run.results
    kept: dict[str, Any] = {name: results.get(name) for name in _KEPT}
    kept |= {name: {task: (results.get(name) or {}).get(task) for task in tasks} for name in _OF_TASKS}
    better = results.get("higher_is_better") or {}
    kept["higher_is_better"] = {
        task: {name: (better.get(task) or {}).get(name.partition(",")[0]) for name in recorded.values}
        for task, recorded in tasks.items()
    }
    configs = results.get("configs") or {}
    kept["configs"] = {task: {"generation_kwargs": configs[task].get("generation_kwargs")} for task in tasks}
    config = {name: run.config.get(name) for name in _CONFIG}
    if run.all_pools:
        pools = [{**pool, "ledger": {**pool["ledger"], "grants": {}}} for pool in run.all_pools]
        for pool in pools:
            pool.pop("engine", None)
        config["eager"] = {"pools": pools}
    return kept | {"results": {}, "config": config}


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
