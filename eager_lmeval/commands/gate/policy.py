"""A policy for a suite: its tasks in two tiers, with limits and weights, read from a YAML file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from eager_lmeval.commands.gate.limits import Limit, parse_limit
from eager_lmeval.errors import UsageError, problem

__all__ = ["Policy", "read_policy"]

_STRICT = ConfigDict(extra="forbid", frozen=True)
_Amounts = dict[str, str | float]
"""By metric, how much it may get worse: 0.02, or a share of the baseline, 10%."""


class Rule(BaseModel):
    """What is asked of one task."""

    model_config = _STRICT

    weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    """Of the task in the suite's mean."""
    max_drop: _Amounts = {}
    max_increase: _Amounts = {}


class Policy(BaseModel):
    """The tasks of a suite. What ``must_hold`` decides the verdict; what ``may_warn`` is tested and shown."""

    model_config = _STRICT

    metric: str
    """By which the suite, and each task, is tested for any change."""
    must_hold: Annotated[dict[str, Rule], Field(min_length=1)]
    may_warn: dict[str, Rule] = {}

    def limits(self, tier: Mapping[str, Rule]) -> list[Limit]:
        directions: dict[Literal["drop", "increase"], str] = {"drop": "max_drop", "increase": "max_increase"}
        return [
            parse_limit(f"{metric}={amount}", direction)._replace(task=task)
            for task, rule in tier.items()
            for direction, field in directions.items()
            for metric, amount in getattr(rule, field).items()
        ]


def read_policy(path: Path) -> Policy:
    """UsageError for a file that is not there, no YAML or no policy."""
    import yaml  # type: ignore[import-untyped]  # PyYAML ships no types

    try:
        policy = Policy.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
        for tier in (policy.must_hold, policy.may_warn):
            policy.limits(tier)
    except FileNotFoundError as error:
        raise UsageError(f"--policy {path} does not exist; give a YAML file with must_hold: {{TASK: {{}}}}") from error
    except ValidationError as error:
        raise UsageError(f"--policy {path}: {problem(error)}; a policy has metric, must_hold and may_warn") from error
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
        raise UsageError(f"--policy {path}: {' '.join(str(error).split())}") from error
    if twice := sorted({*policy.must_hold} & {*policy.may_warn}):
        raise UsageError(f"--policy {path}: task {twice[0]!r} stands in both tiers; leave it in one")
    return policy
