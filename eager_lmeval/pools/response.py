"""What a request returns (SPEC 7): a string that carries its whole tree."""

from __future__ import annotations

import json
from collections.abc import Sequence
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


def deal(record: TreeRecord, texts: Sequence[str], count: int) -> list[Response]:
    """``count`` responses from ``texts``, round-robin: each of n appears floor or ceil of count / n times.

    All carry ``record``, the tree's.
    """
    return [Response(texts[place % len(texts)], record) for place in range(count)]
