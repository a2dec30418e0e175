"""Our scoring as a scorer of the harness from 0.5 on, for YAML files that know nothing of our task class.

Imported only where the harness has scorers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lm_eval.api.registry import register_scorer
from lm_eval.scorers import ScoredDoc

from eager_lmeval.errors import UsageError
from eager_lmeval.harness.scorers import TableScorer
from eager_lmeval.pools.labels import render_label
from eager_lmeval.pools.marks import COLUMN
from eager_lmeval.scores.figures import figures, metrics
from eager_lmeval.scores.metrics import Tie
from eager_lmeval.scores.rules import Rules
from eager_lmeval.scores.scoring import records, score, variant, warn_of_dependent_draws
from eager_lmeval.verify import get_verifier

__all__ = ["EagerScorer"]


@register_scorer("eager")
@dataclass(kw_only=True)
class EagerScorer(TableScorer):
    """All metrics of `scores.scoring` for a generate_until task: ``scorer: {type: eager, kwargs: {verifier: math}}``.

    ``label`` is a column or a Jinja template over the document; without it the right answer is what ``doc_to_target``
    gives. What a document's column `eager` says wins. Scored are the sequences of its tree, or its ``repeats`` texts
    for a model that grows none; ``ks``, ``tie`` and ``truncated_votes`` are those of `Rules`. UsageError for what is
    not accepted, before anything is generated.
    """

    verifier: str
    label: str | None = None
    ks: Sequence[int] = ()
    tie: Tie = "mean"
    truncated_votes: bool = False

    def __post_init__(self) -> None:
        get_verifier(self.verifier)
        self._rules = Rules.read({"ks": self.ks, "tie": self.tie, "truncated_votes": self.truncated_votes})
        self._table = metrics(self._rules)

    @classmethod
    def from_dict(cls, cfg: Mapping[str, Any], *, output_type: str | None = None, **kwargs: Any) -> EagerScorer:
        """A scorer from the ``kwargs`` of a YAML, which leaves the filters and metrics to it."""
        if output_type not in (None, "generate_until"):
            raise UsageError(f"scorer eager is for tasks of output_type generate_until, not {output_type}")
        for name in ("filter", "metric_list"):
            if cfg.get(name):
                raise UsageError(f"scorer eager reads whole texts and has metrics of its own; leave {name} out")
        known = {"label", "verifier", "ks", "tie", "truncated_votes"}
        if unknown := sorted(kwargs.keys() - known):
            raise UsageError(f"scorer eager has no {unknown[0]!r}; its kwargs are {', '.join(sorted(known))}")
        if not isinstance(kwargs.get("verifier"), str):
            raise UsageError("scorer eager needs a verifier, such as scorer: {type: eager, kwargs: {verifier: math}}")
        made: EagerScorer = super().from_dict(cfg, **kwargs)
        return made

    def apply_filter(self, instances: Sequence[Any]) -> None:
        """Puts each document's tree where results are listed, and into its document what it is graded by."""
        trees = records([instance.resps for instance in instances], self._rules)
        self.name = variant(trees)
        for instance, tree in zip(instances, trees, strict=True):
            instance.filtered_resps[self.name] = tree
            own = instance.doc.get(COLUMN) or {}
            label = str(instance.target) if self.label is None else render_label(instance.doc, self.label)
            instance.doc = {**instance.doc, COLUMN: {"label": label, "verifier": self.verifier, **own}}
        warn_of_dependent_draws(instances[0].task_name, trees, self._rules)

    def score_instances(self, instances: Mapping[int, Sequence[Any]]) -> dict[int, ScoredDoc]:
        return {
            doc_id: ScoredDoc(doc_id, instance.target, score(instance.doc, instance.filtered_resps[self.name]))
            for doc_id, (instance, *_) in instances.items()
        }

    def aggregate(
        self,
        reduced_docs: Mapping[int, Mapping[str, Any]],
        bootstrap_iters: int | None = None,
        aggregation_overrides: Mapping[str, Callable[[Sequence[Any]], Any]] | None = None,
    ) -> tuple[dict[str, Any], int]:
        documents = [values for _, values in sorted(reduced_docs.items())]
        aggregates: dict[str, Any] = {}
        for name, value in figures(documents, self._table, self.name).items():
            metric = name.partition(",")[0]
            aggregates |= {name: value, f"{metric}_stderr,{self.name}": "N/A"}
        return aggregates, len(documents)

    @property
    def higher_is_better(self) -> dict[str, bool | None]:
        return {name: metric.higher_is_better for name, metric in self._table.items()}
