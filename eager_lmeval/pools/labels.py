"""Where a document's right answer comes from: what the user typed, or the document's own `eager` column."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lm_eval.utils import apply_template

from eager_lmeval.algorithm.options import Options
from eager_lmeval.algorithm.strategy import Judge
from eager_lmeval.algorithm.tree import Tree
from eager_lmeval.errors import UsageError
from eager_lmeval.verify import Verifier, get_verifier

__all__ = ["COLUMN", "document_options", "make_judge", "read_labels", "render_label"]

COLUMN = "eager"
"""The column in which a task tells EAGER about a document: ``label`` (rendered), ``verifier``, and any options."""


def document_options(doc: Mapping[str, Any]) -> dict[str, Any]:
    """The options that a document carries; its rendered label is not one of them."""
    column = doc.get(COLUMN)
    if not isinstance(column, Mapping):
        return {}
    return {name: value for name, value in column.items() if value is not None and name != "label"}


def render_label(task: str, doc: Mapping[str, Any], options: Options) -> str:
    """The right answer of a document. UsageError where neither the user nor the document gives one."""
    if options.label is None:
        column = doc.get(COLUMN)
        if isinstance(column, Mapping) and column.get("label") is not None:
            return str(column["label"])
        raise UsageError(
            f"task {task!r}: strategy=eager needs the right answers and the documents carry none; give "
            f"label=COLUMN (or a Jinja template over the document) and verifier=math, or take strategy=adapt, "
            f"which needs no labels"
        )
    if options.label in doc:
        return str(doc[options.label])
    if "{" not in options.label:
        raise UsageError(
            f"task {task!r}: label={options.label!r} is no column of the documents; columns are {', '.join(doc)}; "
            f"a Jinja template needs braces, such as {{{{answer}}}}"
        )
    return str(apply_template(options.label, dict(doc)))


def read_labels(task: str, docs: Mapping[int, Mapping[str, Any]], options: Options) -> dict[int, str]:
    """The right answers by prompt index. UsageError for what is missing or what the verifier cannot compare."""
    verifier = _verifier(task, options)
    labels = {index: render_label(task, doc, options) for index, doc in docs.items()}
    for label in labels.values():
        verifier.grade([], label)  # says at once what it cannot compare
    return labels


def make_judge(task: str, labels: Mapping[int, str], options: Options) -> Judge:
    """Says whether a tree holds a correct sequence. ``labels`` are keyed by the prompts' index."""
    verifier = _verifier(task, options)

    def judge(tree: Tree) -> bool:
        answers = [sequence.answer for sequence in tree.sequences]
        return any(graded.correct for graded in verifier.grade(answers, labels[tree.prompt.index]))

    return judge


def _verifier(task: str, options: Options) -> Verifier:
    if options.verifier is None:
        raise UsageError(f"task {task!r}: strategy=eager needs a verifier to read the labels with; give verifier=math")
    return get_verifier(options.verifier)
