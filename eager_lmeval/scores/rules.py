"""What a task's `metadata` may say about scoring."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from eager_lmeval.errors import UsageError
from eager_lmeval.scores.metrics import Tie

__all__ = ["PLAIN", "Rules"]


@dataclass(frozen=True)
class Rules:
    """What a task's `metadata` says about scoring; it is written into every record."""

    ks: tuple[int, ...] = ()
    """The k of pass@k and cons@k."""
    tie: Tie = "mean"
    truncated_votes: bool = False
    """Whether a sequence that was cut off while it thought may vote with what it had written."""
    cluster: str | None = None
    """The column that says which documents belong together, such as several questions on one text."""

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> Rules:
        """The rules among other entries. UsageError for a value that is not accepted."""
        ks, tie, votes = given.get("ks", ()), given.get("tie", "mean"), given.get("truncated_votes", False)
        ks = ks if isinstance(ks, list | tuple) else [ks]
        if not all(isinstance(k, int) and k >= 1 for k in ks):
            raise UsageError(f"ks={ks!r} is not accepted: write a list of whole numbers from 1 on, such as [1, 4, 16]")
        if tie not in get_args(Tie):
            raise UsageError(f"tie={tie!r} is not accepted: tie should be one of {', '.join(get_args(Tie))}")
        if not isinstance(votes, bool):
            raise UsageError(f"truncated_votes={votes!r} is not accepted: truncated_votes should be true or false")
        cluster = given.get("cluster")
        if not isinstance(cluster, str | None):
            raise UsageError(f"cluster={cluster!r} is not accepted: cluster should name a column of the documents")
        return cls(tuple(sorted(set(ks))), tie, votes, cluster)


PLAIN = Rules()
"""Of a task whose metadata says nothing."""
