"""Every option: its default, its limits, and the presets (SPEC 3, 5)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from eager_lmeval.algorithm.branching import SplitSettings
from eager_lmeval.algorithm.gate import GateSettings
from eager_lmeval.algorithm.givers import NEUTRAL, REMOVED, merged
from eager_lmeval.algorithm.race import RaceSettings
from eager_lmeval.errors import UsageError, near_name

__all__ = [
    "PRESETS",
    "Options",
    "default_of",
    "is_option",
    "none_words",
    "resolve",
]

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "default": {
        "entropy_of": "raw",
        "count": "all",
        "branch_window": None,
        "dynamic_percentile": None,
        "think_gate": True,
        "extra_cap": "2M",
    },
    "paper": {
        "branching": "top2",
        "entropy_threshold": 2.0,
        "entropy_of": "tempered",
        "count": "active",
        "branch_window": None,
        "dynamic_percentile": None,
        "think_gate": False,
        "extra_cap": "2M",
    },
    "reference": {
        "branching": "top2",
        "entropy_threshold": 2.0,
        "entropy_of": "raw",
        "count": "all",
        "branch_window": 1000,
        "dynamic_percentile": 99.0,
        "think_gate": True,
        "extra_cap": {"adapt": "3M", "eager": "1M"},
    },
}
"""`paper` is Algorithm 1 of arXiv 2510.11170 (v2), `reference` the settings of its released code.

