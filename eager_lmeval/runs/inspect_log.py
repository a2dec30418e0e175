"""Logs of Inspect (`inspect_ai`), as `.eval` and as `.json`: each becomes what a run of the harness leaves behind.

An epoch is a draw: a document's value is its mean over epochs. Needs no `inspect_ai`; of its newer releases
an `.eval` is packed by zstd, for which `zipfile_zstd` has to be there.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import statistics
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic_core import from_json
from typing_extensions import NotRequired, TypedDict  # pydantic does not take those of `typing` before Python 3.12

from eager_lmeval.errors import UsageError, problem
from eager_lmeval.runs.samples import Logged, Sample, as_number

__all__ = ["INSPECT", "is_log", "log_results", "log_samples"]

INSPECT = "inspect"
"""What stands in the place of the harness's ``--model``."""
_FORMAT = 2
_ANY = ConfigDict(extra="allow")
_BEGINNING = re.compile(rb'\s*\{\s*"version":\s*\d+,\s*"status":')
_GRADES = {"C": 1.0, "I": 0.0, "P": 0.5, "N": 0.0}
"""Inspect's letters: correct, incorrect, partly, no answer."""


class _Eval(TypedDict):
    __pydantic_config__ = _ANY  # type: ignore[misc]  # pydantic's way to configure a TypedDict

    task: str
    model: str
    created: NotRequired[str]
    task_version: NotRequired[int | str | None]
    model_generate_config: NotRequired[dict[str, Any]]
    revision: NotRequired[dict[str, Any] | None]


class _Header(TypedDict):
    __pydantic_config__ = _ANY  # type: ignore[misc]  # as above

    version: int
    status: str
    eval: _Eval


class _Sample(TypedDict):
    __pydantic_config__ = _ANY  # type: ignore[misc]  # as above

    id: int | str
    epoch: int
    input: Any
    target: Any
    scores: NotRequired[dict[str, dict[str, Any]] | None]
    output: NotRequired[dict[str, Any]]


_HEADER, _SAMPLE, _SAMPLES = TypeAdapter(_Header), TypeAdapter(_Sample), TypeAdapter(list[_Sample])


def is_log(path: Path) -> bool:
    """Whether a file is a log of Inspect, by its name or by how it begins."""
    if path.suffix == ".eval":
        return True
    with path.open("rb") as file:
        return _BEGINNING.match(file.read(200)) is not None


def log_results(path: Path) -> dict[str, Any]:
    """What a results file of the harness would say; UsageError for a log that is cut short or of another format."""
    header, samples = _read(path)
    about = header["eval"]
    task, config = about["task"], about.get("model_generate_config") or {}
    names = {name for sample in samples for name in _scores(sample)}
    if not names:
        raise UsageError(f"{path} holds no scores; run `inspect score` on it")
    return {
        "results": {task: {}},
        "configs": {task: {"task": task}},
        "versions": {task: about.get("task_version")},
        "higher_is_better": {task: {**dict.fromkeys(names, True), "tokens": False, "unscored": False}},
        "n-samples": {task: {"effective": len({sample["id"] for sample in samples})}},
        "config": {"model": INSPECT, "model_args": {}, "gen_kwargs": config, "torch_seed": config.get("seed")},
        "model_name": about["model"],
        "date": _seconds(about.get("created")),
        "git_hash": (about.get("revision") or {}).get("commit"),
    }


def log_samples(path: Path) -> Iterator[Sample]:
    """A document a sample, its epochs together; UsageError as for `log_results`."""
    _, samples = _read(path)
    names = sorted({name for sample in samples for name in _scores(sample)})
    by_id: dict[int | str, list[_Sample]] = {}
    for sample in samples:
        by_id.setdefault(sample["id"], []).append(sample)
    for place, (identity, epochs) in enumerate(by_id.items()):
        asked, target = _text(epochs[0]["input"]), _text(epochs[0]["target"])
        values = _values(epochs, names)
        texts = [_completion(epoch) for epoch in epochs]
        logged: dict[str, Any] = {
            "doc_id": place,
            "doc": {"id": identity, "input": asked},
            "target": target,
            "arguments": {"gen_args_0": {"arg_0": asked}},
            "resps": [texts],
            "filtered_resps": texts[:1],
            "filter": "none",
            "metrics": list(values),
            "doc_hash": _digest(json.dumps([identity, asked, target])),
            "prompt_hash": _digest(asked),
        }
        yield Sample(f"{path}, sample {identity}", Logged(**(logged | values)), None)  # type: ignore[typeddict-item]


