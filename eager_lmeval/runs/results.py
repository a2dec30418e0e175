"""A results file, `results_DATE.json`, as far as commands look into it; the harness and `eager` write more."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import Field, TypeAdapter, ValidationError
from typing_extensions import NotRequired, TypedDict  # pydantic does not take those of `typing` before Python 3.12

from eager_lmeval.errors import UsageError, problem
from eager_lmeval.runs.samples import AS_LOGGED, Count, Finite

__all__ = ["Results", "read_results"]


class _Options(TypedDict):
    """A pool's resolved options; those that commands look at."""

    strategy: str
    max_sequences: Annotated[Count, Field(ge=1)]
    entropy_threshold: NotRequired[Finite | None]
    temperature: Finite
    seed: NotRequired[int]
    branching: NotRequired[Literal["top2", "systematic", "none"]]
    fan_out: NotRequired[Annotated[Count, Field(ge=2)] | None]
    settled_at: NotRequired[Annotated[Finite, Field(gt=0.5, lt=1)]]
    count: NotRequired[Literal["all", "active"]]
    branch_window: NotRequired[Count | None]
    dynamic_percentile: NotRequired[Annotated[Finite, Field(ge=0, le=100)] | None]
    think_gate: NotRequired[bool]


class _Ledger(TypedDict):
    """Where a pool's budget went (`Ledger.to_record`)."""

    max_sequences: Count
    prompts: Count
    used: Count
    surplus: Count
    eligible: Count
    grants: dict[str, Count]
    granted: Count
    spent: Count
    left: int


class _Pool(TypedDict):
    """What `eager` says of a pool (`pool_record`)."""

    task: str
    options: _Options
    labels_used: bool
    ledger: _Ledger
    tokens: Count
    sequences: Count
    seconds: Annotated[Finite, Field(ge=0)]
    device_seconds: NotRequired[Annotated[Finite, Field(ge=0)]]
    processes: NotRequired[Count]
    tokens_per_second: NotRequired[Annotated[Finite, Field(ge=0)] | None]


class _Eager(TypedDict):
    pools: list[_Pool]


class _Config(TypedDict):
    """How the run was started, and what the model says of itself."""

    model_args: NotRequired[dict[str, Any] | str | None]
    gen_kwargs: NotRequired[dict[str, Any] | str | None]
    eager: NotRequired[_Eager]


class _TaskConfig(TypedDict):
    """A task's settings, and all of its figures (`EagerTask.dump_config`)."""

    figures: NotRequired[dict[str, Any]]


class _Counted(TypedDict):
    original: NotRequired[Count]
    effective: NotRequired[Count]


class _Rescored(TypedDict):
    tasks: dict[str, Any]


Results = TypedDict(
    "Results",
    {
        "results": dict[str, dict[str, Any]],
        "configs": NotRequired[dict[str, _TaskConfig]],
        "versions": NotRequired[dict[str, Any]],
        "n-shot": NotRequired[dict[str, Any]],
        "higher_is_better": NotRequired[dict[str, dict[str, bool | None]]],
        "n-samples": NotRequired[dict[str, _Counted]],
        "task_hashes": NotRequired[dict[str, Any]],
        "config": NotRequired[_Config],
        "rescored": NotRequired[_Rescored],
    },
)
Results.__pydantic_config__ = AS_LOGGED  # type: ignore[attr-defined]  # for what is in it too
_RESULTS = TypeAdapter(Results)


def read_results(path: Path) -> dict[str, Any]:
    """What a results file holds; UsageError where it is none, or was cut short."""
    try:
        return cast(dict[str, Any], _RESULTS.validate_json(path.read_bytes()))
    except ValidationError as error:
        raise UsageError(
            f"{path} was cut short or is no results file of lm_eval ({problem(error)}); run lm_eval again"
        ) from error