What that code does otherwise even then (SPEC 3.3): forks go by list order instead of by H, and need active + finished +
already forked < M; its gate is H > θ, and a drawn EOS or marker suppresses the fork; each restart may use the whole
grant; its percentile starts empty on each run."""

AUTO_ROWS = 256
"""Rows beyond which a CPU gains next to nothing (docs/performance.md), and a GPU is mostly out of memory."""


def is_option(name: str) -> bool:
    """Whether it is ours, though it may have been removed: to be given to `resolve`."""
    return name in Options.model_fields or name in REMOVED


def default_of(name: str) -> Any:
    """What an option is where nobody gives it, or was while there was one."""
    return REMOVED[name].default if name in REMOVED else Options.model_fields[name].default


def none_words(value: Any) -> Any:
    """A command line has no null: the words for it mean None. ValueError for nothing at all, as a variable that is not
    set leaves it behind the ``=``."""
    if isinstance(value, str) and not value.strip():
        raise ValueError("a value, or none; there is nothing behind the =, as where a shell variable is not set")
    return None if isinstance(value, str) and value.strip().lower() in ("none", "null", "off") else value


def _as_list(value: Any) -> Any:
    if value is None or isinstance(value, str):
        return [] if value is None else [value]
    if not isinstance(value, list | tuple) or not all(isinstance(one, str) for one in value):
        raise ValueError(
            "a text that ends a sequence, or a list of such; a number stands in quotes, as in until='\"7\"'"
        )
    return value


def _extra_cap(value: Any) -> Any:
    """``96`` or ``3M``: sequences, or multiples of max_sequences."""
    if isinstance(value, str) and not re.fullmatch(r"\d+(\.\d+)?M|\d+", value.strip()):
        raise ValueError("a number of sequences, such as 64, or a multiple of max_sequences, such as 2M")
    return str(value).strip()


def _max_rows(value: Any) -> Any:
    try:
        number = value if value == "auto" else int(str(value))
    except ValueError:
        number = 0
    if number != "auto" and number < 1:
        raise ValueError("a whole number of at least 1, such as 64, or auto")
    return number


OptionalInt = Annotated[int | None, BeforeValidator(none_words)]
OptionalFloat = Annotated[float | None, BeforeValidator(none_words)]


class Options(BaseModel):
    """The resolved options of one request; requests of one task with equal options form a pool."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    strategy: Literal["parallel", "init", "adapt", "eager", "consistency"] = "init"
    max_sequences: int = Field(32, ge=1)
    """M: the sequences a prompt may have in stage 1."""
    first_lanes: int = Field(8, ge=1)
    """`consistency`: the sequences that every prompt gets, whatever they answer; rates are taken over them."""
    settled_at: float = Field(0.95, gt=0.5, lt=1)
    """`consistency`: a vote is settled when its leader is the mode of the model's answers with this probability."""
    branching: Literal["top2", "systematic", "none"] = "systematic"
    """How sequences branch: `systematic` deals copies over the next-token distribution without bias, `top2` is the
    paper's fork into the two most likely tokens; `none` is what `consistency` resolves to."""
    fan_out: OptionalInt = Field(None, ge=2)
    """`systematic`: the most tokens that a sequence may split into at once; none: as many as it has copies."""
    entropy_threshold: float = Field(0.5, ge=0)
    """θ in nats. Systematic branching is unbiased at any; a high one leaves few sequences (docs/study.md)."""
    entropy_top_k: int = Field(20, ge=1)
    entropy_of: Literal["raw", "tempered"] = "raw"
    count: Literal["all", "active"] = "all"
    branch_window: OptionalInt = Field(None, ge=1)
    dynamic_percentile: OptionalFloat = Field(None, ge=0, le=100)
    think_end_token: Annotated[int | str | None, BeforeValidator(none_words)] = "auto"
    """The end-of-thinking marker as text or token id; ``auto``: ``</think>`` where the vocabulary has it."""
    think_gate: bool = True
    """Whether a sequence stops branching after the marker; giving `think_end_token` switches it on."""
    threshold_decay: float = Field(0.8, gt=0, le=1)
    extra_cap: Annotated[str, BeforeValidator(_extra_cap)] = "2M"
    """The most sequences that a prompt may be granted in stage 2: a number, or a multiple of M."""
    preset: Literal["default", "paper", "reference"] = "default"
    """Values for what is not given, `PRESETS`; what the released code does otherwise than `reference` stands there."""
    seed: int = 0
    max_rows: Annotated[Literal["auto"] | int, BeforeValidator(_max_rows)] = "auto"
    """Sequences decoded at once at most; memory may have room for fewer. ``auto``: see `rows`."""
    label: str | None = None
    """Strategy `eager` on any task: a column of the document, the way to a value inside one, or a Jinja template."""
    verifier: str | None = None
    respond: Literal["first", "vote"] = "first"
    """Whose text a document's response is: the first sequence's, or that of the first of the class of equal answers
    (the verifier's, no label) which wins the weighted vote."""

    max_gen_toks: int = Field(256, ge=1)
    temperature: float = Field(0.0, ge=0)
    top_p: OptionalFloat = Field(None, gt=0, le=1)
    top_k: OptionalInt = Field(None, ge=0)
    min_p: OptionalFloat = Field(None, ge=0, le=1)
    until: Annotated[tuple[str, ...], BeforeValidator(_as_list)] = ()
    do_sample: bool | None = None

    @property
    def extra_cap_sequences(self) -> int:
        if self.extra_cap.endswith("M"):
            return math.floor(float(self.extra_cap[:-1]) * self.max_sequences)
        return int(self.extra_cap)

    @property
    def race(self) -> RaceSettings:
        return RaceSettings(self.first_lanes, self.max_sequences, self.settled_at)

    @property
    def rows(self) -> int:
        return max(AUTO_ROWS, self.max_sequences) if self.max_rows == "auto" else self.max_rows

    @property
    def greedy(self) -> bool:
        return self.temperature == 0

    @property
    def splits(self) -> SplitSettings | None:
        """How copies separate under `systematic`; None at temperature 0, where they cannot (SPEC 3.2)."""
        if self.greedy:
            return None
        return SplitSettings(self.entropy_threshold, self.seed, self.fan_out, self.think_gate)

    def gate(self, cap: int, threshold: float | None = None) -> GateSettings:
        """The gate of a run that may have ``cap`` sequences, at θ or at ``threshold`` (nats)."""
        return GateSettings(
            threshold=self.entropy_threshold if threshold is None else threshold,
            cap=cap,
            count=self.count,
            window=self.branch_window,
            percentile=self.dynamic_percentile,
            until_thought_ends=self.think_gate,
        )

    def warnings(self) -> list[str]:
        """What is allowed but cannot do what it seems to."""
        found = []
        limit = math.log(self.entropy_top_k)
        branches = self.strategy != "parallel" and self.branching != "none" and self.max_sequences > 1
        if branches and self.entropy_threshold > limit:
            found.append(
                f"entropy_threshold={self.entropy_threshold:g} is above ln(entropy_top_k) = {limit:.3f} nats, the most "
                f"that the entropy of {self.entropy_top_k} tokens can be: nothing will ever branch"
            )
        if branches and self.branching == "systematic" and self.greedy:
            found.append(
                "branching=systematic, the default, splits nothing at temperature 0: every root is one sequence; give "
                "a temperature above 0, or add branching=top2, which forks at any temperature"
            )
        if self.strategy in ("parallel", "consistency") and self.max_sequences > 1 and self.greedy:
            found.append(
                f"strategy={self.strategy} at temperature 0 makes up to max_sequences={self.max_sequences} identical "
                f"sequences: give a temperature above 0"
            )
        return found


