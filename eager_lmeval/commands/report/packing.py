"""A document's tree as the page carries it: compressed, unpacked when it is looked at, and cut where pages grow big."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from typing import Any

__all__ = ["MOST_BYTES", "Packer", "pack", "unpack"]

MOST_BYTES = 16 << 20
"""Of a page's documents with all their texts: what a browser opens in a second."""
_END = 400
"""Characters of a shortened text: its end, with the answer."""
_BINS = 64
"""Points of a shortened curve; each is the highest entropy of its tokens."""


def pack(data: object) -> str:
    """zlib and base64: no character of it means anything in HTML."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return base64.b64encode(zlib.compress(text.encode("utf-8", "replace"), 6)).decode()


def unpack(packed: str) -> Any:
    return json.loads(zlib.decompress(base64.b64decode(packed)))


class Packer:
    """Packs the documents of one page as they come.

    From the first on that would bring them over ``most`` bytes, all keep their picture, their forks and their answers,
    but only the ends of their texts; ``shortened`` counts them.
    """

    def __init__(self, most: int = MOST_BYTES) -> None:
        self._left = most
        self.shortened = 0

    def __call__(self, details: Mapping[str, Any]) -> str:
        if self._left:
            packed = pack(details)
            if len(packed) <= self._left:
                self._left -= len(packed)
                return packed
            self._left = 0
        self.shortened += 1
        sequences = [_short(sequence) for sequence in details["sequences"]]
        return pack({**details, "shortened": True, "sequences": sequences})


def _short(sequence: Mapping[str, Any]) -> dict[str, Any]:
    entropies = sequence["entropies"]
    size = max(1, -(-len(entropies) // _BINS))
    return {
        **sequence,
        "text": sequence["text"][-_END:],
        "chars": None,
        "entropies": [max(entropies[start : start + size]) for start in range(0, len(entropies), size)],
        "bin": size,
    }
