"""What is written on the harness's own request objects, because nothing else goes all the way to the figures.

A task says that it reads whole trees, and the model that labels were used. Knows no options and no harness.
"""

from __future__ import annotations

from collections import UserDict
from collections.abc import Iterable, Mapping
from typing import Any

from eager_lmeval.errors import UsageError
from eager_lmeval.harness.names import list_as_requests_say

__all__ = [
    "COLUMN",
    "UPPER_BOUND",
    "LabelMarks",
    "MadeWithLabels",
    "ask_for_trees",
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
    in each sample, and in what it sends to trackers. It takes the names from here, or its scorers ask `listed_as`.
    """

    def __setitem__(self, name: str, responses: Any) -> None:
        super().__setitem__(_oracle(name), responses)

    def listed_as(self, name: str) -> str:
        """What a filter is called here."""
        return _oracle(name)


class LabelMarks:
    """Sees to it that every figure of a task whose texts were made with labels says so, or that there is none."""

    def __init__(self) -> None:
        self._tasks: set[str] = set()
        """Tasks of which labels were used."""
        self._marked: list[Any] = []
        """Their requests, of the last call for texts and since."""
        self._unmarked: set[str] = set()
        """Tasks that were given loglikelihoods when no label had been used."""

    def texts(self, instances: Iterable[Any], tasks: set[str]) -> None:
        """Marks those of these ``tasks``, before they are grown and filtered.

        A task's figures are means over all of its documents, so labels of some are said of all. UsageError for a task
        that has had loglikelihoods already: the harness lists them under the same filter's name.
        """
        if mixed := sorted(tasks & self._unmarked):
            raise UsageError(
                f"task {mixed[0]!r}: strategy=eager uses the right answers, and the loglikelihoods that this task has "
                f"asked for before cannot say so in the results; take strategy=adapt, which needs no labels"
            )
        self._tasks, self._marked = tasks, []
        self._mark(instance for instance in instances if instance.task_name in tasks)

    def loglikelihoods(self, instances: Iterable[Any]) -> None:
        """Marks those of tasks whose texts were made with labels."""
        requests = list(instances)
        self._mark(instance for instance in requests if instance.task_name in self._tasks)
        self._unmarked |= {instance.task_name for instance in requests if instance.task_name not in self._tasks}

    def check(self) -> None:
        """UsageError for a task whose own way of filtering took the mark off."""
        for instance in self._marked:
            if not isinstance(instance.filtered_resps, MadeWithLabels):
                raise UsageError(
                    f"task {instance.task_name!r} was {UPPER_BOUND}, and its class takes that off the names of its "
                    f"filters, so its figures are not given out; take strategy=adapt, which needs no labels"
                )

    def _mark(self, instances: Iterable[Any]) -> None:
        for instance in instances:
            list_as_requests_say()
            instance.filtered_resps = MadeWithLabels()
            self._marked.append(instance)


def own_filter(name: str) -> str:
    """The filter as the task calls it, of a name under which results are listed."""
    return "none" if name == "oracle" else name.removeprefix("oracle:")


def _oracle(name: str) -> str:
    """``none``, which is the harness's word for no filter, becomes ``oracle``, and ``maj`` becomes ``oracle:maj``."""
    if name == "oracle" or name.startswith("oracle:"):
        return name
    return "oracle" if name == "none" else f"oracle:{name}"
