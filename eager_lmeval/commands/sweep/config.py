"""What a sweep is asked to run: its configuration and its cells, checked before a model is loaded."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from eager_lmeval.errors import UsageError, near_name

if TYPE_CHECKING:
    from lm_eval.config.evaluate_config import EvaluatorConfig

__all__ = ["Cell", "cells_of", "check_cells", "check_tasks", "evaluator_config", "read_settings"]

_LETTERS: Mapping[str, str] = {
    "strategy": "",
    "branching": "",
    "fan_out": "fan",
    "max_sequences": "M",
    "temperature": "T",
    "entropy_threshold": "theta",
}
"""What stands before the value in the name of a cell's folder, in this order; others stand there by name."""
_REFUSED: Mapping[str, str] = {
    "predict_only": "the table needs scores",
    "use_cache": "finished cells are kept anyway, and journal=DIR in model_args keeps prompts of the one in progress",
    "show_config": "the results file of each cell holds its configuration",
    "wandb_args": "report and the tables show the cells",
    "wandb_config_args": "report and the tables show the cells",
    "trackio_args": "report and the tables show the cells",
    "hf_hub_log_args": "cells are written below output_path alone",
}
"""Keys of lm_eval run --config that a sweep does not honour, and why."""


class Cell(NamedTuple):
    """One combination; an option that the sweep leaves out stays as the configuration has it."""

    values: tuple[tuple[str, Any], ...]
    """Option and value, the seed last."""

    @property
    def given(self) -> dict[str, Any]:
        return dict(self.values)

    @property
    def folder(self) -> str:
        return "_".join(f"{_LETTERS.get(name, name)}{value}" for name, value in self.values)

    @property
    def gen_kwargs(self) -> dict[str, Any]:
        given = self.given
        return given | {"do_sample": given["temperature"] > 0} if "temperature" in given else given


def cells_of(sweep: Mapping[str, Any]) -> list[Cell]:
    """All combinations, seed by seed and strategy by strategy, each once. What a strategy or a branching has not, as
    `parallel` no threshold, is left out there."""
    from eager_lmeval.algorithm.options import Options, is_option

    known = Options.model_fields
    for name in sweep:
        if not is_option(name):
            near = near_name(str(name), known)
            hint = f"did you mean {near!r}?" if near else f"there are {', '.join(known)}"
            raise UsageError(f"sweep has no axis {name!r}; {hint}")
    if not sweep:
        raise UsageError("the configuration's key 'sweep' is empty; give it lists of options, such as strategy")
    names = sorted(sweep, key=_place)
    by_seed = sorted(names, key=lambda name: name != "seed")
    cells = []
    for values in itertools.product(*(_listed(name, sweep[name]) for name in by_seed)):
        given = dict(zip(by_seed, values, strict=True))
        cells.append(Cell(tuple((name, given[name]) for name in names if name not in _without_effect(given))))
    return list(dict.fromkeys(cells))


def _place(name: str) -> tuple[bool, int]:
    """What is known by a letter first, the seed last, other options in between as they are given."""
    order = list(_LETTERS)
    return name == "seed", order.index(name) if name in order else len(order)


def _without_effect(given: Mapping[str, Any]) -> tuple[str, ...]:
    """The options that mean nothing to the strategy and the branching of a cell, where it names them."""
    from eager_lmeval.algorithm.options import TOP2_ALONE

    strategy, branching = given.get("strategy"), given.get("branching")
    of_branching: Mapping[Any, tuple[str, ...]] = {
        "none": ("fan_out", "entropy_threshold", *TOP2_ALONE),
        "top2": ("fan_out",),
        "systematic": TOP2_ALONE,
    }
    of_race = ("first_lanes", "settled_at")
    if strategy in ("parallel", "consistency"):
        unbranched = ("branching", "fan_out", "entropy_threshold", *TOP2_ALONE)
        return unbranched if strategy == "consistency" else (*unbranched, *of_race)
    absent = of_branching.get(branching, ())
    return absent if strategy is None else (*absent, *of_race)


def _listed(name: str, value: Any) -> list[Any]:
    values = value if isinstance(value, list) else [value]
    if not values or any(one is None or isinstance(one, list | Mapping) for one in values):
        raise UsageError(f"sweep: {name}={value!r} is not accepted: give one value or a list of them")
    return list(dict.fromkeys(values))