def _values(epochs: Sequence[_Sample], names: Sequence[str]) -> dict[str, float]:
    """A document's metrics. Epochs without a score count as wrong beside others, and alone they leave it unscored."""
    values: dict[str, float] = {}
    scored = [_scores(epoch) for epoch in epochs]
    for name in names:
        known = [scores[name] for scores in scored if name in scores]
        lacking = len(epochs) - len(known)
        values[name] = math.fsum(known) / len(epochs) if known else math.nan
        several = len(known) > 1 and not lacking
        values[f"{name}_stderr_sampling"] = statistics.variance(known) / len(known) if several else math.nan
        if lacking:
            values[f"{name}_if_right"] = (math.fsum(known) + lacking) / len(epochs)
    values["unscored"] = float(not any(scored))
    usage: list[Any] = [((epoch.get("output") or {}).get("usage") or {}).get("output_tokens") for epoch in epochs]
    if all(isinstance(tokens, int) for tokens in usage):
        values["tokens"] = float(sum(usage))
    return values


def _read(path: Path) -> tuple[_Header, list[_Sample]]:
    try:
        if path.suffix != ".eval":
            data = path.read_bytes()
            return _header(path, data), _SAMPLES.validate_python(from_json(data).get("samples") or [])
        with suppress(ImportError):
            import zipfile_zstd  # type: ignore[import-not-found]  # noqa: F401  # teaches zipfile zstd
        with zipfile.ZipFile(path) as archive:
            header = _header(path, archive.read("header.json"))
            names = [name for name in archive.namelist() if re.fullmatch(r"samples/[^/]+\.json", name)]
            samples = [_SAMPLE.validate_json(archive.read(name)) for name in names]
    except NotImplementedError as error:
        raise UsageError(
            f"{path} is packed by zstd, as newer releases of Inspect do; pip install zipfile-zstd, or give its "
            f"`inspect log convert --to json`"
        ) from error
    except UsageError:
        raise
    except (zipfile.BadZipFile, KeyError, ValueError, AttributeError) as error:
        said = problem(error) if isinstance(error, ValidationError) else " ".join(str(error).split())
        raise UsageError(f"{path} was cut short or is no log of Inspect ({said}); run inspect eval again") from error
    return header, sorted(samples, key=lambda sample: (str(sample["id"]).rjust(20), sample["epoch"]))


def _header(path: Path, data: bytes) -> _Header:
    header = _HEADER.validate_json(data)
    if header["version"] != _FORMAT:
        raise UsageError(f"{path} is a log of format {header['version']}, and this release reads {_FORMAT}")
    return header


def _scores(sample: _Sample) -> dict[str, float]:
    """The scores that are numbers, letters or yes and no, by their scorers; of several in one by their names too."""
    found: dict[str, float] = {}
    for scorer, score in (sample.get("scores") or {}).items():
        value = score.get("value")
        each = {f"{scorer}.{key}": one for key, one in value.items()} if isinstance(value, Mapping) else {scorer: value}
        for name, one in each.items():
            number = _GRADES.get(one) if isinstance(one, str) else None if one is None else as_number(one)
            if number is not None and not math.isnan(number):
                found[name] = number
    return found


def _completion(sample: _Sample) -> str:
    choices = (sample.get("output") or {}).get("choices") or [{}]
    return _text((choices[0].get("message") or {}).get("content", ""))


def _text(content: Any) -> str:
    """A text, or those of messages and of parts of messages."""
    if isinstance(content, list):
        return "\n".join(map(_text, content))
    if isinstance(content, Mapping):
        return _text(content.get("content", content.get("text", "")))
    return str(content)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def _seconds(created: str | None) -> float:
    try:
        return datetime.fromisoformat((created or "").replace("Z", "+00:00")).timestamp()
    except ValueError:
        return 0.0
