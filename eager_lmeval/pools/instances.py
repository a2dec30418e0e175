"""What is written on the harness's own request objects, because nothing else goes all the way to the figures.

A task says that it reads whole trees, and the model that labels were used. Knows no options and no harness.
"""

from __future__ import annotations

from collections import UserDict
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = [
    "COLUMN",
    "UPPER_BOUND",
    "MadeWithLabels",
    "ask_for_trees",
    "mark_made_with_labels",
    "own_filter",
    "reads_tree",
]

COLUMN = "eager"
"""The column in which a task tells EAGER about a document: ``label`` (rendered), ``verifier``, and any options."""

UPPER_BOUND = (
    "made with labels: right answers decided who got the saved budget, an upper bound and no leaderboard score"
)
"""What a reader has to know of results under the filter ``oracle``."""

_READS_TREE = "eager_reads_tree"


def ask_for_trees(instances: Iterable[Any]) -> None:
    """Says that the task of these requests reads each document's whole tree and not only its text."""
    for instance in instances:
        setattr(instance, _READS_TREE, True)


def reads_tree(instance: Any) -> bool:
    """Whether something reads more of a request than its texts: its task said so, or its document has the column."""
    doc = instance.doc
    return getattr(instance, _READS_TREE, False) or (isinstance(doc, Mapping) and isinstance(doc.get(COLUMN), Mapping))


class MadeWithLabels(UserDict[str, Any]):
    """A request's filtered responses, each under a filter's name that says ``oracle``.

    The harness lists every metric under the name of its filter: in the table, in the results file beside the metric,
    in each sample, and in what it sends to trackers. It takes the names from here.
    """

    def __setitem__(self, name: str, responses: Any) -> None:
        super().__setitem__(_oracle(name), responses)


def mark_made_with_labels(instance: Any) -> None:
    """Lets every result of a request say so, before its task's filters run."""
    instance.filtered_resps = MadeWithLabels()


def own_filter(name: str) -> str:
    """The filter as the task calls it, of a name under which results are listed."""
    return "none" if name == "oracle" else name.removeprefix("oracle:")


def _oracle(name: str) -> str:
    """``none``, which is the harness's word for no filter, becomes ``oracle``, and ``maj`` becomes ``oracle:maj``."""
    if name == "oracle" or name.startswith("oracle:"):
        return name
    return "oracle" if name == "none" else f"oracle:{name}"
