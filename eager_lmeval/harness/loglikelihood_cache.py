"""The harness's response cache (`--use_cache`), kept to what its key can tell apart."""

from __future__ import annotations

from typing import Any

__all__ = ["keep_out_texts"]


def keep_out_texts(cache: Any) -> None:
    """Makes the harness's response cache hold no texts: none is found in it, and none is written to it.

    The harness writes a response under its context and gen_kwargs alone, and one for all clones of a document, so what
    it found would be of other options, another seed or another repeat. Nothing but the class of the open cache
    reaches between its lookup and us.
    """

    class LoglikelihoodsOnly(type(cache)):  # type: ignore[misc]  # the cache's class is the harness's choice
        def __contains__(self, key: str) -> bool:
            return super().__contains__(key) and not isinstance(self[key], str)

        def __setitem__(self, key: str, value: Any) -> None:
            if not isinstance(value, str):
                super().__setitem__(key, value)

    cache.__class__ = LoglikelihoodsOnly