def resolve(*layers: Mapping[str, Any], origin: str = "", complete: bool = True) -> Options:
    """Options from several givers, the strongest first; below them stand the preset, then the defaults.

    Raises UsageError in one line for an unknown name (with the near one) or value. ``origin`` begins that line. Where
    a stronger giver is still to come (not ``complete``), options are not held against the defaults of others.
    """
    given = merged(layers)
    prefix = f"{origin}: " if origin else ""
    for name in given:
        if removed := REMOVED.get(name):
            raise UsageError(f"{prefix}the option {name} was removed in version {removed.version}: {removed.instead}")
        if name in NEUTRAL:
            neutral = " or ".join(f"{name}={value}" for value in NEUTRAL[name])
            raise UsageError(
                f"{prefix}{name}={given[name]} cannot be done by eager, which draws from the distribution itself; "
                f"{neutral} is accepted: set it with --gen_kwargs, or take the line out of the task's generation_kwargs"
            )
        if name not in Options.model_fields:
            near = near_name(name, Options.model_fields)
            hint = f"did you mean {near!r}?" if near else f"known are {', '.join(Options.model_fields)}"
            raise UsageError(f"{prefix}unknown option {name!r}; {hint}")
    preset = PRESETS.get(str(given.get("preset", "default")), {})
    filled = {name: value for name, value in preset.items() if name not in given} | given
    if given.get("think_end_token") is not None and "think_gate" not in given:
        filled["think_gate"] = True
    if isinstance(filled.get("extra_cap"), Mapping):
        filled["extra_cap"] = filled["extra_cap"].get(filled.get("strategy"), "2M")
    if filled.get("strategy") == "consistency":
        _check_race(given, prefix)
        filled["branching"] = "none"
    try:
        options = Options(**filled)
    except ValidationError as error:
        raise UsageError(prefix + _explain(error)) from error
    _check_branching(options, given, prefix, complete)
    updates: dict[str, Any] = {}
    if options.do_sample is False:
        updates["temperature"] = 0.0
    options = options.model_copy(update=updates)
    if complete or {"max_rows", "max_sequences"} <= given.keys():
        _check(options, prefix)
    return options


TOP2_ALONE = ("count", "branch_window", "dynamic_percentile", "threshold_decay")
"""Options of the gate of `top2`, which nothing else has."""


def _check_branching(options: Options, given: Mapping[str, Any], prefix: str, complete: bool) -> None:
    """What was named, and not only preset, for another branching than the one there is."""
    branching, preset = options.branching, options.preset
    known = complete or "branching" in given
    if known and branching == "systematic" and (named := [name for name in TOP2_ALONE if name in given]):
        default = "" if "branching" in given else ", the default"
        raise UsageError(
            f"{prefix}{named[0]}={given[named[0]]} belongs to branching=top2; this is branching=systematic{default}, "
            f"which has no cap, window, percentile or decay: leave {named[0]} out, or add branching=top2"
        )
    if branching != "top2" and preset in ("paper", "reference"):
        raise UsageError(
            f"{prefix}preset={preset} is the paper's branching, top2, and branching={branching} is not: leave one of "
            f"them out"
        )


def _check_race(given: Mapping[str, Any], prefix: str) -> None:
    for name in ("branching", "fan_out", "preset", *TOP2_ALONE):
        if given.get(name) not in (None, "none", "default"):
            raise UsageError(
                f"{prefix}{name}={given[name]} does not go with strategy=consistency, whose sequences never branch: "
                f"leave {name} out, or take strategy=init"
            )


def _check(options: Options, prefix: str) -> None:
    """Limits that concern more than one option."""
    if options.strategy not in ("parallel", "consistency") and options.branching == "none":
        raise UsageError(
            f"{prefix}branching=none with strategy={options.strategy} is one sequence a prompt: take strategy=parallel "
            f"for independent sequences, or branching=systematic"
        )
    if options.fan_out is not None and options.branching != "systematic":
        raise UsageError(
            f"{prefix}fan_out={options.fan_out} belongs to branching=systematic, and this is "
            f"branching={options.branching}: leave fan_out out, or add branching=systematic"
        )
    gated = options.strategy != "parallel" and options.branching == "top2"
    if gated and options.rows < options.max_sequences:
        raise UsageError(
            f"{prefix}max_rows={options.max_rows} is below max_sequences={options.max_sequences}: behind an open gate "
            f"all sequences of a prompt advance together; give max_rows={options.max_sequences} or more, or fewer "
            f"max_sequences"
        )


def _explain(error: ValidationError) -> str:
    """The first problem in one line: which option, what came, what is accepted."""
    problem = error.errors()[0]
    name, value = str(problem["loc"][0]), problem["input"]
    accepted = problem["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if problem["type"] == "literal_error":
        near = near_name(str(value), re.findall(r"'([^']*)'", accepted))
        accepted += f"; did you mean {near!r}?" if near else ""
    return f"{name}={value!r} is not accepted: {name} should be {accepted}"
