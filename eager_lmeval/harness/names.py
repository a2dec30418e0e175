"""Under which filter's name results are listed, where something but the filter has to decide that."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

__all__ = ["list_as_requests_say"]


@functools.cache
def list_as_requests_say() -> None:
    """From now on results are listed under the names under which requests keep their filtered responses.

    Harnesses without scorers do that anyway. With scorers it is the scorer's name that counts, and no request knows its
    scorer. So a scorer whose filter has run asks its requests: a mapping of filtered responses with a method
    ``listed_as(name)`` renames it.
    """
    try:
        from lm_eval.scorers import Scorer
    except ImportError:
        return
    apply_filter = Scorer.apply_filter

    @functools.wraps(apply_filter)
    def apply_filter_and_ask(self: Any, instances: Sequence[Any]) -> None:
        apply_filter(self, instances)
        for instance in instances:
            if listed_as := getattr(instance.filtered_resps, "listed_as", None):
                self.name = listed_as(self.name)

    Scorer.apply_filter = apply_filter_and_ask
