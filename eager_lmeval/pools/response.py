"""What a request returns (SPEC 7): a string that carries its whole tree."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["Response", "TreeRecord", "deal"]


class TreeRecord(dict[str, Any]):
    """A tree as plain JSON data (`Tree.to_record`), whose text is that JSON.

    The harness writes `filtered_resps` into its samples file as texts, so there a tree stands as a JSON document.
    """

    def __str__(self) -> str:
        return json.dumps(self, ensure_ascii=False)


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
