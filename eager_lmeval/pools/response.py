"""What a request returns (SPEC 7): a string that carries its whole tree."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["TREE", "Response", "TreeRecord", "TreeText", "deal"]


TREE = "tree"
"""The field of a sample that holds its tree as JSON text; up to release 0.1 that stood in `filtered_resps`."""


class TreeRecord(dict[str, Any]):
    """A tree as plain JSON data (`Tree.to_record`), whose text is that of its ``answer``, and without one that JSON.

    The harness writes `filtered_resps` into its samples file as texts, where others look for the answer.
    """

    answer: str | None = None

    def __str__(self) -> str:
        return self.json if self.answer is None else self.answer

    @property
    def json(self) -> str:
        return json.dumps(self, ensure_ascii=False)


class TreeText:
    """A tree that is written as its JSON text once the harness writes it, and not before."""

    def __init__(self, tree: TreeRecord) -> None:
        self._tree = tree

    def __str__(self) -> str:
        return self._tree.json


class Response(str):
    """The text of one sequence; ``tree`` is the record of the prompt's whole tree, None for a plain text.

    It behaves as a plain string everywhere in the harness, which also builds it from one argument alone.
    """

    tree: TreeRecord | None

    def __new__(cls, text: object = "", tree: TreeRecord | None = None) -> Response:
        response = super().__new__(cls, text)
        response.tree = tree
        return response


def deal(
    texts: Sequence[str], copies: Sequence[int], count: int, order: Callable[[int, int], Sequence[int]]
) -> list[str]:
    """``count`` texts of a document (SPEC 7): each as often as it has ``copies``, in a random order.

    So the first k of them are a random k. Where the copies sum to something else than ``count`` they go round, and each
    comes floor or ceil of its share. ``order`` shuffles so many places, independently at each turn.
    """
    every = [text for text, number in zip(texts, copies, strict=True) for _ in range(number)]
    first = order(len(every), 0)
    dealt = [every[first[place % len(every)]] for place in range(count)]
    return [dealt[place] for place in order(count, 1)]