def read_settings(path: Path) -> dict[str, Any]:
    """The configuration with its key `sweep`; UsageError if it is no configuration, or has keys without effect."""
    import yaml  # type: ignore[import-untyped]  # PyYAML ships no types

    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is no text in UTF-8: {error}") from error
    except yaml.YAMLError as error:
        raise UsageError(f"{path} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(settings, dict) or not isinstance(settings.get("sweep"), dict):
        raise UsageError(
            f"{path} needs a key 'sweep' beside what lm_eval run --config takes; see eager-lmeval sweep -h"
        )
    if settings.get("model", "eager") != "eager":
        raise UsageError(f"{path}: a sweep is over --model eager, not {settings['model']!r}")
    for name, reason in _REFUSED.items():
        if settings.get(name):
            raise UsageError(f"{path}: a sweep does not honour {name}: {reason}; leave it out")
    if settings.get("log_samples") is False:
        raise UsageError(f"{path}: log_samples: false is not accepted: a sweep always logs samples; leave it out")
    return settings


def evaluator_config(path: Path, settings: Mapping[str, Any]) -> EvaluatorConfig:
    """The harness's own reading of the configuration without `sweep`; UsageError for what it does not accept."""
    from dataclasses import fields

    import yaml
    from lm_eval.config.evaluate_config import EvaluatorConfig

    _refuse_unknown(path, settings, [field.name for field in fields(EvaluatorConfig)])
    if not settings.get("tasks"):
        raise UsageError(f"{path} names no tasks; add such as tasks: [eager_demo]")
    if not isinstance(settings.get("cache_requests") or {}, dict):
        raise UsageError(f"{path}: cache_requests is not accepted; in a file it is {{cache_requests: true}}")
    seed = settings.get("seed")
    if isinstance(seed, int):  # the harness reads one seed in a file from 0.4.13 on, and four in every release
        settings = {**settings, "seed": [seed] * 4}
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "config.yaml"
        plain.write_text(yaml.safe_dump(dict(settings)), encoding="utf-8")
        try:
            return EvaluatorConfig.from_config(plain)
        except (TypeError, ValueError, OSError) as error:
            raise UsageError(f"{path}: {error}") from error


def _refuse_unknown(path: Path, settings: Iterable[str], known: list[str]) -> None:
    from eager_lmeval.algorithm.options import Options

    for name in settings:
        if name in known:
            continue
        near = near_name(str(name), [*known, "sweep"])
        hint = f"did you mean {near!r}?" if near else f"known are sweep, {', '.join(known)}"
        if name in Options.model_fields:
            hint = "options of eager stand in model_args or gen_kwargs, and those to vary in sweep"
        raise UsageError(f"{path}: unknown key {name!r}; {hint}")


def check_cells(cells: Iterable[Cell], config: EvaluatorConfig) -> None:
    """UsageError for options that `eager` would refuse, in whichever cell. Those of documents are not known here."""
    from eager_lmeval.algorithm.options import is_option, resolve

    from_model = {name: value for name, value in config.model_args.items() if is_option(name)}
    for cell in cells:
        origin = f"cell {cell.folder}"
        resolve(cell.given, origin=origin)
        resolve({**(config.gen_kwargs or {}), **cell.gen_kwargs}, from_model, origin=origin)


def check_tasks(tasks: Mapping[str, Any], config: EvaluatorConfig) -> None:
    """UsageError for tasks that generate nothing, and for programs that nobody allowed to run."""
    from eager_lmeval.harness.tasks import runs_code

    scored = [name for name, task in tasks.items() if task.OUTPUT_TYPE != "generate_until"]
    if scored:
        raise UsageError(
            f"{', '.join(scored)} generate nothing, so the cells of a sweep would be the same; leave them out of tasks"
        )
    unsafe = [name for name, task in tasks.items() if runs_code(task)]
    if unsafe and not config.confirm_run_unsafe_code:
        raise UsageError(
            f"the answers of {', '.join(unsafe)} are programs, and grading runs them; give confirm_run_unsafe_code: "
            f"true if that is what you want"
        )
