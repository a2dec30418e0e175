"""The harness's task with what its YAML cannot say; the only place where scoring meets the harness.

Which metrics there are follows from the task's `ks`, and a result in whose making labels were used is listed under the
filter `oracle` instead of `none`, which is known only after the run. The harness's table gets a few of the metrics; all
of them are in the task's dumped configuration, and of each document in its sample.
"""

from __future__ import annotations

from collections.abc import Callable, ItemsView, KeysView, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eager_lmeval.errors import UsageError
from eager_lmeval.harness.tasks import SCORERS, GenerateTask
from eager_lmeval.pools.labels import render_label
from eager_lmeval.pools.marks import COLUMN, ask_for_trees
from eager_lmeval.pools.response import TREE, TreeRecord, TreeText
from eager_lmeval.scores.figures import Metric, figures, metrics, table_metrics
from eager_lmeval.scores.rules import Rules
from eager_lmeval.scores.scoring import graded, records, variant, verifier_of, warn_of_dependent_draws

if TYPE_CHECKING:
    from datasets import Dataset
    from lm_eval.api.instance import Instance

__all__ = ["EagerTask"]


class EagerTask(GenerateTask):
    """A generate_until task whose documents are graded by a verifier: ``class: !function eager_lmeval.task.EagerTask``.

    ``metadata`` says how: ``label``, a column or a Jinja template over the document, and the ``verifier``'s name. Or
    ``process_docs`` adds the column `eager` with both to every document. ``metadata`` may also hold the entries of
    `scoring.Rules`, which ``--metadata '{"ks": [1, 64]}'`` overrides. Relative ``data_files`` are looked for from the
    YAML's folder and those above it. Works for every model of the harness; one that grows no trees is scored by the
    texts it gives. UsageError for metadata that is not accepted and data files that are not there.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        given = {name: value for name, value in config.items() if name != "class"}
        given.setdefault("process_results", lambda doc, results: _values(doc, results[0]))
        metadata = given.get("metadata") or {}
        self._told = {name: metadata[name] for name in ("label", "verifier") if metadata.get(name) is not None}
        self._name = str(given.get("task"))
        source = Path(metadata.get("config_source") or "inline")
        folder = source.parent if source.is_absolute() else Path.cwd()
        if isinstance(kwargs := given.get("dataset_kwargs"), Mapping) and "data_files" in kwargs:
            given["dataset_kwargs"] = {**kwargs, "data_files": _found(kwargs["data_files"], folder, self._name)}
        self._rules = Rules.read(metadata)
        self._metrics = metrics(self._rules)
        self._variant = "none"
        self._figures: dict[str, Any] = {}
        self._listed: list[dict[str, str]] = []
        super().__init__(config=given)

    def test_docs(self) -> Dataset:
        return self._with_column(super().test_docs())

    def validation_docs(self) -> Dataset:
        return self._with_column(super().validation_docs())

    def _with_column(self, docs: Dataset) -> Dataset:
        """The documents with what ``metadata`` says of their labels; a column that they have already wins."""
        return docs.map(partial(_tell, self._told, self._name), with_indices=True) if self._told and docs else docs

    def build_all_requests(self, **options: Any) -> None:
        """Builds the requests, and says before anything is generated for them what could not be graded."""
        super().build_all_requests(**options)
        ask_for_trees(self.instances)
        if self.predict_only:
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
        self._figures.clear()
        self._listed.clear()
        trees = records([instance.resps for instance in self.instances], self._rules)
        self._variant = variant(trees)
        for instance, tree in zip(self.instances, trees, strict=True):
            instance.filtered_resps[self._variant] = tree
        warn_of_dependent_draws(self.config.task, trees, self._rules)
        instances: list[Instance] = self.instances
        return instances

    def aggregation(self) -> dict[str, Callable[[Sequence[Any]], Any]]:
        if self.predict_only:
            return super().aggregation()  # type: ignore[no-any-return]
        return {name: partial(self._aggregate, metric) for name, metric in self._metrics.items()}

    def higher_is_better(self) -> dict[str, bool | None]:
        if self.predict_only:
            return super().higher_is_better()  # type: ignore[no-any-return]
        return {name: metric.higher_is_better for name, metric in self._metrics.items()}

    def dump_config(self) -> dict[str, Any]:
        """The harness's dump; with all ``figures`` after the run, and with the metrics that its samples have.

        Up to 0.4.11 the harness asks before the run, so these two are filled in later.
        """
        dumped: dict[str, Any] = super().dump_config()
        return dumped if self.predict_only else dumped | {"figures": self._figures, "metric_list": self._listed}

    def _aggregate(self, metric: Metric, documents: Sequence[Mapping[str, Any]]) -> Any:
        """A line of the table, and a look at all that is known of the documents, those of other processes included."""
        if not self._figures:
            self._figures |= figures(documents, self._metrics, self._variant)
            everywhere = set.intersection(*map(set, documents))
            listed = [name for name in documents[0] if name in everywhere and not name.endswith(_ERROR_BARS)]
            self._listed += [{"metric": name} for name in listed]  # the columns of wandb's table of documents
        return self._figures[f"{metric.name},{self._variant}"]


_ERROR_BARS = ("_stderr", "_ci95", "_stderr_sampling")


class _Values(dict[str, Any]):
    """A document's values by metric, for the harness: it logs all of them, and sums up what `items` gives.

    That is a few metrics for its table, each with all values of the document, so that the task can sum up the others.
    The tree is logged and no metric, so `keys` does without it.
    """

    def keys(self) -> KeysView[str]:  # type: ignore[override]  # a view, but of another dict
        return {name: None for name in self if name != TREE}.keys()

    def items(self) -> ItemsView[str, Any]:  # type: ignore[override]  # as above
        everything = {name: self[name] for name in self.keys()}
        return dict.fromkeys(table_metrics(everything), everything).items()


def _values(doc: Mapping[str, Any], tree: TreeRecord) -> _Values:
    """A document's values. Its sample gets the tree in a field of its own, and in `filtered_resps`, where others look
    for the answer, the text that the vote elects; the harness's scorers log no field of a task's."""
    values, text = graded(doc, tree)
    if SCORERS:
        return _Values(values)
    tree.answer = text
    return _Values(values | {TREE: TreeText(tree)})


def _tell(told: dict[str, str], task: str, doc: Mapping[str, Any], place: int) -> dict[str, Any]:
    """The column `eager` of a document."""
    try:
        own = told | ({"label": render_label(doc, told["label"])} if "label" in told else {})
    except UsageError as error:
        raise UsageError(f"task {task!r}, document {place}: {error}") from error
    return {COLUMN: own | (doc.get(COLUMN) or {})}


def _found(files: Any, folder: Path, task: str) -> Any:
    """``data_files`` with their places: from ``folder`` or one above it, or from the working folder."""
    if isinstance(files, Mapping):
        return {split: _found(file, folder, task) for split, file in files.items()}
    if isinstance(files, list | tuple):
        return [_found(file, folder, task) for file in files]
    if "://" in files or "*" in files or Path(files).is_absolute():
        return files
    bases = [folder, *folder.parents, Path.cwd()]
    place = next((base / files for base in bases if (base / files).is_file()), None)
    if place is None:
        raise UsageError(
            f"task {task!r}: its data file {files} is neither in {folder} nor in a folder above it; run it from the "
            f"folder that the path begins in, or give the YAML's folder as --include_path"
        )
    return str(place)
