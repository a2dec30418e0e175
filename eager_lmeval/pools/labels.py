"""Where a document's right answer comes from: what the user typed, or the document's own `eager` column."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from eager_lmeval.algorithm.options import Options
from eager_lmeval.algorithm.strategy import Judge
from eager_lmeval.algorithm.tree import Prompt, Tree
from eager_lmeval.errors import UsageError
from eager_lmeval.harness.templates import environment
from eager_lmeval.pools.marks import COLUMN
from eager_lmeval.verify import Verifier, get_verifier

__all__ = ["document_options", "label_refusal", "make_judge", "read_labels", "render_label"]


def document_options(doc: Mapping[str, Any]) -> dict[str, Any]:
    """The options that a document carries; its rendered label is not one of them."""
    column = doc.get(COLUMN)
    if not isinstance(column, Mapping):
        return {}
    return {name: value for name, value in column.items() if value is not None and name != "label"}


def render_label(doc: Mapping[str, Any], label: str | None) -> str:
    """The right answer of a document, as a text. UsageError where there is none: no label, a null, a broken template.

    ``label`` is a column, the way to a value inside one (``answer.value``, ``targets.0``), or a Jinja template over the
    document, which is known by its braces; None: what the document's column `eager` says.
    """
    if label is None:
        column = doc.get(COLUMN)
        if not isinstance(column, Mapping) or "label" not in column:
            raise UsageError(
                "strategy=eager needs the right answers and the documents carry none; give label=COLUMN (or a Jinja "
                "template over the document) and verifier=math, or take strategy=adapt, which needs no labels"
            )
        return _text(column["label"])
    if label in doc:
        return _text(doc[label])
    if "{" in label:
        return _render(label, doc)
    return _text(_inside(doc, label))


def _text(value: Any) -> str:
    """A label as a text; one with parts, such as a choice's letter and options, as the JSON that verifiers read."""
    known = _not_null(value)
    return json.dumps(known, ensure_ascii=False) if isinstance(known, dict | list) else str(known)


def read_labels(docs: Iterable[tuple[Prompt, Mapping[str, Any]]], options: Options) -> dict[int, str]:
    """The right answers by prompt index. UsageError, with the document, for what no answer can be compared with."""
    labels = {}
    for prompt, doc in docs:
        verifier = _verifier(prompt.task, options)
        try:
            labels[prompt.index] = label = render_label(doc, options.label)
            if reason := label_refusal(verifier, label):
                raise UsageError(reason)
        except UsageError as error:
            document = prompt.index if prompt.doc_id is None else prompt.doc_id
            raise UsageError(f"task {prompt.task!r}, document {document}: {error}") from error
    return labels


def label_refusal(verifier: Verifier, label: str) -> str:
    """Why no answer can be compared with a label, "" where answers can."""
    try:
        verifier.grade([], label)
    except UsageError as error:
        return str(error)
    return ""


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


def _not_null(value: Any) -> Any:
    if value is None or (isinstance(value, float) and math.isnan(value)):  # NaN: a null in a column of numbers
        raise UsageError(
            "its label is null, which is no right answer; leave the document out (process_docs), or take "
            "strategy=adapt, which needs no labels"
        )
    return value


def _inside(doc: Mapping[str, Any], label: str) -> Any:
    """The value at the end of a dotted way into a column."""
    value: Any = doc
    for step in label.split("."):
        if isinstance(value, Mapping) and step in value:
            value = value[step]
        elif isinstance(value, Sequence) and not isinstance(value, str) and step.isdigit() and int(step) < len(value):
            value = value[int(step)]
        else:
            raise UsageError(
                f"label={label!r} is no column of the documents, nor a way into one such as answer.value or answers.0; "
                f"columns are {_columns(doc)}; a Jinja template needs braces, and on a command line JSON around it: "
                """--gen_kwargs '{"label": "{{answer}}"}'"""
            )
    return value


def _render(template: str, doc: Mapping[str, Any]) -> str:
    try:
        return _compiled(template).render(**doc)  # type: ignore[no-any-return]  # the harness is untyped
    except UsageError:
        raise
    except Exception as error:  # whatever the expressions of a template raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(f"label={template!r} cannot be rendered: {reason}; columns are {_columns(doc)}") from error


@functools.lru_cache(maxsize=16)
def _compiled(template: str) -> Any:
    """The harness's own Jinja, but a null does not become the text None."""
    return environment().overlay(finalize=_not_null).from_string(template)


def _columns(doc: Mapping[str, Any]) -> str:
    return ", ".join(name for name in doc if name != COLUMN)
