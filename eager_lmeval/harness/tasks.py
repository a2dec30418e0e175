"""A generate_until task that scores itself, and tasks by their names.

The face is that of the harness up to 0.4.13, the methods `apply_filters`, `process_results`, `aggregation` and
`higher_is_better`. Where scorers have taken their place, one scorer calls them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lm_eval.api import task as installed

__all__ = ["SCORERS", "GenerateTask", "load_tasks", "runs_code"]

try:
    import lm_eval.scorers  # noqa: F401  # is it there?
except ImportError:
    SCORERS = False
else:
    SCORERS = True
"""Whether the harness has scorers, which `scorer:` of a YAML names."""

if not SCORERS:

    class GenerateTask(installed.ConfigurableTask):
        """The harness's own; `apply_filters` decides under which name results are listed."""

        @property
        def predict_only(self) -> bool:
            """Whether texts are logged and nothing is scored (``--predict_only``)."""
            return "bypass" in self._metric_fn_list

else:
    from eager_lmeval.harness.scorers import TableScorer

    Installed: Any = installed.Task._registry["generate_until"]

    class GenerateTask(Installed):  # type: ignore[no-redef]  # one of the two is there
        """The harness's own, but scored by its methods; `apply_filters` decides under which name results are listed."""

        predict_only = False
        _scorers: list[Any]

        def __init__(self, config: Mapping[str, Any]) -> None:
            super().__init__(dict(config))
            self.UNSAFE_CODE = self.config.unsafe_code  # what the harness asks before it runs a task, and sets nowhere

        def _build_scorers(self) -> list[Any]:
            return [TableScorer.default_scorer()]

        def override_metric(self, metric_name: str) -> None:
            super().override_metric(metric_name)
            (bypass,) = self._scorers
            self._scorers = [TableScorer.default_scorer()]
            self._scorers[0].metrics = bypass.metrics
            self.predict_only = metric_name == "bypass"

        def process_instances(self) -> None:
            self.apply_filters()
            (scorer,) = self._scorers
            (scorer.name,) = self.instances[0].filtered_resps
            scorer.set_values({instance.doc_id: self._values(instance, scorer.name) for instance in self.instances})

        def _values(self, instance: Any, name: str) -> Mapping[str, Any]:
            if self.predict_only:
                return {"bypass": None}
            values: Mapping[str, Any] = self.process_results(instance.doc, [instance.filtered_resps[name]])
            return values


def load_tasks(manager: Any, names: Sequence[str]) -> dict[str, Any]:
    """The tasks of these names, groups and tags by their names, from a `TaskManager`; ValueError without one."""
    if not hasattr(manager, "load"):
        return _leaves(manager.load_task_or_group(names))
    try:
        loaded: dict[str, Any] = manager.load(names)["tasks"]
    except KeyError as error:
        missing = [name for name in names if not manager.match_tasks([name])]
        raise ValueError(f"Tasks not found: {', '.join(missing)}") from error
    return loaded


def runs_code(task: Any) -> bool:
    """Whether grading it runs programs that a model wrote."""
    return bool(getattr(task, "UNSAFE_CODE", False) or getattr(task.config, "unsafe_code", False))


def _leaves(nested: Mapping[Any, Any]) -> dict[str, Any]:
    """Tasks by name, from mappings of groups to theirs."""
    tasks: dict[str, Any] = {}
    for name, value in nested.items():
        tasks |= _leaves(value) if isinstance(value, Mapping) else {str(name): value}
    return tasks
