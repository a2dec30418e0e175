"""The harness's task with what its YAML cannot say; the only place where scoring meets the harness.

Which metrics there are follows from the task's `ks`, and a result in whose making labels were used is listed under the
filter `oracle` instead of `none`, which is known only after the run.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lm_eval.api.task import ConfigurableTask

from eager_lmeval.errors import UsageError
from eager_lmeval.pools.instances import ask_for_trees
from eager_lmeval.scores.scoring import Rules, draws_are_independent, metrics, records, score, variant, verifier_of

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

__all__ = ["EagerTask"]

log = logging.getLogger(f"lm_eval.{__name__}")  # the harness shows the loggers below its own


class EagerTask(ConfigurableTask):  # type: ignore[misc]  # the harness is untyped
    """A generate_until task whose documents carry the column `eager`: ``class: !function utils.EagerTask``.

    ``metadata`` may hold the entries of `scoring.Rules`, which ``--metadata '{"ks": [1, 64]}'`` overrides. Works for
    every model of the harness; one that grows no trees is scored by the texts it gives.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        given = {name: value for name, value in config.items() if name != "class"}
        given.setdefault("process_results", lambda doc, results: score(doc, results[0]))
        super().__init__(config=given)
        self._rules = Rules.read(self.config.metadata or {})
        self._metrics = metrics(self._rules)

    def build_all_requests(self, **options: Any) -> None:
        """Builds the requests, and says before anything is generated for them what could not be graded."""
        super().build_all_requests(**options)
        ask_for_trees(self.instances)
        if "bypass" in self._metric_fn_list:  # --predict_only
            return
        for instance in self.instances:
            try:
                verifier_of(instance.doc)
            except UsageError as error:
                raise UsageError(f"task {self.config.task!r}, document {instance.doc_id}: {error}") from error

    def apply_filters(self) -> list[Instance] | None:
        """Turns each document's texts into its tree's record, under the name that says whether labels were used.

        Under ``--predict_only`` too: `eager-lmeval rescore` grades what was logged.
        """
        trees = records([instance.resps for instance in self.instances], self._rules)
        name = variant(trees)
        for instance, tree in zip(self.instances, trees, strict=True):
            instance.filtered_resps[name] = tree
        if self._rules.ks and not all(map(draws_are_independent, trees)):
            log.warning(
                "task %r: the sequences of a tree are no independent draws, so pass@k and cons@k are not scored; take "
                "pass_rate_w and cons_w@max, or strategy=parallel (see docs/results.md)",
                self.config.task,
            )
        instances: list[Instance] = self.instances
        return instances

    def aggregation(self) -> dict[str, Callable[[Sequence[Any]], Any]]:
        if "bypass" in self._metric_fn_list:
            return super().aggregation()  # type: ignore[no-any-return]
        return {name: metric.aggregate for name, metric in self._metrics.items()}

    def higher_is_better(self) -> dict[str, bool | None]:
        if "bypass" in self._metric_fn_list:
            return super().higher_is_better()  # type: ignore[no-any-return]
        return {name: metric.higher_is_better for name, metric in self._metrics.items()}
