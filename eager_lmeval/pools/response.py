"""What a request returns (SPEC 7): a string that carries its whole tree."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from eager_lmeval.algorithm.tree import Tree

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


def deal(tree: Tree, texts: Sequence[str], count: int, extra: dict[str, Any]) -> list[Response]:
    """``count`` responses from the sequences' ``texts``, round-robin: each appears floor or ceil of count / n times.

    ``extra`` joins the tree's record: what a reader has to know to score it without the run.
    """
    record = TreeRecord(tree.to_record() | extra)
    return [Response(texts[place % len(texts)], record) for place in range(count)]
